//! What the writer sees to besides writing: closing full segments, dropping old ones, syncing after an interval.

use std::time::Duration;

use fjall::PersistMode;

use super::super::store::expired;
use super::super::{FsyncPolicy, WhenFull, retention};
use super::{Tail, Writer};
use crate::log::{LogError, Topic};
use crate::model::{PartitionId, UnixMs};

/// How often old segments are looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(60);

impl Writer {
    pub(super) fn is_full(&self, topic: Topic, tail: &Tail) -> bool {
        let Some(active) = tail.segments.last() else { return true };
        // A slow topic rolls by age, so that retention, which takes whole segments, is at most an eighth late.
        let age = self.retention_ms.get(&topic).map_or(u64::MAX, |retention_ms| retention_ms / 8);
        active.bytes >= self.options.segment_bytes || expired(active.first_time, age, self.clock.now())
    }

    /// Begins a new segment at the partition's end. Everything before it is made durable first: a power loss must not
    /// leave a gap below a segment.
    pub(super) fn roll(&mut self, (topic, id): (Topic, PartitionId)) -> Result<(), fjall::Error> {
        if self.dirty_since.take().is_some() {
            self.store.db.persist(PersistMode::SyncData)?;
        }
        if let Some(tail) = self.tails.get_mut(&(topic, id)) {
            let segment = self.store.create_segment(topic, id, tail.next)?;
            tail.segments.push(segment);
            tail.shared.set_segments(&tail.segments);
            self.rolled = true;
        }
        Ok(())
    }

    pub(super) fn until_next_duty(&self) -> Duration {
        match (self.options.fsync, self.dirty_since) {
            (FsyncPolicy::Interval(interval), Some(since)) => interval.saturating_sub(since.elapsed()),
            _ => RETENTION_EVERY,
        }
    }

    pub(super) fn sync_if_due(&mut self) {
        if let (FsyncPolicy::Interval(interval), Some(since)) = (self.options.fsync, self.dirty_since)
            && since.elapsed() >= interval
        {
            self.dirty_since = None;
            self.sync();
        }
    }

    pub(super) fn sync(&mut self) {
        if self.handle.broken.get().is_none()
            && let Err(error) = self.store.db.persist(PersistMode::SyncData)
        {
            self.break_with("syncing the journal", &error);
        }
    }

    pub(super) fn retain_if_due(&mut self) {
        let now = self.clock.now();
        let due = now.since_ms(self.retained_at) >= RETENTION_EVERY.as_millis() as i64;
        if !(due || self.rolled) || self.handle.broken.get().is_some() {
            return;
        }
        self.retained_at = now;
        if let Err(error) = self.retain(now) {
            self.break_with("dropping old segments of the journal", &error);
        }
        self.rolled = false;
    }

    fn retain(&mut self, now: UnixMs) -> Result<(), fjall::Error> {
        // A partition that nobody writes to any more would keep its newest segment for ever.
        let idle = self.tails.iter().filter(|(key, tail)| {
            let active = tail.segments.last();
            active.is_some_and(|active| expired(active.last_time, self.retention_of(key.0), now))
        });
        let idle: Vec<_> = idle.map(|(&key, _)| key).collect();
        for key in idle {
            self.roll(key)?;
        }
        self.drop_segments(now, self.options.limit_bytes)
    }

    /// Drops what is old, and what is over `limit_bytes`.
    fn drop_segments(&mut self, now: UnixMs, limit_bytes: u64) -> Result<(), fjall::Error> {
        let kept = self.tails.iter().map(|(&key, tail)| (key, self.kept(key, tail))).collect();
        for (key, drop) in retention::plan(&kept, limit_bytes, self.options.when_full, now) {
            let Some(tail) = self.tails.get_mut(&key) else { continue };
            let dropped: Vec<_> = tail.segments.drain(..drop.segments).collect();
            // First nobody new reads them, then they go.
            tail.shared.set_segments(&tail.segments);
            let start = tail.shared.start();
            if drop.truncates {
                tracing::error!(
                    log.partition = tail.shared.name(),
                    log.start = start,
                    "log_truncated: the journal's disk limit took records that not every group had committed"
                );
            }
            for segment in dropped {
                self.store.db.delete_keyspace(segment.keyspace)?;
            }
        }
        Ok(())
    }

    /// In a journal that refuses: whether `bytes` more fit in, with whatever has been committed dropped for them.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        const DOING: &str = "appending to the journal";
        let limit_bytes = self.options.limit_bytes;
        let fits = |writer: &Self| writer.held_bytes().saturating_add(bytes) <= limit_bytes;
        if self.options.when_full == WhenFull::Truncate || fits(self) {
            return Ok(());
        }
        let now = self.clock.now();
        let dropped = self.drop_segments(now, limit_bytes.saturating_sub(bytes));
        dropped.map_err(|error| self.break_with(DOING, &error))?;
        if fits(self) {
            return Ok(());
        }
        let cause = format!("it is full: it may hold {limit_bytes} bytes that are not read yet");
        Err(LogError::Unavailable { doing: DOING, cause })
    }

    fn held_bytes(&self) -> u64 {
        self.tails.values().flat_map(|tail| &tail.segments).map(|segment| segment.bytes).sum()
    }

    pub(super) fn retention_of(&self, topic: Topic) -> u64 {
        self.retention_ms.get(&topic).copied().unwrap_or(u64::MAX)
    }

    fn kept(&self, (topic, id): (Topic, PartitionId), tail: &Tail) -> retention::Kept {
        let first = (topic, id, String::new());
        let commits = self.commits.range(first..).take_while(|((t, p, _), _)| (*t, *p) == (topic, id));
        let commits = commits.filter(|((.., group), _)| self.reads(topic, group));
        let (active, sealed) =
            tail.segments.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
        retention::Kept {
            retention_ms: self.retention_of(topic),
            floor: commits.map(|(_, commit)| commit.resume_at.offset().get()).min(),
            sealed: sealed
                .iter()
                .map(|segment| retention::Sealed {
                    end: segment.end,
                    bytes: segment.bytes,
                    last_time: segment.last_time,
                })
                .collect(),
            active_bytes: active.map_or(0, |segment| segment.bytes),
        }
    }
}
