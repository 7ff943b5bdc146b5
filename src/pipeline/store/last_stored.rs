//! What ClickHouse knows of a partition when the log's commit is gone.

use super::StoreError;
use super::put::{Store, earliest};
use crate::clickhouse::ClickHouseError;
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
        let line = self.newest_line(topic, partition).await?;
        let since = line
            .as_ref()
            .map_or(UnixMs::default(), |&(_, _, received_at)| earliest(UnixMs::new(received_at)));
        let log = line.as_ref().map_or("", |(log, _, _)| log);
        let mut row = self.newest_row(topic, partition, log, since).await?;
        if row.is_none() && line.is_some() {
            row = self.newest_row(topic, partition, log, UnixMs::default()).await?;
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

    async fn newest_line(
        &self,
        topic: Topic,
        partition: PartitionId,
    ) -> Result<Option<(String, u64, i64)>, ClickHouseError> {
        let sql = "SELECT toString(log), last, toUnixTimestamp64Milli(received_at) FROM blocks \
                   WHERE topic = ? AND partition = ? ORDER BY received_at DESC, last DESC LIMIT 1";
        Ok(self.client.query(sql).bind(topic.name()).bind(partition.0).fetch_optional().await?)
    }

    /// In the log `log` if it is not empty.
    async fn newest_row(
        &self,
        topic: Topic,
        partition: PartitionId,
        log: &str,
        since: UnixMs,
    ) -> Result<Option<(String, u64, i64)>, ClickHouseError> {
        let sql = "SELECT toString(log), offset, toUnixTimestamp64Milli(received_at) FROM events \
                   WHERE topic = ? AND partition = ? AND (? = '' OR log = ?) \
                   AND received_at >= fromUnixTimestamp64Milli(?) ORDER BY received_at DESC, offset DESC LIMIT 1";
        let query = self.client.query(sql).bind(topic.name()).bind(partition.0).bind(log).bind(log);
        Ok(query.bind(since.get()).fetch_optional().await?)
    }
}

fn offset_of(offset: u64) -> Option<Offset> {
    Offset::new(i64::try_from(offset).ok()?)
}
