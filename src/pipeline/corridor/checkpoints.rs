//! When a checkpoint is made, and with which block it is committed.
//!
//! A checkpoint costs by the keys that changed since the last one, so the rarer they are the less a record costs: a
//! subject seen ten times is written once. What they save is walking: a new owner walks again what came after the last
//! one, some 150,000 records a second and core (`make bench`). 30 s and 200,000 records hold that to a second or two, and
//! cost the walk no more than 2 %. Where nearly every record brings keys of its own waiting would save nothing, and
//! 100,000 keys (some 40 MB) go at once, so that what one commit carries stays bounded.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::detect::Checkpoint;

/// Whichever of them comes first makes a checkpoint due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckpointPace {
    pub(crate) every: Duration,
    pub(crate) records: usize,
    /// Keys that changed.
    pub(crate) keys: usize,
}

impl Default for CheckpointPace {
    fn default() -> Self {
        Self { every: Duration::from_secs(30), records: 200_000, keys: 100_000 }
    }
}

/// While there is no checkpoint to go by, the state is written in parts of this size, one with each block: after hours
/// that were walked again it may be hundreds of megabytes. More than a block's records can change, so that it ends.
const PART_BYTES: usize = 16 << 20;

/// The checkpoints of one lane.
pub(super) struct Checkpoints {
    pace: CheckpointPace,
    /// Since when the records are counted.
    since: Instant,
    records: usize,
    /// The last one was a part.
    unfinished: bool,
    /// What was made where the block was cut that is stored or on its way: to be committed with its end.
    pub(super) made: Option<Checkpoint>,
}

impl Checkpoints {
    pub(super) fn new(pace: CheckpointPace) -> Self {
        Self { pace, since: Instant::now(), records: 0, unfinished: false, made: None }
    }

    pub(super) fn walked(&mut self, records: usize) {
        self.records += records;
    }

    /// Whether one is to be made at this cut, of which `changed` keys would tell; `None` where none is ever made. A lane that finishes leaves its next
    /// owner as little to walk as can be.
    pub(super) fn is_due(&self, changed: Option<usize>, finishing: bool) -> bool {
        let Some(changed) = changed else { return false };
        let CheckpointPace { every, records, keys } = self.pace;
        let aged = || finishing || self.since.elapsed() >= every;
        self.records >= records || changed >= keys || changed > 0 && (self.unfinished || aged())
    }

    /// One is being made; `has_state` if there is one to go by already. How large it may get.
    pub(super) fn begin(&mut self, has_state: bool) -> usize {
        (self.since, self.records) = (Instant::now(), 0);
        if has_state { usize::MAX } else { PART_BYTES }
    }

    pub(super) fn take_back(&mut self, made: Checkpoint) {
        self.unfinished = !made.complete;
        self.made = Some(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(3_600);

    #[test]
    fn one_is_due_by_time_by_records_or_by_keys() {
        let pace = CheckpointPace { every: NEVER, records: 100, keys: 50 };
        let mut checkpoints = Checkpoints::new(pace);
        assert!(!checkpoints.is_due(Some(49), false));
        assert!(checkpoints.is_due(Some(50), false));
        assert!(checkpoints.is_due(Some(1), true));
        assert!(!checkpoints.is_due(Some(0), true), "nothing to tell");
        checkpoints.walked(99);
        assert!(!checkpoints.is_due(Some(1), false));
        checkpoints.walked(1);
        assert!(checkpoints.is_due(Some(0), false), "so much need not be walked again");
        assert_eq!(checkpoints.begin(true), usize::MAX);
        assert!(!checkpoints.is_due(Some(1), false));
        let aged = Checkpoints::new(CheckpointPace { every: Duration::ZERO, ..pace });
        assert!(aged.is_due(Some(1), false));
        assert!(!aged.is_due(Some(0), false));
        assert!(!aged.is_due(None, true));
    }

    #[test]
    fn a_state_in_parts_goes_on_with_every_block() {
        let mut checkpoints = Checkpoints::new(CheckpointPace::default());
        assert_eq!(checkpoints.begin(false), PART_BYTES);
        checkpoints.take_back(Checkpoint { records: Vec::new(), complete: false });
        assert!(checkpoints.is_due(Some(1), false));
        checkpoints.take_back(Checkpoint { records: Vec::new(), complete: true });
        assert!(!checkpoints.is_due(Some(1), false));
    }
}
