//! Public keys against the RFCs' examples, and what is no key.

use expect_test::expect;
use serde_json::{Value, json};

use super::*;
use crate::token::{KeyKind, Pkcs8, SigningKey, VerifyingKey};

/// RFC 7638, section 3.1.
const RSA_OF_7638: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    let check = |jwk: Value, expected: &str| {
        assert_eq!(PublicJwk::read(&jwk).unwrap().thumbprint().as_deref(), Some(expected));
    };
    check(
        json!({ "kty": "RSA", "n": RSA_OF_7638, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" }),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    );
    // RFC 8037, appendix A.3.
    check(
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    );
}

#[test]
fn a_leading_zero_of_an_integer_changes_nothing() {
    let with_zero = strict::encode(&[&[0], strict::decode(RSA_OF_7638).unwrap().as_slice()].concat());
    let read = |n: &str| PublicJwk::read(&json!({ "kty": "RSA", "n": n, "e": "AQAB" })).unwrap();
    assert_eq!(read(&with_zero), read(RSA_OF_7638));
}

#[test]
fn a_key_is_written_as_it_is_read() {
    for (kind, alg) in [
        (KeyKind::P256, SigningAlg::Es256),
        (KeyKind::P384, SigningAlg::Es384),
        (KeyKind::Rsa2048, SigningAlg::Ps256),
        (KeyKind::Ed25519, SigningAlg::EdDsa),
    ] {
        let pkcs8 = Pkcs8::generate(kind).unwrap();
        let key = SigningKey::new(alg, &pkcs8).unwrap();
        let written = key.public_jwk().to_json();
        let read = PublicJwk::parse(written.to_string().as_bytes()).unwrap();
        assert_eq!(&read, key.public_jwk(), "{alg}");
        assert_eq!(read.kid.as_deref(), Some(key.kid()));
        assert_eq!((written["use"].as_str(), written["alg"].as_str()), (Some("sig"), Some(alg.as_str())));
        // Back from what is stored: the same key.
        let again = SigningKey::new(alg, &Pkcs8::from_der(pkcs8.expose().to_vec())).unwrap();
        let signature = again.sign(b"message").unwrap();
        VerifyingKey::new(&read).unwrap().verify(alg, b"message", &signature).unwrap();
        // Debug shows what names it, and nothing of what it is.
        assert_eq!(format!("{pkcs8:?}"), "Pkcs8(…)");
        assert!(format!("{key:?}").contains(key.kid()));
    }
}

#[test]
fn private_keys_are_of_their_algorithm() {
    let ec = Pkcs8::generate(KeyKind::P256).unwrap();
    for alg in [SigningAlg::Es384, SigningAlg::Rs256, SigningAlg::EdDsa] {
        assert_eq!(SigningKey::new(alg, &ec).unwrap_err(), KeyError::NotPkcs8(alg.as_str()));
    }
    assert_eq!(
        SigningKey::new(SigningAlg::Es512, &ec).unwrap_err(),
        KeyError::NotForSigning(SigningAlg::Es512)
    );
    let broken = Pkcs8::from_der(b"no key".to_vec());
    assert_eq!(SigningKey::new(SigningAlg::Es256, &broken).unwrap_err(), KeyError::NotPkcs8("ES256"));
}

/// RFC 7515, appendix A.3.
fn p256() -> Value {
    json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

fn with(jwk: Value, changes: Value) -> Value {
    let (Value::Object(mut members), Value::Object(changes)) = (jwk, changes) else { panic!("objects") };
    for (name, value) in changes {
        match value {
            Value::Null => _ = members.remove(&name),
            value => _ = members.insert(name, value),
        }
    }
    Value::Object(members)
}

/// What a JWK says of itself is honoured, weak keys are refused, and nothing that it points to is followed.
#[test]
fn what_is_no_key_for_us() {
    let rsa = |n: &[u8], e: &[u8]| json!({ "kty": "RSA", "n": strict::encode(n), "e": strict::encode(e) });
    let n = |bits: usize, last: u8| {
        let mut n = vec![0xff; bits / 8];
        *n.last_mut().unwrap() = last;
        n
    };
    let off_curve = strict::encode(&[1; 32]);
    let small_order = strict::encode(&[0; 32]);
    let cases = [
        ("good", p256()),
        ("use sig", with(p256(), json!({ "use": "sig", "key_ops": ["verify"], "alg": "ES256" }))),
        (
            "elsewhere",
            with(
                p256(),
                json!({ "x5u": "https://evil.example", "x5c": ["MII"], "jku": "https://evil.example" }),
            ),
        ),
        ("use enc", with(p256(), json!({ "use": "enc" }))),
        ("use other", with(p256(), json!({ "use": "tls" }))),
        ("key_ops", with(p256(), json!({ "key_ops": ["sign"] }))),
        ("key_ops type", with(p256(), json!({ "key_ops": "verify" }))),
        ("alg of encryption", with(p256(), json!({ "alg": "ECDH-ES" }))),
        ("alg of another type", with(p256(), json!({ "alg": "RS256" }))),
        ("alg of another curve", with(p256(), json!({ "alg": "ES384" }))),
        ("alg unknown", with(p256(), json!({ "alg": "HS256" }))),
        ("alg type", with(p256(), json!({ "alg": 256 }))),
        ("crv", with(p256(), json!({ "crv": "P-257" }))),
        ("crv of another kty", with(p256(), json!({ "crv": "Ed25519" }))),
        ("crv missing", with(p256(), json!({ "crv": null }))),
        ("kty missing", with(p256(), json!({ "kty": null }))),
        ("kty unknown", with(p256(), json!({ "kty": "AKP" }))),
        ("y missing", with(p256(), json!({ "y": null }))),
        ("x padded", with(p256(), json!({ "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU=" }))),
        ("x short", with(p256(), json!({ "x": "AQAB" }))),
        ("off the curve", with(p256(), json!({ "x": off_curve }))),
        ("private", with(p256(), json!({ "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI" }))),
        ("shared", json!({ "kty": "oct", "k": "AQAB" })),
        ("RSA 2040", rsa(&n(2040, 0xff), &[1, 0, 1])),
        ("RSA 2048", rsa(&n(2048, 0xff), &[1, 0, 1])),
        ("RSA 8192", rsa(&n(8192, 0xff), &[1, 0, 1])),
        ("RSA 8200", rsa(&n(8200, 0xff), &[1, 0, 1])),
        ("RSA even", rsa(&n(2048, 0xfe), &[1, 0, 1])),
        ("RSA e 3", rsa(&n(2048, 0xff), &[3])),
        ("RSA e 1", rsa(&n(2048, 0xff), &[1])),
        ("RSA e even", rsa(&n(2048, 0xff), &[1, 0, 2])),
        ("RSA e long", rsa(&n(2048, 0xff), &[1; 9])),
        ("RSA n zero", rsa(&[0, 0], &[1, 0, 1])),
        ("small order", json!({ "kty": "OKP", "crv": "Ed25519", "x": small_order })),
        ("X25519", json!({ "kty": "OKP", "crv": "X25519", "x": off_curve })),
        ("Ed448", json!({ "kty": "OKP", "crv": "Ed448", "x": strict::encode(&[7; 57]) })),
    ];
    let mut told = String::new();
    for (name, jwk) in cases {
        let key = PublicJwk::read(&jwk).and_then(|jwk| VerifyingKey::new(&jwk));
        let line = match key {
            Ok(key) => format!(
                "{:?}",
                SigningAlg::ALL
                    .iter()
                    .filter(|alg| key.allows(**alg))
                    .map(|alg| alg.as_str())
                    .collect::<Vec<_>>()
            ),
            Err(error) => format!("{}: {error}", error.code()),
        };
        told += &format!("{name}: {line}\n");
    }
    expect![[r#"
        good: ["ES256"]
        use sig: ["ES256"]
        elsewhere: ["ES256"]
        use enc: jwk_use: it is not for signatures that we verify: its type, `use`, `key_ops` or `alg` says so
        use other: jwk_use: it is not for signatures that we verify: its type, `use`, `key_ops` or `alg` says so
        key_ops: jwk_use: it is not for signatures that we verify: its type, `use`, `key_ops` or `alg` says so
        key_ops type: jwk_malformed: its `key_ops` cannot be read
        alg of encryption: jwk_use: it is not for signatures that we verify: its type, `use`, `key_ops` or `alg` says so
        alg of another type: jwk_alg: a key of its type and curve cannot sign with "RS256"
        alg of another curve: jwk_alg: a key of its type and curve cannot sign with "ES384"
        alg unknown: jwk_alg: "HS256" is not a signature algorithm of a public key
        alg type: jwk_malformed: its `alg` cannot be read
        crv: jwk_malformed: its curve is unknown
        crv of another kty: jwk_malformed: its curve is unknown
        crv missing: jwk_malformed: it has no `crv`
        kty missing: jwk_malformed: it has no `kty`
        kty unknown: jwk_alg: its type has no default algorithm: give it an `alg`
        y missing: jwk_malformed: it has no `y`
        x padded: jwk_malformed: its `x` cannot be read
        x short: jwk_malformed: its `x` cannot be read
        off the curve: jwk_no_key: its numbers make no key: they lie on no curve, or are no modulus and exponent
        private: jwk_private: it holds a private or shared key: a key set is for public keys alone
        shared: jwk_private: it holds a private or shared key: a key set is for public keys alone
        RSA 2040: jwk_weak: it is too weak: an RSA modulus has 2048 bits or more
        RSA 2048: ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
        RSA 8192: ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
        RSA 8200: jwk_weak: it is too weak: an RSA modulus has 8192 bits or less
        RSA even: jwk_weak: it is too weak: an RSA modulus is odd
        RSA e 3: jwk_weak: it is too weak: an RSA exponent is odd, above 65536 and below 2^33
        RSA e 1: jwk_weak: it is too weak: an RSA exponent is odd, above 65536 and below 2^33
        RSA e even: jwk_weak: it is too weak: an RSA exponent is odd, above 65536 and below 2^33
        RSA e long: jwk_weak: it is too weak: an RSA exponent is odd, above 65536 and below 2^33
        RSA n zero: jwk_malformed: its `n` cannot be read
        small order: jwk_weak: it is too weak: with a point of small order every signature holds
        X25519: jwk_use: it is not for signatures that we verify: its type, `use`, `key_ops` or `alg` says so
        Ed448: jwk_use: it is not for signatures that we verify: its type, `use`, `key_ops` or `alg` says so
    "#]].assert_eq(&told);
}
