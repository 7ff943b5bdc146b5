//! The gateway dialect of the door (EVENT, "The door"): what a gateway sends becomes a canonical event.
//!
//! The dialect is undone on the JSON itself, what is missing is filled in, and the result goes through the same strict
//! reading as any record. So nothing enters the log by the door that the walk would refuse.

mod fill;
mod messages;
mod undo;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::reader::{Fault, Reader};
pub(crate) use super::record::to_record;
use super::{MAX_RECORD_BYTES, Reading, RejectReason, envelope, leaks, read};
use crate::log::NewRecord;
use crate::model::{Event, Leak, TenantId, UnixMs, Zone};

/// What a key lets its holder say.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// A gateway's own: fixes its name, zone and tenants.
    Gateway { gateway: String, zone: Zone, tenants: Vec<TenantId> },
    /// The ingest key: may name any gateway, zone and tenant.
    Ingest,
}

/// What the door knows of an event's arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The event's time, if it brings none.
    pub(crate) now: UnixMs,
    /// The event's id, if it brings none: never used twice.
    pub(crate) fresh_id: Uuid,
    /// The door's own epoch, for an event whose source names none: the door counts what it takes.
    pub(crate) door_epoch: Option<Uuid>,
}

/// An event that may enter the log.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) event: Event<'static>,
    /// What to append: canonical JSON, key, headers. Unsigned.
    pub(crate) record: NewRecord,
    /// JSON pointers of what the event did not say and the door filled in. With `/id` among them a retry counts twice.
    pub(crate) filled: Vec<&'static str>,
    pub(crate) leaks: Vec<Leak>,
}

/// Why an event may not enter.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Refused {
    /// A JSON pointer to the field at fault; empty where it is the whole event.
    pub(crate) field: String,
    pub(crate) code: RefusalCode,
    /// What to do about it, for the gateway's author. Holds nothing of the event's values.
    pub(crate) message: String,
}

/// A refusal's closed word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalCode {
    /// It would be a dead letter.
    Rejected(RejectReason),
    /// The credential says otherwise.
    Conflict,
}

impl RefusalCode {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected(reason) => reason.as_str(),
            Self::Conflict => "conflict",
        }
    }
}

impl serde::Serialize for RefusalCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Refused {
    fn new(code: RefusalCode, field: impl Into<String>) -> Self {
        let field = field.into();
        Self { message: messages::message(code, &field), field, code }
    }

    fn rejected(reason: RejectReason, field: impl Into<String>) -> Self {
        Self::new(RefusalCode::Rejected(reason), field)
    }

    fn conflict(field: &'static str) -> Self {
        Self::new(RefusalCode::Conflict, field)
    }
}

/// Reads one event in the gateway dialect: JSON, bare or in a CloudEvents envelope.
pub(crate) fn admit(raw: &[u8], credential: &Credential, arrival: Arrival) -> Result<Admitted, Refused> {
    let mut members = members(raw)?;
    undo::dialect(&mut members)?;
    let filled = fill::fill(&mut members, credential, arrival)?;
    let canonical = Value::Object(members).to_string();
    let refused = |(reason, field)| Refused::rejected(reason, field);
    // What an issuer says does not come in by the door.
    let Reading { event, masks, .. } = read(canonical.as_bytes(), || false).map_err(refused)?;
    let leaks = leaks(&event, masks);
    let event = event.into_owned();
    let record = to_record(&event);
    if record.value.len() > MAX_RECORD_BYTES {
        return Err(Refused::rejected(RejectReason::TooLarge, ""));
    }
    Ok(Admitted { event, record, filled, leaks })
}

/// The event's members, every string and name masked.
fn members(raw: &[u8]) -> Result<Map<String, Value>, Refused> {
    if raw.len() > MAX_RECORD_BYTES {
        return Err(Refused::rejected(RejectReason::TooLarge, ""));
    }
    let text = std::str::from_utf8(raw).map_err(|_| Refused::rejected(RejectReason::NotUtf8, ""))?;
    let mut reader = Reader::without_limits(text);
    let value = if envelope::is_envelope(text) {
        envelope::enveloped(&mut reader, Reader::value)
    } else {
        reader.value()
    };
    let value = value.and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Refused::rejected(RejectReason::BadType, "")),
        Err(Fault { reason, below }) => {
            Err(Refused::rejected(reason, reader.pointer() + below.unwrap_or_default()))
        }
    }
}
