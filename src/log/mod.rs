//! The seam to the log: topics of partitions of records, walked by one owner a partition.
//!
//! Two implementations, held by one contract suite: Apache Kafka ([`kafka`]) and the journal inside this process
//! ([`journal`]). What each must keep is PROMISE's: every commit is atomic with the records it carries, a commit by
//! anyone but the partition's owner is refused, and metadata survives.

mod batch;
mod origin;
mod topics;

#[cfg(test)]
pub(crate) mod contract;
pub(crate) mod journal;
pub(crate) mod kafka;
#[cfg(test)]
pub(crate) mod memory;

/// A real Apache Kafka for the tests; `tests/it` includes the same file.
#[cfg(test)]
#[expect(dead_code, reason = "the fault suite uses the rest")]
#[path = "../../tests/support/kafka.rs"]
pub(crate) mod broker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use batch::{Batch, Record};
pub(crate) use origin::Origin;
pub(crate) use topics::{Cleanup, Topic, TopicSpec, home_partition, murmur2};

use crate::model::{Offset, PartitionId, ResumeAt, UnixMs};

/// A record to be appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewRecord {
    /// Decides the partition, unless `partition` does.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) partition: Option<PartitionId>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// Where an appended record came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
}

/// A group's commit for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) resume_at: ResumeAt,
    /// At most 4,000 bytes; empty if a commit of another program left none.
    pub(crate) metadata: String,
}

/// What a member of a group is told.
pub(crate) enum MemberEvent {
    Assigned(Assigned),
    /// Taking over these partitions, which have no lane meanwhile, waits for what is said. Told again and again until
    /// each is `Assigned`, or the member leaves.
    Delayed {
        partitions: Vec<PartitionId>,
        why: LogError,
    },
    /// Stop the lane, let what is in flight end or fail, then drop `done`: the partition is let go only then.
    Revoked {
        partition: PartitionId,
        done: RevokeDone,
    },
    /// Another owner may have it already: stop, commit nothing.
    Lost {
        partition: PartitionId,
    },
}

/// A partition that is now ours, positioned at its commit (or at `start`, where there is none).
pub(crate) struct Assigned {
    pub(crate) partition: PartitionId,
    pub(crate) commit: Option<Commit>,
    /// The first offset that the log still has.
    pub(crate) start: Offset,
    /// One past the last.
    pub(crate) end: Offset,
    pub(crate) lane: Arc<dyn Lane>,
}

/// Dropped to answer a revocation.
pub(crate) struct RevokeDone(
    #[expect(dead_code, reason = "held for its drop")] Box<dyn std::any::Any + Send>,
);

impl RevokeDone {
    /// `guard`'s drop tells the log that the partition may go.
    pub(crate) fn new(guard: impl std::any::Any + Send) -> Self {
        Self(Box::new(guard))
    }
}

/// What may go wrong with the log. None of it is the data's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// Try again later: the broker is away, a request timed out.
    #[error("the log cannot be reached while {doing}: {cause}; it is tried again")]
    Unavailable { doing: &'static str, cause: String },
    /// The lane's partition was let go or lost: whoever owns it next goes on.
    #[error("{doing}: the partition is not held any more")]
    NotHeld { doing: &'static str },
    /// The records are larger than the log takes.
    #[error("a record of {bytes} bytes is more than the log takes")]
    TooLarge { bytes: usize },
    /// A wanted topic is not there or has other settings.
    #[error("topic {topic}: {cause}; run `jwtrail migrate`")]
    Topic { topic: &'static str, cause: String },
    /// The configuration asks for what cannot be.
    #[error("{cause}")]
    Settings { cause: String },
    /// The log's own store is broken: going on would lose data.
    #[error("the log failed while {doing}: {cause}")]
    Broken { doing: &'static str, cause: String },
}

impl LogError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "log_unavailable",
            Self::NotHeld { .. } => "not_held",
            Self::TooLarge { .. } => "record_too_large",
            Self::Topic { .. } => "topic_wrong",
            Self::Settings { .. } => "log_settings",
            Self::Broken { .. } => "log_broken",
        }
    }
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// Somebody else owns the partition now: the lane ends and drops what it holds.
    #[error("partition {0} has another owner")]
    NotOwner(PartitionId),
    /// Nothing was committed; the same commit may be tried again.
    #[error("the commit did not go through and is tried again: {0}")]
    Retry(String),
    /// The metadata (over [`METADATA_BYTES_MAX`]) or a carried record is larger than the log takes: nothing was
    /// committed, and trying again is no use.
    #[error("a commit's metadata or record of {bytes} bytes is more than the log takes")]
    TooLarge { bytes: usize },
}

/// The most metadata that a commit may have: what Apache Kafka takes by default, less a margin.
pub(crate) const METADATA_BYTES_MAX: usize = 4_000;

/// What every commit begins with.
fn check_metadata(metadata: &str) -> Result<(), CommitError> {
    match metadata.len() {
        ..=METADATA_BYTES_MAX => Ok(()),
        bytes => Err(CommitError::TooLarge { bytes }),
    }
}

/// The log.
#[async_trait]
pub(crate) trait EventLog: Send + Sync {
    /// Creates what is missing of `topics` and sets right what can be (LogAppendTime, retention). Idempotent.
    async fn migrate(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError>;

    /// Appends; the records are durable when it returns, and `placed` is in their order. All or an error: after an
    /// error some may have been written (readers drop repeats by id).
    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Placed>, LogError>;

    /// Becomes a member of `group` for `topic`.
    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Membership>, LogError>;

    /// Says which groups read a topic: what others have not read is kept for nobody. Answers those others, as far as it
    /// knows them (a broker keeps records for no group, and does not say what each reads).
    async fn set_readers(&self, topic: Topic, groups: &[String]) -> Result<Vec<String>, LogError>;

    /// The first offset whose append time is at or after `time`; the end if there is none.
    async fn offset_at(&self, topic: Topic, partition: PartitionId, time: UnixMs)
    -> Result<Offset, LogError>;

    /// Reads a partition, without a group, from `from` (or where it starts, if it has no such record any more) to where
    /// it ends now. Whatever was committed before the call is seen, and nothing of what was aborted: records of a
    /// transaction that is still open are waited for, and if it does not come to its end soon, [`Scan::next`] fails.
    async fn scan(
        &self,
        topic: Topic,
        partition: PartitionId,
        from: Option<Offset>,
    ) -> Result<Box<dyn Scan>, LogError>;

    /// Follows a partition, without a group, from where it starts: what is there, then what comes. As of a scan, nothing
    /// of what was aborted is seen; what is not decided yet comes when it is. That a key of a compacted topic was removed
    /// may show or not: whoever must tell writes a record that says so.
    async fn tail(&self, topic: Topic, partition: PartitionId) -> Result<Box<dyn Tail>, LogError>;

    /// How many partitions the topic has.
    async fn partitions(&self, topic: Topic) -> Result<u32, LogError>;

    /// Whether the log answers right now.
    async fn health(&self) -> Result<(), LogError>;
}

/// A walk over what was in a partition when it began.
#[async_trait]
pub(crate) trait Scan: Send {
    /// Where it began: beyond what was asked for if the log starts later by now.
    fn start(&self) -> Offset;

    /// One past the last offset that it comes to. Records that were appended meanwhile are not necessarily left out.
    fn end(&self) -> Offset;

    /// Fills `batch` (cleared first) with the next records, at most `max`; false, and no record, when all have been
    /// read. After an error the scan is of no more use.
    async fn next(&mut self, batch: &mut Batch, max: usize) -> Result<bool, LogError>;
}

/// How long a tail that has given everything waits for more before it says so again.
pub(crate) const TAIL_QUIET: Duration = Duration::from_secs(2);

/// A walk over a partition that does not end.
#[async_trait]
pub(crate) trait Tail: Send {
    /// Fills `batch` (cleared first) with the next records, at most `max`. An empty one says that everything has been
    /// given that was committed when the call began, as the log itself confirmed: it comes at once when the last records
    /// have been given, and after that every [`TAIL_QUIET`] until there are others. After an error, and when a call was
    /// dropped, the tail is of no more use.
    async fn next(&mut self, batch: &mut Batch, max: usize) -> Result<(), LogError>;
}

/// One member of a group. Dropping it leaves the group; its lanes are dead from then on.
#[async_trait]
pub(crate) trait Membership: Send {
    /// Waits for the next change of what this member owns. Cancel-safe: a dropped call loses no change.
    async fn next(&mut self) -> Result<MemberEvent, LogError>;
}

/// One owned partition. All methods take `&self`: a commit may be under way while the next batch is awaited.
#[async_trait]
pub(crate) trait Lane: Send + Sync {
    /// Reads on from `offset`; it may lie before the commit (a walk for state) but not outside [start, end]. Below the
    /// start it may succeed or not; the lane is lost with it, or with the next [`Lane::next`].
    async fn seek(&self, offset: Offset) -> Result<(), LogError>;

    /// Fills `batch` (cleared first) with what is there, at most `max` records, waiting until there is at least one or
    /// the position moves (offsets can have holes). Cancel-safe: a dropped call loses no record. What has left the log is
    /// never passed over in silence: a lane that was to read it is lost, and the partition is assigned anew.
    async fn next(&self, batch: &mut Batch, max: usize) -> Result<(), LogError>;

    /// One past the last offset of the partition, as last heard (read committed).
    async fn end(&self) -> Result<Offset, LogError>;

    /// Commits atomically: the position, its metadata (at most 4,000 bytes) and `records`, each with its topic. An
    /// unclear outcome is read back before it answers.
    async fn commit(
        &self,
        resume_at: ResumeAt,
        metadata: &str,
        records: Vec<(Topic, NewRecord)>,
    ) -> Result<(), CommitError>;
}
