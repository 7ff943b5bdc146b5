//! Which sessions were seen at a place: token, family and sid as short hashes, a few of them.

use serde::{Deserialize, Serialize};

use super::terms::refs;
use crate::log::murmur2;
use crate::model::ClaimedToken;

/// At most so many hashes. Families and sids, which outlive tokens, go before tokens; within each the smallest stay,
/// so that the order of arrival does not matter.
const KEPT: usize = 6;

/// A set of session hashes, sorted; unused places hold `NONE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sessions([u32; KEPT]);

const NONE: u32 = u32::MAX;

/// The bit that puts tokens behind families and sids in the order.
const TOKEN: u32 = 1 << 31;

impl Sessions {
    pub(super) fn of(token: &ClaimedToken<'_>) -> Self {
        let mut sessions = Self([NONE; KEPT]);
        for family in [&token.family, &token.sid].into_iter().flatten() {
            sessions.insert(murmur2(family.as_bytes()) >> 1);
        }
        for (_, token_ref) in refs(token) {
            sessions.insert(murmur2(token_ref.as_bytes()) >> 1 | TOKEN);
        }
        sessions
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for &hash in &other.0 {
            self.insert(hash);
        }
    }

    /// Whether a session was seen at both.
    pub(super) fn meet(&self, other: &Self) -> bool {
        self.0.iter().any(|hash| *hash != NONE && other.0.contains(hash))
    }

    fn insert(&mut self, hash: u32) {
        let place = self.0.partition_point(|&known| known < hash);
        if place < KEPT && self.0[place] != hash {
            self.0.copy_within(place..KEPT - 1, place + 1);
            self.0[place] = hash;
        }
    }
}
