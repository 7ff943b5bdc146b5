//! Rows read back from a real ClickHouse are the events that were walked, and are walked as they were.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::row::Signing;
use super::trail::Moment;
use super::*;
use crate::clickhouse::testing::Database;
use crate::config::{Signatures, Tenant};
use crate::log::Batch;
use crate::model::{Flags, NotAlerted, Offset, RuleId, Severity};
use crate::pipeline::Snapshots;
use crate::pipeline::decode::tests::properties;
use crate::pipeline::decode::{Decoded, decode};
use crate::pipeline::store::testing::{TestLog, block_at, bounds, event, finding, push_batch, received};
use crate::pipeline::store::{Patience, Put, Store};
use crate::pipeline::{alert, detect, enrich, verify};

/// Stores each value as the record at its index.
async fn store(database: &Database, values: &[Vec<u8>]) {
    let mut batch = Batch::default();
    for (offset, value) in (0..).zip(values) {
        batch.push(Offset::new(offset).unwrap(), received(offset), None, value, []);
    }
    let mut block = block_at(0);
    push_batch(&mut block, &batch);
    let last = Offset::new(i64::try_from(values.len()).unwrap() - 1).unwrap();
    let log = TestLog::new().await;
    let store = Store::new(database.client.clone(), log.journal.clone());
    store.put(&block.cut(last), Put::First, &Patience::default()).await.unwrap();
}

fn with_decoded<T>(offset: i64, value: &[u8], look: impl FnOnce(Decoded<'_>) -> T) -> Option<T> {
    let mut batch = Batch::default();
    batch.push(Offset::new(offset).unwrap(), received(offset), None, value, []);
    let record = batch.iter().next().unwrap();
    decode(&record, &bounds()).ok().map(look)
}

/// What must be the same. A row does not tell what is empty from what is absent.
fn facts(decoded: &Decoded<'_>) -> (Value, Option<UnixMs>, Flags, Vec<String>) {
    let mut event = serde_json::to_value(&decoded.event).unwrap();
    drop_empty(&mut event);
    let mut leaks: Vec<String> = decoded.leaks.iter().map(|leak| format!("{leak:?}")).collect();
    leaks.sort();
    (event, decoded.event.claimed_time, decoded.flags, leaks)
}

fn drop_empty(value: &mut Value) {
    if let Value::Object(members) = value {
        members.values_mut().for_each(drop_empty);
        members.retain(|_, member| *member != json!("") && *member != json!({}));
    }
}

fn door() -> hmac::Key {
    keys::door(&ingest_key())
}

fn ingest_key() -> Secret {
    Secret::new("the tests' own".to_owned())
}

/// Events with members made otherwise, each with an id of its own.
fn generated(count: usize) -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let any_event = properties::event();
    let numbered = |number: usize| {
        let mut event = any_event.new_tree(&mut runner).unwrap().current();
        event["id"] = json!(Uuid::from_u128(number as u128));
        if number.is_multiple_of(3) {
            event["kind"] = json!("rejected");
        }
        event.to_string().into_bytes()
    };
    (0..count).map(numbered).collect()
}

#[tokio::test]
async fn what_is_read_back_is_the_event_that_was_walked() {
    let database = Database::new().await;
    let mut values = generated(400);
    values.push(event("accepted", "alice"));
    store(&database, &values).await;
    let mut compared = 0;
    for (offset, value) in (0..).zip(&values) {
        let Some((id, expected)) = with_decoded(offset, value, |decoded| (decoded.event.id, facts(&decoded)))
        else {
            continue;
        };
        let row = trail::event(&database.client, id).await.unwrap().expect("the event is a row");
        assert_eq!(row.offset, u64::try_from(offset).unwrap());
        let again = row.to_record(&Signing { door: door(), ledger: None }).value;
        let again = with_decoded(offset, &again, |decoded| facts(&decoded)).expect("the row is an event");
        assert_eq!(again, expected, "{}", String::from_utf8_lossy(value));
        compared += 1;
    }
    assert!(compared > 100, "most of what is generated must be events: {compared}");
}

#[test]
fn a_story_says_why_nobody_was_told() {
    let check = |severity, not_alerted: Option<NotAlerted>, suppressed_by: &str, expected: &str| {
        let mut told = finding(RuleId::TokenReplay, severity, 1);
        told.is_alert = not_alerted.is_none();
        (told.not_alerted, told.suppressed_by) = (not_alerted, suppressed_by.to_owned());
        let suppression = Suppression {
            name: "ann: pen test".to_owned(),
            rule: RuleId::TokenReplay,
            tenant: None,
            sub: None,
            client_id: None,
            gateway: None,
            cidr: None,
            expires: received(60),
        };
        let story = Story::new(told, Vec::new(), &[suppression]).to_string();
        assert!(story.contains(&format!("  told     {expected}\n")), "{story}");
        assert!(story.contains("  lowered  by vpn\n") && story.contains(", open, 2 matches\n"), "{story}");
    };
    check(Severity::High, None, "", "an alert");
    check(Severity::Low, Some(NotAlerted::Severity), "", "no alert: severity low is below medium");
    check(Severity::High, Some(NotAlerted::Confidence), "", "no alert: confidence medium is below medium");
    let (suppressed, muted) = (Some(NotAlerted::Suppressed), "no alert: suppressed by ann: pen test");
    check(Severity::High, suppressed, "ann: pen test", &format!("{muted}, until 2026-11-23T10:16:01.000Z"));
    check(Severity::High, suppressed, "bob: holiday", "no alert: suppressed by bob: holiday");
}

#[test]
fn no_control_character_of_a_name_reaches_the_terminal() {
    let mut case = finding(RuleId::TokenReplay, Severity::High, 1);
    case.case.sub = "\u{1b}[2Jalice\nroot".to_owned();
    case.case.summary = "\u{9b}2J\r".to_owned();
    let events = vec![json!({"event_id": "\u{7}", "city": "\u{1b}[2J"})];
    let story = Story::new(case, events, &[]).to_string();
    let bad = story.chars().filter(|character| character.is_control() && *character != '\n');
    assert_eq!(bad.collect::<String>(), "");
    assert!(!story.contains("\nroot"), "{story}");
}

#[tokio::test]
async fn a_history_is_the_subjects_newest_rows_before_the_moment() {
    let database = Database::new().await;
    let values: Vec<Vec<u8>> =
        ["alice", "bob", "alice", "alice", "alice", "alice"].map(|sub| event("accepted", sub)).into();
    store(&database, &values).await;
    let history = async |offset: i64, max_rows| {
        let before = Moment { received_at: received(offset), offset: offset.unsigned_abs() };
        let history = trail::history(&database.client, "acme", "alice", before, max_rows).await.unwrap();
        (history.rows.iter().map(|row| row.offset).collect::<Vec<_>>(), history.cut)
    };
    assert_eq!(history(4, 10).await, (vec![0, 2, 3], false));
    assert_eq!(history(4, 3).await, (vec![0, 2, 3], false));
    assert_eq!(history(4, 2).await, (vec![2, 3], true));
    assert_eq!(history(0, 10).await, (vec![], false));
    let hours = |hours: i64| hours * 3_600;
    assert_eq!(history(hours(50), 10).await.0, [0, 2, 3, 4, 5]);
    assert_eq!(history(hours(50) + 3, 10).await.0, [3, 4, 5]);
}

#[tokio::test]
async fn what_was_attested_is_attested_again() {
    let database = Database::new().await;
    store(&database, &[event("accepted", "alice"), event("accepted", "alice")]).await;
    let tenant = Tenant { retention_days: 90, signatures: Signatures::Require };
    let tenants = HashMap::from([("acme".parse().unwrap(), tenant)]);
    let snapshots = Snapshots {
        name: "test".into(),
        verify: Arc::new(verify::Trust::build(&[], &tenants, &[], door()).unwrap()),
        enrich: Arc::new(enrich::Atlas::load(&Default::default()).unwrap()),
        detect: Arc::new(detect::Rulebook::default()),
        alert: Arc::new(alert::Policy::default()),
    };
    let bounds = Bounds { partitions: 1, ..bounds() };
    let source: SnapshotSource = Arc::new(move || snapshots.clone());
    let explainer = Explainer::new(database.client.clone(), bounds, source, Vec::new(), &ingest_key());
    let id = "019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42".parse().unwrap();
    let Some(Found::Event(explained)) = explainer.find(id).await.unwrap() else { panic!("no event") };
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!((&json["verdict"], &json["proof"]), (&json!("valid"), &json!("gateway_attested")), "{json:#}");
    // The fixture's row was placed with files that this test does not have.
    assert!(explained.to_string().contains("city: its row says `Paris`, now it is nothing"), "{explained}");

    // One that is not signed is not believed.
    let record = NewRecord { value: event("accepted", "alice"), ..NewRecord::default() };
    let posted = || Posted { id, tenant: "acme".to_owned(), sub: "alice".to_owned(), record: record.clone() };
    let explained = explainer.posted(vec![posted()], Past::Known, received(2)).await.unwrap().remove(0);
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!((&json["verdict"], &json["state"]["rows"]), (&json!("unattested"), &json!(2)), "{json:#}");
    assert_eq!(explained.rules[0].why, "not eligible: the record lacks the signature its tenant requires");
    assert!(explainer.find(Uuid::nil()).await.unwrap().is_none());

    // Who may not know the past is told nothing of it.
    let posted = vec![posted(), posted()];
    let explained = explainer.posted(posted, Past::LeftOut, received(2)).await.unwrap().remove(1);
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!((&json["state"]["rows"], &json["state"]["posted_before"]), (&json!(0), &json!(1)), "{json:#}");
}
