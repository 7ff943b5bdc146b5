//! Putting a block: events, findings, dead letters, rejects, then the block's line, each until it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::block::CutBlock;
use super::dead_letter::{self, Dead};
use super::rows::{Reject, block_row, finding_row, reject_row};
use super::tables::{BLOCKS, FINDINGS, REJECTS, Table};
use super::{Counts, StoreError};
use crate::clickhouse::{Client, InsertLabel};
use crate::log::{EventLog, NewRecord, Topic};
use crate::model::{Alert, UnixMs};
use crate::pipeline::decode::{self, RejectReason};

/// How long to wait before the first repetition, and at most.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

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
    pub(super) client: Client,
    log: Arc<dyn EventLog>,
    trouble: watch::Sender<Option<Trouble>>,
}

/// Why the last attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// [`StoreError::code`].
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) text: String,
}

impl Store {
    pub(crate) fn new(client: Client, log: Arc<dyn EventLog>) -> Self {
        Self { client, log, trouble: watch::Sender::new(None) }
    }

    /// What keeps blocks from being stored just now: marked as changed at every failure, `None` while all is well.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Stores a block and returns when all of it is acknowledged. It waits for as long as waiting may help; dropping
    /// the call is safe, and leaves the block to be put `Again`.
    pub(crate) async fn put(&self, block: &CutBlock, put: Put) -> Result<Stored, StoreError> {
        let mut counts = block.counts.clone();
        let Some((_, received_at)) = block.span else {
            return Ok(Stored { counts, repeated: 0 });
        };
        let events = self.put_events(block, put).await?;
        self.rewrite(&FINDINGS, block.findings.clone()).await?;

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
        self.append_dead_letters(letters).await?;
        self.rewrite(&REJECTS, rejects.into()).await?;

        let mut line = Vec::new();
        block_row(&mut line, &block.id, received_at, &counts, &block.snapshots);
        self.rewrite(&BLOCKS, line.into()).await?;
        Ok(Stored { counts, repeated: events.repeated })
    }

    /// Writes rows of a replacing table: again is as good as once.
    async fn rewrite(&self, table: &Table, rows: Bytes) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut back_off = BackOff::new(self);
        loop {
            let label = InsertLabel::default();
            match self.client.insert(table.name, &table.column_list, rows.clone(), label).await {
                Ok(()) => break,
                Err(error) => back_off.failed(error.into()).await?,
            }
        }
        back_off.succeeded();
        Ok(())
    }

    async fn append_dead_letters(&self, letters: Vec<NewRecord>) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut back_off = BackOff::new(self);
        loop {
            match self.log.append(Topic::DeadLetters, letters.clone()).await {
                Ok(_) => break,
                Err(error) => back_off.failed(StoreError::DeadLetters(error)).await?,
            }
        }
        back_off.succeeded();
        Ok(())
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
    let mut rows = Vec::new();
    for Alert { data, .. } in alerts {
        finding_row(&mut rows, (&data.log, &data.topic, data.partition), &data.finding);
    }
    let label = InsertLabel::default();
    Ok(client.insert(FINDINGS.name, &FINDINGS.column_list, rows.into(), label).await?)
}

/// Waits longer after every failure, and says meanwhile what is wrong.
pub(super) struct BackOff<'s> {
    store: &'s Store,
    wait: Duration,
}

impl<'s> BackOff<'s> {
    pub(super) fn new(store: &'s Store) -> Self {
        Self { store, wait: BACK_OFF }
    }

    /// Waits if waiting may help; hands the error back if not.
    pub(super) async fn failed(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.store.trouble.send_replace(Some(Trouble { code: error.code(), text: error.to_string() }));
        if !error.is_passing() {
            return Err(error);
        }
        tracing::warn!(code = error.code(), error = %error, "a block is not stored yet and is tried again");
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(BACK_OFF_MAX);
        Ok(())
    }

    pub(super) fn succeeded(&self) {
        self.store.trouble.send_if_modified(|trouble| trouble.take().is_some());
    }
}

/// The append time that rows of a block may have at the earliest.
pub(super) fn earliest(first: UnixMs) -> UnixMs {
    /// Append times of a partition are not monotone on Kafka.
    const SLACK: Duration = Duration::from_secs(60 * 60);
    first - SLACK
}
