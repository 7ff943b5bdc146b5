//! The whole way from the log to ClickHouse: the corridor with everything in it, over a backlog, beside the floor.
//!
//! ClickHouse (the embedded engine) and the broker are processes of their own, so that this process's time is what
//! JWTrail takes: reading the log, the walk, building and sending inserts, commits.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::broker::Broker;
use super::floor;
use super::meter::process_cpu;
use super::setting::Setting;
use super::traffic::{ATTACK_EVERY, BUSY, plan, record};
use crate::clickhouse::engine::{Credentials, Engine, EngineOptions};
use crate::clickhouse::{Client, migrate};
use crate::clock::{Clock, Random};
use crate::config::{ClickHouseConfig, KafkaConfig, Secret};
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::journal::{Journal, JournalOptions};
use crate::log::kafka::KafkaLog;
use crate::log::{EventLog, Topic};
use crate::model::Alert;
use crate::pipeline::corridor::{self, Context, Course, Gauges, Pace, Workers};
use crate::pipeline::decode;
use crate::pipeline::store::Store;
use crate::simulate::Simulator;
use crate::telemetry::{ByOutcome, Metrics, Outcome, Readiness};

/// Records an append while the backlog is written.
const APPEND_RECORDS: usize = 2_000;
/// A way that takes longer has stopped.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// Which log.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Through {
    Journal,
    Kafka,
}

impl Through {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Kafka => "kafka",
        }
    }
}

impl std::fmt::Display for Through {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What hears of each alert that reached the outbox.
type OnAlert = Box<dyn Fn(&Alert) + Send + Sync>;

/// What one way took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// Of this process, all threads.
    pub(super) cpu: Duration,
    /// By the clock, from the start to the last commit.
    pub(super) elapsed: Duration,
}

/// Where the ways end: an engine that all of them share.
pub(super) struct Ends {
    engine: Engine,
    listen: SocketAddr,
    password: Secret,
    lifecycle: Lifecycle,
}

impl Ends {
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle::new(Duration::from_secs(10));
        let (password, analyst) = (Secret::new(Random::hex::<16>()), Secret::new(Random::hex::<16>()));
        // A port that was free a moment ago: whoever takes it meanwhile ends the bench with a clear error.
        let listen = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
        let listen = listen.context("looking for a free port")?;
        let options = EngineOptions {
            library: None,
            data_dir: fresh(&folder.join("clickhouse"))?,
            listen,
            credentials: Credentials { jwtrail: password.clone(), analyst },
        };
        let engine = Engine::start(options, &lifecycle).await?;
        Ok(Self { engine, listen, password, lifecycle })
    }

    /// A database of its own, with the schema and the floor's table.
    async fn database(&self) -> anyhow::Result<Client> {
        let client = Client::new(&ClickHouseConfig {
            url: None,
            listen: self.listen,
            user: "jwtrail".to_owned(),
            password: self.password.clone(),
            analyst_password: Secret::new(String::new()),
            database: format!("bench_{}", Random::hex::<6>()),
            answer_within: Duration::from_secs(30),
            insert_within: Duration::from_secs(180),
        });
        migrate(&client).await?;
        floor::make_table(&client).await?;
        Ok(client)
    }

    pub(super) async fn stop(self) {
        self.engine.stop().await;
        self.lifecycle.advance(Phase::Draining);
        self.lifecycle.finish().await;
    }
}

/// An empty folder's path.
fn fresh(path: &Path) -> anyhow::Result<std::path::PathBuf> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("emptying {}", path.display()))
        }
        _ => Ok(path.to_owned()),
    }
}

/// One log with nothing in it, and a database beside it.
pub(super) struct Way {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) client: Client,
    /// Lives as long as the log.
    _broker: Option<Broker>,
}

impl Way {
    pub(super) async fn open(through: Through, ends: &Ends, folder: &Path) -> anyhow::Result<Self> {
        let (log, broker): (Arc<dyn EventLog>, _) = match through {
            Through::Journal => {
                let folder = fresh(&folder.join("journal"))?;
                (Journal::open(&folder, JournalOptions::default(), Clock::default())?, None)
            }
            Through::Kafka => {
                // Starting one takes seconds, in which the runtime has other things to do.
                let broker = tokio::task::spawn_blocking(Broker::start).await?;
                let config = KafkaConfig { brokers: broker.address(), properties: Vec::new() };
                (Arc::new(KafkaLog::connect(&config)?), Some(broker))
            }
        };
        let embedded = matches!(through, Through::Journal);
        log.migrate(&Topic::ALL.map(|topic| topic.spec(embedded))).await?;
        Ok(Self { log, client: ends.database().await?, _broker: broker })
    }

    /// Appends so many events that happened just now.
    pub(super) async fn fill(&self, events: usize, keyed: bool) -> anyhow::Result<()> {
        let start = Clock::default().now() - Duration::from_secs_f64(events as f64 / BUSY);
        let mut simulator = Simulator::new(plan(1, start, BUSY, Some(ATTACK_EVERY))).take(events);
        loop {
            let records: Vec<_> = simulator
                .by_ref()
                .take(APPEND_RECORDS)
                .map(|simulated| {
                    let record = record(&simulated.event, None);
                    if keyed { record } else { crate::log::NewRecord { key: None, ..record } }
                })
                .collect();
            if records.is_empty() {
                return Ok(());
            }
            self.log.append(Topic::Events, records).await?;
        }
    }

    /// Only reads and inserts.
    pub(super) async fn floor(&self, events: usize) -> anyhow::Result<Took> {
        let lifecycle = Lifecycle::new(Duration::ZERO);
        let (cpu, began) = (process_cpu(), Instant::now());
        let run = floor::run(&self.log, &self.client, events, &lifecycle);
        tokio::time::timeout(PATIENCE, run).await.context("the floor stands still")??;
        let took = Took { cpu: process_cpu().saturating_sub(cpu), elapsed: began.elapsed() };
        lifecycle.advance(Phase::Aborting);
        lifecycle.finish().await;
        Ok(took)
    }

    /// Everything.
    pub(super) async fn walk(&self, setting: &Setting, events: usize) -> anyhow::Result<Took> {
        let (cpu, began) = (process_cpu(), Instant::now());
        let running = Running::start(self, setting, None).await?;
        running.until_settled(events).await?;
        let took = Took { cpu: process_cpu().saturating_sub(cpu), elapsed: began.elapsed() };
        running.stop().await;
        Ok(took)
    }
}

/// A running corridor.
pub(super) struct Running {
    metrics: Metrics,
    lifecycle: Lifecycle,
}

impl Running {
    pub(super) async fn start(
        way: &Way,
        setting: &Setting,
        on_alert: Option<OnAlert>,
    ) -> anyhow::Result<Self> {
        let (metrics, lifecycle) = (Metrics::new(), Lifecycle::new(Duration::from_secs(10)));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let partitions = way.log.partitions(Topic::Events).await?;
        let snapshots = setting.snapshots.clone();
        let context = Context {
            log: Arc::clone(&way.log),
            store: Store::new(way.client.clone(), Arc::clone(&way.log)),
            retention: Arc::clone(&setting.retention),
            workers: Workers::start(cores).context("starting the walk's threads")?,
            snapshots: Arc::new(move || snapshots.clone()),
            bounds: decode::Bounds { partitions, ..setting.bounds.clone() },
            adopt: None,
            pace: Pace::default(),
            metrics: metrics.clone(),
            readiness: Readiness::default(),
            on_alert,
            gauges: Gauges::default(),
            clock: Clock::default(),
        };
        lifecycle.spawn("corridor", corridor::run(Arc::new(context), Course::Events, lifecycle.clone()));
        Ok(Self { metrics, lifecycle })
    }

    fn settled(&self, outcome: Outcome) -> u64 {
        self.metrics.records_settled.get_or_create(&ByOutcome { outcome: outcome.as_str() }).get()
    }

    /// Until so many events are rows, their blocks released.
    pub(super) async fn until_settled(&self, events: usize) -> anyhow::Result<()> {
        let settled = async {
            while self.settled(Outcome::Stored) < events as u64 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.context("the walk stands still")?;
        let dead = self.settled(Outcome::DeadLettered);
        ensure!(dead == 0, "{dead} events of the simulator became dead letters");
        Ok(())
    }

    pub(super) async fn stop(self) {
        self.lifecycle.advance(Phase::Draining);
        self.lifecycle.finish().await;
    }
}
