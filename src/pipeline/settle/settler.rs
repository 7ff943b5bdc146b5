//! One owned partition's commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::metadata::Metadata;
use super::{Adopted, SettleError};
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
    /// Until the commit has passed it, every commit repeats it.
    ask_through: Option<Offset>,
}

/// No offset.
const NONE: i64 = -1;

impl Settler {
    /// Goes on as `adopted`; `state` is where the checkpoint was made that the walk was restored from. `None` if it was
    /// not: what lies in `jwtrail.state` is then nobody's state, until a checkpoint is complete.
    pub(crate) fn new(lane: Arc<dyn Lane>, adopted: &Adopted, state: Option<Offset>) -> Self {
        Self {
            lane,
            log: adopted.log.clone(),
            committed: AtomicI64::new(adopted.resume_at.offset().get()),
            state: AtomicI64::new(state.map_or(NONE, Offset::get)),
            ask_through: adopted.ask_through,
        }
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

    /// What a commit at `resume_at` says, if it reserves up to `end`.
    fn metadata(&self, resume_at: ResumeAt, end: Option<Offset>, state: Option<Offset>) -> Metadata {
        let ask = self.ask_through.filter(|&through| through >= resume_at.offset());
        Metadata::new(self.log.clone(), end, state).asking(ask)
    }

    fn state(&self) -> Option<Offset> {
        Offset::new(self.state.load(Ordering::Relaxed))
    }

    /// Commits the block's first offset with its end, and with it, atomically, what it forwards: before the block is
    /// put. After `Retry` nothing was committed, and the same call may be made again.
    ///
    /// A block that a former owner reserved is not reserved again: its forwards are in the log.
    pub(crate) async fn reserve(&self, block: &CutBlock) -> Result<(), SettleError> {
        let resume_at = ResumeAt::at(block.id().first);
        let metadata = self.metadata(resume_at, Some(block.id().last), self.state());
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
        let metadata = self.metadata(resume_at, next.map(|next| next.id().last), state);
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
