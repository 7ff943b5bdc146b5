//! Dead letters: what could not become a row, masked, with its reason and origin. Readers drop repeats by origin.

use super::block::Origin;
use crate::log::NewRecord;
use crate::model::{Event, Offset, UnixMs};
use crate::pipeline::decode::RejectReason;

/// The longest value of a dead letter; EVENT allows no more in a record.
const MAX_VALUE_BYTES: usize = 32 << 10;

/// A record that left no row: a row of `rejects`.
pub(super) struct Dead<'a> {
    pub(super) offset: Offset,
    pub(super) received_at: UnixMs,
    pub(super) reason: RejectReason,
    pub(super) field: &'a str,
    pub(super) value_bytes: usize,
}

/// The record for `jwtrail.dead-letters`. It has no key: a received key may hold a token, and the origin names it.
pub(super) fn letter(origin: &Origin, dead: &Dead<'_>, mut masked: Vec<u8>) -> NewRecord {
    masked.truncate(MAX_VALUE_BYTES);
    let headers = vec![
        ("jwtrail-reason".to_owned(), dead.reason.as_str().into()),
        ("jwtrail-field".to_owned(), dead.field.into()),
        ("jwtrail-origin".to_owned(), format!("{origin}/{}", dead.offset).into_bytes()),
        ("jwtrail-append-ms".to_owned(), dead.received_at.get().to_string().into_bytes()),
    ];
    NewRecord { key: None, partition: None, value: masked, headers }
}

/// An event as the canonical JSON of version 1.
pub(super) fn write_event(out: &mut Vec<u8>, event: &Event<'_>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, event).is_err() {
        // Writing to memory cannot fail, and every member has a text form. If one day one has not, the letter is empty.
        out.truncate(start);
    }
}
