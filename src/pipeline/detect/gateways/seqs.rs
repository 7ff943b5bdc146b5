//! The `seq`s of one epoch: which are missing, as far as that can be said.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Runs, UnixMs};
use crate::pipeline::detect::rulebook::LATENESS;

/// Runs that are kept apart. Beyond them nothing is said of the epoch's seqs any more.
const MAX_RUNS: usize = 1_024;
/// How often the highest seq is taken for one that all before it must follow.
const CLAIM_EVERY_MS: i64 = 30_000;
/// More would reach beyond the lateness bound.
const MAX_CLAIMS: usize = 32;

/// Seqs that were seen, and up to where they are judged.
#[derive(Default)]
pub(super) struct Seqs {
    /// First and last of each run above what is judged.
    runs: BTreeMap<u64, u64>,
    /// Everything below is judged; the first seq that is not.
    judged: Option<u64>,
    /// Of what is judged: how many there are to be, and how many are missing.
    judged_count: u64,
    missing: u64,
    /// The highest seq, and when it was seen.
    claims: VecDeque<(UnixMs, u64)>,
    highest: u64,
    /// Too many runs, or more than a summary could say.
    is_lost: bool,
}

impl Seqs {
    pub(super) fn add(&mut self, runs: Option<&Runs>, seen_at: UnixMs) {
        let Some(runs) = runs.filter(|_| !self.is_lost) else {
            *self = Self { is_lost: true, ..Self::default() };
            return;
        };
        let before = self.highest;
        for (first, last) in runs.intervals() {
            self.insert(first, last);
        }
        if self.runs.len() > MAX_RUNS {
            *self = Self { is_lost: true, ..Self::default() };
            return;
        }
        if self.highest > before || self.claims.is_empty() {
            let is_full = self.claims.len() >= MAX_CLAIMS;
            match self.claims.back_mut() {
                Some(claim) if is_full || seen_at.since_ms(claim.0) < CLAIM_EVERY_MS => {
                    claim.1 = self.highest
                }
                _ => self.claims.push_back((seen_at, self.highest)),
            }
        }
    }

    fn insert(&mut self, mut first: u64, mut last: u64) {
        self.highest = self.highest.max(last);
        if let Some(judged) = self.judged {
            // Late: one that was missing is not.
            if first < judged {
                let late = last.min(judged - 1) - first + 1;
                self.missing = self.missing.saturating_sub(late);
                if last < judged {
                    return;
                }
                first = judged;
            }
        }
        // Joins the runs that it touches.
        while let Some((&start, &end)) = self.runs.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.runs.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.runs.insert(first, last);
    }

    /// How many of those that must have come by `now` are missing; `None` if that cannot be said.
    pub(super) fn missing(&mut self, now: UnixMs) -> Option<u64> {
        while let Some(&(_, upto)) = self.claims.front().filter(|(seen_at, _)| *seen_at + LATENESS <= now) {
            self.claims.pop_front();
            self.judge(upto);
        }
        (!self.is_lost && self.judged.is_some()).then_some(self.missing)
    }

    fn judge(&mut self, upto: u64) {
        // What lies before the first that is known is nobody's: the epoch may be older than our memory.
        let begin = self.judged.or_else(|| self.runs.keys().next().copied()).unwrap_or(upto);
        let mut next = begin;
        while let Some((&first, &last)) = self.runs.first_key_value().filter(|(first, _)| **first <= upto) {
            self.runs.remove(&first);
            self.missing += first - next;
            next = last.min(upto).saturating_add(1);
            if last > upto {
                self.runs.insert(next, last);
            }
        }
        self.judged_count += next - self.judged.unwrap_or(begin);
        self.judged = Some(next);
    }

    /// How many seqs were judged.
    pub(super) const fn judged_count(&self) -> u64 {
        self.judged_count
    }

    pub(super) fn bytes(&self) -> usize {
        self.runs.len() * 24 + self.claims.len() * size_of::<(UnixMs, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> UnixMs {
        UnixMs::new(minutes * 60_000)
    }

    fn add(seqs: &mut Seqs, minutes: i64, numbers: impl IntoIterator<Item = u64>) {
        seqs.add(Some(&Runs::of(numbers)), at(minutes));
    }

    #[test]
    fn a_hole_is_missing_when_it_can_no_longer_be_filled_in_time() {
        let mut seqs = Seqs::default();
        add(&mut seqs, 0, [5, 7, 8, 12]);
        assert_eq!(seqs.missing(at(9)), None);
        add(&mut seqs, 9, [6]);
        assert_eq!(seqs.missing(at(10)), Some(3));
        // Late, but not for nothing.
        add(&mut seqs, 11, [9, 10, 13]);
        assert_eq!(seqs.missing(at(12)), Some(1));
        add(&mut seqs, 12, [15]);
        assert_eq!((seqs.missing(at(21)), seqs.missing(at(22))), (Some(1), Some(2)));
    }

    #[test]
    fn runs_join_in_any_order() {
        for order in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [1, 3, 5, 2, 4], [3, 1, 2, 5, 4]] {
            let mut seqs = Seqs::default();
            for number in order {
                add(&mut seqs, 0, [number]);
            }
            assert_eq!(seqs.runs, BTreeMap::from([(1, 5)]), "{order:?}");
        }
    }

    #[test]
    fn what_is_too_much_to_remember_is_not_judged() {
        let mut seqs = Seqs::default();
        add(&mut seqs, 0, (0..4_000).map(|number| number * 2));
        assert_eq!((seqs.missing(at(60)), seqs.runs.len()), (None, 0));
    }
}
