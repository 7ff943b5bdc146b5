//! **decode**: a record's bytes become an event, or a dead letter with its reason (EVENT). Pure.
//!
//! Schema, limits and the scan for token-shaped text are one pass over the bytes.

use std::time::Duration;

use crate::log::{NewRecord, Record};
use crate::model::{Event, Flags, Leak, PartitionId};

/// What `decode` leaves.
#[derive(Debug)]
pub(crate) struct Decoded<'r> {
    pub(crate) event: Event<'r>,
    pub(crate) flags: Flags,
    /// The tokens that were masked, each with the field that held it.
    pub(crate) leaks: Vec<Leak>,
    /// Where the record lay first, if it was forwarded here under a valid MAC.
    pub(crate) origin: Option<ForwardedFrom>,
}

/// Where a forwarded record came from (PROMISE, "Keys and partitions cannot be trusted").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForwardedFrom {
    pub(crate) log: crate::model::LogId,
    pub(crate) partition: PartitionId,
    pub(crate) offset: crate::model::Offset,
    pub(crate) append_time: crate::model::UnixMs,
    pub(crate) hops: u8,
}

/// The bounds of one log's walk.
#[derive(Clone)]
pub(crate) struct Bounds {
    /// Older claims of `time` are clamped.
    pub(crate) max_event_age: Duration,
    /// How many partitions the event topic has: the home partition's modulus.
    pub(crate) partitions: u32,
    /// Seals and checks `jwtrail-forward` (HKDF-SHA256 of the ingest key, `forward`).
    pub(crate) forward_key: std::sync::Arc<aws_lc_rs::hmac::Key>,
    pub(crate) log: crate::model::LogId,
}

crate::model::words! {
    /// Why a record cannot be an event: the dead letter's `jwtrail-reason`, the metric's label, the log field.
    RejectReason {
        NotUtf8 = "not_utf8",
        NotJson = "not_json",
        DuplicateMember = "duplicate_member",
        TooLarge = "too_large",
        TooDeep = "too_deep",
        TooLong = "too_long",
        TooMany = "too_many",
        MissingField = "missing_field",
        BadType = "bad_type",
        BadValue = "bad_value",
        UnknownVersion = "unknown_version",
        UnknownKind = "unknown_kind",
        IssuerSignatureInvalid = "issuer_signature_invalid",
        ClickhouseRefused = "clickhouse_refused",
    }
}

/// A record that cannot be an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) reason: RejectReason,
    /// A JSON pointer to the field at fault; empty where it is the whole record.
    pub(crate) field: String,
    /// The value with every token masked, cut at 32 KiB.
    pub(crate) masked: Vec<u8>,
}

/// Decodes strictly: what EVENT allows in the log.
pub(crate) fn decode<'r>(_record: &Record<'r>, _bounds: &Bounds) -> Result<Decoded<'r>, Rejected> {
    unimplemented!("filled by the decode room")
}

/// The copy to append at the event's home partition, if `here` is another one: key rewritten, `jwtrail-forward` set.
/// `None` if the record is at home, has made two hops, or is control.
pub(crate) fn forward(
    _decoded: &Decoded<'_>,
    _record: &Record<'_>,
    _bounds: &Bounds,
    _here: PartitionId,
) -> Option<NewRecord> {
    None
}
