//! The topics (DESIGN, "Topics"), and which partition a key belongs to.

use std::time::Duration;

use crate::model::PartitionId;

/// A topic of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// Events, from gateways and from our issuer alike.
    Events,
    /// The durable outbox of `deliver`, and for anyone's own consumer.
    Alerts,
    /// What could not become an event, masked, with its reason and origin.
    DeadLetters,
    /// What each block adds to what spans subjects, by gateway or network.
    Summaries,
    /// Checkpoints of the walk's state, by state key, in the same partition as the events they come from.
    State,
    /// The system of record: tenants, clients, users, gateways, key sets, epochs, by entry.
    Control,
    /// What verifiers must refuse now, by what is revoked.
    Revocations,
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleanup {
    Delete {
        after: Duration,
    },
    /// The newest record of each key stays. Records have a key, and one with an empty value removes its key: readers
    /// may still meet it, or none of that key.
    Compact,
}

/// How a topic is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicSpec {
    pub(crate) topic: Topic,
    pub(crate) partitions: u32,
    pub(crate) cleanup: Cleanup,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Topic {
    pub(crate) const ALL: [Self; 7] = [
        Self::Events,
        Self::Alerts,
        Self::DeadLetters,
        Self::Summaries,
        Self::State,
        Self::Control,
        Self::Revocations,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Events => "jwtrail.events",
            Self::Alerts => "jwtrail.alerts",
            Self::DeadLetters => "jwtrail.dead-letters",
            Self::Summaries => "jwtrail.summaries",
            Self::State => "jwtrail.state",
            Self::Control => "jwtrail.control",
            Self::Revocations => "jwtrail.revocations",
        }
    }

    /// What `migrate` makes: few partitions in the embedded journal, more on Kafka.
    pub(crate) const fn spec(self, embedded: bool) -> TopicSpec {
        let partitions = match (self, embedded) {
            (Self::Events | Self::State, true) => 4,
            (Self::Events | Self::State, false) => 12,
            (Self::Alerts | Self::DeadLetters | Self::Summaries, true) => 1,
            (Self::Alerts | Self::DeadLetters | Self::Summaries, false) => 4,
            // One order for all entries; there is little of it.
            (Self::Control | Self::Revocations, _) => 1,
        };
        TopicSpec { topic: self, partitions, cleanup: self.cleanup() }
    }

    const fn cleanup(self) -> Cleanup {
        let days = match self {
            Self::State | Self::Control | Self::Revocations => return Cleanup::Compact,
            Self::Events => 7,
            Self::Alerts | Self::DeadLetters => 30,
            // A new owner walks the last 50 hours before the commit again: they must be there, and the commit may be old.
            Self::Summaries => 4,
        };
        Cleanup::Delete { after: Duration::from_secs(DAY.as_secs() * days) }
    }

    pub(crate) const fn is_compacted(self) -> bool {
        matches!(self.cleanup(), Cleanup::Compact)
    }
}

/// The partition that a key belongs to: Kafka's own default (Java's murmur2, made positive), in the journal alike.
pub(crate) fn home_partition(key: &[u8], partitions: u32) -> PartitionId {
    PartitionId((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

/// MurmurHash2 as Kafka's `org.apache.kafka.common.utils.Utils.murmur2` computes it.
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    #[expect(clippy::cast_possible_truncation, reason = "Kafka's own arithmetic is in 32 bits")]
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    for (index, &byte) in tail.iter().enumerate() {
        hash ^= u32::from(byte) << (8 * index);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_javas() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }
}
