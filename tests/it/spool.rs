//! Kafka is away while gateways post: what the door took is stored, once, whatever is killed meanwhile.

use serde_json::Value;

use crate::app::{TestApp, wait_for};
use crate::attacks::accepted;
use crate::kafka::Broker;

const BATCH: usize = 250;

/// Posts a batch of events that nobody has sent before.
async fn send(app: &TestApp, sent: &mut usize) {
    let batch: Vec<Value> = (*sent..*sent + BATCH)
        .map(|number| {
            let mut event = accepted(&format!("user-{}", number % 40), "a token", "203.0.113.7", "Firefox");
            event["id"] = format!("event-{number}").into();
            event
        })
        .collect();
    let (status, answer) = app.post(&Value::from(batch).to_string()).await;
    assert_eq!((status, answer["accepted"].as_u64()), (202, Some(BATCH as u64)), "{answer}");
    *sent += BATCH;
}

async fn page(app: &TestApp, path: &str) -> Option<String> {
    reqwest::get(format!("http://{}{path}", app.api)).await.ok()?.text().await.ok()
}

async fn until_metric(app: &TestApp, what: &str, is_so: impl Fn(u64) -> bool) {
    wait_for(what, async || {
        let metrics = page(app, "/metrics").await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '))?;
        line.parse().ok().filter(|value| is_so(*value))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_door_takes_while_kafka_is_away_is_stored_once_whatever_is_killed() {
    let mut broker = Broker::start();
    let lender = TestApp::new("");
    let up = lender.up().await;
    let app = TestApp::lent(&format!("[kafka]\nbrokers = \"{}\"\n", broker.address()), &lender);
    let migrated = app.command(&["migrate"]).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let run = app.start(&["run"]);
    let mut serve = app.start(&["serve"]);
    app.ready(&mut serve).await;
    let mut sent = 0;
    send(&app, &mut sent).await;

    broker.kill();
    for _ in 0..3 {
        send(&app, &mut sent).await;
        send(&app, &mut sent).await;
        // What was answered is on the disk.
        serve.kill();
        serve = app.start(&["serve"]);
        // A door that spools is ready, and says so.
        app.ready(&mut serve).await;
    }
    let held_back = sent - BATCH;
    until_metric(&app, "jwtrail_spool_records", |records| records == held_back as u64).await;
    wait_for("the age", async || page(&app, "/readyz").await?.contains("wait for the log").then_some(()))
        .await;

    broker.restart();
    for _ in 0..2 {
        until_metric(&app, "jwtrail_spool_records_drained_total", |records| records > 0).await;
        serve.kill();
        serve = app.start(&["serve"]);
        app.ready(&mut serve).await;
        // Behind what is still there.
        send(&app, &mut sent).await;
        if page(&app, "/metrics").await.is_some_and(|metrics| metrics.contains("jwtrail_spool_records 0\n")) {
            break;
        }
    }
    let rows = format!("{sent}\t{sent}");
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", &rows).await;
    until_metric(&app, "jwtrail_spool_records", |records| records == 0).await;
    app.assert_complete().await;
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", &rows).await;
    assert!(serve.stop().await.success());
    assert!(run.stop().await.success());
    drop((up, broker));
}
