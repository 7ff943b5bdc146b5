//! The decision over tokens that are made here; the published vectors hold it from outside.

use std::sync::LazyLock;

use super::*;
use crate::token::{JwsHeader, KeyKind, Pkcs8, Scope, SigningInput, SigningKey};

const ISSUER: &str = "https://id.example/t/acme";
/// 2026-11-23T10:00:00Z, in seconds.
const NOW: i64 = 1_795_428_000;

static SIGNER: LazyLock<(SigningKey, VerifyingKey)> = LazyLock::new(|| {
    let signer = SigningKey::new(SigningAlg::Es256, &Pkcs8::generate(KeyKind::P256).unwrap()).unwrap();
    let verifier = VerifyingKey::new(signer.public_jwk()).unwrap();
    (signer, verifier)
});

fn claims() -> Claims {
    Claims {
        iss: ISSUER.to_owned(),
        sub: "alice".to_owned(),
        aud: vec!["https://api.example".to_owned()],
        client_id: "web".to_owned(),
        iat: NOW,
        nbf: None,
        exp: NOW + 600,
        jti: "hq1m".to_owned(),
        scope: Scope::parse("orders:read").unwrap(),
        tenant_id: "acme".to_owned(),
        auth_time: None,
        sid: Some("s1".to_owned()),
        generation: None,
        act: None,
        may_act: None,
        txn: None,
        org: None,
        cnf: None,
    }
}

fn issue(claims: &Claims) -> String {
    let (signer, _) = &*SIGNER;
    let header = JwsHeader::new(signer.alg(), signer.kid(), ACCESS_TOKEN_TYPE);
    let input = SigningInput::new(&header, &claims.to_json());
    let signature = signer.sign(input.as_bytes()).unwrap();
    input.append(&signature).unwrap()
}

const AUDIENCES: &[Audience<'static>] =
    &[Audience { name: "https://api.example", encrypted: false, keys: &[] }];

fn expectation<'e>() -> Expectation<'e> {
    Expectation {
        issuer: ISSUER,
        tenant: "acme",
        is_ours: &|iss| iss == "https://id.example/t/other",
        key: &|kid| {
            let (signer, key) = &*SIGNER;
            (kid == signer.kid()).then_some(KeyAsOfNow { key, state: KeyState::Active })
        },
        audiences: Audiences::OneOf(AUDIENCES),
        scopes: &["orders:read"],
        presented: None,
        now: UnixMs::new(NOW * 1000),
        max_lifetime_s: 3600,
        revoked: &|_| None,
        suspended: false,
    }
}

#[test]
fn a_good_token_is_verified_and_stays_good_until_something_changes() {
    let token = issue(&claims());
    let verified = decide(&token, &expectation()).unwrap();
    assert_eq!(verified.claims(), &claims());
    assert_eq!(verified.token_ref(), crate::token::token_ref(&token).unwrap());
    assert_eq!(verified.outer_ref(), None);
    assert_eq!((verified.alg(), verified.kid()), (SigningAlg::Es256, SIGNER.0.kid()));

    let other = SigningKey::new(SigningAlg::Es256, &Pkcs8::generate(KeyKind::P256).unwrap()).unwrap();
    let other = VerifyingKey::new(other.public_jwk()).unwrap();
    let in_state = |state| move |_: &str| Some(KeyAsOfNow { key: &SIGNER.1, state });
    let [retained, expired, revoked] =
        [KeyState::Retained, KeyState::Expired, KeyState::Revoked].map(in_state);
    let check = |changed: Expectation<'_>, expected: Result<(), Fault>| {
        assert_eq!(verified.recheck(&changed), expected);
    };
    check(expectation(), Ok(()));
    check(Expectation { key: &retained, ..expectation() }, Ok(()));
    check(Expectation { key: &expired, ..expectation() }, Err(Fault::KeyRetired));
    check(Expectation { key: &revoked, ..expectation() }, Err(Fault::KeyRevoked));
    check(Expectation { key: &|_| None, ..expectation() }, Err(Fault::UnknownKey));
    // Another key by the same name did not verify it.
    let replaced = |_: &str| Some(KeyAsOfNow { key: &other, state: KeyState::Active });
    check(Expectation { key: &replaced, ..expectation() }, Err(Fault::Signature));
    check(Expectation { issuer: "https://id.example/t/other", ..expectation() }, Err(Fault::UnknownIssuer));
    check(Expectation { tenant: "other", ..expectation() }, Err(Fault::OtherTenant));
    check(Expectation { now: UnixMs::new((NOW + 600) * 1000), ..expectation() }, Err(Fault::Expired));
    check(Expectation { audiences: Audiences::OneOf(&[]), ..expectation() }, Err(Fault::Audience));
    check(Expectation { audiences: Audiences::Any(&[]), ..expectation() }, Ok(()));
    check(Expectation { scopes: &["orders:write"], ..expectation() }, Err(Fault::Scope));
    check(Expectation { suspended: true, ..expectation() }, Err(Fault::TenantSuspended));
    let encrypted = &[Audience { name: "https://api.example", encrypted: true, keys: &[] }];
    check(Expectation { audiences: Audiences::Any(encrypted), ..expectation() }, Err(Fault::NotEncrypted));
}

/// Whatever a token hangs on, its revocation kills it: up to the second in which the token was issued.
#[test]
fn each_thing_that_can_be_revoked_is_asked_for() {
    let origin = crate::token::sha256_base64url(b"origin");
    let actor = |sub: &str, act| super::super::Actor { sub: sub.to_owned(), iss: None, client_id: None, act };
    let claims = Claims {
        org: Some(origin.clone()),
        act: Some(actor("billing", Some(Box::new(actor("orders", None))))),
        ..claims()
    };
    let token = issue(&claims);
    let own = crate::token::token_ref(&token).unwrap();
    for what in [
        Revocable::Ref(&own),
        Revocable::Ref(&origin),
        Revocable::Sid("s1"),
        Revocable::Subject("alice"),
        Revocable::Subject("billing"),
        Revocable::Subject("orders"),
        Revocable::Client("web"),
        Revocable::Kid(SIGNER.0.kid()),
        Revocable::Tenant,
    ] {
        let judged = |at_ms: i64| {
            let revoked = |asked: Revocable<'_>| (asked == what).then_some(UnixMs::new(at_ms));
            decide(&token, &Expectation { revoked: &revoked, ..expectation() })
                .map_err(|refusal| refusal.fault)
                .err()
        };
        assert_eq!(judged(NOW * 1000 + 1), Some(Fault::Revoked), "{what:?}");
        assert_eq!(judged(NOW * 1000), None, "{what:?}: issued after it");
    }
}
