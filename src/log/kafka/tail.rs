//! A tail: a scan that goes on. At the end of what it has read it asks again and again where the partition ends by now.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::blocking;
use super::scan::Reader;
use super::settings::Settings;
use crate::log::{Batch, LogError, TAIL_QUIET, Tail, Topic};
use crate::model::PartitionId;

pub(super) const DOING: &str = "following a partition";
/// How often it asks: a change is seen by everyone within a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) struct KafkaTail {
    /// `None` while a call is under way: one that is dropped or fails ends the tail.
    reader: Option<Reader>,
    /// The last answer was that everything has been given.
    is_quiet: bool,
}

impl KafkaTail {
    /// Blocks for a request.
    pub(super) fn begin(
        settings: &Settings,
        topic: Topic,
        name: String,
        partition: PartitionId,
    ) -> Result<Self, LogError> {
        Ok(Self { reader: Some(Reader::from_start(settings, topic, name, partition)?), is_quiet: false })
    }
}

#[async_trait]
impl Tail for KafkaTail {
    async fn next(&mut self, batch: &mut Batch, max: usize) -> Result<(), LogError> {
        let ended =
            || LogError::Broken { doing: DOING, cause: "an earlier call failed or was dropped".to_owned() };
        let mut reader = self.reader.take().ok_or_else(ended)?;
        let mut filling = std::mem::take(batch);
        filling.clear(reader.partition());
        let quiet_until = Instant::now() + if self.is_quiet { TAIL_QUIET } else { Duration::ZERO };
        let max = max.max(1);
        loop {
            let more;
            (reader, filling, more) = blocking(DOING, move || {
                // First what is left of the last end; then, if there is nothing, whether there is a new one.
                let mut more = reader.fill(&mut filling, max)?;
                while !more && reader.extend()? {
                    more = reader.fill(&mut filling, max)?;
                }
                Ok((reader, filling, more))
            })
            .await?;
            if more || Instant::now() >= quiet_until {
                self.is_quiet = !more;
                self.reader = Some(reader);
                *batch = filling;
                return Ok(());
            }
            // Not on a thread that a shutdown would have to wait for.
            tokio::time::sleep_until((Instant::now() + LOOK_EVERY).min(quiet_until)).await;
        }
    }
}
