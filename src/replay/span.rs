//! A past span of the log: both walks, every partition in its order, with fresh state.

use std::time::Duration;

use super::{ReplayError, Walked};
use crate::log::{Batch, EventLog, Topic};
use crate::model::{Offset, PartitionId, UnixMs};
use crate::pipeline::LaneWalk;
use crate::pipeline::corridor::Course;

/// So much before the span is walked for state alone: a case of 24 hours rests on pairs that are up to 20 hours older
/// (PROMISE, clause 3).
const RUN_UP: Duration = Duration::from_secs(50 * 60 * 60);

/// Records a batch.
const BATCH_RECORDS: usize = 4_096;

/// In append time. Open ends are the log's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Option<UnixMs>,
    /// Exclusive.
    pub(crate) to: Option<UnixMs>,
}

/// What the span is in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) topic: Topic,
    pub(crate) partition: PartitionId,
    pub(crate) first: Offset,
    /// One past the last.
    pub(crate) end: Offset,
    /// Whether all that its cases may rest on was walked: the log has not lost it.
    pub(crate) is_whole: bool,
    /// Whether the log was walked from its first record on: then what is usual for subjects is known as it was then.
    pub(crate) from_the_first: bool,
}

/// Walks the span; `walk` gives a fresh walk for a partition. Findings are those of which the span's own records made a
/// revision, as the last of these left them. `progress` hears of every batch: how many records have been walked.
pub(crate) async fn span(
    log: &dyn EventLog,
    walk: impl Fn(Course, PartitionId) -> Box<dyn LaneWalk>,
    span: Span,
    mut progress: impl FnMut(Topic, PartitionId, u64),
) -> Result<(Walked, Vec<Piece>), ReplayError> {
    let (mut walked, mut pieces, mut records) = (Walked::default(), Vec::new(), 0);
    let mut batch = Batch::default();
    for course in Course::ALL {
        let topic = course.topic();
        for partition in (0..log.partitions(topic).await?).map(PartitionId) {
            let at = async |time| match time {
                Some(time) => log.offset_at(topic, partition, time).await.map(Some),
                None => Ok(None),
            };
            let begin = at(span.from.map(|from| from - RUN_UP)).await?;
            let (first, end) = (at(span.from).await?, at(span.to).await?);
            let mut scan = log.scan(topic, partition, begin).await?;
            let end = end.map_or(scan.end(), |end| end.min(scan.end()));
            let first = first.map_or(scan.start(), |first| first.max(scan.start())).min(end);
            let is_whole = scan.start() == Offset::ZERO || begin.is_some_and(|begin| begin > scan.start());
            let begins_at = begin.map_or(scan.start(), |begin| begin.max(scan.start()));
            let from_the_first = begins_at == Offset::ZERO;
            pieces.push(Piece { topic, partition, first, end, is_whole, from_the_first });
            let mut walk = walk(course, partition);
            while scan.next(&mut batch, BATCH_RECORDS).await? {
                let within = 0..batch.count_before(end);
                let through = within.end < batch.len();
                records += within.len() as u64;
                // The walk is pure and long: not on a thread that carries I/O.
                (walk, walked, batch) = tokio::task::spawn_blocking(move || {
                    for record in batch.slice(within) {
                        if record.offset < first {
                            walk.step(&record);
                        } else {
                            walked.step(walk.as_mut(), &record, (topic, partition), |_| ());
                        }
                    }
                    (walk, walked, batch)
                })
                .await?;
                progress(topic, partition, records);
                if through {
                    break;
                }
            }
        }
    }
    Ok((walked, pieces))
}
