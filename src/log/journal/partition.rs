//! One partition as its readers see it: segments, where it starts, and up to where it is durable.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fjall::Keyspace;
use tokio::sync::watch;

use super::frame::{self, Frame};
use super::store::broken;
use crate::log::{Batch, LogError, Topic};
use crate::model::{Offset, PartitionId, UnixMs};

/// A read takes no more than this (and one record), whatever was asked: memory stays bounded.
const BATCH_BYTES: usize = 8 << 20;

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
    /// the files of a dropped segment until it is done.
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

    /// Copies what lies in [from, until) into `batch`, at most `max` records, and sets its position. What retention has
    /// taken away is passed over.
    pub(super) fn read(&self, from: i64, until: i64, max: usize, batch: &mut Batch) -> Result<(), LogError> {
        const DOING: &str = "reading from the journal";
        let segments = self.segments.load_full();
        let Some((start, _)) = segments.first() else {
            return Err(LogError::Unavailable { doing: DOING, cause: "the journal is closed".to_owned() });
        };
        let mut from = from.max(*start);
        if from >= until {
            batch.set_position(self.offset(from)?);
            return Ok(());
        }
        let room = |batch: &Batch| batch.len() < max && batch.size_bytes() < BATCH_BYTES;
        let first = segments.partition_point(|(base, _)| *base <= from).saturating_sub(1);
        for (index, (_, keyspace)) in segments.iter().enumerate().skip(first) {
            let segment_end = segments.get(index + 1).map_or(until, |(base, _)| *base).min(until);
            let mut entries = keyspace.range(frame::key(from)..frame::key(segment_end));
            let mut entry =
                entries.next().map(fjall::Guard::into_inner).transpose().map_err(|e| broken(DOING, e))?;
            if entry.as_ref().is_none_or(|(key, _)| **key != frame::key(from)) && from < segment_end {
                // `from` lies within a frame.
                let within = keyspace.range(..frame::key(from)).next_back();
                let (key, value) = within
                    .ok_or_else(|| broken(DOING, format_args!("offset {from} is missing")))?
                    .into_inner()
                    .map_err(|error| broken(DOING, error))?;
                let frame = Frame::parse(&key, &value).map_err(|error| broken(DOING, error))?;
                frame.read(from, until, batch, room).map_err(|error| broken(DOING, error))?;
                from = next_offset(batch, from);
            }
            while let Some((key, value)) = entry {
                if !room(batch) {
                    break;
                }
                let frame = Frame::parse(&key, &value).map_err(|error| broken(DOING, error))?;
                if frame.first != from {
                    return Err(broken(DOING, format_args!("offset {from} is missing")));
                }
                frame.read(from, until, batch, room).map_err(|error| broken(DOING, error))?;
                from = next_offset(batch, from);
                entry =
                    entries.next().map(fjall::Guard::into_inner).transpose().map_err(|e| broken(DOING, e))?;
            }
            if from < segment_end || from >= until {
                break;
            }
        }
        Ok(())
    }

    /// The first offset whose append time is at or after `time`; the end if there is none.
    pub(super) fn offset_at(&self, time: UnixMs) -> Result<i64, LogError> {
        const DOING: &str = "looking for a time in the journal";
        let end = self.end();
        let segments = self.segments.load_full();
        let (mut low, mut high) = (segments.first().map_or(end, |(base, _)| *base), end);
        // Append times never run back within a partition, so halving finds it.
        while low < high {
            let at = low + (high - low) / 2;
            let holding = segments.partition_point(|(base, _)| *base <= at).saturating_sub(1);
            let entry = segments[holding].1.range(..=frame::key(at)).next_back();
            let (key, value) = entry
                .ok_or_else(|| broken(DOING, format_args!("offset {at} is missing")))?
                .into_inner()
                .map_err(|error| broken(DOING, error))?;
            let frame = Frame::parse(&key, &value).map_err(|error| broken(DOING, error))?;
            if frame.append_time < time {
                low = frame.end();
            } else {
                high = frame.first;
            }
        }
        Ok(low)
    }

    fn offset(&self, offset: i64) -> Result<Offset, LogError> {
        Offset::new(offset)
            .ok_or_else(|| broken("counting offsets", format_args!("{offset} in {}", self.name())))
    }

    /// For errors and logs.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.topic.name(), self.id)
    }
}

fn listed(segments: &[Segment]) -> Vec<(i64, Keyspace)> {
    segments.iter().map(|segment| (segment.base, segment.keyspace.clone())).collect()
}

fn next_offset(batch: &Batch, from: i64) -> i64 {
    batch.position().map_or(from, Offset::get)
}
