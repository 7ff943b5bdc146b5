//! A log in memory, for tests: it keeps the contract, and fails where and when it is told to.
//!
//! Everything happens under one lock, so that whoever holds a partition, what it commits and what others read never
//! overlap. As on Kafka every transaction leaves a marker, a hole, in each partition that it appends to.

mod lane;
mod state;
mod tail;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::{
    Batch, Commit, EventLog, LogError, MemberEvent, Membership, NewRecord, Placed, Scan, Tail, Topic,
    TopicSpec,
};
use crate::clock::Clock;
use crate::model::{Offset, PartitionId, UnixMs};
use state::{GroupKey, State};
use tail::MemoryTail;

/// What goes wrong, once, at the next call that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFault {
    /// A commit is not done; the owner may try again.
    CommitRetried,
    /// The partition is lost before a commit.
    CommitLost,
    /// A commit is done, and the partition is lost before the owner hears of it.
    CommitDoneAndLost,
    /// An append leaves nothing.
    AppendFails,
    /// Half of what is appended is written, and nobody is told.
    AppendHalf,
    /// A lane cannot be read.
    Read,
    /// A partition cannot be scanned, or not be looked up by time.
    Look,
}

impl LogFault {
    pub(crate) const ALL: [Self; 7] = [
        Self::CommitRetried,
        Self::CommitLost,
        Self::CommitDoneAndLost,
        Self::AppendFails,
        Self::AppendHalf,
        Self::Read,
        Self::Look,
    ];
}

/// Records of a partition as they lie.
pub(crate) type Lying = (Offset, UnixMs, NewRecord);

#[derive(Clone)]
pub(crate) struct MemoryLog {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Marked as changed by whatever may end a wait.
    changed: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something under the lock, then wakes whoever waits.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.send_replace(());
        changed
    }
}

impl MemoryLog {
    pub(crate) fn new(clock: Clock, topics: &[TopicSpec]) -> Self {
        let (state, changed) = (Mutex::new(State::new(clock)), watch::Sender::new(()));
        let log = Self { shared: Arc::new(Shared { state, changed }) };
        log.shared.lock().migrate(topics).unwrap();
        log
    }

    /// Arms a fault.
    pub(crate) fn fail(&self, fault: LogFault) {
        self.shared.lock().faults.push(fault);
    }

    /// No armed fault is left.
    pub(crate) fn heal(&self) {
        self.shared.lock().faults.clear();
    }

    /// While it is away nothing can be appended, and it says so.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.shared.lock().is_away = is_away;
    }

    /// Appends as another process does: past every fault.
    pub(crate) fn write(&self, topic: Topic, records: Vec<NewRecord>) -> Vec<Placed> {
        self.shared.change(|state| state.append(topic, records)).unwrap()
    }

    /// Leaves `count` offsets without a record, as an aborted transaction does.
    pub(crate) fn leave_holes(&self, topic: Topic, partition: PartitionId, count: i64) {
        self.shared.change(|state| state.partition_mut(topic, partition).unwrap().end += count);
    }

    /// Forgets every member without asking it, as when their sessions end: what they hold is dead.
    pub(crate) fn forget_members(&self) {
        self.shared.change(State::forget_members);
    }

    /// Takes a partition from its owner, whoever that is, and gives it to somebody.
    pub(crate) fn lose(&self, group: &str, topic: Topic, partition: PartitionId) {
        let key: GroupKey = (group.to_owned(), topic);
        self.shared.change(|state| state.lose(&key, partition, &self.shared));
    }

    /// Lets the records before `offset` go.
    pub(crate) fn truncate(&self, topic: Topic, partition: PartitionId, offset: Offset) {
        self.shared.change(|state| state.partition_mut(topic, partition).unwrap().truncate(offset.get()));
    }

    /// What a group committed for a partition.
    pub(crate) fn committed(&self, group: &str, topic: Topic, partition: PartitionId) -> Option<Commit> {
        self.shared.lock().groups.get(&(group.to_owned(), topic))?.commits.get(&partition).cloned()
    }

    /// The records of a partition.
    pub(crate) fn records(&self, topic: Topic, partition: PartitionId) -> Vec<Lying> {
        let state = self.shared.lock();
        state.partition(topic, partition).unwrap().read(0).collect()
    }
}

fn unavailable(doing: &'static str) -> LogError {
    LogError::Unavailable { doing, cause: "the test says so".to_owned() }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn migrate(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        self.shared.lock().migrate(topics)
    }

    async fn append(&self, topic: Topic, mut records: Vec<NewRecord>) -> Result<Vec<Placed>, LogError> {
        const DOING: &str = "appending";
        self.shared.change(|state| {
            if state.takes(LogFault::AppendFails) {
                return Err(unavailable(DOING));
            }
            let half = state.takes(LogFault::AppendHalf);
            if state.is_away && !half {
                return Err(unavailable(DOING));
            }
            if half {
                records.truncate(records.len() / 2);
            }
            let placed = state.append(topic, records)?;
            if half { Err(unavailable(DOING)) } else { Ok(placed) }
        })
    }

    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Membership>, LogError> {
        let key: GroupKey = (group.to_owned(), topic);
        let (told, events) = mpsc::unbounded_channel();
        let number = self.shared.change(|state| state.join(&key, told, &self.shared))?;
        Ok(Box::new(MemoryMember { shared: Arc::clone(&self.shared), key, number, events }))
    }

    async fn set_readers(&self, _: Topic, _: &[String]) -> Result<Vec<String>, LogError> {
        Ok(Vec::new())
    }

    async fn offset_at(
        &self,
        topic: Topic,
        partition: PartitionId,
        time: UnixMs,
    ) -> Result<Offset, LogError> {
        let mut state = self.shared.lock();
        if state.takes(LogFault::Look) {
            return Err(unavailable("looking for a time"));
        }
        Ok(state.partition(topic, partition)?.offset_at(time))
    }

    async fn scan(
        &self,
        topic: Topic,
        partition: PartitionId,
        from: Option<Offset>,
    ) -> Result<Box<dyn Scan>, LogError> {
        let mut state = self.shared.lock();
        let fails = state.takes(LogFault::Look);
        let lies = state.partition(topic, partition)?;
        let start = from.map_or(lies.start, |from| from.get().max(lies.start));
        let (rest, end) = (lies.read(start).collect(), offset(lies.end));
        Ok(Box::new(MemoryScan { partition, start: offset(start), end, rest, fails }))
    }

    async fn tail(&self, topic: Topic, partition: PartitionId) -> Result<Box<dyn Tail>, LogError> {
        let start = self.shared.lock().partition(topic, partition)?.start;
        Ok(Box::new(MemoryTail::new(Arc::clone(&self.shared), topic, partition, start)))
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, LogError> {
        self.shared.lock().partitions(topic)
    }

    async fn health(&self) -> Result<(), LogError> {
        if self.shared.lock().is_away {
            Err(unavailable("asking the log for a sign of life"))
        } else {
            Ok(())
        }
    }
}

struct MemoryMember {
    shared: Arc<Shared>,
    key: GroupKey,
    number: u64,
    events: mpsc::UnboundedReceiver<MemberEvent>,
}

#[async_trait]
impl Membership for MemoryMember {
    async fn next(&mut self) -> Result<MemberEvent, LogError> {
        self.events.recv().await.ok_or_else(|| unavailable("waiting as a member of a group"))
    }
}

impl Drop for MemoryMember {
    fn drop(&mut self) {
        self.shared.change(|state| state.leave(&self.key, self.number, &self.shared));
    }
}

/// What was there when it began.
struct MemoryScan {
    partition: PartitionId,
    start: Offset,
    end: Offset,
    rest: VecDeque<Lying>,
    fails: bool,
}

#[async_trait]
impl Scan for MemoryScan {
    fn start(&self) -> Offset {
        self.start
    }

    fn end(&self) -> Offset {
        self.end
    }

    async fn next(&mut self, batch: &mut Batch, max: usize) -> Result<bool, LogError> {
        batch.clear(self.partition);
        if self.fails {
            return Err(unavailable("scanning"));
        }
        while !batch.is_full(max.max(1))
            && let Some(record) = self.rest.pop_front()
        {
            push(batch, &record);
        }
        Ok(!batch.is_empty())
    }
}

fn push(batch: &mut Batch, (offset, time, record): &Lying) {
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    batch.push(*offset, *time, record.key.as_deref(), &record.value, headers);
}

fn offset(offset: i64) -> Offset {
    Offset::new(offset).unwrap()
}
