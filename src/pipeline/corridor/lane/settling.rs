//! The settling: a block is cut, reserved, stored and released, one in flight at a time, while the walk goes on.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Boxed, Filling, LaneError, OwnedLane, new_block};
use crate::model::PartitionId;
use crate::pipeline::corridor::Context;
use crate::pipeline::detect::Checkpoint;
use crate::pipeline::patience::Patience;
use crate::pipeline::settle::Settler;
use crate::pipeline::store::{CutBlock, Origin, Put, Stored};
use crate::telemetry::Stage;

/// A block on its way to ClickHouse.
pub(super) struct InFlight {
    block: CutBlock,
    stored: Stored,
}

impl OwnedLane {
    /// When the block is old enough; a reserved one waits for its end alone.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let since = self.filling_since.filter(|_| self.must_end_at.is_none())?;
        Some(since + self.context.pace.age(self.context.owned()))
    }

    fn is_due(&self, filling: &Filling, finishing: bool) -> bool {
        if self.must_end_at.is_some() {
            return self.is_complete(filling);
        }
        let aged = || self.due_at().is_some_and(|due| due <= Instant::now());
        !filling.block.is_empty() && (finishing || self.is_complete(filling) || aged())
    }

    /// Starts the next settling: commits the end of what is stored, together with the next block if that is due.
    pub(super) fn settle_what_is_due(&mut self, finishing: bool) {
        // The block that is stored waits for the checkpoint that was begun where it was cut.
        if self.settling.is_some() || self.checkpointing.is_some() {
            return;
        }
        // All records of a reserved block may have left the log since: then what comes next goes into the same block.
        if self.filling.as_ref().is_some_and(|filling| filling.block.is_empty() && self.is_complete(filling))
        {
            self.must_end_at = None;
        }
        let checkpoint = self.checkpoints.made.take();
        let reserved = self.must_end_at.is_some();
        let due = self.filling.as_ref().is_some_and(|filling| self.is_due(filling, finishing));
        let next = if due { self.cut(finishing) } else { None };
        let stored = self.stored.take();
        if stored.is_none() && next.is_none() {
            return;
        }
        let settling = Settling {
            context: Arc::clone(&self.context),
            patience: Arc::clone(&self.patience),
            settler: Arc::clone(&self.settler),
            partition: self.partition,
            put: next.as_ref().map(|next| self.adopted.put_of(next.id().first)),
            reserved,
        };
        self.settling = Some(Box::pin(settling.run(stored, checkpoint, next)));
    }

    /// Ends the block being filled and begins the next one with the newest snapshots.
    fn cut(&mut self, finishing: bool) -> Option<CutBlock> {
        let Filling { mut walk, block, position } = self.filling.take()?;
        let snapshots = self.context.snapshots();
        let origin = Origin { log: self.log.clone(), topic: self.course.topic(), partition: self.partition };
        let next = new_block(&self.context, origin, position, Arc::clone(&snapshots.name));
        walk.use_snapshots(snapshots);
        let size = walk.size();
        self.context.gauges.detector(self.course.topic(), self.partition, size, &self.context.metrics);
        let filling = Filling { walk, block: next, position };
        if self.checkpoints.is_due(filling.walk.changed(), finishing) {
            self.write_down(filling);
        } else {
            self.filling = Some(filling);
        }
        if let Some(since) = self.filling_since.take() {
            self.context.stage(Stage::Filled, since);
        }
        self.must_end_at = None;
        Some(block.cut(position.before()?))
    }

    /// Makes a checkpoint on a worker thread, while the block that was just cut goes to ClickHouse.
    fn write_down(&mut self, mut filling: Filling) {
        let max_bytes = self.checkpoints.begin(self.settler.has_state());
        let (context, partition) = (Arc::clone(&self.context), self.partition);
        self.checkpointing = Some(Box::pin(async move {
            let began = Instant::now();
            let written = context.workers.run(partition, move || {
                let checkpoint = filling.walk.checkpoint(filling.position, max_bytes);
                (filling, checkpoint)
            });
            let written = written.await?;
            context.stage(Stage::WrittenDown, began);
            Ok(written)
        }));
    }
}

/// The settling of one block, and of the commit that the one before it still lacks.
struct Settling {
    context: Arc<Context>,
    patience: Arc<Patience>,
    settler: Arc<Settler>,
    partition: PartitionId,
    put: Option<Put>,
    /// A former owner reserved the block, forwards and all: reserving it again would forward them twice.
    reserved: bool,
}

impl Settling {
    async fn run(
        self,
        stored: Option<InFlight>,
        checkpoint: Option<Checkpoint>,
        next: Option<CutBlock>,
    ) -> Result<Option<InFlight>, LaneError> {
        let began = Instant::now();
        match (&stored, &next) {
            (Some(stored), next) => {
                let checkpoint = checkpoint.as_ref();
                let release = || self.settler.release(&stored.block, next.as_ref(), checkpoint);
                self.patience.wait_out(release).await?;
                if let Some(checkpoint) = checkpoint {
                    self.context.checkpointed(checkpoint);
                }
                self.context.stage(Stage::Released, began);
                self.context.settled(self.partition, &stored.block, &stored.stored);
            }
            (None, Some(next)) if !self.reserved => {
                self.patience.wait_out(|| self.settler.reserve(next)).await?;
                self.context.stage(Stage::Reserved, began);
            }
            (None, _) => {}
        }
        let (Some(block), Some(put)) = (next, self.put) else { return Ok(None) };
        let began = Instant::now();
        let stored = self.context.store.put(&block, put, &self.patience).await?;
        self.context.stage(Stage::Inserted, began);
        if let Some(first) = block.first_append() {
            self.context.metrics.append_to_row_seconds.observe(self.context.seconds_since(first));
        }
        Ok(Some(InFlight { block, stored }))
    }
}

pub(super) async fn settled(
    settling: &mut Option<Boxed<Option<InFlight>>>,
) -> Result<Option<InFlight>, LaneError> {
    match settling {
        Some(settling) => settling.await,
        None => std::future::pending().await,
    }
}

pub(super) async fn checkpointed(
    checkpointing: &mut Option<Boxed<(Filling, Checkpoint)>>,
) -> Result<(Filling, Checkpoint), LaneError> {
    match checkpointing {
        Some(checkpointing) => checkpointing.await,
        None => std::future::pending().await,
    }
}
