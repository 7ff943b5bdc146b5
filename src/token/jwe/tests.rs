//! Nested JWE: what comes back, and what must not.

use super::*;
use crate::token::{KeyKind, Pkcs8, PublicJwk};

const ALGS: [(KeyKind, EncryptionAlg); 7] = [
    (KeyKind::Rsa2048, EncryptionAlg::RsaOaep256),
    (KeyKind::P256, EncryptionAlg::EcdhEs),
    (KeyKind::P384, EncryptionAlg::EcdhEs),
    (KeyKind::X25519, EncryptionAlg::EcdhEs),
    (KeyKind::P256, EncryptionAlg::EcdhEsA256kw),
    (KeyKind::P384, EncryptionAlg::EcdhEsA256kw),
    (KeyKind::X25519, EncryptionAlg::EcdhEsA256kw),
];

fn pair(kind: KeyKind, alg: EncryptionAlg) -> (DecryptionKey, EncryptionKey) {
    let private = DecryptionKey::new(alg, &Pkcs8::generate(kind).unwrap()).unwrap();
    let public = EncryptionKey::new(alg, private.public_jwk()).unwrap();
    (private, public)
}

/// The token with its header's members changed; its tag then holds no more.
fn with_header(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let (header, rest) = token.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&strict::decode(header).unwrap()).unwrap();
    change(&mut header);
    format!("{}.{rest}", strict::encode(header.to_string().as_bytes()))
}

fn decrypt(token: &str, key: &DecryptionKey) -> Result<String, Fault> {
    ClaimedJwe::read(token)?.decrypt(key).map(|content| content.to_string())
}

#[test]
fn what_is_encrypted_comes_back_to_its_audience_alone() {
    for (kind, alg) in ALGS {
        let (private, public) = pair(kind, alg);
        let token = public.encrypt("a.b.c").unwrap();
        let jwe = ClaimedJwe::read(&token).unwrap();
        assert_eq!((jwe.alg, &jwe.kid), (alg, &private.public_jwk().kid), "{kind} {alg}");
        assert_eq!(crate::token::outer_ref(&token), Ok(jwe.outer_ref()));
        assert_eq!(decrypt(&token, &private).as_deref(), Ok("a.b.c"), "{kind} {alg}");
        assert_ne!(token, public.encrypt("a.b.c").unwrap(), "a fresh key and vector each time");
        for (other_kind, other_alg) in ALGS {
            let (stranger, _) = pair(other_kind, other_alg);
            assert_eq!(
                decrypt(&token, &stranger),
                Err(Fault::Undecryptable),
                "{kind} {alg} {other_kind} {other_alg}"
            );
        }
        assert!(format!("{private:?} {public:?}").contains(private.public_jwk().kid.as_deref().unwrap()));
    }
}

/// Every character of the token, one after the other: the answer is the same wherever it breaks behind the header.
#[test]
fn each_changed_character_is_refused() {
    for (kind, alg) in ALGS {
        let (private, public) = pair(kind, alg);
        let token = public.encrypt("a.b.c").unwrap();
        let header_ends = token.find('.').unwrap();
        for at in (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.') {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let fault = decrypt(std::str::from_utf8(&changed).unwrap(), &private).unwrap_err();
            let expected = matches!(fault, Fault::Undecryptable | Fault::NotBase64Url(_));
            assert!(expected || at < header_ends, "{kind} {alg} at {at}: {fault:?}");
        }
    }
}

#[test]
fn what_a_header_must_not_demand() {
    let (private, public) = pair(KeyKind::P256, EncryptionAlg::EcdhEs);
    let token = public.encrypt("a.b.c").unwrap();
    let other_curve =
        DecryptionKey::new(EncryptionAlg::EcdhEs, &Pkcs8::generate(KeyKind::P384).unwrap()).unwrap();
    let other_curve = other_curve.public_jwk().to_json();
    let check = |name: &str, value: Value, expected: Fault| {
        let changed = with_header(&token, |header| match &value {
            Value::Null => _ = header.as_object_mut().unwrap().remove(name),
            value => header[name] = value.clone(),
        });
        assert_eq!(decrypt(&changed, &private), Err(expected), "{name}: {value}");
    };
    for alg in
        ["RSA1_5", "RSA-OAEP", "PBES2-HS256+A128KW", "dir", "A256KW", "ECDH-ES+A128KW", "ecdh-es", "none"]
    {
        check("alg", json!(alg), Fault::Alg);
    }
    for enc in ["A128GCM", "A256CBC-HS512", "a256gcm"] {
        check("enc", json!(enc), Fault::Alg);
    }
    check("zip", json!("DEF"), Fault::Alg);
    check("crit", json!(["exp"]), Fault::Critical);
    check("b64", json!(true), Fault::Critical);
    check("cty", Value::Null, Fault::Type);
    check("cty", json!("text/plain"), Fault::Type);
    check("alg", Value::Null, Fault::HeaderMember("alg"));
    check("enc", json!(1), Fault::HeaderMember("enc"));
    check("alg", json!("ECDH-ES+A256KW"), Fault::Undecryptable);
    check("epk", Value::Null, Fault::Undecryptable);
    check("epk", other_curve, Fault::Undecryptable);
    let ones = strict::encode(&[1; 32]);
    check("epk", json!({ "kty": "EC", "crv": "P-256", "x": ones, "y": ones }), Fault::Undecryptable);
    check("epk", json!({ "kty": "OKP", "crv": "X25519", "x": ones }), Fault::Undecryptable);
    check("apu", json!("QQ"), Fault::Undecryptable);
    check("apv", json!(5), Fault::Undecryptable);

    for text in ["", "a.b.c", "a.b.c.d.e.f", &format!("{token}.")] {
        assert_eq!(decrypt(text, &private), Err(Fault::NotCompact), "{text}");
    }
    let long = format!("{token}{}", "A".repeat(MAX_READ_BYTES));
    assert_eq!(decrypt(&long, &private), Err(Fault::TooLarge(MAX_READ_BYTES)));
    assert_eq!(public.encrypt(&"x".repeat(5_000)).map_err(|error| error.code()), Err("token_too_large"));
}

/// An all-zero X25519 point agrees on the same secret with everybody (RFC 7748, section 6.1).
#[test]
fn keys_that_are_none_for_encryption() {
    let jwk = |json: Value| PublicJwk::read(&json).unwrap();
    let new =
        |alg, json: Value| EncryptionKey::new(alg, &jwk(json)).map(|_| ()).map_err(|error| error.code());
    let p256 = pair(KeyKind::P256, EncryptionAlg::EcdhEs).0.public_jwk().to_json();
    let with = |name: &str, value: Value| {
        let mut jwk = p256.clone();
        jwk[name] = value;
        jwk
    };
    let ones = strict::encode(&[1; 32]);
    assert_eq!(new(EncryptionAlg::EcdhEs, p256.clone()), Ok(()));
    assert_eq!(new(EncryptionAlg::EcdhEs, with("key_ops", json!(["deriveBits"]))), Ok(()));
    assert_eq!(new(EncryptionAlg::EcdhEsA256kw, p256.clone()), Err("jwk_use"), "its alg is ECDH-ES");
    assert_eq!(new(EncryptionAlg::RsaOaep256, with("alg", json!("RSA-OAEP-256"))), Err("jwk_use"));
    assert_eq!(new(EncryptionAlg::EcdhEs, with("use", json!("sig"))), Err("jwk_use"));
    assert_eq!(new(EncryptionAlg::EcdhEs, with("key_ops", json!(["verify"]))), Err("jwk_use"));
    assert_eq!(new(EncryptionAlg::EcdhEs, with("x", json!(ones))), Err("jwk_no_key"));
    let weak = json!({ "kty": "RSA", "n": strict::encode(&[0xff; 128]), "e": "AQAB" });
    assert_eq!(new(EncryptionAlg::RsaOaep256, weak), Err("jwk_weak"));
    let zero = json!({ "kty": "OKP", "crv": "X25519", "x": strict::encode(&[0; 32]) });
    let encrypted = EncryptionKey::new(EncryptionAlg::EcdhEs, &jwk(zero)).map(|key| key.encrypt("a.b.c"));
    assert!(matches!(encrypted, Err(_) | Ok(Err(IssueError::NotEncrypted))));
}
