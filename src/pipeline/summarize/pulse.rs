//! How far a partition of the event topic is walked, and whether it still has to say so.
//!
//! What did *not* come is decided only when every partition is walked beyond the time by which it would have come. So
//! each goes on saying how far it is, by ticks, until everything that its last record may decide is decided; then it
//! rests.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::UnixMs;

/// One partition's stream time, and when something last happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pulse {
    /// Stream time, and the append time of the last record that was no tick; `None` before the first record.
    walked: Option<(UnixMs, UnixMs)>,
}

impl Pulse {
    /// A record was walked.
    pub(crate) fn beat(&mut self, append_time: UnixMs) {
        let (through, busy) = self.walked.unwrap_or((append_time, append_time));
        self.walked = Some((through.max(append_time), busy.max(append_time)));
    }

    /// A tick was walked. Whether anything is still to be said, `rest_after` decides.
    pub(crate) fn tick(&mut self, append_time: UnixMs) {
        // Of what came before the first record that is known nothing can be said: as if it had come now.
        let (through, busy) = self.walked.unwrap_or((append_time, append_time));
        self.walked = Some((through.max(append_time), busy));
    }

    /// Whether nothing has happened for `rest_after`.
    pub(crate) fn is_at_rest(&self, rest_after: Duration) -> bool {
        self.walked.is_none_or(|(through, busy)| through >= busy + rest_after)
    }

    /// When the partition is to say again how far it is, if no record makes it; `None` at rest.
    pub(crate) fn next_due(&self, every: Duration, rest_after: Duration) -> Option<UnixMs> {
        let (through, _) = self.walked.filter(|_| !self.is_at_rest(rest_after))?;
        Some(through + every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);
    const REST: Duration = Duration::from_secs(720);

    fn at(seconds: i64) -> UnixMs {
        UnixMs::new(seconds * 1_000)
    }

    #[test]
    fn a_partition_says_how_far_it_is_until_nothing_is_waited_for() {
        let mut pulse = Pulse::default();
        assert_eq!((pulse.is_at_rest(REST), pulse.next_due(EVERY, REST)), (true, None));
        pulse.beat(at(100));
        // Append times are not monotone on Kafka.
        pulse.beat(at(90));
        assert_eq!((pulse.is_at_rest(REST), pulse.next_due(EVERY, REST)), (false, Some(at(130))));
        pulse.tick(at(819));
        assert_eq!(pulse.next_due(EVERY, REST), Some(at(849)));
        pulse.tick(at(820));
        assert_eq!((pulse.is_at_rest(REST), pulse.next_due(EVERY, REST)), (true, None));
        pulse.beat(at(821));
        assert_eq!(pulse.next_due(EVERY, REST), Some(at(851)));
    }
}
