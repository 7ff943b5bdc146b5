//! An issuer's key set (RFC 7517): which kid may sign with which algorithm, and when.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::model::UnixMs;
use crate::token::{KeyError, PublicJwk, SigningAlg};

/// A set of [`SigningAlg`]s.
#[derive(Clone, Copy, Default)]
struct Algs(u32);

impl Algs {
    fn of(algs: &[SigningAlg]) -> Self {
        Self(algs.iter().fold(0, |set, alg| set | 1 << *alg as u32))
    }

    fn has(self, alg: &str) -> bool {
        SigningAlg::parse(alg).is_some_and(|alg| self.0 & (1 << alg as u32) != 0)
    }
}

/// An issuer's public keys by kid.
#[derive(Default)]
pub(crate) struct KeySet {
    keys: HashMap<String, Key, foldhash::fast::RandomState>,
    /// What any of the keys allows.
    algs: Algs,
}

/// What is known of one key.
pub(crate) struct Key {
    algs: Algs,
    lifetime: Lifetime,
}

/// What a key is at one time. A retained key is as good as an active one, so the two are one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyState {
    Prepared,
    Active,
    Expired,
    Revoked,
}

/// When a key may be used: JWK members that OpenID Federation 1.0 (section 8.7.2) registered, in seconds since the
/// epoch. A key without them is active.
#[derive(Deserialize)]
struct Lifetime {
    nbf: Option<i64>,
    exp: Option<i64>,
    revoked: Option<Revocation>,
}

#[derive(Deserialize)]
struct Revocation {
    revoked_at: i64,
}

/// The members of a JWK set that we read.
#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

/// A key that cannot be used.
#[derive(Debug)]
pub(crate) struct BadKey {
    /// Its index in `keys`.
    pub(crate) place: usize,
    /// Its kid, or its place (`#3`) where it has none.
    pub(crate) kid: String,
    /// What is wrong with it.
    pub(crate) cause: String,
}

/// The array `keys` of a JWK set (RFC 7517, section 5).
///
/// # Errors
/// If it is none.
pub(crate) fn jwks_of(json: &[u8]) -> Result<Vec<Value>, serde_json::Error> {
    serde_json::from_slice::<JwkSet>(json).map(|set| set.keys)
}

impl KeySet {
    /// The signing keys of a JWK set, and what is wrong with the bad ones. Keys for encryption are passed over: they sign
    /// nothing.
    pub(crate) fn of(keys: &[Value]) -> (Self, Vec<BadKey>) {
        let (mut set, mut bad) = (Self::default(), Vec::new());
        for (place, jwk) in keys.iter().enumerate() {
            let kid = jwk.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty());
            let kid = kid.map(str::to_owned);
            let mut refuse = |kid: Option<String>, cause: String| {
                bad.push(BadKey { place, kid: kid.unwrap_or_else(|| format!("#{place}")), cause });
            };
            match (kid, Key::parse(jwk)) {
                (_, Ok(None)) => {}
                (None, Ok(Some(_))) => {
                    refuse(
                        None,
                        "it has no `kid`, so no token can name it: give it one, or leave it out".to_owned(),
                    );
                }
                (Some(kid), Ok(Some(key))) => {
                    set.algs.0 |= key.algs.0;
                    if set.keys.insert(kid.clone(), key).is_some() {
                        refuse(Some(kid), "two keys have this kid: which is meant cannot be told".to_owned());
                    }
                }
                (kid, Err(cause)) => refuse(kid, cause),
            }
        }
        (set, bad)
    }

    /// How many keys there are to judge by.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    /// Whether any key of the set can have made a signature with `alg`.
    pub(super) fn allow(&self, alg: &str) -> bool {
        self.algs.has(alg)
    }

    /// A line a key, for the snapshot's name.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|(kid, key)| {
            let Lifetime { nbf, exp, revoked } = &key.lifetime;
            let revoked_at = revoked.as_ref().map(|revoked| revoked.revoked_at);
            format!("{kid:?} {:x} {nbf:?} {exp:?} {revoked_at:?}", key.algs.0)
        })
    }
}

impl Key {
    /// `None` for a key that is not for signatures. Its material is read here, so that a file cut short or pasted wrong is
    /// found when it is loaded; whether the key is a strong one is the gateway's to judge, which verifies with it.
    fn parse(jwk: &Value) -> Result<Option<Self>, String> {
        let public = match PublicJwk::read(jwk) {
            // What else is wrong with a key that signs nothing does no harm here.
            Err(error)
                if error != KeyError::Private && jwk.get("use").and_then(Value::as_str) == Some("enc") =>
            {
                return Ok(None);
            }
            read => read.map_err(|error| error.to_string())?,
        };
        let lifetime = Lifetime::deserialize(jwk)
            .map_err(|error| format!("its `nbf`, `exp` or `revoked` cannot be read: {error}"))?;
        let algs = public.signing_algs().map_err(|error| error.to_string())?;
        Ok((!algs.is_empty()).then(|| Self { algs: Algs::of(&algs), lifetime }))
    }

    pub(super) fn allows(&self, alg: &str) -> bool {
        self.algs.has(alg)
    }

    /// Judged at the event's time, so that an old event is judged by what held then.
    pub(super) fn state_at(&self, time: UnixMs) -> KeyState {
        let reached = |claim: Option<i64>| claim.map(|claim| super::numeric_date(claim) <= time);
        if reached(self.lifetime.revoked.as_ref().map(|revoked| revoked.revoked_at)) == Some(true) {
            KeyState::Revoked
        } else if reached(self.lifetime.nbf) == Some(false) {
            KeyState::Prepared
        } else if reached(self.lifetime.exp) == Some(true) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }
}
