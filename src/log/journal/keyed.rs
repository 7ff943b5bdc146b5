//! A partition of a compacted topic: the newest record of each key, in one keyspace that never rolls.
//!
//! ```text
//! o + offset (8 bytes, big-endian)   → a frame of that one record
//! k + key                            → the offset of the key's record
//! n                                  → the next offset, and the last append time (8 bytes each, big-endian)
//! ```
//! Whoever writes a key removes its older record in the same atomic batch, so compaction is nothing that could be
//! interrupted or fall behind: at every moment the partition holds what is alive, and the store's own merging frees the
//! space of the rest. Records lie in the order of their offsets, as on Kafka, so one reader serves both kinds of topic;
//! the price is one look-up and three small writes a record. A removed key leaves nothing, not even a tombstone.

use std::collections::HashMap;

use fjall::{Guard, Iter, Keyspace, OwnedWriteBatch, Readable, Snapshot};

use super::frame::{self, Chunk, Frame, FrameBuilder};
use super::store;
use crate::log::Batch;
use crate::model::{Offset, UnixMs};

const NEXT: &[u8] = b"n";

/// The key of a record for a compacted topic, and whether it removes that key.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) key: Vec<u8>,
    pub(super) removes: bool,
}

/// What the batch under way has put so far: the store does not show it yet. `None`: removed.
pub(super) type Pending = HashMap<Vec<u8>, Option<i64>>;

/// Adds a record, which is the whole of `chunk`, to the batch, and takes the key's older one away.
pub(super) fn put(
    keyspace: &Keyspace,
    pending: &mut Pending,
    batch: &mut OwnedWriteBatch,
    (chunk, keyed): (&Chunk, &Keyed),
    offset: i64,
    append_time: UnixMs,
) -> Result<(), String> {
    let index = index_key(&keyed.key);
    let older = match pending.get(&keyed.key) {
        Some(&older) => older,
        None => match keyspace.get(&index).map_err(|error| store::text(&error))? {
            None => None,
            Some(value) => Some(parse_i64(&value).ok_or("a key's offset cannot be read")?),
        },
    };
    if let Some(older) = older {
        batch.remove(keyspace, record_key(older));
    }
    if keyed.removes {
        batch.remove(keyspace, index);
    } else {
        let mut frame = FrameBuilder::new(offset, chunk.bytes.len());
        frame.push(chunk);
        batch.insert(keyspace, record_key(offset), frame.finish(append_time, 0));
        batch.insert(keyspace, index, offset.to_be_bytes());
    }
    pending.insert(keyed.key.clone(), (!keyed.removes).then_some(offset));
    Ok(())
}

/// Keeps where the partition goes on: a removed key is not there to tell.
pub(super) fn put_next(keyspace: &Keyspace, batch: &mut OwnedWriteBatch, next: i64, last_time: UnixMs) {
    batch.insert(keyspace, NEXT, [next.to_be_bytes(), last_time.get().to_be_bytes()].concat());
}

/// The next offset and the last append time; nothing if nothing was ever written.
pub(super) fn next(keyspace: &Keyspace) -> Result<Option<(i64, UnixMs)>, String> {
    parse_next(keyspace.get(NEXT))
}

fn parse_next(
    found: Result<Option<fjall::UserValue>, fjall::Error>,
) -> Result<Option<(i64, UnixMs)>, String> {
    let Some(value) = found.map_err(|error| store::text(&error))? else { return Ok(None) };
    let read = value
        .split_first_chunk::<8>()
        .and_then(|(next, time)| Some((i64::from_be_bytes(*next), UnixMs::new(parse_i64(time)?))));
    read.map(Some).ok_or_else(|| "where it goes on cannot be read".to_owned())
}

/// The records from `from` on. A record that is replaced while they are read may be met in neither place, unless its new
/// one is read, too.
pub(super) fn records(keyspace: &Keyspace, from: i64) -> Iter {
    keyspace.range(record_key(from)..record_key(i64::MAX))
}

/// The records from `from` on as the snapshot has them, and one past the last offset that was given by then.
pub(super) fn records_then(
    keyspace: &Keyspace,
    snapshot: &Snapshot,
    from: i64,
) -> Result<(Iter, i64), String> {
    let next = parse_next(snapshot.get(keyspace, NEXT))?;
    let records = snapshot.range(keyspace, record_key(from)..record_key(i64::MAX));
    Ok((records, next.map_or(0, |(next, _)| next)))
}

/// Copies what `records` still gives and lies before `until` into `batch`, until that is full. False at the end.
pub(super) fn read(records: &mut Iter, until: i64, max: usize, batch: &mut Batch) -> Result<bool, String> {
    while !batch.is_full(max) {
        let Some(entry) = records.next() else { return Ok(false) };
        let (key, value) = entry_of(entry)?;
        let frame = frame_of(&key, &value)?;
        if frame.first >= until {
            return Ok(false);
        }
        frame.read(frame.first, until, batch, |_| true).map_err(|error| error.to_string())?;
    }
    Ok(true)
}

/// The first record whose append time is at or after `time`. Their times never run back, but halving would need all
/// offsets to be there: what is alive is little, and this is asked seldom.
pub(super) fn offset_at(keyspace: &Keyspace, time: UnixMs) -> Result<Option<Offset>, String> {
    for entry in records(keyspace, 0) {
        let (key, value) = entry_of(entry)?;
        let frame = frame_of(&key, &value)?;
        if frame.append_time >= time {
            return Ok(Offset::new(frame.first));
        }
    }
    Ok(None)
}

fn entry_of(entry: Guard) -> Result<fjall::KvPair, String> {
    entry.into_inner().map_err(|error| store::text(&error))
}

fn frame_of<'v>(key: &[u8], value: &'v [u8]) -> Result<Frame<'v>, String> {
    Frame::parse(key.get(1..).unwrap_or_default(), value).map_err(|error| error.to_string())
}

fn record_key(offset: i64) -> [u8; 9] {
    let mut key = [b'o'; 9];
    key[1..].copy_from_slice(&frame::key(offset));
    key
}

fn index_key(key: &[u8]) -> Vec<u8> {
    [b"k", key].concat()
}

fn parse_i64(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}
