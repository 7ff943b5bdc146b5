//! The second walk: over `jwtrail.summaries`, with the rules about what is spread over partitions.
//!
//! ```text
//! Record ─read→ Summary ─detect→ cases ─alert→ Found ─store→ Stored ─settle→ offset
//! ```
//!
//! The same lanes, blocks, findings, outbox and commits as the walk of the events; no record leaves a row.

use std::ops::Range;

use super::detect::{GatewayDetector, StateSize};
use super::store::Block;
use super::{LaneWalk, Snapshots, WayOut, alert, decode, summarize};
use crate::log::{Batch, NewRecord, Origin, Record, Topic};
use crate::model::{Offset, PartitionId, UnixMs};

/// One partition's walk over summaries.
pub(crate) struct SummaryWalk {
    bounds: decode::Bounds,
    snapshots: Snapshots,
    detector: GatewayDetector,
    origin: Origin,
}

impl SummaryWalk {
    pub(crate) fn new(bounds: decode::Bounds, snapshots: Snapshots, partition: PartitionId) -> Self {
        let origin = Origin { log: bounds.log.clone(), topic: Topic::Summaries, partition };
        Self { bounds, snapshots, detector: GatewayDetector::default(), origin }
    }

    /// What a tick or a summary comes to. What is neither was written by somebody else.
    fn judge(&mut self, record: &Record<'_>) -> Result<alert::Found, decode::Rejected> {
        let cases = if decode::is_tick(record, &self.bounds) {
            self.detector.tick(record)
        } else {
            self.detector.detect(
                &summarize::read(record, &self.bounds.seals)?,
                record,
                &self.snapshots.detect,
            )
        };
        Ok(alert::judge(cases, &self.snapshots.alert, &self.origin))
    }
}

impl LaneWalk for SummaryWalk {
    /// Every summary is control.
    fn step<'r>(&mut self, record: &Record<'r>) -> WayOut<'r> {
        self.judge(record).map_or_else(WayOut::Rejected, WayOut::Control)
    }

    fn use_snapshots(&mut self, snapshots: Snapshots) {
        self.snapshots = snapshots;
    }

    fn walk(&mut self, batch: &Batch, range: Range<usize>, mut block: Option<&mut Block>) {
        for record in batch.slice(range) {
            let judged = self.judge(&record);
            let Some(block) = block.as_deref_mut() else { continue };
            match judged {
                Ok(found) => block.control(&record, found),
                Err(rejected) => block.reject(&record, rejected),
            }
        }
    }

    fn next_due(&self) -> Option<UnixMs> {
        self.detector.next_due()
    }

    fn tick(&self, position: Offset) -> NewRecord {
        decode::tick(&self.bounds, self.origin.partition, position)
    }

    fn size(&self) -> StateSize {
        self.detector.size()
    }
}
