//! The corridor: everything that is I/O around the pure rooms. It joins the group, gives each owned partition a lane,
//! divides the walking among a few threads, and lets a partition go only when its lane has ended.

mod checkpoints;
mod course;
mod gauges;
mod held_back;
mod lane;
mod remember;
mod trouble;
mod workers;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::{Assigned, EventLog, LogError, MemberEvent, NewRecord, RevokeDone, Topic};
use crate::model::{Alert, PartitionId, UnixMs};
use crate::pipeline::alert::outbox_record;
use crate::pipeline::detect::Checkpoint;
use crate::pipeline::patience::{Part, Patience};
use crate::pipeline::settle::{Adopt, Truncated};
use crate::pipeline::store::{CutBlock, Origin, Raised, Retention, Store, Stored};
use crate::pipeline::{SnapshotSource, Snapshots, alert, decode};
use crate::telemetry::{ByReason, ByRule, ByStage, ByStep, Condition, Metrics, Outcome, Readiness, Stage};
pub(crate) use checkpoints::CheckpointPace;
pub(crate) use course::Course;
pub(crate) use gauges::Gauges;
use lane::{LaneError, Orders};
use trouble::Delays;
pub(crate) use workers::Workers;

/// How long things wait for others: how old a block may get (PROMISE, clause 1; how large is the store's business), and
/// how long a partition is quiet before its owner may let time pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) min_age: Duration,
    /// Many partitions share one ClickHouse: each then inserts less often.
    pub(crate) age_per_partition: Duration,
    /// Without records for so long, a partition gets a tick if a timer of its walk waits for one.
    pub(crate) tick_after: Duration,
    /// How often the log and ClickHouse are asked for a sign of life.
    pub(crate) probe_every: Duration,
    pub(crate) checkpoint: CheckpointPace,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            min_age: Duration::from_millis(250),
            age_per_partition: Duration::from_millis(50),
            tick_after: Duration::from_secs(10),
            probe_every: Duration::from_secs(5),
            checkpoint: CheckpointPace::default(),
        }
    }
}

impl Pace {
    fn age(&self, owned: usize) -> Duration {
        let share = self.age_per_partition * u32::try_from(owned).unwrap_or(u32::MAX);
        self.min_age.max(share)
    }
}

/// Hears alerts.
pub(crate) type AlertListener = Box<dyn Fn(&Alert) + Send + Sync>;

/// What all lanes of a process share.
pub(crate) struct Context {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Store,
    pub(crate) retention: Arc<Retention>,
    pub(crate) workers: Workers,
    /// Gives the newest snapshots, whenever a block is cut.
    pub(crate) snapshots: SnapshotSource,
    /// The bounds of every lane's walk; each lane puts its own log id in.
    pub(crate) bounds: decode::Bounds,
    pub(crate) adopt: Option<Adopt>,
    pub(crate) pace: Pace,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Hears each alert that reached the outbox: the demo prints them.
    pub(crate) on_alert: Option<AlertListener>,
    pub(crate) clock: Clock,
    pub(crate) gauges: Gauges,
}

impl Context {
    fn snapshots(&self) -> Snapshots {
        (self.snapshots)()
    }

    fn owned(&self) -> usize {
        self.gauges.owned()
    }

    /// Puts alerts into the durable outbox; tries until it can.
    async fn tell(&self, alerts: Vec<Raised>, patience: &Patience) -> Result<(), LaneError> {
        if alerts.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let records: Vec<NewRecord> = alerts.iter().map(|raised| outbox_record(&raised.alert)).collect();
        patience.wait_out(|| self.log.append(Topic::Alerts, records.clone())).await?;
        self.stage(Stage::Published, began);
        for Raised { alert, appended_at } in &alerts {
            self.metrics.append_to_outbox_seconds.observe(self.seconds_since(*appended_at));
            self.metrics.alerts_published.get_or_create(&ByStep { step: alert.step.as_str() }).inc();
            if let Some(on_alert) = &self.on_alert {
                on_alert(alert);
            }
        }
        Ok(())
    }

    /// Records left the log before they were walked: nobody can bring them back, and somebody must know.
    async fn tell_truncated(
        &self,
        origin: &Origin,
        gone: Truncated,
        patience: &Patience,
    ) -> Result<(), LaneError> {
        let Truncated { from, to } = gone;
        tracing::error!(
            kafka.partition = origin.partition.0, %from, %to,
            "records were gone from the log before they were walked"
        );
        let (now, policy) = (self.clock.now(), self.snapshots().alert);
        let alert = alert::log_truncated(origin, from, to, now, &policy);
        patience.wait_out(|| self.store.put_finding(&alert)).await?;
        if alert.data.finding.is_alert {
            self.tell(vec![Raised { alert, appended_at: now }], patience).await?;
        }
        Ok(())
    }

    /// Once it is told and the commit has passed it: the next owner does not find it again.
    fn count_truncated(&self, Truncated { from, to }: Truncated) {
        self.metrics.offsets_truncated.inc_by(to.get().abs_diff(from.get()));
    }

    /// Seconds since an append: the log's clock and ours may differ by some.
    fn seconds_since(&self, appended_at: UnixMs) -> f64 {
        self.clock.now().since_ms(appended_at).max(0) as f64 / 1_000.0
    }

    /// A block has been released: its records are settled for good.
    fn settled(&self, partition: PartitionId, block: &CutBlock, stored: &Stored) {
        let counts = &stored.counts;
        // Counted here, where it counts once: who drops a block leaves its records to the next owner.
        self.metrics.records_consumed.inc_by(block.walked());
        for (rule, cases) in block.opened() {
            self.metrics.findings_opened.get_or_create(&ByRule { rule: rule.as_str() }).inc_by(*cases);
        }
        self.metrics.tokens_masked.inc_by(block.masked());
        self.metrics.settled(Outcome::Stored, counts.stored);
        self.metrics.settled(Outcome::Dropped, counts.dropped());
        self.metrics.settled(Outcome::DeadLettered, counts.dead_letters());
        self.metrics.settled(Outcome::Forwarded, counts.forwarded);
        self.metrics.settled(Outcome::Control, counts.control);
        for (reason, records) in &counts.dead {
            let by = ByReason { reason: reason.as_str() };
            self.metrics.records_dead_lettered.get_or_create(&by).inc_by(*records);
        }
        for (reason, records) in &counts.dropped {
            let by = ByReason { reason: reason.as_str() };
            self.metrics.records_dropped.get_or_create(&by).inc_by(*records);
        }
        self.metrics.events_left_out.inc_by(block.left_out());
        self.metrics.blocks_stored.inc();
        self.metrics.blocks_repeated.inc_by(u64::from(stored.repeated));
        tracing::debug!(
            kafka.topic = block.id().origin.topic.name(),
            kafka.partition = partition.0,
            kafka.offset = block.id().last.get(),
            "settled"
        );
    }

    /// A checkpoint was committed.
    fn checkpointed(&self, checkpoint: &Checkpoint) {
        self.metrics.checkpoints_committed.inc();
        self.metrics.checkpoint_keys_written.inc_by(checkpoint.records.len() as u64);
        self.metrics.checkpoint_bytes_written.inc_by(checkpoint.bytes() as u64);
    }

    fn stage(&self, stage: Stage, since: Instant) {
        let by = ByStage { stage: stage.as_str() };
        self.metrics.block_seconds.get_or_create(&by).observe(since.elapsed().as_secs_f64());
    }
}

/// How long a revoked lane may settle what is in flight (PROMISE, clause 4).
const LET_GO_WITHIN: Duration = Duration::from_secs(10);

/// A membership that went well for so long: what ends it is a new trouble, not the last one's repetition.
const LASTED: Duration = Duration::from_secs(60);

/// Walks whatever partitions of the course's topic the group gives us, until the process drains.
pub(crate) async fn run(context: Arc<Context>, course: Course, lifecycle: Lifecycle) {
    let condition = context.readiness.condition(course.condition());
    if course == Course::Events {
        // Both have one log and one store.
        lifecycle.spawn("probe", trouble::probe(Arc::clone(&context), lifecycle.clone()));
    }
    let patience = Patience::default();
    let mut waiting = patience.waiting();
    while lifecycle.phase() == Phase::Running {
        let (member, began) = (Member::new(&context, course, lifecycle.clone(), &condition), Instant::now());
        let Err(error) = member.serve().await else { return };
        if began.elapsed() >= LASTED {
            waiting.succeeded();
        }
        condition.unmet(error.to_string());
        context.count_failures(Part::Log, error.code(), 1);
        tracing::error!(code = error.code(), %error, "the group was left; it is joined again");
        tokio::select! {
            waited = waiting.failed(error) => if let Err(error) = waited {
                return lifecycle.fail(format!("the group {}: {error}", course.group()));
            },
            () = lifecycle.draining() => {}
        }
    }
}

/// One membership of the group and the lanes it gave us.
struct Member<'c> {
    course: Course,
    condition: &'c Condition,
    context: &'c Arc<Context>,
    lifecycle: Lifecycle,
    lanes: HashMap<PartitionId, Running>,
    delays: Delays<'c>,
    /// Lanes that ended by themselves say so here.
    failed: mpsc::Receiver<Failed>,
    failing: mpsc::Sender<Failed>,
    /// Nothing is ever sent: whoever waits for a lane's end holds a clone, and closed means that all have ended.
    leaving: mpsc::Sender<Infallible>,
    left: mpsc::Receiver<Infallible>,
}

/// A lane that ended by itself.
struct Failed {
    partition: PartitionId,
    error: LaneError,
}

/// A lane as its member sees it.
struct Running {
    orders: watch::Sender<Orders>,
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// Gives the order and waits for the lane's end; a lane that takes too long is dropped.
    async fn end(self, orders: Orders, lifecycle: &Lifecycle) {
        let _ = self.orders.send(orders);
        let mut ended = self.ended;
        tokio::select! {
            _ = &mut ended => return,
            () = tokio::time::sleep(LET_GO_WITHIN) => tracing::warn!(
                "a lane did not settle in time: what it holds is dropped, the next owner repeats it"
            ),
            () = lifecycle.aborting() => {}
        }
        let _ = self.orders.send(Orders::Drop);
        let _ = ended.await;
    }
}

impl<'c> Member<'c> {
    fn new(
        context: &'c Arc<Context>,
        course: Course,
        lifecycle: Lifecycle,
        condition: &'c Condition,
    ) -> Self {
        // One place a lane would do; a lane that ends must never wait for its member.
        let (failing, failed) = mpsc::channel(1_024);
        let (leaving, left) = mpsc::channel(1);
        let (lanes, delays) = (HashMap::new(), Delays::new(context, course));
        Self { course, condition, context, lifecycle, lanes, delays, failed, failing, leaving, left }
    }

    /// Returns `Ok` when the process drains and every lane has settled, an error when the group must be joined anew.
    async fn serve(mut self) -> Result<(), LogError> {
        let joined = tokio::select! {
            joined = self.context.log.join(self.course.group(), self.course.topic()) => joined,
            () = self.lifecycle.draining() => return Ok(()),
        };
        let mut membership = joined?;
        self.condition.met();
        let outcome = loop {
            tokio::select! {
                event = membership.next() => match event {
                    Ok(event) => self.handle(event),
                    Err(error) => break Err(error),
                },
                Some(failed) = self.failed.recv() => self.lane_failed(failed),
                () = self.lifecycle.draining() => break Ok(()),
            }
        };
        let orders = if outcome.is_ok() { Orders::Finish } else { Orders::Drop };
        for partition in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.let_go(partition, orders, None);
        }
        drop(self.leaving);
        let _ = self.left.recv().await;
        // Only now may the group learn that we are gone: until here the partitions were ours.
        drop(membership);
        outcome
    }

    fn handle(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Assigned(assigned) => {
                // Before its lane begins to tell of the same partition.
                self.delays.end(assigned.partition);
                self.start(assigned);
            }
            MemberEvent::Delayed { partitions, why } => {
                partitions.into_iter().for_each(|partition| self.delays.tell(partition, &why));
            }
            MemberEvent::Revoked { partition, done } => {
                self.let_go(partition, Orders::Finish, Some(done));
            }
            MemberEvent::Lost { partition } => self.let_go(partition, Orders::Drop, None),
        }
    }

    fn start(&mut self, assigned: Assigned) {
        let (course, partition) = (self.course, assigned.partition);
        let (orders, told) = watch::channel(Orders::Walk);
        let (end, ended) = oneshot::channel();
        let (context, failing) = (Arc::clone(self.context), self.failing.clone());
        self.lifecycle.spawn(format!("lane {}/{partition}", course.topic().name()), async move {
            let outcome = lane::run(context, course, assigned, told).await;
            if let Err(error) = outcome {
                let _ = failing.send(Failed { partition, error }).await;
            }
            let _ = end.send(());
        });
        self.context.gauges.own(course.topic(), partition);
        self.lanes.insert(partition, Running { orders, ended });
    }

    /// Ends a lane, then answers. The member does not wait: lanes that are let go together settle at the same time, for
    /// the log gives them ten seconds together.
    fn let_go(&mut self, partition: PartitionId, orders: Orders, done: Option<RevokeDone>) {
        let Some(lane) = self.lanes.remove(&partition) else { return };
        let (context, course, lifecycle, leaving) =
            (Arc::clone(self.context), self.course, self.lifecycle.clone(), self.leaving.clone());
        self.lifecycle.spawn(format!("end of lane {}/{partition}", course.topic().name()), async move {
            lane.end(orders, &lifecycle).await;
            context.gauges.let_go(course.topic(), partition, &context.metrics);
            tracing::info!(
                kafka.topic = course.topic().name(),
                kafka.partition = partition.0,
                "the partition is let go"
            );
            drop((done, leaving));
        });
    }

    /// A lane waits out whatever can be waited out. It ends by itself when the partition is another's, or when something
    /// is wrong that would be as wrong for the next owner.
    fn lane_failed(&self, failed: Failed) {
        let Failed { partition, error } = failed;
        if error.is_not_owner() {
            // The log says `Lost` next, or assigns the partition to us anew: both are on their way.
            tracing::warn!(
                kafka.partition = partition.0,
                "another owner has the partition: what was in flight is theirs"
            );
            return;
        }
        // The draining that this begins lets the other lanes settle.
        self.lifecycle.fail(format!("{}: {error}", self.course.partition(partition)));
    }
}
