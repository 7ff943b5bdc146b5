//! The log on Apache Kafka.
//!
//! A member of a group is a consumer with a keeper thread ([`group`]). Each partition that it owns is a lane ([`lane`])
//! with a queue that it reads and an owner thread ([`owner`]) whose transactional producer carries every commit: the
//! broker itself refuses whoever is not the partition's latest owner. A scan ([`scan`]) belongs to no group.

mod settings;

mod admin;
mod append;

mod assign;
mod context;
mod generation;
mod group;
mod hanging;
mod lane;
mod owner;
mod scan;
mod tail;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::{Commit, EventLog, LogError, Membership, NewRecord, Placed, Scan, Tail, Topic, TopicSpec};
use crate::config::KafkaConfig;
use crate::model::{Offset, PartitionId, ResumeAt, UnixMs};
use admin::Admin;
use append::Appender;
use assign::TakeOver;
use context::GroupContext;
use group::Keeper;
use scan::KafkaScan;
use settings::{Settings, create};
use tail::KafkaTail;

/// How long a question may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a sign of life may take: a probe waits for it.
const HEALTH: Duration = Duration::from_secs(3);

/// The log on Apache Kafka.
pub(crate) struct KafkaLog {
    settings: Settings,
    names: Names,
    appender: Appender,
}

impl KafkaLog {
    /// Makes the clients; whether the brokers answer is [`EventLog::health`]'s to say.
    pub(crate) fn connect(config: &KafkaConfig) -> Result<Self, LogError> {
        Self::connect_under(config, "", None)
    }

    /// For whoever has a caller waiting and can do something else: an append that is not acknowledged after `patience`
    /// has failed. It may have been written all the same.
    pub(crate) fn connect_impatient(config: &KafkaConfig, patience: Duration) -> Result<Self, LogError> {
        Self::connect_under(config, "", Some(patience))
    }

    /// All topics under a prefix: so tests share one broker.
    fn connect_under(
        config: &KafkaConfig,
        prefix: &str,
        patience: Option<Duration>,
    ) -> Result<Self, LogError> {
        let settings = Settings::new(config)?;
        let appender = Appender::new(&settings, patience)?;
        Ok(Self { settings, names: Names { prefix: prefix.into() }, appender })
    }
}

impl KafkaLog {
    /// Where the brokers did not let us in, that is the cause: the call itself only knows that it took too long.
    fn explained(&self, error: LogError) -> LogError {
        match (error, self.appender.refused().why()) {
            (LogError::Unavailable { doing, .. }, Some(cause)) => LogError::Unavailable { doing, cause },
            (error, _) => error,
        }
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn migrate(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        let migrated = Admin::new(&self.settings, &self.names)?.migrate(topics).await;
        migrated.map_err(|error| self.explained(error))
    }

    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Placed>, LogError> {
        let appended = self.appender.append(topic, &self.names.of(topic), &records).await;
        appended.map_err(|error| self.explained(error))
    }

    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Membership>, LogError> {
        Admin::new(&self.settings, &self.names)?.check(topic).await?;
        let consumer: BaseConsumer<GroupContext> =
            create(&self.settings.group_member(group), GroupContext::default())?;
        let name: Arc<str> = self.names.of(topic).into();
        let take_over = |consumer, keeper| TakeOver {
            settings: self.settings.clone(),
            names: self.names.clone(),
            group: group.into(),
            topic: Arc::clone(&name),
            consumer,
            keeper,
        };
        Ok(Box::new(Keeper::start(Arc::clone(&name), consumer, take_over)?))
    }

    async fn set_readers(&self, _: Topic, groups: &[String]) -> Result<Vec<String>, LogError> {
        const DOING: &str = "listing groups";
        let producer = self.appender.client();
        let known = blocking(DOING, move || {
            let list = producer
                .client()
                .fetch_group_list(None, REQUEST)
                .map_err(|error| LogError::Unavailable { doing: DOING, cause: error.to_string() })?;
            Ok(list.groups().iter().map(|group| group.name().to_owned()).collect::<Vec<_>>())
        });
        let known = known.await?;
        Ok(known.into_iter().filter(|name| !groups.contains(name)).collect())
    }

    async fn offset_at(
        &self,
        topic: Topic,
        partition: PartitionId,
        time: UnixMs,
    ) -> Result<Offset, LogError> {
        const DOING: &str = "looking for the first record of a time";
        let (settings, name) = (self.settings.clone(), self.names.of(topic).into_owned());
        blocking(DOING, move || {
            // Asked once in a while, so a client of its own for each costs nothing that matters.
            let consumer: BaseConsumer<GroupContext> = create(&settings.asker(), GroupContext::default())?;
            let failed = |error: KafkaError| failed(DOING, topic, &error);
            let mut times = TopicPartitionList::with_capacity(1);
            times
                .add_partition_offset(&name, raw(partition), KafkaOffset::Offset(time.get().max(0)))
                .map_err(failed)?;
            let found = consumer.offsets_for_times(times, REQUEST).map_err(failed)?;
            let found = found.elements().first().map(|element| element.offset());
            match found {
                Some(KafkaOffset::Offset(offset)) => Ok(offset),
                _ => consumer
                    .fetch_watermarks(&name, raw(partition), REQUEST)
                    .map(|(_, end)| end)
                    .map_err(failed),
            }
        })
        .await
        .map(|offset| Offset::new(offset).unwrap_or(Offset::ZERO))
    }

    async fn scan(
        &self,
        topic: Topic,
        partition: PartitionId,
        from: Option<Offset>,
    ) -> Result<Box<dyn Scan>, LogError> {
        let (settings, name) = (self.settings.clone(), self.names.of(topic).into_owned());
        let begin = move || KafkaScan::begin(&settings, topic, name, partition, from, scan::PATIENCE);
        Ok(Box::new(blocking(scan::DOING, begin).await?))
    }

    async fn tail(&self, topic: Topic, partition: PartitionId) -> Result<Box<dyn Tail>, LogError> {
        let (settings, name) = (self.settings.clone(), self.names.of(topic).into_owned());
        let begin = move || KafkaTail::begin(&settings, topic, name, partition);
        Ok(Box::new(blocking(tail::DOING, begin).await?))
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, LogError> {
        const DOING: &str = "counting partitions";
        let (producer, name) = (self.appender.client(), self.names.of(topic).into_owned());
        blocking(DOING, move || {
            let metadata = producer
                .client()
                .fetch_metadata(Some(&name), REQUEST)
                .map_err(|error| failed(DOING, topic, &error))?;
            match metadata.topics().first().map_or(0, |topic| topic.partitions().len()) {
                0 => Err(LogError::Topic { topic: topic.name(), cause: "is not there".to_owned() }),
                partitions => Ok(u32::try_from(partitions).unwrap_or(u32::MAX)),
            }
        })
        .await
        .map_err(|error| self.explained(error))
    }

    async fn health(&self) -> Result<(), LogError> {
        const DOING: &str = "asking for a sign of life";
        // One topic's metadata: a cluster may have thousands.
        let (producer, name) = (self.appender.client(), self.names.of(Topic::Events).into_owned());
        let refused = Arc::clone(self.appender.refused());
        blocking(DOING, move || match producer.client().fetch_metadata(Some(&name), HEALTH) {
            Ok(_) => {
                refused.set(None);
                Ok(())
            }
            Err(error) => Err(LogError::Unavailable { doing: DOING, cause: error.to_string() }),
        })
        .await
        .map_err(|error| self.explained(error))
    }
}

/// The topics' names on the broker.
#[derive(Clone, Debug)]
struct Names {
    prefix: Arc<str>,
}

impl Names {
    fn of(&self, topic: Topic) -> Cow<'static, str> {
        if self.prefix.is_empty() {
            Cow::Borrowed(topic.name())
        } else {
            Cow::Owned(format!("{}{}", self.prefix, topic.name()))
        }
    }
}

/// Runs a call that blocks, off the runtime.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    call: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let ended = tokio::task::spawn_blocking(call).await;
    ended.unwrap_or_else(|error| Err(LogError::Broken { doing, cause: error.to_string() }))
}

fn failed(doing: &'static str, topic: Topic, error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => LogError::Topic {
            topic: topic.name(),
            cause: "is not there, or has no such partition".to_owned(),
        },
        _ => LogError::Unavailable { doing, cause: error.to_string() },
    }
}

/// Kafka's own number of a partition.
fn raw(partition: PartitionId) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

fn partition_id(raw: i32) -> Option<PartitionId> {
    u32::try_from(raw).ok().map(PartitionId)
}

/// A record's value as the broker is given it: on a compacted topic only a missing one removes the key.
fn payload(topic: Topic, record: &NewRecord) -> Option<&[u8]> {
    let removes = topic.is_compacted() && record.value.is_empty();
    (!removes).then_some(record.value.as_slice())
}

fn headers_of(record: &NewRecord) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let headers = OwnedHeaders::new_with_capacity(record.headers.len());
    Some(
        record
            .headers
            .iter()
            .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) })),
    )
}

/// The partition's commit in a list that the broker answered.
fn commit_in(list: &TopicPartitionList, topic: &str, partition: PartitionId) -> Option<Commit> {
    let element = list.find_partition(topic, raw(partition))?;
    let KafkaOffset::Offset(offset) = element.offset() else { return None };
    // rdkafka panics at metadata that is not UTF-8, which is none of ours: an operator's reset, as it were.
    let metadata = std::panic::catch_unwind(|| element.metadata().to_owned()).unwrap_or_default();
    Some(Commit { resume_at: ResumeAt::at(Offset::new(offset)?), metadata })
}
