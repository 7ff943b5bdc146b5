//! A bounded memory of answers: what falls out of it is looked up again, so it decides how long an answer takes and
//! never what it is.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

/// Keys that share a hash's low bits live side by side; the oldest of them makes room.
const WAYS: usize = 4;

/// A set-associative memo of at most `SETS` × 4 answers. `SETS` is a power of two.
pub(super) struct Memo<K, V, const SETS: usize> {
    /// Empty until the first answer, so that an idle partition costs nothing.
    slots: Vec<Option<(K, V)>>,
}

impl<K, V, const SETS: usize> Default for Memo<K, V, SETS> {
    fn default() -> Self {
        const { assert!(SETS.is_power_of_two()) };
        Self { slots: Vec::new() }
    }
}

impl<K, V: Clone, const SETS: usize> Memo<K, V, SETS> {
    /// The remembered answer for `key`, or the one that `find` gives. `same` compares a remembered key with `key` in
    /// full: a hash that collides must not lend an answer. `keep` makes the key that is remembered.
    pub(super) fn get_or_find<Q: Hash + ?Sized>(
        &mut self,
        key: &Q,
        same: impl Fn(&K, &Q) -> bool,
        keep: impl FnOnce(&Q) -> K,
        find: impl FnOnce() -> V,
    ) -> V {
        if self.slots.is_empty() {
            self.slots.resize_with(SETS * WAYS, || None);
        }
        // Not a secret hash: who makes keys collide makes his own look-ups slower, and four keys still fit.
        let hash = FixedState::default().hash_one(key);
        // The high bits: foldhash mixes them best. SETS is far below 2³², so nothing is lost.
        let set = (hash >> 32) as usize & (SETS - 1);
        let ways = &mut self.slots[set * WAYS..(set + 1) * WAYS];
        if let Some((_, answer)) = ways.iter().flatten().find(|(kept, _)| same(kept, key)) {
            return answer.clone();
        }
        let answer = find();
        ways.rotate_right(1);
        ways[0] = Some((keep(key), answer.clone()));
        answer
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_of_any_fill_answers_as_if_it_were_not_there() {
        let mut memo = Memo::<u32, u64, 8>::default();
        let mut found = 0;
        for round in 0..3 {
            for key in (0..100).chain(0..20) {
                let answer = memo.get_or_find(
                    &key,
                    |a, b| a == b,
                    |key| *key,
                    || {
                        found += 1;
                        u64::from(key) * 3
                    },
                );
                assert_eq!(answer, u64::from(key) * 3, "round {round}");
            }
        }
        assert!(found > 100, "more keys than slots");
        assert_eq!(memo.slots.len(), 32);
    }

    #[test]
    fn what_is_remembered_is_not_looked_up_again() {
        let mut memo = Memo::<u32, u64, 8>::default();
        for _ in 0..10 {
            memo.get_or_find(&7, |a, b| a == b, |key| *key, || 1);
        }
        let again = memo.get_or_find(&7, |a, b| a == b, |key| *key, || 2);
        assert_eq!(again, 1);
        memo.clear();
        assert_eq!(memo.get_or_find(&7, |a, b| a == b, |key| *key, || 2), 2);
    }
}
