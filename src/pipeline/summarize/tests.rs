//! What blocks say of their sources.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::config::{GeoFiles, Secret};
use crate::log::{Batch, Origin, Topic};
use crate::model::{LogId, Offset, PartitionId, UnixMs};
use crate::pipeline::decode::{Bounds, RETRIED_HEADER, decode, seal_retried};
use crate::pipeline::enrich::{Atlas, Enricher, enrich};
use crate::pipeline::verify::{Trust, verify};

/// 2026-11-23T00:00:00Z.
const T0_MS: i64 = 1_795_392_000_000;

fn origin() -> Origin {
    let log = LogId::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap();
    Origin { log, topic: Topic::Events, partition: PartitionId(3) }
}

fn seals() -> Seals {
    Seals::new(&Secret::new("of the tests".to_owned()))
}

fn bounds() -> Bounds {
    Bounds {
        max_event_age: Duration::from_secs(40 * 24 * 3_600),
        partitions: 1,
        seals: Arc::new(seals()),
        ledger_key: None,
        forwarded_through: None,
        log: origin().log,
    }
}

/// A line a record: the second at which it is appended, then `at=SECOND` (when it happened), `gateway= epoch= seq= zone=
/// ip= kind=`, and the bare `retried`, which is sealed, or `forged`, which says the same under somebody's seal.
fn tally(story: &str) -> Tally {
    let bounds = bounds();
    let trust =
        Trust::build(&[], &Default::default(), &[], hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])).unwrap();
    let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/overlay-demo.csv");
    let geo = GeoFiles { overlay: Some(overlay.into()), ..GeoFiles::default() };
    let (atlas, mut enricher) = (Atlas::load(&geo).unwrap(), Enricher::default());
    let mut batch = Batch::default();
    for (offset, line) in story.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let (append_time, value, headers) = written(line);
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        batch.push(Offset::new(offset as i64).unwrap(), append_time, None, value.as_bytes(), headers);
    }
    let mut tally = Tally::default();
    for record in batch.iter() {
        tally.pass(&record, false);
        let checked = verify(decode(&record, &bounds).unwrap(), &record, &trust);
        tally.event(&record, &enrich(checked, &atlas, &mut enricher));
    }
    tally
}

fn written(line: &str) -> (UnixMs, String, Vec<(&'static str, String)>) {
    let mut words = line.split_whitespace();
    let appended: i64 = words.next().unwrap().parse().unwrap();
    let at = |second: i64| UnixMs::new(T0_MS + second * 1_000);
    let mut event = json!({
        "version": 1, "id": "019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42", "kind": "accepted", "time": at(appended),
        "tenant": "acme", "source": {"gateway": "edge-1", "zone": "edge"},
        "token": {"iss": "https://id.example", "sub": "alice", "ref": "kq0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
        "request": {"ip": "203.0.113.7"}, "gateway_verdict": "valid",
    });
    let mut seal = None;
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            seal = Some(match word {
                "retried" => seals().retried,
                "forged" => hmac::Key::new(hmac::HMAC_SHA256, b"somebody's"),
                _ => panic!("{word}"),
            });
            continue;
        };
        match name {
            "at" => event["time"] = json!(at(value.parse().unwrap())),
            "ip" => event["request"]["ip"] = json!(value),
            "seq" => event["source"]["seq"] = json!(value.parse::<u64>().unwrap()),
            "sent" => {
                event["kind"] = json!("heartbeat");
                event["tenant"] = json!("_platform");
                event["heartbeat"] =
                    json!({"sent": value.parse::<u64>().unwrap(), "dropped": 0, "closing": false});
            }
            name => event["source"][name] = json!(value),
        }
    }
    let value = event.to_string();
    let headers = seal.map(|key| (RETRIED_HEADER, retried(&value, at(appended), &key)));
    (at(appended), value, headers.into_iter().collect())
}

fn retried(value: &str, since: UnixMs, key: &hmac::Key) -> String {
    let mut batch = Batch::default();
    batch.push(Offset::ZERO, since, None, value.as_bytes(), []);
    let sealed =
        |record| seal_retried(&decode(&record, &bounds()).unwrap().event, value.as_bytes(), since, key);
    let seal = batch.iter().map(sealed).next();
    seal.unwrap()
}

/// What the record says of each source, a line each.
fn check(story: &str, expected: Expect) {
    let record = tally(story).close(&origin(), (Offset::ZERO, Offset::new(9).unwrap()), &seals()).unwrap();
    let summary: Value = serde_json::from_slice(&record.value).unwrap();
    let lines: Vec<String> = summary["sources"].as_array().unwrap().iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn a_block_says_who_sent_how_much_by_when() {
    check(
        "10 epoch=e1 seq=1
         11 epoch=e1 seq=3
         12 epoch=e1 seq=2
         25 epoch=e1 seq=7
         25 epoch=e2
         26 sent=4 epoch=e1 seq=7
         27 gateway=inner zone=internal",
        expect![[r#"
            {"edge":[{"hour":498720,"off_clock":0,"uses":4,"without_client_ip":0}],"epoch":"e1","gateway":"edge-1","heartbeats":[{"closing":false,"dropped":0,"received_at":"2026-11-23T00:00:26.000Z","refused":null,"sent":4,"time":"2026-11-23T00:00:26.000Z"}],"seqs":[1,3,3,1],"steps":[[179539201,3],[179539202,1]],"zone":"edge"}
            {"edge":[{"hour":498720,"off_clock":0,"uses":1,"without_client_ip":0}],"epoch":"e2","gateway":"edge-1","heartbeats":[],"seqs":[],"steps":[[179539202,1]],"zone":"edge"}
            {"edge":[],"epoch":"","gateway":"inner","heartbeats":[],"seqs":[],"steps":[],"zone":"internal"}"#]],
    );
}

/// The step is that of the earlier of both times: what a clock says that is ahead was sent when it arrived at the latest.
#[test]
fn an_event_was_sent_by_when_it_happened_or_arrived() {
    check(
        "100 epoch=e at=40
         100 epoch=e at=160",
        expect![[
            r#"{"edge":[{"hour":498720,"off_clock":0,"uses":2,"without_client_ip":0}],"epoch":"e","gateway":"edge-1","heartbeats":[],"seqs":[],"steps":[[179539204,1],[179539210,1]],"zone":"edge"}"#
        ]],
    );
}

#[test]
fn clocks_and_addresses_are_counted_by_the_hour_of_arrival() {
    check(
        "3599 at=3500
         3601 at=3500
         3602 at=3500 retried
         3602 at=3500 forged
         3603 at=9000
         3604 ip=10.0.0.4",
        expect![[
            r#"{"edge":[{"hour":498720,"off_clock":1,"uses":1,"without_client_ip":0},{"hour":498721,"off_clock":3,"uses":5,"without_client_ip":1}],"epoch":"","gateway":"edge-1","heartbeats":[],"seqs":[],"steps":[],"zone":"edge"}"#
        ]],
    );
}

#[test]
fn made_up_sources_and_steps_take_no_more_than_their_room() {
    let many = 20_000;
    let sources: String = (0..many).map(|number| format!("10 epoch=e{number}\n")).collect();
    let tally = tally(&sources);
    let left_out = tally.left_out();
    let record = tally.close(&origin(), (Offset::ZERO, Offset::ZERO), &seals()).unwrap();
    assert!(record.value.len() < 700 << 10, "{} bytes", record.value.len());
    let summary = summary_of(&record);
    assert_eq!((summary.left_out, summary.sources.len() as u64 + left_out), (left_out, many));
    assert!(left_out > 0);

    let steps: String =
        (0..many).map(|number| format!("{} epoch=e seq={}\n", number * 10, number * 9)).collect();
    let record =
        super::tests::tally(&steps).close(&origin(), (Offset::ZERO, Offset::ZERO), &seals()).unwrap();
    assert!(record.value.len() < 700 << 10, "{} bytes", record.value.len());
    let source = &summary_of(&record).sources[0];
    assert_eq!(source.steps.iter().map(|(_, events)| events).sum::<u64>(), many, "each is counted");
    assert_eq!(source.seqs, None, "too many to say");
}

fn read_back(record: &NewRecord) -> Result<Summary, Rejected> {
    let mut batch = Batch::default();
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    batch.push(Offset::ZERO, UnixMs::default(), None, &record.value, headers);
    let read = batch.iter().map(|record| read(&record, &seals())).next();
    read.unwrap()
}

fn summary_of(record: &NewRecord) -> Summary {
    read_back(record).unwrap()
}

fn sealed(value: &str, key: &hmac::Key) -> NewRecord {
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(key, value.as_bytes())).into_bytes();
    let headers = vec![(SUMMARY_HEADER.to_owned(), mac)];
    NewRecord { value: value.as_bytes().to_vec(), headers, ..NewRecord::default() }
}

#[test]
fn what_is_no_summary_is_a_dead_letter() {
    for (value, reason) in [
        ("", RejectReason::NotJson),
        ("{}", RejectReason::BadValue),
        (r#"{"version":2}"#, RejectReason::BadValue),
        ("[1", RejectReason::NotJson),
    ] {
        assert_eq!(read_back(&sealed(value, &seals().summary)).unwrap_err().reason, reason, "{value}");
    }
}

/// It could raise `audit_gap`, or withdraw it.
#[test]
fn anyone_elses_summary_is_a_dead_letter() {
    let ours = tally("10 epoch=e1 seq=1").close(&origin(), (Offset::ZERO, Offset::ZERO), &seals()).unwrap();
    summary_of(&ours);
    let text = String::from_utf8(ours.value.clone()).unwrap();
    let changed = text.replace("edge-1", "edge-2");
    assert_ne!(changed, text);
    let forged = [
        NewRecord { headers: Vec::new(), ..ours.clone() },
        NewRecord { value: changed.into_bytes(), ..ours },
        sealed(&text, &hmac::Key::new(hmac::HMAC_SHA256, b"somebody's")),
        // What seals a tick does not seal a summary.
        sealed(&text, &seals().tick),
    ];
    for record in forged {
        let reason = read_back(&record).unwrap_err().reason;
        assert_eq!(reason, RejectReason::NotSealed, "{:?}", record.headers);
    }
}

#[test]
fn a_block_into_which_nothing_was_walked_says_nothing() {
    assert_eq!(Tally::default().close(&origin(), (Offset::ZERO, Offset::ZERO), &seals()), None);
}
