//! The state frame by itself, and held to a list that does the same naively.

use proptest::prelude::*;

use super::*;

impl Entry for usize {
    /// An entry's value is its size.
    fn heap_bytes(&self) -> usize {
        *self
    }
}

const MINUTE: i64 = MINUTE_MS;

fn at(minutes: i64) -> UnixMs {
    UnixMs::new(minutes * MINUTE)
}

fn touch(keyed: &mut Keyed<u64, usize>, key: u64, expires: UnixMs) {
    keyed.change(key, "acme", expires, || 100, |_| ());
}

fn keys(keyed: &Keyed<u64, usize>) -> Vec<u64> {
    (0..1_000).filter(|key| keyed.get(key).is_some()).collect()
}

#[test]
fn the_least_lately_used_makes_room() {
    let one = Keyed::<u64, usize>::slot_bytes() + 100;
    let mut keyed = Keyed::new(3 * one);
    for key in [1, 2, 3, 1, 4] {
        touch(&mut keyed, key, at(10));
    }
    assert_eq!((keys(&keyed), keyed.evicted(), keyed.bytes()), (vec![1, 3, 4], 1, 3 * one));
    // One that grows beyond the bound drops the others, and stays itself.
    keyed.change(3, "acme", at(10), || 0, |size| *size = 10 * one);
    assert_eq!((keys(&keyed), keyed.evicted()), (vec![3], 3));
}

#[test]
fn an_entry_lives_until_the_latest_time_it_was_given() {
    let mut keyed = Keyed::new(1 << 20);
    touch(&mut keyed, 1, at(10));
    touch(&mut keyed, 2, at(10));
    touch(&mut keyed, 2, at(30));
    touch(&mut keyed, 2, at(20));
    for (minute, expected) in [(9, vec![1, 2]), (10, vec![2]), (29, vec![2]), (30, vec![])] {
        keyed.expire(at(minute), |_| None);
        assert_eq!(keys(&keyed), expected, "minute {minute}");
    }
    assert_eq!((keyed.bytes(), keyed.len(), keyed.evicted()), (0, 0, 0));
}

#[test]
fn what_is_due_next_is_what_waits_and_came_first() {
    let mut keyed = Keyed::new(1 << 20);
    assert_eq!(keyed.next_due(|_| true), None);
    touch(&mut keyed, 1, at(10));
    touch(&mut keyed, 2, at(30));
    keyed.change(3, "acme", at(20), || 7, |_| ());
    assert_eq!(keyed.next_due(|_| true), Some(at(10)));
    assert_eq!(keyed.next_due(|size| *size == 7), Some(at(20)));
    assert_eq!(keyed.next_due(|size| *size == 8), None);
    // It lives longer than its registration says.
    touch(&mut keyed, 1, at(25));
    assert_eq!(keyed.next_due(|_| true), Some(at(20)));
    assert_eq!(keyed.next_due(|size| *size == 100), Some(at(25)));
}

#[test]
fn an_entry_can_ask_for_more_time() {
    let mut keyed = Keyed::new(1 << 20);
    touch(&mut keyed, 1, at(10));
    let mut asked = 0;
    for minute in [10, 11, 19, 20] {
        keyed.expire(at(minute), |_| {
            asked += 1;
            (asked == 1).then_some(at(20))
        });
    }
    assert_eq!((asked, keyed.len()), (2, 0));
}

#[test]
fn a_slot_that_was_given_to_another_key_keeps_the_others_timer_from_it() {
    let mut keyed = Keyed::new(Keyed::<u64, usize>::slot_bytes() + 100);
    touch(&mut keyed, 1, at(10));
    touch(&mut keyed, 2, at(20));
    keyed.expire(at(15), |_| None);
    assert_eq!(keys(&keyed), [2]);
    keyed.expire(at(20), |_| None);
    assert_eq!(keyed.len(), 0);
}

#[test]
fn many_entries_grow_over_chunks_and_are_found() {
    let mut keyed = Keyed::new(1 << 20);
    for key in 0..1_000 {
        touch(&mut keyed, key, at(key as i64 % 7));
    }
    assert_eq!(keys(&keyed).len(), 1_000);
    keyed.expire(at(3), |_| None);
    assert!(keys(&keyed).iter().all(|key| key % 7 > 3));
    for key in 0..1_000 {
        touch(&mut keyed, key, at(50));
    }
    keyed.expire(at(49), |_| None);
    assert_eq!(keys(&keyed).len(), 1_000);
    let acme = keyed.shares.share_of("acme");
    assert_eq!(keyed.in_order_of_use(acme), (0..1_000).collect::<Vec<_>>());
}

impl<K: Copy, V> Keyed<K, V> {
    fn in_order_of_use(&mut self, share: Share) -> Vec<K> {
        let mut next = self.shares.list(share).oldest;
        std::iter::from_fn(|| {
            let slot = self.slots.get(next)?;
            next = slot.newer;
            Some(slot.key)
        })
        .collect()
    }
}

const ONE: usize = Keyed::<u64, usize>::slot_bytes() + 100;

#[test]
fn made_up_entries_of_one_tenant_evict_no_others() {
    let mut keyed = Keyed::new(10 * ONE);
    for key in 0..4 {
        keyed.change(key, "acme", at(10), || 100, |_| ());
    }
    for key in 100..900 {
        keyed.change(key, "mallory", at(10), || 100, |_| ());
    }
    assert_eq!(keys(&keyed), [0, 1, 2, 3, 894, 895, 896, 897, 898, 899]);
    // Whoever comes later finds room, too: as much as is fair.
    for key in 10..20 {
        keyed.change(key, "globex", at(10), || 100, |_| ());
    }
    assert_eq!(keys(&keyed), [1, 2, 3, 16, 17, 18, 19, 897, 898, 899]);
}

#[test]
fn made_up_tenants_share_what_is_left_over() {
    let mut keyed = Keyed::of_tenants(2, 10 * ONE);
    for key in 0..3 {
        keyed.change(key, "acme", at(10), || 100, |_| ());
        keyed.change(10 + key, "globex", at(10), || 100, |_| ());
    }
    for key in 100..900 {
        keyed.change(key, &format!("made-up-{key}"), at(10), || 100, |_| ());
    }
    assert_eq!(keys(&keyed), [0, 1, 2, 10, 11, 12, 896, 897, 898, 899]);
}

/// What [`Keyed`] does, with nothing but a list.
struct Naive {
    /// In the order of use.
    entries: Vec<NaiveEntry>,
    tenants: Share,
    max_bytes: usize,
    evicted: u64,
}

#[derive(Clone, Debug)]
struct NaiveEntry {
    key: u64,
    tenant: String,
    share: Share,
    expires: i64,
    bytes: usize,
}

impl Naive {
    fn share_of(&self, tenant: &str) -> Share {
        let own = self.entries.iter().find(|entry| entry.tenant == tenant && entry.share != REST);
        let is_free = |share: &Share| self.entries.iter().all(|entry| entry.share != *share);
        own.map(|entry| entry.share).or_else(|| (1..=self.tenants).find(is_free)).unwrap_or(REST)
    }

    fn touch(&mut self, key: u64, tenant: &str, expires: i64, bytes: usize) {
        let known = self.entries.iter().position(|entry| entry.key == key);
        let known = known.map(|at| self.entries.remove(at));
        let (share, before) = known.map_or((REST, 0), |entry| (entry.share, entry.expires));
        let share = if share == REST { self.share_of(tenant) } else { share };
        let (tenant, expires) = (tenant.to_owned(), expires.max(before));
        self.entries.push(NaiveEntry { key, tenant, share, expires, bytes });
        let total = |entries: &[NaiveEntry]| entries.iter().map(|entry| entry.bytes).sum::<usize>();
        while total(&self.entries) > self.max_bytes {
            let of = |share| self.entries.iter().filter(move |entry| entry.share == share);
            let held = |share: &Share| of(*share).map(|entry| entry.bytes).sum::<usize>();
            let gives =
                (0..=self.tenants).filter(|&share| of(share).next().is_some_and(|entry| entry.key != key));
            let Some(share) = gives.rev().max_by_key(held) else { break };
            let oldest = self.entries.iter().position(|entry| entry.share == share).unwrap();
            self.entries.remove(oldest);
            self.evicted += 1;
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Touch {
        key: u64,
        size: usize,
        minutes: i64,
    },
    Pass {
        minutes: i64,
    },
    /// Another owner goes on with what a checkpoint holds.
    Restore,
}

#[test]
fn who_makes_room_is_what_a_naive_list_says() {
    let touch = (0..60u64, 0..300usize, 1..20i64);
    let op = prop_oneof![
        20 => touch.prop_map(|(key, size, minutes)| Op::Touch { key, size, minutes }),
        1 => (0..10i64).prop_map(|minutes| Op::Pass { minutes }),
        1 => Just(Op::Restore),
    ];
    let strategy = (prop::collection::vec(op, 1..200), 0..4u8, 1..20usize);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let evicted = std::cell::Cell::new(0);
    runner
        .run(&strategy, |(ops, tenants, room)| {
            let max_bytes = room * ONE;
            let mut keyed = Keyed::<u64, usize>::of_tenants(tenants, max_bytes);
            let mut naive = Naive { entries: Vec::new(), tenants, max_bytes, evicted: 0 };
            let mut now = 0;
            for op in ops {
                match op {
                    Op::Touch { key, size, minutes } => {
                        let tenant = format!("tenant-{}", key % 7);
                        keyed.change(key, &tenant, at(now + minutes), || 0, |held| *held = size);
                        let bytes = Keyed::<u64, usize>::slot_bytes() + size;
                        naive.touch(key, &tenant, now + minutes, bytes);
                    }
                    Op::Pass { minutes } => {
                        now += minutes;
                        keyed.expire(at(now), |_| None);
                        naive.entries.retain(|entry| entry.expires > now);
                    }
                    Op::Restore => keyed = taken_over(&keyed, tenants),
                }
                let mut lists: Vec<Vec<u64>> = Vec::new();
                for share in 0..=tenants {
                    let has = keyed.shares.has(share);
                    lists.push(if has { keyed.in_order_of_use(share) } else { Vec::new() });
                }
                let of = |share: Share| naive.entries.iter().filter(move |entry| entry.share == share);
                let expected: Vec<Vec<u64>> =
                    (0..=tenants).map(|share| of(share).map(|entry| entry.key).collect()).collect();
                prop_assert_eq!(&lists, &expected);
                let bytes = naive.entries.iter().map(|entry| entry.bytes).sum::<usize>();
                prop_assert_eq!((keyed.bytes(), keyed.evicted()), (bytes, naive.evicted));
            }
            evicted.set(evicted.get() + naive.evicted);
            Ok(())
        })
        .unwrap();
    assert!(evicted.get() > 1_000, "{} evictions", evicted.get());
}

/// What is made of the entries as a checkpoint has them.
fn taken_over(keyed: &Keyed<u64, usize>, tenants: Share) -> Keyed<u64, usize> {
    let mut entries = Vec::new();
    for &number in &keyed.table {
        let slot = keyed.slots.get(number).unwrap();
        let (key, value, share) = (slot.key, slot.value, slot.share);
        let tenant = keyed.shares.tenant(share);
        let place = Place { used: slot.used, expires: slot.expires, share, tenant };
        entries.push(Restored { key, place, value });
    }
    let mut next = Keyed::of_tenants(tenants, keyed.max_bytes);
    next.restore(entries);
    next.evicted = keyed.evicted;
    next
}
