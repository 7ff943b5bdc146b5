//! A tail: one partition followed without a group.
//!
//! It needs no snapshot, unlike a scan: a record whose key is written again while it is read is met at its new place,
//! further on.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::handle::Handle;
use super::partition::Partition;
use super::store::broken;
use crate::log::{Batch, LogError, TAIL_QUIET, Tail};
use crate::model::Offset;

const DOING: &str = "following the journal";

pub(super) struct JournalTail {
    partition: Arc<Partition>,
    /// The offset to be read next.
    position: i64,
    end: watch::Receiver<i64>,
    /// The last answer was that everything has been given.
    is_quiet: bool,
    handle: Handle,
}

impl JournalTail {
    pub(super) fn new(partition: Arc<Partition>, handle: Handle) -> Self {
        let (position, end) = (partition.start(), partition.subscribe());
        Self { partition, position, end, is_quiet: false, handle }
    }
}

#[async_trait]
impl Tail for JournalTail {
    async fn next(&mut self, batch: &mut Batch, max: usize) -> Result<(), LogError> {
        batch.clear(self.partition.id);
        loop {
            let (from, until) = (self.position, *self.end.borrow_and_update());
            if from < until {
                let (partition, max) = (self.partition.clone(), max.max(1));
                let mut filling = std::mem::take(batch);
                filling.clear(partition.id);
                let read = tokio::task::spawn_blocking(move || {
                    partition.read(from, until, max, &mut filling).map(|()| filling)
                });
                *batch = read.await.map_err(|error| broken(DOING, error))??;
                self.position = batch.position().map_or(until, Offset::get);
                if batch.is_empty() {
                    // Everything there was written again further on, or removed.
                    continue;
                }
                self.is_quiet = false;
                return Ok(());
            }
            if self.handle.broken.get().is_some() {
                return Err(self.handle.gone(DOING));
            }
            // The writer says when there is more; it is gone only with the journal.
            if !std::mem::replace(&mut self.is_quiet, true)
                || tokio::time::timeout(TAIL_QUIET, self.end.changed()).await.is_err()
            {
                return Ok(());
            }
        }
    }
}
