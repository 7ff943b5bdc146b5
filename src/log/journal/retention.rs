//! Which segments may go. Pure; whole segments only, oldest first, never the newest of a partition.

use std::collections::BTreeMap;

use super::WhenFull;
use super::store::expired;
use crate::log::Topic;
use crate::model::{PartitionId, UnixMs};

/// A partition, as retention sees it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) retention_ms: u64,
    /// The lowest commit of any group: what is not committed yet is kept. `None` without groups.
    pub(super) floor: Option<i64>,
    /// Oldest first, without the newest.
    pub(super) sealed: Vec<Sealed>,
    /// Bytes of the newest segment.
    pub(super) active_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) end: i64,
    pub(super) bytes: u64,
    pub(super) last_time: Option<UnixMs>,
}

/// What is to be dropped of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drop {
    /// So many of the oldest segments.
    pub(super) segments: usize,
    /// Some of it was not committed by every group: the disk limit demands it.
    pub(super) truncates: bool,
}

impl Kept {
    fn committed(&self, segment: &Sealed) -> bool {
        self.floor.is_none_or(|floor| segment.end <= floor)
    }
}

/// By age what every group has committed; then, while all together are over `limit_bytes`, the oldest that is committed,
/// and if there is none, the oldest.
pub(super) fn plan(
    partitions: &BTreeMap<(Topic, PartitionId), Kept>,
    limit_bytes: u64,
    when_full: WhenFull,
    now: UnixMs,
) -> BTreeMap<(Topic, PartitionId), Drop> {
    let mut drops = BTreeMap::<_, Drop>::new();
    let mut bytes: u64 = 0;
    for (&key, kept) in partitions {
        let old = kept
            .sealed
            .iter()
            .take_while(|segment| {
                expired(segment.last_time, kept.retention_ms, now) && kept.committed(segment)
            })
            .count();
        if old > 0 {
            drops.entry(key).or_default().segments = old;
        }
        bytes += kept.active_bytes + kept.sealed[old..].iter().map(|segment| segment.bytes).sum::<u64>();
    }
    while bytes > limit_bytes {
        let oldest = partitions.iter().filter_map(|(&key, kept)| {
            let dropped = drops.get(&key).map_or(0, |drop| drop.segments);
            kept.sealed
                .get(dropped)
                .map(|segment| (!kept.committed(segment), segment.last_time, key, segment.bytes))
        });
        let Some((truncates, _, key, freed)) = oldest.min() else { break };
        if truncates && when_full == WhenFull::Refuse {
            break;
        }
        let drop = drops.entry(key).or_default();
        drop.segments += 1;
        drop.truncates |= truncates;
        bytes -= freed;
    }
    drops
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: (Topic, PartitionId) = (Topic::Events, PartitionId(0));
    const ALERTS: (Topic, PartitionId) = (Topic::Alerts, PartitionId(0));

    /// Segments of 10 records and 10 bytes; `times` are those of their last records.
    fn kept(retention_ms: u64, floor: Option<i64>, times: &[i64]) -> Kept {
        let sealed = (1..).zip(times).map(|(n, &time)| Sealed {
            end: n * 10,
            bytes: 10,
            last_time: Some(UnixMs::new(time)),
        });
        Kept { retention_ms, floor, sealed: sealed.collect(), active_bytes: 10 }
    }

    fn check(events: Kept, alerts: Kept, limit_bytes: u64, wanted: [(usize, bool); 2]) {
        let drops = plan(
            &BTreeMap::from([(EVENTS, events), (ALERTS, alerts)]),
            limit_bytes,
            WhenFull::Truncate,
            UnixMs::new(1000),
        );
        let got = [EVENTS, ALERTS].map(|key| drops.get(&key).copied().unwrap_or_default());
        assert_eq!(got.map(|drop| (drop.segments, drop.truncates)), wanted);
    }

    #[test]
    fn age_takes_what_every_group_has_committed() {
        let none = || kept(10_000, None, &[]);
        check(kept(500, None, &[100, 400, 500, 900]), none(), 1000, [(2, false), (0, false)]);
        check(kept(500, Some(19), &[100, 400, 500, 900]), none(), 1000, [(1, false), (0, false)]);
        check(kept(500, Some(0), &[100, 400, 500, 900]), none(), 1000, [(0, false), (0, false)]);
    }

    #[test]
    fn the_limit_takes_the_oldest_and_spares_what_is_not_committed_as_long_as_it_can() {
        let events = |floor| kept(10_000, floor, &[100, 300, 500]);
        let alerts = || kept(10_000, None, &[200, 400]);
        check(events(None), alerts(), 70, [(0, false), (0, false)]);
        check(events(None), alerts(), 69, [(1, false), (0, false)]);
        check(events(None), alerts(), 50, [(1, false), (1, false)]);
        check(events(Some(10)), alerts(), 40, [(1, false), (2, false)]);
        check(events(Some(10)), alerts(), 30, [(2, true), (2, false)]);
        check(events(Some(10)), alerts(), 0, [(3, true), (2, false)]);
    }

    #[test]
    fn what_age_takes_counts_before_the_limit() {
        check(kept(500, None, &[100, 400]), kept(10_000, None, &[50]), 30, [(2, false), (0, false)]);
    }

    #[test]
    fn a_journal_that_refuses_drops_only_what_is_committed() {
        let dropped = |floor, limit_bytes| {
            let kept = BTreeMap::from([(EVENTS, kept(10_000, floor, &[100, 300, 500]))]);
            let drops = plan(&kept, limit_bytes, WhenFull::Refuse, UnixMs::new(1000));
            drops.get(&EVENTS).map_or((0, false), |drop| (drop.segments, drop.truncates))
        };
        assert_eq!(dropped(Some(0), 0), (0, false));
        assert_eq!(dropped(Some(20), 0), (2, false));
        assert_eq!(dropped(Some(20), 30), (1, false));
    }
}
