//! The owner thread of one partition: its transactional producer, and all that blocks.
//!
//! Initialising the producer makes the broker refuse whoever owned the partition before, and ends the transaction that
//! a dead owner left open. From then on every commit is one transaction: offset, metadata and records together.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use tokio::sync::oneshot;

use super::context::{GroupContext, LogContext};
use super::lane::LaneState;
use super::{Names, hanging, headers_of, payload};
use crate::log::{CommitError, LogError, NewRecord, Topic};
use crate::model::{Offset, ResumeAt};

/// How long one call of librdkafka may block before this thread looks whether it is still wanted.
const STEP: Duration = Duration::from_secs(5);
/// A partition that we lost hold of is taken over again only if the group still calls it ours after this time: more than
/// one heartbeat (3 s where an operator wants it), so that a member that was expelled has heard of it.
const COMEBACK: Duration = Duration::from_secs(4);
/// Between two tries of a call that failed at once.
const PAUSE: Duration = Duration::from_millis(50);
/// How often deliveries are looked for while there are some under way.
const POLL: Duration = Duration::from_millis(1);

/// What the owner thread is asked to do, one after the other.
pub(super) enum Job {
    Commit {
        commit: CommitJob,
        answer: oneshot::Sender<Result<(), CommitError>>,
    },
    Seek {
        offset: Offset,
        answer: oneshot::Sender<Result<(), LogError>>,
    },
    End(oneshot::Sender<Result<Offset, LogError>>),
    /// The lane stands still at the end of the partition: move its position past a hole there.
    PassHole,
    /// End, and say so.
    Stop(SyncSender<()>),
}

pub(super) struct CommitJob {
    pub(super) resume_at: ResumeAt,
    pub(super) metadata: String,
    pub(super) records: Vec<(Topic, NewRecord)>,
}

/// The state of the thread.
pub(super) struct Owner {
    /// The producer's transactional id.
    pub(super) id: String,
    pub(super) names: Names,
    /// The topic of the partition, as the broker knows it.
    pub(super) topic: Arc<str>,
    pub(super) lane: Arc<LaneState>,
    pub(super) consumer: Arc<BaseConsumer<GroupContext>>,
    pub(super) producer: BaseProducer<LogContext>,
}

/// Why a transaction did not come to its end.
enum Trouble {
    /// Aborting makes the producer as good as new.
    Abort(RDKafkaErrorCode, String),
    /// The producer is of no more use; whether the transaction was committed is not known.
    Dead(String),
    /// The partition is no longer held.
    Released,
}

impl Owner {
    /// Makes the partition ours at the broker; tells `delayed` at each try that was not enough. False if the member
    /// leaves meanwhile.
    pub(super) fn init(&self, delayed: impl Fn(LogError)) -> Result<bool, LogError> {
        while !self.consumer.context().leaving() {
            match self.producer.init_transactions(STEP) {
                Ok(()) => return Ok(true),
                Err(error) => match transaction_error(&error) {
                    Some(error) if !error.is_retriable() => {
                        return Err(LogError::Broken {
                            doing: "taking over a partition",
                            cause: error.to_string(),
                        });
                    }
                    _ => delayed(hanging::of_owner(&self.id, &error)),
                },
            }
            // Also brings the client's log lines.
            self.producer.poll(PAUSE);
        }
        Ok(false)
    }

    /// Works until told to stop.
    pub(super) fn run(self, jobs: &Receiver<Job>) {
        loop {
            // Nobody else polls this client's log lines and errors.
            let job = match jobs.recv_timeout(Duration::from_secs(1)) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.producer.poll(Duration::ZERO);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // A caller that went away needs no answer.
            match job {
                Job::Commit { commit, answer } => drop(answer.send(self.commit(&commit))),
                Job::Seek { offset, answer } => drop(answer.send(self.seek(offset))),
                Job::End(answer) => drop(answer.send(self.end())),
                Job::PassHole => self.pass_hole(),
                Job::Stop(ended) => {
                    // The consumer goes before the answer: whoever hears it may close the consumer.
                    let Self { consumer, producer, .. } = self;
                    drop(consumer);
                    let _ = ended.send(());
                    drop(producer);
                    return;
                }
            }
        }
    }

    fn commit(&self, commit: &CommitJob) -> Result<(), CommitError> {
        // In this order: metadata that is taken after the check could be of a generation in which the partition is
        // another's.
        let group = self.group_metadata();
        if !self.lane.held() {
            return Err(CommitError::NotOwner(self.lane.partition));
        }
        let Some(group) = group else {
            return Err(CommitError::Retry("the member is just joining its group again".to_owned()));
        };
        match self.transact(commit, &group) {
            Ok(()) => Ok(()),
            Err(Trouble::Abort(code, text)) => match self.abort() {
                Ok(()) => Err(self.judge(code, text, commit)),
                Err(trouble) => self.read_back(trouble, commit),
            },
            Err(trouble) => self.read_back(trouble, commit),
        }
    }

    /// The group metadata of a member that has joined. Metadata without a generation must never be used: the broker
    /// accepts it into a live group.
    fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        let before = super::generation::of(&self.consumer);
        let metadata = self.consumer.group_metadata()?;
        // rdkafka does not let the generation of `metadata` itself be read; between two equal ones it can be no other.
        (before >= 0 && super::generation::of(&self.consumer) == before).then_some(metadata)
    }

    fn transact(&self, commit: &CommitJob, group: &ConsumerGroupMetadata) -> Result<(), Trouble> {
        self.producer.begin_transaction().map_err(|error| trouble(&error))?;
        for (topic, record) in &commit.records {
            self.send(*topic, record)?;
        }
        // Before the offsets: those are refused with every stale generation, and a record under way would then cost the
        // producer its epoch.
        self.drain()?;
        let mut offsets = TopicPartitionList::with_capacity(1);
        let mut element = offsets.add_partition(&self.topic, super::raw(self.lane.partition));
        element.set_metadata(&commit.metadata);
        element
            .set_offset(KafkaOffset::Offset(commit.resume_at.offset().get()))
            .map_err(|error| trouble(&error))?;
        self.repeat(|| self.producer.send_offsets_to_transaction(&offsets, group, STEP))?;
        self.repeat(|| self.producer.commit_transaction(STEP))
    }

    /// Repeats a call for as long as that may help and the partition is held.
    fn repeat(&self, call: impl Fn() -> Result<(), KafkaError>) -> Result<(), Trouble> {
        loop {
            let Err(error) = call() else { return Ok(()) };
            if !goes_on(&error) {
                return Err(trouble(&error));
            }
            if !self.lane.held() {
                return Err(Trouble::Released);
            }
            tracing::warn!(partition = self.lane.partition.0, %error, "a commit goes on");
            self.producer.poll(PAUSE);
        }
    }

    fn send(&self, topic: Topic, record: &NewRecord) -> Result<(), Trouble> {
        let name = self.names.of(topic);
        loop {
            let mut message = BaseRecord::<[u8], [u8]>::to(&name);
            message.payload = payload(topic, record);
            if let Some(key) = &record.key {
                message = message.key(key);
            }
            if let Some(partition) = record.partition {
                message = message.partition(super::raw(partition));
            }
            message.headers = headers_of(record);
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err(_) if !self.lane.held() => return Err(Trouble::Released),
                Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    self.producer.poll(POLL);
                }
                Err((error, _)) => return Err(trouble(&error)),
            }
        }
    }

    /// Waits until every record was delivered or failed: `commit_transaction` would wait in steps of 100 ms.
    fn drain(&self) -> Result<(), Trouble> {
        // A commit that is under way when its partition is released may end well, but not wait for a broker.
        let patience = Instant::now() + STEP;
        while self.producer.in_flight_count() > 0 {
            if !self.lane.held() && patience <= Instant::now() {
                return Err(Trouble::Released);
            }
            self.producer.poll(POLL);
        }
        Ok(())
    }

    /// librdkafka itself drops what was not sent yet; it then waits for the answers to what was, and only this thread can
    /// take those. So it begins, they are taken, it ends. Whoever purged by himself would leave a gap in the sequence of
    /// the producer's records: the broker takes none of the next transaction's, which ends with its timeout.
    fn abort(&self) -> Result<(), Trouble> {
        match self.producer.abort_transaction(POLL) {
            Ok(()) => return Ok(()),
            Err(error) if goes_on(&error) => {}
            Err(error) => return Err(trouble(&error)),
        }
        self.drain()?;
        self.repeat(|| self.producer.abort_transaction(STEP))
    }

    /// What an aborted transaction means. Nothing of it was committed.
    fn judge(&self, code: RDKafkaErrorCode, text: String, commit: &CommitJob) -> CommitError {
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge => {
                let bytes = commit.records.iter().map(|(_, record)| record.value.len()).max();
                CommitError::TooLarge { bytes: bytes.unwrap_or_default() }
            }
            // Expelled from the group: the first sign of it.
            RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::FencedInstanceId => {
                self.lane.give_up(COMEBACK, text);
                CommitError::NotOwner(self.lane.partition)
            }
            // A live member meets IllegalGeneration, too, while a rebalance ends.
            _ if self.lane.held() => CommitError::Retry(text),
            _ => CommitError::NotOwner(self.lane.partition),
        }
    }

    /// The producer is dead or the partition released: the lane has come to its end. Reads back whether the commit was
    /// made all the same.
    fn read_back(&self, trouble: Trouble, commit: &CommitJob) -> Result<(), CommitError> {
        let not_owner = Err(CommitError::NotOwner(self.lane.partition));
        match trouble {
            Trouble::Dead(text) | Trouble::Abort(_, text) => self.lane.give_up(COMEBACK, text),
            // The transaction may hang, and reading with it. The next owner ends it first, and then reads.
            Trouble::Released => return not_owner,
        }
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.topic, super::raw(self.lane.partition));
        match self.consumer.committed_offsets(list, STEP) {
            Ok(list) => match super::commit_in(&list, &self.topic, self.lane.partition) {
                Some(found) if found.resume_at == commit.resume_at && found.metadata == commit.metadata => {
                    Ok(())
                }
                _ => not_owner,
            },
            Err(error) => {
                tracing::warn!(partition = self.lane.partition.0, %error, "whether a commit was made is not known");
                not_owner
            }
        }
    }

    fn seek(&self, offset: Offset) -> Result<(), LogError> {
        if self.lane.begin_seek(false).is_none() {
            return Err(seeking("another seek is under way"));
        }
        let sought = self.seek_to(offset);
        self.lane.end_seek(sought.is_ok().then_some(offset), None);
        sought
    }

    fn seek_to(&self, offset: Offset) -> Result<(), LogError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(
            &self.topic,
            super::raw(self.lane.partition),
            KafkaOffset::Offset(offset.get()),
        )
        .map_err(seeking)?;
        // Right after an assignment the partition may not have begun to fetch.
        while self.lane.held() {
            let list = self.consumer.seek_partitions(list.clone(), STEP).map_err(seeking)?;
            match list.elements().first().map(|element| element.error()) {
                Some(Err(error)) if is_passing(&error) => std::thread::sleep(POLL),
                Some(Err(error)) => return Err(seeking(error)),
                Some(Ok(())) | None => return Ok(()),
            }
        }
        Err(LogError::NotHeld { doing: "seeking in a partition" })
    }

    fn end(&self) -> Result<Offset, LogError> {
        let unavailable =
            |cause: String| LogError::Unavailable { doing: "asking for a partition's end", cause };
        let (_, end) = self
            .consumer
            .fetch_watermarks(&self.topic, super::raw(self.lane.partition), STEP)
            .map_err(|error| unavailable(error.to_string()))?;
        Offset::new(end).ok_or_else(|| unavailable("the broker does not say".to_owned()))
    }

    /// The lane stands still at what librdkafka called the end. If the end lies further, holes or new records are
    /// between. Fetching again from the lane's own position tells which: if the first thing that comes is again "the
    /// end", then nothing lay before the end that was asked for *before* that fetch.
    fn pass_hole(&self) {
        let Some(position) = self.lane.begin_seek(true) else { return };
        match self.end() {
            Ok(end) if end > position => {
                let sought = self.seek_to(position);
                self.lane.end_seek(sought.is_ok().then_some(position), Some(end));
            }
            Ok(_) => {
                self.lane.stands_at_end();
                self.lane.end_seek(None, None);
            }
            Err(error) => {
                tracing::debug!(partition = self.lane.partition.0, %error, "a hole is not looked for");
                self.lane.end_seek(None, None);
            }
        }
    }
}

fn seeking(cause: impl std::fmt::Display) -> LogError {
    LogError::Unavailable { doing: "seeking in a partition", cause: cause.to_string() }
}

fn is_passing(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress))
}

fn transaction_error(error: &KafkaError) -> Option<&RDKafkaError> {
    match error {
        KafkaError::Transaction(error) => Some(error),
        _ => None,
    }
}

/// Whether the same call goes on where it stopped.
fn goes_on(error: &KafkaError) -> bool {
    transaction_error(error).is_some_and(|error| error.is_retriable() && !error.is_fatal())
}

fn trouble(error: &KafkaError) -> Trouble {
    match transaction_error(error) {
        Some(error) if error.is_fatal() => Trouble::Dead(error.to_string()),
        Some(error) => Trouble::Abort(error.code(), error.to_string()),
        // A record that was not taken: nothing of the transaction has been committed.
        None => {
            Trouble::Abort(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail), error.to_string())
        }
    }
}
