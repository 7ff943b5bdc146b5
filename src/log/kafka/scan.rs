//! A scan: one partition read once, without a group, up to where it ended when the scan began.
//!
//! Where it ended is asked without regard to transactions: a committed record may lie behind one whose transaction is
//! still open, and a reader that believed the last stable offset would end before both and call it all. That the end has
//! been reached is believed only of a fetch that began after everything up to there was decided.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::context::GroupContext;
use super::lane::push;
use super::settings::{Settings, create};
use super::{REQUEST, blocking, failed, hanging, raw};
use crate::log::{Batch, LogError, Scan, Topic};
use crate::model::{Offset, PartitionId};

pub(super) const DOING: &str = "scanning a partition";
/// Without a record or a word of the end for so long, the scan fails. More than a dead owner's transaction can stay open:
/// its timeout of 10 s, and the 10 s between two looks of the broker for such.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long one poll waits.
const STEP: Duration = Duration::from_millis(100);
/// Between two tries of what passes by itself.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct KafkaScan {
    start: Offset,
    end: Offset,
    /// `None` when everything was read, and while a call is under way: one that is dropped ends the scan.
    reader: Option<Reader>,
    finished: bool,
}

/// What reads, on threads that may block.
pub(super) struct Reader {
    consumer: BaseConsumer<GroupContext>,
    topic: Topic,
    name: Arc<str>,
    partition: PartitionId,
    /// One past the last record that was read.
    position: Offset,
    end: Offset,
    /// librdkafka has said that the partition ends here.
    at_end: bool,
    /// Since then no record came, and everything before `end` was decided: the next word of the end is the last.
    decided: bool,
    patience: Duration,
}

impl KafkaScan {
    /// Blocks for some requests.
    pub(super) fn begin(
        settings: &Settings,
        topic: Topic,
        name: String,
        partition: PartitionId,
        from: Option<Offset>,
        patience: Duration,
    ) -> Result<Self, LogError> {
        let foreteller: BaseConsumer<GroupContext> = create(&settings.foreteller(), GroupContext::default())?;
        let (start, end) = watermarks(&foreteller, topic, &name, partition)?;
        let start = from.map_or(start, |from| from.max(start));
        let mut scan = Self { start, end, reader: None, finished: start >= end };
        if !scan.finished {
            let consumer: BaseConsumer<GroupContext> = create(&settings.scanner(), GroupContext::default())?;
            scan.reader = Some(Reader::begin(consumer, topic, name, partition, (start, end), patience)?);
        }
        Ok(scan)
    }
}

#[async_trait]
impl Scan for KafkaScan {
    fn start(&self) -> Offset {
        self.start
    }

    fn end(&self) -> Offset {
        self.end
    }

    async fn next(&mut self, batch: &mut Batch, max: usize) -> Result<bool, LogError> {
        if self.finished {
            *batch = Batch::default();
            return Ok(false);
        }
        let ended =
            || LogError::Broken { doing: DOING, cause: "an earlier call failed or was dropped".to_owned() };
        let mut reader = self.reader.take().ok_or_else(ended)?;
        let mut filling = std::mem::take(batch);
        let (reader, filled) = blocking(DOING, move || {
            filling.clear(reader.partition);
            let more = reader.fill(&mut filling, max.max(1))?;
            // Closing a consumer blocks: here, if it is no longer needed.
            Ok((more.then_some(reader), filling))
        })
        .await?;
        self.finished = reader.is_none();
        self.reader = reader;
        *batch = filled;
        Ok(!self.finished)
    }
}

impl Reader {
    fn begin(
        consumer: BaseConsumer<GroupContext>,
        topic: Topic,
        name: String,
        partition: PartitionId,
        (start, end): (Offset, Offset),
        patience: Duration,
    ) -> Result<Self, LogError> {
        let list = at(&name, partition, start).map_err(|error| failed(DOING, topic, &error))?;
        consumer.assign(&list).map_err(|error| failed(DOING, topic, &error))?;
        Ok(Self {
            consumer,
            topic,
            name: name.into(),
            partition,
            position: start,
            end,
            at_end: false,
            decided: false,
            patience,
        })
    }

    /// Reads from the partition's start to its end as it is now, as far as transactions are decided. Blocks for a
    /// request.
    pub(super) fn from_start(
        settings: &Settings,
        topic: Topic,
        name: String,
        partition: PartitionId,
    ) -> Result<Self, LogError> {
        let consumer: BaseConsumer<GroupContext> = create(&settings.scanner(), GroupContext::default())?;
        let span = watermarks(&consumer, topic, &name, partition)?;
        Self::begin(consumer, topic, name, partition, span, PATIENCE)
    }

    pub(super) const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Moves the end on to where the partition ends now; false if that is no further.
    pub(super) fn extend(&mut self) -> Result<bool, LogError> {
        let (_, end) = watermarks(&self.consumer, self.topic, &self.name, self.partition)?;
        let further = end > self.end;
        if further {
            // What librdkafka said of the old end says nothing of this one.
            (self.end, self.decided) = (end, false);
        }
        Ok(further)
    }

    /// Takes at least one record; false if there is none.
    pub(super) fn fill(&mut self, batch: &mut Batch, max: usize) -> Result<bool, LogError> {
        let mut last_error = None;
        let deadline = Instant::now() + self.patience;
        while self.position < self.end && !batch.is_full(max) {
            if self.at_end {
                if !batch.is_empty() {
                    break;
                }
                self.prove_end(deadline)?;
                continue;
            }
            match self.consumer.poll(if batch.is_empty() { STEP } else { Duration::ZERO }) {
                Some(Ok(message)) => {
                    self.position = push(batch, &message)?;
                    self.decided = false;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.at_end = true,
                Some(Err(error)) if is_final(&error) => return Err(failed(DOING, self.topic, &error)),
                // librdkafka goes on by itself, for as long as there is patience.
                Some(Err(error)) => last_error = Some(error),
                None if !batch.is_empty() => break,
                None if Instant::now() >= deadline => {
                    let cause =
                        last_error.map_or_else(|| "no record came".to_owned(), |error| error.to_string());
                    return Err(LogError::Unavailable { doing: DOING, cause });
                }
                None => {}
            }
        }
        Ok(!batch.is_empty())
    }

    /// The partition ends here, as of some fetch. If that began after all before `end` was decided, only markers of
    /// transactions lie between, and the scan is through; otherwise waits for the decision and has it fetched again.
    fn prove_end(&mut self, deadline: Instant) -> Result<(), LogError> {
        self.at_end = false;
        if std::mem::replace(&mut self.decided, true) {
            self.position = self.end;
            return Ok(());
        }
        loop {
            let (_, stable) = watermarks(&self.consumer, self.topic, &self.name, self.partition)?;
            if stable >= self.end {
                break;
            }
            if Instant::now() >= deadline {
                let cause = hanging::of_partition(&self.name, self.partition, stable);
                return Err(LogError::Unavailable { doing: DOING, cause });
            }
            std::thread::sleep(PAUSE);
        }
        let list = at(&self.name, self.partition, self.position)
            .map_err(|error| failed(DOING, self.topic, &error))?;
        loop {
            let sought = self
                .consumer
                .seek_partitions(list.clone(), REQUEST)
                .map_err(|error| failed(DOING, self.topic, &error))?;
            match sought.elements().first().map(|element| element.error()) {
                Some(Err(error)) if Instant::now() >= deadline => {
                    return Err(failed(DOING, self.topic, &error));
                }
                Some(Err(_)) => std::thread::sleep(PAUSE),
                Some(Ok(())) | None => return Ok(()),
            }
        }
    }
}

/// Where the partition starts and ends, as far as the client's isolation lets it see.
fn watermarks(
    consumer: &BaseConsumer<GroupContext>,
    topic: Topic,
    name: &str,
    partition: PartitionId,
) -> Result<(Offset, Offset), LogError> {
    let (start, end) = consumer
        .fetch_watermarks(name, raw(partition), REQUEST)
        .map_err(|error| failed(DOING, topic, &error))?;
    match (Offset::new(start), Offset::new(end)) {
        (Some(start), Some(end)) => Ok((start, end)),
        _ => Err(LogError::Unavailable {
            doing: DOING,
            cause: "the broker does not say where the partition starts and ends".to_owned(),
        }),
    }
}

fn at(name: &str, partition: PartitionId, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(name, raw(partition), KafkaOffset::Offset(offset.get()))?;
    Ok(list)
}

/// What does not pass by waiting. An offset that is gone: the log's start has moved on since the scan began.
fn is_final(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
        )
    )
}
