//! Records that lie elsewhere than at home.

use serde_json::json;

use super::*;
use crate::log::home_partition;

/// The key of the example with these members set.
fn key_of(changes: &[(&str, serde_json::Value)]) -> String {
    let mut event = example();
    for (pointer, value) in changes {
        set(&mut event, pointer, value.clone());
    }
    let text = event.to_string();
    let event = super::super::read(text.as_bytes(), || true).map(|reading| reading.event).unwrap();
    String::from_utf8(home_key(&event)).unwrap().replace('\u{1f}', "|")
}

#[test]
fn a_key_is_the_subject_that_somebody_vouches_for_or_the_network() {
    let rejected = |verdict| [("/kind", json!("rejected")), ("/gateway_verdict", json!(verdict))];
    assert_eq!(key_of(&[]), "acme|alice");
    assert_eq!(key_of(&rejected("expired")), "acme|alice");
    assert_eq!(key_of(&rejected("bad_signature")), "acme|ip:203.0.113.0/24");
    assert_eq!(key_of(&[("/gateway_verdict", json!("opaque"))]), "acme|ip:203.0.113.0/24");
    let mut unverified = rejected("unspecified").to_vec();
    unverified.push(("/request/ip", json!("2001:db8:12:3456::7")));
    assert_eq!(key_of(&unverified), "acme|ip:2001:db8:12::/48");
    let mut mapped = rejected("unspecified").to_vec();
    mapped.push(("/request/ip", json!("::ffff:203.0.113.7")));
    assert_eq!(key_of(&mapped), "acme|ip:203.0.113.0/24");
    let mut nameless = rejected("expired").to_vec();
    nameless.push(("/token/sub", json!(null)));
    assert_eq!(key_of(&nameless), "acme|ip:203.0.113.0/24");
    let heartbeat = json!({"sent": 1, "dropped": 0, "closing": false});
    let beat = [("/kind", json!("heartbeat")), ("/tenant", json!("_platform")), ("/heartbeat", heartbeat)];
    assert_eq!(key_of(&beat), "edge-fra-1");
}

/// Another partition than the home of `record`.
fn elsewhere(record: &NewRecord) -> PartitionId {
    let home =
        with(record, |decoded| home_partition(&home_key(&decoded.unwrap().event), bounds().partitions));
    PartitionId((home.0 + 1) % bounds().partitions)
}

/// Walks `record` at `here`: the copy that goes home, and whether the event was flagged as displaced.
fn walk(record: &NewRecord, here: PartitionId) -> (Option<NewRecord>, bool) {
    walk_attested(record, here, None)
}

fn walk_attested(
    record: &NewRecord,
    here: PartitionId,
    attested_by: Option<&str>,
) -> (Option<NewRecord>, bool) {
    let batch = batch(record);
    let record = batch.iter().next().unwrap();
    let mut decoded = decode(&record, &bounds()).unwrap();
    let copy = forward(&mut decoded, attested_by, &record, &bounds(), here);
    (copy, decoded.flags.has(Flag::Displaced))
}

#[test]
fn a_record_goes_home_with_its_value_and_headers_and_says_where_it_came_from() {
    let mut record = bare(example().to_string());
    record.key = Some(b"whatever".to_vec());
    record.headers =
        vec![("ce_id".to_owned(), b"1".to_vec()), ("jwtrail-signature".to_owned(), b"s".to_vec())];
    let here = elsewhere(&record);
    let (copy, displaced) = walk(&record, here);
    let copy = copy.unwrap();
    assert!(!displaced);
    assert_eq!(copy.key.as_deref(), Some(b"acme\x1falice".as_slice()));
    assert_eq!(copy.value, record.value);
    assert_eq!(copy.headers[..2], record.headers);

    let home = home_partition(copy.key.as_deref().unwrap(), bounds().partitions);
    assert_eq!(walk(&copy, home), (None, false));
    with(&copy, |decoded| {
        let log = LogId::try_from(LOG.to_owned()).unwrap();
        let offset = Offset::new(17).unwrap();
        let (append_time, attested_by) = (received(), None);
        let origin = ForwardedFrom { log, partition: here, offset, append_time, hops: 1, attested_by };
        assert_eq!(decoded.unwrap().origin, Some(origin));
    });
}

#[test]
fn a_header_without_its_mac_is_nothing() {
    let record = bare(example().to_string());
    let (copy, _) = walk(&record, elsewhere(&record));
    let copy = copy.unwrap();
    let header = String::from_utf8(copy.headers[0].1.clone()).unwrap();
    let origin_of = |header: &str, value: &[u8]| {
        let headers = vec![("jwtrail-forward".to_owned(), header.as_bytes().to_vec())];
        with(&NewRecord { headers, ..bare(value) }, |decoded| decoded.unwrap().origin)
    };
    assert!(origin_of(&header, &copy.value).is_some());
    let other_value = example_with("/token/sub", json!("bob"));
    assert_eq!(origin_of(&header, &other_value), None, "another value");
    let (path, mac) = header.split_once(';').unwrap();
    let fewer_hops = path.replace("/17/", "/18/");
    assert_eq!(origin_of(&format!("{fewer_hops};{mac}"), &copy.value), None, "another place");
    for nonsense in ["", ";", path, "a/b/c/d/e;AAAA"] {
        assert_eq!(origin_of(nonsense, &copy.value), None, "{nonsense}");
    }
}

#[test]
fn the_origin_is_kept_over_hops_and_the_third_hop_is_not_made() {
    let record = bare(example().to_string());
    let away = elsewhere(&record);
    let (first, _) = walk(&record, away);
    let (second, _) = walk(first.as_ref().unwrap(), away);
    let second = second.unwrap();
    assert_eq!(walk(&second, away), (None, true));
    with(&second, |decoded| {
        let origin = decoded.unwrap().origin.unwrap();
        assert_eq!((origin.hops, origin.partition), (2, away));
    });
    let forwards = second.headers.iter().filter(|(name, _)| name == "jwtrail-forward").count();
    assert_eq!(forwards, 1);
}

/// Each walk says anew who attested the record: a key may have been withdrawn since.
#[test]
fn the_copy_says_under_its_mac_who_attested_the_record() {
    let attested_by = |record: &NewRecord| {
        with(record, |decoded| decoded.unwrap().origin.and_then(|origin| origin.attested_by))
    };
    let record = bare(example().to_string());
    let away = elsewhere(&record);
    for key_id in ["door", "eu/key 1/", "1"] {
        let (first, _) = walk_attested(&record, away, Some(key_id));
        let first = first.unwrap();
        assert_eq!(attested_by(&first).as_deref(), Some(key_id));
        let (second, _) = walk_attested(&first, away, Some(key_id));
        assert_eq!(attested_by(&second.unwrap()).as_deref(), Some(key_id));
        let (second, _) = walk(&first, away);
        assert_eq!(attested_by(&second.unwrap()), None);
    }
    let (copy, _) = walk(&record, away);
    let mut copy = copy.unwrap();
    let header = String::from_utf8(copy.headers[0].1.clone()).unwrap();
    copy.headers[0].1 = header.replace(';', "/door;").into_bytes();
    with(&copy, |decoded| assert_eq!(decoded.unwrap().origin, None));
}

#[test]
fn what_was_forwarded_is_clamped_by_where_it_was_appended_first() {
    let bounds = bounds();
    let early = UnixMs::new(received().get() - 60 * 24 * 3600 * 1000);
    let log = LogId::try_from(LOG.to_owned()).unwrap();
    let offset = Offset::new(3).unwrap();
    let (partition, append_time, attested_by) = (PartitionId(1), early, None);
    let origin = ForwardedFrom { log, partition, offset, append_time, hops: 1, attested_by };
    let value = example_with("/time", json!(early.to_string()));
    let header = super::super::forward::seal(&origin, &value, &bounds.seals.forward);
    let record = NewRecord { headers: vec![("jwtrail-forward".to_owned(), header.into())], ..bare(value) };
    with(&record, |decoded| {
        let decoded = decoded.unwrap();
        assert_eq!(decoded.event.time, early);
        assert!(!decoded.flags.has(Flag::ClockSkewed));
    });
}

/// A record that was held back, and holds a token: its copy's value is another one, and it is held back all the same.
#[test]
fn the_copy_of_a_record_that_was_held_back_says_so() {
    let (token, _) = jws(r#"{"alg":"ES256"}"#);
    let written = example().to_string();
    let masked_by_the_walk = written.replace("Mozilla", &token.replace('e', "\\u0065"));
    let seals = bounds().seals;
    let said = |record: &NewRecord| with(record, |decoded| decoded.unwrap().retried);
    for (value, is_rewritten) in [(written, false), (masked_by_the_walk, true)] {
        let seal = with(&bare(value.clone()), |decoded| {
            seal_retried(&decoded.unwrap().event, value.as_bytes(), received(), &seals.retried)
        });
        let headers = |seal: String| vec![(RETRIED_HEADER.to_owned(), seal.into_bytes())];
        let record = NewRecord { headers: headers(seal), ..bare(value.clone()) };
        let (copy, _) = walk(&record, elsewhere(&record));
        let copy = copy.unwrap();
        assert_eq!(copy.value != value.as_bytes(), is_rewritten);
        assert!(said(&record).is_some_and(|retried| retried.tenant == "acme"));
        assert_eq!(said(&copy), said(&record));
        // What anyone wrote there is not carried on.
        let forged = NewRecord { headers: headers("1".to_owned()), ..bare(value) };
        assert_eq!(said(&forged), None);
        let (copy, _) = walk(&forged, elsewhere(&forged));
        assert!(copy.unwrap().headers.iter().all(|(name, _)| name != RETRIED_HEADER));
    }
}

/// A commit expired, so that nobody knows what was forwarded.
#[test]
fn what_may_have_been_forwarded_before_says_so() {
    let record = bare(example().to_string());
    let batch = batch(&record);
    let here = elsewhere(&record);
    for (through, expected) in [(None, None), (Some(16), None), (Some(17), Some(received()))] {
        let bounds = Bounds { forwarded_through: through.and_then(Offset::new), ..bounds() };
        let copy = batch
            .iter()
            .find_map(|record| forward(&mut decode(&record, &bounds).unwrap(), None, &record, &bounds, here));
        let since = with(&copy.unwrap(), |decoded| decoded.unwrap().retried.map(|retried| retried.since));
        assert_eq!(since, expected, "{through:?}");
    }
}

#[test]
fn the_copy_of_a_masked_record_holds_no_token_and_tells_of_it_again() {
    let (token, token_ref) = jws(r#"{"alg":"ES256"}"#);
    let escaped = token.replace('e', "\\u0065");
    let value = example().to_string().replace("Mozilla", &escaped).replace("2026-11-23", "2020-01-01");
    let mut record = bare(value);
    record.key = Some(token.clone().into_bytes());
    record.headers = vec![("x-note".to_owned(), format!("a {token}").into_bytes())];
    let (copy, _) = walk(&record, elsewhere(&record));
    let copy = copy.unwrap();
    let told = |record: &NewRecord| {
        with(record, |decoded| {
            let decoded = decoded.unwrap();
            assert_eq!(decoded.event.claimed_time, Some("2020-01-01T10:15:00.123Z".parse().unwrap()));
            let mut fields: Vec<_> =
                decoded.leaks.into_iter().map(|leak| (leak.field, leak.token_ref)).collect();
            fields.sort();
            fields
        })
    };
    let of = |field: &str| (field.to_owned(), token_ref.clone());
    assert_eq!(told(&record), [of("/request/user_agent"), of("header:x-note"), of("key")]);
    assert_eq!(told(&copy), told(&record));
    let bytes = format!("{copy:?}{}", String::from_utf8_lossy(&copy.value));
    assert!(!bytes.contains(&encode("a signature that must not be seen")));
    assert!(!String::from_utf8_lossy(&copy.value).contains("u0065"));
}
