//! Spans and letters over a real journal, and what is compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_lc_rs::hmac;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::config::GeoFiles;
use crate::log::journal::{Journal, JournalOptions};
use crate::log::{Batch, EventLog, NewRecord, Topic};
use crate::model::{CaseState, Confidence, Finding, Offset, RuleId, Severity, UnixMs};
use crate::pipeline::corridor::Course;
use crate::pipeline::store::testing::{bounds, finding};
use crate::pipeline::store::{APPEND_HEADER, ORIGIN_HEADER, REASON_HEADER};
use crate::pipeline::{Snapshots, Walk, alert, decode, detect, enrich, verify};

const PARIS: &str = "203.0.113.7";
const TOKYO: &str = "198.51.100.7";

fn door() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &[9; 32])
}

fn walk(partition: PartitionId) -> Walk {
    walk_within(partition, 4)
}

fn walk_within(partition: PartitionId, partitions: u32) -> Walk {
    Walk::new(decode::Bounds { partitions, ..bounds() }, snapshots(), partition)
}

fn course_walk(course: Course, partition: PartitionId) -> Box<dyn LaneWalk> {
    course.begin(bounds(), snapshots(), partition)
}

fn snapshots() -> Snapshots {
    let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/overlay-demo.csv");
    let geo = GeoFiles { overlay: Some(overlay.into()), ..GeoFiles::default() };
    Snapshots {
        name: "test".into(),
        verify: Arc::new(verify::Trust::build(&[], &[].into(), &[], door()).unwrap()),
        enrich: Arc::new(enrich::Atlas::load(&geo).unwrap()),
        detect: Arc::new(detect::Rulebook::new(&[], &[], &[])),
        alert: Arc::new(alert::Policy::default()),
    }
}

fn at(time: &str) -> UnixMs {
    format!("2026-11-{time}:00Z").parse().unwrap()
}

/// A use of the subject's one token, at `DDTHH:MM`.
fn used(sub: &str, ip: &str, time: &str) -> String {
    let device = if ip == PARIS { "Firefox/145.0" } else { "Chrome/142.0.0.0" };
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("{sub}{ip}{time}").as_bytes());
    json!({
        "version": 1, "id": id, "kind": "accepted", "tenant": "acme", "time": at(time),
        "source": {"gateway": "edge-1", "zone": "edge"}, "gateway_verdict": "valid",
        "token": {"ref": crate::token::sha256_base64url(sub.as_bytes()), "iss": "https://id.example", "sub": sub},
        "request": {"ip": ip, "user_agent": format!("Mozilla/5.0 (X11; Linux x86_64) {device}")},
    })
    .to_string()
}

/// As the door writes it, at its home.
fn signed(value: String) -> NewRecord {
    let signature = verify::sign_record(verify::DOOR_KEY_ID, &door(), value.as_bytes());
    let sub = serde_json::from_str::<serde_json::Value>(&value).unwrap()["token"]["sub"].clone();
    NewRecord {
        key: Some(format!("acme\u{1f}{}", sub.as_str().unwrap()).into_bytes()),
        partition: None,
        value: value.into_bytes(),
        headers: vec![(verify::SIGNATURE_HEADER.to_owned(), signature.into_bytes())],
    }
}

/// A journal whose clock is set by hand.
struct TestJournal {
    journal: Arc<Journal>,
    now: Arc<AtomicI64>,
    _dir: TempDir,
}

impl TestJournal {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(0));
        let clock = Clock::Manual(Arc::clone(&now));
        let journal = Journal::open(dir.path(), JournalOptions::default(), clock).unwrap();
        journal.migrate(&Topic::ALL.map(|topic| topic.spec(true))).await.unwrap();
        Self { journal, now, _dir: dir }
    }

    async fn append(&self, time: &str, topic: Topic, record: NewRecord) {
        self.now.store(at(time).get(), Ordering::Relaxed);
        self.journal.append(topic, vec![record]).await.unwrap();
    }

    async fn send(&self, sub: &str, ip: &str, time: &str) {
        self.append(time, Topic::Events, signed(used(sub, ip, time))).await;
    }
}

/// `SUB RULE`, sorted.
fn said(findings: &[Finding]) -> Vec<String> {
    let mut said: Vec<_> =
        findings.iter().map(|finding| format!("{} {}", finding.case.sub, finding.case.rule)).collect();
    said.sort();
    said
}

#[tokio::test]
async fn a_span_knows_what_came_before_it_and_tells_what_lies_in_it() {
    let log = TestJournal::new().await;
    log.send("alice", PARIS, "20T10:00").await;
    log.send("alice", TOKYO, "20T10:01").await;
    log.send("bob", PARIS, "20T12:00").await;
    let strayed = NewRecord { key: None, ..signed(used("carol", PARIS, "20T12:00")) };
    let home = crate::log::home_partition(b"acme\x1fcarol", 4);
    let strayed = NewRecord { partition: Some(PartitionId((home.0 + 1) % 4)), ..strayed };
    log.append("20T12:00", Topic::Events, strayed).await;
    log.append("20T12:00", Topic::Events, NewRecord { value: b"junk".to_vec(), ..NewRecord::default() })
        .await;
    log.send("bob", TOKYO, "20T12:01").await;

    let alices = ["alice impossible_travel", "alice token_replay"];
    let bobs = ["bob impossible_travel", "bob token_replay"];
    for (from, to, findings, counts) in [
        (
            None,
            None,
            [&alices[..], &bobs].concat(),
            "4 events, 0 control, 1 forwarded, 0 repeated, 1 rejected (not_json 1)",
        ),
        // Its first half lies in the run-up.
        (Some("20T12:01"), None, bobs.to_vec(), "1 events, 0 control, 0 forwarded, 0 repeated, 0 rejected"),
        (None, Some("20T12:00"), alices.to_vec(), "2 events, 0 control, 0 forwarded, 0 repeated, 0 rejected"),
        (None, Some("20T10:01"), vec![], "1 events, 0 control, 0 forwarded, 0 repeated, 0 rejected"),
        (Some("20T12:02"), None, vec![], "0 events, 0 control, 0 forwarded, 0 repeated, 0 rejected"),
        // Nor does the run-up reach so far.
        (Some("24T00:00"), None, vec![], "0 events, 0 control, 0 forwarded, 0 repeated, 0 rejected"),
    ] {
        let wanted = Span { from: from.map(at), to: to.map(at) };
        let (walked, pieces) = span(log.journal.as_ref(), course_walk, wanted, |_, _, _| ()).await.unwrap();
        assert_eq!(walked.counts.to_string(), counts, "{wanted:?}");
        assert_eq!(said(&walked.findings.folded()), findings, "{wanted:?}");
        assert_eq!(pieces.len(), 4 + 1, "of events and of summaries");
    }
}

#[test]
fn a_file_is_walked_line_by_line_and_its_faults_are_told() {
    let text =
        [used("alice", PARIS, "20T10:00"), String::new(), "{}".to_owned(), used("alice", TOKYO, "20T10:01")];
    let mut rejected = Vec::new();
    let walked = file(walk_within(PartitionId(0), 1), text.into_iter().map(Ok), |line, why| {
        rejected.push(format!("{line} {} {}", why.reason, why.field));
    })
    .unwrap();
    assert_eq!(rejected, ["3 missing_field /version"]);
    assert_eq!(
        walked.counts.to_string(),
        "2 events, 0 control, 0 forwarded, 0 repeated, 1 rejected (missing_field 1)"
    );
}

// ---- letters ------------------------------------------------------------------------------------------------------

fn letter(reason: &str, origin_offset: u32, value: &str) -> NewRecord {
    let origin = format!("{}/jwtrail.events/2/{origin_offset}", bounds().log);
    let headers = [
        (REASON_HEADER, reason.to_owned()),
        (ORIGIN_HEADER, origin),
        (APPEND_HEADER, at("20T10:00").get().to_string()),
    ];
    let signature = verify::sign_record(verify::DOOR_KEY_ID, &door(), value.as_bytes());
    let headers = headers.into_iter().chain([(verify::SIGNATURE_HEADER, signature)]);
    NewRecord {
        value: value.as_bytes().to_vec(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.into_bytes())).collect(),
        ..NewRecord::default()
    }
}

/// `mended / still rejected / went back before`.
async fn survey_of(log: &TestJournal, wanted: Wanted) -> (String, Survey) {
    let letters = Letters { log: log.journal.as_ref(), bounds: bounds(), wanted };
    let survey = letters.survey(|_| ()).await.unwrap();
    let rejected: u64 = survey.rejected.values().map(|(count, _)| count).sum();
    (format!("{} / {rejected} / {}", survey.mended, survey.before), survey)
}

#[tokio::test]
async fn a_mended_letter_goes_home_once_and_says_where_it_lay() {
    let log = TestJournal::new().await;
    let of_globex = used("bob", PARIS, "20T10:00").replace("acme", "globex");
    for (time, record) in [
        ("20T10:01", letter("bad_value", 7, &used("alice", PARIS, "20T09:59"))),
        // The block was repeated.
        ("20T10:01", letter("bad_value", 7, &used("alice", PARIS, "20T09:59"))),
        ("20T10:02", letter("unknown_kind", 8, r#"{"version":1,"tenant":"acme"}"#)),
        ("20T11:00", letter("unknown_version", 9, &of_globex)),
        ("20T11:00", NewRecord { value: b"of another program".to_vec(), ..NewRecord::default() }),
    ] {
        log.append(time, Topic::DeadLetters, record).await;
    }
    let all = Wanted::default;
    for (wanted, expected) in [
        (all(), "2 / 1 / 0"),
        (Wanted { reason: Some(RejectReason::BadValue), ..all() }, "1 / 0 / 0"),
        (Wanted { reason: Some(RejectReason::NotJson), ..all() }, "0 / 0 / 0"),
        (Wanted { tenant: Some("acme".to_owned()), ..all() }, "1 / 1 / 0"),
        (Wanted { tenant: Some("globex".to_owned()), ..all() }, "1 / 0 / 0"),
        (Wanted { since: Some(at("20T10:02")), ..all() }, "1 / 1 / 0"),
    ] {
        assert_eq!(survey_of(&log, wanted.clone()).await.0, expected, "{wanted:?}");
    }
    let (_, survey) = survey_of(&log, all()).await;
    assert_eq!(survey.foreign, 1);
    let ((reason, _), (_, examples)) = survey.rejected.first_key_value().unwrap();
    assert_eq!((reason.as_str(), examples.len()), ("missing_field", 1));
    assert!(examples[0].ends_with("/jwtrail.events/2/8"), "{examples:?}");

    log.now.store(at("28T10:00").get(), Ordering::Relaxed);
    let acme = Wanted { tenant: Some("acme".to_owned()), ..all() };
    for expected in [1, 0] {
        let (_, survey) = survey_of(&log, acme.clone()).await;
        let letters = Letters { log: log.journal.as_ref(), bounds: bounds(), wanted: acme.clone() };
        assert_eq!(letters.bring_back(&survey, |_| ()).await.unwrap(), expected);
    }
    assert_eq!(survey_of(&log, all()).await.0, "1 / 1 / 1");

    let home = crate::log::home_partition(b"acme\x1falice", 4);
    let mut scan = log.journal.scan(Topic::Events, home, None).await.unwrap();
    let mut batch = Batch::default();
    assert!(scan.next(&mut batch, 10).await.unwrap());
    assert_eq!(batch.len(), 1);
    let record = batch.iter().next().unwrap();
    let decoded = decode::decode(&record, &bounds()).unwrap();
    let first = decoded.origin.unwrap();
    assert_eq!((first.partition, first.offset), (PartitionId(2), Offset::new(7).unwrap()));
    assert_eq!(first.append_time, at("20T10:00"));
    assert_eq!(decoded.event.time, at("20T09:59"), "judged as of its first arrival");
    let WayOut::Alerted(alerted) = walk(home).step(&record) else { panic!("it is at home and an event") };
    assert_eq!(alerted.enriched.checked.attested_by.as_deref(), Some(verify::DOOR_KEY_ID));
}

/// The answers are lost if it dies between its two appends: the next one brings the same letters back, perhaps much later.
#[tokio::test]
async fn a_letter_that_is_brought_back_twice_says_that_it_may_be_there_already() {
    let log = TestJournal::new().await;
    log.append("20T10:05", Topic::DeadLetters, letter("bad_value", 7, &used("alice", PARIS, "20T09:59")))
        .await;
    let (_, unanswered) = survey_of(&log, Wanted::default()).await;
    for time in ["20T11:00", "20T12:00"] {
        log.now.store(at(time).get(), Ordering::Relaxed);
        let letters = Letters { log: log.journal.as_ref(), bounds: bounds(), wanted: Wanted::default() };
        assert_eq!(letters.bring_back(&unanswered, |_| ()).await.unwrap(), 1);
    }
    let home = crate::log::home_partition(b"acme\x1falice", 4);
    let mut scan = log.journal.scan(Topic::Events, home, None).await.unwrap();
    let mut batch = Batch::default();
    assert!(scan.next(&mut batch, 10).await.unwrap());
    assert_eq!(batch.len(), 2);
    for record in batch.iter() {
        let event = decode::decode(&record, &bounds()).unwrap();
        let retried = event.retried.expect("it is looked up before it is walked");
        // Copies of it are younger than what it is a letter about.
        assert_eq!(retried.since, at("20T10:00"));
        let name = (retried.tenant.as_str(), retried.gateway.as_str(), retried.event_id);
        assert_eq!(name, ("acme", "edge-1", event.event.id));
    }
}

#[tokio::test]
async fn no_letter_makes_its_event_younger_than_itself() {
    let log = TestJournal::new().await;
    let mut forged = letter("bad_value", 7, &used("alice", PARIS, "30T10:00"));
    forged.headers[2].1 = at("30T10:00").get().to_string().into_bytes();
    log.append("20T10:00", Topic::DeadLetters, forged).await;
    let (_, survey) = survey_of(&log, Wanted::default()).await;
    let letters = Letters { log: log.journal.as_ref(), bounds: bounds(), wanted: Wanted::default() };
    letters.bring_back(&survey, |_| ()).await.unwrap();
    let home = crate::log::home_partition(b"acme\x1falice", 4);
    let mut scan = log.journal.scan(Topic::Events, home, None).await.unwrap();
    let mut batch = Batch::default();
    scan.next(&mut batch, 10).await.unwrap();
    let decoded = decode::decode(&batch.iter().next().unwrap(), &bounds()).unwrap();
    assert_eq!(decoded.origin.unwrap().append_time, at("20T10:00"));
}

// ---- findings -----------------------------------------------------------------------------------------------------

fn rows(rows: impl IntoIterator<Item = (u32, Finding)>) -> FindingRows {
    let mut findings = FindingRows::default();
    rows.into_iter()
        .for_each(|(partition, finding)| findings.extend((Topic::Events, PartitionId(partition)), [finding]));
    findings
}

#[test]
fn rows_fold_as_the_view_folds_them() {
    let mut weak = finding(RuleId::TokenLeak, Severity::Low, 9);
    (weak.case.state, weak.case.title) = (CaseState::Closed, "the weak one".to_owned());
    weak.case.token_refs = vec!["zz".into(), "kq0".into()];
    let mut strong = finding(RuleId::TokenLeak, Severity::High, 5);
    strong.case.confidence = Confidence::High;
    let folded = rows([(0, weak.clone()), (1, strong.clone())]).folded();
    let [folded] = &folded[..] else { panic!("one case: {folded:?}") };
    assert_eq!((folded.case.severity, folded.case.confidence), (Severity::High, Confidence::High));
    assert_eq!((&*folded.case.title, folded.case.state), (&*strong.case.title, CaseState::Open));
    assert_eq!((folded.case.revision, folded.case.event_count), (weak.case.revision, 4));
    assert_eq!((folded.is_alert, folded.not_alerted), (true, None), "somebody was told");
    assert_eq!(folded.case.last_time, weak.case.last_time);
    assert_eq!(folded.case.token_refs, ["kq0", "zz"]);
    assert_eq!(rows([(1, strong.clone()), (0, weak)]).folded()[0], *folded, "in any order");
    let mut as_strong = strong.clone();
    as_strong.case.title = "the higher partition's".to_owned();
    let folded = rows([(3, as_strong.clone()), (1, strong)]).folded();
    assert_eq!(folded[0].case.title, as_strong.case.title);
}

#[test]
fn a_comparison_tells_what_is_missing_unfounded_and_other_and_leaves_out_what_grew_since() {
    let case = |rule, revision| finding(rule, Severity::High, revision);
    let id = |rule| (case(rule, 0).case.finding_id, Topic::Events, PartitionId(0));
    let end = Offset::new(10).unwrap();
    let piece = |partition, is_whole| Piece {
        topic: Topic::Events,
        partition: PartitionId(partition),
        first: Offset::ZERO,
        end,
        is_whole,
        from_the_first: true,
    };
    let pieces = [piece(0, true), piece(1, false)];
    let mut other = case(RuleId::TokenLeak, 3);
    other.case.event_count = 77;
    let findings = rows([
        (0, case(RuleId::ImpossibleTravel, 3)),
        (0, case(RuleId::TokenReplay, 3)),
        (0, case(RuleId::TokenLeak, 3)),
        (0, case(RuleId::SharedToken, 3)),
        // Its partition is not whole.
        (1, case(RuleId::ImpossibleTravel, 3)),
    ]);
    let stored = [
        (id(RuleId::ImpossibleTravel), case(RuleId::ImpossibleTravel, 3)),
        (id(RuleId::TokenLeak), other),
        (id(RuleId::SharedToken), case(RuleId::SharedToken, 10)),
        (id(RuleId::AuditGap), case(RuleId::AuditGap, 4)),
        (id(RuleId::GatewaySilent), case(RuleId::GatewaySilent, 11)),
    ];
    let compared = Comparison::of(&findings, &stored.into(), &pieces);
    let expected = Comparison {
        equal: 1,
        missing: vec![id(RuleId::TokenReplay)],
        unfounded: vec![id(RuleId::AuditGap)],
        differing: vec![(id(RuleId::TokenLeak), vec!["event_count".to_owned()])],
    };
    assert_eq!(compared, expected);
    assert!(!compared.is_clean());
}

#[test]
fn a_journey_may_be_louder_where_it_is_not_known_what_is_usual() {
    fn check(rule: RuleId, (found, stored): (Severity, Severity), from_the_first: bool, differ: bool) {
        let of = |severity| finding(rule, severity, 3);
        let (topic, partition) = (Topic::Events, PartitionId(0));
        let (first, end) = (Offset::ZERO, Offset::new(10).unwrap());
        let piece = Piece { topic, partition, first, end, is_whole: true, from_the_first };
        let stored = [((of(stored).case.finding_id, topic, partition), of(stored))];
        let compared = Comparison::of(&rows([(0, of(found))]), &stored.into(), &[piece]);
        assert_eq!(!compared.is_clean(), differ, "{rule}: {compared}");
    }
    let (low, medium) = (Severity::Low, Severity::Medium);
    check(RuleId::ImpossibleTravel, (medium, low), false, false);
    check(RuleId::ImpossibleTravel, (medium, low), true, true);
    check(RuleId::ImpossibleTravel, (low, medium), false, true);
    check(RuleId::TokenReplay, (medium, low), false, true);
}
