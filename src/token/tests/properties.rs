//! Whatever claims there are come back, and whatever is changed in a token makes it none.

use proptest::prelude::*;

use super::*;
use crate::model::UnixMs;
use crate::token::{
    Actor, Audience, Audiences, Confirmation, DecryptionKey, EncryptionAlg, EncryptionKey, Expectation,
    KeyAsOfNow, KeyKind, KeyState, MayAct, Pkcs8, SigningAlg, VerifyingKey, decide, sha256_base64url,
};

/// Whether the token is good for this audience.
fn is_good(token: &str, key: &VerifyingKey, kid: &str, audience: &Audience<'_>) -> bool {
    let expectation = Expectation {
        issuer: ISSUER,
        tenant: "acme",
        is_ours: &|_| false,
        key: &|asked| (asked == kid).then_some(KeyAsOfNow { key, state: KeyState::Active }),
        audiences: Audiences::OneOf(std::slice::from_ref(audience)),
        scopes: &[],
        presented: None,
        now: UnixMs::new(NOW * 1000),
        max_lifetime_s: 3600,
        revoked: &|_| None,
        suspended: false,
    };
    decide(token, &expectation).is_ok()
}

/// Every bit of a token, one after the other. Nothing of it is free: no padding, no other letters, no stray bits.
#[test]
fn no_bit_of_a_token_can_be_changed() {
    let kinds = [
        (KeyKind::P256, SigningAlg::Es256),
        (KeyKind::Rsa2048, SigningAlg::Rs256),
        (KeyKind::Rsa2048, SigningAlg::Ps256),
        (KeyKind::Ed25519, SigningAlg::EdDsa),
    ];
    for (kind, alg) in kinds {
        let signer = SigningKey::new(alg, &Pkcs8::generate(kind).unwrap()).unwrap();
        let key = VerifyingKey::new(signer.public_jwk()).unwrap();
        let token = issue(&signer, &claims());
        let audience = Audience { name: AUDIENCE, encrypted: false, keys: &[] };
        assert!(is_good(&token, &key, signer.kid(), &audience), "{alg}");
        no_bit_is_free(&token, |changed| is_good(changed, &key, signer.kid(), &audience));

        let pkcs8 = Pkcs8::generate(KeyKind::P256).unwrap();
        let private = DecryptionKey::new(EncryptionAlg::EcdhEsA256kw, &pkcs8).unwrap();
        let public = EncryptionKey::new(EncryptionAlg::EcdhEsA256kw, private.public_jwk()).unwrap();
        let encrypted = public.encrypt(&token).unwrap();
        let audience = Audience { name: AUDIENCE, encrypted: true, keys: &[&private] };
        assert!(is_good(&encrypted, &key, signer.kid(), &audience), "{alg}");
        if alg == SigningAlg::Es256 {
            no_bit_is_free(&encrypted, |changed| is_good(changed, &key, signer.kid(), &audience));
        }
    }
}

fn no_bit_is_free(token: &str, is_good: impl Fn(&str) -> bool) {
    for at in 0..token.len() {
        for bit in 0..8 {
            let mut changed = token.as_bytes().to_vec();
            changed[at] ^= 1 << bit;
            let good = std::str::from_utf8(&changed).is_ok_and(&is_good);
            assert!(!good, "bit {bit} of character {at}");
        }
        assert!(!is_good(&token[..at]), "cut at {at}");
    }
    assert!(!is_good(&format!("{token}A")));
}

fn text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,40}"
}

fn actor() -> impl Strategy<Value = Actor> {
    let one = || (text(), proptest::option::of(text()), proptest::option::of(text()));
    let chain = proptest::collection::vec(one(), 1..=crate::token::MAX_ACTORS);
    chain.prop_map(|chain| {
        let around = |act: Option<Actor>, (sub, iss, client_id)| {
            Some(Actor { sub, iss, client_id, act: act.map(Box::new) })
        };
        chain.into_iter().fold(None, around).unwrap()
    })
}

prop_compose! {
    fn any_claims()(
        (iss, sub, client_id, jti, tenant_id) in (text(), text(), text(), text(), text()),
        aud in proptest::collection::vec(text(), 1..4),
        scope in proptest::collection::vec("[!#-\\[\\]-~]{1,12}", 0..5),
        (iat, nbf, exp, auth_time) in (0..1_i64 << 40, proptest::option::of(0..1_i64 << 40), 0..1_i64 << 40, proptest::option::of(0..1_i64 << 40)),
        (sid, txn, generation) in (proptest::option::of(text()), proptest::option::of(text()), proptest::option::of(any::<u64>())),
        act in proptest::option::of(actor()),
        may_act in proptest::option::of(text()),
        hashed in proptest::option::of(any::<[u8; 8]>()),
    ) -> Claims {
        let thumbprint = hashed.map(|bytes| sha256_base64url(&bytes));
        Claims {
            iss, sub, aud, client_id, iat, nbf, exp, jti, tenant_id, auth_time, sid, generation, act, txn,
            scope: Scope::parse(&scope.join(" ")).unwrap(),
            may_act: may_act.map(|sub| MayAct { sub, iss: None, client_id: None }),
            org: thumbprint.clone(),
            cnf: thumbprint.map(|jkt| Confirmation { jkt: Some(jkt), x5t_s256: None }),
        }
    }
}

proptest! {
    #[test]
    fn claims_come_back_as_they_were(claims in any_claims()) {
        prop_assert_eq!(Claims::read(&claims.to_json()), Ok(claims));
    }

    /// Signed and encrypted, decrypted and verified.
    #[test]
    fn tokens_come_back_as_they_were(claims in any_claims(), seed in 0..2_usize) {
        use crate::token::{ClaimedJwe, ClaimedJws, Typ};
        let signer = SigningKey::new(SigningAlg::Es256, &Pkcs8::generate(KeyKind::P256).unwrap()).unwrap();
        let key = VerifyingKey::new(signer.public_jwk()).unwrap();
        let token = issue(&signer, &claims);
        let (kind, alg) = [(KeyKind::P384, EncryptionAlg::EcdhEs), (KeyKind::X25519, EncryptionAlg::EcdhEsA256kw)][seed];
        let private = DecryptionKey::new(alg, &Pkcs8::generate(kind).unwrap()).unwrap();
        let encrypted = EncryptionKey::new(alg, private.public_jwk()).unwrap().encrypt(&token).unwrap();
        let decrypted = ClaimedJwe::read(&encrypted).unwrap().decrypt(&private).unwrap();
        prop_assert_eq!(&*decrypted, &token);
        let jws = ClaimedJws::read(&decrypted, Typ::Is("at+jwt")).unwrap();
        prop_assert_eq!(Claims::read(jws.verify(&key).unwrap()), Ok(claims));
    }

    #[test]
    fn no_text_breaks_the_readers(text in "\\PC{0,200}", dots in 0..6_usize) {
        use crate::token::{ClaimedJwe, ClaimedJws, Typ};
        let token = vec![text.as_str(); dots + 1].join(".");
        let _ = ClaimedJws::read(&token, Typ::AbsentOr(&[]));
        let _ = ClaimedJwe::read(&token);
    }
}
