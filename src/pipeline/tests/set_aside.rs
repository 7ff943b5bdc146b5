//! A tenant that sends too much that cannot be an event.

use super::*;
use crate::pipeline::decode::RejectReason;

const T0: i64 = 1_795_428_000_000;

/// Walks `value`, which arrives at `minute`: why it was rejected, if it was.
fn reason(walk: &mut Walk, value: &str, minute: i64) -> Option<RejectReason> {
    let mut batch = Batch::default();
    batch.push(Offset::ZERO, UnixMs::new(T0 + minute * 60_000), None, value.as_bytes(), []);
    match walk.step(&batch.iter().next().unwrap()) {
        WayOut::Rejected(rejected) => Some(rejected.reason),
        _ => None,
    }
}

#[test]
fn its_events_are_set_aside_too_for_a_while() {
    let mut walk = walk_of(Signatures::Off);
    let [first, second] = uses();
    let broken = |tenant: &str| first.replace("acme", tenant).replace("accepted", "no kind");
    for _ in 0..500 {
        assert_eq!(reason(&mut walk, &broken("acme"), 0), Some(RejectReason::UnknownKind));
    }
    // Nobody can tell whose these are.
    assert_eq!(reason(&mut walk, "{not json", 0), Some(RejectReason::NotJson));
    assert_eq!(reason(&mut walk, &broken("No Name"), 0), Some(RejectReason::UnknownKind));
    assert_eq!(reason(&mut walk, &first, 0), None, "5 % are borne");
    reason(&mut walk, &broken("acme"), 0);
    assert_eq!(reason(&mut walk, &second, 1), Some(RejectReason::TenantSetAside));
    assert_eq!(reason(&mut walk, &second.replace("acme", "globex"), 1), None, "another tenant's");
    // The same records, the same decisions.
    assert_eq!(reason(&mut walk, &broken("acme"), 2), Some(RejectReason::UnknownKind));
    assert_eq!(reason(&mut walk, &second, 9), Some(RejectReason::TenantSetAside));
}
