//! **decode**: a record's bytes become an event, or a dead letter with its reason (EVENT). Pure.
//!
//! Schema, limits and the scan for token-shaped text are one pass over the bytes: [`reader`] knows JSON, `schema` the
//! members of an event, `required` what each kind must have, `mask` what a token looks like.

mod envelope;
mod forward;
mod ledger;
pub(crate) mod lenient;
mod mask;
mod reader;
mod record;
mod required;
mod retried;
mod schema;
mod tick;
mod time;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::sync::Arc;
use std::time::Duration;

use crate::keys::Seals;
use crate::log::Record;
use crate::model::{
    Event, Flag, Flags, GatewayVerdict, Kind, Leak, LeakOwner, Offset, PartitionId, TenantId,
};
use reader::{Fault, Mask, Reader};
use schema::Draft;

pub(crate) use forward::{bring_back, forward, home_key};
pub(crate) use ledger::{LEDGER_KEY_ID, SIGNATURE_HEADER, sign_ledger};
pub(crate) use record::to_record;
pub(crate) use retried::{RETRIED_HEADER, Retried, retried, seal_retried};
pub(crate) use tick::{is_tick, tick};

/// Bytes that a record's value may have, and again its key and headers together.
const MAX_RECORD_BYTES: usize = 32 * 1024;

/// How a leak in a record's key is named.
const KEY_FIELD: &str = "key";

/// What `decode` leaves.
#[derive(Debug)]
pub(crate) struct Decoded<'r> {
    pub(crate) event: Event<'r>,
    pub(crate) flags: Flags,
    /// The tokens that were masked, each with the field that held it.
    pub(crate) leaks: Vec<Leak>,
    /// Where the record lay first, if it was forwarded here under a valid MAC.
    pub(crate) origin: Option<ForwardedFrom>,
    /// What its `jwtrail-retried` says, if that is under a valid MAC.
    pub(crate) retried: Option<Retried>,
}

/// Where a forwarded record came from (PROMISE, "Keys and partitions cannot be trusted").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForwardedFrom {
    pub(crate) log: crate::model::LogId,
    pub(crate) partition: PartitionId,
    pub(crate) offset: crate::model::Offset,
    pub(crate) append_time: crate::model::UnixMs,
    pub(crate) hops: u8,
    /// The id of the key whose valid signature the record bore there: the copy's value may have been written anew.
    pub(crate) attested_by: Option<String>,
}

/// The bounds of one log's walk.
#[derive(Clone)]
pub(crate) struct Bounds {
    /// Older claims of `time` are clamped.
    pub(crate) max_event_age: Duration,
    /// How many partitions the event topic has: the home partition's modulus.
    pub(crate) partitions: u32,
    pub(crate) seals: Arc<Seals>,
    /// Checks the signatures of issuer kinds; `None` where nothing issues, and then none of them counts.
    pub(crate) ledger_key: Option<std::sync::Arc<aws_lc_rs::hmac::Key>>,
    /// Records up to here may have been forwarded before, and nobody knows: their copies are retried, so that each is
    /// looked up at home.
    pub(crate) forwarded_through: Option<Offset>,
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
        /// An event, of a tenant of whose records too many cannot be one.
        TenantSetAside = "tenant_set_aside",
        /// In the place of a summary, and not written by a walk of this installation.
        NotSealed = "not_sealed",
    }
}

/// A record that cannot be an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) reason: RejectReason,
    /// A JSON pointer to the field at fault, within the event; empty where it is the whole record.
    pub(crate) field: String,
    /// The value with every token and clear `jti` masked, cut at 32 KiB.
    pub(crate) masked: Vec<u8>,
    /// Whose it says that it is, if that can be read.
    pub(crate) tenant: Option<TenantId>,
}

impl Rejected {
    /// An event that is not taken, because of whose it is.
    pub(crate) fn set_aside(record: &Record<'_>) -> Self {
        let (reason, field) = (RejectReason::TenantSetAside, String::new());
        Self { reason, field, masked: mask_record(record.value), tenant: None }
    }
}

/// Decodes strictly: what EVENT allows in the log.
pub(crate) fn decode<'r>(record: &Record<'r>, bounds: &Bounds) -> Result<Decoded<'r>, Rejected> {
    let value = record.value;
    let reject = |(reason, field)| {
        let (masked, tenant) = (mask_record(value), named_tenant(value));
        Rejected { reason, field, masked, tenant }
    };
    let beside = beside_value(record).map_err(reject)?;
    let origin = beside.forward.and_then(|header| forward::origin(header, value, &bounds.seals.forward));
    let retried = if beside.is_retried { retried(record, &bounds.seals.retried) } else { None };
    let is_ledgers = || ledger::is_ledgers(record, origin.as_ref(), bounds);
    let Reading { mut event, masks, cut } = read(value, is_ledgers).map_err(reject)?;
    let received = origin.as_ref().map_or(record.append_time, |origin| origin.append_time);
    (event.time, event.claimed_time) = time::clamp(event.time, received, bounds.max_event_age);

    let mut leaks = leaks(&event, masks);
    // The key repeats the subject: a token in both is told once, where the gateway can mend it.
    let repeated = |beside: &Leak| {
        let of_sub = |known: &Leak| known.field == "/token/sub" && known.token_ref == beside.token_ref;
        beside.field == KEY_FIELD && leaks.iter().any(of_sub)
    };
    let beside_alone: Vec<Leak> = beside.leaks.into_iter().filter(|leak| !repeated(leak)).collect();
    leaks.extend(beside_alone);
    let mut flags = Flags::default();
    if event.claimed_time.is_some() {
        flags.set(Flag::ClockSkewed);
    }
    if !leaks.is_empty() {
        flags.set(Flag::Masked);
    }
    if cut {
        flags.set(Flag::Cut);
    }
    if event.kind == Kind::Accepted && event.gateway_verdict.is_some_and(GatewayVerdict::is_refusal) {
        flags.set(Flag::VerdictConflict);
    }
    Ok(Decoded { event, flags, leaks, origin, retried })
}

/// Masks every token and clear `jti` in bytes of any kind (a dead letter's value or key) and cuts the result at 32 KiB.
pub(crate) fn mask_record(bytes: &[u8]) -> Vec<u8> {
    mask::mask_rejected(bytes, MAX_RECORD_BYTES)
}

/// A client's text without tokens, and without its end where it is longer than may be: for whoever writes events.
pub(crate) fn clean_text(text: &str, max_bytes: usize) -> crate::model::Text<'_> {
    let end = text.floor_char_boundary(max_bytes);
    mask::mask_text(text[..end].into(), |_| ())
}

/// Reason and JSON pointer.
type Refusal = (RejectReason, String);

/// What a record's value says.
struct Reading<'r> {
    /// As the source claims it.
    event: Event<'r>,
    /// The tokens that were masked in it.
    masks: Vec<Mask>,
    /// Whether a client's text was cut.
    cut: bool,
}

/// `is_ledgers`: whether the ledger key signed the value, asked where that decides.
fn read(value: &[u8], is_ledgers: impl FnOnce() -> bool) -> Result<Reading<'_>, Refusal> {
    if value.len() > MAX_RECORD_BYTES {
        return Err((RejectReason::TooLarge, String::new()));
    }
    let text = std::str::from_utf8(value).map_err(|_| (RejectReason::NotUtf8, String::new()))?;
    let mut reader = Reader::new(text);
    let mut draft = Draft::default();
    let read = envelope::draft(&mut reader, text, &mut draft);
    let event = match read.and_then(|()| required::event(draft)) {
        Ok(event) => event,
        Err(fault) => return Err(name_fault(text, &reader, &fault)),
    };
    if event.kind.is_issuer() && !is_ledgers() {
        return Err((RejectReason::IssuerSignatureInvalid, "/kind".to_owned()));
    }
    let Reader { masks, cuts, .. } = reader;
    let cut = !cuts.is_empty();
    match cuts.into_iter().find(|field| owner(&event, field) != LeakOwner::Client) {
        Some(field) => Err((RejectReason::TooLong, field)),
        None => Ok(Reading { event, masks, cut }),
    }
}

/// Names the fault that counts: broken JSON before what is wrong with a member, and an unknown version or kind before
/// members that such an event may well have otherwise. One pass stops at the first fault, so the rest is looked over.
fn name_fault(text: &str, reader: &Reader<'_>, fault: &Fault) -> Refusal {
    let stopped = (fault.reason, reader.pointer() + fault.below.unwrap_or_default());
    let mut survey = Reader::without_limits(text);
    let whole = survey.value().and_then(|value| survey.end().map(|()| value));
    let event = match &whole {
        Err(Fault { reason: reason @ (RejectReason::NotJson | RejectReason::DuplicateMember), .. }) => {
            return (*reason, survey.pointer());
        }
        Err(_) => return stopped,
        Ok(envelope) if envelope::is_envelope(text) => &envelope["data"],
        Ok(event) => event,
    };
    let (version, kind) = (&event["version"], &event["kind"]);
    if version.is_number() && *version != schema::VERSION {
        (RejectReason::UnknownVersion, "/version".to_owned())
    } else if kind.as_str().is_some_and(|kind| Kind::parse(kind).is_none()) {
        (RejectReason::UnknownKind, "/kind".to_owned())
    } else {
        stopped
    }
}

/// The tenant that a record names which cannot be an event.
fn named_tenant(value: &[u8]) -> Option<TenantId> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= MAX_RECORD_BYTES)?;
    let whole = Reader::without_limits(text).value().ok()?;
    let event = if envelope::is_envelope(text) { &whole["data"] } else { &whole };
    event["tenant"].as_str()?.parse().ok()
}

/// What a record carries beside its value.
struct Beside<'r> {
    forward: Option<&'r [u8]>,
    /// Whether it says that it was held back, sealed or not.
    is_retried: bool,
    leaks: Vec<Leak>,
}

fn beside_value<'r>(record: &Record<'r>) -> Result<Beside<'r>, Refusal> {
    let mut beside = Beside { forward: None, is_retried: false, leaks: Vec::new() };
    let mut bytes = 0;
    for header in record.headers.iter() {
        if header.name == forward::FORWARD_HEADER {
            beside.forward = Some(header.value);
            continue;
        }
        beside.is_retried |= header.name == RETRIED_HEADER;
        bytes += header.name.len() + header.value.len();
        for part in [header.name.as_bytes(), header.value] {
            beside.leaks.extend(leaks_beside(part, || header_field(header.name)));
        }
    }
    if let Some(key) = record.key {
        bytes += key.len();
        if mask::suspicious(key) {
            let field = || KEY_FIELD.to_owned();
            beside.leaks.extend(mask::refs(key).into_iter().map(|token_ref| Leak {
                field: field(),
                owner: LeakOwner::Gateway,
                token_ref,
            }));
        }
    }
    if bytes > MAX_RECORD_BYTES {
        return Err((RejectReason::TooLarge, String::new()));
    }
    Ok(beside)
}

/// What a header or the key holds: the gateway's doing, for no client writes there.
fn leaks_beside(part: &[u8], field: impl Fn() -> String) -> impl Iterator<Item = Leak> {
    let refs = if mask::suspicious(part) { mask::refs(part) } else { Vec::new() };
    refs.into_iter().map(move |token_ref| Leak { field: field(), owner: LeakOwner::Gateway, token_ref })
}

fn header_field(name: &str) -> String {
    if name == forward::KEY_HEADER {
        return KEY_FIELD.to_owned();
    }
    format!("header:{}", mask::mask_text(name.into(), |_| ()))
}

/// Says who put each masked token where it stood (EVENT).
fn leaks(event: &Event<'_>, masks: Vec<Mask>) -> Vec<Leak> {
    masks
        .into_iter()
        .map(|Mask { field, token_ref }| {
            let field = own_path(field);
            Leak { owner: owner(event, &field), field, token_ref }
        })
        .collect()
}

/// Whose doing the text of `field` is: a client's field and the claims of a token that nobody verified are the
/// client's, the rest the gateway's.
fn owner(event: &Event<'_>, field: &str) -> LeakOwner {
    let of_client = |name: &str| schema::OF_CLIENT.iter().any(|(known, _)| *known == name);
    let verified =
        || event.kind.mints() || event.gateway_verdict.is_some_and(GatewayVerdict::signature_verified);
    match field {
        _ if field.strip_prefix("/request/").is_some_and(of_client) || field.starts_with("/login/") => {
            LeakOwner::Client
        }
        _ if !field.starts_with("/token/") => LeakOwner::Gateway,
        _ if verified() => LeakOwner::Token,
        _ => LeakOwner::Client,
    }
}

/// An unknown member of an inner object that was written again stands at the top under its path (`token/raw`): its
/// pointer is the one that it had at first.
fn own_path(field: String) -> String {
    if field == schema::GIVEN_ID_POINTER {
        return schema::GIVEN_ID.to_owned();
    }
    let name = field.split('/').nth(1).unwrap_or_default();
    match name.split_once("~1") {
        Some((object, _)) if schema::OBJECTS.contains(&object) => {
            let rest = &field[1 + name.len()..];
            format!("/{}{rest}", name.replace("~1", "/").replace("~0", "~"))
        }
        _ => field,
    }
}

#[cfg(test)]
pub(crate) mod tests;
