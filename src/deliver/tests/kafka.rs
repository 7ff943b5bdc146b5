//! The same on Apache Kafka, where several processes share a destination's partitions.

use std::sync::Arc;

use super::receiver::Receiver;
use super::stage::{Stage, alert, webhook};
use crate::config::KafkaConfig;
use crate::log::broker::Broker;
use crate::log::kafka::KafkaLog;
use crate::log::{EventLog, Topic};

#[tokio::test(flavor = "multi_thread")]
async fn members_hand_over_partitions_and_repeat_nothing() {
    // The other tests keep to topics of their own on the shared broker.
    let brokers = tokio::task::spawn_blocking(|| Broker::shared().address()).await.unwrap();
    let config = KafkaConfig { brokers, properties: Vec::new() };
    let log: Arc<dyn EventLog> = Arc::new(KafkaLog::connect(&config).unwrap());
    log.migrate(&[Topic::Alerts.spec(false)]).await.unwrap();
    let receiver = Receiver::start().await;
    let (mut first, mut second) = (Stage::on(Arc::clone(&log)), Stage::on(Arc::clone(&log)));
    let alerts = |numbers: std::ops::Range<u32>| numbers.map(|number| alert(number, "high"));

    first.start([webhook("shared", &receiver)]);
    first.append(alerts(0..40)).await;
    receiver.wait_for_accepted(40).await;
    second.start([webhook("shared", &receiver)]);
    // Some of these meet the hand-over.
    let mut appended = 40;
    while second.count("shared", "delivered") == 0 {
        assert!(appended < 10_000, "the second gets no partition");
        first.append(alerts(appended..appended + 1)).await;
        appended += 1;
        receiver.wait_for_accepted(appended as usize).await;
    }
    first.append(alerts(appended..appended + 40)).await;
    first.stop().await;
    receiver.wait_for_accepted(appended as usize + 40).await;
    second.stop().await;
    let removed = crate::deliver::removed(log.as_ref(), &[]).await.unwrap();
    assert!(removed.contains(&"shared".to_owned()), "{removed:?}");
    assert_eq!(receiver.accepted().len(), appended as usize + 40, "something was told twice");
}
