//! The state frame: values by key, bounded hard in bytes, dropped by stream time, the least lately used first.
//!
//! A look-up costs the same however many entries there are: one table of slot numbers, a slab in chunks that never
//! moves, a doubly linked list in order of use, and timers by the minute. Nothing depends on the table's own order, so
//! the same records give the same state whatever the hasher's seed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::model::UnixMs;

/// What an entry says of itself.
pub(super) trait Entry {
    /// Bytes that it holds outside its slot.
    fn heap_bytes(&self) -> usize;
}

/// Entries by key.
pub(super) struct Keyed<K, V> {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Slab<K, V>,
    /// Ends of the list in order of use; `NONE` when empty.
    newest: u32,
    oldest: u32,
    /// Slots to look at when that minute of stream time has come. A slot is in one bucket at a time; a registration
    /// whose slot names another minute is stale.
    timers: BTreeMap<i64, Vec<u32>>,
    bytes: usize,
    max_bytes: usize,
    evicted: u64,
}

struct Slot<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
    /// The bucket of `timers` that this slot is registered in.
    minute: i64,
    expires: UnixMs,
    heap_bytes: u32,
}

const NONE: u32 = u32::MAX;
const MINUTE_MS: i64 = 60_000;

/// Slots of what a table costs beside them: its number at a load of 7/8, and the control byte.
const TABLE_BYTES: usize = 6;

impl<K: Hash + Eq + Copy, V: Entry> Keyed<K, V> {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Slab { chunks: Vec::new(), free: Vec::new() },
            newest: NONE,
            oldest: NONE,
            timers: BTreeMap::new(),
            bytes: 0,
            max_bytes,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes held, as estimated from sizes and capacities.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many entries had to make room for newer ones.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let slot = self.find(key)?;
        self.slots.get(slot).map(|slot| &slot.value)
    }

    /// Changes the entry of `key`, made by `make` if there is none, and lets it live until `expires` at least. Then
    /// makes room, if there is too much.
    pub(super) fn change<T>(
        &mut self,
        key: K,
        expires: UnixMs,
        make: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> T,
    ) -> T {
        let number = match self.find(&key) {
            Some(number) => number,
            None => self.insert(key, expires, make()),
        };
        let slot = self.slots.at(number);
        slot.expires = slot.expires.max(expires);
        let result = change(&mut slot.value);
        self.weigh(number);
        self.unlink(number);
        self.link_newest(number);
        self.make_room(number);
        result
    }

    /// Looks at every entry whose time has come at stream time `now`: `judge` lets it live on until a later time, or
    /// gives `None`, and it is dropped.
    pub(super) fn expire(&mut self, now: UnixMs, mut judge: impl FnMut(&mut V) -> Option<UnixMs>) {
        let minute = now.get().div_euclid(MINUTE_MS);
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= minute) {
            let (due, numbers) = entry.remove_entry();
            for number in numbers {
                self.timer_fired(number, due, now, &mut judge);
            }
        }
    }

    fn timer_fired(
        &mut self,
        number: u32,
        due: i64,
        now: UnixMs,
        judge: &mut impl FnMut(&mut V) -> Option<UnixMs>,
    ) {
        let Some(slot) = self.slots.get_mut(number).filter(|slot| slot.minute == due) else { return };
        if slot.expires <= now {
            match judge(&mut slot.value).filter(|later| *later > now) {
                Some(later) => slot.expires = later,
                None => return self.remove(number),
            }
        }
        slot.minute = minute_after(slot.expires);
        self.timers.entry(slot.minute).or_default().push(number);
        self.weigh(number);
    }

    fn find(&self, key: &K) -> Option<u32> {
        self.table.find(self.hasher.hash_one(key), |&number| self.slots.key(number) == Some(key)).copied()
    }

    fn insert(&mut self, key: K, expires: UnixMs, value: V) -> u32 {
        let minute = minute_after(expires);
        let number =
            self.slots.insert(Slot { key, value, newer: NONE, older: NONE, minute, expires, heap_bytes: 0 });
        self.timers.entry(minute).or_default().push(number);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.table.insert_unique(hasher.hash_one(key), number, |&number| {
            slots.key(number).map_or(0, |key| hasher.hash_one(key))
        });
        self.bytes += Self::slot_bytes();
        self.link_newest(number);
        number
    }

    fn remove(&mut self, number: u32) {
        self.unlink(number);
        let Some(slot) = self.slots.remove(number) else { return };
        let hash = self.hasher.hash_one(slot.key);
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.bytes -= Self::slot_bytes() + slot.heap_bytes as usize;
    }

    /// Drops the least lately used until the bound is kept; `kept`, which is in use, stays.
    fn make_room(&mut self, kept: u32) {
        while self.bytes > self.max_bytes && self.oldest != kept && self.oldest != NONE {
            self.remove(self.oldest);
            self.evicted += 1;
        }
    }

    fn weigh(&mut self, number: u32) {
        let slot = self.slots.at(number);
        let heap_bytes = u32::try_from(slot.value.heap_bytes()).unwrap_or(u32::MAX);
        self.bytes = self.bytes - slot.heap_bytes as usize + heap_bytes as usize;
        slot.heap_bytes = heap_bytes;
    }

    fn unlink(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        let (newer, older) = (slot.newer, slot.older);
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, number: u32) {
        let older = std::mem::replace(&mut self.newest, number);
        let slot = self.slots.at(number);
        (slot.newer, slot.older) = (NONE, older);
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = number,
            None => self.oldest = number,
        }
    }

    const fn slot_bytes() -> usize {
        size_of::<Option<Slot<K, V>>>() + TABLE_BYTES + size_of::<u32>()
    }
}

/// The first whole minute at or after `time`: an entry is looked at when it has come, so never too early.
fn minute_after(time: UnixMs) -> i64 {
    time.get().saturating_add(MINUTE_MS - 1).div_euclid(MINUTE_MS)
}

/// Slots by number, in chunks: growing copies nothing and wastes at most one chunk.
struct Slab<K, V> {
    chunks: Vec<Vec<Option<Slot<K, V>>>>,
    free: Vec<u32>,
}

const CHUNK: usize = 256;

impl<K, V> Slab<K, V> {
    fn get(&self, number: u32) -> Option<&Slot<K, V>> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.get(number % CHUNK)?.as_ref()
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Slot<K, V>> {
        let number = number as usize;
        self.chunks.get_mut(number / CHUNK)?.get_mut(number % CHUNK)?.as_mut()
    }

    fn at(&mut self, number: u32) -> &mut Slot<K, V> {
        match self.get_mut(number) {
            Some(slot) => slot,
            None => unreachable!("a slot that is linked or found is taken"),
        }
    }

    fn key(&self, number: u32) -> Option<&K> {
        self.get(number).map(|slot| &slot.key)
    }

    fn insert(&mut self, slot: Slot<K, V>) -> u32 {
        if let Some(number) = self.free.pop() {
            let index = number as usize;
            self.chunks[index / CHUNK][index % CHUNK] = Some(slot);
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let last = self.chunks.len() - 1;
        self.chunks[last].push(Some(slot));
        // Bounded far below: the bytes bound of the frame comes first.
        u32::try_from(last * CHUNK + self.chunks[last].len() - 1).unwrap_or(NONE)
    }

    fn remove(&mut self, number: u32) -> Option<Slot<K, V>> {
        let index = number as usize;
        let slot = self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)?.take()?;
        self.free.push(number);
        Some(slot)
    }
}
