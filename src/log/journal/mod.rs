//! The log as a durable journal inside this process, for a single machine.
//!
//! One writer thread gathers what many callers append into one atomic batch and one fsync; readers take what is durable
//! straight from the store's files. Groups live in the writer too, so that a commit and a hand-over never overlap.

mod frame;
mod groups;
mod handle;
mod keyed;
mod lane;
mod partition;
mod retention;
mod scan;
mod space;
mod store;
mod tail;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;

use self::handle::Handle;
use self::lane::JournalMember;
use self::scan::JournalScan;
use self::space::Space;
use self::store::{Store, broken};
use self::tail::JournalTail;
use self::writer::{Append, Command, Writer, no_such_topic};
use super::{EventLog, LogError, Membership, NewRecord, Placed, Scan, Tail, Topic, TopicSpec};
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::model::{Offset, PartitionId, UnixMs};

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FsyncPolicy {
    /// When it is on the disk.
    Always,
    /// When the operating system has it; it is on the disk after this time. A power loss may take that much; the end of
    /// the process, however hard, takes nothing.
    Interval(Duration),
}

/// What happens when a journal holds as much as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The oldest segments go, committed or not: a log goes on.
    Truncate,
    /// Appends are refused until commits make room: nothing that was taken goes before every group has it.
    Refuse,
}

/// How a journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalOptions {
    pub(crate) fsync: FsyncPolicy,
    /// All segments together, before compression; compacted topics, of which nothing may go, come on top.
    pub(crate) limit_bytes: u64,
    pub(crate) when_full: WhenFull,
    /// A segment is closed at this size, before compression.
    pub(crate) segment_bytes: u64,
    /// Appends are refused while the disk has less than this free.
    pub(crate) reserve_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            fsync: FsyncPolicy::Always,
            limit_bytes: 10 << 30,
            when_full: WhenFull::Truncate,
            segment_bytes: 64 << 20,
            // What the store still writes of its own accord: its journal files, and tables from memory.
            reserve_bytes: 256 << 20,
        }
    }
}

/// A journal in a directory that nobody else has open.
pub(crate) struct Journal {
    handle: Handle,
    options: JournalOptions,
    space: Space,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal in `dir`, or makes it. Blocks for as long as it takes to replay what was not in tables yet.
    ///
    /// # Errors
    /// `Unavailable` if another process has it open; `Broken` if something that was durable is not there any more.
    pub(crate) fn open(dir: &Path, options: JournalOptions, clock: Clock) -> Result<Arc<Self>, LogError> {
        Self::open_with(dir, options, clock, Space::Disk(dir.to_owned()))
    }

    fn open_with(
        dir: &Path,
        options: JournalOptions,
        clock: Clock,
        space: Space,
    ) -> Result<Arc<Self>, LogError> {
        let (store, contents) = Store::open(dir)?;
        let (commands, received) = mpsc::channel();
        let handle = Handle::new(commands);
        let writer = Writer::new(store, contents, options, clock, space.clone(), handle.clone());
        let thread = Lifecycle::thread("journal-writer", move || writer.run(&received))
            .map_err(|error| broken("starting the journal's writer", error))?;
        Ok(Arc::new(Self { handle, options, space, writer: Mutex::new(Some(thread)) }))
    }
}

impl Drop for Journal {
    /// Waits until what was handed in is durable: milliseconds. Lanes and members that are left over are dead.
    fn drop(&mut self) {
        self.handle.tell(Command::Stop);
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer panicked");
        }
    }
}

#[async_trait]
impl EventLog for Journal {
    async fn migrate(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        let topics = topics.to_vec();
        self.handle
            .ask("creating topics in the journal", |answer| Command::Migrate { topics, answer })
            .await?
    }

    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Placed>, LogError> {
        const DOING: &str = "appending to the journal";
        let encoded = self.handle.encode(records.into_iter().map(|record| (topic, record)))?;
        if encoded.chunks.is_empty() {
            return Ok(Vec::new());
        }
        let room = self.handle.room_for(&encoded.chunks).await?;
        let partitions: Vec<_> = encoded.chunks.iter().map(|chunk| chunk.partition).collect();
        let chunks = encoded.chunks;
        let firsts =
            self.handle.ask(DOING, |answer| Command::Append(Append { chunks, answer, room })).await??;
        let placed = encoded.places.into_iter().map(|(chunk, place)| {
            let offset = firsts.get(chunk).and_then(|first| Offset::new(first + i64::from(place)))?;
            Some(Placed { partition: partitions[chunk], offset })
        });
        placed.collect::<Option<_>>().ok_or_else(|| broken(DOING, "the writer left a record out"))
    }

    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Membership>, LogError> {
        let group = group.to_owned();
        let joined =
            self.handle.ask("joining a group", |answer| Command::Join { group, topic, answer }).await??;
        Ok(Box::new(JournalMember::new(joined, self.handle.clone())))
    }

    async fn set_readers(&self, topic: Topic, groups: &[String]) -> Result<Vec<String>, LogError> {
        let groups = groups.iter().cloned().collect();
        self.handle
            .ask("naming a topic's readers", |answer| Command::SetReaders { topic, groups, answer })
            .await
    }

    async fn offset_at(
        &self,
        topic: Topic,
        partition: PartitionId,
        time: UnixMs,
    ) -> Result<Offset, LogError> {
        const DOING: &str = "looking for a time in the journal";
        let partition = self.handle.partition(topic, partition)?;
        let found = tokio::task::spawn_blocking(move || partition.offset_at(time)).await;
        let offset = found.map_err(|error| broken(DOING, error))??;
        Offset::new(offset).ok_or_else(|| broken(DOING, offset))
    }

    async fn scan(
        &self,
        topic: Topic,
        partition: PartitionId,
        from: Option<Offset>,
    ) -> Result<Box<dyn Scan>, LogError> {
        let partition = self.handle.partition(topic, partition)?;
        let snapshot = self.handle.ask(scan::DOING, Command::Snapshot).await?;
        let begin = move || JournalScan::begin(partition, from, &snapshot);
        let begun = tokio::task::spawn_blocking(begin).await;
        Ok(Box::new(begun.map_err(|error| broken(scan::DOING, error))??))
    }

    async fn tail(&self, topic: Topic, partition: PartitionId) -> Result<Box<dyn Tail>, LogError> {
        let partition = self.handle.partition(topic, partition)?;
        Ok(Box::new(JournalTail::new(partition, self.handle.clone())))
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, LogError> {
        let topics = self.handle.topics.load();
        let partitions = topics.get(&topic).ok_or_else(|| no_such_topic(topic))?.len();
        Ok(u32::try_from(partitions).unwrap_or(u32::MAX))
    }

    async fn health(&self) -> Result<(), LogError> {
        const DOING: &str = "writing to the journal";
        let stopped = {
            let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.as_ref().is_none_or(JoinHandle::is_finished)
        };
        if stopped || self.handle.broken.get().is_some() {
            return Err(self.handle.gone(DOING));
        }
        let space = self.space.check(0, self.options.reserve_bytes);
        space.map_err(|cause| LogError::Unavailable { doing: DOING, cause })
    }
}
