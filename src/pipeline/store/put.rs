//! Putting a block: events, findings, dead letters, rejects, then the block's line, each until it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::block::CutBlock;
use super::dead_letter::{self, Dead};
use super::refusals::Refusals;
use super::rows::{Reject, block_row, finding_row, reject_row};
use super::statements::Statements;
use super::tables::{BLOCKS, FINDINGS, REJECTS, Table};
use super::{Counts, Patience, StoreError};
use crate::clickhouse::{Client, InsertLabel};
use crate::log::{EventLog, NewRecord, Topic};
use crate::model::{Alert, UnixMs};
use crate::pipeline::decode::{self, RejectReason};

/// Whether rows of a block may be in ClickHouse already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// No: it was reserved just now.
    First,
    /// A former owner may have put it, whole or in part: ask before inserting.
    Again,
}

/// A block that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// What became of its records, with those that ClickHouse refused.
    pub(crate) counts: Counts,
    /// Inserts of events beyond the first: repeated, or completing what was missing.
    pub(crate) repeated: u32,
}

/// Puts blocks into ClickHouse, and their dead letters into the log.
pub(crate) struct Store {
    pub(super) clickhouse: Arc<dyn Statements>,
    log: Arc<dyn EventLog>,
    pub(super) refusals: Refusals,
}

impl Store {
    pub(crate) fn new(client: Client, log: Arc<dyn EventLog>) -> Self {
        Self::over(Arc::new(client), log)
    }

    pub(super) fn over(clickhouse: Arc<dyn Statements>, log: Arc<dyn EventLog>) -> Self {
        Self { clickhouse, log, refusals: Refusals::default() }
    }

    /// Whether ClickHouse answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.clickhouse.ping().await?)
    }

    /// Writes a case that no block has. One attempt.
    pub(crate) async fn put_finding(&self, alert: &Alert) -> Result<(), StoreError> {
        let rows = finding_rows(std::slice::from_ref(alert));
        Ok(self.clickhouse.insert(&FINDINGS, rows, InsertLabel::default()).await?)
    }

    /// Stores a block and returns when all of it is acknowledged. It waits for as long as that takes, with `patience`;
    /// dropping the call is safe, and leaves the block to be put `Again`.
    pub(crate) async fn put(
        &self,
        block: &CutBlock,
        put: Put,
        patience: &Patience,
    ) -> Result<Stored, StoreError> {
        let mut counts = block.counts.clone();
        let Some((_, received_at)) = block.span else {
            return Ok(Stored { counts, repeated: 0 });
        };
        let events = self.put_events(block, put, patience).await?;
        self.rewrite(&FINDINGS, block.findings.clone(), patience).await?;

        let (mut letters, mut rejects) = (block.dead_letters.clone(), block.rejects.to_vec());
        for &row in &events.refused {
            let (letter, dead) = refused(block, row);
            reject_row(&mut rejects, &block.id.origin, &Reject::dead(&dead));
            letters.push(letter);
        }
        let refused = events.refused.len() as u64;
        if refused > 0 {
            counts.stored -= refused;
            *counts.dead.entry(RejectReason::ClickhouseRefused).or_default() += refused;
        }
        self.append_dead_letters(letters, patience).await?;
        self.rewrite(&REJECTS, rejects.into(), patience).await?;

        let mut line = Vec::new();
        block_row(&mut line, &block.id, received_at, &counts, &block.snapshots);
        self.rewrite(&BLOCKS, line.into(), patience).await?;
        Ok(Stored { counts, repeated: events.repeated })
    }

    /// Writes rows of a replacing table: again is as good as once.
    async fn rewrite(&self, table: &Table, rows: Bytes, patience: &Patience) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let write = async || {
            let label = InsertLabel::default();
            Ok(self.clickhouse.insert(table, rows.clone(), label).await?)
        };
        patience.wait_out(write).await
    }

    async fn append_dead_letters(
        &self,
        letters: Vec<NewRecord>,
        patience: &Patience,
    ) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        let append = || self.log.append(Topic::DeadLetters, letters.clone());
        patience.wait_out(append).await.map(|_| ()).map_err(StoreError::DeadLetters)
    }
}

/// The dead letter of an event row that ClickHouse refuses.
fn refused(block: &CutBlock, row: usize) -> (NewRecord, Dead<'static>) {
    let end = &block.ends[row];
    let value = block.value(row);
    let dead = Dead {
        offset: end.offset,
        received_at: end.received_at,
        reason: RejectReason::ClickhouseRefused,
        field: "",
        value_bytes: value.len(),
    };
    (dead_letter::letter(&block.id.origin, &dead, None, decode::mask_record(value)), dead)
}

/// Writes the case rows that alerts carry: `deliver` does, before it tells anyone (PROMISE 5). One attempt.
pub(crate) async fn put_findings(client: &Client, alerts: &[Alert]) -> Result<(), StoreError> {
    let (rows, label) = (finding_rows(alerts), InsertLabel::default());
    Ok(client.insert(FINDINGS.name, &FINDINGS.column_list, rows, label).await?)
}

fn finding_rows(alerts: &[Alert]) -> Bytes {
    let mut rows = Vec::new();
    for Alert { data, .. } in alerts {
        finding_row(&mut rows, (&data.log, &data.topic, data.partition), &data.finding);
    }
    rows.into()
}

/// The append time that rows of a block may have at the earliest.
pub(super) fn earliest(first: UnixMs) -> UnixMs {
    /// Append times of a partition are not monotone on Kafka.
    const SLACK: Duration = Duration::from_secs(60 * 60);
    first - SLACK
}
