//! Another log under the same ClickHouse: a wiped journal, a move from the journal to Kafka, a recreated topic. Offsets
//! begin again, and neither may old rows hide new ones nor old insert tokens swallow them.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use serde_json::Value;

use crate::app::{TestApp, wait_for};
use crate::attacks::accepted;
use crate::kafka::Broker;

const EVENTS: usize = 20;

/// Posts the same events under new ids: the same keys, partitions and offsets as in every other log.
async fn post(app: &TestApp, series: &str) {
    let events: Vec<Value> = (0..EVENTS)
        .map(|number| {
            let mut event = accepted(&format!("user-{number}"), series, "203.0.113.7", "Firefox");
            event["id"] = format!("{series}-{number}").into();
            event
        })
        .collect();
    let (status, answer) = app.post(&Value::from(events).to_string()).await;
    assert_eq!(status, 202, "{answer}");
}

/// All events of so many series are there once, each series in logs of its own.
async fn assert_series(app: &TestApp, series: usize) {
    let rows = EVENTS * series;
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", &format!("{rows}\t{rows}")).await;
    let logs = "SELECT uniqExact(logs), any(logs) FROM \
                (SELECT partition, uniqExact(log) AS logs FROM events GROUP BY partition)";
    app.eventually(logs, &format!("1\t{series}")).await;
    app.assert_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_journal_is_another_log() {
    let app = TestApp::new("");
    let up = app.up().await;
    post(&app, "first").await;
    assert_series(&app, 1).await;
    assert!(up.stop().await.success());
    std::fs::remove_dir_all(app.path("data/journal")).unwrap();
    let up = app.up().await;
    post(&app, "second").await;
    assert_series(&app, 2).await;
    assert!(up.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_from_the_journal_to_kafka_and_a_recreated_topic_are_other_logs() {
    let broker = Broker::start();
    let app = TestApp::new("");
    let up = app.up().await;
    post(&app, "journal").await;
    app.eventually("SELECT count() FROM events", &EVENTS.to_string()).await;
    assert!(up.stop().await.success());

    // The partitions of both logs are numbered from 0; Kafka has more of them.
    let mut up = app.start(&["up", "--brokers", &broker.address()]);
    app.ready(&mut up).await;
    post(&app, "kafka").await;
    let both = (EVENTS * 2).to_string();
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", &format!("{both}\t{both}")).await;
    app.assert_complete().await;
    assert!(up.stop().await.success());

    recreate(&broker.address(), "jwtrail.events").await;
    let mut up = app.start(&["up", "--brokers", &broker.address()]);
    app.ready(&mut up).await;
    post(&app, "recreated").await;
    let all = (EVENTS * 3).to_string();
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", &format!("{all}\t{all}")).await;
    app.assert_complete().await;
    assert!(up.stop().await.success());
}

/// Deletes the topic, with its group's commits still there; `up` makes it anew.
async fn recreate(broker: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
    admin.delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
    wait_for("the topic to be gone", async || {
        let metadata = admin.inner().fetch_metadata(None, std::time::Duration::from_secs(5)).ok()?;
        (!metadata.topics().iter().any(|there| there.name() == topic)).then_some(())
    })
    .await;
}
