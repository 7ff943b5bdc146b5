//! How long things take at half load: from the append to the alert in the outbox, and to the row that a query sees.
//!
//! The traffic has its own clock: an event counts from the time at which it was due, so that a sender that is held up
//! hides nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use super::setting::Setting;
use super::traffic::{plan, record};
use super::way::{PATIENCE, Running, Way};
use crate::clock::Clock;
use crate::log::Topic;
use crate::model::{Alert, UnixMs};
use crate::simulate::Simulator;

/// How long the load lasts.
const LASTS: Duration = Duration::from_secs(15);
/// Often enough for the 99th percentile of their alerts.
const ATTACK_EVERY: Duration = Duration::from_millis(20);
/// Events before the measured ones.
const FIRST: usize = 1_000;
/// Between two looks at the number of rows: what a row's latency is too long by, at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Latencies in milliseconds, in rising order.
#[derive(Debug)]
pub(super) struct Latencies {
    /// The append itself, by its oldest event: what the others have in them, and the walk has no part in.
    pub(super) append: Vec<i64>,
    pub(super) outbox: Vec<i64>,
    pub(super) row: Vec<i64>,
}

/// Sends `rate` events a second for a while.
pub(super) async fn measure(way: &Way, setting: &Setting, rate: f64) -> anyhow::Result<Latencies> {
    let (clock, outbox) = (Clock::default(), Arc::new(Mutex::new(Vec::new())));
    let (own_clock, told) = (clock.clone(), Arc::clone(&outbox));
    let on_alert = move |alert: &Alert| {
        let took_ms = own_clock.now().since_ms(alert.timestamp);
        told.lock().unwrap_or_else(PoisonError::into_inner).push(took_ms);
    };
    let running = Running::start(way, setting, Some(Box::new(on_alert))).await?;
    // A few events beforehand, so that the partitions are assigned when the measured ones come.
    way.fill(FIRST, true).await?;
    running.until_settled(FIRST).await?;
    outbox.lock().unwrap_or_else(PoisonError::into_inner).clear();

    let load =
        Load { way, clock, rate, due: Mutex::new(Vec::new()), all: (rate * LASTS.as_secs_f64()) as usize };
    let both = async { tokio::try_join!(load.send(), load.look()) };
    let (mut append, mut row) = tokio::time::timeout(PATIENCE, both).await.context("rows do not come")??;
    running.stop().await;
    let mut outbox = std::mem::take(&mut *outbox.lock().unwrap_or_else(PoisonError::into_inner));
    for latencies_ms in [&mut append, &mut outbox, &mut row] {
        latencies_ms.sort_unstable();
    }
    Ok(Latencies { append, outbox, row })
}

/// Events on their way.
struct Load<'w> {
    way: &'w Way,
    clock: Clock,
    rate: f64,
    all: usize,
    /// When each event was due, of those that were appended.
    due: Mutex<Vec<UnixMs>>,
}

impl Load<'_> {
    async fn send(&self) -> anyhow::Result<Vec<i64>> {
        let mut latencies_ms = Vec::new();
        // Making the people takes a moment.
        let start = self.clock.now() + Duration::from_secs(1);
        let simulator = Simulator::new(plan(2, start, self.rate, Some(ATTACK_EVERY)));
        let mut coming = simulator.take(self.all).peekable();
        while let Some(next) = coming.peek() {
            let next_due = next.event.time;
            let ahead_ms = next_due.since_ms(self.clock.now());
            tokio::time::sleep(Duration::from_millis(u64::try_from(ahead_ms).unwrap_or(0))).await;
            let now = self.clock.now();
            let mut records = Vec::new();
            while let Some(simulated) = coming.next_if(|simulated| simulated.event.time <= now) {
                self.due.lock().unwrap_or_else(PoisonError::into_inner).push(simulated.event.time);
                records.push(record(&simulated.event, None));
            }
            self.way.log.append(Topic::Events, records).await?;
            latencies_ms.push(self.clock.now().since_ms(next_due));
        }
        Ok(latencies_ms)
    }

    /// Each row's latency. Rows are counted, not told apart: partitions keep step well enough for that.
    async fn look(&self) -> anyhow::Result<Vec<i64>> {
        let mut latencies_ms = Vec::with_capacity(self.all);
        while latencies_ms.len() < self.all {
            tokio::time::sleep(LOOK_EVERY).await;
            let client = &self.way.client;
            let rows: u64 = client.answered(client.query("SELECT count() FROM events").fetch_one()).await?;
            let (now, rows) = (self.clock.now(), usize::try_from(rows)?.saturating_sub(FIRST));
            let due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = latencies_ms.len().min(rows)..rows.min(due.len());
            latencies_ms.extend(due[seen].iter().map(|due| now.since_ms(*due)));
        }
        Ok(latencies_ms)
    }
}

impl Latencies {
    /// The value that `share` of `sorted` do not exceed.
    pub(super) fn percentile(sorted: &[i64], share: f64) -> Option<i64> {
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }
}
