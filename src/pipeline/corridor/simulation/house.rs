//! One installation: a log and a ClickHouse in memory, and whichever processes run.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use serde_json::json;

use super::op::{Op, PARTITIONS};
use crate::config::{GeoFiles, Secret};
use crate::log::memory::MemoryLog;
use crate::log::{Topic, TopicSpec};
use crate::pipeline::corridor::*;
use crate::pipeline::store::memory::MemoryTables;
use crate::pipeline::store::testing::{bounds, event_at, jws, received, retention_of};
use crate::pipeline::{detect, enrich, verify};

pub(super) const GROUP: &str = "jwtrail-run";

/// For what comes in a moment if it comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct House {
    pub(super) log: MemoryLog,
    pub(super) tables: MemoryTables,
    now: Arc<AtomicI64>,
    snapshots: Arc<AtomicU32>,
    processes: Vec<Process>,
    /// The events so far, as they were sent.
    sent: Vec<Vec<u8>>,
    /// Why a process ended that nobody had asked to.
    failures: Vec<String>,
}

/// One process with a corridor.
struct Process {
    lifecycle: Lifecycle,
}

impl House {
    pub(super) fn new() -> Self {
        let now = Arc::new(AtomicI64::new(received(0).get()));
        let topics = Topic::ALL.map(|topic| {
            let partitions = if matches!(topic, Topic::Events | Topic::State) { PARTITIONS } else { 1 };
            TopicSpec { partitions, ..topic.spec(true) }
        });
        let mut house = Self {
            log: MemoryLog::new(Clock::Manual(Arc::clone(&now)), &topics),
            tables: MemoryTables::default(),
            now,
            snapshots: Arc::default(),
            processes: Vec::new(),
            sent: Vec::new(),
            failures: Vec::new(),
        };
        house.start();
        house
    }

    fn start(&mut self) {
        let log: Arc<dyn EventLog> = Arc::new(self.log.clone());
        let number = Arc::clone(&self.snapshots);
        let context = Context {
            store: self.tables.store(Arc::clone(&log)),
            log,
            retention: Arc::new(retention_of(&[])),
            workers: Workers::start(1).unwrap(),
            snapshots: Arc::new(move || snapshots(number.load(Ordering::Relaxed))),
            bounds: walk_bounds(),
            retried_key: crate::keys::retried(&Secret::new("of the tests".to_owned())),
            adopt: None,
            // Blocks are cut after a moment: a history has many.
            pace: Pace {
                min_age: Duration::from_millis(4),
                age_per_partition: Duration::ZERO,
                tick_after: Duration::from_millis(20),
                // A checkpoint with some blocks and not with others.
                checkpoint: CheckpointPace { every: Duration::from_millis(30), ..CheckpointPace::default() },
                ..Pace::default()
            },
            metrics: Metrics::new(),
            readiness: Readiness::default(),
            on_alert: None,
            clock: Clock::Manual(Arc::clone(&self.now)),
            gauges: Gauges::default(),
        };
        let lifecycle = Lifecycle::new(PATIENCE);
        lifecycle.spawn("corridor", run(Arc::new(context), Course::Events, lifecycle.clone()));
        self.processes.push(Process { lifecycle });
    }

    async fn end(&mut self, process: Process, phase: Phase) {
        process.lifecycle.advance(phase);
        let left = process.lifecycle.finish().await;
        self.failures.extend(left.into_iter().map(|task| format!("{task} did not end")));
        self.failures.extend(process.lifecycle.failure().map(str::to_owned));
    }

    pub(super) async fn play(&mut self, op: &Op) {
        match *op {
            Op::Deliver { who, place, to } => self.deliver(self.event(who, place, 0), to),
            Op::Late { who, place, to, minutes } => self.deliver(self.event(who, place, minutes), to),
            Op::Leak { who, to } => {
                let mut event = self.event(who, 0, 0);
                event["request"]["user_agent"] = jws().0.into();
                self.deliver(event, to);
            }
            Op::Redeliver { back, to } => {
                let again = self.sent.iter().rev().nth(back).cloned();
                again.into_iter().for_each(|value| self.append(value, to));
            }
            Op::Garbage { to } => self.append(b"{not json".to_vec(), to),
            Op::Holes { to, count } => self.log.leave_holes(Topic::Events, PartitionId(to), count),
            Op::AdvanceTime { minutes } => {
                self.now.fetch_add(minutes * 60_000, Ordering::Relaxed);
            }
            Op::Pause { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Op::Settle => self.settle().await,
            Op::Join if self.processes.len() < 3 => self.start(),
            Op::Leave if self.processes.len() > 1 => {
                let oldest = self.processes.remove(0);
                self.end(oldest, Phase::Draining).await;
            }
            Op::Join | Op::Leave => {}
            Op::Lose { partition } => self.log.lose(GROUP, Topic::Events, PartitionId(partition)),
            Op::Crash => {
                self.log.forget_members();
                for process in std::mem::take(&mut self.processes) {
                    self.end(process, Phase::Aborting).await;
                }
                self.start();
            }
            Op::SwapSnapshots => {
                self.snapshots.fetch_add(1, Ordering::Relaxed);
            }
            Op::Log(fault) => self.log.fail(fault),
            Op::Store(fault) => self.tables.fail(fault),
        }
    }

    /// Everything heals and settles, and every process ends in order.
    pub(super) async fn rest(&mut self) -> Result<(), String> {
        self.log.heal();
        self.tables.heal();
        self.settle().await;
        for process in std::mem::take(&mut self.processes) {
            self.end(process, Phase::Draining).await;
        }
        // The lanes that were let go last may have left copies to others.
        if !self.is_settled() {
            self.start();
            self.settle().await;
            for process in std::mem::take(&mut self.processes) {
                self.end(process, Phase::Draining).await;
            }
        }
        if !self.is_settled() {
            self.failures.push("it never settles".to_owned());
        }
        match self.failures.as_slice() {
            [] => Ok(()),
            failures => Err(failures.join("\n")),
        }
    }

    /// Waits until every record is settled, or nothing moves any more.
    async fn settle(&self) {
        let settling = async {
            while !self.is_settled() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, settling).await;
    }

    fn is_settled(&self) -> bool {
        (0..PARTITIONS).map(PartitionId).all(|partition| {
            let last = self.log.records(Topic::Events, partition).last().map(|(offset, ..)| *offset);
            let commit = self.log.committed(GROUP, Topic::Events, partition);
            let done = commit.map(|commit| commit.resume_at.offset());
            last.is_none() || last < done
        })
    }

    fn event(&self, who: u8, place: u8, minutes_old: i64) -> serde_json::Value {
        let time = UnixMs::new(self.now.load(Ordering::Relaxed) - minutes_old * 60_000);
        let event = event_at("accepted", &format!("person-{who}"), &time.to_string());
        let mut event: serde_json::Value = serde_json::from_slice(&event).unwrap();
        event["id"] = uuid::Uuid::from_u128(self.sent.len() as u128 + 1).to_string().into();
        event["token"]["ref"] = format!("kq{who}{}", "A".repeat(40)).into();
        let (_, ip, agent) = PLACES[usize::from(place)];
        event["request"]["ip"] = json!(ip);
        event["request"]["user_agent"] = json!(agent);
        event
    }

    fn deliver(&mut self, event: serde_json::Value, to: u32) {
        let value = event.to_string().into_bytes();
        self.sent.push(value.clone());
        self.append(value, to);
    }

    fn append(&self, value: Vec<u8>, to: u32) {
        let record = NewRecord { partition: Some(PartitionId(to)), value, ..NewRecord::default() };
        self.log.write(Topic::Events, vec![record]);
    }
}

const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                      Chrome/131.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";

/// Lines of an overlay, with an address of each and what is used there.
const PLACES: [(&str, &str, &str); 3] = [
    ("203.0.113.0/24,FR,Paris,48.8566,2.3522,5,access,paris,64500,Example Fibre", "203.0.113.7", CHROME),
    ("198.51.100.0/24,JP,Tokyo,35.6762,139.6503,5,access,tokyo,64501,Example Cable", "198.51.100.7", FIREFOX),
    ("192.0.2.0/24,US,New York,40.7128,-74.006,5,hosting,new-york,64502,Example Cloud", "192.0.2.7", CHROME),
];

pub(super) fn walk_bounds() -> decode::Bounds {
    decode::Bounds { partitions: PARTITIONS, ..bounds() }
}

/// The same snapshots, whatever their number.
pub(super) fn snapshots(number: u32) -> Snapshots {
    static SNAPSHOTS: LazyLock<Snapshots> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let overlay = directory.path().join("overlay.csv");
        let lines = PLACES.map(|(line, ..)| line).join("\n");
        let head = "cidr,country,city,lat,lon,radius_km,kind,label,asn,organisation";
        std::fs::write(&overlay, format!("{head}\n{lines}\n")).unwrap();
        let geo = GeoFiles { overlay: Some(overlay), ..GeoFiles::default() };
        let door = crate::keys::door(&Secret::new("of the tests".to_owned()));
        Snapshots {
            name: "".into(),
            verify: Arc::new(verify::Trust::build(&[], &HashMap::new(), &[], door).unwrap()),
            enrich: Arc::new(enrich::Atlas::load(&geo).unwrap()),
            detect: Arc::new(detect::Rulebook::default()),
            alert: Arc::new(alert::Policy::default()),
        }
    });
    Snapshots { name: number.to_string().into(), ..SNAPSHOTS.clone() }
}
