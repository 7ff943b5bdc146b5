//! **store**: what was walked becomes rows of ClickHouse, a block at a time (PROMISE, clauses 1, 2 and 6).

use super::alert::Alerted;
use super::decode::Rejected;
use crate::log::{NewRecord, Record};
use crate::model::PartitionId;

/// The rows of one block, in ClickHouse's binary format, while it is being filled.
pub(crate) struct Block {}

impl Block {
    pub(crate) fn partition(&self) -> PartitionId {
        unimplemented!("filled by the store room")
    }

    /// One event's row, and those of its findings.
    pub(crate) fn push(&mut self, _record: &Record<'_>, _alerted: Alerted<'_>) {
        unimplemented!("filled by the store room")
    }

    /// A dead letter, and its row of `rejects`.
    pub(crate) fn reject(&mut self, _record: &Record<'_>, _rejected: Rejected) {
        unimplemented!("filled by the store room")
    }

    /// A record that goes to its home partition with this block's commit.
    pub(crate) fn forward(&mut self, _record: &Record<'_>, _copy: NewRecord) {
        unimplemented!("filled by the store room")
    }
}
