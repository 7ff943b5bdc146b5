//! Other implementations, both ways: npm's `jose`, the crate `jose-rs`, and `jsonwebtoken`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use jose_rs::{JoseHeader, JweAlgorithm, JweEncryption};
use serde_json::{Value, json};

use super::*;
use crate::token::{
    ClaimedJwe, ClaimedJws, DecryptionKey, EncryptionAlg, EncryptionKey, KeyKind, Pkcs8, SigningAlg, Typ,
    VerifyingKey, strict,
};

/// What we issue with.
const ISSUED: [(KeyKind, SigningAlg); 6] = [
    (KeyKind::P256, SigningAlg::Es256),
    (KeyKind::P384, SigningAlg::Es384),
    (KeyKind::Rsa2048, SigningAlg::Rs256),
    (KeyKind::Rsa3072, SigningAlg::Rs256),
    (KeyKind::Rsa2048, SigningAlg::Ps256),
    (KeyKind::Ed25519, SigningAlg::EdDsa),
];

/// What we verify beyond that.
const VERIFIED: [(KeyKind, SigningAlg); 5] = [
    (KeyKind::Rsa2048, SigningAlg::Rs384),
    (KeyKind::Rsa2048, SigningAlg::Rs512),
    (KeyKind::Rsa2048, SigningAlg::Ps384),
    (KeyKind::Rsa2048, SigningAlg::Ps512),
    (KeyKind::Ed25519, SigningAlg::Ed25519),
];

const ENCRYPTED: [(KeyKind, EncryptionAlg); 7] = [
    (KeyKind::Rsa2048, EncryptionAlg::RsaOaep256),
    (KeyKind::P256, EncryptionAlg::EcdhEs),
    (KeyKind::P384, EncryptionAlg::EcdhEs),
    (KeyKind::X25519, EncryptionAlg::EcdhEs),
    (KeyKind::P256, EncryptionAlg::EcdhEsA256kw),
    (KeyKind::P384, EncryptionAlg::EcdhEsA256kw),
    (KeyKind::X25519, EncryptionAlg::EcdhEsA256kw),
];

/// The answers of npm's `jose`.
fn jose(requests: &[Value]) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(
        root.join(".deps/node_modules/jose").exists(),
        "no `jose` in .deps/node_modules: run `make test-deps`"
    );
    let mut node = Command::new("node")
        .arg(root.join("src/token/tests/jose.mjs"))
        .arg(root.join(".deps/package.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(json!(requests).to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "node: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn pkcs8_text(pkcs8: &Pkcs8) -> String {
    strict::encode(pkcs8.expose())
}

/// A key as anyone may publish it: without `alg`, for each algorithm of its type.
fn verifier(signer: &SigningKey) -> VerifyingKey {
    let mut jwk = signer.public_jwk().clone();
    jwk.alg = None;
    VerifyingKey::new(&jwk).unwrap()
}

fn signer(kind: KeyKind, alg: SigningAlg) -> (Pkcs8, SigningKey) {
    let pkcs8 = Pkcs8::generate(kind).unwrap();
    // The key is the same whichever of its type's algorithms it is bound to.
    let bound = match kind {
        KeyKind::Rsa2048 | KeyKind::Rsa3072 if alg != SigningAlg::Ps256 => SigningAlg::Rs256,
        KeyKind::Ed25519 => SigningAlg::EdDsa,
        _ => alg,
    };
    let key = SigningKey::new(bound, &pkcs8).unwrap();
    (pkcs8, key)
}

#[test]
fn npm_jose_verifies_what_we_sign() {
    let (mut requests, mut tokens) = (Vec::new(), Vec::new());
    for (kind, alg) in ISSUED {
        let (_, key) = signer(kind, alg);
        let token = issue(&key, &claims());
        requests.push(json!({
            "act": "verify", "keys": [key.public_jwk().to_json()], "token": token, "issuer": ISSUER,
            "audience": AUDIENCE, "now": NOW, "algorithms": [alg.as_str()],
        }));
        requests.push(json!({ "act": "thumbprint", "jwk": key.public_jwk().to_json() }));
        tokens.push((serde_json::from_slice::<Value>(&claims().to_json()).unwrap(), json!(key.kid())));
    }
    let answers = jose(&requests);
    let pairs: Vec<_> = answers.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    assert_eq!(pairs, tokens);
}

#[test]
fn we_verify_what_npm_jose_signs() {
    let keys: Vec<_> = ISSUED.iter().chain(&VERIFIED).map(|&(kind, alg)| (alg, signer(kind, alg))).collect();
    let request = |(alg, (pkcs8, key)): &(SigningAlg, (Pkcs8, SigningKey))| {
        let header = json!({ "alg": alg.as_str(), "kid": key.kid(), "typ": "at+jwt" });
        json!({ "act": "sign", "pkcs8": pkcs8_text(pkcs8), "header": header, "payload": "{}" })
    };
    let tokens = jose(&keys.iter().map(request).collect::<Vec<_>>());
    for ((alg, (_, key)), token) in keys.iter().zip(tokens) {
        let jws = ClaimedJws::read(token.as_str().unwrap(), Typ::Is("at+jwt")).unwrap();
        assert_eq!((jws.alg, jws.verify(&verifier(key))), (*alg, Ok(b"{}".as_slice())), "{alg}");
    }
}

#[test]
fn npm_jose_decrypts_what_we_encrypt() {
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for (kind, alg) in ENCRYPTED {
        let pkcs8 = Pkcs8::generate(kind).unwrap();
        let key = DecryptionKey::new(alg, &pkcs8).unwrap();
        let token = EncryptionKey::new(alg, key.public_jwk()).unwrap().encrypt("a.b.c").unwrap();
        requests.push(json!({ "act": "decrypt", "pkcs8": pkcs8_text(&pkcs8), "token": token }));
        expected.push(json!({ "plaintext": "a.b.c", "cty": "JWT", "kid": key.public_jwk().kid }));
    }
    assert_eq!(jose(&requests), expected);
}

#[test]
fn we_decrypt_what_npm_jose_encrypts() {
    let keys: Vec<_> = ENCRYPTED
        .iter()
        .map(|&(kind, alg)| (kind, alg, DecryptionKey::new(alg, &Pkcs8::generate(kind).unwrap()).unwrap()))
        .collect();
    let request = |(_, alg, key): &(KeyKind, EncryptionAlg, DecryptionKey)| {
        let header = json!({ "alg": alg.as_str(), "enc": "A256GCM", "cty": "JWT" });
        json!({ "act": "encrypt", "jwk": key.public_jwk().to_json(), "header": header, "plaintext": "a.b.c" })
    };
    let tokens = jose(&keys.iter().map(request).collect::<Vec<_>>());
    for ((kind, alg, key), token) in keys.iter().zip(tokens) {
        let jwe = ClaimedJwe::read(token.as_str().unwrap()).unwrap();
        assert_eq!(jwe.decrypt(key).as_deref().map(String::as_str), Ok("a.b.c"), "{kind} {alg}");
    }
}

#[test]
fn jose_rs_and_we_verify_each_other() {
    for (kind, alg) in ISSUED.into_iter().chain(VERIFIED) {
        // It knows EdDSA by its older name alone.
        if alg == SigningAlg::Ed25519 {
            continue;
        }
        let (pkcs8, key) = signer(kind, alg);
        if key.alg() == alg {
            let public = serde_json::from_value(key.public_jwk().to_json()).unwrap();
            let payload = jose_rs::jws::compact::verify_with_jwk(&public, &issue(&key, &claims())).unwrap();
            assert_eq!(payload, claims().to_json(), "{kind} {alg}");
        }
        let mut private = jose_rs::jwk::jwk_from_pkcs8_der(pkcs8.expose()).unwrap();
        private.alg = Some(alg.as_str().to_owned());
        let token =
            jose_rs::jws::compact::sign_with_jwk(&private, b"{}", &JoseHeader::new(alg.as_str())).unwrap();
        let jws = ClaimedJws::read(&token, Typ::AbsentOr(&[])).unwrap();
        assert_eq!(jws.verify(&verifier(&key)), Ok(b"{}".as_slice()), "{kind} {alg}");
    }
}

#[test]
fn jose_rs_and_we_decrypt_each_other() {
    for (kind, alg) in ENCRYPTED {
        let pkcs8 = Pkcs8::generate(kind).unwrap();
        let key = DecryptionKey::new(alg, &pkcs8).unwrap();
        let theirs = match alg {
            EncryptionAlg::RsaOaep256 => JweAlgorithm::RsaOaep256,
            EncryptionAlg::EcdhEs => JweAlgorithm::EcdhEs,
            EncryptionAlg::EcdhEsA256kw => JweAlgorithm::EcdhEsA256kw,
        };
        let mut header = JoseHeader::for_jwe(theirs, JweEncryption::A256GCM);
        header.cty = Some("JWT".to_owned());
        let public = serde_json::from_value(key.public_jwk().to_json()).unwrap();
        let token =
            jose_rs::jwe::compact::encrypt_with_jwk_header(&public, header, b"a.b.c", JweEncryption::A256GCM)
                .unwrap();
        let jwe = ClaimedJwe::read(&token).unwrap();
        assert_eq!(jwe.decrypt(&key).as_deref().map(String::as_str), Ok("a.b.c"), "{kind} {alg}");

        // It imports no X25519 key from PKCS#8.
        if kind == KeyKind::X25519 {
            continue;
        }
        let mut private = jose_rs::jwk::jwk_from_pkcs8_der(pkcs8.expose()).unwrap();
        private.alg = Some(alg.as_str().to_owned());
        let token = EncryptionKey::new(alg, key.public_jwk()).unwrap().encrypt("a.b.c").unwrap();
        let content = jose_rs::jwe::compact::decrypt_with_jwk(&private, &token).unwrap();
        assert_eq!(content, b"a.b.c", "{kind} {alg}");
    }
}

/// A cross-check only: it would pass much of what we refuse.
#[test]
fn jsonwebtoken_verifies_what_we_sign() {
    for (kind, alg) in ISSUED {
        let (_, key) = signer(kind, alg);
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.public_jwk().to_json()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(alg.as_str().parse().unwrap());
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        // It asks the system for the time.
        validation.validate_exp = false;
        let decoding = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let read = jsonwebtoken::decode::<Value>(issue(&key, &claims()), &decoding, &validation).unwrap();
        assert_eq!(
            read.claims,
            serde_json::from_slice::<Value>(&claims().to_json()).unwrap(),
            "{kind} {alg}"
        );
        assert_eq!(read.header.kid.as_deref(), Some(key.kid()));
    }
}
