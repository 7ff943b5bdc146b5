//! kill -9 of the whole `up`, again and again, in mid-stream: nothing lost, nothing twice, no alert without its case.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::app::{TestApp, wait_for};
use crate::attacks::accepted;
use crate::receiver::Receiver;

const ROUNDS: usize = 4;
const EVENTS_A_ROUND: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_up_loses_nothing_and_doubles_nothing() {
    let receiver = Receiver::start().await;
    let app = TestApp::new(&receiver.destination());
    let mut sent = 0;
    for round in 0..ROUNDS {
        let up = app.up().await;
        let mut batch = Vec::new();
        for number in 0..EVENTS_A_ROUND {
            let mut event =
                accepted(&format!("user-{number}"), &format!("{round}-{number}"), "203.0.113.7", "Firefox");
            event["id"] = format!("{round}-{number}").into();
            batch.push(event);
        }
        // One attack a round: its two alerts must come whatever is killed when.
        for (end, ip) in ["203.0.113.7", "198.51.100.7"].into_iter().enumerate() {
            let mut event = accepted(
                &format!("victim-{round}"),
                &format!("stolen-{round}"),
                ip,
                ["Firefox/1", "Chrome/1"][end],
            );
            event["id"] = format!("{round}-attack-{end}").into();
            batch.push(event);
        }
        sent += batch.len();
        let (status, answer) = app.post(&Value::from(batch).to_string()).await;
        assert_eq!(status, 202, "{answer}");
        // The answer says that they are durable; the walk is somewhere in the midst of them.
        up.kill();
    }
    let up = app.up().await;
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", &format!("{sent}\t{sent}")).await;
    app.assert_complete().await;
    let alerts = "SELECT count() FROM findings WHERE is_alert AND rule = 'impossible_travel'";
    app.eventually(alerts, &ROUNDS.to_string()).await;
    let of_travel =
        || receiver.deliveries().into_iter().filter(|one| one.data("rule") == "impossible_travel");
    wait_for("every alert", async || (tally(of_travel()).len() == ROUNDS).then_some(())).await;
    // `deliver` died with `up` each time: a repeat under the same id is what at least once means.
    for delivery in of_travel() {
        let finding = delivery.data("finding_id");
        app.eventually(&format!("SELECT count() FROM findings WHERE finding_id = '{finding}'"), "1").await;
    }
    assert!(up.stop().await.success());
}

fn tally(deliveries: impl Iterator<Item = crate::receiver::Delivery>) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for delivery in deliveries {
        *tally.entry(delivery.id).or_default() += 1;
    }
    tally
}
