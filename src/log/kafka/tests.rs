//! The contract on a real broker, and what only Kafka can do to us.

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::context::LogContext;
use super::settings::create_plain;
use super::*;
use crate::clock::Random;
use crate::log::broker::Broker;
use crate::log::contract::{UnderTest, contract_suite};

/// A log of its own: topics under a prefix, on the broker that all tests of the process share.
struct OnKafka {
    log: Arc<KafkaLog>,
    prefix: String,
}

fn config(broker: &Broker) -> KafkaConfig {
    KafkaConfig { brokers: broker.address(), properties: vec![] }
}

fn connect(prefix: &str) -> Arc<KafkaLog> {
    Arc::new(KafkaLog::connect_under(&config(Broker::shared()), prefix).unwrap())
}

fn specs() -> [TopicSpec; 3] {
    Topic::ALL
        .map(|topic| TopicSpec { partitions: if topic == Topic::Events { 2 } else { 1 }, ..topic.spec(true) })
}

#[async_trait]
impl UnderTest for OnKafka {
    async fn fresh() -> Self {
        let prefix = format!("{}.", Random::hex::<6>());
        let log = tokio::task::spawn_blocking({
            let prefix = prefix.clone();
            move || connect(&prefix)
        })
        .await
        .unwrap();
        log.migrate(&specs()).await.unwrap();
        Self { log, prefix }
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }

    async fn reopen(self) -> Self {
        Self { log: connect(&self.prefix), prefix: self.prefix }
    }

    async fn truncate(&self, topic: Topic, partition: PartitionId, offset: Offset) {
        let admin: AdminClient<LogContext> = create_plain(&self.log.settings.asker()).unwrap();
        let mut list = TopicPartitionList::new();
        let offset = KafkaOffset::Offset(offset.get());
        list.add_partition_offset(&self.log.names.of(topic), raw(partition), offset).unwrap();
        let deleted = admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
        deleted.elements()[0].error().unwrap();
    }
}

contract_suite!(OnKafka);

#[test]
fn a_broker_comes_back_where_it_was_killed() {
    let mut broker = Broker::start();
    let address = broker.address();
    std::net::TcpStream::connect(&address).unwrap();
    broker.kill();
    std::net::TcpStream::connect(&address).unwrap_err();
    broker.restart();
    std::net::TcpStream::connect(&address).unwrap();
}
