//! The one thread that changes the journal. It takes commands in order: writes are gathered into one atomic batch and one
//! fsync; joining, leaving and letting go happen between two batches, so that no commit overlaps a hand-over.

mod duties;
mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use fjall::PersistMode;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::frame::{self, Chunk, FrameBuilder};
use super::groups::{Epoch, Group, MemberId};
use super::handle::Handle;
use super::keyed::{self, Keyed, Pending};
use super::partition::{Partition, Segment};
use super::space::Space;
use super::store::{self, CommitKey, Contents, Store, broken};
use super::{FsyncPolicy, JournalOptions};
use crate::clock::Clock;
use crate::log::{Commit, CommitError, LogError, MemberEvent, Topic, TopicSpec};
use crate::model::{PartitionId, UnixMs};

/// One batch holds at most so many bytes of records (and one more write).
const BATCH_BYTES: usize = 4 << 20;
pub(super) enum Command {
    Append(Append),
    Commit(CommitWrite),
    Migrate {
        topics: Vec<TopicSpec>,
        answer: oneshot::Sender<Result<Vec<String>, LogError>>,
    },
    Join {
        group: String,
        topic: Topic,
        answer: oneshot::Sender<Result<Joined, LogError>>,
    },
    Leave {
        group: GroupKey,
        member: MemberId,
    },
    Release {
        group: GroupKey,
        partition: PartitionId,
        epoch: Epoch,
    },
    /// An owner can do no more: it has lost the partition, and whoever is to have it is given it anew.
    GiveUp {
        group: GroupKey,
        partition: PartitionId,
        epoch: Epoch,
    },
    /// Which groups read a topic; the answer names others that did.
    SetReaders {
        topic: Topic,
        groups: BTreeSet<String>,
        answer: oneshot::Sender<Vec<String>>,
    },
    /// What is durable, between two batches.
    Snapshot(oneshot::Sender<fjall::Snapshot>),
    Stop,
}

pub(super) struct Append {
    pub(super) chunks: Vec<Chunk>,
    /// The first offset of each chunk.
    pub(super) answer: oneshot::Sender<Result<Vec<i64>, LogError>>,
    /// Its share of the memory that waiting writes may take.
    pub(super) room: OwnedSemaphorePermit,
}

pub(super) struct CommitWrite {
    pub(super) group: GroupKey,
    pub(super) partition: PartitionId,
    pub(super) epoch: Epoch,
    pub(super) commit: Commit,
    pub(super) chunks: Vec<Chunk>,
    pub(super) answer: oneshot::Sender<Result<(), CommitError>>,
    pub(super) room: OwnedSemaphorePermit,
}

pub(super) type GroupKey = (Arc<str>, Topic);

pub(super) struct Joined {
    pub(super) group: GroupKey,
    pub(super) member: MemberId,
    pub(super) events: mpsc::UnboundedReceiver<MemberEvent>,
}

/// A partition as the writer sees it.
struct Tail {
    shared: Arc<Partition>,
    /// Oldest first; the last is written to.
    segments: Vec<Segment>,
    next: i64,
    last_time: UnixMs,
    /// The frame that the current batch is filling.
    open: Option<FrameBuilder>,
    /// Of a compacted topic: what the current batch has put.
    pending: Pending,
}

pub(super) struct Writer {
    store: Store,
    options: JournalOptions,
    clock: Clock,
    space: Space,
    tails: BTreeMap<(Topic, PartitionId), Tail>,
    retention_ms: BTreeMap<Topic, u64>,
    commits: BTreeMap<CommitKey, Commit>,
    groups: BTreeMap<GroupKey, Group<watch::Sender<()>>>,
    /// Of a topic that is not here, every group that has committed.
    readers: BTreeMap<Topic, BTreeSet<String>>,
    members: BTreeMap<MemberId, mpsc::UnboundedSender<MemberEvent>>,
    /// Members and epochs are numbered from here.
    counter: u64,
    /// For lanes and revocations. Its way back to this thread keeps the channel open: the thread ends by `Stop`.
    handle: Handle,
    retained_at: UnixMs,
    rolled: bool,
    /// Written to the operating system and not yet to the disk, since then (`FsyncPolicy::Interval`).
    dirty_since: Option<Instant>,
}

/// What a batch will answer once it is durable.
enum Answer {
    Append(oneshot::Sender<Result<Vec<i64>, LogError>>, Vec<i64>),
    Commit(oneshot::Sender<Result<(), CommitError>>, CommitKey, Commit),
}

impl Writer {
    pub(super) fn new(
        store: Store,
        contents: Contents,
        options: JournalOptions,
        clock: Clock,
        space: Space,
        handle: Handle,
    ) -> Self {
        let now = clock.now();
        let mut writer = Self {
            store,
            options,
            clock,
            space,
            tails: BTreeMap::new(),
            retention_ms: BTreeMap::new(),
            commits: contents.commits,
            groups: BTreeMap::new(),
            readers: BTreeMap::new(),
            members: BTreeMap::new(),
            counter: 0,
            handle,
            retained_at: now,
            rolled: false,
            dirty_since: None,
        };
        for (topic, kept) in contents.topics {
            writer.take_in(topic, kept.retention_ms, kept.partitions);
        }
        writer
    }

    fn take_in(&mut self, topic: Topic, retention_ms: u64, partitions: Vec<Vec<Segment>>) {
        let mut shared = Vec::new();
        for (id, segments) in (0..).map(PartitionId).zip(partitions) {
            let partition = Arc::new(Partition::new(topic, id, &segments));
            shared.push(partition.clone());
            let last_time = segments.iter().filter_map(|segment| segment.last_time).max().unwrap_or_default();
            let tail = Tail {
                next: partition.end(),
                shared: partition,
                segments,
                last_time,
                open: None,
                pending: Pending::new(),
            };
            self.tails.insert((topic, id), tail);
        }
        self.retention_ms.insert(topic, retention_ms);
        self.handle.topics.rcu(|topics| {
            let mut topics = BTreeMap::clone(topics);
            topics.insert(topic, shared.clone());
            topics
        });
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut next = None;
        loop {
            let command = match next.take() {
                Some(command) => command,
                None => match commands.recv_timeout(self.until_next_duty()) {
                    Ok(command) => command,
                    Err(RecvTimeoutError::Timeout) => {
                        self.sync_if_due();
                        self.retain_if_due();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                },
            };
            match command {
                command @ (Command::Append(_) | Command::Commit(_)) => next = self.write(command, commands),
                Command::Migrate { topics, answer } => {
                    let done = topics.iter().map(|spec| self.migrate(spec)).collect::<Result<Vec<_>, _>>();
                    // Whoever asked may be gone; so in every answer of this thread.
                    let _ = answer.send(done.map(|lines| lines.into_iter().flatten().collect()));
                }
                Command::Join { group, topic, answer } => self.join(group, topic, answer),
                Command::Leave { group, member } => {
                    self.members.remove(&member);
                    self.change_group(&group, |group| group.leave(member));
                }
                Command::Release { group, partition, epoch } => {
                    self.change_group(&group, |group| group.release(partition, epoch));
                }
                Command::GiveUp { group, partition, epoch } => self.lose(&group, partition, epoch),
                Command::SetReaders { topic, groups, answer } => {
                    drop(answer.send(self.set_readers(topic, groups)));
                }
                Command::Snapshot(answer) => drop(answer.send(self.store.db.snapshot())),
                Command::Stop => break,
            }
            self.sync_if_due();
            self.retain_if_due();
        }
        self.close();
    }

    /// Everything handed in so far is on the disk; lanes are dead, and readers hold no file after their current read.
    fn close(mut self) {
        if self.dirty_since.take().is_some() {
            self.sync();
        }
        for tail in self.tails.values() {
            tail.shared.set_segments(&[]);
        }
    }

    /// Gathers `first` and the writes that wait behind it into one batch. Returns the command that ended the gathering.
    fn write(&mut self, first: Command, commands: &Receiver<Command>) -> Option<Command> {
        let mut batch = self.store.db.batch();
        let (mut answers, mut rooms, mut bytes) = (Vec::new(), Vec::new(), 0);
        let now = self.clock.now();
        let mut command = Some(first);
        while let Some(next) = command.take() {
            match next {
                Command::Append(append) => {
                    let size = size_of(&append.chunks);
                    match self.admit(&append.chunks, bytes + size, self.options.reserve_bytes) {
                        Err(error) => {
                            let _ = append.answer.send(Err(error));
                        }
                        Ok(()) => {
                            bytes += size;
                            let offsets = self.place(&append.chunks, now, &mut batch);
                            answers.push(Answer::Append(append.answer, offsets));
                            rooms.push(append.room);
                        }
                    }
                }
                Command::Commit(write) => {
                    let size = size_of(&write.chunks);
                    // A bare commit is small, and lets retention make room: it may use most of the reserve.
                    let reserve = self.options.reserve_bytes / if size == 0 { 4 } else { 1 };
                    let owned = self
                        .groups
                        .get(&write.group)
                        .is_some_and(|group| group.owns(write.partition, write.epoch));
                    if !owned {
                        let _ = write.answer.send(Err(CommitError::NotOwner(write.partition)));
                    } else if let Err(error) = self.admit(&write.chunks, bytes + size, reserve) {
                        let _ = write.answer.send(Err(CommitError::Retry(error.to_string())));
                    } else {
                        bytes += size;
                        self.place(&write.chunks, now, &mut batch);
                        let (group, topic) = write.group;
                        let key = (topic, write.partition, group.to_string());
                        batch.insert(
                            &self.store.meta,
                            store::commit_key(&key),
                            store::commit_value(&write.commit),
                        );
                        answers.push(Answer::Commit(write.answer, key, write.commit));
                        rooms.push(write.room);
                    }
                }
                other => {
                    command = Some(other);
                    break;
                }
            }
            if bytes >= BATCH_BYTES {
                break;
            }
            command = commands.try_recv().ok();
        }
        if !answers.is_empty() {
            self.close_frames(now, &mut batch);
            let durable = self.make_durable(batch);
            self.answer(answers, durable);
        }
        command
    }

    /// Whether a write may go on: the log is whole, its topics are there, the disk has room. Rolls segments that are full.
    fn admit(&mut self, chunks: &[Chunk], bytes: usize, reserve: u64) -> Result<(), LogError> {
        const DOING: &str = "appending to the journal";
        if let Some(cause) = self.handle.broken.get() {
            return Err(broken(DOING, cause));
        }
        self.space
            .check(bytes as u64, reserve)
            .map_err(|cause| LogError::Unavailable { doing: DOING, cause })?;
        if !chunks.is_empty() {
            self.make_room(bytes as u64)?;
        }
        for chunk in chunks {
            let key = (chunk.topic, chunk.partition);
            let Some(tail) = self.tails.get(&key) else {
                return Err(no_such_topic(chunk.topic));
            };
            // Only between two batches: a frame of this one must not land behind a segment that a crash leaves empty.
            if tail.open.is_none() && self.is_full(key.0, tail) {
                self.roll(key).map_err(|error| self.break_with(DOING, &error))?;
            }
        }
        Ok(())
    }

    /// Gives the chunks their offsets, and the frames they fill to the batch.
    fn place(&mut self, chunks: &[Chunk], now: UnixMs, batch: &mut fjall::OwnedWriteBatch) -> Vec<i64> {
        let mut offsets = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let Some(tail) = self.tails.get_mut(&(chunk.topic, chunk.partition)) else { continue };
            if let Some(keyed) = &chunk.keyed {
                match tail.put_keyed((chunk, keyed), now, batch) {
                    Ok(offset) => offsets.push(offset),
                    // Nothing of this batch will be written.
                    Err(cause) => drop(self.break_because("looking for a key in the journal", cause)),
                }
                continue;
            }
            let placed = tail.open.as_mut().and_then(|open| open.push(chunk));
            let offset = placed.unwrap_or_else(|| {
                tail.close_frame(now, batch);
                let mut open = FrameBuilder::new(tail.next, chunk.bytes.len());
                open.push(chunk);
                tail.open = Some(open);
                tail.next
            });
            tail.next = offset + i64::from(chunk.records);
            offsets.push(offset);
        }
        offsets
    }

    fn close_frames(&mut self, now: UnixMs, batch: &mut fjall::OwnedWriteBatch) {
        for tail in self.tails.values_mut() {
            tail.close_frame(now, batch);
            tail.close_keyed(batch);
        }
    }

    fn make_durable(&mut self, batch: fjall::OwnedWriteBatch) -> Result<(), String> {
        if let Some(cause) = self.handle.broken.get() {
            return Err(cause.clone());
        }
        let mode = match self.options.fsync {
            FsyncPolicy::Always => PersistMode::SyncData,
            FsyncPolicy::Interval(_) => {
                self.dirty_since.get_or_insert_with(Instant::now);
                PersistMode::Buffer
            }
        };
        // The store writes its own journal and syncs it before anything becomes visible to readers.
        batch.durability(Some(mode)).commit().map_err(|error| {
            self.break_with("writing to the journal", &error);
            store::text(&error)
        })
    }

    fn answer(&mut self, answers: Vec<Answer>, durable: Result<(), String>) {
        if durable.is_ok() {
            for tail in self.tails.values_mut() {
                if tail.shared.end() != tail.next {
                    tail.shared.advance(tail.next);
                }
            }
        }
        for answer in answers {
            match (answer, &durable) {
                (Answer::Append(answer, offsets), Ok(())) => {
                    let _ = answer.send(Ok(offsets));
                }
                (Answer::Append(answer, _), Err(cause)) => {
                    let _ = answer.send(Err(broken("writing to the journal", cause)));
                }
                (Answer::Commit(answer, key, commit), Ok(())) => {
                    self.commits.insert(key, commit);
                    let _ = answer.send(Ok(()));
                }
                (Answer::Commit(answer, ..), Err(cause)) => {
                    let _ = answer.send(Err(CommitError::Retry(cause.clone())));
                }
            }
        }
    }

    /// After a failed write or fsync nobody knows what is on the disk: no write is tried again, every lane and
    /// membership ends.
    fn break_with(&mut self, doing: &'static str, error: &fjall::Error) -> LogError {
        self.break_because(doing, store::text(error))
    }

    fn break_because(&mut self, doing: &'static str, cause: String) -> LogError {
        let error = broken(doing, cause);
        tracing::error!(error.code = error.code(), "{error}");
        let _ = self.handle.broken.set(error.to_string());
        self.groups.clear();
        self.members.clear();
        error
    }
}

impl Tail {
    fn close_frame(&mut self, now: UnixMs, batch: &mut fjall::OwnedWriteBatch) {
        let (Some(frame), Some(active)) = (self.open.take(), self.segments.last_mut()) else { return };
        // The log's own time, and never before the record before it.
        self.last_time = self.last_time.max(now);
        let (first, records) = (frame.first, frame.records);
        let value = frame.finish(self.last_time, active.bytes);
        active.bytes += value.len() as u64;
        active.end = first + i64::from(records);
        active.first_time.get_or_insert(self.last_time);
        active.last_time = Some(self.last_time);
        batch.insert(&active.keyspace, frame::key(first), value);
    }

    fn put_keyed(
        &mut self,
        record: (&Chunk, &Keyed),
        now: UnixMs,
        batch: &mut fjall::OwnedWriteBatch,
    ) -> Result<i64, String> {
        let Some(active) = self.segments.last() else { return Err("the partition is not there".to_owned()) };
        self.last_time = self.last_time.max(now);
        let offset = self.next;
        keyed::put(&active.keyspace, &mut self.pending, batch, record, offset, self.last_time)?;
        self.next += 1;
        Ok(offset)
    }

    fn close_keyed(&mut self, batch: &mut fjall::OwnedWriteBatch) {
        let Some(active) = self.segments.last().filter(|_| !self.pending.is_empty()) else { return };
        keyed::put_next(&active.keyspace, batch, self.next, self.last_time);
        self.pending.clear();
    }
}

fn size_of(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.bytes.len()).sum()
}

pub(super) fn no_such_topic(topic: Topic) -> LogError {
    LogError::Topic { topic: topic.name(), cause: "is not in the journal".to_owned() }
}
