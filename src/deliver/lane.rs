//! One destination's walk along one partition of the outbox: reads, starts deliveries, takes their answers, commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::courier::Courier;
use super::progress::{Found, Progress};
use super::queue::{Answer, How, Job, Left, Next, Owner, Queue, Report};
use crate::clock::Random;
use crate::log::{Assigned, Batch, CommitError, LogError, NewRecord, Topic};
use crate::model::Offset;
use crate::pipeline::alert::outbox_record;
use crate::telemetry::{ByDelivery, ByDestination, ByStep};

/// Why a lane ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Commit(CommitError),
    #[error("a delivery ended without an answer: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl LaneError {
    /// The closed word for metrics and log fields.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Log(error) => error.code(),
            Self::Commit(_) => "commit_failed",
            Self::Panicked(_) => "delivery_panicked",
        }
    }

    /// Whether somebody else has the partition: ending is all there is to do.
    pub(super) const fn is_not_owner(&self) -> bool {
        matches!(self, Self::Log(LogError::NotHeld { .. }) | Self::Commit(CommitError::NotOwner(_)))
    }
}

/// Records read at a time.
const BATCH: usize = 256;
/// A stopped lane waits so long for deliveries under way, and so long in all until they are committed: a revocation is
/// answered within ten seconds.
const LAST_ANSWERS: Duration = Duration::from_secs(7);
const LAST_COMMIT: Duration = Duration::from_secs(9);
/// Between tries of the log: at first and at the most.
const LOG_PAUSE: Duration = Duration::from_millis(20);
const LOG_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Told to a lane: since when it is to stop.
pub(super) type Stop = watch::Receiver<Option<Instant>>;

/// Runs until `stop` says so, the partition has another owner, or the log breaks.
pub(super) async fn run(courier: Arc<Courier>, assigned: Assigned, mut stop: Stop) -> Result<(), LaneError> {
    let mut lane = tokio::select! {
        lane = Lane::begin(courier, assigned, stop.clone()) => lane?,
        // Nothing was told yet.
        () = stopped(&mut stop) => return Ok(()),
    };
    let walked = lane.walk().await;
    if walked.as_ref().is_err_and(LaneError::is_not_owner) {
        return walked;
    }
    // However else the walk ended: what was told is written down.
    let ended = lane.end().await;
    walked.and(ended)
}

/// What has ended.
enum Done {
    Told(Offset, Report),
    /// Rows alone.
    Stored(bool),
}

struct Lane {
    courier: Arc<Courier>,
    lane: Arc<dyn crate::log::Lane>,
    partition: crate::model::PartitionId,
    queue: Queue,
    /// Deliveries under way. They end with the lane: nobody else would take their answers.
    jobs: JoinSet<Done>,
    batch: Batch,
    gauge: PendingGauge,
    stop: Stop,
    /// Set when the walk ended, whoever ended it.
    ending_since: Option<Instant>,
}

impl Lane {
    /// Reads the commit and the whole outbox up to it: what was told is remembered, what was not done is pending.
    async fn begin(courier: Arc<Courier>, assigned: Assigned, stop: Stop) -> Result<Self, LaneError> {
        let (mut progress, found) = Progress::of(assigned.commit.as_ref(), assigned.start, assigned.end);
        let (destination, partition) = (courier.name(), assigned.partition);
        match found {
            Found::Ours => {}
            Found::Nothing => {
                tracing::info!(destination, log.partition = %partition, "a new destination begins")
            }
            Found::Reset => tracing::warn!(
                destination, log.partition = %partition, log.offset = %progress.resume_at,
                "the group was reset: going on from there"
            ),
            Found::OtherLog => tracing::warn!(
                destination, log.partition = %partition,
                "the outbox is another log than the one committed for: beginning at its start"
            ),
            Found::Truncated => tracing::error!(
                destination, log.partition = %partition, log.offset = %progress.resume_at,
                "alerts were lost before they were delivered: the outbox no longer has them"
            ),
        }
        if courier.retries_given_up() {
            progress.retry_given_up();
        }
        let gauge = courier
            .metrics()
            .deliveries_pending
            .get_or_create_owned(&ByDestination { destination: destination.to_owned() });
        let owner = Owner { destination: courier.name().into(), partition, policy: courier.policy() };
        let mut lane = Self {
            queue: Queue::new(owner, &progress, assigned.start, courier.pace(), Instant::now()),
            courier,
            lane: assigned.lane,
            partition,
            jobs: JoinSet::new(),
            batch: Batch::default(),
            gauge: PendingGauge { gauge, shown: 0 },
            stop,
            ending_since: None,
        };
        if found != Found::Ours {
            lane.commit(progress.clone(), Vec::new()).await?;
        }
        lane.lane.seek(assigned.start).await?;
        while lane.queue.position() < progress.known_end() {
            lane.lane.next(&mut lane.batch, BATCH).await?;
            let now = Instant::now();
            for record in lane.batch.iter() {
                // Beyond what is known a batch is as new as any other.
                lane.queue.recover(&record, &progress, now);
            }
            if let Some(position) = lane.batch.position() {
                lane.queue.set_position(position);
            }
        }
        Ok(lane)
    }

    /// Until it is stopped. A commit is never cut short by that.
    async fn walk(&mut self) -> Result<(), LaneError> {
        let mut stop = self.stop.clone();
        loop {
            let until = self.start_jobs().await?;
            tokio::select! {
                // Answers before records: each frees a place and may be committed.
                biased;
                () = stopped(&mut stop) => return Ok(()),
                Some(answer) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    self.take_answer(answer?);
                    while let Some(answer) = self.jobs.try_join_next() {
                        self.take_answer(answer?);
                    }
                }
                // Cancel-safe, as the seam promises: another branch winning loses no record.
                read = self.lane.next(&mut self.batch, BATCH), if self.queue.has_room() => match read {
                    Ok(()) => self.take_batch(),
                    Err(error @ (LogError::Unavailable { .. } | LogError::NotHeld { .. })) => {
                        self.courier.count_failure(&error.into());
                        tokio::time::sleep(LOG_PAUSE_MAX).await;
                    }
                    Err(error) => return Err(error.into()),
                },
                () = sleep_until(until) => {}
            }
        }
    }

    /// Starts what may be started, after what has ended is written down; says when there may be more.
    async fn start_jobs(&mut self) -> Result<Option<Instant>, LaneError> {
        loop {
            self.settle().await?;
            match self.queue.next(Instant::now(), self.courier.clock().now()) {
                Next::Start(job) => {
                    let courier = Arc::clone(&self.courier);
                    self.jobs.spawn(async move { Done::Told(job.offset, deliver(&courier, &job).await) });
                }
                Next::Store(rows) => {
                    let courier = Arc::clone(&self.courier);
                    self.jobs.spawn(async move { Done::Stored(courier.rows().put(&rows).await) });
                }
                Next::Wait(until) if !self.queue.is_changed() => return Ok(until),
                // Something was given up: that is written down, too.
                Next::Wait(_) => {}
            }
        }
    }

    fn take_batch(&mut self) {
        let now = Instant::now();
        for record in self.batch.iter() {
            self.queue.read(&record, now);
        }
        if let Some(position) = self.batch.position() {
            self.queue.set_position(position);
        }
    }

    fn take_answer(&mut self, done: Done) {
        let (offset, report) = match done {
            Done::Told(offset, report) => (offset, report),
            Done::Stored(stored) => return self.queue.rows_stored(stored, Instant::now()),
        };
        if let Answer::Away { why, .. } | Answer::Refused { why, .. } = &report.answer {
            self.count("failed");
            tracing::warn!(
                destination = self.courier.name(), log.partition = %self.partition, log.offset = %offset,
                error = why, "a delivery failed and is tried again"
            );
        }
        self.queue.report(offset, report, Instant::now(), u64::from_le_bytes(Random::bytes()));
    }

    /// Counts what has left, and commits if there is anything new to say.
    async fn settle(&mut self) -> Result<(), LaneError> {
        for left in self.queue.take_left() {
            self.note(&left);
        }
        self.gauge.show(self.queue.pending());
        if self.queue.is_changed() {
            let raised =
                self.queue.raised().iter().map(|alert| (Topic::Alerts, outbox_record(alert))).collect();
            self.commit(self.queue.progress(), raised).await?;
            for alert in self.queue.raised() {
                let by = ByStep { step: alert.step.as_str() };
                self.courier.metrics().alerts_published.get_or_create(&by).inc();
            }
            self.queue.set_committed();
        }
        Ok(())
    }

    fn note(&self, Left { offset, id, how, appended }: &Left) {
        self.count(how.as_str());
        let (destination, partition) = (self.courier.name(), self.partition);
        match how {
            How::Delivered => {
                let seconds = self.courier.clock().now().since_ms(*appended).max(0) as f64 / 1_000.0;
                let by = ByDestination { destination: destination.to_owned() };
                self.courier.metrics().delivery_seconds.get_or_create(&by).observe(seconds);
                tracing::debug!(destination, webhook.id = id, "delivered");
            }
            How::AlreadyTold | How::Grouped | How::AboutItself => {
                tracing::debug!(destination, webhook.id = id, how = how.as_str(), "not told")
            }
            How::GivenUp => tracing::error!(
                destination, webhook.id = id, log.partition = %partition, log.offset = %offset,
                "given up after three days; `jwtrail deliver --retry` tries it again"
            ),
            How::Malformed => tracing::warn!(
                destination, log.partition = %partition, log.offset = %offset,
                "a record of the outbox is no alert, and is passed over"
            ),
        }
    }

    fn count(&self, result: &'static str) {
        let by = ByDelivery { destination: self.courier.name().to_owned(), result };
        self.courier.metrics().deliveries_attempted.get_or_create(&by).inc();
    }

    /// Commits, however long that takes: nothing further may be told while what was told is not written down. Only a
    /// stopped lane ends without it, when its time is over. It tries as often as it can before: in the very moment of a
    /// hand-over the log refuses the commits of one that is still the owner.
    async fn commit(&mut self, progress: Progress, raised: Vec<(Topic, NewRecord)>) -> Result<(), LaneError> {
        let (resume_at, metadata) = progress.write();
        let mut pause = LOG_PAUSE;
        loop {
            let Err(error) = self.lane.commit(resume_at, &metadata, raised.clone()).await else {
                return Ok(());
            };
            let passes = matches!(error, CommitError::Retry(_));
            let error = LaneError::Commit(error);
            self.courier.count_failure(&error);
            if !passes || self.stopping_since().is_some_and(|since| since.elapsed() >= LAST_COMMIT) {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOG_PAUSE_MAX);
        }
    }

    fn stopping_since(&self) -> Option<Instant> {
        self.ending_since.or(*self.stop.borrow())
    }

    /// Takes the last answers and commits them. Whatever has not answered by then is told again by the next owner.
    async fn end(mut self) -> Result<(), LaneError> {
        let since = self.stopping_since().unwrap_or_else(Instant::now);
        self.ending_since = Some(since);
        let last = async {
            while let Some(answer) = self.jobs.join_next().await {
                self.take_answer(answer?);
            }
            Ok(())
        };
        let answered = tokio::time::timeout_at((since + LAST_ANSWERS).into(), last).await;
        self.settle().await?;
        answered.unwrap_or(Ok(()))
    }
}

/// Stores the rows, then tells.
async fn deliver(courier: &Courier, job: &Job) -> Report {
    let stored = courier.rows().put(&job.rows).await;
    Report { stored, answer: courier.tell(job).await }
}

/// Resolves once the lane is to stop. If nobody is left to say so, the courier has ended, and that is the same.
async fn stopped(stop: &mut Stop) {
    let _ = stop.wait_for(Option::is_some).await;
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// A lane's part of its destination's gauge.
struct PendingGauge {
    gauge: Gauge,
    shown: i64,
}

impl PendingGauge {
    fn show(&mut self, pending: usize) {
        let pending = i64::try_from(pending).unwrap_or(i64::MAX);
        self.gauge.inc_by(pending - self.shown);
        self.shown = pending;
    }
}

impl Drop for PendingGauge {
    fn drop(&mut self) {
        self.show(0);
    }
}
