//! Topics: made, set right, and looked at before they are trusted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::context::LogContext;
use super::settings::{Settings, create_plain};
use super::{Names, blocking};
use crate::log::{Cleanup, LogError, Topic, TopicSpec};

const REQUEST: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);
/// What makes the append time the log's own: `received_at`, and with it the order of everything, rests on it.
const TIMESTAMP_TYPE: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

pub(super) struct Admin {
    client: Arc<AdminClient<LogContext>>,
    names: Names,
}

/// What is there of a topic.
struct Found {
    partitions: u32,
    settings: ConfigResource,
}

impl Admin {
    pub(super) fn new(settings: &Settings, names: &Names) -> Result<Self, LogError> {
        Ok(Self { client: Arc::new(create_plain(&settings.asker())?), names: names.clone() })
    }

    /// Answers what was done, a sentence each.
    pub(super) async fn migrate(self, specs: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        let mut done = Vec::new();
        for spec in specs {
            match self.find(spec.topic).await? {
                None => done.push(self.create(spec).await?),
                Some(found) if found.partitions != spec.partitions => {
                    return Err(LogError::Topic {
                        topic: spec.topic.name(),
                        cause: format!(
                            "has {} partitions and is to have {}; that never changes in place",
                            found.partitions, spec.partitions
                        ),
                    });
                }
                Some(found) => done.extend(self.set_right(spec, &found.settings).await?),
            }
        }
        Ok(done)
    }

    /// An error unless the topic is there and keeps the log's own time.
    pub(super) async fn check(&self, topic: Topic) -> Result<(), LogError> {
        let wrong = |cause: &str| LogError::Topic { topic: topic.name(), cause: cause.to_owned() };
        let found = self.find(topic).await?.ok_or_else(|| wrong("is not there"))?;
        match value(&found.settings, TIMESTAMP_TYPE.0) {
            Some(kind) if kind == TIMESTAMP_TYPE.1 => Ok(()),
            kind => Err(wrong(&format!(
                "has {} {} and must have {}",
                TIMESTAMP_TYPE.0,
                kind.unwrap_or("unknown"),
                TIMESTAMP_TYPE.1
            ))),
        }
    }

    async fn find(&self, topic: Topic) -> Result<Option<Found>, LogError> {
        let name = self.names.of(topic);
        let count =
            |metadata: &Metadata| metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let partitions = self.count(Some(name.clone().into_owned()), count).await?;
        // Asked for first: the broker describes a topic that is not there as well.
        if partitions == 0 {
            return Ok(None);
        }
        let described = self
            .client
            .describe_configs(&[ResourceSpecifier::Topic(&name)], &options())
            .await
            .map_err(|error| unavailable(&error))?;
        match described.into_iter().next() {
            Some(Ok(settings)) => {
                Ok(Some(Found { partitions: u32::try_from(partitions).unwrap_or(u32::MAX), settings }))
            }
            Some(Err(code)) => Err(unavailable(&code)),
            None => Err(unavailable(&"the broker describes nothing")),
        }
    }

    /// Counts something in the metadata of one topic or all.
    async fn count(&self, topic: Option<String>, count: fn(&Metadata) -> usize) -> Result<usize, LogError> {
        let client = Arc::clone(&self.client);
        blocking("asking about topics", move || {
            let metadata = client.inner().fetch_metadata(topic.as_deref(), REQUEST);
            metadata.map(|metadata| count(&metadata)).map_err(|error| unavailable(&error))
        })
        .await
    }

    async fn create(&self, spec: &TopicSpec) -> Result<String, LogError> {
        let name = self.names.of(spec.topic);
        let brokers = self.count(None, |metadata| metadata.brokers().len()).await?;
        // The usual rule of three copies of which two must answer, as far as there are brokers for it.
        let replication = i32::try_from(brokers.clamp(1, 3)).unwrap_or(1);
        let in_sync = brokers.clamp(1, 2).to_string();
        let wanted = wanted(spec);
        let mut topic = NewTopic::new(
            &name,
            i32::try_from(spec.partitions).unwrap_or(i32::MAX),
            TopicReplication::Fixed(replication),
        )
        .set("min.insync.replicas", &in_sync);
        for (key, value) in &wanted {
            topic = topic.set(key, value);
        }
        let created =
            self.client.create_topics(&[topic], &options()).await.map_err(|error| unavailable(&error))?;
        match created.into_iter().next() {
            // Somebody else may have been as quick.
            Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                Ok(format!("{name}: created with {} partitions on {replication} brokers", spec.partitions))
            }
            Some(Err((_, code))) => Err(unavailable(&code)),
            None => Err(unavailable(&"the broker answers nothing")),
        }
    }

    /// Sets what differs. AlterConfigs replaces all that was set on the topic, so the operator's own settings go along.
    async fn set_right(
        &self,
        spec: &TopicSpec,
        settings: &ConfigResource,
    ) -> Result<Option<String>, LogError> {
        let name = self.names.of(spec.topic);
        let wanted = wanted(spec);
        let changes: Vec<_> = wanted
            .iter()
            .filter(|(key, wanted)| value(settings, key) != Some(wanted))
            .map(|(key, wanted)| format!("{key}={wanted}"))
            .collect();
        if changes.is_empty() {
            return Ok(None);
        }
        let mut altered: BTreeMap<&str, &str> = settings
            .entries
            .iter()
            .filter(|entry| entry.source == ConfigSource::DynamicTopic)
            .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
            .collect();
        altered.extend(wanted.iter().map(|(key, value)| (*key, value.as_str())));
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(&name));
        for (key, value) in altered {
            alter = alter.set(key, value);
        }
        let results =
            self.client.alter_configs(&[alter], &options()).await.map_err(|error| unavailable(&error))?;
        match results.into_iter().next() {
            Some(Ok(_)) => Ok(Some(format!("{name}: set {}", changes.join(", ")))),
            Some(Err((_, code))) => Err(unavailable(&code)),
            None => Err(unavailable(&"the broker answers nothing")),
        }
    }
}

/// The settings that a topic of ours has.
fn wanted(spec: &TopicSpec) -> Vec<(&'static str, String)> {
    let (key, value) = TIMESTAMP_TYPE;
    let mut wanted = vec![(key, value.to_owned())];
    match spec.cleanup {
        Cleanup::Delete { after } => {
            wanted.push(("cleanup.policy", "delete".to_owned()));
            wanted.push(("retention.ms", after.as_millis().to_string()));
        }
        Cleanup::Compact => {
            wanted.push(("cleanup.policy", "compact".to_owned()));
            // The broker compacts neither the segment that is written to nor a log that is hardly dirty, and its own
            // figures (1 GiB, 7 days, half of it) would have a new owner read many times what is alive.
            wanted.push(("segment.bytes", (64 << 20).to_string()));
            wanted.push(("segment.ms", HOUR.as_millis().to_string()));
            wanted.push(("min.cleanable.dirty.ratio", "0.2".to_owned()));
            // A reader that began before a key was removed hears of it if it is through by then.
            wanted.push(("delete.retention.ms", HOUR.as_millis().to_string()));
        }
    }
    wanted
}

fn value<'s>(settings: &'s ConfigResource, key: &str) -> Option<&'s str> {
    settings.get(key).and_then(|entry| entry.value.as_deref())
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

fn unavailable(error: &dyn std::fmt::Display) -> LogError {
    LogError::Unavailable { doing: "asking about topics", cause: error.to_string() }
}
