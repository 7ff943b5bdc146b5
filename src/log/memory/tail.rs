//! One partition followed.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{LogFault, Shared, offset, push, unavailable};
use crate::log::{Batch, LogError, TAIL_QUIET, Tail, Topic};
use crate::model::{Offset, PartitionId};

pub(super) struct MemoryTail {
    shared: Arc<Shared>,
    topic: Topic,
    partition: PartitionId,
    position: i64,
    changed: watch::Receiver<()>,
    /// The last answer was that everything has been given.
    is_quiet: bool,
}

impl MemoryTail {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic, partition: PartitionId, position: i64) -> Self {
        let changed = shared.changed.subscribe();
        Self { shared, topic, partition, position, changed, is_quiet: false }
    }

    /// Reads what is there.
    fn read(&mut self, batch: &mut Batch, max: usize) -> Result<(), LogError> {
        batch.clear(self.partition);
        let mut state = self.shared.lock();
        if state.takes(LogFault::Read) {
            return Err(unavailable("following"));
        }
        let lies = state.partition(self.topic, self.partition)?;
        for record in lies.read(self.position).take(max) {
            push(batch, &record);
        }
        if batch.len() < max {
            batch.set_position(offset(lies.end));
        }
        self.position = batch.position().map_or(self.position, Offset::get);
        Ok(())
    }
}

#[async_trait]
impl Tail for MemoryTail {
    async fn next(&mut self, batch: &mut Batch, max: usize) -> Result<(), LogError> {
        loop {
            self.changed.mark_unchanged();
            self.read(batch, max.max(1))?;
            if !batch.is_empty() {
                self.is_quiet = false;
                return Ok(());
            }
            // The sender lives in `shared`, so waiting cannot fail.
            if !std::mem::replace(&mut self.is_quiet, true)
                || tokio::time::timeout(TAIL_QUIET, self.changed.changed()).await.is_err()
            {
                return Ok(());
            }
        }
    }
}
