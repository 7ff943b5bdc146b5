//! Separate processes over a real Kafka, fed by kcat without keys.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::app::{Running, TestApp, wait_for};
use crate::kafka::{Broker, signal};
use crate::receiver::Receiver;

/// A complete event, as `schemas/events/` wants it.
pub(crate) fn event(number: usize, sub: &str, ip: &str, user_agent: &str, time: &str) -> Value {
    let token_ref = format!("{:0>43}", format!("{sub}-ref").replace(['@', '.'], "-"));
    json!({
        "version": 1, "id": format!("018f0000-0000-7000-8000-{number:012x}"), "kind": "accepted", "time": time,
        "tenant": "acme", "source": {"gateway": "edge-1", "zone": "edge"},
        "token": {"ref": token_ref, "iss": "https://id.example/t/acme", "sub": sub},
        "request": {"ip": ip, "user_agent": user_agent}, "gateway_verdict": "valid",
    })
}

/// RFC 3339, as a gateway's clock says it.
pub(crate) fn now() -> String {
    #[expect(clippy::disallowed_methods, reason = "the test is the gateway: it has a clock of its own")]
    jiff::Timestamp::now().to_string()
}

/// Writes each line as a record without a key.
fn kcat(broker: &str, lines: &[String]) {
    let mut kcat = Command::new("kcat")
        .args(["-P", "-b", broker, "-t", "jwtrail.events"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat runs; `make check-test-tools` installs it");
    kcat.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
}

/// A Kafka and a ClickHouse, migrated, and a receiver: everything but the roles.
pub(crate) struct Deployment {
    pub(crate) app: TestApp,
    pub(crate) broker: Broker,
    receiver: Receiver,
    /// It only lends its ClickHouse to the roles.
    _clickhouse: (TestApp, Running),
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        let broker = Broker::start();
        let receiver = Receiver::start().await;
        let lender = TestApp::new("");
        let up = lender.up().await;
        let config = format!(
            "{}[kafka]\nbrokers = \"{}\"\n[kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n",
            receiver.destination(),
            broker.address()
        );
        let app = TestApp::lent(&config, &lender);
        let migrated = app.command(&["migrate"]).output().unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        Self { app, broker, receiver, _clickhouse: (lender, up) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keyless_records_are_rows_are_brought_home_and_alert_across_partitions_whatever_is_killed() {
    let deployment = Deployment::start().await;
    let app = &deployment.app;
    let mut run = app.start(&["run"]);
    let deliver = app.start(&["deliver"]);
    let now = now();
    let (mut sent, rounds) = (0, 3);
    for round in 0..rounds {
        let mut lines = Vec::new();
        for number in 0..300 {
            lines.push(
                event(sent + number, &format!("user-{number}"), "203.0.113.7", "Firefox/145.0", &now)
                    .to_string(),
            );
        }
        let victim = format!("victim-{round}");
        // kcat gives each of its runs' records to partitions at random: the two ends seldom lie together.
        lines.push(event(sent + 300, &victim, "203.0.113.9", "Mozilla/5.0 Firefox/145.0", &now).to_string());
        lines.push(
            event(sent + 301, &victim, "198.51.100.9", "Mozilla/5.0 Chrome/142.0.0.0", &now).to_string(),
        );
        sent += lines.len();
        kcat(&deployment.broker.address(), &lines);
        app.eventually("SELECT count() > 0 FROM events", "1").await;
        run.kill();
        run = app.start(&["run"]);
    }
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", &format!("{sent}\t{sent}")).await;
    app.eventually("SELECT count() > 0 FROM events WHERE origin_offset IS NOT NULL", "1").await;
    app.assert_complete().await;
    let travel =
        || deployment.receiver.deliveries().into_iter().filter(|one| one.data("rule") == "impossible_travel");
    wait_for("an alert a round", async || (travel().count() >= rounds).then_some(())).await;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in travel() {
        *told.entry(delivery.id.clone()).or_default() += 1;
    }
    // Only `run` was killed: every step is told exactly once.
    assert!(told.len() == rounds && told.values().all(|times| *times == 1), "{told:?}");
    assert!(run.stop().await.success());
    assert!(deliver.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_an_event_is_a_dead_letter_with_its_reason_and_the_rest_goes_on() {
    let deployment = Deployment::start().await;
    let app = &deployment.app;
    let run = app.start(&["run"]);
    let good = |number| event(number, "alice", "203.0.113.7", "Firefox/145.0", &now());
    let with = |name: &str, value: Value| {
        let mut event = good(99);
        event[name] = value;
        event.to_string()
    };
    let mut deep = json!(1);
    for _ in 0..20 {
        deep = json!([deep]);
    }
    let login = json!({"username": "alice", "reason": "bad_password"});
    let mut unsigned_login = good(98);
    unsigned_login["kind"] = json!("login_failed");
    unsigned_login["login"] = login;
    let lines = [
        good(1).to_string(),
        "no JSON".to_owned(),
        with("version", json!(2)),
        with("kind", json!("stolen")),
        with("time", json!(7)),
        with("tenant", json!("Not A Name")),
        with("surplus", deep),
        with("surplus", json!("x".repeat(40_000))),
        unsigned_login.to_string(),
        good(2).to_string(),
    ];
    kcat(&deployment.broker.address(), &lines);
    let reasons = [
        "bad_type",
        "bad_value",
        "issuer_signature_invalid",
        "not_json",
        "too_deep",
        "too_large",
        "unknown_kind",
        "unknown_version",
    ];
    let expected: Vec<String> = reasons.iter().map(|reason| format!("{reason}\t1")).collect();
    app.eventually(
        "SELECT reason, count() FROM rejects FINAL GROUP BY reason ORDER BY reason",
        &expected.join("\n"),
    )
    .await;
    app.eventually("SELECT count() FROM events", "2").await;
    app.assert_complete().await;
    let metrics = || async {
        reqwest::get(format!("http://{}/metrics", app.run_metrics)).await.ok()?.text().await.ok()
    };
    for reason in reasons {
        let line = format!("jwtrail_records_dead_lettered_total{{reason=\"{reason}\"}} 1");
        wait_for(&line, async || metrics().await.filter(|metrics| metrics.contains(&line))).await;
    }
    let letters = Command::new("kcat")
        .args([
            "-C",
            "-e",
            "-q",
            "-b",
            &deployment.broker.address(),
            "-t",
            "jwtrail.dead-letters",
            "-f",
            "%h\n",
        ])
        .output()
        .unwrap();
    let letters = String::from_utf8(letters.stdout).unwrap();
    for reason in reasons {
        assert!(letters.contains(&format!("jwtrail-reason={reason}")), "{reason} is not in\n{letters}");
    }
    assert!(run.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_that_wakes_up_stores_nothing() {
    let deployment = Deployment::start().await;
    let app = &deployment.app;
    let sleeper = app.start(&["run"]);
    let now = now();
    let lines = |from: usize, count: usize| -> Vec<String> {
        let one = |number| {
            event(number, &format!("user-{number}"), "203.0.113.7", "Firefox/145.0", &now).to_string()
        };
        (from..from + count).map(one).collect()
    };
    kcat(&deployment.broker.address(), &lines(0, 200));
    app.eventually("SELECT count() FROM events", "200").await;
    signal(sleeper.pid(), "STOP");
    kcat(&deployment.broker.address(), &lines(200, 200));
    let heir_app = app.sibling();
    let heir = heir_app.start(&["run"]);
    // The group gives the sleeper's partitions away once its session has timed out.
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", "400\t400").await;
    signal(sleeper.pid(), "CONT");
    kcat(&deployment.broker.address(), &lines(400, 200));
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", "600\t600").await;
    app.assert_complete().await;
    assert!(heir.stop().await.success());
    assert!(sleeper.stop().await.success());
}
