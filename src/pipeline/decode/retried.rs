//! `jwtrail-retried`: what a record says that was held back while the log was away, and may have been written before.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::forward::sealed_bytes;
use crate::log::Record;
use crate::model::{Event, UnixMs};

/// `SINCE_MS/TENANT/GATEWAY/EVENT_ID;MAC`, the MAC over what is before it, a line break, and the value. Anyone may write a
/// header: without its MAC it is nothing, or whoever writes to the topic could have a look-up made for every record, and
/// could name the id of another event to have this one dropped.
pub(crate) const RETRIED_HEADER: &str = "jwtrail-retried";

/// Which event a held-back record is, and since when copies of it may be in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retried {
    /// By the door's clock: when it first tried to append it.
    pub(crate) since: UnixMs,
    pub(crate) tenant: String,
    pub(crate) gateway: String,
    pub(crate) event_id: Uuid,
}

/// The header's value for a record of `event` whose value is `value`.
pub(crate) fn seal_retried(event: &Event<'_>, value: &[u8], since: UnixMs, key: &hmac::Key) -> String {
    let path = format!("{}/{}/{}/{}", since.get(), event.tenant, event.source.gateway, event.id);
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(key, &sealed_bytes(&path, value)));
    format!("{path};{mac}")
}

/// What the record's header says, if it is ours.
pub(crate) fn retried(record: &Record<'_>, key: &hmac::Key) -> Option<Retried> {
    let header = record.headers.get(RETRIED_HEADER)?;
    let (path, mac) = std::str::from_utf8(header).ok()?.split_once(';')?;
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
    hmac::verify(key, &sealed_bytes(path, record.value), &mac).ok()?;
    let mut parts = path.split('/');
    Some(Retried {
        since: UnixMs::new(parts.next()?.parse().ok()?),
        tenant: parts.next()?.to_owned(),
        gateway: parts.next()?.to_owned(),
        event_id: parts.next()?.parse().ok()?,
    })
}
