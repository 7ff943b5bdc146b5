//! Which records let time pass.

use super::*;

fn ours() -> NewRecord {
    tick(&bounds(), PartitionId(0), Offset::new(17).unwrap())
}

fn is_one(record: &NewRecord) -> bool {
    let batch = batch(record);
    let record = batch.iter().next().unwrap();
    is_tick(&record, &bounds())
}

fn reason_of(record: &NewRecord) -> Option<RejectReason> {
    with(record, |decoded| decoded.err().map(|rejected| rejected.reason))
}

#[test]
fn a_tick_is_what_the_owner_sealed() {
    assert_eq!(ours().partition, Some(PartitionId(0)));
    assert!(is_one(&ours()));
}

#[test]
fn anyone_elses_is_a_dead_letter() {
    let with_header = |change: fn(&str) -> String| {
        let mut record = ours();
        let (_, value) = &mut record.headers[0];
        *value = change(std::str::from_utf8(value).unwrap()).into_bytes();
        record
    };
    let sealed_with = |tick_key: hmac::Key| {
        let seals = Seals { tick: tick_key, ..Seals::new(&Secret::new("of the tests".to_owned())) };
        tick(&Bounds { seals: Arc::new(seals), ..bounds() }, PartitionId(0), Offset::ZERO)
    };
    let forged = [
        bare(""),
        with_header(|_| String::new()),
        with_header(|header| header.split_once(';').unwrap().0.to_owned()),
        with_header(|header| header.replacen("/0/17;", "/0/18;", 1)),
        with_header(|header| header[..header.len() - 2].to_owned()),
        sealed_with(hmac::Key::new(hmac::HMAC_SHA256, &[9; 32])),
        // What seals a forward does not seal a tick.
        sealed_with(bounds().seals.forward.clone()),
    ];
    for record in forged {
        assert!(!is_one(&record), "{:?}", record.headers);
        assert_eq!(reason_of(&record), Some(RejectReason::NotJson), "{:?}", record.headers);
    }
}

#[test]
fn an_event_with_a_ticks_header_is_an_event() {
    let record = NewRecord { value: example().to_string().into_bytes(), ..ours() };
    assert!(!is_one(&record));
    assert_eq!(reason_of(&record), None);
}
