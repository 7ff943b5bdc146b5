//! Home partitions, and the way there (PROMISE, "Keys and partitions cannot be trusted").

use std::net::IpAddr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Bounds, Decoded, ForwardedFrom, MAX_RECORD_BYTES, RETRIED_HEADER, Retried, mask, seal_retried};
use crate::log::{NewRecord, Record, home_partition};
use crate::model::{Event, Flag, Kind, LogId, Offset, PartitionId, UnixMs};

/// `L/partition/offset/append_ms/hops;MAC`, the MAC over what is before it, a line break, and the value. Where the
/// record bore a valid signature, `/` and the id of its key stand behind the hops.
pub(super) const FORWARD_HEADER: &str = "jwtrail-forward";
/// Where the copy keeps a key that held a token, masked: its own key is rewritten.
pub(super) const KEY_HEADER: &str = "jwtrail-key";

/// A record that was forwarded this often stays where it is.
const MAX_HOPS: u8 = 2;

/// The key that decides an event's home partition, of `decode`'s output alone. Producers set it too; nobody relies on it.
pub(crate) fn home_key(event: &Event<'_>) -> Vec<u8> {
    let tenant = event.tenant.as_ref();
    // Tenant and name are parted by ASCII's unit separator.
    let below = |kind: &str, name: &str| [tenant, "\u{1f}", kind, name].concat().into_bytes();
    let token = event.token.as_ref();
    let sub = token.and_then(|token| token.sub.as_deref());
    match event.kind {
        Kind::Heartbeat => return event.source.gateway.as_bytes().to_vec(),
        Kind::LedgerMark | Kind::KeyStateChanged | Kind::AdminChanged => {}
        Kind::LoginSucceeded | Kind::LoginFailed => {
            let username = event.login.as_ref().and_then(|login| login.username.as_deref());
            match (sub, username) {
                (Some(sub), _) => return below("", sub),
                (None, Some(username)) => return below("user:", username),
                (None, None) => {}
            }
        }
        Kind::Revoked => match (sub, token.and_then(|token| token.family.as_deref())) {
            (Some(sub), _) => return below("", sub),
            (None, Some(family)) => return below("family:", family),
            (None, None) => {}
        },
        Kind::Accepted | Kind::Rejected | Kind::Issued | Kind::Refreshed | Kind::Exchanged => {
            if let Some(sub) = event.vouched_subject() {
                return below("", sub);
            }
            if let Some(ip) = event.request.as_ref().and_then(|request| request.ip) {
                return below("ip:", &network(ip));
            }
        }
    }
    tenant.as_bytes().to_vec()
}

/// The /24 or /48 of an address.
fn network(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

/// The copy to append at the event's home partition, if `here` is another one: key rewritten, `jwtrail-forward` set,
/// free of tokens. `None` if the record is at home, or stays although it is not: marks, and what has made two hops or
/// cannot be copied within the limits, which is then flagged `displaced`. `attested_by` is what `verify` found: the id
/// of the key that signed the record.
pub(crate) fn forward(
    decoded: &mut Decoded<'_>,
    attested_by: Option<&str>,
    record: &Record<'_>,
    bounds: &Bounds,
    here: PartitionId,
) -> Option<NewRecord> {
    if decoded.event.kind == Kind::LedgerMark {
        return None;
    }
    let key = home_key(&decoded.event);
    if home_partition(&key, bounds.partitions) == here {
        return None;
    }
    let attested_by = attested_by.map(str::to_owned);
    let origin = match &decoded.origin {
        Some(origin) => ForwardedFrom { hops: origin.hops + 1, attested_by, ..origin.clone() },
        None => ForwardedFrom {
            log: bounds.log.clone(),
            partition: here,
            offset: record.offset,
            append_time: record.append_time,
            hops: 1,
            attested_by,
        },
    };
    let value = clean_value(decoded, record).filter(|value| value.len() <= MAX_RECORD_BYTES);
    let Some(value) = value.filter(|_| origin.hops <= MAX_HOPS) else {
        decoded.flags.set(Flag::Displaced);
        return None;
    };
    let mut headers = clean_headers(record);
    headers.push((FORWARD_HEADER.to_owned(), seal(&origin, &value, &bounds.seals.forward).into_bytes()));
    let may_be_there = bounds.forwarded_through.is_some_and(|through| record.offset <= through);
    let since = match decoded.retried {
        Some(Retried { since, .. }) => Some(since),
        // A copy was made of it after it came.
        None => Some(record.append_time).filter(|_| may_be_there),
    };
    if let Some(since) = since {
        headers.push(retried_header(&decoded.event, &value, since, bounds));
    }
    Some(NewRecord { key: Some(key), partition: None, value, headers })
}

/// Over the value that the copy has: it may have been written anew.
fn retried_header(event: &Event<'_>, value: &[u8], since: UnixMs, bounds: &Bounds) -> (String, Vec<u8>) {
    let seal = seal_retried(event, value, since, &bounds.seals.retried);
    (RETRIED_HEADER.to_owned(), seal.into_bytes())
}

/// A dead letter's value as a record again, for its event's home. It lay `first` somewhere else, and says so in the same
/// way: its row names that place, and its time is held against its arrival there. Its source sent it long before, and
/// whoever brings letters back may have died after this one, before that was noted: so it is retried since then.
pub(crate) fn bring_back(
    event: &Event<'_>,
    value: &[u8],
    first: &ForwardedFrom,
    bounds: &Bounds,
) -> NewRecord {
    let seal = seal(first, value, &bounds.seals.forward).into_bytes();
    let retried = retried_header(event, value, first.append_time, bounds);
    let headers = vec![(FORWARD_HEADER.to_owned(), seal), retried];
    NewRecord { key: Some(home_key(event)), partition: None, value: value.to_vec(), headers }
}

/// The value as it was received, so that its signature holds; the event written anew if a token stands in it.
fn clean_value(decoded: &Decoded<'_>, record: &Record<'_>) -> Option<Vec<u8>> {
    let of_value = || decoded.leaks.iter().filter(|leak| leak.field.starts_with('/'));
    let marked = |token_ref: &str| {
        memchr::memmem::find(record.value, format!("[masked:{token_ref}]").as_bytes()).is_some()
    };
    let is_clean = of_value().next().is_none()
        || (of_value().all(|leak| marked(&leak.token_ref))
            && mask::mask_bytes(record.value, record.value.len()) == record.value);
    if is_clean {
        return Some(record.value.to_vec());
    }
    let time = decoded.event.claimed_time.unwrap_or(decoded.event.time);
    serde_json::to_vec(&Event { time, ..decoded.event.clone() }).ok()
}

fn clean_headers(record: &Record<'_>) -> Vec<(String, Vec<u8>)> {
    let mut headers: Vec<(String, Vec<u8>)> = record
        .headers
        .iter()
        .filter(|header| header.name != FORWARD_HEADER && header.name != RETRIED_HEADER)
        .map(|header| {
            let name = mask::mask_text(header.name.into(), |_| ()).into_owned();
            (name, mask::mask_bytes(header.value, MAX_RECORD_BYTES))
        })
        .collect();
    if let Some(key) = record.key.filter(|key| mask::suspicious(key)) {
        headers.push((KEY_HEADER.to_owned(), mask::mask_bytes(key, MAX_RECORD_BYTES)));
    }
    headers
}

pub(super) fn seal(origin: &ForwardedFrom, value: &[u8], key: &hmac::Key) -> String {
    let ForwardedFrom { log, partition, offset, append_time, hops, attested_by } = origin;
    let mut path = format!("{log}/{partition}/{offset}/{}/{hops}", append_time.get());
    if let Some(key_id) = attested_by {
        path.push('/');
        path.push_str(key_id);
    }
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(key, &sealed_bytes(&path, value)));
    format!("{path};{mac}")
}

pub(super) fn sealed_bytes(path: &str, value: &[u8]) -> Vec<u8> {
    [path.as_bytes(), b"\n", value].concat()
}

/// Where the record lay first, if its `jwtrail-forward` is ours. Anyone may write a header: without its MAC it is
/// nothing.
pub(super) fn origin(header: &[u8], value: &[u8], key: &hmac::Key) -> Option<ForwardedFrom> {
    let (path, mac) = std::str::from_utf8(header).ok()?.split_once(';')?;
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
    hmac::verify(key, &sealed_bytes(path, value), &mac).ok()?;
    // A key id may have slashes of its own, and has no semicolon.
    let mut parts = path.splitn(6, '/');
    Some(ForwardedFrom {
        log: LogId::try_from(parts.next()?.to_owned()).ok()?,
        partition: PartitionId(parts.next()?.parse().ok()?),
        offset: Offset::new(parts.next()?.parse().ok()?)?,
        append_time: UnixMs::new(parts.next()?.parse().ok()?),
        hops: parts.next()?.parse().ok()?,
        attested_by: parts.next().map(str::to_owned),
    })
}
