//! Appending outside of commits: one idempotent producer, every record acknowledged by all replicas that are in sync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use super::context::{LogContext, Refused};
use super::settings::{Settings, create};
use super::{failed, headers_of, partition_id, payload, raw};
use crate::log::{LogError, NewRecord, Placed, Topic};
use crate::model::Offset;

const DOING: &str = "appending";
/// Between two tries while others keep the producer's queue full.
const FULL: Duration = Duration::from_millis(2);

pub(super) struct Appender {
    settings: Settings,
    patience: Option<Duration>,
    producer: ArcSwap<FutureProducer<LogContext>>,
    refused: Arc<Refused>,
}

impl Appender {
    pub(super) fn new(settings: &Settings, patience: Option<Duration>) -> Result<Self, LogError> {
        let refused = Arc::<Refused>::default();
        let producer = create(&settings.appender(patience), LogContext(Arc::clone(&refused)))?;
        let (settings, producer) = (settings.clone(), ArcSwap::from_pointee(producer));
        Ok(Self { settings, patience, producer, refused })
    }

    /// Why the brokers do not let the client in.
    pub(super) const fn refused(&self) -> &Arc<Refused> {
        &self.refused
    }

    /// A client that may be asked as well.
    pub(super) fn client(&self) -> Arc<FutureProducer<LogContext>> {
        self.producer.load_full()
    }

    /// An idempotent producer that met a fatal error takes no more records: the next append finds a new one.
    fn renew(&self, dead: &Arc<FutureProducer<LogContext>>) -> Result<(), LogError> {
        tracing::warn!("the producer met a fatal error and is made anew");
        let new =
            Arc::new(create(&self.settings.appender(self.patience), LogContext(Arc::clone(&self.refused)))?);
        // Somebody else may have been as quick, and has a good one there.
        self.producer.compare_and_swap(dead, new);
        Ok(())
    }

    pub(super) async fn append(
        &self,
        topic: Topic,
        name: &str,
        records: &[NewRecord],
    ) -> Result<Vec<Placed>, LogError> {
        let producer = self.client();
        let appended = Self::append_by(&producer, topic, name, records).await;
        if producer.client().fatal_error().is_some() {
            self.renew(&producer)?;
        }
        appended
    }

    async fn append_by(
        producer: &FutureProducer<LogContext>,
        topic: Topic,
        name: &str,
        records: &[NewRecord],
    ) -> Result<Vec<Placed>, LogError> {
        let mut under_way = VecDeque::with_capacity(records.len());
        let mut placed = Vec::with_capacity(records.len());
        for record in records {
            loop {
                match producer.send_result(record_of(topic, name, record)) {
                    Ok(delivery) => break under_way.push_back((delivery, record)),
                    Err((error, _)) if is_full(&error) => match under_way.pop_front() {
                        Some((delivery, record)) => placed.push(arrived(topic, delivery, record).await?),
                        None => tokio::time::sleep(FULL).await,
                    },
                    Err((error, _)) => return Err(refused(topic, &error, record)),
                }
            }
        }
        for (delivery, record) in under_way {
            placed.push(arrived(topic, delivery, record).await?);
        }
        Ok(placed)
    }
}

async fn arrived(topic: Topic, delivery: DeliveryFuture, record: &NewRecord) -> Result<Placed, LogError> {
    let delivered = match delivery.await {
        Ok(Ok(delivered)) => delivered,
        Ok(Err((error, _))) => return Err(refused(topic, &error, record)),
        Err(_) => return Err(unclear("the producer ended")),
    };
    match (partition_id(delivered.partition), Offset::new(delivered.offset)) {
        (Some(partition), Some(offset)) => Ok(Placed { partition, offset }),
        // An idempotent producer hears of a duplicate that the broker has written, but not where.
        _ => Err(unclear("the broker does not say where the record lies")),
    }
}

fn unclear(cause: &str) -> LogError {
    LogError::Unavailable { doing: DOING, cause: cause.to_owned() }
}

fn record_of<'r>(topic: Topic, name: &'r str, record: &'r NewRecord) -> FutureRecord<'r, [u8], [u8]> {
    let mut message = FutureRecord::to(name);
    message.payload = payload(topic, record);
    if let Some(key) = &record.key {
        message = message.key(key.as_slice());
    }
    if let Some(partition) = record.partition {
        message = message.partition(raw(partition));
    }
    message.headers = headers_of(record);
    message
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

fn refused(topic: Topic, error: &KafkaError, record: &NewRecord) -> LogError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            LogError::TooLarge { bytes: record.value.len() }
        }
        _ => failed(DOING, topic, error),
    }
}
