//! The published vectors, `tests/vectors/tokens/decide.json`: what the tests and the fuzz targets judge by.

#![expect(clippy::unwrap_used, reason = "vectors that cannot be read stop whoever judges by them")]

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    Audience, Audiences, Confirmation, DecryptionKey, EncryptionAlg, Expectation, KeyAsOfNow, KeyState,
    Pkcs8, PublicJwk, REVOKED, Refusal, Revocable, VerifiedToken, VerifyingKey, decide, strict,
};
use crate::model::UnixMs;

#[derive(Deserialize)]
struct File {
    expectation: Value,
    keys: Vec<Value>,
    decryption_keys: Vec<Managed>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Managed {
    audience: String,
    kid: String,
    alg: String,
    pkcs8: String,
}

/// A row: a token, what differs from the common expectation, and the verdict.
#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) verdict: String,
    #[serde(default)]
    expectation: Value,
    pub(super) token: String,
}

impl Case {
    /// What differs, as text.
    pub(super) fn expectation_text(&self) -> String {
        self.expectation.to_string()
    }
}

/// An expectation as it is written there.
#[derive(Deserialize)]
struct Written {
    issuer: String,
    our_issuers: Vec<String>,
    tenant: String,
    now: i64,
    max_lifetime_s: i64,
    audiences: Vec<WrittenAudience>,
    any_audience: bool,
    scopes: Vec<String>,
    presented: Option<Presented>,
    revoked: Vec<Revoked>,
    suspended: bool,
}

#[derive(Deserialize)]
struct WrittenAudience {
    name: String,
    encrypted: bool,
}

#[derive(Deserialize)]
struct Presented {
    jkt: Option<String>,
}

#[derive(Deserialize)]
struct Revoked {
    what: String,
    value: String,
    not_before: Option<i64>,
}

/// The vectors with their keys parsed.
pub(super) struct Vectors {
    common: Value,
    keys: HashMap<String, (VerifyingKey, KeyState)>,
    managed: Vec<(String, DecryptionKey)>,
    pub(super) cases: Vec<Case>,
}

impl Vectors {
    pub(super) fn read() -> Self {
        let json = include_str!("../../tests/vectors/tokens/decide.json");
        let file: File = serde_json::from_str(json).unwrap();
        let key = |jwk: &Value| {
            let state = KeyState::parse(jwk["state"].as_str().unwrap()).unwrap();
            let jwk = PublicJwk::read(jwk).unwrap();
            (jwk.kid.clone().unwrap(), (VerifyingKey::new(&jwk).unwrap(), state))
        };
        let managed = |managed: &Managed| {
            let pkcs8 = Pkcs8::from_der(strict::decode(&managed.pkcs8).unwrap());
            let key = DecryptionKey::new(EncryptionAlg::parse(&managed.alg).unwrap(), &pkcs8).unwrap();
            assert_eq!(key.public_jwk().kid.as_ref(), Some(&managed.kid), "the kid is the thumbprint");
            (managed.audience.clone(), key)
        };
        Self {
            common: file.expectation,
            keys: file.keys.iter().map(key).collect(),
            managed: file.decryption_keys.iter().map(managed).collect(),
            cases: file.cases,
        }
    }

    /// Decides over `token` as the case expects.
    pub(super) fn decide(&self, case: &Case, token: &str) -> Result<VerifiedToken, Refusal> {
        let mut expectation = self.common.clone();
        for (name, value) in case.expectation.as_object().into_iter().flatten() {
            expectation[name] = value.clone();
        }
        let written: Written = serde_json::from_value(expectation).unwrap();
        let managed: Vec<Vec<&DecryptionKey>> = written
            .audiences
            .iter()
            .map(|audience| {
                self.managed.iter().filter(|(name, _)| *name == audience.name).map(|(_, key)| key).collect()
            })
            .collect();
        let audiences: Vec<_> = written
            .audiences
            .iter()
            .zip(&managed)
            .map(|(audience, keys)| Audience { name: &audience.name, encrypted: audience.encrypted, keys })
            .collect();
        let scopes: Vec<_> = written.scopes.iter().map(String::as_str).collect();
        let presented =
            written.presented.map(|presented| Confirmation { jkt: presented.jkt, x5t_s256: None });
        let expectation = Expectation {
            issuer: &written.issuer,
            tenant: &written.tenant,
            is_ours: &|iss| written.our_issuers.iter().any(|ours| ours == iss),
            key: &|kid| self.keys.get(kid).map(|(key, state)| KeyAsOfNow { key, state: *state }),
            audiences: if written.any_audience {
                Audiences::Any(&audiences)
            } else {
                Audiences::OneOf(&audiences)
            },
            scopes: &scopes,
            presented: presented.as_ref(),
            now: UnixMs::new(written.now * 1000),
            max_lifetime_s: written.max_lifetime_s,
            revoked: &|what| written.revoked.iter().find_map(|revoked| revoked.line(what)),
            suspended: written.suspended,
        };
        let decided = decide(token, &expectation);
        if let Ok(verified) = &decided {
            assert_eq!(verified.recheck(&expectation), Ok(()), "from a cache it is as good");
        }
        decided
    }
}

impl Revoked {
    fn line(&self, asked: Revocable<'_>) -> Option<UnixMs> {
        let (what, value) = match asked {
            Revocable::Ref(value) => ("ref", value),
            Revocable::Sid(value) => ("sid", value),
            Revocable::Subject(value) => ("sub", value),
            Revocable::Client(value) => ("client", value),
            Revocable::Kid(value) => ("kid", value),
            Revocable::Tenant => ("tenant", ""),
        };
        let line = self.not_before.map_or(REVOKED, |seconds| UnixMs::new(seconds * 1000));
        (self.what == what && self.value == value).then_some(line)
    }
}
