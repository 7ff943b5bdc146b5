//! One partition as its readers see it: segments, where it starts, and up to where it is durable.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fjall::{Guard, Keyspace, KvPair};
use tokio::sync::watch;

use super::frame::{self, Frame};
use super::keyed;
use super::store::{self, broken};
use crate::log::{Batch, LogError, Topic};
use crate::model::{Offset, PartitionId, UnixMs};

/// A run of frames in a keyspace of its own.
#[derive(Clone)]
pub(super) struct Segment {
    /// The offset of its first record.
    pub(super) base: i64,
    /// One past its last record; while it is the newest, only the writer's own copy is kept up to date.
    pub(super) end: i64,
    /// Bytes of its frames before compression.
    pub(super) bytes: u64,
    pub(super) first_time: Option<UnixMs>,
    pub(super) last_time: Option<UnixMs>,
    pub(super) keyspace: Keyspace,
}

/// What readers share with the writer.
pub(super) struct Partition {
    pub(super) topic: Topic,
    pub(super) id: PartitionId,
    /// (first offset, keyspace) of each segment, oldest first; none once the journal is closed. A reader's own copy keeps
    /// the files of a dropped segment until it is done. A compacted partition has one, with other contents ([`keyed`]).
    segments: ArcSwap<Vec<(i64, Keyspace)>>,
    /// One past the last durable record: no reader goes beyond.
    end: watch::Sender<i64>,
}

impl Partition {
    pub(super) fn new(topic: Topic, id: PartitionId, segments: &[Segment]) -> Self {
        let end = segments.last().map_or(0, |segment| segment.end);
        Self { topic, id, segments: ArcSwap::from_pointee(listed(segments)), end: watch::Sender::new(end) }
    }

    /// The writer rolled or dropped segments.
    pub(super) fn set_segments(&self, segments: &[Segment]) {
        self.segments.store(Arc::new(listed(segments)));
    }

    /// Everything before `end` is durable: readers that wait wake.
    pub(super) fn advance(&self, end: i64) {
        self.end.send_replace(end);
    }

    pub(super) fn start(&self) -> i64 {
        self.segments.load().first().map_or(0, |(base, _)| *base)
    }

    pub(super) fn end(&self) -> i64 {
        *self.end.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// The one keyspace of a compacted partition; `None` of another.
    pub(super) fn keyspace_of_keys(&self, doing: &'static str) -> Result<Option<Keyspace>, LogError> {
        if !self.topic.is_compacted() {
            return Ok(None);
        }
        match self.segments.load().first() {
            Some((_, keyspace)) => Ok(Some(keyspace.clone())),
            None => Err(closed(doing)),
        }
    }

    /// Copies what lies in [from, until) into `batch`, at most `max` records, and sets its position. What retention has
    /// taken away is passed over.
    pub(super) fn read(&self, from: i64, until: i64, max: usize, batch: &mut Batch) -> Result<(), LogError> {
        const DOING: &str = "reading from the journal";
        if let Some(keyspace) = self.keyspace_of_keys(DOING)? {
            let more = keyed::read(&mut keyed::records(&keyspace, from), until, max, batch)
                .map_err(|cause| self.damaged(DOING, cause))?;
            if !more {
                batch.set_position(Offset::new(until).ok_or_else(|| self.missing(DOING, until))?);
            }
            return Ok(());
        }
        let segments = self.segments.load_full();
        let Some((start, _)) = segments.first() else { return Err(closed(DOING)) };
        let mut from = from.max(*start);
        if from >= until {
            batch.set_position(Offset::new(from).ok_or_else(|| self.missing(DOING, from))?);
            return Ok(());
        }
        let room = |batch: &Batch| !batch.is_full(max);
        let first = segments.partition_point(|(base, _)| *base <= from).saturating_sub(1);
        for (index, (_, keyspace)) in segments.iter().enumerate().skip(first) {
            let segment_end = segments.get(index + 1).map_or(until, |(base, _)| *base).min(until);
            // `from` may lie within a frame.
            let (holding, _) = self.entry(DOING, keyspace.range(..=frame::key(from)).next_back(), from)?;
            for entry in keyspace.range(&*holding..&frame::key(segment_end)[..]) {
                let (key, value) = self.entry(DOING, Some(entry), from)?;
                let frame = self.frame(DOING, &key, &value)?;
                if frame.first > from {
                    return Err(self.missing(DOING, from));
                }
                frame.read(from, until, batch, room).map_err(|error| self.damaged(DOING, error))?;
                from = batch.position().map_or(from, Offset::get);
                if !room(batch) {
                    return Ok(());
                }
            }
            if from >= until {
                return Ok(());
            }
        }
        Err(self.missing(DOING, from))
    }

    /// The first offset whose append time is at or after `time`; the end if there is none.
    pub(super) fn offset_at(&self, time: UnixMs) -> Result<i64, LogError> {
        const DOING: &str = "looking for a time in the journal";
        let end = self.end();
        if let Some(keyspace) = self.keyspace_of_keys(DOING)? {
            let found = keyed::offset_at(&keyspace, time).map_err(|cause| self.damaged(DOING, cause))?;
            return Ok(found.map_or(end, Offset::get));
        }
        let segments = self.segments.load_full();
        let (mut low, mut high) = (segments.first().map_or(end, |(base, _)| *base), end);
        // Append times never run back within a partition, so halving finds it.
        while low < high {
            let at = low + (high - low) / 2;
            let holding = segments.partition_point(|(base, _)| *base <= at).saturating_sub(1);
            let entry = segments[holding].1.range(..=frame::key(at)).next_back();
            let (key, value) = self.entry(DOING, entry, at)?;
            let frame = self.frame(DOING, &key, &value)?;
            if frame.append_time < time {
                low = frame.end();
            } else {
                high = frame.first;
            }
        }
        Ok(low)
    }

    fn entry(&self, doing: &'static str, entry: Option<Guard>, offset: i64) -> Result<KvPair, LogError> {
        let entry = entry.ok_or_else(|| self.missing(doing, offset))?;
        entry.into_inner().map_err(|error| self.damaged(doing, store::text(&error)))
    }

    fn frame<'v>(&self, doing: &'static str, key: &[u8], value: &'v [u8]) -> Result<Frame<'v>, LogError> {
        Frame::parse(key, value).map_err(|error| self.damaged(doing, error))
    }

    fn missing(&self, doing: &'static str, offset: i64) -> LogError {
        self.damaged(doing, format_args!("offset {offset} is missing"))
    }

    pub(super) fn damaged(&self, doing: &'static str, what: impl std::fmt::Display) -> LogError {
        broken(doing, format_args!("{}: {what}", self.name()))
    }

    /// For errors and logs.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.topic.name(), self.id)
    }
}

fn closed(doing: &'static str) -> LogError {
    LogError::Unavailable { doing, cause: "the journal is closed".to_owned() }
}

fn listed(segments: &[Segment]) -> Vec<(i64, Keyspace)> {
    segments.iter().map(|segment| (segment.base, segment.keyspace.clone())).collect()
}
