//! What ClickHouse knows of a partition when the log's commit is gone.

use super::StoreError;
use super::put::{Store, earliest};
use crate::log::Topic;
use crate::model::{LogId, Offset, PartitionId, UnixMs};

/// The last row that ClickHouse holds of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastStored {
    pub(crate) log: LogId,
    pub(crate) offset: Offset,
    /// The append time of its record.
    pub(crate) received_at: UnixMs,
    /// The end of the last block whose line is there: everything up to it is stored.
    pub(crate) settled: Option<Offset>,
}

impl Store {
    /// The last row of the partition, in whichever log was stored last; `None` if there is none. One attempt.
    pub(crate) async fn last_stored(
        &self,
        topic: Topic,
        partition: PartitionId,
    ) -> Result<Option<LastStored>, StoreError> {
        // The newest line bounds the search to the days since; without a line the whole table is read.
        let line = self.clickhouse.newest_line(topic, partition).await?;
        let since = line
            .as_ref()
            .map_or(UnixMs::default(), |&(_, _, received_at)| earliest(UnixMs::new(received_at)));
        let log = line.as_ref().map_or("", |(log, _, _)| log);
        let mut row = self.clickhouse.newest_row(topic, partition, log, since).await?;
        if row.is_none() && line.is_some() {
            row = self.clickhouse.newest_row(topic, partition, log, UnixMs::default()).await?;
        }
        let settled = line.map(|(_, last, _)| last);
        Ok(row.and_then(|(log, offset, received_at)| {
            Some(LastStored {
                log: LogId::try_from(log).ok()?,
                offset: offset_of(offset)?,
                received_at: UnixMs::new(received_at),
                settled: settled.and_then(offset_of),
            })
        }))
    }
}

fn offset_of(offset: u64) -> Option<Offset> {
    Offset::new(i64::try_from(offset).ok()?)
}
