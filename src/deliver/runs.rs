//! Sets of offsets as runs, small enough for a commit's metadata: delta varints in base64.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use crate::model::Offset;

/// A set of offsets: ascending runs `[first, end)` that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<(i64, i64)>);

impl Runs {
    #[cfg(test)]
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many offsets.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|&(first, end)| end.abs_diff(first)).sum()
    }

    pub(super) fn contains(&self, offset: Offset) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= offset.get());
        after > 0 && offset.get() < self.0[after - 1].1
    }

    /// One past the highest offset.
    pub(super) fn end(&self) -> Option<Offset> {
        self.0.last().and_then(|&(_, end)| Offset::new(end))
    }

    pub(super) fn first(&self) -> Option<Offset> {
        self.0.first().and_then(|&(first, _)| Offset::new(first))
    }

    /// Adds `[first, end)`; in ascending order this is one step.
    pub(super) fn add(&mut self, first: Offset, end: Offset) {
        let (mut first, mut end) = (first.get(), end.get());
        if first >= end {
            return;
        }
        // Everything that touches the new run becomes part of it.
        let from = self.0.partition_point(|&(_, there)| there < first);
        let to = self.0.partition_point(|&(there, _)| there <= end);
        if from < to {
            first = first.min(self.0[from].0);
            end = end.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(first, end)]);
    }

    pub(super) fn add_one(&mut self, offset: Offset) {
        self.add(offset, offset.resume_after().offset());
    }

    /// What of `[from, to)` is not in this set.
    pub(super) fn gaps(&self, from: Offset, to: Offset) -> Self {
        let (mut gaps, mut at) = (Self::default(), from.get());
        for &(first, end) in &self.0 {
            if end > at && first < to.get() {
                if first > at {
                    gaps.0.push((at, first));
                }
                at = end;
            }
        }
        if at < to.get() {
            gaps.0.push((at, to.get()));
        }
        gaps
    }

    /// What of this set is not in `other`.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let ends = |&(first, end): &(i64, i64)| Offset::new(first).zip(Offset::new(end));
        Self(self.0.iter().filter_map(ends).flat_map(|(first, end)| other.gaps(first, end).0).collect())
    }

    /// Drops the lowest run.
    pub(super) fn forget_lowest(&mut self) {
        if !self.0.is_empty() {
            self.0.remove(0);
        }
    }

    /// Drops the highest run.
    pub(super) fn forget_highest(&mut self) {
        self.0.pop();
    }

    /// Drops what lies below `offset`.
    pub(super) fn forget_below(&mut self, offset: Offset) {
        self.0.retain_mut(|(first, end)| {
            *first = (*first).max(offset.get());
            first < end
        });
    }

    /// For each run its distance from the end of the one before (the first: from 0), then its length; as LEB128, in
    /// base64.
    pub(super) fn encode(&self) -> String {
        let (mut bytes, mut at) = (Vec::with_capacity(4 * self.0.len()), 0);
        for &(first, end) in &self.0 {
            put_varint(&mut bytes, first.abs_diff(at));
            put_varint(&mut bytes, end.abs_diff(first));
            at = end;
        }
        BASE64_STANDARD_NO_PAD.encode(bytes)
    }

    /// `None` if that is not what `encode` wrote.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD_NO_PAD.decode(text).ok()?;
        let (mut bytes, mut runs, mut at) = (bytes.as_slice(), Vec::new(), 0_i64);
        while !bytes.is_empty() {
            let first = at.checked_add_unsigned(take_varint(&mut bytes)?)?;
            let end = first.checked_add_unsigned(take_varint(&mut bytes)?)?;
            let ascending = end > first && (runs.is_empty() || first > at);
            if !ascending {
                return None;
            }
            runs.push((first, end));
            at = end;
        }
        Some(Self(runs))
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        number |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(offset: i64) -> Offset {
        Offset::new(offset).unwrap()
    }

    proptest! {
        /// Held to a plain set of offsets.
        #[test]
        fn runs_are_a_set(
            adds in prop::collection::vec((0_i64..200, 0_i64..20), 0..30),
            (from, width) in (0_i64..200, 0_i64..100),
        ) {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for (first, length) in adds {
                runs.add(at(first), at(first + length));
                set.extend(first..first + length);
            }
            let back = Runs::decode(&runs.encode()).unwrap();
            prop_assert_eq!(&back, &runs);
            let (gaps, to) = (runs.gaps(at(from), at(from + width)), from + width);
            for offset in 0..300 {
                prop_assert_eq!(runs.contains(at(offset)), set.contains(&offset));
                let gap = (from..to).contains(&offset) && !set.contains(&offset);
                prop_assert_eq!(gaps.contains(at(offset)), gap);
            }
            prop_assert_eq!(runs.end().map(Offset::get), set.last().map(|last| last + 1));
            prop_assert_eq!(runs.first().map(Offset::get), set.first().copied());
            runs.forget_below(at(from));
            prop_assert_eq!(runs.first().map(Offset::get), set.range(from..).next().copied());
        }

        #[test]
        fn what_others_wrote_is_refused_not_misread(text in "[A-Za-z0-9+/]{0,20}") {
            if let Some(runs) = Runs::decode(&text) {
                prop_assert_eq!(Runs::decode(&runs.encode()), Some(runs));
            }
        }
    }
}
