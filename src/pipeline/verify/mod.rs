//! **verify**: what can be proved about a token's use. Total: a bad token is data, not an error. Pure.

use super::decode::Decoded;
use crate::log::Record;
use crate::model::{Proof, Verdict};

/// Issuers, key sets and record-signature keys: an immutable snapshot.
pub(crate) struct Trust {}

/// What `verify` leaves.
#[derive(Debug)]
pub(crate) struct Checked<'r> {
    pub(crate) decoded: Decoded<'r>,
    pub(crate) verdict: Verdict,
    pub(crate) proof: Proof,
}

/// Gives the first verdict of DESIGN's list that holds.
pub(crate) fn verify<'r>(_decoded: Decoded<'r>, _record: &Record<'r>, _trust: &Trust) -> Checked<'r> {
    unimplemented!("filled by the verify room")
}
