//! Who makes room: of all tenants the one that holds the most, and of its entries the least lately used.
//!
//! All have the same fair share of the room, so the one that holds the most is the one most above it. However many
//! subjects a tenant makes up, those of the others stay, as long as they hold less than it. Tenants can be made up, too:
//! each has a list of its own while there are numbers for one, and those beyond share one list, as if they were one
//! tenant. The cost does not grow with them: a bounded number of lists is looked over where room must be made.
//!
//! Which tenant has which number is a function of the entries alone: the lowest that nobody holds is taken, by a tenant
//! that enters something, and is free when its last entry is gone. So a checkpoint that says of each entry in which list
//! it is tells all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

/// The number of a list.
pub(super) type Share = u8;

/// The list of those who have none of their own.
pub(super) const REST: Share = 0;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// All lists of a state frame.
pub(super) struct Shares {
    /// By number; that of the rest is always there.
    lists: Vec<List>,
    by_tenant: HashMap<Box<str>, Share, foldhash::fast::RandomState>,
    /// Numbers below `lists.len()` that nobody holds.
    free: BinaryHeap<Reverse<Share>>,
    /// The highest number.
    last: Share,
}

/// One tenant's entries, or the rest's, in order of use.
pub(super) struct List {
    tenant: Box<str>,
    /// Ends of the list of slots; `NONE` when empty.
    pub(super) newest: u32,
    pub(super) oldest: u32,
    entries: u32,
    bytes: usize,
}

impl List {
    fn of(tenant: &str) -> Self {
        Self { tenant: tenant.into(), newest: NONE, oldest: NONE, entries: 0, bytes: 0 }
    }
}

impl Shares {
    /// Lists for so many tenants, beside the rest's.
    pub(super) fn of_tenants(last: Share) -> Self {
        let (by_tenant, free) = (HashMap::default(), BinaryHeap::new());
        Self { lists: vec![List::of("")], by_tenant, free, last }
    }

    pub(super) fn list(&mut self, share: Share) -> &mut List {
        &mut self.lists[usize::from(share)]
    }

    /// Who holds that list; empty for the rest's.
    pub(super) fn tenant(&self, share: Share) -> &str {
        &self.lists[usize::from(share)].tenant
    }

    /// The list that an entry of `tenant` belongs to. One that is new must be entered at once.
    pub(super) fn share_of(&mut self, tenant: &str) -> Share {
        if let Some(&share) = self.by_tenant.get(tenant) {
            return share;
        }
        let free = self.free.pop().map(|Reverse(share)| share);
        let Some(share) = free.or_else(|| self.next()) else { return REST };
        self.give(share, tenant);
        share
    }

    /// The list for an entry that a checkpoint has in this one, which is `tenant`'s.
    pub(super) fn restored(&mut self, share: Share, tenant: &str) -> Share {
        if share == REST || tenant.is_empty() {
            return REST;
        }
        while self.lists.len() <= usize::from(share) {
            self.free.extend(Share::try_from(self.lists.len()).ok().map(Reverse));
            self.lists.push(List::of(""));
        }
        if !self.by_tenant.contains_key(tenant) && self.tenant(share).is_empty() {
            self.free.retain(|&Reverse(free)| free != share);
            self.give(share, tenant);
        }
        self.share_of(tenant)
    }

    /// The first number that nobody ever held.
    fn next(&mut self) -> Option<Share> {
        let share = Share::try_from(self.lists.len()).ok().filter(|share| *share <= self.last)?;
        self.lists.push(List::of(""));
        Some(share)
    }

    fn give(&mut self, share: Share, tenant: &str) {
        *self.list(share) = List::of(tenant);
        self.by_tenant.insert(tenant.into(), share);
    }

    /// An entry of so many bytes came.
    pub(super) fn enter(&mut self, share: Share, bytes: usize) {
        let list = self.list(share);
        (list.entries, list.bytes) = (list.entries + 1, list.bytes + bytes);
    }

    /// An entry of so many bytes is gone, and is in the list no more.
    pub(super) fn leave(&mut self, share: Share, bytes: usize) {
        let list = self.list(share);
        (list.entries, list.bytes) = (list.entries - 1, list.bytes - bytes);
        if list.entries == 0 && share != REST {
            let tenant = std::mem::take(&mut list.tenant);
            self.by_tenant.remove(&tenant);
            self.free.push(Reverse(share));
        }
    }

    /// An entry has `bytes` where it had `before`.
    pub(super) fn weigh(&mut self, share: Share, before: usize, bytes: usize) {
        let list = self.list(share);
        list.bytes = list.bytes - before + bytes;
    }

    /// The slot that makes room: the oldest of whoever holds the most; of two alike, the one with the lower number. `kept`,
    /// which is in use, stays.
    pub(super) fn makes_room(&self, kept: u32) -> Option<u32> {
        let can = self.lists.iter().filter(|list| list.oldest != NONE && list.oldest != kept);
        // The last of those that are alike is the maximum: hence from the back.
        can.rev().max_by_key(|list| list.bytes).map(|list| list.oldest)
    }
}

#[cfg(test)]
impl Shares {
    /// Whether there is a list of that number.
    pub(super) fn has(&self, share: Share) -> bool {
        usize::from(share) < self.lists.len()
    }
}
