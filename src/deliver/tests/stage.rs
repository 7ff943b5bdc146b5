//! A journal, a store of rows and a running `deliver`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;

use super::receiver::Receiver;
use crate::clock::Clock;
use crate::config::{Destination, DestinationKind, HookUrl, Secret};
use crate::deliver::rows::RowTrouble;
use crate::deliver::{Deliver, FindingRows, Pace, run};
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::journal::{FsyncPolicy, Journal, JournalOptions};
use crate::log::{Batch, EventLog, NewRecord, Topic};
use crate::model::{Alert, PartitionId, RuleId};
use crate::outbound::Timeouts;
use crate::pipeline::alert::outbox_record;
use crate::telemetry::{ByDelivery, ByDestination, Metrics, Readiness};

pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

/// Rows in memory.
#[derive(Default)]
pub(super) struct MemoryRows {
    stored: std::sync::Mutex<Vec<String>>,
    away: AtomicBool,
}

impl MemoryRows {
    pub(super) fn away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }
}

#[async_trait]
impl FindingRows for MemoryRows {
    async fn put(&self, alerts: &[Alert]) -> Result<(), RowTrouble> {
        if self.away.load(Ordering::Relaxed) {
            return Err(RowTrouble { code: "away", text: "away, as it was told".to_owned() });
        }
        let mut stored = self.stored.lock().unwrap();
        for alert in alerts {
            let case = &alert.data.finding.case;
            stored.push(match case.rule {
                RuleId::ImpossibleTravel => {
                    format!("{}_{}", number_of(&case.finding_id.to_string()), case.severity)
                }
                rule => format!("{rule} {} {} of {}", case.state, case.severity, case.event_count),
            });
        }
        Ok(())
    }
}

pub(super) struct Stage {
    folder: TempDir,
    pub(super) log: Arc<dyn EventLog>,
    clock: Clock,
    pub(super) rows: Arc<MemoryRows>,
    metrics: Metrics,
    pub(super) retry_given_up: bool,
    running: Option<Lifecycle>,
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with_clock(Clock::System).await
    }

    pub(super) async fn with_manual_clock() -> Self {
        Self::with_clock(Clock::Manual(Arc::new(AtomicI64::new(1_795_428_000_000)))).await
    }

    async fn with_clock(clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // What survives a power failure is the journal's own test.
        let fsync = FsyncPolicy::Interval(Duration::from_secs(1));
        let options = JournalOptions { fsync, reserve_bytes: 1 << 20, ..JournalOptions::default() };
        let journal = Journal::open(folder.path(), options, clock.clone()).unwrap();
        journal.migrate(&Topic::ALL.map(|topic| topic.spec(true))).await.unwrap();
        Self::over(folder, journal, clock)
    }

    /// One that shares its log with others.
    pub(super) fn on(log: Arc<dyn EventLog>) -> Self {
        Self::over(tempfile::tempdir().unwrap(), log, Clock::System)
    }

    fn over(folder: TempDir, log: Arc<dyn EventLog>, clock: Clock) -> Self {
        let (rows, metrics) = (Arc::default(), Metrics::new());
        Self { folder, log, clock, rows, metrics, retry_given_up: false, running: None }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn advance(&self, span: Duration) {
        if let Clock::Manual(ms) = &self.clock {
            ms.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::Relaxed);
        }
    }

    pub(super) async fn append(&self, alerts: impl IntoIterator<Item = String>) {
        let record = |value: String| match serde_json::from_str::<Alert>(&value) {
            Ok(alert) => outbox_record(&alert),
            Err(_) => NewRecord { value: value.into_bytes(), ..NewRecord::default() },
        };
        let records = alerts.into_iter().map(record).collect();
        self.log.append(Topic::Alerts, records).await.unwrap();
    }

    pub(super) fn start(&mut self, destinations: impl IntoIterator<Item = Destination>) {
        assert!(self.running.is_none());
        let lifecycle = Lifecycle::new(Duration::from_secs(20));
        let milliseconds = Duration::from_millis;
        let deliver = Deliver {
            log: self.log.clone(),
            destinations: destinations.into_iter().collect(),
            rows: self.rows.clone(),
            metrics: self.metrics.clone(),
            readiness: Readiness::default(),
            clock: self.clock.clone(),
            pace: Pace {
                first: milliseconds(4),
                away_cap: milliseconds(20),
                refused_cap: milliseconds(20),
                ..Pace::default()
            },
            policy: Arc::default(),
            timeouts: Timeouts { connect: milliseconds(150), answer: milliseconds(150) },
            retry_given_up: self.retry_given_up,
        };
        run(deliver, &lifecycle).unwrap();
        self.running = Some(lifecycle);
    }

    /// Drains: every answer is committed.
    pub(super) async fn stop(&mut self) {
        self.end(Phase::Draining).await;
    }

    /// Ends as a crash does: nothing further is committed.
    pub(super) async fn kill(&mut self) {
        self.end(Phase::Aborting).await;
    }

    async fn end(&mut self, phase: Phase) {
        let lifecycle = self.running.take().unwrap();
        lifecycle.advance(phase);
        assert_eq!(lifecycle.finish().await, Vec::<String>::new());
    }

    pub(super) fn count(&self, destination: &str, result: &'static str) -> u64 {
        let by = ByDelivery { destination: destination.to_owned(), result };
        self.metrics.deliveries_attempted.get_or_create(&by).get()
    }

    pub(super) fn pending(&self, destination: &str) -> i64 {
        let by = ByDestination { destination: destination.to_owned() };
        self.metrics.deliveries_pending.get_or_create(&by).get()
    }

    /// How many records the outbox has.
    pub(super) async fn alerts_in_the_outbox(&self) -> usize {
        let mut scan = self.log.scan(Topic::Alerts, PartitionId(0), None).await.unwrap();
        let (mut batch, mut records) = (Batch::default(), 0);
        while scan.next(&mut batch, 100).await.unwrap() {
            records += batch.len();
        }
        records
    }

    pub(super) async fn left(&self, destination: &str, result: &'static str, count: u64) {
        until(result, || self.count(destination, result) >= count).await;
    }

    pub(super) async fn delivered(&self, destination: &str, count: u64) {
        self.left(destination, "delivered", count).await;
    }

    pub(super) async fn failed(&self, destination: &str, count: u64) {
        self.left(destination, "failed", count).await;
    }

    /// The rows stored, each once, sorted.
    pub(super) fn stored(&self) -> Vec<String> {
        let mut stored = self.rows.stored.lock().unwrap().clone();
        stored.sort();
        stored.dedup();
        stored
    }
}

pub(super) fn webhook(name: &str, receiver: &Receiver) -> Destination {
    webhook_to(name, &receiver.url())
}

pub(super) fn webhook_to(name: &str, url: &str) -> Destination {
    let kind = DestinationKind::Webhook {
        url: HookUrl::new(url.parse().unwrap()),
        secrets: vec![Secret::new(SECRET.to_owned())],
        allow_private: true,
    };
    Destination { name: name.to_owned(), kind }
}

pub(super) fn file(name: &str, path: &Path) -> Destination {
    Destination { name: name.to_owned(), kind: DestinationKind::File { path: path.to_owned() } }
}

/// An alert of finding `number`, each another tenant's.
pub(in crate::deliver) fn alert(number: u32, severity: &str) -> String {
    let time = "2026-11-23T10:15:00.000Z";
    let alert = serde_json::json!({
        "type": "jwtrail.alert.opened", "timestamp": time,
        "data": {
            "finding_id": uuid::Uuid::from_u128(u128::from(number)), "revision": number,
            "rule": "impossible_travel", "rule_version": 1, "tenant": format!("tenant-{number}"), "iss": "https://id.example",
            "sub": "alice", "subject_kind": "user", "client_id": "web", "gateway": "edge-1", "kid": "k1",
            "case_start": time, "first_time": time, "last_time": time, "state": "open", "severity": severity,
            "confidence": "high", "class": "security", "lowered_by": [], "title": "Impossible travel",
            "summary": "alice in Paris and Tokyo", "evidence": {"net_km": 8946}, "token_refs": [],
            "ips": ["192.0.2.1"], "event_ids": [], "event_count": 2, "techniques": ["T1550.001"],
            "is_alert": true, "not_alerted": null, "suppressed_by": "", "log": "0".repeat(32),
            "topic": "jwtrail.events", "partition": 0, "runbook_url": "", "query": "", "would_revoke": "",
        },
    });
    let text = alert.to_string();
    let _: Alert = serde_json::from_str(&text).expect("the outbox holds alerts");
    text
}

/// An alert of finding `number`, of one and the same tenant.
pub(super) fn of_acme(number: u32, severity: &str) -> String {
    alert(number, severity).replace(&format!("tenant-{number}\""), "acme\"")
}

/// The number that a finding's id was made of.
pub(super) fn number_of(finding: &str) -> u128 {
    finding.parse::<uuid::Uuid>().unwrap().as_u128()
}
