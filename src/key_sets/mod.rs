//! The key sets of issuers that publish them by URL: fetched, kept on disk, and published as new snapshots of what
//! `verify` looks things up in. The walk never waits for any of it.
//!
//! A set that was fetched is good for a day: while an issuer cannot be reached, or answers with what is no key set, the
//! last one stays. After that its keys count as unknown. A restart without a network begins with what lies on the disk.

mod document;
mod fetch;

mod keeper;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use keeper::{Keeper, Pace};

/// How long a fetched set may be judged by.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3_600);

/// Why a key set could not be fetched. The one that was there stays in use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeySetError {
    #[error("no HTTP client could be made for it: {0}")]
    Client(String),
    #[error("{0}")]
    NotPublic(#[from] crate::outbound::NotPublic),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it answered {0}: write the URL that answers 200 itself, redirects are not followed")]
    Refused(u16),
    #[error("its answer is larger than 1 MiB")]
    TooLarge,
    /// Where, not what: an answer that is no key set may be anything.
    #[error(
        "its answer is not a JWK set (a JSON object with an array `keys`, RFC 7517 section 5): line {line}, column {column}"
    )]
    NotAKeySet { line: usize, column: usize },
    #[error("its answer has {0} keys, more than 1,000")]
    TooMany(usize),
    /// An issuer that signs has a key; with this its tokens would all be refused.
    #[error("its answer has no key that signs and can be used")]
    NoKey,
    #[error("{} cannot be written: {cause}", path.display())]
    Unwritable { path: PathBuf, cause: std::io::Error },
}

impl KeySetError {
    /// The closed word for log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Client(_) => "jwks_client",
            Self::NotPublic(_) => "jwks_not_public",
            Self::Unreachable(_) => "jwks_unreachable",
            Self::Refused(_) => "jwks_refused",
            Self::TooLarge => "jwks_too_large",
            Self::NotAKeySet { .. } => "jwks_malformed",
            Self::TooMany(_) => "jwks_too_many",
            Self::NoKey => "jwks_empty",
            Self::Unwritable { .. } => "jwks_unwritable",
        }
    }
}
