//! What must be arbitrated between instances: who writes an entry first, refresh families and their one successor, what may
//! be used once, and how long a login has to wait.
//!
//! Two implementations, held by one contract suite: [`Embedded`] in the data directory, for one process, and [`Redis`]
//! (single or Cluster) for all instances of a region. Time is the store's own (the clock; Redis' `TIME`), so that
//! instances whose clocks differ judge alike. What cannot be decided is [`StoreError::Unavailable`], never a guess.

mod error;
mod family;
mod handle;
mod pace;

mod embedded;
mod redis;

#[cfg(test)]
mod contract;

/// Real Redis servers for the tests.
#[cfg(test)]
#[path = "../../../tests/support/redis.rs"]
mod server;

use std::time::Duration;

use async_trait::async_trait;

pub(crate) use embedded::Embedded;
pub(crate) use error::StoreError;
pub(crate) use family::{Family, FamilyId, Refreshed, Revoked, SubjectTag};
pub(crate) use handle::Handle;
pub(crate) use pace::{Login, Pace};
pub(crate) use redis::Redis;

use crate::issuer::control::Arbiter;
use crate::model::{TenantId, UnixMs};

/// An expired family is remembered for so long: until then it is `Expired`, afterwards `Unknown`.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// The most revocations that one call tells.
const REVOCATIONS_MAX: usize = 1_000;

/// The store.
#[async_trait]
pub(crate) trait Store: Arbiter {
    /// Begins a family at generation 1.
    async fn begin(&self, id: &FamilyId, family: &Family) -> Result<(), StoreError>;

    /// Takes `generation` of a family for its successor. Within `leeway` after an advance (0: never) the generation before
    /// gets the same successor again; anything older revokes the family. Whoever got no answer asks again.
    async fn refresh(
        &self,
        id: &FamilyId,
        generation: u64,
        client: &str,
        leeway: Duration,
    ) -> Result<Refreshed, StoreError>;

    /// Ends a family; if `client` is given, only one that is that client's. Once this has answered nothing of it lives.
    async fn revoke_family(&self, id: &FamilyId, client: Option<&str>) -> Result<Revoked, StoreError>;

    /// Ends every family of a subject at once; false if it has none. Families begun afterwards live.
    async fn revoke_subject(&self, tenant: &TenantId, tag: SubjectTag) -> Result<bool, StoreError>;

    /// True for the first caller with this digest (of a client assertion's `jti`), until `until`; false for every other,
    /// and for all of them once that time has passed.
    async fn first_use(
        &self,
        tenant: &TenantId,
        digest: &[u8; 32],
        until: UnixMs,
    ) -> Result<bool, StoreError>;

    /// How long this login has to wait; zero: it may go on. Going on counts as failed from here, so that guesses made in
    /// parallel get no more tries than guesses in turn; [`Store::login_succeeded`] takes it back.
    async fn try_login(&self, login: &Login, pace: Pace) -> Result<Duration, StoreError>;

    /// Forgets a user's failures; takes one try back from a network (one account of an attacker's must not clear it).
    async fn login_succeeded(&self, login: &Login) -> Result<(), StoreError>;

    /// Keeps a copy of a revocation for every instance, until the time after which nothing that it names lives anyway.
    async fn revoke(&self, entry: &str, until: UnixMs) -> Result<(), StoreError>;

    /// What was revoked since `cursor` (0: ever), oldest first, at most 1,000; and the cursor to go on from.
    async fn revoked_since(&self, cursor: u64) -> Result<Revocations, StoreError>;

    /// An issuer's JWK set, if one is kept. Redis is not trusted: the caller seals what it keeps.
    async fn public_keys(&self, iss: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps an issuer's JWK set for `ttl`.
    async fn cache_public_keys(&self, iss: &str, jwks: &[u8], ttl: Duration) -> Result<(), StoreError>;

    /// Whether the store answers right now, and is set up so that it may be relied on.
    async fn health(&self) -> Result<(), StoreError>;
}

/// A page of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocations {
    /// What is revoked, and until when that has to be known.
    pub(crate) entries: Vec<(String, UnixMs)>,
    /// Where to go on; the same as asked with if there was nothing.
    pub(crate) cursor: u64,
}
