//! The system of record: which tenants, clients, users, gateways, keys and revocation epochs there are.
//!
//! It is the compacted topic `jwtrail.control`, which every instance follows and holds whole in memory. Its records are
//! signed by the control key, so that who can write to the log or the store plants nothing; its secrets are hashes, or
//! sealed. A write is arbitrated by the store beside it (compare and set), then appended. What died between the two is
//! appended by the next one who writes the entry, or opens the record.

mod model;

mod arbiter;
mod error;
mod record;
mod registry;

mod follow;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub(crate) use arbiter::{Advance, Arbiter, ArbiterError};
pub(crate) use error::ControlError;
pub(crate) use follow::Following;
pub(crate) use model::*;
pub(crate) use registry::Found;
pub(crate) use write::Expected;

use crate::clock::Clock;
use crate::issuer::master::MasterKey;
use crate::log::{Batch, EventLog, LogError, Record, Topic};
use crate::model::{Offset, PartitionId, UnixMs};
use crate::telemetry::{ByReason, Metrics};
use record::{Records, Signed};
use registry::{Applied, Registry};
use write::Turns;

/// The topic has one partition: one order for all entries.
const PARTITION: PartitionId = PartitionId(0);

/// An instance that has heard nothing of the topic for so long says so.
const SILENCE: Duration = Duration::from_secs(30);

/// Whoever appends after its record was overtaken by a newer one does so soon after writing it.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(60);

/// The system of record as this instance knows it, and the way to change it.
pub(crate) struct Control {
    log: Arc<dyn EventLog>,
    arbiter: Arc<dyn Arbiter>,
    records: Records,
    registry: Registry,
    /// Writers of one entry in this process take turns, so that their records are appended in order.
    turns: Turns,
    /// What has to be appended (again): it lies in the store alone, or behind something older in the topic.
    owed: Mutex<BTreeSet<EntryKey>>,
    /// One past the last record that was read.
    position: AtomicI64,
    heard_at: AtomicI64,
    /// Counts changes, for those who make something of the entries.
    changes: watch::Sender<u64>,
    clock: Clock,
    metrics: Metrics,
}

/// Whether nothing was ever written: then no master key is missing yet.
pub(crate) async fn is_fresh(log: &dyn EventLog) -> Result<bool, LogError> {
    let mut scan = log.scan(Topic::Control, PARTITION, None).await?;
    Ok(!scan.next(&mut Batch::default(), 1).await?)
}

impl Control {
    /// Reads the whole topic, and asks the store for what is newer there. [`Following::run`] keeps it up to date.
    ///
    /// # Errors
    /// `WrongMasterKey` if there are records and the key has signed none of them.
    pub(crate) async fn open(
        log: Arc<dyn EventLog>,
        arbiter: Arc<dyn Arbiter>,
        master: &MasterKey,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<(Arc<Self>, Following), ControlError> {
        let control = Arc::new(Self {
            log,
            arbiter,
            records: Records::new(master.control()),
            registry: Registry::default(),
            turns: Turns::default(),
            owed: Mutex::default(),
            position: AtomicI64::new(0),
            heard_at: AtomicI64::new(clock.now().get()),
            changes: watch::Sender::new(0),
            clock,
            metrics,
        });
        let mut following = Following::begin(Arc::clone(&control)).await?;
        let read = following.catch_up().await?;
        if read > 0 && control.registry.is_empty() {
            return Err(ControlError::WrongMasterKey { records: read });
        }
        control.look_for_newer().await?;
        control.pay_what_is_owed().await?;
        Ok((control, following))
    }

    /// A tenant's entry. Whether the tenant itself is active is another question: [`Control::tenant`].
    pub(crate) fn get<E: Entry>(&self, tenant: &str, name: &str) -> Option<Found<E>> {
        self.registry.get(tenant, name)
    }

    pub(crate) fn tenant(&self, tenant: &str) -> Option<Found<Tenant>> {
        self.registry.get(tenant, tenant)
    }

    /// One of the platform's entries.
    pub(crate) fn get_platform<E: Entry>(&self, name: &str) -> Option<Found<E>> {
        self.registry.get(PLATFORM, name)
    }

    /// A tenant's entries by name, those after `after`, at most `limit`.
    pub(crate) fn list<E: Entry>(
        &self,
        tenant: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(String, Found<E>)> {
        self.registry.list(tenant, after, limit)
    }

    /// The platform's entries by name, those after `after`, at most `limit`.
    pub(crate) fn list_platform<E: Entry>(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(String, Found<E>)> {
        self.registry.list(PLATFORM, after, limit)
    }

    /// The tenants by name, deleted ones among them, those after `after`, at most `limit`.
    pub(crate) fn tenants(&self, after: Option<&str>, limit: usize) -> Vec<(String, Found<Tenant>)> {
        self.registry.tenants(after, limit)
    }

    /// When the topic was last heard of, were it only to say that there is nothing new.
    pub(crate) fn heard_at(&self) -> UnixMs {
        UnixMs::new(self.heard_at.load(Ordering::Relaxed))
    }

    /// Marked as changed by every entry that changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn heard(&self) {
        self.heard_at.store(self.clock.now().get(), Ordering::Relaxed);
    }

    /// Takes in what was read of the topic.
    fn take_in(&self, batch: &Batch) {
        self.heard();
        for record in batch.iter() {
            match self.records.open(record.value) {
                Err(reason) => self.reject(reason, &record),
                Ok(signed) if record.key != Some(signed.record.key.to_string().as_bytes()) => {
                    self.reject("foreign", &record);
                }
                Ok(signed) => self.apply(signed, record.offset, record.append_time),
            }
        }
        if let Some(position) = batch.position() {
            self.position.fetch_max(position.get(), Ordering::Relaxed);
        }
    }

    /// `append_time`: the log's own, or now.
    fn apply(&self, signed: Signed, offset: Offset, append_time: UnixMs) {
        let (key, written_at) = (signed.record.key.clone(), signed.record.written_at);
        match self.registry.apply(signed, offset) {
            Applied::Changed => self.changes.send_modify(|changes| *changes += 1),
            Applied::Known => {}
            Applied::Behind => {
                let late_ms = append_time.since_ms(written_at);
                let overtaken =
                    u128::try_from(late_ms).is_ok_and(|late| late <= OVERTAKEN_WITHIN.as_millis());
                self.refuse(if overtaken { "overtaken" } else { "replayed" }, offset);
                // Compaction would leave only what lies last.
                self.owe(key);
            }
        }
    }

    /// Refuses what is not an entry. In the topic it took the place of the one whose key it has: that is put right.
    fn reject(&self, reason: &'static str, record: &Record<'_>) {
        self.refuse(reason, record.offset);
        let key = record.key.and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
        if let Some(key) = key.filter(|key| !self.registry.lies_beyond(key, record.offset)) {
            self.owe(key);
        }
    }

    fn refuse(&self, reason: &'static str, offset: Offset) {
        self.metrics.control_records_refused.get_or_create(&ByReason { reason }).inc();
        if reason == "overtaken" {
            tracing::debug!(%offset, "a record of the control topic came after a newer one");
        } else {
            tracing::warn!(
                finding = "control_tamper",
                reason,
                %offset,
                "a record of the control topic is not ours, or old: it changes nothing"
            );
        }
    }

    fn owe(&self, key: EntryKey) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }
}
