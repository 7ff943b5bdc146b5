//! What is spooled goes to the log, in order, as soon as the log takes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Spool;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::log::{Batch, CommitError, EventLog, Lane, LogError, Membership, NewRecord, Record, Topic};
use crate::model::{Offset, ResumeAt, UnixMs};
use crate::telemetry::{ByCode, Condition, Readiness};

/// At most so many records at once: what may have to be sent again after a kill.
const BATCH_RECORDS: usize = 1_000;

/// How long to wait between two tries, and how often depth and age are told.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The way from the spool to the log.
pub(crate) struct Drain {
    spool: Arc<Spool>,
    lane: Arc<dyn Lane>,
    position: Offset,
    clock: Clock,
    #[expect(dead_code, reason = "held: its drop ends the lane")]
    membership: Box<dyn Membership>,
}

impl Drain {
    pub(super) fn new(
        spool: Arc<Spool>,
        membership: Box<dyn Membership>,
        lane: Arc<dyn Lane>,
        position: Offset,
        clock: Clock,
    ) -> Self {
        Self { spool, lane, position, clock, membership }
    }

    /// Drains whatever is spooled until the process does: a shutdown does not wait for it, and what is left follows at
    /// the next start. `log` may take its time, unlike the one that callers wait for.
    pub(crate) async fn run(mut self, log: Arc<dyn EventLog>, readiness: Readiness, lifecycle: Lifecycle) {
        let condition = readiness.condition("spool");
        let ended = tokio::select! {
            ended = self.drain(log.as_ref(), &condition) => ended,
            // Safe in the midst of anything: what was not committed is drained again.
            () = lifecycle.draining() => return,
        };
        if let Err(error) = ended {
            condition.unmet(error.to_string());
            lifecycle.fail(format!("the spool cannot be read: {error}"));
        }
    }

    /// Returns only with an error of the journal.
    async fn drain(&mut self, log: &dyn EventLog, condition: &Condition) -> Result<(), LogError> {
        self.lane.seek(self.position).await?;
        let mut batch = Batch::default();
        loop {
            if self.spool.depth() == 0 {
                self.spool.open_again().await;
                self.spool.metrics.spool_age_seconds.set(0);
                condition.met();
            }
            // Waits where nothing is spooled.
            self.lane.next(&mut batch, BATCH_RECORDS).await?;
            let records: Vec<NewRecord> = batch.iter().map(|record| to_append(&record)).collect();
            let oldest = batch.iter().next().map_or_else(|| self.clock.now(), |record| record.append_time);
            self.hand_over(log, &records, oldest, condition).await;
            let Some(position) = batch.position() else { continue };
            self.commit(ResumeAt::at(position)).await?;
            self.position = position;
            self.spool.drained(position, records.len() as u64);
        }
    }

    /// Tries until the log has taken them all.
    async fn hand_over(
        &mut self,
        log: &dyn EventLog,
        records: &[NewRecord],
        oldest: UnixMs,
        condition: &Condition,
    ) {
        loop {
            self.tell(oldest, condition);
            // Asked first: what is sent into an outage may land long after it was given up.
            let handed_over = match log.health().await {
                Ok(()) => log.append(Topic::Events, records.to_vec()).await.map(drop),
                Err(error) => Err(error),
            };
            let Err(error) = handed_over else { return };
            self.spool.metrics.log_calls_failed.get_or_create(&ByCode { code: error.code() }).inc();
            tracing::debug!(code = error.code(), %error, "the spool is not drained yet");
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Depth and age. A door that spools takes events, and so is ready; a full one is not.
    fn tell(&self, oldest: UnixMs, condition: &Condition) {
        let age_s = self.clock.now().since_ms(oldest).max(0) / 1_000;
        self.spool.metrics.spool_age_seconds.set(age_s);
        let depth = self.spool.depth();
        if self.spool.is_full.load(Ordering::SeqCst) {
            condition.unmet(format!(
                "the spool is full with {depth} events, the oldest {age_s} s old: callers get 503 until the log takes some"
            ));
        } else {
            condition.met_with(format!(
                "{depth} events wait for the log, the oldest for {age_s} s; more are taken"
            ));
        }
    }

    /// Notes how far the log has everything.
    pub(super) async fn commit(&mut self, resume_at: ResumeAt) -> Result<(), LogError> {
        loop {
            match self.lane.commit(resume_at, "", Vec::new()).await {
                Ok(()) => return Ok(()),
                // The disk is full up to the reserve's last quarter.
                Err(CommitError::Retry(cause)) => {
                    tracing::warn!(cause, "the spool's commit is tried again");
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Err(error) => {
                    return Err(LogError::Broken {
                        doing: "committing in the spool",
                        cause: error.to_string(),
                    });
                }
            }
        }
    }
}

fn to_append(record: &Record<'_>) -> NewRecord {
    NewRecord {
        key: record.key.map(<[u8]>::to_vec),
        partition: None,
        value: record.value.to_vec(),
        headers: record
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.to_vec()))
            .collect(),
    }
}
