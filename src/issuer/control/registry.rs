//! All entries in memory: a house a tenant, in shards, so that those who look up hardly ever meet who changes.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::record::{Record, Signed};
use super::{AnyEntry, Entry, EntryKey, EntryKind, PLATFORM, Scope, Tenant};
use crate::model::{Offset, UnixMs};

/// A power of two is not needed; more than the cores of any machine is.
const SHARDS: usize = 64;

type Hasher = foldhash::fast::RandomState;
type Shard = HashMap<Box<str>, House, Hasher>;

/// An entry as it stands.
#[derive(Debug)]
pub(crate) struct Found<E> {
    /// Its `ETag`.
    pub(crate) version: u64,
    pub(crate) written_at: UnixMs,
    pub(crate) entry: Arc<E>,
}

impl<E> Clone for Found<E> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), ..*self }
    }
}

/// What a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Changed,
    /// It is what is known, or what led to it.
    Known,
    /// It lies behind the newer one that is known.
    Behind,
}

/// The newest version of an entry, or of its deletion.
#[derive(Clone)]
struct Kept {
    version: u64,
    written_at: UnixMs,
    fingerprint: u64,
    /// Where it was last met in the topic.
    offset: Offset,
    entry: Option<AnyEntry>,
}

/// What belongs to one tenant, or to the platform: by kind, then by name.
#[derive(Default)]
struct House([BTreeMap<Box<str>, Kept>; EntryKind::ALL.len()]);

pub(super) struct Registry {
    hasher: Hasher,
    shards: Box<[RwLock<Shard>]>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { hasher: Hasher::default(), shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }
}

fn house_name(key: &EntryKey) -> &str {
    match key.scope() {
        Scope::Tenant(tenant) => tenant.as_str(),
        Scope::Platform => PLATFORM,
    }
}

impl Kept {
    fn found<E: Entry>(&self) -> Option<Found<E>> {
        let entry = E::of(self.entry.as_ref()?)?;
        Some(Found { version: self.version, written_at: self.written_at, entry: Arc::clone(entry) })
    }
}

impl Registry {
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    fn shard(&self, house: &str) -> &RwLock<Shard> {
        &self.shards[self.hasher.hash_one(house) as usize % SHARDS]
    }

    // A house is whole whatever panicked beside it: each change is one insertion.
    fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
        shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
        shard.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get<E: Entry>(&self, house: &str, name: &str) -> Option<Found<E>> {
        Self::read(self.shard(house)).get(house)?.0[E::KIND as usize].get(name)?.found()
    }

    pub(super) fn list<E: Entry>(
        &self,
        house: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(String, Found<E>)> {
        let shard = Self::read(self.shard(house));
        let Some(house) = shard.get(house) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = house.0[E::KIND as usize].range::<str, _>((from, Bound::Unbounded));
        entries.filter_map(|(name, kept)| Some((name.to_string(), kept.found()?))).take(limit).collect()
    }

    pub(super) fn tenants(&self, after: Option<&str>, limit: usize) -> Vec<(String, Found<Tenant>)> {
        let mut tenants = Vec::new();
        for shard in &self.shards {
            for (name, house) in Self::read(shard).iter() {
                if after.is_some_and(|after| &**name <= after) {
                    continue;
                }
                let tenant = house.0[EntryKind::Tenant as usize].get(name).and_then(Kept::found);
                tenants.extend(tenant.map(|tenant| (name.to_string(), tenant)));
            }
        }
        tenants.sort_by(|(one, _), (other, _)| one.cmp(other));
        tenants.truncate(limit);
        tenants
    }

    /// The newest version of an entry, deleted or not.
    pub(super) fn newest(&self, key: &EntryKey) -> Option<Record> {
        let shard = Self::read(self.shard(house_name(key)));
        let kept = shard.get(house_name(key))?.0[key.kind() as usize].get(key.name())?;
        let Kept { version, written_at, entry, .. } = kept.clone();
        Some(Record { key: key.clone(), version, written_at, entry })
    }

    /// Whether the entry was met further on in the topic than `offset`.
    pub(super) fn lies_beyond(&self, key: &EntryKey, offset: Offset) -> bool {
        let shard = Self::read(self.shard(house_name(key)));
        let house = shard.get(house_name(key));
        let kept = house.and_then(|house| house.0[key.kind() as usize].get(key.name()));
        kept.is_some_and(|kept| kept.offset > offset)
    }

    /// Every key, deleted ones among them.
    pub(super) fn keys(&self) -> Vec<EntryKey> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            for (house, entries) in Self::read(shard).iter() {
                for (kind, entries) in EntryKind::ALL.iter().zip(&entries.0) {
                    keys.extend(
                        entries.keys().filter_map(|name| format!("{kind}/{house}/{name}").parse().ok()),
                    );
                }
            }
        }
        keys
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| Self::read(shard).is_empty())
    }

    /// Takes in a signed record that lies at `offset`. Of two of one version, which only a store that lost its data lets
    /// happen, all readers choose the same.
    pub(super) fn apply(&self, signed: Signed, offset: Offset) -> Applied {
        let Signed { record, fingerprint } = signed;
        let house = house_name(&record.key);
        let mut shard = Self::write(self.shard(house));
        let house = match shard.get_mut(house) {
            Some(house) => house,
            None => shard.entry(house.into()).or_default(),
        };
        let (kind, name) = (record.key.kind() as usize, record.key.name());
        let kept = Kept {
            version: record.version,
            written_at: record.written_at,
            fingerprint,
            offset,
            entry: record.entry,
        };
        let Some(known) = house.0[kind].get_mut(name) else {
            house.0[kind].insert(name.into(), kept);
            return Applied::Changed;
        };
        let (new, old) = ((kept.version, fingerprint), (known.version, known.fingerprint));
        if new > old {
            *known = kept;
            Applied::Changed
        } else if new == old {
            known.offset = known.offset.max(offset);
            Applied::Known
        } else if offset > known.offset {
            Applied::Behind
        } else {
            Applied::Known
        }
    }
}
