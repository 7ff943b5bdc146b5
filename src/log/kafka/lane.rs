//! One owned partition: reading from its queue, and the way to its owner thread, which does what blocks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::context::GroupContext;
use super::group::Command;
use super::owner::{CommitJob, Job};
use crate::log::{Batch, CommitError, Lane, LogError, NewRecord, Topic, check_metadata};
use crate::model::{Offset, PartitionId, ResumeAt, UnixMs};

/// How long a lane stands still before it looks whether the end of its partition is a hole.
const QUIET: Duration = Duration::from_millis(100);

/// The door of a lane.
pub(super) struct KafkaLane {
    state: Arc<LaneState>,
    /// Only here, so that the owner thread ends when nobody has the lane.
    jobs: Sender<Job>,
}

/// What the lane's reader, its owner thread and the keeper of the membership share.
pub(super) struct LaneState {
    pub(super) partition: PartitionId,
    /// Whether commits are accepted: from the assignment until the revocation is answered or the partition lost.
    held: AtomicBool,
    reader: Mutex<Reader>,
    /// Something is there to be read, or the reader's state changed.
    changed: Notify,
    keeper: Sender<Command>,
}

/// Where a lane reads.
struct Reader {
    /// `None` once the lane is dead. It must go before the partition's next lane gets its own: the two are one queue
    /// inside of librdkafka, and dropping the old one would silence the new.
    queue: Option<PartitionQueue<GroupContext>>,
    /// One past the last record that was read, or past the hole behind it.
    position: Offset,
    /// A seek is under way: what lies in the queue is not to be taken.
    seeking: bool,
    /// Since when the lane stands at the end, as librdkafka said.
    at_end: Option<Instant>,
    /// Proven by the next word that the lane stands at the end: no record lies before this offset.
    hole_until: Option<Offset>,
}

/// What [`LaneState::fill`] found.
enum Found {
    Something,
    Nothing,
    /// Nothing, and the partition ended here then.
    End(Instant),
}

impl LaneState {
    pub(super) fn new(partition: PartitionId, keeper: Sender<Command>) -> Arc<Self> {
        let reader =
            Reader { queue: None, position: Offset::ZERO, seeking: false, at_end: None, hole_until: None };
        Arc::new(Self {
            partition,
            held: AtomicBool::new(false),
            reader: Mutex::new(reader),
            changed: Notify::new(),
            keeper,
        })
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane comes to life: its queue is there, and its first record is `position` or later.
    pub(super) fn open(self: &Arc<Self>, mut queue: PartitionQueue<GroupContext>, position: Offset) {
        let lane = Arc::downgrade(self);
        // Called under librdkafka's lock of the queue: waking is all it may do.
        queue.set_nonempty_callback(move || {
            if let Some(lane) = lane.upgrade() {
                lane.changed.notify_one();
            }
        });
        let mut reader = self.reader();
        reader.queue = Some(queue);
        reader.position = position;
        self.held.store(true, Ordering::SeqCst);
    }

    pub(super) fn held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// The lane is dead: it commits and reads nothing from here on.
    pub(super) fn kill(&self) {
        self.held.store(false, Ordering::SeqCst);
        let queue = self.reader().queue.take();
        // Outside of the lock: it may be the last that holds the consumer.
        drop(queue);
        self.changed.notify_one();
    }

    /// The lane can do no more although its partition may still be ours: the keeper ends it, and begins another if the
    /// partition is still assigned `after` that time.
    pub(super) fn give_up(self: &Arc<Self>, after: Duration, why: String) {
        self.held.store(false, Ordering::SeqCst);
        // Without a keeper the member has left, and the lane is dead anyway.
        let _ = self.keeper.send(Command::GiveUp { lane: Arc::clone(self), after, why });
    }

    /// Stops taking records; `None` if a seek is under way already, or if the lane no longer stands at the end of its
    /// partition although that is asked for.
    pub(super) fn begin_seek(&self, only_at_end: bool) -> Option<Offset> {
        let mut reader = self.reader();
        if reader.seeking || (only_at_end && reader.at_end.is_none()) {
            return None;
        }
        reader.seeking = true;
        Some(reader.position)
    }

    /// Takes records again: from `position`, or on as before if the seek failed.
    pub(super) fn end_seek(&self, position: Option<Offset>, hole_until: Option<Offset>) {
        let mut reader = self.reader();
        reader.seeking = false;
        if let Some(position) = position {
            reader.position = position;
            reader.at_end = None;
            reader.hole_until = hole_until;
        } else if reader.at_end.is_some() {
            // Looks again after another while.
            reader.at_end = Some(Instant::now());
        }
        drop(reader);
        self.changed.notify_one();
    }

    /// There is no hole at the end: the lane need not look again until something was read.
    pub(super) fn stands_at_end(&self) {
        self.reader().at_end = None;
    }

    /// Takes what is there, without waiting.
    fn fill(self: &Arc<Self>, batch: &mut Batch, max: usize) -> Result<Found, LogError> {
        let mut reader = self.reader();
        let reader = &mut *reader;
        let Some(queue) = &reader.queue else { return Err(not_held("reading a partition")) };
        if reader.seeking {
            return Ok(Found::Nothing);
        }
        while !batch.is_full(max) {
            match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    reader.position = push(batch, &message)?;
                    (reader.at_end, reader.hole_until) = (None, None);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    if let Some(end) = reader.hole_until.take().filter(|&end| end > reader.position) {
                        reader.position = end;
                        batch.set_position(end);
                    }
                    // Another hole may come behind.
                    reader.at_end = Some(Instant::now());
                }
                Some(Err(error)) => {
                    let failed = self.failed(&error, reader.position);
                    // What was taken is good; the caller hears of the error with its next call, for librdkafka
                    // repeats it, and a lane that gave up stays dead.
                    return if batch.position().is_some() { Ok(Found::Something) } else { failed };
                }
            }
        }
        match (batch.position(), reader.at_end) {
            (Some(_), _) => Ok(Found::Something),
            (None, Some(since)) => Ok(Found::End(since)),
            (None, None) => Ok(Found::Nothing),
        }
    }

    fn failed(self: &Arc<Self>, error: &KafkaError, position: Offset) -> Result<Found, LogError> {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            // The next lane is told where the log starts and ends now, and decides by that.
            self.give_up(Duration::ZERO, format!("offset {position} is not in the log"));
            return Ok(Found::Nothing);
        }
        Err(LogError::Unavailable { doing: "reading a partition", cause: error.to_string() })
    }

    /// When the lane has stood at the end for a while, true, and then again after another while.
    fn is_quiet(&self) -> bool {
        let mut reader = self.reader();
        let quiet = reader.at_end.is_some_and(|since| since.elapsed() >= QUIET);
        if quiet {
            reader.at_end = Some(Instant::now());
        }
        quiet
    }
}

impl KafkaLane {
    pub(super) fn new(state: Arc<LaneState>, jobs: Sender<Job>) -> Self {
        Self { state, jobs }
    }

    pub(super) fn state(&self) -> &Arc<LaneState> {
        &self.state
    }

    /// Has the owner thread finish what it does and end; `ended` hears of it.
    pub(super) fn stop(&self, ended: SyncSender<()>) {
        // Of a thread that is gone the caller hears, too: the sender was dropped.
        let _ = self.jobs.send(Job::Stop(ended));
    }

    /// [`Lane::seek`] for a thread that may block.
    pub(super) fn seek_from_thread(&self, offset: Offset) -> Result<(), LogError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.jobs.send(Job::Seek { offset, answer });
        let answer = asked.ok().and_then(|()| answered.blocking_recv().ok());
        answer.unwrap_or_else(|| Err(not_held("seeking in a partition")))
    }

    /// Has the owner thread do something and waits for its answer; `None` if it is gone.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).ok()?;
        answered.await.ok()
    }
}

#[async_trait]
impl Lane for KafkaLane {
    async fn seek(&self, offset: Offset) -> Result<(), LogError> {
        let answer = self.ask(|answer| Job::Seek { offset, answer }).await;
        answer.unwrap_or_else(|| Err(not_held("seeking in a partition")))
    }

    async fn next(&self, batch: &mut Batch, max: usize) -> Result<(), LogError> {
        let lane = &self.state;
        batch.clear(lane.partition);
        // Nothing is taken before an await, so a dropped call has taken nothing.
        loop {
            match lane.fill(batch, max)? {
                Found::Something => return Ok(()),
                Found::Nothing => lane.changed.notified().await,
                Found::End(since) => tokio::select! {
                    () = lane.changed.notified() => {}
                    // Transactions leave markers that nobody is given. At the end of a partition only the broker can
                    // say whether such lie behind the last record.
                    () = tokio::time::sleep_until(since + QUIET) => if lane.is_quiet() {
                        let _ = self.jobs.send(Job::PassHole);
                    }
                },
            }
        }
    }

    async fn end(&self) -> Result<Offset, LogError> {
        let answer = self.ask(Job::End).await;
        answer.unwrap_or_else(|| Err(not_held("asking for the end of a partition")))
    }

    /// While the broker is away this takes as long as the partition is held. A dropped call is carried out all the same.
    async fn commit(
        &self,
        resume_at: ResumeAt,
        metadata: &str,
        records: Vec<(Topic, NewRecord)>,
    ) -> Result<(), CommitError> {
        check_metadata(metadata)?;
        if !self.state.held() {
            return Err(CommitError::NotOwner(self.state.partition));
        }
        let commit = CommitJob { resume_at, metadata: metadata.to_owned(), records };
        let answer = self.ask(|answer| Job::Commit { commit, answer }).await;
        answer.unwrap_or(Err(CommitError::NotOwner(self.state.partition)))
    }
}

/// Of a lane that is dead.
const fn not_held(doing: &'static str) -> LogError {
    LogError::NotHeld { doing }
}

/// Copies a message into the batch; answers the offset after it.
pub(super) fn push(batch: &mut Batch, message: &BorrowedMessage<'_>) -> Result<Offset, LogError> {
    let offset = Offset::new(message.offset()).ok_or_else(|| LogError::Broken {
        doing: "reading a partition",
        cause: format!("a record has the offset {}", message.offset()),
    })?;
    let append_time = UnixMs::new(message.timestamp().to_millis().unwrap_or_default());
    let headers = message.headers();
    let count = headers.map_or(0, Headers::count);
    let headers = headers.into_iter().flat_map(|headers| (0..count).map(|index| header(headers, index)));
    batch.push(offset, append_time, message.key(), message.payload().unwrap_or_default(), headers);
    Ok(offset.resume_after().offset())
}

/// rdkafka panics at a header whose name is not UTF-8, and anyone may write one: its name is replaced, its value lost.
fn header(headers: &BorrowedHeaders, index: usize) -> (&str, &[u8]) {
    match catch_unwind(AssertUnwindSafe(|| headers.get(index))) {
        Ok(header) => (header.key, header.value.unwrap_or_default()),
        Err(_) => ("\u{fffd}", &[]),
    }
}
