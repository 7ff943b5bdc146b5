//! What the door and the lanes hold: the way to the writer thread, and the work that callers do for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::frame::{self, Chunk, FRAME_BYTES, RECORD_BYTES_MAX};
use super::keyed::Keyed;
use super::partition::Partition;
use super::writer::{Command, no_such_topic};
use crate::log::{LogError, NewRecord, Topic, home_partition};
use crate::model::PartitionId;

/// The partitions of each topic.
pub(super) type Topics = ArcSwap<BTreeMap<Topic, Vec<Arc<Partition>>>>;

/// Records that wait for the writer take at most so much memory; a caller beyond that waits.
const WAITING_BYTES: u32 = 32 << 20;

#[derive(Clone)]
pub(super) struct Handle {
    commands: Sender<Command>,
    room: Arc<Semaphore>,
    /// Where the next records with neither key nor partition go.
    turn: Arc<AtomicU32>,
    pub(super) topics: Arc<Topics>,
    /// Why nothing is written any more: set once, by the writer.
    pub(super) broken: Arc<OnceLock<String>>,
}

/// Records, encoded and sorted by where they go.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) chunks: Vec<Chunk>,
    /// Of each record, in order: its chunk, and its place in that.
    pub(super) places: Vec<(usize, u32)>,
}

impl Handle {
    pub(super) fn new(commands: Sender<Command>) -> Self {
        Self {
            commands,
            room: Arc::new(Semaphore::new(WAITING_BYTES as usize)),
            turn: Arc::default(),
            topics: Arc::default(),
            broken: Arc::default(),
        }
    }

    /// The journal may be closed already; then nobody waits for the command's effect.
    pub(super) fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask<T>(
        &self,
        doing: &'static str,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, LogError> {
        let (answer, answered) = oneshot::channel();
        self.tell(command(answer));
        answered.await.map_err(|_| self.gone(doing))
    }

    /// Why the writer does not answer.
    pub(super) fn gone(&self, doing: &'static str) -> LogError {
        match self.broken.get() {
            Some(cause) => LogError::Broken { doing, cause: cause.clone() },
            None => LogError::Unavailable { doing, cause: "the journal is closed".to_owned() },
        }
    }

    /// Waits until the chunks fit into what may wait for the writer.
    pub(super) async fn room_for(&self, chunks: &[Chunk]) -> Result<OwnedSemaphorePermit, LogError> {
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        // One that is larger than all there is waits until it is alone.
        let bytes = u32::try_from(bytes).unwrap_or(WAITING_BYTES).min(WAITING_BYTES);
        let room = self.room.clone().acquire_many_owned(bytes).await;
        room.map_err(|_| self.gone("appending to the journal"))
    }

    pub(super) fn partition(&self, topic: Topic, partition: PartitionId) -> Result<Arc<Partition>, LogError> {
        let topics = self.topics.load();
        let partitions = topics.get(&topic).ok_or_else(|| no_such_topic(topic))?;
        partitions.get(partition.0 as usize).cloned().ok_or_else(|| LogError::Topic {
            topic: topic.name(),
            cause: format!("has no partition {partition}"),
        })
    }

    pub(super) fn encode(
        &self,
        records: impl IntoIterator<Item = (Topic, NewRecord)>,
    ) -> Result<Encoded, LogError> {
        let topics = self.topics.load();
        let mut encoded = Encoded::default();
        // The chunk that each partition's records go to now.
        let mut filling = BTreeMap::new();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for (topic, record) in records {
            let bytes = frame::encoded_bytes(&record);
            if bytes > RECORD_BYTES_MAX {
                return Err(LogError::TooLarge { bytes });
            }
            let partitions = topics.get(&topic).ok_or_else(|| no_such_topic(topic))?.len();
            let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
            let partition = match (record.partition, &record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => home_partition(key, partitions),
                (None, None) => PartitionId(turn % partitions.max(1)),
            };
            if partition.0 >= partitions {
                return Err(LogError::Topic {
                    topic: topic.name(),
                    cause: format!("has no partition {partition}"),
                });
            }
            let keyed = match (topic.is_compacted(), &record.key) {
                (false, _) => None,
                (true, Some(key)) => Some(Keyed { key: key.clone(), removes: record.value.is_empty() }),
                // As a broker would: it refuses such a record, and its clients try again.
                (true, None) => {
                    return Err(LogError::Unavailable {
                        doing: "appending to the journal",
                        cause: format!("{} takes no record without a key", topic.name()),
                    });
                }
            };
            let mut index = *filling.entry((topic, partition)).or_insert(usize::MAX);
            let full = |chunk: &Chunk| chunk.keyed.is_some() || chunk.bytes.len() + bytes > FRAME_BYTES;
            if encoded.chunks.get(index).is_none_or(full) {
                index = encoded.chunks.len();
                filling.insert((topic, partition), index);
                encoded.chunks.push(Chunk { topic, partition, records: 0, bytes: Vec::new(), keyed });
            }
            let chunk = &mut encoded.chunks[index];
            frame::encode(&record, &mut chunk.bytes);
            encoded.places.push((index, chunk.records));
            chunk.records += 1;
        }
        Ok(encoded)
    }
}
