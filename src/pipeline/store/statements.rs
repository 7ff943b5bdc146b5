//! Everything that the store asks of ClickHouse, one attempt each: so that a model of ClickHouse can take its place where
//! failures are wanted that a real one makes once a year.

use std::collections::HashSet;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::block::BlockId;
use super::stored_before::EventRow;
use super::tables::Table;
use crate::clickhouse::{ClickHouseError, Client, InsertLabel};
use crate::log::{Origin, Topic};
use crate::model::{PartitionId, UnixMs};

/// The newest row or line of a partition: its log, its (last) offset, and the append time there in milliseconds.
pub(super) type Newest = (String, u64, i64);

/// ClickHouse, as the store uses it.
#[async_trait]
pub(super) trait Statements: Send + Sync {
    async fn ping(&self) -> Result<(), ClickHouseError>;

    /// Inserts `rows`; see [`Client::insert`].
    async fn insert(&self, table: &Table, rows: Bytes, label: InsertLabel<'_>)
    -> Result<(), ClickHouseError>;

    /// Whether the table is the one that our rows are made for.
    async fn check_columns(&self, table: &Table) -> Result<(), ClickHouseError>;

    /// How many inserts of the partition run now.
    async fn running(&self, origin: &Origin) -> Result<u64, ClickHouseError>;

    /// The offsets within the block that have a row of `events`, received at `since` or after.
    async fn held(&self, block: &BlockId, since: UnixMs) -> Result<HashSet<u64>, ClickHouseError>;

    /// The newest line of `blocks`.
    async fn newest_line(
        &self,
        topic: Topic,
        partition: PartitionId,
    ) -> Result<Option<Newest>, ClickHouseError>;

    /// When the first and the last row of `events` was received. Parts know that: no row is read for it.
    async fn span(&self) -> Result<Option<(UnixMs, UnixMs)>, ClickHouseError>;

    /// The newest row of `events` that was `received` then, in the log `log` if it is not empty. All of a partition's rows
    /// of that time are read: ask a day at a time, which is one of the table's own partitions.
    async fn newest_row(
        &self,
        topic: Topic,
        partition: PartitionId,
        log: &str,
        received: Range<UnixMs>,
    ) -> Result<Option<Newest>, ClickHouseError>;

    /// The rows of events with these ids in the partition, received at `since` or after.
    async fn rows_of(
        &self,
        origin: &Origin,
        ids: Vec<String>,
        since: UnixMs,
    ) -> Result<Vec<EventRow>, ClickHouseError>;
}

#[async_trait]
impl Statements for Client {
    async fn ping(&self) -> Result<(), ClickHouseError> {
        self.ping().await
    }

    async fn insert(
        &self,
        table: &Table,
        rows: Bytes,
        label: InsertLabel<'_>,
    ) -> Result<(), ClickHouseError> {
        self.insert(table.name, &table.column_list, rows, label).await
    }

    async fn check_columns(&self, table: &Table) -> Result<(), ClickHouseError> {
        self.check_columns(table.name, &table.columns).await
    }

    async fn running(&self, origin: &Origin) -> Result<u64, ClickHouseError> {
        let sql = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = ?";
        self.answered(self.query(sql).bind(origin.to_string()).fetch_one()).await
    }

    async fn held(&self, block: &BlockId, since: UnixMs) -> Result<HashSet<u64>, ClickHouseError> {
        let sql = "SELECT offset FROM events WHERE log = ? AND topic = ? AND partition = ? \
                   AND offset BETWEEN ? AND ? AND received_at >= fromUnixTimestamp64Milli(?)";
        let query = self
            .query(sql)
            .bind(block.origin.log.as_str())
            .bind(block.origin.topic.name())
            .bind(block.origin.partition.0)
            .bind(block.first.get())
            .bind(block.last.get())
            .bind(since.get());
        let offsets = self.answered(query.fetch_all::<u64>()).await?;
        Ok(offsets.into_iter().collect())
    }

    async fn newest_line(
        &self,
        topic: Topic,
        partition: PartitionId,
    ) -> Result<Option<Newest>, ClickHouseError> {
        let sql = "SELECT toString(log), last, toUnixTimestamp64Milli(received_at) FROM blocks \
                   WHERE topic = ? AND partition = ? ORDER BY received_at DESC, last DESC LIMIT 1";
        self.answered(self.query(sql).bind(topic.name()).bind(partition.0).fetch_optional()).await
    }

    async fn span(&self) -> Result<Option<(UnixMs, UnixMs)>, ClickHouseError> {
        let sql = "SELECT count(), toUnixTimestamp64Milli(min(received_at)), \
                   toUnixTimestamp64Milli(max(received_at)) FROM events";
        let (rows, first, last) = self.answered(self.query(sql).fetch_one::<(u64, i64, i64)>()).await?;
        Ok((rows > 0).then_some((UnixMs::new(first), UnixMs::new(last))))
    }

    async fn newest_row(
        &self,
        topic: Topic,
        partition: PartitionId,
        log: &str,
        received: Range<UnixMs>,
    ) -> Result<Option<Newest>, ClickHouseError> {
        let sql = "SELECT toString(log), offset, toUnixTimestamp64Milli(received_at) FROM events \
                   WHERE topic = ? AND partition = ? AND (? = '' OR log = ?) \
                   AND received_at >= fromUnixTimestamp64Milli(?) AND received_at < fromUnixTimestamp64Milli(?) \
                   ORDER BY received_at DESC, offset DESC LIMIT 1";
        let query = self.query(sql).bind(topic.name()).bind(partition.0).bind(log).bind(log);
        let query = query.bind(received.start.get()).bind(received.end.get());
        self.answered(query.fetch_optional()).await
    }

    async fn rows_of(
        &self,
        origin: &Origin,
        ids: Vec<String>,
        since: UnixMs,
    ) -> Result<Vec<EventRow>, ClickHouseError> {
        let sql = "SELECT toString(tenant), toString(gateway), toString(event_id), \
                   toBool(proof != 'none'), offset, toUnixTimestamp64Milli(received_at) FROM events \
                   WHERE log = ? AND topic = ? AND partition = ? AND received_at >= fromUnixTimestamp64Milli(?) \
                   AND event_id IN (SELECT toUUID(arrayJoin(?)))";
        let query = self.query(sql).bind(origin.log.as_str()).bind(origin.topic.name());
        let query = query.bind(origin.partition.0).bind(since.get()).bind(ids);
        self.answered(query.fetch_all()).await
    }
}
