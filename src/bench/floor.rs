//! The floor: a consumer of the same log that only reads records, copies them into rows and inserts those. Whoever
//! brings events from a log to ClickHouse pays at least this.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::traffic::BATCH_RECORDS;
use crate::clickhouse::{Client, InsertLabel};
use crate::lifecycle::Lifecycle;
use crate::log::{Assigned, Batch, EventLog, Lane, MemberEvent, Topic};
use crate::model::{Offset, ResumeAt};

/// Bytes of a block and its age: as the walk has them.
const BLOCK_BYTES: usize = 16 << 20;
const BLOCK_AGE: Duration = Duration::from_millis(600);

/// The table takes rows and keeps none.
pub(super) async fn make_table(client: &Client) -> anyhow::Result<()> {
    client.execute("CREATE TABLE IF NOT EXISTS bench_floor (value String) ENGINE = Null").await?;
    Ok(())
}

/// Reads all of the event topic until `events` records have been inserted and committed.
pub(super) async fn run(
    log: &Arc<dyn EventLog>,
    client: &Client,
    events: usize,
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    let mut membership = log.join("bench-floor", Topic::Events).await?;
    let done = Arc::new(AtomicUsize::new(0));
    while done.load(Ordering::Relaxed) < events {
        tokio::select! {
            event = membership.next() => if let MemberEvent::Assigned(assigned) = event? {
                let (client, done) = (client.clone(), Arc::clone(&done));
                lifecycle.spawn(format!("floor-{}", assigned.partition), async move {
                    // The lane dies with the membership, when all is done.
                    if let Err(error) = partition(assigned, &client, &done).await {
                        tracing::debug!(%error, "a lane of the floor ended");
                    }
                });
            },
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
    }
    Ok(())
}

async fn partition(assigned: Assigned, client: &Client, done: &AtomicUsize) -> anyhow::Result<()> {
    let lane = assigned.lane;
    let mut at = assigned.commit.map_or(assigned.start, |commit| commit.resume_at.offset());
    lane.seek(at).await?;
    let (mut batch, mut rows) = (Batch::default(), Rows::default());
    loop {
        let due = rows.since.map_or_else(|| Instant::now() + BLOCK_AGE, |since| since + BLOCK_AGE);
        tokio::select! {
            read = lane.next(&mut batch, BATCH_RECORDS) => {
                read?;
                at = batch.position().unwrap_or(at);
                rows.take(&batch);
                if rows.bytes.len() >= BLOCK_BYTES {
                    rows.insert(lane.as_ref(), at, client, done).await?;
                }
            }
            () = tokio::time::sleep_until(due) => rows.insert(lane.as_ref(), at, client, done).await?,
        }
    }
}

/// Rows of one column, in RowBinary.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    count: usize,
    since: Option<Instant>,
}

impl Rows {
    fn take(&mut self, batch: &Batch) {
        for record in batch.iter() {
            let mut length = record.value.len();
            while length >= 0x80 {
                self.bytes.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            self.bytes.push(length as u8);
            self.bytes.extend_from_slice(record.value);
        }
        self.count += batch.len();
        self.since.get_or_insert_with(Instant::now);
    }

    async fn insert(
        &mut self,
        lane: &dyn Lane,
        at: Offset,
        client: &Client,
        done: &AtomicUsize,
    ) -> anyhow::Result<()> {
        let Self { bytes, count, .. } = std::mem::take(self);
        if count > 0 {
            client.insert("bench_floor", "value", bytes.into(), InsertLabel::default()).await?;
            lane.commit(ResumeAt::at(at), "", Vec::new()).await.context("committing")?;
            done.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }
}
