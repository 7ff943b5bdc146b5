//! One owned partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

use super::state::{GroupKey, State};
use super::{LogFault, Shared, offset, push, unavailable};
use crate::log::{Batch, Commit, CommitError, Lane, LogError, NewRecord, Topic, check_metadata};
use crate::model::{Offset, PartitionId, ResumeAt};

pub(super) struct MemoryLane {
    shared: Arc<Shared>,
    key: GroupKey,
    partition: PartitionId,
    epoch: u64,
    /// The offset to be read next; changed under the lock alone.
    position: AtomicI64,
}

impl MemoryLane {
    pub(super) fn new(
        shared: Arc<Shared>,
        key: GroupKey,
        partition: PartitionId,
        epoch: u64,
        position: i64,
    ) -> Self {
        Self { shared, key, partition, epoch, position: AtomicI64::new(position) }
    }

    fn is_held(&self, state: &State) -> bool {
        state.holds(&self.key, self.partition, self.epoch)
    }

    /// Reads what is there; false if there is nothing.
    fn read(&self, batch: &mut Batch, max: usize) -> Result<bool, LogError> {
        const DOING: &str = "reading";
        batch.clear(self.partition);
        let mut state = self.shared.lock();
        if !self.is_held(&state) {
            return Err(LogError::NotHeld { doing: DOING });
        }
        let lies = state.partition(self.key.1, self.partition)?;
        let (from, end) = (self.position.load(Ordering::Relaxed), lies.end);
        if from < lies.start {
            // The next lane is told where the partition starts now.
            state.lose(&self.key, self.partition, &self.shared);
            return Err(LogError::NotHeld { doing: DOING });
        }
        if from >= end {
            return Ok(false);
        }
        let records: Vec<_> = lies.read(from).take(max).collect();
        if state.takes(LogFault::Read) {
            return Err(unavailable(DOING));
        }
        for record in &records {
            if batch.is_full(max) {
                break;
            }
            push(batch, record);
        }
        if !batch.is_full(max) {
            batch.set_position(offset(end));
        }
        self.position.store(batch.position().map_or(end, Offset::get), Ordering::Relaxed);
        Ok(true)
    }
}

#[async_trait]
impl Lane for MemoryLane {
    async fn seek(&self, offset: Offset) -> Result<(), LogError> {
        self.shared.change(|_| self.position.store(offset.get(), Ordering::Relaxed));
        Ok(())
    }

    async fn next(&self, batch: &mut Batch, max: usize) -> Result<(), LogError> {
        let mut changed = self.shared.changed.subscribe();
        while !self.read(batch, max.max(1))? {
            // The sender lives in `self`, so waiting cannot fail.
            let _ = changed.changed().await;
        }
        Ok(())
    }

    async fn end(&self) -> Result<Offset, LogError> {
        Ok(offset(self.shared.lock().partition(self.key.1, self.partition)?.end))
    }

    async fn commit(
        &self,
        resume_at: ResumeAt,
        metadata: &str,
        records: Vec<(Topic, NewRecord)>,
    ) -> Result<(), CommitError> {
        check_metadata(metadata)?;
        self.shared.change(|state| {
            let lost = || CommitError::NotOwner(self.partition);
            if state.takes(LogFault::CommitLost) {
                state.lose(&self.key, self.partition, &self.shared);
            }
            if !self.is_held(state) {
                return Err(lost());
            }
            if state.takes(LogFault::CommitRetried) {
                return Err(CommitError::Retry("the test says so".to_owned()));
            }
            state.append_in_transaction(records).map_err(|error| match error {
                LogError::TooLarge { bytes } => CommitError::TooLarge { bytes },
                other => CommitError::Retry(other.to_string()),
            })?;
            let commit = Commit { resume_at, metadata: metadata.to_owned() };
            state.groups.entry(self.key.clone()).or_default().commits.insert(self.partition, commit);
            if state.takes(LogFault::CommitDoneAndLost) {
                state.lose(&self.key, self.partition, &self.shared);
                return Err(lost());
            }
            Ok(())
        })
    }
}
