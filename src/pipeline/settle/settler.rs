//! One owned partition's commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::SettleError;
use super::metadata::Metadata;
use crate::log::{Lane, LogError, NewRecord, Topic};
use crate::model::{LogId, ResumeAt};
use crate::pipeline::store::CutBlock;

/// Reserves and releases the blocks of one partition, one in flight.
pub(crate) struct Settler {
    lane: Arc<dyn Lane>,
    log: LogId,
    /// The offset that was committed last.
    committed: AtomicI64,
}

impl Settler {
    /// `log` and `resume_at` as [`super::adopt()`] found or drew them.
    pub(crate) fn new(lane: Arc<dyn Lane>, log: LogId, resume_at: ResumeAt) -> Self {
        Self { lane, log, committed: AtomicI64::new(resume_at.offset().get()) }
    }

    /// How many offsets lie between the commit and the end of the log.
    pub(crate) async fn lag(&self) -> Result<i64, LogError> {
        let end = self.lane.end().await?.get();
        Ok(end.saturating_sub(self.committed.load(Ordering::Relaxed)).max(0))
    }

    /// Commits the block's first offset with its end, and with it, atomically, what it forwards: before the block is
    /// put. After `Retry` nothing was committed, and the same call may be made again.
    ///
    /// A block that a former owner reserved is not reserved again: its forwards are in the log.
    pub(crate) async fn reserve(&self, block: &CutBlock) -> Result<(), SettleError> {
        let metadata = Metadata::new(self.log.clone(), Some(block.id().last));
        let resume_at = ResumeAt::at(block.id().first);
        Ok(self.lane.commit(resume_at, &metadata.encode(), forwards(block)).await?)
    }

    /// Commits the offset after the block: everything before was acknowledged. What the block adds to the summaries is
    /// in the log if and only if this commit is. `next`, if it is already cut, is reserved in the same commit.
    pub(crate) async fn release(&self, block: &CutBlock, next: Option<&CutBlock>) -> Result<(), SettleError> {
        let metadata = Metadata::new(self.log.clone(), next.map(|next| next.id().last));
        let mut records = next.map(forwards).unwrap_or_default();
        records.extend(block.summary().map(|summary| (Topic::Summaries, summary.clone())));
        let resume_at = block.id().last.resume_after();
        self.lane.commit(resume_at, &metadata.encode(), records).await?;
        self.committed.store(resume_at.offset().get(), Ordering::Relaxed);
        Ok(())
    }
}

fn forwards(block: &CutBlock) -> Vec<(Topic, NewRecord)> {
    let topic = block.id().origin.topic;
    block.forwards().iter().map(|record| (topic, record.clone())).collect()
}
