//! A tenant that sends too much that cannot be an event.

use super::*;
use crate::pipeline::decode::RejectReason;

const T0: i64 = 1_795_428_000_000;

/// Walks `value`, which arrives at `minute`: why it was rejected, if it was.
fn reason(walk: &mut Walk, value: &str, minute: i64) -> Option<RejectReason> {
    reason_of(walk, value, None, minute)
}

fn reason_of(walk: &mut Walk, value: &str, signature: Option<&str>, minute: i64) -> Option<RejectReason> {
    let mut batch = Batch::default();
    let headers = signature.map(|signature| (verify::SIGNATURE_HEADER, signature.as_bytes()));
    batch.push(Offset::ZERO, UnixMs::new(T0 + minute * 60_000), None, value.as_bytes(), headers);
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

/// Whoever may write to the topic could fill a tenant's measure with garbage in its name.
#[test]
fn what_is_signed_is_not_set_aside() {
    let mut walk = walk_of(Signatures::Record);
    let [first, second] = uses();
    for _ in 0..501 {
        reason(&mut walk, &first.replace("accepted", "no kind"), 0);
    }
    let signature = BASE64_URL_SAFE_NO_PAD.encode(pair().sign(first.as_bytes()));
    let signature = format!("2026;ed25519;{signature}");
    assert_eq!(reason_of(&mut walk, &first, Some(&signature), 1), None);
    assert_eq!(reason_of(&mut walk, &second, Some(&signature), 1), Some(RejectReason::TenantSetAside));
    assert_eq!(reason(&mut walk, &second, 1), Some(RejectReason::TenantSetAside));
}
