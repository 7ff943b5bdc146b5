//! The spool: what the door takes while Kafka is away lies in a journal of its own, durable before the caller hears 202,
//! bounded, and follows in order once Kafka is back.
//!
//! While anything lies there, whatever comes queues behind it: a caller who was answered never sees a later event get
//! ahead of an earlier one. What was tried on Kafka before it came here may have landed although nobody said so, and a
//! drain that is cut off begins its last records again: so all that is drained carries `jwtrail-retried`, by which the
//! walk knows repeats however long the outage was.

mod drain;
mod intake;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::RwLock;

use crate::clock::Clock;
use crate::log::journal::{FsyncPolicy, Journal, JournalOptions, WhenFull};
use crate::log::{Cleanup, EventLog, LogError, MemberEvent, NewRecord, Topic, TopicSpec};
use crate::model::{Offset, ResumeAt};
use crate::telemetry::Metrics;

pub(crate) use drain::Drain;
pub(crate) use intake::Intake;

/// The journal's one topic, of one partition: all events in the order in which they were taken. Drained segments go
/// when room is needed, and after this time.
const TOPIC: TopicSpec = TopicSpec {
    topic: Topic::Events,
    partitions: 1,
    cleanup: Cleanup::Delete { after: Duration::from_secs(60 * 60) },
};

/// The journal's one group: its commit says how far the drain has come.
const GROUP: &str = "jwtrail-spool";

/// A log that may be away, and the spool before it.
pub(crate) struct Spool {
    /// Answers within seconds, or says that it cannot.
    log: Arc<dyn EventLog>,
    journal: Arc<Journal>,
    /// Whether what comes is queued. Set before anything is spooled, and cleared under the gate once all is drained.
    spooling: AtomicBool,
    /// Held by whoever spools, from setting `spooling` to the record's being durable; taken whole to clear it.
    gate: RwLock<()>,
    /// One past the last spooled record, and the first that is not drained.
    end: AtomicI64,
    position: AtomicI64,
    /// Whether the journal took nothing more when it was asked last.
    is_full: AtomicBool,
    metrics: Metrics,
}

impl Spool {
    /// Opens the spool in `dir`, which nobody else may have open, in front of `log`. What it still holds follows when
    /// [`Drain::run`] does.
    ///
    /// # Errors
    /// As of [`Journal::open`].
    pub(crate) async fn open(
        dir: &Path,
        max_bytes: u64,
        log: Arc<dyn EventLog>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<(Arc<Self>, Drain), LogError> {
        let options = JournalOptions {
            fsync: FsyncPolicy::Always,
            limit_bytes: max_bytes,
            when_full: WhenFull::Refuse,
            // Whole segments are freed.
            segment_bytes: (max_bytes / 16).clamp(64 << 10, 64 << 20),
            ..JournalOptions::default()
        };
        let journal = Journal::open(dir, options, clock.clone())?;
        Self::over(journal, log, clock, metrics).await
    }

    async fn over(
        journal: Arc<Journal>,
        log: Arc<dyn EventLog>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<(Arc<Self>, Drain), LogError> {
        journal.migrate(&[TOPIC]).await?;
        let mut membership = journal.join(GROUP, Topic::Events).await?;
        let assigned = loop {
            if let MemberEvent::Assigned(assigned) = membership.next().await? {
                break assigned;
            }
        };
        let position = assigned.commit.as_ref().map_or(assigned.start, |commit| commit.resume_at.offset());
        let spool = Arc::new(Self {
            log,
            journal,
            spooling: AtomicBool::new(position < assigned.end),
            gate: RwLock::new(()),
            end: AtomicI64::new(assigned.end.get()),
            position: AtomicI64::new(position.get()),
            is_full: AtomicBool::new(false),
            metrics,
        });
        let mut drain = Drain::new(Arc::clone(&spool), membership, assigned.lane, position, clock);
        // Without a commit the journal would take everything for drained.
        drain.commit(ResumeAt::at(position)).await?;
        spool.show();
        Ok((spool, drain))
    }

    /// Takes events; they are durable when it returns. `records` makes them for the log, `held_back` as they are to
    /// follow from the spool. After an error some may have been written.
    pub(crate) async fn append(
        &self,
        records: impl FnOnce() -> Vec<NewRecord>,
        held_back: impl FnOnce() -> Vec<NewRecord>,
    ) -> Result<(), LogError> {
        if !self.spooling.load(Ordering::SeqCst) {
            match self.log.append(Topic::Events, records()).await {
                Ok(_) => return Ok(()),
                Err(error @ LogError::Unavailable { .. }) => {
                    tracing::warn!(code = error.code(), %error, "the log is away: events are spooled");
                }
                Err(error) => return Err(error),
            }
        }
        let _gate = self.gate.read().await;
        self.spooling.store(true, Ordering::SeqCst);
        let records = held_back();
        let count = records.len() as u64;
        let placed = self.journal.append(Topic::Events, records).await;
        self.is_full.store(matches!(placed, Err(LogError::Unavailable { .. })), Ordering::SeqCst);
        match placed {
            Ok(placed) => {
                let end = placed.iter().map(|placed| placed.offset.resume_after().offset().get()).max();
                self.end.fetch_max(end.unwrap_or(0), Ordering::SeqCst);
                // Again: another caller, whose records were refused, may have cleared it meanwhile.
                self.spooling.store(true, Ordering::SeqCst);
                self.metrics.spool_records_taken.inc_by(count);
                self.show();
                Ok(())
            }
            Err(error) => {
                // Nothing that lies there would ever clear it.
                if self.depth() == 0 {
                    self.spooling.store(false, Ordering::SeqCst);
                }
                Err(error)
            }
        }
    }

    /// How many records are not drained.
    pub(crate) fn depth(&self) -> i64 {
        self.end.load(Ordering::SeqCst) - self.position.load(Ordering::SeqCst)
    }

    /// Everything before `position` is in the log, for good.
    fn drained(&self, position: Offset, records: u64) {
        self.position.store(position.get(), Ordering::SeqCst);
        self.is_full.store(false, Ordering::SeqCst);
        self.metrics.spool_records_drained.inc_by(records);
        self.show();
    }

    /// Lets what comes go straight to the log again, if nothing lies before it.
    async fn open_again(&self) {
        let _gate = self.gate.write().await;
        if self.depth() == 0 && self.spooling.swap(false, Ordering::SeqCst) {
            tracing::info!("the spool is drained: events go to the log again");
        }
    }

    fn show(&self) {
        self.metrics.spool_records.set(self.depth());
    }
}
