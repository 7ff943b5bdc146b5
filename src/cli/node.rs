//! How the roles are put together from their parts: one place that knows them all, and nothing else does.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use axum::Router;

use super::Common;
use crate::api::{self, Admin, Credentials, Door, Heartbeats, Room};
use crate::clickhouse::Client;
use crate::clock::{Clock, Random};
use crate::config::{Config, Fsync, MissingCredentials, Secret, SpoolConfig};
use crate::deliver::{self, Deliver};
use crate::explain::Explainer;
use crate::issuer::{self, Arbiter, Control, Embedded, Grants, Keyring, Ledger, MasterKey, Redis};
use crate::key_sets::{self, Keeper};
use crate::keys;
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::journal::{FsyncPolicy, Journal, JournalOptions};
use crate::log::kafka::KafkaLog;
use crate::log::{EventLog, LogError, Topic, TopicSpec};
use crate::model::{LogId, PartitionId};
use crate::outbound::Timeouts;
use crate::pipeline::corridor::{self, AlertListener, Context, Course, Gauges, Pace, Workers};
use crate::pipeline::settle::Adopt;
use crate::pipeline::store::{Retention, Store};
use crate::pipeline::{LaneWalk, SnapshotSource, Snapshots, Walk, alert, decode, detect, enrich, verify};
use crate::spool::{Intake, Spool};
use crate::telemetry::{self, ByResult, Metrics, Readiness};

/// Runs a future on a runtime of its own. Threads beyond the two that I/O needs would take from the walk.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(4 << 20)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(future);
    // What still blocks (a broker that does not answer) must not keep a finished process alive.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// Between two looks for a log that is away.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// The gateway that the ledger's events name.
const INSTANCE: &str = "jwtrail";

/// How long a caller of the door waits for Kafka before the spool takes its events: longer than a change of leader in a
/// healthy cluster, shorter than the few seconds after which a gateway's HTTP client gives up.
const DOOR_PATIENCE: Duration = Duration::from_secs(3);

/// A role as a process of its own, which shares the log with others: `begin` starts it, a signal ends it, also while it
/// starts.
pub(super) fn role(
    common: &Common,
    begin: impl AsyncFnOnce(&Node, Arc<dyn EventLog>, Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let config = common.load(MissingCredentials::Accept)?;
    block_on(async {
        let node = Node::start(config)?;
        let (log, client) = (node.open_kafka()?, Client::new(&node.config.clickhouse));
        tokio::select! {
            begun = begin(&node, log, client) => begun?,
            () = node.lifecycle.draining() => {}
        }
        node.finish().await
    })
}

/// What every long-running role has.
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
}

impl Node {
    /// For a role that lasts: the first signal drains it, the second aborts.
    pub(super) fn start(config: Config) -> anyhow::Result<Self> {
        let node = Self::brief(config)?;
        node.lifecycle.watch_signals().context("listening for signals")?;
        Ok(node)
    }

    /// For a command that ends by itself: a signal ends it at once.
    pub(super) fn brief(config: Config) -> anyhow::Result<Self> {
        let filter = telemetry::filter(&config.log).ok_or_else(|| {
            anyhow!("log = \"{}\" is not a filter such as info or jwtrail=debug,warn", config.log)
        })?;
        telemetry::start_logging(filter, config.log_format);
        let lifecycle = Lifecycle::new(config.grace);
        let (metrics, readiness) = (Metrics::new(), Readiness::default());
        Ok(Self { config, clock: Clock::default(), lifecycle, metrics, readiness })
    }

    /// Kafka if it is configured, else the journal of this machine.
    pub(super) fn open_log(&self) -> anyhow::Result<Arc<dyn EventLog>> {
        if self.config.kafka.is_some() { self.open_kafka() } else { self.open_journal() }
    }

    /// For roles that are processes of their own: a journal belongs to one process.
    pub(super) fn open_kafka(&self) -> anyhow::Result<Arc<dyn EventLog>> {
        let kafka = self.config.kafka.as_ref().ok_or_else(|| {
            anyhow!("this role shares the log with others, which needs Kafka: set [kafka] brokers, or run `jwtrail up` on one machine")
        })?;
        Ok(Arc::new(KafkaLog::connect(kafka)?))
    }

    /// Where the door puts what it takes: over Kafka there is a spool before it. `log`: the process's own, which the
    /// spool's drain shares.
    async fn open_intake(&self, log: &Arc<dyn EventLog>) -> anyhow::Result<Intake> {
        let Some(kafka) = &self.config.kafka else { return Ok(Intake::Log(Arc::clone(log))) };
        let SpoolConfig { dir, max_bytes } = &self.config.spool;
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let quick = Arc::new(KafkaLog::connect_impatient(kafka, DOOR_PATIENCE)?);
        let opened = Spool::open(dir, *max_bytes, quick, self.clock.clone(), self.metrics.clone()).await;
        let (spool, drain) = opened.with_context(|| {
            format!(
                "opening the spool in {}; another process of this role needs its own [spool] dir",
                dir.display()
            )
        })?;
        let drained = drain.run(Arc::clone(log), self.readiness.clone(), self.lifecycle.clone());
        self.lifecycle.spawn("spool", drained);
        Ok(Intake::Spooled { spool, key: Arc::new(keys::retried(self.config.ingest_key()?)) })
    }

    fn open_journal(&self) -> anyhow::Result<Arc<dyn EventLog>> {
        let journal = self.config.journal;
        let fsync = match journal.fsync {
            Fsync::Always => FsyncPolicy::Always,
            Fsync::Interval => FsyncPolicy::Interval(Duration::from_secs(1)),
        };
        let options = JournalOptions { fsync, limit_bytes: journal.max_bytes, ..JournalOptions::default() };
        Ok(Journal::open(&self.config.data_dir.join("journal"), options, self.clock.clone())?)
    }

    /// Topics and schema as this version wants them.
    pub(super) async fn migrate(&self, log: &dyn EventLog, client: &Client) -> anyhow::Result<Vec<String>> {
        let mut done = log.migrate(&self.topics()).await?;
        done.extend(crate::clickhouse::migrate(client).await?.into_iter().map(str::to_owned));
        Ok(done)
    }

    /// The master key; made where the system of record is empty. Topics are there.
    pub(super) async fn open_master_key(&self, log: &dyn EventLog) -> anyhow::Result<MasterKey> {
        Ok(MasterKey::open(&self.config.master_key, issuer::is_fresh(log).await?)?)
    }

    fn topics(&self) -> Vec<TopicSpec> {
        Topic::ALL.iter().map(|topic| topic.spec(self.config.kafka.is_none())).collect()
    }

    /// Starts the pipeline.
    pub(super) async fn start_pipeline(&self, pipeline: Pipeline) -> anyhow::Result<()> {
        let Pipeline { log, client, snapshots, adopt, on_alert } = pipeline;
        let Some(partitions) = self.partitions_of_events(log.as_ref()).await? else { return Ok(()) };
        let bounds = bounds(&self.config, self.config.ingest_key()?, partitions)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let context = Context {
            store: Store::new(client, Arc::clone(&log)),
            log,
            retention: Arc::new(Retention::new(&self.config)),
            workers: Workers::start(cores).context("starting the walk's threads")?,
            snapshots,
            bounds,
            adopt,
            pace: Pace::default(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            on_alert,
            clock: self.clock.clone(),
            gauges: Gauges::default(),
        };
        let context = Arc::new(context);
        for course in Course::ALL {
            let walk = corridor::run(Arc::clone(&context), course, self.lifecycle.clone());
            self.lifecycle.spawn(format!("corridor of {}", course.topic().name()), walk);
        }
        Ok(())
    }

    /// Waits for a log that is away, as the walk does later: who started this process could only start it again. `None` if
    /// the process is to end before it is there.
    async fn partitions_of_events(&self, log: &dyn EventLog) -> anyhow::Result<Option<u32>> {
        // The corridor's own condition takes its place.
        let condition = self.readiness.condition("walk");
        loop {
            match log.partitions(Topic::Events).await {
                Err(error @ LogError::Unavailable { .. }) => {
                    condition.unmet(error.to_string());
                    tracing::warn!(code = error.code(), %error, "the start waits for the log");
                }
                found => return Ok(Some(found?)),
            }
            tokio::select! {
                () = tokio::time::sleep(LOG_PAUSE) => {}
                () = self.lifecycle.draining() => return Ok(None),
            }
        }
    }

    /// Starts the door, beside metrics and health; with the master key also what issues, and its administration.
    pub(super) async fn start_api(
        &self,
        log: Arc<dyn EventLog>,
        client: Client,
        snapshots: SnapshotSource,
        master: Option<&MasterKey>,
    ) -> anyhow::Result<()> {
        let ingest_key = self.config.ingest_key()?;
        let intake = self.open_intake(&log).await?;
        let issuer = match master {
            Some(master) => self.open_issuer(log, intake.clone(), master).await?,
            None => Router::new(),
        };
        let door = Door {
            room: Room::default(),
            credentials: Credentials::new(ingest_key, &self.config.gateways),
            key: keys::door(ingest_key),
            intake,
            heartbeats: Heartbeats::new(self.clock.new_id()),
            explainer: explainer(&self.config, ingest_key, client, snapshots)?,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        };
        let door = Arc::new(door);
        self.listen(self.config.api, api::routes(Arc::clone(&door)).merge(issuer).merge(self.routes()))
            .await?;
        let beat = api::beat(door, self.config.heartbeat_every, self.lifecycle.clone());
        self.lifecycle.spawn("heartbeats", beat);
        Ok(())
    }

    /// Opens the system of record, keeps it up to date, and gives the routes that change it and that issue by it.
    async fn open_issuer(
        &self,
        log: Arc<dyn EventLog>,
        intake: Intake,
        master: &MasterKey,
    ) -> anyhow::Result<Router> {
        let arbiter: Arc<dyn Arbiter> = match &self.config.redis {
            Some(redis) => Redis::connect(redis).await?,
            None => Embedded::open(&self.config.data_dir.join("sessions"), self.clock.clone())?,
        };
        let (control, following) =
            Control::open(log, arbiter, master, self.clock.clone(), self.metrics.clone()).await?;
        self.lifecycle.spawn("control", following.run(self.readiness.clone(), self.lifecycle.clone()));
        let ledger = Arc::new(Ledger::new(intake, master, INSTANCE.to_owned(), None, self.clock.clone()));
        let keyring = Keyring::new(Arc::clone(&control), Arc::clone(&ledger), master, self.clock.clone());
        let base = &self.config.issuer_base;
        let grants =
            Grants::new(base, Arc::clone(&control), keyring, Arc::clone(&ledger), self.clock.clone());
        let admin = Admin::new(control, ledger, self.config.admin_key.as_ref(), self.clock.clone());
        Ok(api::admin_routes(admin).merge(api::issuing_routes(Arc::new(grants))))
    }

    /// Starts what carries alerts to their destinations.
    pub(super) fn start_delivery(
        &self,
        log: Arc<dyn EventLog>,
        client: Client,
        retry_given_up: bool,
    ) -> anyhow::Result<()> {
        let deliver = Deliver {
            log,
            destinations: self.config.destinations.clone(),
            rows: Arc::new(client),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            clock: self.clock.clone(),
            pace: deliver::Pace::default(),
            policy: Arc::new(alert::Policy::new(&self.config.suppressions)),
            timeouts: Timeouts::default(),
            retry_given_up,
        };
        Ok(deliver::run(deliver, &self.lifecycle)?)
    }

    /// Metrics and health.
    pub(super) fn routes(&self) -> Router {
        telemetry::routes(self.metrics.clone(), self.readiness.clone(), self.lifecycle.clone())
    }

    pub(super) async fn listen(&self, address: SocketAddr, routes: Router) -> anyhow::Result<()> {
        let listening = telemetry::listen(address, routes, &self.lifecycle).await;
        listening.with_context(|| format!("listening at {address}; is another jwtrail running there?"))?;
        Ok(())
    }

    /// Keeps watching the geo files and the key sets that are fetched; rules stay as they were at the start.
    pub(super) async fn watch_snapshots(&self) -> anyhow::Result<SnapshotSource> {
        let (fixed, keeper) = Fixed::read(&self.config, self.config.ingest_key()?)?;
        let watch = enrich::AtlasWatch::open(self.config.geo.clone())?;
        let atlas = watch.published();
        let reloaded = self.metrics.geo_files_reloaded.clone();
        watch.spawn(&self.lifecycle, move |look| {
            let result = match look {
                enrich::Reload::Unchanged | enrich::Reload::Changing => return,
                enrich::Reload::Swapped(build) => {
                    tracing::info!(geo.build = %build, "geo files reloaded");
                    "swapped"
                }
                enrich::Reload::Broken(error) => {
                    tracing::error!(error.code = error.code(), %error, "the new geo files are broken; the old ones stay in use");
                    "kept"
                }
            };
            reloaded.get_or_create(&ByResult { result }).inc();
        });
        let asked = keeper.start(&self.lifecycle, &self.metrics, &self.readiness);
        tokio::select! { () = asked => {} () = self.lifecycle.draining() => {} }
        Ok(Arc::new(move || fixed.with(atlas.load_full())))
    }

    /// Waits for the signal, then for everything to end.
    pub(super) async fn finish(&self) -> anyhow::Result<()> {
        let left = self.lifecycle.finish().await;
        if let Some(failure) = self.lifecycle.failure() {
            return Err(anyhow!("{failure}"));
        }
        if self.lifecycle.phase() == Phase::Aborting && !left.is_empty() {
            return Err(anyhow!("aborted; what was not committed is walked again at the next start"));
        }
        Ok(())
    }
}

/// What the pipeline is started with.
pub(super) struct Pipeline {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) client: Client,
    pub(super) snapshots: SnapshotSource,
    pub(super) adopt: Option<Adopt>,
    pub(super) on_alert: Option<AlertListener>,
}

/// The snapshots that the configuration makes; of trust the newest.
struct Fixed {
    trust: Arc<ArcSwap<verify::Trust>>,
    rules: Arc<detect::Rulebook>,
    policy: Arc<alert::Policy>,
}

impl Fixed {
    /// With what lies on the disk of the key sets that are fetched, and what fetches them.
    fn read(config: &Config, ingest_key: &Secret) -> anyhow::Result<(Self, Keeper)> {
        let keeper = keeper(config, ingest_key)?;
        let rules = detect::Rulebook::new(&config.clients, &config.egress, &config.issuers)
            .with_heartbeats(config.heartbeat_every)
            .with_event_ids(keys::event_ids(ingest_key));
        let fixed = Self {
            trust: keeper.published(),
            rules: Arc::new(rules),
            policy: Arc::new(alert::Policy::new(&config.suppressions)),
        };
        Ok((fixed, keeper))
    }

    fn with(&self, atlas: Arc<enrich::Atlas>) -> Snapshots {
        let trust = self.trust.load_full();
        Snapshots {
            name: format!("trust={} geo={}", trust.name(), atlas.build()).into(),
            verify: trust,
            enrich: atlas,
            detect: Arc::clone(&self.rules),
            alert: Arc::clone(&self.policy),
        }
    }
}

/// A walk of one partition that stores nothing: what `evaluate` walks a file through.
pub(super) fn offline_walk(config: &Config) -> anyhow::Result<Walk> {
    let ingest_key = offline_key(config);
    let snapshots = offline_snapshots(config, &ingest_key)?;
    Ok(Walk::new(bounds(config, &ingest_key, 1)?, snapshots, PartitionId(0)))
}

/// Fresh walks, as the pipeline walks a topic of events of so many partitions, for `replay`. It stores nothing, so a log
/// id of its own will do.
pub(super) fn replay_walks(
    config: &Config,
    partitions: u32,
) -> anyhow::Result<impl Fn(Course, PartitionId) -> Box<dyn LaneWalk>> {
    let bounds = replay_bounds(config, partitions)?;
    let snapshots = offline_snapshots(config, config.ingest_key()?)?;
    Ok(move |course: Course, partition| course.begin(bounds.clone(), snapshots.clone(), partition))
}

/// With the installation's key: what it sealed must hold.
pub(super) fn replay_bounds(config: &Config, partitions: u32) -> anyhow::Result<decode::Bounds> {
    bounds(config, config.ingest_key()?, partitions)
}

/// What `explain` explains with.
pub(super) fn offline_explainer(config: &Config) -> anyhow::Result<Explainer> {
    let ingest_key = offline_key(config);
    let snapshots = offline_snapshots(config, &ingest_key)?;
    explainer(config, &ingest_key, Client::new(&config.clickhouse), Arc::new(move || snapshots.clone()))
}

/// Without an installation there is no ingest key, and no record that was signed or sealed with it either.
pub(super) fn offline_key(config: &Config) -> Secret {
    config.ingest_key().cloned().unwrap_or_else(|_| Secret::new(Random::hex::<32>()))
}

fn offline_snapshots(config: &Config, ingest_key: &Secret) -> anyhow::Result<Snapshots> {
    Ok(Fixed::read(config, ingest_key)?.0.with(Arc::new(enrich::Atlas::load(&config.geo)?)))
}

/// What fetches the issuers' key sets.
pub(super) fn keeper(config: &Config, ingest_key: &Secret) -> anyhow::Result<Keeper> {
    let door = keys::door(ingest_key);
    let trust = verify::Trust::build(&config.issuers, &config.tenants, &config.gateways, door)?;
    let folder = config.data_dir.join("key-sets");
    Ok(Keeper::open(trust, &config.issuers, &folder, key_sets::Pace::default(), &Clock::default())?)
}

fn explainer(
    config: &Config,
    ingest_key: &Secret,
    client: Client,
    snapshots: SnapshotSource,
) -> anyhow::Result<Explainer> {
    let bounds = bounds(config, ingest_key, 1)?;
    Ok(Explainer::new(client, bounds, snapshots, config.suppressions.clone(), ingest_key))
}

/// The bounds of a walk over a topic of so many partitions. Each lane puts its own log id in.
fn bounds(config: &Config, ingest_key: &Secret, partitions: u32) -> anyhow::Result<decode::Bounds> {
    let master = MasterKey::find(&config.master_key)?;
    Ok(decode::Bounds {
        max_event_age: config.max_event_age,
        partitions,
        seals: Arc::new(keys::Seals::new(ingest_key)),
        ledger_key: master.map(|master| Arc::new(master.ledger())),
        forwarded_through: None,
        log: LogId::draw(),
    })
}
