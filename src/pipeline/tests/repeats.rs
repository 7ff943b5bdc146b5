//! Events that were sent twice leave the walk once.

use super::super::*;
use crate::log::home_partition;
use crate::model::{Offset, UnixMs};
use crate::pipeline::store::testing::{bounds, event, received};

fn walk_of(partitions: u32, partition: PartitionId) -> Walk {
    Walk::new(decode::Bounds { partitions, ..bounds() }, testing::snapshots(), partition)
}

fn numbered(number: u64) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_slice(&event("accepted", "alice")).unwrap();
    value["id"] = uuid::Uuid::from_u128(number.into()).to_string().into();
    value.to_string().into_bytes()
}

/// Events by number, each with the minute of its append, at rising offsets from 0.
fn batch(events: &[(u64, u64)]) -> Batch {
    let mut batch = Batch::default();
    for (offset, (minute, number)) in (0..).zip(events) {
        let time = received(0) + std::time::Duration::from_secs(minute * 60);
        batch.push(Offset::new(offset).unwrap(), time, None, &numbered(*number), []);
    }
    batch
}

fn word(way_out: &WayOut<'_>) -> &'static str {
    match way_out {
        WayOut::Alerted(_) => "walked",
        WayOut::Rejected(_) => "rejected",
        WayOut::Control(_) => "control",
        WayOut::Dropped(_) => "dropped",
        WayOut::Forwarded(_) => "forwarded",
    }
}

fn words(walk: &mut Walk, batch: &Batch, range: Range<usize>) -> Vec<&'static str> {
    batch.slice(range).map(|record| word(&walk.step(&record))).collect()
}

#[test]
fn a_block_walked_again_drops_the_same_records_and_none_of_its_own() {
    let all = batch(&[(0, 1), (0, 2), (3, 1), (3, 3), (9, 2), (9, 3), (9, 4), (9, 4), (12, 1)]);
    let expected =
        ["walked", "walked", "dropped", "walked", "dropped", "dropped", "walked", "dropped", "walked"];
    assert_eq!(words(&mut walk_of(1, PartitionId(0)), &all, 0..all.len()), expected);
    for first in 0..all.len() {
        // What a new owner does: what was settled for state alone, then the reserved block, then onward.
        let mut walk = walk_of(1, PartitionId(0));
        walk.walk(&all, 0..first, None);
        assert_eq!(words(&mut walk, &all, first..all.len()), expected[first..]);
    }
}

#[test]
fn a_row_that_nobody_signed_does_not_have_a_signed_record_dropped_nor_the_reverse() {
    let all = batch(&[(0, 1), (0, 2)]);
    // Neither is signed.
    let mut walk = walk_of(1, PartitionId(0));
    let at = |offset| Offset::new(offset).unwrap();
    walk.drop_repeats(HashSet::from([(at(0), true), (at(1), false)]));
    assert_eq!(words(&mut walk, &all, 0..all.len()), ["walked", "dropped"]);
}

#[test]
fn a_forwarded_record_and_its_copy_are_one_event() {
    let value = numbered(1);
    let record = |value: &[u8], headers: &[(String, Vec<u8>)]| {
        let mut batch = Batch::default();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        batch.push(Offset::ZERO, UnixMs::default(), None, value, headers);
        batch
    };
    let sent = record(&value, &[]);
    let mut copies = Vec::new();
    for partition in (0..4).map(PartitionId) {
        let mut walk = walk_of(4, partition);
        for _ in 0..2 {
            if let WayOut::Forwarded(copy) = walk.step(&sent.iter().next().unwrap()) {
                copies.push(copy);
            }
        }
    }
    assert_eq!(copies.len(), 6, "three partitions forward what lies there, as often as it was sent");
    let home = home_partition(copies[0].key.as_deref().unwrap(), 4);
    let mut walk = walk_of(4, home);
    let mut outcomes = Vec::new();
    for copy in &copies {
        let copy = record(&copy.value, &copy.headers);
        outcomes.extend(words(&mut walk, &copy, 0..1));
    }
    assert_eq!(outcomes, ["walked", "dropped", "dropped", "dropped", "dropped", "dropped"]);
}
