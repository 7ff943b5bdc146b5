//! What ClickHouse knows of a partition when the log's commit is gone.

use std::ops::Range;

use super::StoreError;
use super::put::Store;
use crate::log::Topic;
use crate::model::{LogId, Offset, PartitionId, UnixMs};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

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
        let line = self.clickhouse.newest_line(topic, partition).await?;
        let log = line.as_ref().map_or("", |(log, _, _)| log);
        let mut row = None;
        for day in days_back(self.clickhouse.span().await?) {
            row = self.clickhouse.newest_row(topic, partition, log, day).await?;
            if row.is_some() {
                break;
            }
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

/// The days from the last time's to the first one's, as ClickHouse cuts them: in UTC.
fn days_back(span: Option<(UnixMs, UnixMs)>) -> impl Iterator<Item = Range<UnixMs>> {
    let day = |time: UnixMs| time.get().div_euclid(DAY_MS);
    let days = span.map(|(first, last)| day(first)..=day(last));
    days.into_iter().flatten().rev().map(|day| UnixMs::new(day * DAY_MS)..UnixMs::new((day + 1) * DAY_MS))
}

fn offset_of(offset: u64) -> Option<Offset> {
    Offset::new(i64::try_from(offset).ok()?)
}
