//! Completeness of the audit: what gateways counted against what is in the log, and who fell silent.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::app::{TestApp, wait_for};
use crate::attacks::{FIREFOX, PARIS, accepted};

/// Heartbeats come and are missed within seconds.
const QUICKLY: &str = "heartbeat_every = \"1s\"\n\
                       [[destination]]\nname = \"file\"\nkind = \"file\"\npath = \"{dir}/alerts.jsonl\"\n";

#[expect(clippy::disallowed_methods, reason = "a gateway's own clock")]
fn minutes_ago(minutes: u128) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    u64::try_from(now - minutes * 60_000).unwrap()
}

fn heartbeat(gateway: &str, epoch: &str, sent: u64, time: u64) -> String {
    let source = json!({"gateway": gateway, "zone": "edge", "epoch": epoch});
    json!({"time": time, "source": source, "heartbeat": {"sent": sent, "dropped": 0}}).to_string()
}

/// The first alert of a rule in the file that they are delivered to.
async fn alert(app: &TestApp, rule: &str) -> Value {
    wait_for("the alert in the file", async || {
        let text = std::fs::read_to_string(app.path("alerts.jsonl")).ok()?;
        let mut alerts = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        alerts.find(|alert| alert["data"]["rule"] == rule)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_gateway_counted_and_the_log_has_not_are_a_gap() {
    let app = TestApp::new(QUICKLY);
    let up = app.up().await;
    // One that only posts: the door counts for it, and its heartbeats make time pass.
    let (status, _) = app.post(&accepted("alice", "1", PARIS, FIREFOX).to_string()).await;
    assert_eq!(status, 202);
    app.eventually("SELECT count() FROM events WHERE gateway = 'default' AND source_epoch != ''", "1").await;
    let control = "SELECT sum(control) >= 5 FROM blocks FINAL WHERE topic = 'jwtrail.events'";
    app.eventually(control, "1").await;

    // One that counts itself. The lateness bound has passed for what it did.
    let time = minutes_ago(11);
    let mut events = Vec::new();
    for number in 0..90 {
        let mut event = accepted(&format!("user-{number}"), &number.to_string(), PARIS, FIREFOX);
        event["source"] = json!({"gateway": "counting", "zone": "edge", "epoch": "e1", "seq": number});
        event["time"] = json!(time);
        events.push(event);
    }
    let (status, answer) = app.post(&Value::from(events).to_string()).await;
    assert_eq!((status, answer["accepted"].as_u64()), (202, Some(90)), "{answer}");
    app.eventually("SELECT count() FROM events WHERE gateway = 'counting'", "90").await;
    app.post(&heartbeat("counting", "e1", 110, time)).await;
    app.eventually(
        "SELECT tenant, severity, confidence, topic, JSONExtractUInt(evidence, 'missing') FROM finding_rows FINAL \
         WHERE rule = 'audit_gap'",
        "_platform\thigh\thigh\tjwtrail.summaries\t20",
    )
    .await;
    app.eventually("SELECT gateway, state FROM findings WHERE rule = 'audit_gap'", "counting\topen").await;

    let told = alert(&app, "audit_gap").await;
    let shown = app.query(told["data"]["query"].as_str().unwrap()).await.unwrap();
    assert!(shown.contains("\t90\t0\t89"), "{shown}");

    // What comes late takes it back.
    let late = (0..20).map(|number| {
        let mut event = accepted(&format!("late-{number}"), &format!("late-{number}"), PARIS, FIREFOX);
        event["source"] = json!({"gateway": "counting", "zone": "edge", "epoch": "e1", "seq": 90 + number});
        event["time"] = json!(time);
        event
    });
    app.post(&Value::from(late.collect::<Vec<_>>()).to_string()).await;
    app.eventually("SELECT state FROM findings WHERE rule = 'audit_gap'", "withdrawn").await;
    app.assert_complete().await;
    assert!(up.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_falls_silent_is_told_until_it_speaks_and_one_that_was_stopped_is_noted() {
    let app = TestApp::new(QUICKLY);
    let up = app.up().await;
    app.post(&accepted("alice", "1", PARIS, FIREFOX).to_string()).await;
    app.post(&heartbeat("quiet", "e1", 0, minutes_ago(0))).await;
    let of = |gateway: &str| {
        format!(
            "SELECT severity, state FROM findings WHERE rule = 'gateway_silent' AND gateway = '{gateway}'"
        )
    };
    app.eventually(&of("quiet"), "medium\topen").await;
    assert_eq!(alert(&app, "gateway_silent").await["data"]["gateway"], "quiet");
    app.post(&heartbeat("quiet", "e1", 0, minutes_ago(0))).await;
    app.eventually(&of("quiet"), "medium\tclosed").await;
    assert_eq!(app.query(&of("default")).await.unwrap(), "", "the door spoke for it");

    assert!(up.stop().await.success());
    let up = app.up().await;
    app.eventually(&of("default"), "info\topen").await;
    assert!(up.stop().await.success());
}
