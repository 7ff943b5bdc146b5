//! One partition's life while it is ours: take it over, remember, then fetch → walk → settle until told to stop.
//!
//! Two things go on at the same time: the *step* (fetch a batch, or walk it on a worker thread) and the *settling* of
//! the block that was cut last (at most one in flight). Everything they share is handed over by value. Where nothing
//! comes, the owner appends a *tick* if a timer of the walk waits for one.

mod beside;
mod settling;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::checkpoints::Checkpoints;
use super::held_back::Fetched;
use super::remember::{Remembered, remember};
use super::workers::WorkerGone;
use super::{Context, Course, trouble};
use crate::log::{Assigned, Batch, Lane, LogError};
use crate::model::{LogId, Offset, PartitionId};
use crate::pipeline::LaneWalk;
use crate::pipeline::detect::Checkpoint;
use crate::pipeline::patience::Patience;
use crate::pipeline::settle::{self, Adopted, SettleError, Settler};
use crate::pipeline::store::{Block, Origin, StoreError};
use beside::Beside;
use settling::{InFlight, checkpointed, settled};

/// What a lane is told by whoever runs the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orders {
    Walk,
    /// Settle what was walked, then end.
    Finish,
    /// End now; commit nothing.
    Drop,
}

/// Why a lane ended by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Settle(#[from] SettleError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Worker(#[from] WorkerGone),
}

impl LaneError {
    /// Whether somebody else has the partition: ending is all there is to do.
    pub(super) const fn is_not_owner(&self) -> bool {
        matches!(
            self,
            Self::Log(LogError::NotHeld { .. })
                | Self::Settle(SettleError::NotOwner(_) | SettleError::Log(LogError::NotHeld { .. }))
        )
    }
}

/// At most so many records a batch: what is walked without a look at the orders.
pub(super) const BATCH_RECORDS: usize = 4_096;

/// A block being filled, and everything that fills it. It goes to the worker thread and comes back whole.
struct Filling {
    walk: Box<dyn LaneWalk>,
    block: Block,
    /// Everything before this offset was read: records, or holes that transactions left.
    position: Offset,
}

/// Something under way, kept between two looks at it.
type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, LaneError>> + Send>>;

/// What the step is busy with. There is none while the block is full and waits for the settling.
enum Step {
    Fetching(Boxed<Fetched>),
    Walking(Boxed<(Filling, Fetched)>),
}

#[expect(clippy::large_enum_variant, reason = "one a lane, and it lives for a line")]
enum Stepped {
    Fetched(Fetched),
    Walked(Filling, Fetched),
}

async fn stepped(step: &mut Option<Step>) -> Result<Stepped, LaneError> {
    match step {
        Some(Step::Fetching(fetching)) => Ok(Stepped::Fetched(fetching.await?)),
        Some(Step::Walking(walking)) => {
            let (filling, fetched) = walking.await?;
            Ok(Stepped::Walked(filling, fetched))
        }
        None => std::future::pending().await,
    }
}

/// Walks one partition until the orders change or it is lost.
pub(super) async fn run(
    context: Arc<Context>,
    course: Course,
    assigned: Assigned,
    mut orders: watch::Receiver<Orders>,
) -> Result<(), LaneError> {
    let patience = Arc::new(Patience::default());
    let told = trouble::tell(&context, course, assigned.partition, patience.troubles());
    let walked = async {
        let lane = tokio::select! {
            begun = OwnedLane::begin(&context, course, &assigned, &patience) => begun?,
            _ = orders.wait_for(|orders| *orders != Orders::Walk) => return Ok(()),
        };
        lane.run(orders).await
    };
    // The walk first: what it waits for is told while it does.
    tokio::select! {
        biased;
        outcome = walked => outcome,
        never = told => match never {},
    }
}

/// One owned partition.
struct OwnedLane {
    context: Arc<Context>,
    course: Course,
    lane: Arc<dyn Lane>,
    partition: PartitionId,
    patience: Arc<Patience>,
    log: LogId,
    adopted: Adopted,
    settler: Arc<Settler>,
    /// `None` while it is away on a worker thread.
    filling: Option<Filling>,
    /// When the block being filled got its first record.
    filling_since: Option<Instant>,
    /// Set until the block that a former owner had reserved is walked again: it must end exactly here.
    must_end_at: Option<Offset>,
    /// Records that were fetched and belong to the next block.
    rest: Option<Fetched>,
    /// An empty batch, kept for its memory.
    spare: Batch,
    /// Stored, but its end is not committed yet.
    stored: Option<InFlight>,
    settling: Option<Boxed<Option<InFlight>>>,
    checkpoints: Checkpoints,
    /// The filling is away for it: the state must not move on before it is written down.
    checkpointing: Option<Boxed<(Filling, Checkpoint)>>,
    /// Since when nothing was read, or was looked for a timer that waits.
    quiet_since: Instant,
    ticking: Beside<Option<Offset>>,
    /// The tick that was appended last: until it was read, there need be no other.
    ticked: Option<Offset>,
    lag_measured: Instant,
    measuring: Beside<()>,
}

impl OwnedLane {
    /// Takes the partition over: finds out where to go on, and walks what came before for state alone.
    async fn begin(
        context: &Arc<Context>,
        course: Course,
        assigned: &Assigned,
        patience: &Arc<Patience>,
    ) -> Result<Self, LaneError> {
        let (partition, lane) = (assigned.partition, Arc::clone(&assigned.lane));
        let adopted = patience.wait_out(|| adopt(context, course, assigned)).await?;
        let log = adopted.log.clone();
        let origin = Origin { log: log.clone(), topic: course.topic(), partition };
        if let Some(gone) = adopted.truncated {
            context.tell_truncated(&origin, gone, patience).await?;
        }
        patience.wait_out(|| adopted.commit(lane.as_ref())).await?;
        if let Some(gone) = adopted.truncated {
            context.count_truncated(gone);
        }
        let snapshots = context.snapshots();
        let name = Arc::clone(&snapshots.name);
        let resume = adopted.resume_at.offset();
        let Remembered { walk, state } =
            remember(context, course, assigned, patience, &adopted, snapshots).await?;
        tracing::info!(
            kafka.topic = course.topic().name(), kafka.partition = partition.0, log.id = %log, resume_at = %resume,
            start = %assigned.start, end = %assigned.end, unfinished = adopted.unfinished.is_some(),
            "the partition is ours"
        );
        let block = new_block(context, origin, resume, name);
        Ok(Self {
            context: Arc::clone(context),
            course,
            settler: Arc::new(Settler::new(Arc::clone(&lane), &adopted, state)),
            lane,
            partition,
            patience: Arc::clone(patience),
            log,
            must_end_at: adopted.unfinished,
            adopted,
            filling: Some(Filling { walk, block, position: resume }),
            filling_since: None,
            rest: None,
            spare: Batch::default(),
            stored: None,
            settling: None,
            checkpoints: Checkpoints::new(context.pace.checkpoint),
            checkpointing: None,
            quiet_since: Instant::now(),
            ticking: Beside::default(),
            ticked: None,
            lag_measured: Instant::now(),
            measuring: Beside::default(),
        })
    }

    async fn run(mut self, mut orders: watch::Receiver<Orders>) -> Result<(), LaneError> {
        let mut step = None;
        loop {
            let now = *orders.borrow_and_update();
            if now == Orders::Drop {
                return Ok(());
            }
            let finishing = now == Orders::Finish;
            if finishing && matches!(step, Some(Step::Fetching(_))) {
                step = None;
            }
            self.settle_what_is_due(finishing);
            if step.is_none() && !finishing {
                step = self.next_step();
            }
            if finishing && step.is_none() && self.settling.is_none() && self.checkpointing.is_none() {
                return Ok(());
            }
            let due = self.due_at().filter(|_| self.settling.is_none() && self.filling.is_some());
            let quiet = self.quiet_until(step.as_ref());
            let measure = self.measure_at();
            // Nothing is lost when another branch wins: the futures stay where they are and are polled again.
            tokio::select! {
                stepped = stepped(&mut step) => {
                    step = None;
                    match stepped? {
                        Stepped::Fetched(fetched) => {
                            if !fetched.batch.is_empty() {
                                self.quiet_since = Instant::now();
                            }
                            self.rest = Some(fetched);
                        }
                        Stepped::Walked(filling, fetched) => self.take_back(filling, fetched),
                    }
                }
                settled = settled(&mut self.settling) => {
                    self.settling = None;
                    self.stored = settled?;
                }
                checkpointed = checkpointed(&mut self.checkpointing) => {
                    self.checkpointing = None;
                    let (filling, checkpoint) = checkpointed?;
                    self.filling = Some(filling);
                    self.checkpoints.take_back(checkpoint);
                }
                () = sleep_until(due) => {}
                () = sleep_until(quiet) => self.let_time_pass(),
                ticked = self.ticking.ended() => self.ticked = ticked,
                () = sleep_until(measure) => self.measure_lag(),
                () = self.measuring.ended() => {}
                // The member is gone without an order: the process aborts.
                changed = orders.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    fn take_back(&mut self, filling: Filling, fetched: Fetched) {
        if self.filling_since.is_none() && !filling.block.is_empty() {
            self.filling_since = Some(Instant::now());
        }
        self.filling = Some(filling);
        if fetched.walked < fetched.batch.len() {
            self.rest = Some(fetched);
        } else {
            self.spare = fetched.batch;
        }
    }

    /// Walk what was fetched, else fetch; nothing while the block is full.
    fn next_step(&mut self) -> Option<Step> {
        if self.filling.as_ref().is_none_or(|filling| self.is_complete(filling)) {
            return None;
        }
        if let Some(fetched) = self.rest.take() {
            let range = self.range_for_block(&fetched);
            let (part, alone) = fetched.part(range.clone());
            // A reserved block cannot wait for its own end; what lies before it is settled.
            if self.must_end_at.is_some() {
                return self.walk_on(fetched, range);
            }
            if alone && !self.is_settled() {
                self.rest = Some(fetched);
                return None;
            }
            return self.walk_on(fetched, part);
        }
        let (context, lane, partition, patience) =
            (Arc::clone(&self.context), Arc::clone(&self.lane), self.partition, Arc::clone(&self.patience));
        let batch = std::mem::take(&mut self.spare);
        // Dropped when the lane is to finish: what was fetched and not walked is the next owner's.
        let fetching = async move { context.fetch(lane.as_ref(), partition, batch, &patience).await };
        Some(Step::Fetching(Box::pin(fetching)))
    }

    /// Whether all that was walked is settled.
    fn is_settled(&self) -> bool {
        let is_empty = self.filling.as_ref().is_some_and(|filling| filling.block.is_empty());
        is_empty && self.settling.is_none() && self.stored.is_none()
    }

    fn walk_on(&mut self, mut fetched: Fetched, range: Range<usize>) -> Option<Step> {
        let Filling { mut walk, mut block, position } = self.filling.take()?;
        self.checkpoints.walked(range.len());
        // Everything before the batch's position was read, unless only a part of it is walked now; what lies past a
        // reserved end is not this block's.
        let left = fetched.batch.slice(range.end..fetched.batch.len()).next().map(|record| record.offset);
        let read =
            left.filter(|_| self.must_end_at.is_none()).or(fetched.batch.position()).unwrap_or(position);
        let limit = self.must_end_at.map_or(read, |end| end.resume_after().offset());
        let position = position.max(read.min(limit));
        let (context, partition, patience) =
            (Arc::clone(&self.context), self.partition, Arc::clone(&self.patience));
        let origin = Origin { log: self.log.clone(), topic: self.course.topic(), partition };
        Some(Step::Walking(Box::pin(async move {
            walk.drop_repeats(context.repeats(&origin, &fetched, range.clone(), &patience).await?);
            let walked = context.workers.run(partition, move || {
                walk.walk(&fetched.batch, range.clone(), Some(&mut block));
                fetched.walked = range.end;
                (Filling { walk, block, position }, fetched)
            });
            let (mut filling, fetched) = walked.await?;
            // An alert does not wait for its block; the block's release waits for its alerts.
            context.tell(filling.block.take_alerts(), &patience).await?;
            Ok((filling, fetched))
        })))
    }

    /// The records that still belong to the block being filled.
    fn range_for_block(&self, fetched: &Fetched) -> Range<usize> {
        let end = match self.must_end_at {
            Some(end) => fetched.batch.count_before(end.resume_after().offset()),
            None => fetched.batch.len(),
        };
        fetched.walked..end.max(fetched.walked)
    }

    /// Whether the block takes no more records. One that a former owner reserved goes on to its end however large it
    /// gets: its records may come in other batches this time, and it may be called full at another one.
    fn is_complete(&self, filling: &Filling) -> bool {
        match self.must_end_at {
            Some(end) => filling.position > end,
            None => filling.block.is_full(self.context.owned()),
        }
    }
}

fn new_block(context: &Context, origin: Origin, first: Offset, snapshots: Arc<str>) -> Block {
    let (retention, seals) = (Arc::clone(&context.retention), Arc::clone(&context.bounds.seals));
    Block::new(origin, first, retention, snapshots, seals)
}

async fn adopt(context: &Context, course: Course, assigned: &Assigned) -> Result<Adopted, SettleError> {
    settle::adopt(assigned, course.topic(), &context.store, context.adopt).await
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
