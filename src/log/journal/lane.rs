//! A member's side of a group: its changes, and the lanes of the partitions it owns.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::groups::{Epoch, MemberId};
use super::handle::Handle;
use super::partition::Partition;
use super::store::broken;
use super::writer::{Command, CommitWrite, GroupKey, Joined};
use crate::log::{
    Batch, Commit, CommitError, Lane, LogError, MemberEvent, Membership, NewRecord, Topic, check_metadata,
};
use crate::model::{Offset, PartitionId, ResumeAt};

pub(super) struct JournalMember {
    group: GroupKey,
    member: MemberId,
    events: mpsc::UnboundedReceiver<MemberEvent>,
    handle: Handle,
}

impl JournalMember {
    pub(super) fn new(joined: Joined, handle: Handle) -> Self {
        Self { group: joined.group, member: joined.member, events: joined.events, handle }
    }
}

#[async_trait]
impl Membership for JournalMember {
    async fn next(&mut self) -> Result<MemberEvent, LogError> {
        self.events.recv().await.ok_or_else(|| self.handle.gone("waiting as a member of a group"))
    }
}

impl Drop for JournalMember {
    fn drop(&mut self) {
        self.handle.tell(Command::Leave { group: self.group.clone(), member: self.member });
    }
}

/// Dropped: the owner has let the partition go.
pub(super) struct Release {
    handle: Handle,
    group: GroupKey,
    partition: PartitionId,
    epoch: Epoch,
}

impl Release {
    pub(super) fn new(handle: &Handle, group: GroupKey, partition: PartitionId, epoch: Epoch) -> Self {
        Self { handle: handle.clone(), group, partition, epoch }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        self.handle.tell(Command::Release {
            group: self.group.clone(),
            partition: self.partition,
            epoch: self.epoch,
        });
    }
}

pub(super) struct JournalLane {
    partition: Arc<Partition>,
    group: GroupKey,
    epoch: Epoch,
    /// The offset to be read next. A watch, so that a seek wakes a `next` that waits.
    position: watch::Sender<i64>,
    /// Closed when the ownership ends.
    held: watch::Receiver<()>,
    handle: Handle,
}

impl JournalLane {
    pub(super) fn new(
        partition: Arc<Partition>,
        group: GroupKey,
        epoch: Epoch,
        position: i64,
        held: watch::Receiver<()>,
        handle: &Handle,
    ) -> Self {
        let position = watch::Sender::new(position);
        Self { partition, group, epoch, position, held, handle: handle.clone() }
    }

    /// What it is to read has left the journal. The next lane is told where the partition starts now, and decides by that.
    fn give_up(&self, doing: &'static str) -> LogError {
        let (group, partition, epoch) = (self.group.clone(), self.partition.id, self.epoch);
        self.handle.tell(Command::GiveUp { group, partition, epoch });
        self.not_held(doing)
    }

    fn not_held(&self, doing: &'static str) -> LogError {
        match self.handle.broken.get() {
            Some(cause) => broken(doing, cause),
            None => LogError::NotHeld { doing },
        }
    }
}

#[async_trait]
impl Lane for JournalLane {
    async fn seek(&self, offset: Offset) -> Result<(), LogError> {
        const DOING: &str = "seeking in the journal";
        let (start, end) = (self.partition.start(), self.partition.end());
        if offset.get() < start {
            return Err(self.give_up(DOING));
        }
        if offset.get() > end {
            let cause = format!("{}: offset {offset} is beyond the end, {end}", self.partition.name());
            return Err(broken(DOING, cause));
        }
        self.position.send_replace(offset.get());
        Ok(())
    }

    async fn next(&self, batch: &mut Batch, max: usize) -> Result<(), LogError> {
        const DOING: &str = "reading from the journal";
        let max = max.max(1);
        batch.clear(self.partition.id);
        let (mut end, mut position) = (self.partition.subscribe(), self.position.subscribe());
        let mut held = self.held.clone();
        loop {
            if held.has_changed().is_err() {
                return Err(self.not_held(DOING));
            }
            let (from, until) = (*position.borrow_and_update(), *end.borrow_and_update());
            if from < self.partition.start() {
                return Err(self.give_up(DOING));
            }
            if from < until {
                let partition = self.partition.clone();
                let mut filling = std::mem::take(batch);
                let read = tokio::task::spawn_blocking(move || {
                    partition.read(from, until, max, &mut filling).map(|()| filling)
                });
                // Dropped here, the call has moved nothing: the position is set below, at once with the return.
                *batch = read.await.map_err(|error| broken(DOING, error))??;
                if from < self.partition.start() {
                    // They left while it was read: some may be missing in the batch.
                    batch.clear(self.partition.id);
                    return Err(self.give_up(DOING));
                }
                let read_to = batch.position().map_or(from, Offset::get);
                let moved = self.position.send_if_modified(|position| {
                    let here = *position == from;
                    if here {
                        *position = read_to;
                    }
                    here
                });
                if moved && read_to > from {
                    return Ok(());
                }
                // Sought elsewhere meanwhile: what was read is not what is wanted.
                batch.clear(self.partition.id);
                continue;
            }
            // Whichever comes first; the loop looks at all three again.
            tokio::select! {
                _ = end.changed() => {}
                _ = position.changed() => {}
                _ = held.changed() => {}
            }
        }
    }

    async fn end(&self) -> Result<Offset, LogError> {
        let end = self.partition.end();
        Offset::new(end).ok_or_else(|| broken("reading from the journal", end))
    }

    async fn commit(
        &self,
        resume_at: ResumeAt,
        metadata: &str,
        records: Vec<(Topic, NewRecord)>,
    ) -> Result<(), CommitError> {
        check_metadata(metadata)?;
        let refused = |error: LogError| match error {
            LogError::TooLarge { bytes } => CommitError::TooLarge { bytes },
            other => CommitError::Retry(other.to_string()),
        };
        let chunks = self.handle.encode(records).map_err(refused)?.chunks;
        let room = self.handle.room_for(&chunks).await.map_err(refused)?;
        let commit = Commit { resume_at, metadata: metadata.to_owned() };
        let (group, partition, epoch) = (self.group.clone(), self.partition.id, self.epoch);
        let asked = self.handle.ask("committing to the journal", |answer| {
            Command::Commit(CommitWrite { group, partition, epoch, commit, chunks, answer, room })
        });
        asked.await.map_err(refused)?
    }
}
