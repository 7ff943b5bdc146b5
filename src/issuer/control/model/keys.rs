//! Keys of a tenant with their history, audiences with theirs, and epochs before which nothing counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::parties::first_broken;
use super::{Invalid, KeyId, Sealed};
use crate::model::{UnixMs, words};
pub(crate) use crate::token::{EncryptionAlg, KeyState};

words! {
    /// What we sign with.
    IssueAlg { Es256 = "ES256", Rs256 = "RS256", Ps256 = "PS256", EdDsa = "EdDSA", }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyChange {
    pub(crate) state: KeyState,
    pub(crate) at: UnixMs,
}

/// Where a key's private half is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PrivateHalf {
    /// Here, sealed: PKCS#8 under the tenant's data key, bound to tenant, `kid` and state.
    Sealed(Sealed),
    /// In a KMS or HSM that signs for us: how it is named there.
    Held(String),
    /// Nowhere any more.
    Destroyed,
}

/// A key pair that signs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyPair {
    pub(crate) kid: KeyId,
    pub(crate) alg: IssueAlg,
    /// The public half as the JWKS shows it.
    pub(crate) public: serde_json::Value,
    pub(crate) private: PrivateHalf,
    /// Its states, oldest first; never empty, and kept for good: an event is judged by the state at its own time.
    pub(crate) history: Vec<KeyChange>,
}

impl KeyPair {
    /// The state at `time`; `None` before there was the key.
    pub(crate) fn state_at(&self, time: UnixMs) -> Option<KeyState> {
        self.history.iter().rev().find(|change| change.at <= time).map(|change| change.state)
    }

    /// The last state that was set, which may begin later.
    pub(crate) fn last_state(&self) -> Option<KeyState> {
        self.history.last().map(|change| change.state)
    }
}

/// A tenant's data key, under which its private halves are sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DataKey {
    /// What wrapped it: `master`, or the KMS key's name.
    pub(crate) wrapped_by: String,
    pub(crate) wrapped: Sealed,
}

/// A tenant's keys: one entry, so that a rotation is one write. Its name is [`KeySet::NAME`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeySet {
    #[serde(default)]
    pub(crate) data_key: Option<DataKey>,
    pub(crate) keys: Vec<KeyPair>,
}

impl KeySet {
    /// A tenant has one set.
    pub(crate) const NAME: &str = "signing";

    pub(super) fn check_keys(&self) -> Result<(), Invalid> {
        let kids: BTreeSet<_> = self.keys.iter().map(|key| &key.kid).collect();
        let is_ordered = |key: &KeyPair| key.history.is_sorted_by_key(|change| change.at);
        let is_open = |key: &KeyPair| matches!(key.private, PrivateHalf::Sealed(_));
        first_broken([
            (kids.len() == self.keys.len(), "keys", "hold one `kid` twice"),
            (self.keys.iter().all(|key| !key.history.is_empty()), "history", "is never empty"),
            (self.keys.iter().all(is_ordered), "history", "is in the order of its times"),
            (
                self.data_key.is_some() || !self.keys.iter().any(is_open),
                "data_key",
                "is needed where a private half is sealed",
            ),
        ])
    }
}

/// One encryption key of an audience.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EncryptionKey {
    pub(crate) kid: KeyId,
    pub(crate) alg: EncryptionAlg,
    /// The JWK.
    pub(crate) public: serde_json::Value,
    /// PKCS#8 under the tenant's data key. `None`: it is the audience's `own`, and only its holder decrypts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) managed: Option<Sealed>,
    pub(crate) created_at: UnixMs,
}

/// An audience of a tenant. Its key's name is what `aud` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Audience {
    /// Its tokens are encrypted, and a bare JWS is refused (`not_encrypted`).
    #[serde(default)]
    pub(crate) sensitive: bool,
    /// The last encrypts; an older one still decrypts. At most two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) encryption: Vec<EncryptionKey>,
    pub(crate) created_at: UnixMs,
}

/// So many encryption keys an audience may have: two while one replaces the other.
pub(crate) const ENCRYPTION_KEYS_MAX: usize = 2;

impl Audience {
    pub(super) fn check_audience(&self) -> Result<(), Invalid> {
        first_broken([
            (
                self.encryption.len() <= ENCRYPTION_KEYS_MAX,
                "encryption",
                "has two keys at most: retire one first",
            ),
            (
                !self.sensitive || !self.encryption.is_empty(),
                "encryption",
                "has a key where `sensitive` is true",
            ),
        ])
    }
}

/// What an epoch is of: its entry's name is [`EpochOf::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EpochOf<'a> {
    /// Everything of the tenant.
    Tenant,
    Client(&'a str),
    Kid(&'a str),
    Subject(&'a str),
}

impl EpochOf<'_> {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Tenant => "tenant".to_owned(),
            Self::Client(client) => format!("client:{client}"),
            Self::Kid(kid) => format!("kid:{kid}"),
            Self::Subject(sub) => format!("sub:{sub}"),
        }
    }
}

/// A line in time: no token and no refresh family that began before it counts. It only moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Epoch {
    pub(crate) not_before: UnixMs,
}

impl Epoch {
    /// Whether a token with this `iat` (seconds) is dead. `iat` is cut to whole seconds: one from the line's own second
    /// is dead, too.
    pub(crate) const fn kills(&self, iat_s: i64) -> bool {
        iat_s.saturating_mul(1_000) < self.not_before.get()
    }

    pub(super) const fn check_epoch(&self) -> Result<(), Invalid> {
        Ok(())
    }
}
