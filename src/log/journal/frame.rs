//! Frames: what the journal's store holds. A frame is a run of records of one partition that became durable together;
//! its key is the offset of the first (8 bytes, big-endian).
//!
//! ```text
//! version u8 = 1 · append time i64 ms · records u32 · bytes of the segment up to and with this frame u64   (little-endian)
//! then per record: key length + 1, or 0 for none · key · value length · value · headers ×(name length · name · value length · value)
//! ```
//! Lengths and the number of headers are LEB128. Many records an entry, because the store's cost is per entry.

use super::super::{Batch, NewRecord, Topic};
use super::keyed::Keyed;
use crate::model::{Offset, PartitionId, UnixMs};

/// Frames are closed at this size: large enough to cost nothing per record, small enough to be skipped into.
pub(super) const FRAME_BYTES: usize = 64 << 10;

/// What a record may take, headers and all: Apache Kafka's default.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 20;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 4 + 8;

/// Encoded records of one partition, without offsets yet: made by the caller, so that the one writer only copies.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) topic: Topic,
    pub(super) partition: PartitionId,
    pub(super) records: u32,
    pub(super) bytes: Vec<u8>,
    /// Of a compacted topic: then it is one record.
    pub(super) keyed: Option<Keyed>,
}

/// The encoded size of a record; [`RECORD_BYTES_MAX`] is about it.
pub(super) fn encoded_bytes(record: &NewRecord) -> usize {
    // Lengths of up to five bytes each.
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    record.key.as_ref().map_or(0, Vec::len) + record.value.len() + headers + 15
}

pub(super) fn encode(record: &NewRecord, into: &mut Vec<u8>) {
    match &record.key {
        None => put_length(into, 0),
        Some(key) => {
            put_length(into, key.len() + 1);
            into.extend_from_slice(key);
        }
    }
    put_bytes(into, &record.value);
    put_length(into, record.headers.len());
    for (name, value) in &record.headers {
        put_bytes(into, name.as_bytes());
        put_bytes(into, value);
    }
}

fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_length(into, bytes.len());
    into.extend_from_slice(bytes);
}

fn put_length(into: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        into.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    into.push(length as u8);
}

/// A frame under construction.
#[derive(Debug)]
pub(super) struct FrameBuilder {
    pub(super) first: i64,
    pub(super) records: u32,
    bytes: Vec<u8>,
}

impl FrameBuilder {
    pub(super) fn new(first: i64, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEAD_BYTES + bytes);
        buffer.resize(HEAD_BYTES, 0);
        Self { first, records: 0, bytes: buffer }
    }

    /// Takes the chunk in, if the frame does not grow too large by it; says at which offset its first record lies.
    pub(super) fn push(&mut self, chunk: &Chunk) -> Option<i64> {
        if self.records > 0 && self.bytes.len() + chunk.bytes.len() > FRAME_BYTES {
            return None;
        }
        let at = self.first + i64::from(self.records);
        self.records += chunk.records;
        self.bytes.extend_from_slice(&chunk.bytes);
        Some(at)
    }

    /// `segment_bytes` counts what the segment holds before this frame.
    pub(super) fn finish(mut self, append_time: UnixMs, segment_bytes: u64) -> Vec<u8> {
        let total = segment_bytes + self.bytes.len() as u64;
        self.bytes[0] = VERSION;
        self.bytes[1..9].copy_from_slice(&append_time.get().to_le_bytes());
        self.bytes[9..13].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[13..21].copy_from_slice(&total.to_le_bytes());
        self.bytes
    }
}

pub(super) fn key(first: i64) -> [u8; 8] {
    first.to_be_bytes()
}

/// What is stored is not a frame: another version's, or damaged where the store's own checksums did not see it.
#[derive(Debug, thiserror::Error)]
#[error("an entry is not a frame of records ({0}): made by another version, or damaged")]
pub(super) struct NotAFrame(&'static str);

/// A stored frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'f> {
    pub(super) first: i64,
    pub(super) records: u32,
    pub(super) append_time: UnixMs,
    /// Bytes of the segment up to and with this frame.
    pub(super) segment_bytes: u64,
    body: &'f [u8],
}

impl<'f> Frame<'f> {
    pub(super) fn parse(key: &[u8], value: &'f [u8]) -> Result<Self, NotAFrame> {
        let key = <[u8; 8]>::try_from(key).map_err(|_| NotAFrame("its key is no offset"))?;
        let (head, body) = value.split_first_chunk::<HEAD_BYTES>().ok_or(NotAFrame("it is too short"))?;
        let [version, t0, t1, t2, t3, t4, t5, t6, t7, n0, n1, n2, n3, b0, b1, b2, b3, b4, b5, b6, b7] = *head;
        if version != VERSION {
            return Err(NotAFrame("an unknown version"));
        }
        Ok(Self {
            first: i64::from_be_bytes(key),
            records: u32::from_le_bytes([n0, n1, n2, n3]),
            append_time: UnixMs::new(i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7])),
            segment_bytes: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            body,
        })
    }

    /// One past the offset of the last record.
    pub(super) fn end(&self) -> i64 {
        self.first + i64::from(self.records)
    }

    /// Copies the records in [from, until) into `batch`, as long as `room` says so (asked before each).
    pub(super) fn read(
        &self,
        from: i64,
        until: i64,
        batch: &mut Batch,
        room: impl Fn(&Batch) -> bool,
    ) -> Result<(), NotAFrame> {
        let mut rest = Cursor(self.body);
        let mut headers = Vec::new();
        for offset in self.first..self.end().min(until) {
            let key = match rest.length()? {
                0 => None,
                length => Some(rest.take(length - 1)?),
            };
            let value = rest.bytes()?;
            headers.clear();
            for _ in 0..rest.length()? {
                let name = std::str::from_utf8(rest.bytes()?).map_err(|_| NotAFrame("a header's name"))?;
                headers.push((name, rest.bytes()?));
            }
            if offset < from {
                continue;
            }
            if !room(batch) {
                break;
            }
            let offset = Offset::new(offset).ok_or(NotAFrame("its offset"))?;
            batch.push(offset, self.append_time, key, value, headers.iter().copied());
        }
        Ok(())
    }
}

struct Cursor<'f>(&'f [u8]);

impl<'f> Cursor<'f> {
    fn length(&mut self) -> Result<usize, NotAFrame> {
        let mut length = 0;
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, rest) = self.0.split_first().ok_or(NotAFrame("it ends within a length"))?;
            self.0 = rest;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(length);
            }
        }
        Err(NotAFrame("a length of more than five bytes"))
    }

    fn take(&mut self, length: usize) -> Result<&'f [u8], NotAFrame> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(NotAFrame("it ends within a record"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn bytes(&mut self) -> Result<&'f [u8], NotAFrame> {
        let length = self.length()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(records: &[NewRecord]) -> Vec<u8> {
        let mut chunk = Chunk {
            topic: Topic::Events,
            partition: PartitionId(0),
            records: 0,
            bytes: Vec::new(),
            keyed: None,
        };
        for record in records {
            encode(record, &mut chunk.bytes);
            chunk.records += 1;
        }
        let mut builder = FrameBuilder::new(40, 0);
        assert_eq!(builder.push(&chunk), Some(40));
        builder.finish(UnixMs::new(7), 1000)
    }

    #[test]
    fn a_frame_gives_back_what_went_in_and_skips_to_any_record() {
        let records: Vec<_> = [0, 1, 126, 127, 128, 20_000]
            .map(|length| NewRecord {
                key: (length != 1).then(|| vec![b'k'; length]),
                partition: None,
                value: vec![b'v'; length],
                headers: vec![("name".into(), vec![b'h'; length]); length % 3],
            })
            .into();
        let value = stored(&records);
        let frame = Frame::parse(&key(40), &value).unwrap();
        assert_eq!(
            (frame.end(), frame.append_time, frame.segment_bytes),
            (46, UnixMs::new(7), 1000 + value.len() as u64)
        );
        for from in 40..46 {
            let mut batch = Batch::default();
            frame.read(from, 45, &mut batch, |batch| batch.len() < 3).unwrap();
            let wanted: Vec<_> = (from..45).take(3).collect();
            assert_eq!(batch.iter().map(|record| record.offset.get()).collect::<Vec<_>>(), wanted);
            for record in batch.iter() {
                let put = &records[(record.offset.get() - 40) as usize];
                assert_eq!((record.key, record.value), (put.key.as_deref(), &*put.value));
                assert_eq!(record.headers.iter().count(), put.headers.len());
                assert!(encoded_bytes(put) >= put.value.len());
            }
        }
    }

    #[test]
    fn a_cut_frame_is_an_error_and_never_a_panic() {
        let value = stored(&[NewRecord { value: vec![1; 300], ..NewRecord::default() }]);
        for cut in 0..value.len() {
            let read = Frame::parse(&key(40), &value[..cut])
                .and_then(|frame| frame.read(0, 100, &mut Batch::default(), |_| true));
            assert!(read.is_err(), "{cut}");
        }
    }
}
