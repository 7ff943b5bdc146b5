//! The same records once more, in other cuts and with a new owner at each of them: what is found is the same. And with
//! little room for what is remembered: it keeps to that, whatever it is taken over from.

use super::house::snapshots;
use super::truth::{Truth, Walked};
use crate::log::memory::Lying;
use crate::model::{Offset, RuleId};
use crate::pipeline::corridor::Course;
use crate::pipeline::detect::{Detector, Limits, Restoring};
use crate::pipeline::summarize::Pulse;
use crate::pipeline::{LaneWalk, Walk};

/// Little room: a few strangers fill it.
const NARROW: Limits = Limits {
    subjects_bytes: 4_000,
    usual_bytes: 1_000,
    tokens_bytes: 3_000,
    cases_bytes: 30_000,
    ids_bytes: 2_000,
};

/// What the sites may take, which have no bound of their own: each is one that is remembered of a subject or token.
const SITES_BYTES: usize = 16 << 10;

/// The walk of the events; that of the summaries has no checkpoints.
pub(super) fn hold(walked: &Walked<'_>, records: &[Lying], truth: &Truth) -> Result<(), String> {
    if walked.course != Course::Events {
        return Ok(());
    }
    for every in [1, 3] {
        let again = Owners::new(walked, Limits::default(), every).walk(records);
        if again != *truth {
            return Err(format!("with a new owner every {every} records: {again:?}, should be {truth:?}"));
        }
    }
    let mut owners = Owners::new(walked, NARROW, 3);
    owners.walk(records);
    let cases_bytes = RuleId::ALL.len() * NARROW.cases_bytes;
    let may = NARROW.subjects_bytes + NARROW.tokens_bytes + NARROW.ids_bytes + cases_bytes + SITES_BYTES;
    let most = owners.most_bytes;
    if most <= may { Ok(()) } else { Err(format!("{most} bytes of state, may be {may}")) }
}

/// Owners that take a walk over from one another, by checkpoints.
struct Owners<'w> {
    walked: &'w Walked<'w>,
    limits: Limits,
    /// How many records each walks.
    every: usize,
    left: Restoring,
    /// The most that any of them remembered.
    most_bytes: usize,
}

impl<'w> Owners<'w> {
    fn new(walked: &'w Walked<'w>, limits: Limits, every: usize) -> Self {
        Self { walked, limits, every, left: Restoring::new(walked.log), most_bytes: 0 }
    }

    fn walk(&mut self, records: &[Lying]) -> Truth {
        let (walked, mut number) = (self.walked, 0);
        let first = self.owner(Detector::with_limits(self.limits), Pulse::default(), 0);
        Truth::walk(walked, records, first, |position, snapshots, walk| {
            self.most_bytes = walk.size().bytes.max(self.most_bytes);
            number += 1;
            if number % self.every == 0 { self.take_over(position, snapshots, walk) } else { walk }
        })
    }

    fn take_over(&mut self, position: Offset, number: u32, mut walk: Box<dyn LaneWalk>) -> Box<dyn LaneWalk> {
        for record in walk.checkpoint(position, usize::MAX).records {
            self.left.take(&record.key.unwrap_or_default(), &record.value);
        }
        let restored = self.left.restore::<(Offset, Pulse)>(self.limits);
        let (detector, (_, pulse)) = restored.map_err(|error| error.to_string()).unwrap();
        self.owner(detector, pulse, number)
    }

    fn owner(&self, detector: Detector, pulse: Pulse, number: u32) -> Box<dyn LaneWalk> {
        let new = Walk::new(self.walked.bounds(), snapshots(number), self.walked.partition);
        Box::new(Walk { detector, pulse, ..new })
    }
}
