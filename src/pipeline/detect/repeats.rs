//! Events that their source sent twice (PROMISE, clause 7): the ids walked in the last ten minutes, as keyed hashes.
//!
//! The hashes lie in the order of the log, in runs of one minute of stream time; one table over all of them answers. What
//! comes is put at the end, and time or the bound takes the oldest: a checkpoint writes what was added since the last one,
//! in chunks, and removes the chunks of minutes that are gone.

use std::collections::VecDeque;

use aws_lc_rs::hmac;
use hashbrown::HashTable;

use super::checkpoint::{Changes, Place, Restored, Store, StoreKey};
use super::keyed::minute_of;
use crate::model::{Event, UnixMs};

/// An id is remembered for so many whole minutes of stream time, and what is left of the one it came in.
const MINUTES: u32 = 10;

/// The table has a power of two of places, a byte beside each. Up to this share of them it clears in place what was
/// removed; beyond, it would double instead.
const FULL: (usize, usize) = (7, 16);
/// What a place of the table comes to, with the ids in their order, which grow by doubling: to half as many places, the
/// least power of two that holds them.
const PLACE_BYTES: usize = size_of::<EventHash>() + 1 + size_of::<EventHash>() / 2;
/// What the table has beyond its places.
const TABLE_BYTES: usize = 64;

/// Names an event for as long as repeats of it are looked for: half of an HMAC-SHA256, so that nobody without the key
/// can make two events collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventHash(u128);

impl EventHash {
    /// `attested`: whether a signature that counts says so. Whoever may write to the topic but not sign must not be able
    /// to get ahead of a signed event and have that dropped.
    pub(super) fn of(event: &Event<'_>, attested: bool, key: &hmac::Key) -> Self {
        let mut context = hmac::Context::with_key(key);
        context.update(event.id.as_bytes());
        context.update(&[u8::from(attested)]);
        context.update(event.tenant.as_bytes());
        // Names have no control characters.
        context.update(b"\x1f");
        context.update(event.source.gateway.as_bytes());
        let tag = context.sign();
        let half = tag.as_ref().first_chunk();
        Self(half.map_or(0, |half| u128::from_be_bytes(*half)))
    }

    /// For the table: the hash is as good as random already.
    #[expect(clippy::cast_possible_truncation, reason = "the low half of it")]
    const fn short(self) -> u64 {
        self.0 as u64
    }
}

/// At most so many ids are one record of a checkpoint: 16 KiB.
const CHUNK_IDS: usize = 1_024;

/// Where a chunk of ids belongs: its minute, and the number of its first id in that minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChunkKey {
    minute: u32,
    first: u32,
}

impl StoreKey for ChunkKey {
    type Bytes = Vec<u8>;

    fn to_bytes(&self) -> Vec<u8> {
        [self.minute.to_be_bytes(), self.first.to_be_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (minute, first) = bytes.split_first_chunk()?;
        let (minute, first) = (u32::from_be_bytes(*minute), u32::from_be_bytes(first.try_into().ok()?));
        Some(Self { minute, first })
    }
}

/// Reads a chunk of a checkpoint.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<EventHash>> {
    let (ids, rest) = bytes.as_chunks();
    rest.is_empty().then(|| ids.iter().map(|id| EventHash(u128::from_be_bytes(*id))).collect())
}

/// One partition's ids.
pub(super) struct Repeats {
    table: HashTable<EventHash>,
    /// In the order of the log.
    ids: VecDeque<EventHash>,
    /// Whose they are, oldest first; none is empty.
    minutes: VecDeque<Minute>,
    max_ids: usize,
    forgotten: u64,
    /// Chunks of minutes that are gone: the next checkpoint removes them.
    gone: Vec<ChunkKey>,
}

/// A minute's ids. They are numbered from 0; the oldest may be gone.
#[derive(Default)]
struct Minute {
    /// Of stream time, since the epoch.
    minute: u32,
    /// So many are there.
    ids: usize,
    /// The number of the id that comes next.
    next: u32,
    /// Those before this number are in the checkpoints.
    written: u32,
    /// The first numbers of the chunks that are.
    chunks: Vec<u32>,
}

impl Minute {
    fn unwritten(&self) -> usize {
        ((self.next - self.written) as usize).min(self.ids)
    }

    /// The next chunk to write of the minute, whose ids end before place `end` of `ids`; it is noted as written.
    fn chunk(&mut self, ids: &VecDeque<EventHash>, end: usize) -> Option<(ChunkKey, Vec<u8>)> {
        let unwritten = self.unwritten();
        let start = end - unwritten;
        let chunk = ids.range(start..start + unwritten.min(CHUNK_IDS));
        let bytes: Vec<u8> = chunk.flat_map(|id| id.0.to_be_bytes()).collect();
        let first = self.next - u32::try_from(unwritten).ok()?;
        self.written = first + u32::try_from(bytes.len() / size_of::<EventHash>()).ok()?;
        if bytes.is_empty() {
            return None;
        }
        self.chunks.push(first);
        Some((ChunkKey { minute: self.minute, first }, bytes))
    }
}

impl Repeats {
    pub(super) fn new(max_bytes: usize) -> Self {
        let places =
            (max_bytes.saturating_sub(TABLE_BYTES) / PLACE_BYTES).checked_ilog2().map_or(0, |bits| 1 << bits);
        // One more is there for a moment.
        Self::of((places * FULL.0 / FULL.1).saturating_sub(1).max(1))
    }

    fn of(max_ids: usize) -> Self {
        let (table, ids) = (HashTable::new(), VecDeque::new());
        Self { table, ids, minutes: VecDeque::new(), max_ids, forgotten: 0, gone: Vec::new() }
    }

    /// Whether that event was walked in the last ten minutes. If not, it has been now.
    pub(super) fn is_repeat(&mut self, id: EventHash, stream_time: UnixMs) -> bool {
        let minute = minute_of(stream_time.get());
        while self.minutes.front().is_some_and(|oldest| oldest.minute + MINUTES < minute) {
            self.drop_oldest_minute();
        }
        if self.table.find(id.short(), |known| *known == id).is_some() {
            return true;
        }
        if self.minutes.back().is_none_or(|newest| newest.minute != minute) {
            self.minutes.push_back(Minute { minute, ..Minute::default() });
        }
        if let Some(newest) = self.minutes.back_mut() {
            newest.next += 1;
        }
        self.push(id);
        if self.table.len() > self.max_ids {
            self.forget_oldest();
        }
        false
    }

    /// Adds an id to the newest minute.
    fn push(&mut self, id: EventHash) {
        self.table.insert_unique(id.short(), id, |id| id.short());
        self.ids.push_back(id);
        if let Some(newest) = self.minutes.back_mut() {
            newest.ids += 1;
        }
    }

    /// The window shrinks rather than that memory grows.
    fn forget_oldest(&mut self) {
        let Some(oldest) = self.minutes.front_mut() else { return };
        oldest.ids -= 1;
        let is_empty = oldest.ids == 0;
        self.drop_ids(1);
        self.forgotten += 1;
        if is_empty {
            self.drop_oldest_minute();
        }
    }

    fn drop_oldest_minute(&mut self) {
        let Some(Minute { minute, ids, chunks, .. }) = self.minutes.pop_front() else { return };
        self.gone.extend(chunks.into_iter().map(|first| ChunkKey { minute, first }));
        self.drop_ids(ids);
    }

    fn drop_ids(&mut self, count: usize) {
        for id in self.ids.drain(..count) {
            if let Ok(entry) = self.table.find_entry(id.short(), |known| *known == id) {
                entry.remove();
            }
        }
    }

    /// Puts what was added since the last checkpoint into `changes`, as far as there is room.
    pub(super) fn write_changes(&mut self, changes: &mut Changes) {
        while !changes.is_full()
            && let Some(key) = self.gone.pop()
        {
            changes.remove(Store::Id, &key.to_bytes());
        }
        let mut end = 0;
        for minute in &mut self.minutes {
            end += minute.ids;
            while !changes.is_full()
                && let Some((key, ids)) = minute.chunk(&self.ids, end)
            {
                changes.put(Store::Id, &key.to_bytes(), Place::default(), |out| out.extend_from_slice(&ids));
            }
        }
    }

    /// How many records a checkpoint would have.
    pub(super) fn changed(&self) -> usize {
        let chunks = |minute: &Minute| minute.unwritten().div_ceil(CHUNK_IDS);
        self.gone.len() + self.minutes.iter().map(chunks).sum::<usize>()
    }

    /// Takes what [`Self::write_changes`] wrote, in any order. The newest count and no others than the bound has room for:
    /// a chunk may hold what had to make room after it was written.
    pub(super) fn restore(&mut self, mut chunks: Vec<Restored<'_, ChunkKey, Vec<EventHash>>>) {
        chunks.sort_by_key(|chunk| chunk.key);
        let all: usize = chunks.iter().map(|chunk| chunk.value.len()).sum();
        let mut forgotten = all.saturating_sub(self.max_ids);
        for Restored { key: ChunkKey { minute, first }, value: ids, .. } in chunks {
            if self.minutes.back().is_none_or(|newest| newest.minute != minute) {
                self.minutes.push_back(Minute { minute, ..Minute::default() });
            }
            let Some(newest) = self.minutes.back_mut() else { continue };
            newest.chunks.push(first);
            newest.next = first.saturating_add(u32::try_from(ids.len()).unwrap_or(u32::MAX));
            newest.written = newest.next;
            for id in ids {
                if forgotten > 0 {
                    forgotten -= 1;
                } else {
                    self.push(id);
                }
            }
        }
        while self.minutes.front().is_some_and(|oldest| oldest.ids == 0) {
            self.drop_oldest_minute();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.allocation_size() + self.ids.capacity() * size_of::<EventHash>()
    }

    /// How many ids had to make room for newer ones within their ten minutes.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use uuid::Uuid;

    use super::*;
    use crate::log::NewRecord;
    use crate::model::{LogId, PartitionId};
    use crate::pipeline::detect::tests::property::runner;
    use crate::pipeline::detect::tests::story::{Line, T0};
    use crate::pipeline::detect::{Detector, Limits, NotUsable, Restoring};

    /// Each letter is an event, in a second of its own from minute `start` on, and `|` the end of a minute. Gives the
    /// letters that are repeats.
    fn check(max_ids: usize, story: &str, repeats: &str) {
        let mut seen = Repeats::of(max_ids);
        let (mut minute, mut second, mut told) = (29_000_000_i64, 0, String::new());
        for letter in story.chars().filter(|letter| !letter.is_whitespace()) {
            if letter == '|' {
                (minute, second) = (minute + 1, 0);
                continue;
            }
            let time = UnixMs::new(minute * 60_000 + second * 1_000);
            second += 1;
            if seen.is_repeat(EventHash(u128::from(letter)), time) {
                told.push(letter);
            }
            assert!(seen.len() <= max_ids);
            let in_minutes: usize = seen.minutes.iter().map(|minute| minute.ids).sum();
            assert_eq!((seen.len(), seen.ids.len()), (in_minutes, in_minutes), "all hold the same");
            assert!(seen.minutes.iter().all(|minute| minute.ids > 0));
        }
        assert_eq!(told, repeats, "{story}");
    }

    #[test]
    fn an_id_is_remembered_for_ten_minutes() {
        check(100, "a b a c b", "ab");
        check(100, "a ||||| ||||| a", "a");
        check(100, "a ||||| ||||| | a", "");
        // From when it first came: a repeat makes it no younger.
        check(100, "a ||||| a ||||| | a a", "aa");
        check(100, "a | b | c ||||| |||| a b c | a b c", "bcac");
    }

    #[test]
    fn the_bound_shrinks_the_window() {
        check(3, "a b c d  b c d", "bcd");
        check(3, "a b c d  a", "");
        check(3, "a | b | c | d a  c d a", "cda");
        check(1, "a a b b a", "ab");
    }

    #[test]
    fn an_event_is_named_by_tenant_gateway_id_and_whether_it_is_signed() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"of the tests");
        let hash = |tenant: &str, gateway: &str, id, attested, key: &hmac::Key| {
            let line = Line::new(0, "alice", "Paris");
            let mut event = line.enriched().checked.decoded.event;
            event.id = Uuid::from_u128(id);
            event.tenant = tenant.to_owned().into();
            event.source.gateway = gateway.to_owned().into();
            EventHash::of(&event, attested, key)
        };
        let first = hash("acme", "edge-1", 1, true, &key);
        assert_eq!(first, hash("acme", "edge-1", 1, true, &key));
        let other_key = hmac::Key::new(hmac::HMAC_SHA256, b"another");
        for other in [
            hash("acme", "edge-1", 2, true, &key),
            hash("acme", "edge-2", 1, true, &key),
            hash("acm", "edge-1", 1, true, &key),
            hash("acme", "edge-1", 1, false, &key),
            hash("acme", "edge-1", 1, true, &other_key),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn memory_is_bounded_by_what_the_limit_says() {
        // A second of uses, a minute of them, and more than any minute may hold; just at a power of two, and just below.
        for (max_bytes, every_ms) in
            [(1 << 20, 3), (1 << 20, 200), (25 << 15, 3), ((25 << 15) + 64, 3), (2_000, 7)]
        {
            let mut seen = Repeats::new(max_bytes);
            assert!(seen.max_ids > max_bytes / 150);
            let mut rng = StdRng::seed_from_u64(1);
            for number in 0..200_000_i64 {
                // As a keyed hash spreads them: the table fills up with traces of what was removed.
                seen.is_repeat(EventHash(rng.random()), UnixMs::new(number * every_ms));
                assert!(seen.bytes() <= max_bytes, "{} of {max_bytes} after {number}", seen.bytes());
            }
            assert!(every_ms > 100 || seen.forgotten() > 0);
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Then {
        GoOn,
        Checkpoint { max_bytes: usize },
        TakeOver,
    }

    /// What is restored from checkpoints, and walked on from there for state alone, is what has walked from the start.
    #[test]
    fn a_restored_window_is_the_one_that_walked_from_the_start() {
        let then = prop_oneof![
            Just(Then::GoOn),
            (1..200usize).prop_map(|max_bytes| Then::Checkpoint { max_bytes }),
            Just(Then::Checkpoint { max_bytes: usize::MAX }),
            Just(Then::TakeOver),
        ];
        // A second or so apart, seldom minutes.
        let pause = prop_oneof![20 => 0..5_000i64, 1 => 0..15 * 60_000i64];
        let step = (prop::collection::vec((pause, 0..60u128), 0..40), then);
        let limits = prop_oneof![2_000..5_000usize, Just(1 << 20)];
        let strategy = (prop::collection::vec(step, 1..20), limits);
        runner(300)
            .run(&strategy, |(steps, ids_bytes)| {
                let log = LogId::draw();
                let limits = Limits { ids_bytes, ..Limits::default() };
                let (mut oracle, mut owner) = (Detector::with_limits(limits), Detector::with_limits(limits));
                let mut topic = BTreeMap::<Vec<u8>, Vec<u8>>::new();
                let (mut now, mut since) = (T0, Vec::new());
                for (ids, then) in steps {
                    for (pause, id) in ids {
                        now += pause;
                        let walk = |detector: &mut Detector| {
                            detector.repeats.is_repeat(EventHash(id), UnixMs::new(now))
                        };
                        prop_assert_eq!(walk(&mut owner), walk(&mut oracle));
                        since.push((id, now));
                    }
                    match then {
                        Then::GoOn => {}
                        Then::Checkpoint { max_bytes } => loop {
                            let made = owner.checkpoint(&log, PartitionId(0), max_bytes, &());
                            for NewRecord { key, value, .. } in made.records {
                                let key = key.unwrap();
                                if value.is_empty() {
                                    topic.remove(&key)
                                } else {
                                    topic.insert(key, value)
                                };
                            }
                            if made.complete {
                                since.clear();
                                break;
                            }
                        },
                        Then::TakeOver => {
                            let mut restoring = Restoring::new(&log);
                            for (key, value) in topic.iter().rev() {
                                restoring.take(key, value);
                            }
                            owner = match restoring.restore::<()>(limits) {
                                Err(NotUsable::Missing) => Detector::with_limits(limits),
                                restored => restored.unwrap().0,
                            };
                            for (id, time) in &since {
                                owner.repeats.is_repeat(EventHash(*id), UnixMs::new(*time));
                            }
                            prop_assert_eq!(owner.repeats.len(), oracle.repeats.len());
                        }
                    }
                }
                Ok(())
            })
            .unwrap();
    }
}
