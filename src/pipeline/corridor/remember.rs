//! What a new owner must know before it walks on: the state that the owner before it had (PROMISE, clause 3).
//!
//! It lies in `jwtrail.state` as of some offset, and the records from there on are walked again for state alone. Where it
//! does not, or cannot be read, the last 50 hours are. That is all that findings rest on, but for what is usual for a
//! subject, which takes a month to learn: less is usual after such a walk, so that a case may be louder than it would have
//! been, and may be told again, but none is silent.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::held_back::fetch;
use super::lane::{BATCH_RECORDS, LaneError};
use super::{Context, Course};
use crate::log::{Assigned, Batch, LogError, Origin, Topic};
use crate::model::{LogId, Offset, PartitionId};
use crate::pipeline::detect::Restoring;
use crate::pipeline::patience::Patience;
use crate::pipeline::settle::Adopted;
use crate::pipeline::{LaneWalk, Snapshots, Walk, decode};
use crate::telemetry::ByWay;

/// Records that are walked for state alone reach back this far before the commit, in append time: a case of 24 hours
/// rests on pairs that are up to 20 hours older.
const STATE_SPAN: Duration = Duration::from_secs(50 * 60 * 60);

crate::model::words! {
    /// Where a new owner has the state from.
    Way {
        Checkpoint = "checkpoint",
        /// The last 50 hours were walked again.
        Walk = "walk",
    }
}

/// A walk that knows what the former owner knew.
pub(super) struct Remembered {
    pub(super) walk: Box<dyn LaneWalk>,
    /// Where the checkpoint was made that it was restored from.
    pub(super) state: Option<Offset>,
}

/// Builds the state that belongs before `adopted.resume_at`, and leaves the lane there.
pub(super) async fn remember(
    context: &Arc<Context>,
    course: Course,
    assigned: &Assigned,
    patience: &Patience,
    adopted: &Adopted,
    snapshots: Snapshots,
) -> Result<Remembered, LaneError> {
    let (began, partition, topic) = (Instant::now(), assigned.partition, course.topic());
    let bounds = decode::Bounds {
        log: adopted.log.clone(),
        forwarded_through: adopted.ask_through,
        ..context.bounds.clone()
    };
    let Remembered { walk, state } = if course.has_checkpoints() {
        let found = patience.wait_out(|| read_state(context, partition, &adopted.log)).await?;
        let state = adopted.state;
        let built = move || build(bounds, snapshots, partition, &found, state);
        context.workers.run(partition, built).await?
    } else {
        Remembered { walk: course.begin(bounds, snapshots, partition), state: None }
    };
    let read_seconds = began.elapsed().as_secs_f64();
    let resume = adopted.resume_at.offset();
    let (way, from) = match state {
        Some(state) => (Way::Checkpoint, state),
        None => (Way::Walk, fifty_hours_before(context, topic, assigned, patience, resume).await?),
    };
    let origin = Origin { log: adopted.log.clone(), topic, partition };
    let mut walk = walk_again(context, &origin, assigned, patience, from..resume, walk).await?;
    if state.is_none() && from > Offset::ZERO {
        walk.doubt();
    }
    let seconds = began.elapsed().as_secs_f64();
    let by = ByWay { way: way.as_str() };
    context.metrics.state_restored_seconds.get_or_create(&by).observe(seconds);
    let size = walk.size();
    tracing::info!(
        kafka.topic = topic.name(), kafka.partition = partition.0, way = %way, walked_from = %from,
        resume_at = %resume, read_seconds, seconds, subjects = size.subjects, tokens = size.tokens,
        cases = size.cases, "the state is restored"
    );
    Ok(Remembered { walk, state })
}

/// The walk that was found, or one that knows nothing.
fn build(
    bounds: decode::Bounds,
    snapshots: Snapshots,
    partition: PartitionId,
    found: &Restoring,
    state: Option<Offset>,
) -> Remembered {
    if let Some(at) = state {
        match Walk::restore(bounds.clone(), snapshots.clone(), partition, found, at) {
            Ok(walk) => return Remembered { walk: Box::new(walk), state },
            Err(error) => tracing::warn!(
                kafka.partition = partition.0, code = error.code(), %error,
                "the state is built by walking the log again"
            ),
        }
    }
    Remembered { walk: Box::new(Walk::start_anew(bounds, snapshots, partition, found)), state: None }
}

/// Everything that lies in the partition's state topic, whoever wrote it.
async fn read_state(context: &Context, partition: PartitionId, log: &LogId) -> Result<Restoring, LogError> {
    let mut scan = context.log.scan(Topic::State, partition, None).await?;
    let (mut found, mut batch) = (Restoring::new(log), Batch::default());
    while scan.next(&mut batch, BATCH_RECORDS).await? {
        for record in batch.iter() {
            found.take(record.key.unwrap_or_default(), record.value);
        }
    }
    Ok(found)
}

/// The last settled record tells when the commit was: the state reaches back from there, not from now.
async fn fifty_hours_before(
    context: &Context,
    topic: Topic,
    assigned: &Assigned,
    patience: &Patience,
    resume: Offset,
) -> Result<Offset, LaneError> {
    let (start, lane) = (assigned.start, assigned.lane.as_ref());
    let Some(last) = resume.before().filter(|last| *last >= start) else { return Ok(resume) };
    let mut batch = Batch::default();
    patience.wait_out(|| lane.seek(last)).await?;
    fetch(lane, &mut batch, 1, patience).await?;
    let settled_at = batch.slice(0..batch.len().min(1)).next().map(|record| record.append_time);
    let from = match settled_at {
        Some(time) => {
            let at = || context.log.offset_at(topic, assigned.partition, time - STATE_SPAN);
            patience.wait_out(at).await?
        }
        None => start,
    };
    Ok(from.clamp(start.min(resume), resume))
}

/// Walks records for state alone: they are settled already. Leaves the lane at their end.
async fn walk_again(
    context: &Arc<Context>,
    origin: &Origin,
    assigned: &Assigned,
    patience: &Patience,
    settled: Range<Offset>,
    mut walk: Box<dyn LaneWalk>,
) -> Result<Box<dyn LaneWalk>, LaneError> {
    let (lane, partition) = (assigned.lane.as_ref(), assigned.partition);
    let (mut batch, mut position) = (Batch::default(), settled.start);
    patience.wait_out(|| lane.seek(position)).await?;
    while position < settled.end {
        let fetched = context.fetch(lane, partition, batch, patience).await?;
        position = fetched.batch.position().unwrap_or(position);
        let range = 0..fetched.batch.count_before(settled.end);
        walk.drop_repeats(context.repeats(origin, &fetched, range.clone(), patience).await?);
        batch = fetched.batch;
        (walk, batch) = context
            .workers
            .run(partition, move || {
                walk.walk(&batch, range, None);
                (walk, batch)
            })
            .await?;
    }
    // The last batch may have read past it.
    patience.wait_out(|| lane.seek(settled.end)).await?;
    Ok(walk)
}
