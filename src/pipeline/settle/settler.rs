//! One owned partition's commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::SettleError;
use super::metadata::Metadata;
use crate::log::{Lane, LogError, NewRecord, Topic};
use crate::model::{LogId, Offset, ResumeAt};
use crate::pipeline::detect::Checkpoint;
use crate::pipeline::store::CutBlock;

/// Reserves and releases the blocks of one partition, one in flight.
pub(crate) struct Settler {
    lane: Arc<dyn Lane>,
    log: LogId,
    /// The offset that was committed last.
    committed: AtomicI64,
    /// Where the last checkpoint was made, or [`NONE`]: every commit repeats it.
    state: AtomicI64,
}

/// No offset.
const NONE: i64 = -1;

impl Settler {
    /// `log` and `resume_at` as [`super::adopt()`] found or drew them; `state` where the checkpoint was made that the walk
    /// was restored from. `None` if it was not: what lies in `jwtrail.state` is then nobody's state, until a checkpoint
    /// is complete.
    pub(crate) fn new(lane: Arc<dyn Lane>, log: LogId, resume_at: ResumeAt, state: Option<Offset>) -> Self {
        let committed = AtomicI64::new(resume_at.offset().get());
        Self { lane, log, committed, state: AtomicI64::new(state.map_or(NONE, Offset::get)) }
    }

    /// How many offsets lie between the commit and the end of the log.
    pub(crate) async fn lag(&self) -> Result<i64, LogError> {
        let end = self.lane.end().await?.get();
        Ok(end.saturating_sub(self.committed.load(Ordering::Relaxed)).max(0))
    }

    /// Whether there is a checkpoint to go by. Until then one may be committed in parts.
    pub(crate) fn has_state(&self) -> bool {
        self.state().is_some()
    }

    fn state(&self) -> Option<Offset> {
        Offset::new(self.state.load(Ordering::Relaxed))
    }

    /// Commits the block's first offset with its end, and with it, atomically, what it forwards: before the block is
    /// put. After `Retry` nothing was committed, and the same call may be made again.
    ///
    /// A block that a former owner reserved is not reserved again: its forwards are in the log.
    pub(crate) async fn reserve(&self, block: &CutBlock) -> Result<(), SettleError> {
        let metadata = Metadata::new(self.log.clone(), Some(block.id().last), self.state());
        let resume_at = ResumeAt::at(block.id().first);
        Ok(self.lane.commit(resume_at, &metadata.encode(), forwards(block)).await?)
    }

    /// Commits the offset after the block: everything before was acknowledged. What the block adds to the summaries, and
    /// the `checkpoint` that was made where it was cut, are in the log if and only if this commit is. `next`, if it is
    /// already cut, is reserved in the same commit.
    pub(crate) async fn release(
        &self,
        block: &CutBlock,
        next: Option<&CutBlock>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), SettleError> {
        let resume_at = block.id().last.resume_after();
        let state = match checkpoint {
            Some(checkpoint) if checkpoint.complete => Some(resume_at.offset()),
            _ => self.state(),
        };
        let metadata = Metadata::new(self.log.clone(), next.map(|next| next.id().last), state);
        let mut records = next.map(forwards).unwrap_or_default();
        records.extend(block.summary().map(|summary| (Topic::Summaries, summary.clone())));
        let changes = checkpoint.iter().flat_map(|checkpoint| &checkpoint.records);
        records.extend(changes.map(|record| (Topic::State, record.clone())));
        self.lane.commit(resume_at, &metadata.encode(), records).await?;
        self.state.store(state.map_or(NONE, Offset::get), Ordering::Relaxed);
        self.committed.store(resume_at.offset().get(), Ordering::Relaxed);
        Ok(())
    }
}

fn forwards(block: &CutBlock) -> Vec<(Topic, NewRecord)> {
    let topic = block.id().origin.topic;
    block.forwards().iter().map(|record| (topic, record.clone())).collect()
}
