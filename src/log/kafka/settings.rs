//! How each client of librdkafka is set up: what is ours to decide, and what `[kafka.properties]` may add.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::context::LogContext;
use crate::config::{KafkaConfig, Secret};
use crate::log::LogError;

/// What nobody may set, because what PROMISE says rests on it.
const OWNED: [&str; 17] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "transaction.timeout.ms",
    "transactional.id",
];

/// The broker ends a transaction after this time, which also bounds how long a dead owner's transaction may hide what
/// others wrote.
const TRANSACTION_TIMEOUT_MS: &str = "10000";

/// Brokers, and what the operator adds for every client.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    brokers: String,
    properties: Vec<(String, Secret)>,
}

impl Settings {
    /// Refuses what is ours, what librdkafka does not know and values that it does not take.
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, LogError> {
        for (key, _) in &config.properties {
            if OWNED.contains(&key.as_str()) {
                return Err(LogError::Settings {
                    cause: format!(
                        "[kafka.properties] {key} is not yours to set: JWTrail's promise rests on it"
                    ),
                });
            }
        }
        let settings = Self { brokers: config.brokers.clone(), properties: config.properties.clone() };
        for client in [settings.appender(None), settings.group_member(""), settings.lane_producer("")] {
            client.create_native_config().map_err(|error| refused(&error))?;
        }
        Ok(settings)
    }

    /// Ours wins over the operator's only in what is [`OWNED`]; the rest of ours are defaults.
    fn client(&self, defaults: &[(&str, &str)], owned: &[(&str, &str)]) -> ClientConfig {
        let mut client = ClientConfig::new();
        let debug = self.properties.iter().any(|(key, _)| key == "debug");
        client.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        client.set("client.id", "jwtrail");
        // After an outage librdkafka would otherwise wait up to 10 s longer than the broker needs.
        client.set("reconnect.backoff.max.ms", "1000");
        for (key, value) in defaults {
            client.set(*key, *value);
        }
        for (key, value) in &self.properties {
            client.set(key, value.expose());
        }
        client.set("bootstrap.servers", &self.brokers);
        client.set("allow.auto.create.topics", "false");
        for (key, value) in owned {
            client.set(*key, *value);
        }
        client
    }

    /// Asks and administers.
    pub(super) fn asker(&self) -> ClientConfig {
        self.client(&[], &[("isolation.level", "read_committed")])
    }

    /// Asks for the end of what was written, committed or not yet.
    pub(super) fn foreteller(&self) -> ClientConfig {
        self.client(&[], &[("isolation.level", "read_uncommitted")])
    }

    /// Reads a partition once, without a group: librdkafka wants a name for one all the same, and asks nothing with it.
    pub(super) fn scanner(&self) -> ClientConfig {
        // A new owner waits for the word that there is no more: three fetches that find nothing, of 500 ms each otherwise.
        let defaults = [("fetch.queue.backoff.ms", "10"), ("fetch.wait.max.ms", "10")];
        let owned = [
            ("group.id", "jwtrail-scan"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Tells where the partition ends.
            ("enable.partition.eof", "true"),
        ];
        self.client(&defaults, &owned)
    }

    /// The producer of everything that no lane's commit carries. `patience`: how long a record may wait for its
    /// acknowledgement; without one, as long as is good for whoever would only try again.
    pub(super) fn appender(&self, patience: Option<Duration>) -> ClientConfig {
        let defaults = [
            ("compression.type", "zstd"),
            // Alerts must not wait; a burst still fills batches while the one before is under way.
            ("linger.ms", "1"),
            // Bounds memory: a full queue makes `append` wait.
            ("queue.buffering.max.kbytes", "65536"),
            ("message.timeout.ms", "30000"),
        ];
        let owned = [("acks", "all"), ("enable.idempotence", "true"), ("partitioner", "murmur2_random")];
        let mut client = self.client(&defaults, &owned);
        if let Some(patience) = patience {
            client.set("message.timeout.ms", patience.as_millis().to_string());
        }
        client
    }

    pub(super) fn group_member(&self, group: &str) -> ClientConfig {
        let defaults = [
            // A broker away for longer than this makes every member declare its partitions lost.
            ("session.timeout.ms", "45000"),
            // Members hear of a rebalance with their heartbeat, and each hand-over is two rebalances. librdkafka's 3000
            // stalls the partitions that move for seconds.
            ("heartbeat.interval.ms", "1000"),
            // Bounds memory: with a queue a partition these hold for each partition.
            ("queued.max.messages.kbytes", "8192"),
            // librdkafka's 1000 stalls a fast reader on a backlog.
            ("fetch.queue.backoff.ms", "10"),
        ];
        let owned = [
            ("group.id", group),
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Tells a lane that it stands at the end, where a hole may lie.
            ("enable.partition.eof", "true"),
        ];
        self.client(&defaults, &owned)
    }

    /// The producer that commits for one partition.
    pub(super) fn lane_producer(&self, transactional_id: &str) -> ClientConfig {
        let defaults = [
            ("compression.type", "zstd"),
            ("linger.ms", "0"),
            ("queue.buffering.max.kbytes", "65536"),
            // The transaction right after a commit waits for the first of these.
            ("retry.backoff.ms", "5"),
            ("retry.backoff.max.ms", "100"),
        ];
        let owned = [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("partitioner", "murmur2_random"),
            ("transactional.id", transactional_id),
            ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS),
            // Not more than the transaction's.
            ("message.timeout.ms", TRANSACTION_TIMEOUT_MS),
        ];
        self.client(&defaults, &owned)
    }
}

/// Makes a client that speaks through `context`.
pub(super) fn create<C, T>(client: &ClientConfig, context: C) -> Result<T, LogError>
where
    C: rdkafka::ClientContext,
    T: FromClientConfigAndContext<C>,
{
    client.create_with_context(context).map_err(|error| refused(&error))
}

/// Makes a client that only logs.
pub(super) fn create_plain<T: FromClientConfigAndContext<LogContext>>(
    client: &ClientConfig,
) -> Result<T, LogError> {
    create(client, LogContext::default())
}

/// librdkafka's own text may repeat the value, and that may be a password: only the key is told.
fn refused(error: &KafkaError) -> LogError {
    let cause = match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, key, _) => {
            format!("[kafka.properties] {key}: librdkafka knows no such property")
        }
        KafkaError::ClientConfig(_, _, key, _) => {
            format!("[kafka.properties] {key}: librdkafka does not take this value")
        }
        error => format!("[kafka]: {error}"),
    };
    LogError::Settings { cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, value: &str, wanted: Option<&str>) {
        let config = KafkaConfig {
            brokers: "192.0.2.1:9092".to_owned(),
            properties: vec![(key.to_owned(), Secret::new(value.to_owned()))],
        };
        let cause = Settings::new(&config).err().map(|error| error.to_string());
        assert_eq!(cause.as_deref(), wanted, "{key}");
        assert!(!cause.unwrap_or_default().contains("swordfish"));
    }

    #[test]
    fn properties_pass_through_unless_they_are_ours_or_wrong() {
        check("sasl.password", "swordfish", None);
        check("fetch.wait.max.ms", "100", None);
        check("linger.ms", "20", None);
        check(
            "isolation.level",
            "read_uncommitted",
            Some("[kafka.properties] isolation.level is not yours to set: JWTrail's promise rests on it"),
        );
        check(
            "sasl.pasword",
            "swordfish",
            Some("[kafka.properties] sasl.pasword: librdkafka knows no such property"),
        );
        check(
            "fetch.wait.max.ms",
            "swordfish",
            Some("[kafka.properties] fetch.wait.max.ms: librdkafka does not take this value"),
        );
    }

    #[test]
    fn what_is_ours_to_decide_wins() {
        let config = KafkaConfig { brokers: "192.0.2.1:9092".to_owned(), properties: vec![] };
        let settings = Settings::new(&config).unwrap();
        for (client, wanted) in [
            (settings.group_member("g"), ["isolation.level=read_committed", "auto.offset.reset=error"]),
            (settings.lane_producer("t"), ["transaction.timeout.ms=10000", "retry.backoff.ms=5"]),
            (settings.appender(None), ["acks=all", "partitioner=murmur2_random"]),
        ] {
            for line in wanted {
                let (key, value) = line.split_once('=').unwrap();
                assert_eq!(client.get(key), Some(value), "{key}");
            }
        }
    }
}
