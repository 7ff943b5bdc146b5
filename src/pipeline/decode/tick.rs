//! Ticks: time as a record in the log (PROMISE, "Order and time"). Where no record comes, the owner of a partition appends
//! one, so that what must close by time does, and at the same offset in every walk.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Bounds;
use crate::log::{NewRecord, Record};
use crate::model::{Offset, PartitionId};

/// `L/partition/position;MAC`, the MAC over what is before it. Where it was written is for people to read: a tick says
/// its own append time and nothing else, so that a copy of it does no more than any event would.
const TICK_HEADER: &str = "jwtrail-tick";

/// A tick for `partition`, whose owner has walked up to `position`.
pub(crate) fn tick(bounds: &Bounds, partition: PartitionId, position: Offset) -> NewRecord {
    let place = format!("{}/{partition}/{position}", bounds.log);
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&bounds.seals.tick, place.as_bytes()));
    let header = (TICK_HEADER.to_owned(), format!("{place};{mac}").into_bytes());
    NewRecord { partition: Some(partition), headers: vec![header], ..NewRecord::default() }
}

/// Whether a record is a tick of ours. One that is not, and has no value either, is no event: a dead letter.
pub(crate) fn is_tick(record: &Record<'_>, bounds: &Bounds) -> bool {
    // An event never is: whoever could copy a tick's header must not hide it.
    record.value.is_empty()
        && record.headers.get(TICK_HEADER).is_some_and(|header| is_sealed(header, &bounds.seals.tick))
}

fn is_sealed(header: &[u8], key: &hmac::Key) -> bool {
    let sealed = || {
        let (place, mac) = std::str::from_utf8(header).ok()?.split_once(';')?;
        hmac::verify(key, place.as_bytes(), &URL_SAFE_NO_PAD.decode(mac).ok()?).ok()
    };
    sealed().is_some()
}
