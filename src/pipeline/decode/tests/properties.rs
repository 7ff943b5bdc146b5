//! What holds for any bytes, any event, any token in any place.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::lenient::{Credential, admit};
use super::super::mask::tests::{ENCODINGS, PLACES, SIGNATURE, shows, tokens};
use super::*;

/// Strings that are somebody's trouble.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9./:_-]{0,40}",
        2 => any::<String>(),
        1 => "[%\\\\u0-9a-f.\\[\\]:]{0,60}",
        1 => "x{500,3000}",
        1 => Just("[masked:kq0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA]".to_owned()),
        1 => (0..tokens().len(), 0..ENCODINGS.len()).prop_map(|(token, encoding)| ENCODINGS[encoding].1(&tokens()[token].0)),
    ]
}

/// Any JSON, down to a few levels.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => text().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => (1_795_000_000_i64..1_796_000_000).prop_map(Value::from),
        1 => (1_795_000_000_i64..1_796_000_000).prop_map(|number| Value::from(number.to_string())),
        1 => prop_oneof![Just(json!(null)), Just(json!("")), Just(json!("-")), Just(json!(true)), Just(json!(200))],
        1 => prop_oneof![Just(json!("203.0.113.9:443")), Just(json!("::ffff:192.0.2.1")), Just(json!("2001:db8::1"))],
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![3 => "sub|iss|act|jkt|ip|[a-z~/.]{1,8}", 1 => text()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Pointers of members, known and unknown.
fn pointer() -> impl Strategy<Value = String> {
    let mut pointers = Vec::new();
    for (name, value) in example().as_object().unwrap() {
        pointers.push(format!("/{name}"));
        pointers.extend(value.as_object().into_iter().flatten().map(|(inner, _)| format!("/{name}/{inner}")));
    }
    pointers.extend(
        ["/token/jti", "/token/raw", "/request/colour", "/colour", "/grant", "/heartbeat"].map(String::from),
    );
    prop::sample::select(pointers)
}

/// The example with some members made otherwise.
pub(crate) fn event() -> impl Strategy<Value = Value> {
    prop::collection::vec((pointer(), value()), 0..4).prop_map(|changes| {
        let mut event = example();
        for (pointer, value) in changes {
            let (parent, _) = pointer.rsplit_once('/').unwrap();
            if event.pointer(parent).is_some_and(Value::is_object) {
                set(&mut event, &pointer, value);
            }
        }
        event
    })
}

/// The example with a token in one place, and the token's ref.
fn haunted() -> impl Strategy<Value = (NewRecord, String)> {
    let name = |base: &str, text: &str| format!("{base}{text}");
    let place = (0..12_usize, pointer(), 0..tokens().len(), 0..ENCODINGS.len(), 0..PLACES.len());
    place.prop_map(move |(kind, pointer, token, encoding, place)| {
        let (token, token_ref) = tokens().swap_remove(token);
        let (before, after) = PLACES[place];
        let hidden = format!("{before}{}{after}", ENCODINGS[encoding].1(&token));
        let mut event = example();
        let mut record = NewRecord::default();
        match kind {
            0 => drop(event.as_object_mut().unwrap().insert(name("x", &hidden), json!(1))),
            1 => drop(event["token"].as_object_mut().unwrap().insert(name("x", &hidden), json!([hidden]))),
            2 => event["mesh"] = json!({"a": [{"b": hidden}]}),
            3 => record.headers.push((name("x-", &hidden), b"1".to_vec())),
            4 => record.headers.push(("x-note".to_owned(), hidden.into_bytes())),
            5 => record.key = Some(hidden.into_bytes()),
            6 => event["token"]["act"][0]["sub"] = json!(hidden),
            _ => {
                let (parent, _) = pointer.rsplit_once('/').unwrap();
                if event.pointer(parent).is_some_and(Value::is_object) {
                    set(&mut event, &pointer, json!(hidden));
                }
            }
        }
        record.value = event.to_string().into_bytes();
        (record, token_ref)
    })
}

/// Everything that `decode` and `forward` let out of one record.
fn outputs(record: &NewRecord) -> String {
    let batch = batch(record);
    let record = batch.iter().next().unwrap();
    match decode(&record, &bounds()) {
        Ok(mut decoded) => {
            let mut out = format!("{decoded:?}\n{}", serde_json::to_string(&decoded.event).unwrap());
            for here in 0..bounds().partitions {
                if let Some(copy) = forward(&mut decoded, None, &record, &bounds(), PartitionId(here)) {
                    out += &String::from_utf8_lossy(&copy.value);
                    for (name, value) in copy.headers.iter().filter(|(name, _)| name != "jwtrail-forward") {
                        out += &format!("{name}: {}\n", String::from_utf8_lossy(value));
                    }
                }
            }
            out
        }
        Err(rejected) => format!("{rejected:?}\n{}", String::from_utf8_lossy(&rejected.masked)),
    }
}

fn payload() -> String {
    encode(r#"{"iss":"https://id.example","sub":"mallory"}"#)
}

proptest! {
    // A failure found is kept as a test of its own, in words, not as a seed.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_decode_panic(value: Vec<u8>, key: Option<Vec<u8>>, header: Vec<u8>) {
        let headers = vec![("jwtrail-forward".to_owned(), header.clone()), ("ce_id".to_owned(), header)];
        outputs(&NewRecord { key, value, headers, partition: None });
    }

    #[test]
    fn no_broken_event_makes_decode_panic(event in event(), at: prop::sample::Index, byte: u8, cut: bool) {
        let mut value = event.to_string().into_bytes();
        let at = at.index(value.len());
        if cut { value.truncate(at) } else { value[at] = byte }
        outputs(&bare(value.clone()));
        let _ = admit(&value, &Credential::Ingest, door::arrival());
    }

    #[test]
    fn no_token_survives((record, token_ref) in haunted()) {
        let out = outputs(&record);
        prop_assert!(!shows(&out, SIGNATURE), "{out}");
        prop_assert!(!shows(&out, &payload()), "{out}");
        let read = with(&record, |decoded| decoded.map(|decoded| decoded.leaks));
        if let Ok(leaks) = read {
            prop_assert!(leaks.iter().any(|leak| leak.token_ref == token_ref) || !out.contains("[masked:"), "{out}");
        }
    }

    #[test]
    fn no_token_survives_in_what_is_broken((record, _) in haunted(), end: prop::sample::Index, junk: Vec<u8>) {
        // The cut comes behind the token, where there is one: half a token is none.
        let text = String::from_utf8(record.value.clone()).unwrap();
        let earliest = text.len() - 2;
        let mut value = record.value[..earliest + end.index(2)].to_vec();
        value.extend(junk);
        let out = outputs(&NewRecord { value, ..record });
        prop_assert!(!shows(&out, SIGNATURE), "{out}");
    }

    #[test]
    fn an_event_written_again_is_read_the_same(event in event()) {
        let record = bare(event.to_string());
        let written = with(&record, |decoded| {
            let decoded = decoded.ok()?;
            let in_time = decoded.event.claimed_time.is_none();
            in_time.then(|| (to_record(&decoded.event), decoded.event.into_owned(), decoded.leaks))
        });
        if let Some((record, event, mut leaks)) = written {
            with(&record, |decoded| {
                let mut decoded = decoded.unwrap();
                assert_eq!(decoded.event, event);
                let order = |leak: &Leak| (leak.field.clone(), leak.token_ref.clone());
                leaks.sort_by_key(order);
                decoded.leaks.sort_by_key(order);
                assert_eq!(decoded.leaks, leaks);
            });
        }
    }

    #[test]
    fn what_the_door_admits_the_walk_reads_the_same(event in event(), least: bool) {
        let mut event = event;
        if least {
            for name in ["version", "id", "kind", "time", "tenant", "source", "gateway_verdict"] {
                event.as_object_mut().unwrap().remove(name);
            }
        }
        if let Ok(admitted) = admit(event.to_string().as_bytes(), &Credential::Ingest, door::arrival()) {
            with(&admitted.record, |decoded| {
                let mut event = decoded.unwrap().event;
                event.time = event.claimed_time.take().unwrap_or(event.time);
                assert_eq!(event, admitted.event);
            });
            let out = String::from_utf8(admitted.record.value).unwrap();
            prop_assert!(!shows(&out, SIGNATURE), "{out}");
        }
    }
}
