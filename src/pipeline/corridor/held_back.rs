//! Records that were held back while the log was away, and may lie in it twice: looked up before they are walked.
//!
//! Such a record R is a repeat if a row of its event, attested as R is or is not, lies at a lower offset of the same
//! partition: for a copy has the same key, and where a record is forwarded its copy is looked up at home. This is a function of the log alone, so
//! that every walk decides the same:
//!
//! - A first walk asks only when everything before R's part is settled. The part spans less than the ids that `detect`
//!   remembers, so a copy within it is found there; a copy before it has its row. R's own row, and rows behind it, which
//!   a repeated walk may find, do not count.
//! - A block that a former owner reserved is asked for at once: what lies before it is settled, and it has no more than
//!   one part of held-back records, at its beginning, for a first walk does not begin the next part before it is cut.
//! - A walk for state alone asks as well: what was dropped then must not be seen by the rules now.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;

use super::Context;
use super::lane::{BATCH_RECORDS, LaneError};
use crate::log::{Batch, Lane, LogError, Origin};
use crate::model::{Offset, PartitionId, UnixMs};
use crate::pipeline::decode::{self, RETRIED_HEADER};
use crate::pipeline::patience::Patience;
use crate::pipeline::store::HeldBack;

/// What a part may span of append times: less than the ten minutes for which `detect` remembers ids.
const PART_SPAN: Duration = Duration::from_secs(9 * 60);

/// A batch, how many of its records have been walked, and which of them were held back.
#[derive(Default)]
pub(super) struct Fetched {
    pub(super) batch: Batch,
    pub(super) walked: usize,
    /// In order, each with its place in the batch.
    held_back: Vec<(usize, HeldBack)>,
}

impl Fetched {
    fn of(batch: Batch, retried_key: &hmac::Key) -> Self {
        let held_back = batch.iter().enumerate().filter_map(|(place, record)| {
            let retried = decode::retried(&record, retried_key)?;
            let event = (retried.tenant, retried.gateway, retried.event_id);
            Some((place, HeldBack { offset: record.offset, event, since: retried.since }))
        });
        Self { held_back: held_back.collect(), walked: 0, batch }
    }

    /// What of `range` may be walked together, and whether everything before it must be settled first: up to the first
    /// record that was held back, or a part that begins with one.
    pub(super) fn part(&self, range: Range<usize>) -> (Range<usize>, bool) {
        match self.held_back.iter().find(|(place, _)| range.contains(place)) {
            None => (range, false),
            Some(&(place, _)) if place == range.start => {
                let mut times = self.batch.slice(range.clone()).map(|record| record.append_time);
                let until = times.next().map_or(UnixMs::default(), |first| first + PART_SPAN);
                let more = times.take_while(|time| *time <= until).count();
                (range.start..range.start + 1 + more, true)
            }
            Some(&(place, _)) => (range.start..place, false),
        }
    }
}

impl Context {
    /// Reads the next records into a batch that is no longer used; waits until the log can be read. Seals are checked once
    /// a record, on the partition's thread.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        lane: &dyn Lane,
        partition: PartitionId,
        mut batch: Batch,
        patience: &Patience,
    ) -> Result<Fetched, LaneError> {
        fetch(lane, &mut batch, BATCH_RECORDS, patience).await?;
        if !batch.has_header(RETRIED_HEADER) {
            return Ok(Fetched { batch, ..Fetched::default() });
        }
        let context = Arc::clone(self);
        Ok(self.workers.run(partition, move || Fetched::of(batch, &context.bounds.seals.retried)).await?)
    }

    /// Those of the held-back records of `range` that are repeats if they are attested (`true`), or if they are not: as
    /// for [`crate::pipeline::LaneWalk::drop_repeats`]. Asks until ClickHouse answers.
    pub(super) async fn repeats(
        &self,
        origin: &Origin,
        fetched: &Fetched,
        range: Range<usize>,
        patience: &Patience,
    ) -> Result<HashSet<(Offset, bool)>, LaneError> {
        let within = fetched.held_back.iter().filter(|(place, _)| range.contains(place));
        let records: Vec<HeldBack> = within.map(|(_, record)| record.clone()).collect();
        if records.is_empty() {
            return Ok(HashSet::new());
        }
        Ok(patience.wait_out(|| self.store.stored_before(origin, &records)).await?)
    }
}

/// Fills the batch; waits until the log can be read.
pub(super) async fn fetch(
    lane: &dyn Lane,
    batch: &mut Batch,
    max: usize,
    patience: &Patience,
) -> Result<(), LogError> {
    let mut waiting = patience.waiting();
    while let Err(error) = lane.next(batch, max).await {
        waiting.failed(error).await?;
    }
    Ok(())
}
