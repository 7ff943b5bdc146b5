//! Every site of the partition, once: subjects and tokens share it, in memory and in checkpoints alike.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::ops::Deref;
use std::sync::{Arc, Weak};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Changes, Place, Store, StoreKey, plain};
use super::terms::{OriginKey, Site};

/// A site, and the number that checkpoints call it by.
#[derive(Clone, Debug)]
pub(super) struct SharedSite(Arc<Numbered>);

#[derive(Debug)]
struct Numbered {
    number: SiteNumber,
    /// Of the site's origin: made once, not for every use.
    origin: OriginKey,
    site: Site,
}

/// Given in order: no two sites in use have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct SiteNumber(u64);

impl SharedSite {
    fn new(number: SiteNumber, site: Site) -> Self {
        Self(Arc::new(Numbered { number, origin: site.origin.key(), site }))
    }

    pub(super) fn origin_key(&self) -> OriginKey {
        self.0.origin
    }

    pub(super) fn number(&self) -> SiteNumber {
        self.0.number
    }

    /// Equal sites are one: whether it is this one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for SharedSite {
    type Target = Site;
    fn deref(&self) -> &Site {
        &self.0.site
    }
}

impl StoreKey for SiteNumber {
    type Bytes = [u8; 8];
    fn to_bytes(&self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u64::from_be_bytes(bytes)))
    }
}

/// The sites by number, while a checkpoint is read.
pub(super) type ByNumber = HashMap<SiteNumber, SharedSite>;

/// Every site of the partition. Those that nobody uses any more are swept out when the table has doubled.
#[derive(Default)]
pub(super) struct Sites {
    table: HashTable<SharedSite>,
    hasher: DefaultHashBuilder,
    sweep_at: usize,
    next: u64,
    /// Those that no checkpoint holds, in order; some are gone by now.
    unwritten: VecDeque<(SiteNumber, Weak<Numbered>)>,
    /// Those that a checkpoint holds and that were swept out.
    swept: Vec<SiteNumber>,
}

/// The smallest table that is swept.
const SWEEP_FROM: usize = 1024;

impl Sites {
    pub(super) fn share(&mut self, site: Site) -> SharedSite {
        let hash = hash_site(&self.hasher, &site);
        if let Some(known) = self.table.find(hash, |known| **known == site) {
            return known.clone();
        }
        if self.table.len() >= self.sweep_at {
            self.sweep();
        }
        let number = SiteNumber(self.next);
        self.next += 1;
        let site = SharedSite::new(number, site);
        self.unwritten.push_back((number, Arc::downgrade(&site.0)));
        self.insert(hash, &site);
        site
    }

    fn insert(&mut self, hash: u64, site: &SharedSite) {
        let hasher = &self.hasher;
        self.table.insert_unique(hash, site.clone(), |site| hash_site(hasher, site));
    }

    fn sweep(&mut self) {
        let Self { table, unwritten, swept, next, .. } = self;
        let first_unwritten = unwritten.front().map_or(SiteNumber(*next), |(number, _)| *number);
        table.retain(|site| {
            let is_used = Arc::strong_count(&site.0) > 1;
            if !is_used && site.number() < first_unwritten {
                swept.push(site.number());
            }
            is_used
        });
        unwritten.retain(|(_, site)| site.strong_count() > 0);
        self.sweep_at = (self.table.len() * 2).max(SWEEP_FROM);
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.capacity() * size_of::<SharedSite>() + self.table.len() * (size_of::<Numbered>() + 16)
    }

    pub(super) fn changed(&self) -> usize {
        self.unwritten.len() + self.swept.len()
    }

    pub(super) fn write_changes(&mut self, changes: &mut Changes) {
        while !changes.is_full()
            && let Some(number) = self.swept.pop()
        {
            changes.remove(Store::Site, &number.to_bytes());
        }
        while !changes.is_full()
            && let Some((number, site)) = self.unwritten.pop_front()
        {
            if let Some(site) = site.upgrade() {
                changes.put(Store::Site, &number.to_bytes(), Place::default(), |out| plain(&site.site, out));
            }
        }
    }

    /// Takes in what a checkpoint holds.
    pub(super) fn restore(&mut self, sites: impl Iterator<Item = (SiteNumber, Site)>) -> ByNumber {
        let mut by_number = ByNumber::new();
        for (number, site) in sites {
            let hash = hash_site(&self.hasher, &site);
            let site = SharedSite::new(number, site);
            self.insert(hash, &site);
            self.next = self.next.max(number.0 + 1);
            by_number.insert(number, site);
        }
        self.sweep_at = (self.table.len() * 2).max(SWEEP_FROM);
        by_number
    }
}

fn hash_site(hasher: &DefaultHashBuilder, site: &Site) -> u64 {
    let mut state = hasher.build_hasher();
    site.hash_roughly(&mut state);
    state.finish()
}
