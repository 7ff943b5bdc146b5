//! A batch of records in one buffer that is used again and again: in the steady state, reading allocates nothing.

use std::ops::Range;

use crate::model::{Offset, PartitionId, UnixMs};

/// What a batch holds at most, but for its last record: large records must not take the more memory the more there are.
const FULL_BYTES: usize = 8 << 20;

/// Records of one partition, in order. Filled by a lane, walked, and handed back to be filled again.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    partition: PartitionId,
    bytes: Vec<u8>,
    records: Vec<Span>,
    headers: Vec<HeaderSpan>,
    /// The offset after the last one that was read, records or holes; `None` before the first fill.
    position: Option<Offset>,
}

#[derive(Debug)]
struct Span {
    offset: Offset,
    append_time: UnixMs,
    key: Option<Range<usize>>,
    value: Range<usize>,
    headers: Range<usize>,
}

#[derive(Debug)]
struct HeaderSpan {
    name: Range<usize>,
    value: Range<usize>,
}

impl Batch {
    /// Empties the batch, keeps its memory.
    pub(crate) fn clear(&mut self, partition: PartitionId) {
        self.partition = partition;
        self.bytes.clear();
        self.records.clear();
        self.headers.clear();
        self.position = None;
    }

    /// Copies a record in. `headers` in the record's own order, repeats and all.
    pub(crate) fn push<'h>(
        &mut self,
        offset: Offset,
        append_time: UnixMs,
        key: Option<&[u8]>,
        value: &[u8],
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) {
        let key = key.map(|key| self.copy(key));
        let value = self.copy(value);
        let first_header = self.headers.len();
        for (name, value) in headers {
            let span = HeaderSpan { name: self.copy(name.as_bytes()), value: self.copy(value) };
            self.headers.push(span);
        }
        let headers = first_header..self.headers.len();
        self.records.push(Span { offset, append_time, key, value, headers });
        self.position = Some(offset.resume_after().offset());
    }

    fn copy(&mut self, data: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        start..self.bytes.len()
    }

    /// Says that everything before `position` was read, although no record lies there (holes of transactions).
    pub(crate) fn set_position(&mut self, position: Offset) {
        self.position = Some(position);
    }

    /// The offset after the last one that was read.
    pub(crate) const fn position(&self) -> Option<Offset> {
        self.position
    }

    #[cfg(test)]
    pub(crate) const fn partition(&self) -> PartitionId {
        self.partition
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether any record has a header of that name: a glance at all of them.
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|span| self.bytes[span.name.clone()] == *name.as_bytes())
    }

    /// Whether a lane should put no more in, of which `max` records were wanted.
    pub(crate) fn is_full(&self, max: usize) -> bool {
        self.len() >= max || self.bytes.len() >= FULL_BYTES
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.slice(0..self.len())
    }

    /// How many of the first records lie before `limit`.
    pub(crate) fn count_before(&self, limit: Offset) -> usize {
        self.records.partition_point(|span| span.offset < limit)
    }

    /// The records of `range`, by their place in the batch.
    pub(crate) fn slice(&self, range: Range<usize>) -> impl Iterator<Item = Record<'_>> {
        self.records[range].iter().map(|span| Record {
            offset: span.offset,
            append_time: span.append_time,
            key: span.key.clone().map(|range| &self.bytes[range]),
            value: &self.bytes[span.value.clone()],
            headers: Headers { batch: self, range: span.headers.clone() },
        })
    }
}

/// One record, borrowed from its batch.
#[derive(Clone, Debug)]
pub(crate) struct Record<'b> {
    pub(crate) offset: Offset,
    /// The log's own time (LogAppendTime): an event's `received_at`.
    pub(crate) append_time: UnixMs,
    pub(crate) key: Option<&'b [u8]>,
    pub(crate) value: &'b [u8],
    pub(crate) headers: Headers<'b>,
}

/// A record's headers, in order.
#[derive(Clone, Debug)]
pub(crate) struct Headers<'b> {
    batch: &'b Batch,
    range: Range<usize>,
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader<'b> {
    /// Not promised to be UTF-8 by every log: what is not is replaced.
    pub(crate) name: &'b str,
    pub(crate) value: &'b [u8],
}

impl<'b> Headers<'b> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = RecordHeader<'b>> + use<'b> {
        let batch = self.batch;
        batch.headers[self.range.clone()].iter().map(move |span| RecordHeader {
            name: std::str::from_utf8(&batch.bytes[span.name.clone()]).unwrap_or("\u{fffd}"),
            value: &batch.bytes[span.value.clone()],
        })
    }

    /// The first header of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&'b [u8]> {
        self.iter().find(|header| header.name == name).map(|header| header.value)
    }
}
