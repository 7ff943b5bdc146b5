//! Keys that are derived from the ingest key, one a purpose: what signs at the door cannot seal a forward.

use aws_lc_rs::{hkdf, hmac};

use crate::config::Secret;

/// HKDF-SHA256(ingest key, `purpose`) without salt (RFC 5869), as an HMAC-SHA256 key.
fn derive(ingest_key: &Secret, purpose: &str) -> hmac::Key {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(ingest_key.expose().as_bytes());
    let info = [purpose.as_bytes()];
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes; this asks for 32")]
    let derived = extracted.expand(&info, hmac::HMAC_SHA256).expect("32 bytes");
    derived.into()
}

/// Signs what the door writes, so that the walk can tell it from what anyone wrote.
pub(crate) fn door(ingest_key: &Secret) -> hmac::Key {
    derive(ingest_key, "jwtrail door v1")
}

/// Hashes the ids of events, by which the walk knows repeats.
pub(crate) fn event_ids(ingest_key: &Secret) -> hmac::Key {
    derive(ingest_key, "jwtrail event ids v1")
}

/// Seals `jwtrail-retried`: which event a record is that was held back while the log was away.
pub(crate) fn retried(ingest_key: &Secret) -> hmac::Key {
    derive(ingest_key, "jwtrail retried v1")
}

/// What seals that which the walk writes for itself to read again. Anyone may write to a topic: what bears no seal of ours
/// says nothing.
pub(crate) struct Seals {
    /// `jwtrail-forward`: where a record lay before it was brought home.
    pub(crate) forward: hmac::Key,
    /// `jwtrail-retried`: [`retried`].
    pub(crate) retried: hmac::Key,
    /// `jwtrail-tick`: time as a record, written by a partition's owner.
    pub(crate) tick: hmac::Key,
    /// `jwtrail-summary`: what a block says of its sources.
    pub(crate) summary: hmac::Key,
}

impl Seals {
    pub(crate) fn new(ingest_key: &Secret) -> Self {
        Self {
            forward: derive(ingest_key, "forward"),
            retried: retried(ingest_key),
            tick: derive(ingest_key, "tick"),
            summary: derive(ingest_key, "summary"),
        }
    }
}
