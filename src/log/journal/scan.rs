//! A scan: one partition read once, without a group, as it was when the scan began.

use std::sync::Arc;

use async_trait::async_trait;
use fjall::{Iter, Snapshot};

use super::keyed;
use super::partition::Partition;
use super::store::broken;
use crate::log::{Batch, LogError, Scan};
use crate::model::Offset;

pub(super) const DOING: &str = "scanning the journal";

pub(super) struct JournalScan {
    partition: Arc<Partition>,
    start: Offset,
    end: Offset,
    /// `None` while a call is under way: one that is dropped ends the scan.
    rest: Option<Rest>,
}

/// What is still to be read.
enum Rest {
    /// From this offset on.
    Segments(i64),
    /// Of a compacted partition, as it was: a key that is written again meanwhile leaves its place.
    Keyed(Iter),
}

impl JournalScan {
    /// Blocks. The snapshot was taken between two batches of the writer, so no commit is half in it.
    pub(super) fn begin(
        partition: Arc<Partition>,
        from: Option<Offset>,
        snapshot: &Snapshot,
    ) -> Result<Self, LogError> {
        let start = partition.start();
        let start = from.map_or(start, |from| from.get().max(start));
        let (rest, end) = match partition.keyspace_of_keys(DOING)? {
            Some(keyspace) => {
                let (records, end) = keyed::records_then(&keyspace, snapshot, start)
                    .map_err(|cause| partition.damaged(DOING, cause))?;
                (Rest::Keyed(records), end)
            }
            None => (Rest::Segments(start), partition.end()),
        };
        let known = |offset| Offset::new(offset).ok_or_else(|| broken(DOING, offset));
        Ok(Self { start: known(start)?, end: known(end)?, partition, rest: Some(rest) })
    }
}

#[async_trait]
impl Scan for JournalScan {
    fn start(&self) -> Offset {
        self.start
    }

    fn end(&self) -> Offset {
        self.end
    }

    async fn next(&mut self, batch: &mut Batch, max: usize) -> Result<bool, LogError> {
        let ended = || broken(DOING, "an earlier call failed or was dropped");
        let mut rest = self.rest.take().ok_or_else(ended)?;
        let (partition, end, max) = (self.partition.clone(), self.end.get(), max.max(1));
        let mut filling = std::mem::take(batch);
        let read = tokio::task::spawn_blocking(move || {
            filling.clear(partition.id);
            rest.fill(&partition, end, max, &mut filling).map(|()| (rest, filling))
        });
        let (rest, filled) = read.await.map_err(|error| broken(DOING, error))??;
        self.rest = Some(rest);
        *batch = filled;
        Ok(!batch.is_empty())
    }
}

impl Rest {
    fn fill(
        &mut self,
        partition: &Partition,
        end: i64,
        max: usize,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        match self {
            Self::Segments(position) if *position < end => {
                partition.read(*position, end, max, batch)?;
                *position = batch.position().map_or(*position, Offset::get);
                Ok(())
            }
            Self::Segments(_) => Ok(()),
            Self::Keyed(records) => keyed::read(records, i64::MAX, max, batch)
                .map(|_more| ())
                .map_err(|cause| partition.damaged(DOING, cause)),
        }
    }
}
