//! `jwtrail replay`: what the log says again, held against what ClickHouse has; dead letters back into the log.

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::attacks::{CHROME, FIREFOX, PARIS, TOKYO, accepted};
use crate::kafka::Broker;

/// `jwtrail replay …`, with its standard output if it succeeded, else its standard error.
fn replay(app: &TestApp, args: &[&str]) -> Result<String, String> {
    let output = app.command(&[&["replay"], args].concat()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn assert_says(said: &str, expected: &[&str]) {
    for words in expected {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
}

/// One session in Paris and in Tokyo: two cases.
async fn attack(app: &TestApp, sub: &str) {
    for (ip, user_agent) in [(PARIS, FIREFOX), (TOKYO, CHROME)] {
        let (status, answer) = app.post(&accepted(sub, "stolen", ip, user_agent).to_string()).await;
        assert_eq!(status, 202, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_says_again_what_was_found_once_nobody_else_holds_it() {
    let app = TestApp::new("");
    let nothing = replay(&app, &[]).unwrap_err();
    assert_says(&nothing, &["there is no journal in"]);
    let up = app.up().await;
    attack(&app, "alice").await;
    app.eventually("SELECT count() FROM findings WHERE is_alert", "2").await;
    let ids = app.query("SELECT toString(finding_id) AS id FROM findings ORDER BY id").await.unwrap();
    let held = replay(&app, &[]).unwrap_err();
    assert_says(&held, &["the journal belongs to `jwtrail up` while that runs: stop it"]);
    assert!(up.stop().await.success());

    let lines = replay(&app, &["--json"]).unwrap();
    let findings: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = findings.iter().map(|finding| finding["finding_id"].as_str().unwrap()).collect();
    assert_eq!(found.join("\n"), ids);
    let text = replay(&app, &[]).unwrap();
    assert_says(
        &text,
        &["HIGH  impossible_travel  default/alice", "Paris, FR", "Tokyo, JP", "2 cases, 2 of them alerts"],
    );
    let before = replay(&app, &["--to", "2020-01-01T00:00:00Z"]).unwrap();
    assert_says(&before, &["0 cases"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_has_what_kafka_says_and_dead_letters_go_back_once() {
    let broker = Broker::start();
    let brokers = broker.address();
    let app = TestApp::new("");
    let mut up = app.start(&["up", "--brokers", &brokers]);
    app.ready(&mut up).await;
    attack(&app, "alice").await;
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let junk = FutureRecord::<str, str>::to("jwtrail.events").payload("junk");
    producer.send(junk, std::time::Duration::from_secs(30)).await.unwrap();
    app.eventually("SELECT count() FROM findings WHERE is_alert", "2").await;
    app.eventually("SELECT count() FROM rejects", "1").await;

    let compared = replay(&app, &["--brokers", &brokers, "--compare"]).unwrap();
    assert_says(&compared, &["2 equal, 0 missing, 0 unfounded, 0 differing"]);
    // A row that nothing in the log accounts for.
    let forged = "INSERT INTO finding_rows \
                  SELECT * REPLACE (generateUUIDv4() AS finding_id) FROM finding_rows LIMIT 1";
    app.query(forged).await.unwrap();
    let compared = replay(&app, &["--brokers", &brokers, "--compare"]).unwrap_err();
    assert_says(&compared, &["the log and ClickHouse differ"]);

    // What an earlier version, say, could not read.
    let event = json!({
        "version": 1, "id": "019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42", "kind": "accepted", "tenant": "default",
        "time": "2026-11-23T10:15:00Z", "source": {"gateway": "edge-1", "zone": "edge"}, "gateway_verdict": "valid",
        "token": {"ref": "hXRBD-Nn5X-eJxvdPiVIgD3BO2zeDFieuabZ9gBx9Kc", "iss": "https://id.example", "sub": "dave"},
        "request": {"ip": PARIS},
    })
    .to_string();
    let origin = format!("{}/jwtrail.events/3/17", "a".repeat(32));
    let headers = [
        ("jwtrail-reason", "bad_value"),
        ("jwtrail-origin", &origin),
        ("jwtrail-append-ms", "1795428900000"),
    ];
    let headers = headers.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let letter = FutureRecord::<str, str>::to("jwtrail.dead-letters").payload(&event).headers(headers);
    producer.send(letter, std::time::Duration::from_secs(30)).await.unwrap();
    let letters =
        |more: &[&str]| replay(&app, &[&["--brokers", &brokers, "--dead-letters"], more].concat()).unwrap();
    let dry = letters(&["--dry-run"]);
    assert_says(&dry, &["1 are events by now", "1 are still rejected: not_json"]);
    assert_says(&letters(&[]), &["1 went back into the log"]);
    app.eventually("SELECT origin_partition, origin_offset FROM events WHERE sub = 'dave'", "3\t17").await;
    assert_says(&letters(&[]), &["0 are events by now", "1 went back before"]);
    app.assert_complete().await;
    assert!(up.stop().await.success());
}
