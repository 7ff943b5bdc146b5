//! Who arbitrates between two who write the same entry at the same time: the store's part of a write.

use async_trait::async_trait;

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// It stands, as this version of the store's.
    Done(u64),
    /// Somebody else wrote first: what stands there (version 0: nothing).
    Conflict { version: u64, value: Vec<u8> },
}

/// The store did not answer; whether it wrote is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store that arbitrates writes does not answer: {cause}; reading goes on")]
pub(crate) struct ArbiterError {
    /// The store's own code.
    pub(crate) code: &'static str,
    pub(crate) cause: String,
}

/// Compare and set, by key. The store counts versions of its own: they say nothing but whether somebody wrote meanwhile,
/// so that a store which lost its data arbitrates on.
#[async_trait]
pub(crate) trait Arbiter: Send + Sync {
    /// Sets `value` if the key's version still is `from` (0: there is none).
    async fn advance(&self, key: &str, from: u64, value: &[u8]) -> Result<Advance, ArbiterError>;

    /// The key's version and value.
    async fn current(&self, key: &str) -> Result<Option<(u64, Vec<u8>)>, ArbiterError>;
}
