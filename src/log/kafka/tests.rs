//! The contract on a real broker, and what only Kafka can do to us.

mod broker;
mod owners;
mod scans;
mod secured;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::context::LogContext;
use super::settings::create_plain;
use super::*;
use crate::clock::Random;
use crate::config::Secret;
use crate::log::broker::Broker;
use crate::log::contract::{
    Member, UnderTest, assigned_0, at, contract_suite, in_time, new_group, next_of_0, offset, read_all,
    texts, to,
};
use crate::log::{CommitError, MemberEvent};

/// A log of its own: topics under a prefix, on the broker that all tests of the process share.
struct OnKafka {
    log: Arc<KafkaLog>,
    prefix: String,
}

/// A member that stopped is missed soon: the broker's own minimum.
fn config(brokers: String) -> KafkaConfig {
    let session = ("session.timeout.ms".to_owned(), Secret::new("6000".to_owned()));
    KafkaConfig { brokers, properties: vec![session] }
}

async fn shared_broker() -> String {
    // Starting one takes seconds.
    tokio::task::spawn_blocking(|| Broker::shared().address()).await.unwrap()
}

fn connect(brokers: &str, prefix: &str) -> Arc<KafkaLog> {
    Arc::new(KafkaLog::connect_under(&config(brokers.to_owned()), prefix, None).unwrap())
}

fn specs() -> [TopicSpec; Topic::ALL.len()] {
    Topic::ALL.map(|topic| {
        let partitions = if matches!(topic, Topic::Events | Topic::State) { 2 } else { 1 };
        TopicSpec { partitions, ..topic.spec(false) }
    })
}

#[async_trait]
impl UnderTest for OnKafka {
    async fn fresh() -> Self {
        let prefix = format!("{}.", Random::hex::<6>());
        let log = connect(&shared_broker().await, &prefix);
        log.migrate(&specs()).await.unwrap();
        Self { log, prefix }
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }

    async fn reopen(self) -> Self {
        let Self { log, prefix } = self;
        drop(log);
        Self { log: connect(&shared_broker().await, &prefix), prefix }
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

mod contract {
    use super::*;
    contract_suite!(OnKafka);
}

impl OnKafka {
    fn events(&self) -> String {
        self.log.names.of(Topic::Events).into_owned()
    }

    /// A transactional producer that is not a lane's, with a transaction begun.
    fn stranger(&self, id: &str, timeout_ms: u32) -> BaseProducer<LogContext> {
        let mut client = self.log.settings.lane_producer(id);
        client.set("transaction.timeout.ms", timeout_ms.to_string());
        let producer: BaseProducer<LogContext> = create_plain(&client).unwrap();
        producer.init_transactions(Duration::from_secs(30)).unwrap();
        producer.begin_transaction().unwrap();
        producer
    }

    fn send(&self, producer: &BaseProducer<LogContext>, partition: i32, value: &str) {
        let topic = self.events();
        producer.send(BaseRecord::<str, str>::to(&topic).partition(partition).payload(value)).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    }
}
