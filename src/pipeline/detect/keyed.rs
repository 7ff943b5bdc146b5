//! The state frame: values by key, bounded hard in bytes, dropped by stream time. Where room is needed, whoever holds the
//! most of it gives it, the least lately used first.
//!
//! A look-up costs the same however many entries there are: one table of slot numbers, a slab in chunks that never
//! moves, for each tenant a doubly linked list in order of use, and timers by the minute. Nothing depends on the table's own order, so
//! the same records give the same state whatever the hasher's seed.
//!
//! What changed since the last checkpoint is known by slot: a bit and a place in a list. Keys that a checkpoint holds
//! and that are gone are listed apart.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::checkpoint::{Changes, Place, Restored, Store, StoreKey};
use super::shares::{NONE, REST, Share, Shares};
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
    /// Whose entries they are, each tenant's in order of use.
    shares: Shares,
    /// Slots to look at when that minute of stream time has come. A slot is in one bucket at a time; a registration
    /// whose slot names another minute is stale.
    timers: BTreeMap<u32, Vec<u32>>,
    /// How often entries were used: numbers the next use.
    uses: u64,
    changed: Changed<K>,
    bytes: usize,
    max_bytes: usize,
    evicted: u64,
}

/// What the next checkpoint must say.
struct Changed<K> {
    /// Slots that changed, each once; a slot may be empty by now, or another key's.
    slots: Vec<u32>,
    /// By slot: whether it is in `slots`.
    listed: Vec<u64>,
    /// Keys that a checkpoint holds and that are gone.
    removed: Vec<K>,
}

impl<K> Changed<K> {
    fn mark(&mut self, number: u32) {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if word >= self.listed.len() {
            self.listed.resize(word + 1, 0);
        }
        if self.listed[word] & bit == 0 {
            self.listed[word] |= bit;
            self.slots.push(number);
        }
    }

    fn take(&mut self) -> Option<u32> {
        let number = self.slots.pop()?;
        self.listed[number as usize / 64] &= !(1 << (number % 64));
        Some(number)
    }
}

struct Slot<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
    /// The bucket of `timers` that this slot is registered in.
    due: u32,
    /// The minute from which it may be dropped; later than `due` if it was used since it was registered.
    expires: u32,
    heap_bytes: u32,
    /// The number of its last use: the list's order, in a form that can be written down.
    used: u64,
    /// The list that it is in: its tenant's own, or the rest's if there was none for its tenant when it was last used.
    share: Share,
    /// A checkpoint holds the key: one must also say that it is gone.
    kept: bool,
}

const MINUTE_MS: i64 = 60_000;

/// Tenants that have a list of their own.
const TENANTS: Share = Share::MAX;

/// Slots of what a table costs beside them: its number at a load of 7/8, and the control byte.
const TABLE_BYTES: usize = 6;

impl<K: Hash + Eq + Copy, V: Entry> Keyed<K, V> {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self::of_tenants(TENANTS, max_bytes)
    }

    fn of_tenants(tenants: Share, max_bytes: usize) -> Self {
        Self {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Slab { chunks: Vec::new(), free: Vec::new() },
            shares: Shares::of_tenants(tenants),
            timers: BTreeMap::new(),
            uses: 0,
            changed: Changed { slots: Vec::new(), listed: Vec::new(), removed: Vec::new() },
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

    /// Changes the entry of `key`, which is `tenant`'s, made by `make` if there is none, and lets it live until `expires`
    /// at least. Then makes room, if there is too much.
    pub(super) fn change<T>(
        &mut self,
        key: K,
        tenant: &str,
        expires: UnixMs,
        make: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> T,
    ) -> T {
        let number = match self.find(&key) {
            Some(number) => number,
            None => self.insert(key, tenant, expires, make()),
        };
        self.uses += 1;
        self.changed.mark(number);
        let slot = self.slots.at(number);
        slot.expires = slot.expires.max(minute_after(expires));
        slot.used = self.uses;
        let result = change(&mut slot.value);
        self.weigh(number);
        self.unlink(number);
        self.bring_home(number, tenant);
        self.link_newest(number);
        self.make_room(number);
        result
    }

    /// Changes every entry, but neither its size nor its place.
    pub(super) fn change_all(&mut self, mut change: impl FnMut(&mut V)) {
        for (number, slot) in (0..).zip(self.slots.chunks.iter_mut().flatten()) {
            if let Some(slot) = slot {
                change(&mut slot.value);
                self.changed.mark(number);
            }
        }
    }

    /// Looks at every entry whose time has come at stream time `now`: `judge` lets it live on until a later time, or
    /// gives `None`, and it is dropped.
    pub(super) fn expire(&mut self, now: UnixMs, mut judge: impl FnMut(&mut V) -> Option<UnixMs>) {
        let minute = minute_of(now.get());
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= minute) {
            let (due, numbers) = entry.remove_entry();
            for number in numbers {
                self.timer_fired(number, due, minute, &mut judge);
            }
        }
    }

    /// The earliest time at which [`expire`](Self::expire) would look at an entry that `waits` for it. Goes through the
    /// timers: to be asked when nothing else is going on.
    pub(super) fn next_due(&self, waits: impl Fn(&V) -> bool) -> Option<UnixMs> {
        let mut earliest = None;
        for (&due, numbers) in &self.timers {
            // An entry may live longer than the bucket says that it is in, never shorter.
            if earliest.is_some_and(|earliest| earliest <= due) {
                break;
            }
            let slots = numbers.iter().filter_map(|&number| self.slots.get(number));
            let waiting = slots.filter(|slot| slot.due == due && waits(&slot.value)).map(|slot| slot.expires);
            earliest = earliest.into_iter().chain(waiting).min();
        }
        earliest.map(|minute| UnixMs::new(i64::from(minute) * MINUTE_MS))
    }

    fn timer_fired(
        &mut self,
        number: u32,
        due: u32,
        minute: u32,
        judge: &mut impl FnMut(&mut V) -> Option<UnixMs>,
    ) {
        let Some(slot) = self.slots.get_mut(number).filter(|slot| slot.due == due) else { return };
        if slot.expires <= minute {
            match judge(&mut slot.value).map(minute_after).filter(|later| *later > minute) {
                Some(later) => {
                    slot.expires = later;
                    self.changed.mark(number);
                }
                None => return self.remove(number),
            }
        }
        slot.due = slot.expires;
        self.timers.entry(slot.due).or_default().push(number);
        self.weigh(number);
    }

    /// How many keys the next checkpoint has to say something of, at most.
    pub(super) fn changed(&self) -> usize {
        self.changed.slots.len() + self.changed.removed.len()
    }

    /// Writes what changed since the last time, until `changes` is full. What is gone comes first: a key may be back.
    pub(super) fn write_changes(
        &mut self,
        store: Store,
        changes: &mut Changes,
        encode: impl Fn(&V, &mut Vec<u8>),
    ) where
        K: StoreKey,
    {
        while !changes.is_full()
            && let Some(key) = self.changed.removed.pop()
        {
            changes.remove(store, key.to_bytes().as_ref());
        }
        while !changes.is_full()
            && let Some(number) = self.changed.take()
        {
            if let Some(slot) = self.slots.get_mut(number) {
                slot.kept = true;
                let Slot { used, expires, share, .. } = *slot;
                let place = Place { used, expires, share, tenant: self.shares.tenant(share) };
                changes.put(store, slot.key.to_bytes().as_ref(), place, |out| encode(&slot.value, out));
            }
        }
    }

    /// Takes in what a checkpoint holds. Each entry comes to be where it was in the order of use.
    pub(super) fn restore(&mut self, mut entries: Vec<Restored<'_, K, V>>) {
        entries.sort_unstable_by_key(|entry| entry.place.used);
        for Restored { key, place: Place { used, expires, share, tenant }, value } in entries {
            let share = self.shares.restored(share, tenant);
            let (newer, older, due) = (NONE, NONE, expires);
            let slot =
                Slot { key, value, newer, older, due, expires, heap_bytes: 0, used, share, kept: true };
            let number = self.insert_slot(slot);
            self.weigh(number);
            self.uses = self.uses.max(used);
        }
    }

    fn find(&self, key: &K) -> Option<u32> {
        self.table.find(self.hasher.hash_one(key), |&number| self.slots.key(number) == Some(key)).copied()
    }

    fn insert(&mut self, key: K, tenant: &str, expires: UnixMs, value: V) -> u32 {
        let share = self.shares.share_of(tenant);
        let due = minute_after(expires);
        self.insert_slot(Slot {
            key,
            value,
            newer: NONE,
            older: NONE,
            due,
            expires: due,
            heap_bytes: 0,
            used: 0,
            share,
            kept: false,
        })
    }

    fn insert_slot(&mut self, slot: Slot<K, V>) -> u32 {
        let (key, due, share) = (slot.key, slot.due, slot.share);
        let number = self.slots.insert(slot);
        self.timers.entry(due).or_default().push(number);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.table.insert_unique(hasher.hash_one(key), number, |&number| {
            slots.key(number).map_or(0, |key| hasher.hash_one(key))
        });
        self.bytes += Self::slot_bytes();
        self.shares.enter(share, Self::slot_bytes());
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
        let bytes = Self::slot_bytes() + slot.heap_bytes as usize;
        self.bytes -= bytes;
        self.shares.leave(slot.share, bytes);
        if slot.kept {
            self.changed.removed.push(slot.key);
        }
    }

    /// Drops entries until the bound is kept; `kept`, which is in use, stays.
    fn make_room(&mut self, kept: u32) {
        while self.bytes > self.max_bytes
            && let Some(number) = self.shares.makes_room(kept)
        {
            self.remove(number);
            self.evicted += 1;
        }
    }

    fn weigh(&mut self, number: u32) {
        let slot = self.slots.at(number);
        let heap_bytes = u32::try_from(slot.value.heap_bytes()).unwrap_or(u32::MAX);
        let (before, now) = (slot.heap_bytes as usize, heap_bytes as usize);
        slot.heap_bytes = heap_bytes;
        self.bytes = self.bytes - before + now;
        self.shares.weigh(slot.share, before, now);
    }

    /// Puts an entry of the rest, which is in no list right now, among its tenant's own, if there is a list for it by now.
    fn bring_home(&mut self, number: u32, tenant: &str) {
        let slot = self.slots.at(number);
        if slot.share != REST {
            return;
        }
        let share = self.shares.share_of(tenant);
        if share != REST {
            let bytes = Self::slot_bytes() + slot.heap_bytes as usize;
            slot.share = share;
            self.shares.enter(share, bytes);
            self.shares.leave(REST, bytes);
        }
    }

    fn unlink(&mut self, number: u32) {
        let Some(slot) = self.slots.get(number) else { return };
        let (newer, older, share) = (slot.newer, slot.older, slot.share);
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.shares.list(share).newest = older,
        }
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.shares.list(share).oldest = newer,
        }
    }

    fn link_newest(&mut self, number: u32) {
        let slot = self.slots.at(number);
        let list = self.shares.list(slot.share);
        let older = std::mem::replace(&mut list.newest, number);
        (slot.newer, slot.older) = (NONE, older);
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = number,
            None => list.oldest = number,
        }
    }

    const fn slot_bytes() -> usize {
        size_of::<Option<Slot<K, V>>>() + TABLE_BYTES + size_of::<u32>()
    }
}

/// The first whole minute at or after `time`: an entry is looked at when it has come, so never too early.
fn minute_after(time: UnixMs) -> u32 {
    minute_of(time.get().saturating_add(MINUTE_MS - 1))
}

/// Minutes since the epoch: 32 bits reach beyond the year 10000. Times before the epoch are minute 0.
pub(super) fn minute_of(ms: i64) -> u32 {
    u32::try_from(ms.div_euclid(MINUTE_MS).max(0)).unwrap_or(u32::MAX)
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

#[cfg(test)]
mod tests;
