//! The event rows of a block: inserted under a token, and asked for wherever the answer was not clean.
//!
//! The token alone is not enough (PROMISE, "Why so"): an engine killed between its deduplication log and the part's
//! rename answers "success" to a repetition and holds nothing; one killed between the part and that log takes the
//! rows twice. So nothing is repeated before ClickHouse was asked which offsets it holds, and the token only keeps two
//! requests that are in flight at the same time from both landing.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::block::CutBlock;
use super::put::{Put, Store, earliest};
use super::tables::EVENTS;
use super::{Patience, StoreError};
use crate::clickhouse::{ClickHouseError, InsertLabel};
use crate::log::Origin;

/// How often to look whether an insert of this partition still runs.
const IDLE_POLL: Duration = Duration::from_millis(50);

/// What became of the event rows.
#[derive(Debug, Default)]
pub(super) struct PutEvents {
    /// The rows that ClickHouse refuses, by their number in the block.
    pub(super) refused: BTreeSet<usize>,
    /// Attempts beyond the first.
    pub(super) repeated: u32,
}

impl Store {
    /// Inserts the event rows until ClickHouse holds each of them, or has refused it.
    pub(super) async fn put_events(
        &self,
        block: &CutBlock,
        put: Put,
        patience: &Patience,
    ) -> Result<PutEvents, StoreError> {
        let mut done = PutEvents::default();
        let mut missing: Vec<usize> = (0..block.ends.len()).collect();
        let (mut attempt, mut in_doubt) = (0, put == Put::Again);
        if in_doubt {
            missing = self.missing(block, &done.refused, patience).await?;
            // A part of the block is another insert than the whole: never under its token.
            attempt = u32::from(missing.len() < block.ends.len());
        }
        let mut waiting = patience.waiting();
        while !missing.is_empty() {
            let is_clean = match self.insert(block, &missing, attempt, &mut done.refused).await {
                Ok(()) => {
                    waiting.succeeded();
                    true
                }
                Err(error) => {
                    waiting.failed(error).await?;
                    false
                }
            };
            if is_clean && !in_doubt {
                break;
            }
            in_doubt = true;
            let still_missing = self.missing(block, &done.refused, patience).await?;
            // Unclear and nothing landed: it may still be on its way, so the same rows go under the same token.
            if is_clean || still_missing != missing {
                attempt += 1;
            }
            done.repeated += u32::from(!still_missing.is_empty());
            missing = still_missing;
        }
        self.refusals.note(block.ends.len(), done.refused.len());
        Ok(done)
    }

    /// One attempt at `rows`. What ClickHouse refuses is found by halving and noted; the rest is inserted.
    async fn insert(
        &self,
        block: &CutBlock,
        rows: &[usize],
        attempt: u32,
        refused: &mut BTreeSet<usize>,
    ) -> Result<(), StoreError> {
        let token = block.id.token(attempt);
        match self.insert_part(block, rows, &token).await {
            Err(ClickHouseError::Refused { .. }) => {}
            answer => return Ok(answer?),
        }
        // If the table is not the one that these rows were made for, every row is refused, and none is to blame.
        self.clickhouse.check_columns(&EVENTS).await?;
        let mut parts = vec![rows];
        while let Some(part) = parts.pop() {
            let (first, last) = (part[0], part[part.len() - 1]);
            let token = format!("{token}/{}-{}", block.ends[first].offset, block.ends[last].offset);
            match self.insert_part(block, part, &token).await {
                Ok(()) => {}
                Err(ClickHouseError::Refused { code, text }) if part.len() == 1 => {
                    tracing::warn!(
                        log.offset = block.ends[first].offset.get(),
                        clickhouse.code = code,
                        clickhouse.text = text,
                        "ClickHouse refuses an event: it becomes a dead letter"
                    );
                    refused.insert(first);
                    self.refusals.bear(refused.len())?;
                }
                Err(ClickHouseError::Refused { .. }) => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([right, left]);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn insert_part(
        &self,
        block: &CutBlock,
        rows: &[usize],
        token: &str,
    ) -> Result<(), ClickHouseError> {
        let comment = block.id.origin.to_string();
        let label = InsertLabel { token: Some(token), log_comment: Some(&comment) };
        self.clickhouse.insert(&EVENTS, bytes_of(block, rows), label).await
    }

    /// The rows that ClickHouse does not hold, once no insert of the partition runs any more.
    async fn missing(
        &self,
        block: &CutBlock,
        refused: &BTreeSet<usize>,
        patience: &Patience,
    ) -> Result<Vec<usize>, StoreError> {
        let ask = async || -> Result<_, StoreError> {
            // Rows for another table may fail in ways that look passing.
            self.clickhouse.check_columns(&EVENTS).await?;
            self.wait_until_idle(&block.id.origin).await?;
            Ok(self.held(block).await?)
        };
        let held = patience.wait_out(ask).await?;
        let is_missing = |row: &usize| {
            !held.contains(&block.ends[*row].offset.get().unsigned_abs()) && !refused.contains(row)
        };
        Ok((0..block.ends.len()).filter(is_missing).collect())
    }

    async fn wait_until_idle(&self, origin: &Origin) -> Result<(), ClickHouseError> {
        while self.clickhouse.running(origin).await? > 0 {
            tokio::time::sleep(IDLE_POLL).await;
        }
        Ok(())
    }

    async fn held(&self, block: &CutBlock) -> Result<HashSet<u64>, ClickHouseError> {
        match block.span {
            Some((first_received, _)) => self.clickhouse.held(&block.id, earliest(first_received)).await,
            None => Ok(HashSet::new()),
        }
    }
}

/// The bytes of `rows`, which are in rising order.
fn bytes_of(block: &CutBlock, rows: &[usize]) -> Bytes {
    let (first, last) = (rows[0], rows[rows.len() - 1]);
    if last - first + 1 == rows.len() {
        return block.event_rows(first, last + 1);
    }
    rows.iter().flat_map(|&row| block.event_rows(row, row + 1)).collect()
}
