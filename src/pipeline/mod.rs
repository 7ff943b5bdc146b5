//! The product on one screen: what happens to one record.
//!
//! ```text
//! Record ─decode→ Decoded ─verify→ Checked ─enrich→ Enriched ─detect→ Assessed ─alert→ Alerted ─store→ Stored ─settle→ offset
//! ```
//!
//! Rooms are verbs in the order that data walks through them; what leaves a room is a past participle. A record never
//! walks back. The first four rooms are pure: no I/O, no wall clock, no async, no randomness; only `detect` holds state.
//! Every way out has a name: a record is carried on, forwarded to its home partition, counted as control, or rejected
//! with its reason. consumed = stored + dropped + dead-lettered + forwarded + control, always.

pub(crate) mod decode;
pub(crate) mod verify;

pub(crate) mod enrich;

pub(crate) mod detect;

pub(crate) mod alert;

pub(crate) mod store;

pub(crate) mod settle;

use std::ops::Range;
use std::sync::Arc;

use crate::log::{Batch, Record, Topic};
use crate::model::PartitionId;
use store::Block;

/// What the walk looks things up in: immutable, swapped only where a block is cut, named in the block's line.
#[derive(Clone)]
pub(crate) struct Snapshots {
    pub(crate) verify: Arc<verify::Trust>,
    pub(crate) enrich: Arc<enrich::Atlas>,
    pub(crate) detect: Arc<detect::Rulebook>,
    pub(crate) alert: Arc<alert::Policy>,
}

/// One partition's walk through the rooms. It lives on whichever worker thread walks the partition's next batch.
pub(crate) struct Walk {
    bounds: decode::Bounds,
    snapshots: Snapshots,
    enricher: enrich::Enricher,
    detector: detect::Detector,
    /// Where the rows of this walk lie: an alert carries its whole row.
    source: alert::Source,
}

impl Walk {
    pub(crate) fn new(bounds: decode::Bounds, snapshots: Snapshots, partition: PartitionId) -> Self {
        let source = alert::Source { log: bounds.log.clone(), topic: Topic::Events, partition };
        let (enricher, detector) = (enrich::Enricher::default(), detect::Detector::default());
        Self { bounds, enricher, snapshots, detector, source }
    }

    /// Called where a block is cut, and nowhere else: within a block the walk sees one set of snapshots.
    pub(crate) fn use_snapshots(&mut self, snapshots: Snapshots) {
        self.snapshots = snapshots;
    }

    /// Walks the records of `range` through the rooms into `block`. Without a block they are walked for state alone:
    /// they are settled already, and only what the detector remembers of them is wanted again.
    pub(crate) fn walk(&mut self, batch: &Batch, range: Range<usize>, mut block: Option<&mut Block>) {
        for record in batch.slice(range) {
            match block.as_deref_mut() {
                Some(block) => self.step(&record, block),
                None => self.remember(&record),
            }
        }
    }

    fn step(&mut self, record: &Record<'_>, block: &mut Block) {
        let decoded = match decode::decode(record, &self.bounds) {
            Ok(decoded) => decoded,
            Err(rejected) => return block.reject(record, rejected),
        };
        if let Some(copy) = decode::forward(&decoded, record, &self.bounds, block.partition()) {
            return block.forward(record, copy);
        }
        let checked = verify::verify(decoded, record, &self.snapshots.verify);
        let enriched = enrich::enrich(checked, &self.snapshots.enrich, &mut self.enricher);
        let assessed = self.detector.detect(enriched, record, &self.snapshots.detect);
        let alerted = alert::alert(assessed, &self.snapshots.alert, &self.source);
        block.push(record, alerted);
    }

    fn remember(&mut self, record: &Record<'_>) {
        let Ok(decoded) = decode::decode(record, &self.bounds) else { return };
        if decode::forward(&decoded, record, &self.bounds, self.source.partition).is_some() {
            return;
        }
        let checked = verify::verify(decoded, record, &self.snapshots.verify);
        let enriched = enrich::enrich(checked, &self.snapshots.enrich, &mut self.enricher);
        self.detector.detect(enriched, record, &self.snapshots.detect);
    }
}
