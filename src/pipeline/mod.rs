//! The product on one screen: what happens to one record.
//!
//! ```text
//! Record ─decode→ Decoded ─verify→ Checked ─enrich→ Enriched ─detect→ Assessed ─alert→ Alerted ─store→ Stored ─settle→ offset
//! ```
//!
//! Rooms are verbs in the order that data walks through them; what leaves a room is a past participle. A record never
//! walks back. The first four rooms are pure: no I/O, no wall clock, no async, no randomness; only `detect` holds state.
//! Every way out has a name: a record is carried on, forwarded to its home partition, counted as control, dropped because
//! its event was walked before, or rejected with its reason. consumed = stored + dropped + dead-lettered + forwarded + control, always.

pub(crate) mod decode;
pub(crate) mod verify;

pub(crate) mod enrich;

pub(crate) mod detect;

pub(crate) mod alert;

pub(crate) mod summarize;

pub(crate) mod store;

pub(crate) mod settle;

pub(crate) mod corridor;

mod second;

mod patience;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::log::{Batch, NewRecord, Origin, Record, Topic};
use crate::model::{Offset, PartitionId, UnixMs};
pub(crate) use second::SummaryWalk;
use store::Block;

/// What the walk looks things up in: immutable, swapped only where a block is cut, named in the block's line.
#[derive(Clone)]
pub(crate) struct Snapshots {
    /// Names all of them together.
    pub(crate) name: Arc<str>,
    pub(crate) verify: Arc<verify::Trust>,
    pub(crate) enrich: Arc<enrich::Atlas>,
    pub(crate) detect: Arc<detect::Rulebook>,
    pub(crate) alert: Arc<alert::Policy>,
}

/// Gives the newest snapshots.
pub(crate) type SnapshotSource = Arc<dyn Fn() -> Snapshots + Send + Sync>;

/// What a lane walks its partition with: [`Walk`] for events, [`SummaryWalk`] for what that says of them.
pub(crate) trait LaneWalk: Send {
    /// Called where a block is cut, and nowhere else: within a block the walk sees one set of snapshots.
    fn use_snapshots(&mut self, snapshots: Snapshots);

    /// One record's walk.
    fn step<'r>(&mut self, record: &Record<'r>) -> WayOut<'r>;

    /// Walks the records of `range` through the rooms into `block`. Without a block they are walked for state alone:
    /// they are settled already, and only what the detector remembers of them is wanted again.
    fn walk(&mut self, batch: &Batch, range: Range<usize>, block: Option<&mut Block>);

    /// Which records of those that are walked next are repeats, of events that have a row further back than ids are
    /// remembered: those that are attested of one that is (`true`), the others of one that is not, for whoever cannot
    /// sign must not have what is signed dropped. Nothing but events is ever held back.
    fn drop_repeats(&mut self, _stored_before: HashSet<(Offset, bool)>) {}

    /// Call it after a walk for state alone that did not begin at the log's beginning, if no checkpoint stands for what lay
    /// before: what rests on more than these days is not known, so nobody knows what was told of it.
    fn doubt(&mut self) {}

    /// The stream time at which something would be said although nothing else happened; `None` while nothing is
    /// pending. Where no record comes by then, a tick has to.
    fn next_due(&self) -> Option<UnixMs>;

    /// The record that lets time pass where no other record does: to be appended to this partition by its owner, once
    /// the clock has come to [`LaneWalk::next_due`]. `position`: up to where the walk has come.
    fn tick(&self, position: Offset) -> NewRecord;

    /// How much the detector remembers.
    fn size(&self) -> detect::StateSize;

    /// Of how many keys a checkpoint would tell; `None`: this walk makes none, and its state is walked for.
    fn changed(&self) -> Option<usize> {
        None
    }

    /// What the walk has come to remember or to forget since the last checkpoint: to be taken where a block is cut, of
    /// which `position` is the offset after the last.
    fn checkpoint(&mut self, _position: Offset, _max_bytes: usize) -> detect::Checkpoint {
        detect::Checkpoint::default()
    }
}

/// One partition's walk through the rooms. It lives on whichever worker thread walks the partition's next batch.
pub(crate) struct Walk {
    bounds: decode::Bounds,
    snapshots: Snapshots,
    enricher: enrich::Enricher,
    detector: detect::Detector,
    pulse: summarize::Pulse,
    /// What [`LaneWalk::drop_repeats`] was told.
    stored_before: HashSet<(Offset, bool)>,
    /// Where the rows of this walk lie: an alert carries its whole row.
    origin: Origin,
}

impl Walk {
    pub(crate) fn new(bounds: decode::Bounds, snapshots: Snapshots, partition: PartitionId) -> Self {
        let origin = Origin { log: bounds.log.clone(), topic: Topic::Events, partition };
        let (enricher, detector) = (enrich::Enricher::default(), detect::Detector::default());
        Self {
            bounds,
            enricher,
            snapshots,
            detector,
            pulse: summarize::Pulse::default(),
            stored_before: HashSet::new(),
            origin,
        }
    }

    /// The walk that a former owner's checkpoints hold, to be gone on with at `state`, where the last one was made.
    pub(crate) fn restore(
        bounds: decode::Bounds,
        snapshots: Snapshots,
        partition: PartitionId,
        from: &detect::Restoring,
        state: Offset,
    ) -> Result<Self, detect::NotUsable> {
        let (detector, (made_at, pulse)) = from.restore::<(Offset, _)>(detect::Limits::default())?;
        if made_at != state {
            return Err(detect::NotUsable::Missing);
        }
        Ok(Self { detector, pulse, ..Self::new(bounds, snapshots, partition) })
    }

    /// A walk that knows nothing, but that something else lies where its checkpoints will.
    pub(crate) fn start_anew(
        bounds: decode::Bounds,
        snapshots: Snapshots,
        partition: PartitionId,
        found: &detect::Restoring,
    ) -> Self {
        let detector = found.start_anew(detect::Limits::default());
        Self { detector, ..Self::new(bounds, snapshots, partition) }
    }

    /// One record's walk.
    pub(crate) fn step<'r>(&mut self, record: &Record<'r>) -> WayOut<'r> {
        self.step_watched(record, |_| ())
    }

    /// One record's walk, watched: `look` sees what the rules said, of which `alert` keeps the cases alone.
    pub(crate) fn step_watched<'r>(
        &mut self,
        record: &Record<'r>,
        look: impl FnOnce(&detect::Assessed<'r>),
    ) -> WayOut<'r> {
        if decode::is_tick(record, &self.bounds) {
            let cases = self.detector.tick(record);
            return WayOut::Control(alert::judge(cases, &self.snapshots.alert, &self.origin));
        }
        let decoded = match decode::decode(record, &self.bounds) {
            Ok(decoded) => decoded,
            Err(rejected) => {
                self.detector.refused(&rejected, record);
                return WayOut::Rejected(rejected);
            }
        };
        let is_set_aside = self.detector.is_set_aside(&decoded.event, record);
        let mut checked = verify::verify(decoded, record, &self.snapshots.verify);
        // What is no event bears no name that counts: whoever may write here could fill a tenant's measure with garbage. It
        // must not silence those who sign.
        if is_set_aside && checked.attested_by.is_none() {
            return WayOut::Rejected(decode::Rejected::set_aside(record));
        }
        // Behind `verify`, because a value that is written anew loses its signature: the copy says who attested it.
        let verify::Checked { decoded, attested_by, .. } = &mut checked;
        let (here, attested_by) = (self.origin.partition, attested_by.as_deref());
        if let Some(copy) = decode::forward(decoded, attested_by, record, &self.bounds, here) {
            return WayOut::Forwarded(copy);
        }
        // A record is judged where it is walked to its end: not where it is forwarded, and its copy is no repeat of it.
        let is_repeat = self.detector.is_repeat(&checked, record, &self.snapshots.detect);
        let stored_before = (record.offset, checked.attested_by.is_some());
        if is_repeat || self.stored_before.contains(&stored_before) {
            return WayOut::Dropped(detect::Dropped { reason: detect::DropReason::Duplicate, checked });
        }
        let enriched = enrich::enrich(checked, &self.snapshots.enrich, &mut self.enricher);
        let assessed = self.detector.detect(enriched, record, &self.snapshots.detect);
        look(&assessed);
        WayOut::Alerted(alert::alert(assessed, &self.snapshots.alert, &self.origin))
    }

    /// What the detector remembers, for metrics and for explaining.
    pub(crate) const fn detector(&self) -> &detect::Detector {
        &self.detector
    }
}

impl LaneWalk for Walk {
    fn step<'r>(&mut self, record: &Record<'r>) -> WayOut<'r> {
        self.step_watched(record, |_| ())
    }

    fn use_snapshots(&mut self, snapshots: Snapshots) {
        self.snapshots = snapshots;
    }

    fn walk(&mut self, batch: &Batch, range: Range<usize>, mut block: Option<&mut Block>) {
        for record in batch.slice(range) {
            let way_out = self.step(&record);
            match way_out {
                WayOut::Control(_) => self.pulse.tick(record.append_time),
                _ => self.pulse.beat(record.append_time),
            }
            let Some(block) = block.as_deref_mut() else { continue };
            block.pass(&record, self.pulse.is_at_rest(self.snapshots.detect.rest_after()));
            match way_out {
                WayOut::Alerted(alerted) => block.push(&record, alerted),
                WayOut::Rejected(rejected) => block.reject(&record, rejected),
                WayOut::Dropped(dropped) => block.drop(&record, dropped.reason),
                WayOut::Forwarded(copy) => block.forward(&record, copy),
                WayOut::Control(found) => block.control(&record, found),
            }
        }
    }

    fn drop_repeats(&mut self, stored_before: HashSet<(Offset, bool)>) {
        self.stored_before = stored_before;
    }

    fn doubt(&mut self) {
        self.detector.doubt();
    }

    fn next_due(&self) -> Option<UnixMs> {
        let rules = &self.snapshots.detect;
        let pulse = self.pulse.next_due(rules.heartbeat_every(), rules.rest_after());
        self.detector.next_due().into_iter().chain(pulse).min()
    }

    fn tick(&self, position: Offset) -> NewRecord {
        decode::tick(&self.bounds, self.origin.partition, position)
    }

    fn size(&self) -> detect::StateSize {
        self.detector.size()
    }

    fn changed(&self) -> Option<usize> {
        Some(self.detector.changed())
    }

    fn checkpoint(&mut self, position: Offset, max_bytes: usize) -> detect::Checkpoint {
        let Origin { log, partition, .. } = &self.origin;
        self.detector.checkpoint(log, *partition, max_bytes, &(position, &self.pulse))
    }
}

/// How a record leaves the walk.
pub(crate) enum WayOut<'r> {
    /// It is an event, or control, with what was found about it.
    Alerted(alert::Alerted<'r>),
    /// It cannot be an event, or is one of a tenant that is set aside: a dead letter.
    Rejected(decode::Rejected),
    /// It is an event that was walked before.
    Dropped(detect::Dropped<'r>),
    /// Another partition is its home: the copy to append there.
    Forwarded(NewRecord),
    /// It is no event: a tick, or a summary. Control, with what was found by it.
    Control(alert::Found),
}
