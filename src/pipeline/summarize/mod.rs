//! **summarize**: what a block says of its sources, for the second walk (PROMISE, "Keys and partitions cannot be
//! trusted"). Pure.
//!
//! What one gateway does is spread over the partitions of the event topic, because events lie by subject. So each block
//! adds one record to `jwtrail.summaries`, in the transaction of the commit that releases it: there exactly once, never
//! replaced, and behind the records of the partition's earlier blocks. All of them lie in one partition, for that a
//! whole zone is silent is seen only where all of its gateways are. Their size is bounded by the block's events, and by
//! [`MAX_BYTES`].

mod pulse;
mod tally;

#[cfg(test)]
mod tests;

pub(crate) use pulse::Pulse;
pub(crate) use tally::Tally;

use super::decode::{RejectReason, Rejected, mask_record};
use crate::log::{NewRecord, Record};
use crate::model::Summary;

/// The key of every record: one partition has them all.
const KEY: &[u8] = b"gateways";

/// What a record may take, as estimated: far below what a log takes (1 MiB).
const MAX_BYTES: usize = 512 << 10;

/// A summary as a record of `jwtrail.summaries`.
fn record(summary: &Summary) -> NewRecord {
    // Names are strings and numbers are finite: this cannot fail. If it did, the empty value would be a dead letter.
    let value = serde_json::to_vec(summary).unwrap_or_default();
    NewRecord { key: Some(KEY.to_vec()), value, ..NewRecord::default() }
}

/// Reads a record of `jwtrail.summaries`. What is no summary was written by somebody else: a dead letter.
pub(crate) fn read(record: &Record<'_>) -> Result<Summary, Rejected> {
    serde_json::from_slice(record.value).map_err(|error| Rejected {
        reason: if error.is_data() { RejectReason::BadValue } else { RejectReason::NotJson },
        field: String::new(),
        masked: mask_record(record.value),
        tenant: None,
    })
}
