//! Tenants that are set aside: where most of what a tenant sends cannot be an event, what can is not to be trusted
//! either, and waits among the dead letters until somebody has looked (PROMISE, clause 10).
//!
//! Only refusals of `decode` whose tenant can be read are counted: what ClickHouse refuses the walk does not know. Anyone
//! who may write to the topic can name a tenant, so the table is bounded: whoever has the fewest refusals makes room.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::UnixMs;

/// A tenant's last records are counted by so many thousands.
const THOUSANDS: usize = 10;
const THOUSAND: u16 = 1_000;

/// With more refusals than this among its last 10,000 records, 5 %, a tenant is set aside.
const MAX_REFUSED: u32 = 500;

/// For so long, in stream time; then it is looked at again.
const FOR_MS: i64 = 10 * 60_000;

/// About 100 KiB.
const MAX_TENANTS: usize = 1_000;

/// One partition's tenants of which something was refused lately. A checkpoint holds it whole, in one record.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SetAside {
    tenants: BTreeMap<Box<str>, Refusals>,
    /// The highest append time of what was counted. Stream time stands still where everything is refused.
    now: UnixMs,
    /// Whether a checkpoint is behind.
    #[serde(skip)]
    changed: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Refusals {
    /// Of each thousand of records, the newest first.
    refused: [u16; THOUSANDS],
    /// Records of the newest thousand.
    records: u16,
    /// Set aside until then.
    until: UnixMs,
}

impl Refusals {
    fn sum(&self) -> u32 {
        self.refused.iter().map(|&refused| u32::from(refused)).sum()
    }

    /// Counts a record. Whether the tenant is set aside.
    fn count(&mut self, refused: bool, now: UnixMs) -> bool {
        if self.records == THOUSAND {
            self.refused.rotate_right(1);
            (self.refused[0], self.records) = (0, 0);
        }
        self.records += 1;
        self.refused[0] += u16::from(refused);
        if self.until <= now && self.sum() > MAX_REFUSED {
            self.until = UnixMs::new(now.get().saturating_add(FOR_MS));
        }
        now < self.until
    }
}

impl SetAside {
    /// A record of the tenant cannot be an event.
    pub(super) fn refused(&mut self, tenant: &str, append_time: UnixMs) {
        self.now = self.now.max(append_time);
        self.changed = true;
        if !self.tenants.contains_key(tenant) {
            self.make_room();
        }
        self.tenants.entry(tenant.into()).or_default().count(true, self.now);
    }

    /// A record of the tenant is an event: whether it is set aside.
    pub(super) fn is_set_aside(&mut self, tenant: &str, append_time: UnixMs) -> bool {
        self.now = self.now.max(append_time);
        let Some(refusals) = self.tenants.get_mut(tenant) else { return false };
        self.changed = true;
        let aside = refusals.count(false, self.now);
        if !aside && refusals.sum() == 0 {
            self.tenants.remove(tenant);
        }
        aside
    }

    fn make_room(&mut self) {
        while self.tenants.len() >= MAX_TENANTS {
            let fewest = self.tenants.iter().min_by_key(|(_, refusals)| refusals.sum());
            let Some(tenant) = fewest.map(|(tenant, _)| tenant.clone()) else { return };
            self.tenants.remove(&tenant);
        }
    }

    pub(super) const fn is_changed(&self) -> bool {
        self.changed
    }

    /// A checkpoint has it.
    pub(super) fn written(&mut self) {
        self.changed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> UnixMs {
        UnixMs::new(minutes * 60_000)
    }

    fn refuse(aside: &mut SetAside, tenant: &str, records: usize, minute: i64) {
        for _ in 0..records {
            aside.refused(tenant, at(minute));
        }
    }

    #[test]
    fn a_tenant_is_set_aside_above_one_in_twenty_and_for_ten_minutes_at_a_time() {
        let mut aside = SetAside::default();
        refuse(&mut aside, "acme", 500, 0);
        assert!(!aside.is_set_aside("acme", at(0)), "5 % are borne");
        refuse(&mut aside, "acme", 1, 1);
        assert!(aside.is_set_aside("acme", at(1)));
        assert!(!aside.is_set_aside("globex", at(1)), "another tenant");
        assert!(aside.is_set_aside("acme", at(10)), "an earlier append time changes nothing");
        assert!(aside.is_set_aside("acme", at(2)));
        // Looked at again after ten minutes: nothing is better.
        assert!(aside.is_set_aside("acme", at(11)));
        assert!(aside.is_set_aside("acme", at(20)));
        // What was sound meanwhile counts, too: then it is.
        for _ in 0..10_000 {
            aside.is_set_aside("acme", at(20));
        }
        assert!(!aside.is_set_aside("acme", at(21)));
        assert!(aside.tenants.is_empty(), "of the last 10,000 none was refused");
    }

    #[test]
    fn names_that_somebody_made_up_take_no_more_than_their_room() {
        let mut aside = SetAside::default();
        refuse(&mut aside, "acme", 501, 0);
        for number in 0..3 * MAX_TENANTS {
            aside.refused(&format!("made-up-{number}"), at(0));
        }
        assert_eq!(aside.tenants.len(), MAX_TENANTS);
        assert!(aside.is_set_aside("acme", at(0)));
    }
}
