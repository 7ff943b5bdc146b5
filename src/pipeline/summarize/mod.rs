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

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::decode::{RejectReason, Rejected, mask_record};
use crate::keys::Seals;
use crate::log::{NewRecord, Record};
use crate::model::Summary;

/// The key of every record: one partition has them all.
const KEY: &[u8] = b"gateways";

/// What a record may take, as estimated: far below what a log takes (1 MiB).
const MAX_BYTES: usize = 512 << 10;

/// The MAC of the value. Anyone may write to the topic, and a summary can raise a finding or withdraw one.
const SUMMARY_HEADER: &str = "jwtrail-summary";

/// A summary as a record of `jwtrail.summaries`.
fn record(summary: &Summary, seals: &Seals) -> NewRecord {
    // Names are strings and numbers are finite: this cannot fail. If it did, the empty value would be a dead letter.
    let value = serde_json::to_vec(summary).unwrap_or_default();
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&seals.summary, &value)).into_bytes();
    let headers = vec![(SUMMARY_HEADER.to_owned(), mac)];
    NewRecord { key: Some(KEY.to_vec()), partition: None, value, headers }
}

/// Reads a record of `jwtrail.summaries`. What is not sealed was written by somebody else, and what is no summary by
/// another version: a dead letter.
pub(crate) fn read(record: &Record<'_>, seals: &Seals) -> Result<Summary, Rejected> {
    let rejected =
        |reason| Rejected { reason, field: String::new(), masked: mask_record(record.value), tenant: None };
    if !is_sealed(record, &seals.summary) {
        return Err(rejected(RejectReason::NotSealed));
    }
    serde_json::from_slice(record.value).map_err(|error| {
        rejected(if error.is_data() { RejectReason::BadValue } else { RejectReason::NotJson })
    })
}

fn is_sealed(record: &Record<'_>, key: &hmac::Key) -> bool {
    let sealed = || {
        let mac = URL_SAFE_NO_PAD.decode(record.headers.get(SUMMARY_HEADER)?).ok()?;
        hmac::verify(key, record.value, &mac).ok()
    };
    sealed().is_some()
}
