//! One installation: a log and a ClickHouse in memory, and whichever processes run.

mod events;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use super::op::{Cut, Op, PARTITIONS};
use crate::config::Secret;
use crate::log::memory::{Lying, MemoryLog};
use crate::log::{Commit, Topic, TopicSpec};
use crate::model::Offset;
use crate::pipeline::corridor::*;
use crate::pipeline::store::memory::MemoryTables;
use crate::pipeline::store::testing::{received, retention_of};
use events::Sources;
pub(super) use events::{snapshots, walk_bounds};

/// For what comes in a moment if it comes at all, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct House {
    pub(super) log: MemoryLog,
    pub(super) tables: MemoryTables,
    now: Arc<AtomicI64>,
    snapshots: Arc<AtomicU32>,
    processes: Vec<Process>,
    sources: Sources,
    /// What left the log at the beginning of each partition.
    gone: BTreeMap<u32, Gone>,
    /// Why a process ended that nobody had asked to.
    failures: Vec<String>,
}

/// What left the log.
#[derive(Default)]
pub(super) struct Gone {
    pub(super) records: Vec<Lying>,
    /// Some of it was wanted: it was not settled, or not written down.
    pub(super) missed: bool,
}

/// One process with both corridors.
struct Process {
    lifecycle: Lifecycle,
}

pub(super) fn partitions_of(course: Course) -> impl Iterator<Item = PartitionId> {
    let partitions = if course == Course::Events { PARTITIONS } else { 1 };
    (0..partitions).map(PartitionId)
}

pub(super) fn retried_key() -> aws_lc_rs::hmac::Key {
    crate::keys::retried(&Secret::new("of the tests".to_owned()))
}

impl House {
    pub(super) fn new() -> Self {
        let now = Arc::new(AtomicI64::new(received(0).get()));
        let topics = Topic::ALL.map(|topic| {
            let partitions = if matches!(topic, Topic::Events | Topic::State) { PARTITIONS } else { 1 };
            TopicSpec { partitions, ..topic.spec(true) }
        });
        let mut house = Self {
            log: MemoryLog::new(Clock::Manual(Arc::clone(&now)), &topics),
            tables: MemoryTables::default(),
            now,
            snapshots: Arc::default(),
            processes: Vec::new(),
            sources: Sources::default(),
            gone: BTreeMap::new(),
            failures: Vec::new(),
        };
        house.start();
        house
    }

    fn start(&mut self) {
        let log: Arc<dyn EventLog> = Arc::new(self.log.clone());
        let number = Arc::clone(&self.snapshots);
        let context = Arc::new(Context {
            store: self.tables.store(Arc::clone(&log)),
            log,
            retention: Arc::new(retention_of(&[])),
            workers: Workers::start(1).unwrap(),
            snapshots: Arc::new(move || snapshots(number.load(Ordering::Relaxed))),
            bounds: walk_bounds(),
            adopt: None,
            // Blocks are cut after a moment: a history has many.
            pace: Pace {
                min_age: Duration::from_millis(4),
                age_per_partition: Duration::ZERO,
                tick_after: Duration::from_millis(20),
                // A checkpoint with some blocks and not with others.
                checkpoint: CheckpointPace { every: Duration::from_millis(30), ..CheckpointPace::default() },
                ..Pace::default()
            },
            metrics: Metrics::new(),
            readiness: Readiness::default(),
            on_alert: None,
            clock: Clock::Manual(Arc::clone(&self.now)),
            gauges: Gauges::default(),
        });
        let lifecycle = Lifecycle::new(PATIENCE);
        for course in Course::ALL {
            let corridor = run(Arc::clone(&context), course, lifecycle.clone());
            lifecycle.spawn(format!("corridor of {}", course.topic().name()), corridor);
        }
        self.processes.push(Process { lifecycle });
    }

    async fn end(&mut self, process: Process, phase: Phase) {
        process.lifecycle.advance(phase);
        let left = process.lifecycle.finish().await;
        self.failures.extend(left.into_iter().map(|task| format!("{task} did not end")));
        self.failures.extend(process.lifecycle.failure().map(str::to_owned));
    }

    pub(super) async fn play(&mut self, op: &Op) {
        let (now, log, sources) = (self.now(), &self.log, &mut self.sources);
        match *op {
            Op::Deliver { who, place, to } => append(log, [sources.event(who, place, now)], to),
            Op::Late { who, place, to, minutes } => {
                let then = now - Duration::from_secs(minutes * 60);
                append(log, [sources.event(who, place, then)], to);
            }
            Op::Sign { who, place, to } => append(log, [sources.signed(who, place, now)], to),
            Op::Leak { who, to } => append(log, [sources.leak(who, now)], to),
            Op::Flood { count, to } => append(log, (0..count).map(|_| sources.stranger(now)), to),
            Op::Redeliver { back, to } => append(log, sources.again(back), to),
            Op::HoldBack { who, place, to } => append(log, [sources.held_back(who, place, now)], to),
            Op::Drain { back, to, resent } => append(log, sources.drained(back, resent.then_some(now)), to),
            Op::Beat { to, closing } => append(log, [sources.heartbeat(closing, now)], to),
            Op::Garbage { to } => {
                append(log, [NewRecord { value: b"{not json".to_vec(), ..NewRecord::default() }], to);
            }
            Op::Skip => self.sources.skip(),
            Op::Holes { to, count } => self.log.leave_holes(Topic::Events, PartitionId(to), count),
            Op::Truncate { partition, before } => self.truncate(partition, before),
            Op::AdvanceTime { minutes } => {
                self.now.fetch_add(minutes * 60_000, Ordering::Relaxed);
            }
            Op::Pause { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Op::Settle => self.settle().await,
            Op::Join if self.processes.len() < 3 => self.start(),
            Op::Leave if self.processes.len() > 1 => {
                let oldest = self.processes.remove(0);
                self.end(oldest, Phase::Draining).await;
            }
            Op::Join | Op::Leave => {}
            Op::Lose { course, partition } => {
                self.log.lose(course.group(), course.topic(), PartitionId(partition));
            }
            Op::Crash => {
                self.log.forget_members();
                for process in std::mem::take(&mut self.processes) {
                    self.end(process, Phase::Aborting).await;
                }
                self.start();
            }
            Op::RotateKeys => {
                self.snapshots.fetch_add(1, Ordering::Relaxed);
            }
            Op::Log(fault) => self.log.fail(fault),
            Op::Store(fault) => self.tables.fail(fault),
        }
    }

    /// Everything heals and settles, and every process ends in order.
    pub(super) async fn rest(&mut self) -> Result<(), String> {
        self.log.heal();
        self.tables.heal();
        self.settle().await;
        self.end_all().await;
        // The lanes that were let go last may have left copies to others, and summaries.
        while !self.is_settled() && self.failures.is_empty() {
            self.start();
            self.settle().await;
            if !self.is_settled() {
                let left: Vec<_> = self.unsettled().collect();
                self.failures.push(format!("it never settles: {left:?}"));
            }
            self.end_all().await;
        }
        match self.failures.as_slice() {
            [] => Ok(()),
            failures => Err(failures.join("\n")),
        }
    }

    async fn end_all(&mut self) {
        for process in std::mem::take(&mut self.processes) {
            self.end(process, Phase::Draining).await;
        }
    }

    /// Waits until every record is settled, or nothing moves any more.
    async fn settle(&self) {
        let settling = async {
            while !self.is_settled() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, settling).await;
    }

    fn is_settled(&self) -> bool {
        self.unsettled().next().is_none()
    }

    /// Each partition that is not settled, with its last record and its commit.
    fn unsettled(&self) -> impl Iterator<Item = (Topic, PartitionId, Offset, Option<Commit>)> {
        let all =
            Course::ALL.into_iter().flat_map(|course| partitions_of(course).map(move |of| (course, of)));
        all.filter_map(|(course, partition)| {
            let last = self.ever(course, partition).0.last().map(|(offset, ..)| *offset)?;
            let commit = self.log.committed(course.group(), course.topic(), partition);
            let is_done = commit.as_ref().is_some_and(|commit| last < commit.resume_at.offset());
            (!is_done).then_some((course.topic(), partition, last, commit))
        })
    }

    /// Lets the beginning of a partition go; nothing while nothing of it is committed.
    fn truncate(&mut self, partition: u32, before: Cut) {
        let (topic, id) = (Topic::Events, PartitionId(partition));
        let Some(commit) = self.log.committed(Course::Events.group(), topic, id) else { return };
        let metadata: serde_json::Value = serde_json::from_str(&commit.metadata).unwrap();
        let (committed, records) = (commit.resume_at.offset().get(), self.log.records(topic, id));
        let end = records.last().map_or(committed, |(last, ..)| last.get() + 1).max(committed);
        let before = match before {
            Cut::Checkpoint => metadata["state"].as_i64().unwrap_or(0),
            Cut::Commit => committed,
            Cut::Above(more) => (committed + more).min(end),
        };
        let is_missed = Some(before) > metadata["state"].as_i64() && before > 0;
        let before = Offset::new(before).unwrap();
        let gone = self.gone.entry(partition).or_default();
        gone.missed |= is_missed;
        gone.records.extend(records.into_iter().filter(|(offset, ..)| *offset < before));
        self.log.truncate(topic, id, before);
    }

    /// Every record that was ever in a partition, and whether some left it that were wanted.
    pub(super) fn ever(&self, course: Course, partition: PartitionId) -> (Vec<Lying>, bool) {
        let gone = self.gone.get(&partition.0).filter(|_| course == Course::Events);
        let before = gone.map(|gone| gone.records.clone()).unwrap_or_default();
        let records = self.log.records(course.topic(), partition);
        (before.into_iter().chain(records).collect(), gone.is_some_and(|gone| gone.missed))
    }

    fn now(&self) -> UnixMs {
        UnixMs::new(self.now.load(Ordering::Relaxed))
    }
}

/// Appends as the door or a gateway does.
fn append(log: &MemoryLog, records: impl IntoIterator<Item = NewRecord>, to: u32) {
    let partition = Some(PartitionId(to));
    log.write(Topic::Events, records.into_iter().map(|record| NewRecord { partition, ..record }).collect());
}
