//! Dead letters: what could not become a row, masked, with its reason and origin. Readers drop repeats by origin.

use crate::log::{NewRecord, Origin, Record};
use crate::model::{Offset, UnixMs};
use crate::pipeline::decode::{self, RejectReason};
use crate::pipeline::verify::SIGNATURE_HEADER;

/// The reason, a closed word.
pub(crate) const REASON_HEADER: &str = "jwtrail-reason";
/// Where the record lay: `L/topic/partition/offset`.
pub(crate) const ORIGIN_HEADER: &str = "jwtrail-origin";
/// When the log took it, in milliseconds.
pub(crate) const APPEND_HEADER: &str = "jwtrail-append-ms";

/// A record that could not become a row.
pub(super) struct Dead<'a> {
    pub(super) offset: Offset,
    pub(super) received_at: UnixMs,
    pub(super) reason: RejectReason,
    pub(super) field: &'a str,
    pub(super) value_bytes: usize,
}

/// The record's signature, as long as it still holds for what the letter keeps, for a replay. Anyone may write a header:
/// no token may reach the letter by it.
pub(super) fn signature(record: &Record<'_>, kept: &[u8]) -> Option<(String, Vec<u8>)> {
    let signature = record.headers.get(SIGNATURE_HEADER)?;
    let holds = kept == record.value && decode::mask_record(signature) == signature;
    holds.then(|| (SIGNATURE_HEADER.to_owned(), signature.to_vec()))
}

/// The record for `jwtrail.dead-letters`. Key and value have every token masked.
pub(super) fn letter(origin: &Origin, dead: &Dead<'_>, key: Option<Vec<u8>>, value: Vec<u8>) -> NewRecord {
    let headers = vec![
        (REASON_HEADER.to_owned(), dead.reason.as_str().into()),
        ("jwtrail-field".to_owned(), dead.field.into()),
        (ORIGIN_HEADER.to_owned(), format!("{origin}/{}", dead.offset).into_bytes()),
        (APPEND_HEADER.to_owned(), dead.received_at.get().to_string().into_bytes()),
    ];
    NewRecord { key, partition: None, value, headers }
}
