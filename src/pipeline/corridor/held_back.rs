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
use std::time::Duration;

use super::Context;
use super::lane::LaneError;
use crate::log::{Batch, Origin};
use crate::model::{Offset, UnixMs};
use crate::pipeline::decode::{self, RETRIED_HEADER};
use crate::pipeline::patience::Patience;

/// What a part may span of append times: less than the ten minutes for which `detect` remembers ids.
const PART_SPAN: Duration = Duration::from_secs(9 * 60);

impl Context {
    /// What of `range` may be walked together, and whether everything before it must be settled first: up to the first
    /// record that was held back, or a part that begins with one.
    pub(super) fn part(&self, batch: &Batch, range: Range<usize>) -> (Range<usize>, bool) {
        if !batch.has_header(RETRIED_HEADER) {
            return (range, false);
        }
        let was_held_back = |record| decode::retried(&record, &self.retried_key).is_some();
        match batch.slice(range.clone()).position(was_held_back) {
            None => (range, false),
            Some(0) => {
                let mut times = batch.slice(range.clone()).map(|record| record.append_time);
                let until = times.next().map_or(UnixMs::default(), |first| first + PART_SPAN);
                let more = times.take_while(|time| *time <= until).count();
                (range.start..range.start + 1 + more, true)
            }
            Some(ordinary) => (range.start..range.start + ordinary, false),
        }
    }

    /// Those of the held-back records of `range` that are repeats if they are attested (`true`), or if they are not: as
    /// for [`crate::pipeline::LaneWalk::drop_repeats`]. Asks until ClickHouse answers.
    pub(super) async fn repeats(
        &self,
        origin: &Origin,
        batch: &Batch,
        range: Range<usize>,
        patience: &Patience,
    ) -> Result<HashSet<(Offset, bool)>, LaneError> {
        if !batch.has_header(RETRIED_HEADER) {
            return Ok(HashSet::new());
        }
        let (mut names, mut offsets, mut since) = (Vec::new(), Vec::new(), UnixMs::new(i64::MAX));
        for record in batch.slice(range) {
            if let Some(retried) = decode::retried(&record, &self.retried_key) {
                since = since.min(retried.since);
                names.push((retried.tenant, retried.gateway, retried.event_id));
                offsets.push(record.offset);
            }
        }
        if names.is_empty() {
            return Ok(HashSet::new());
        }
        let stored = patience.wait_out(|| self.store.stored_at(origin, &names, since)).await?;
        let mut repeats = HashSet::new();
        for (name, offset) in names.into_iter().zip(offsets) {
            for attested in [false, true] {
                if stored.get(&(name.clone(), attested)).is_some_and(|at| *at < offset) {
                    repeats.insert((offset, attested));
                }
            }
        }
        Ok(repeats)
    }
}
