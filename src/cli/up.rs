//! `jwtrail up`: everything in one process.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;

use super::Common;
use super::demo::{self, Demo};
use super::node::{Node, Pipeline, block_on};
use super::run::adopt;
use crate::clickhouse::Client;
use crate::clickhouse::engine::{self, Engine, EngineOptions, EngineState};
use crate::config::{Config, Credentials, MissingCredentials};
use crate::lifecycle::{Lifecycle, Phase};
use crate::model::UnixMs;
use crate::pipeline::settle::Adopt;

/// Everything in one process on embedded defaults.
///
/// Each real server that is configured (--brokers, --clickhouse-url, --redis) replaces its embedded stand-in. While it runs,
/// the other commands speak to its API.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// Add simulated tenants, gateways and attacks, and show what is caught
    #[arg(long)]
    demo: bool,
    /// The demo's seed
    #[arg(long, default_value_t = 1, requires = "demo")]
    seed: u64,
    /// Where to go on if log and ClickHouse do not agree: commit, rows, beginning (the error says when)
    #[arg(long, value_name = "HOW", value_parser = adopt)]
    adopt: Option<Adopt>,
}

impl Up {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let mut config = common.load(MissingCredentials::Make)?;
        if self.demo {
            demo::declare(&mut config)?;
        }
        block_on(self.serve(config))
    }

    async fn serve(self, config: Config) -> anyhow::Result<()> {
        let mut node = Node::start(config)?;
        // Before the engine, which would try for long to get at files that another one has.
        let _alone = alone(&node.config.data_dir)?;
        // The engine outlives what stores into it: it has a lifecycle of its own, which ends last.
        let foundation = Lifecycle::new(node.config.grace);
        let engine = match node.config.clickhouse.url {
            None => Some(tokio::select! {
                engine = start_engine(&node.config, &foundation) => engine?,
                // A child that is being started dies with its future.
                () = node.lifecycle.draining() => return Ok(()),
            }),
            Some(_) => None,
        };
        if let Some(engine) = &engine {
            node.config.clickhouse.listen = engine.listen();
            tell_engine(engine, &node);
        }
        let (below, above) = (foundation.clone(), node.lifecycle.clone());
        node.lifecycle.spawn("foundation", async move {
            tokio::select! { () = below.draining() => {} () = above.draining() => return }
            // Nobody else ends it while the node runs: what keeps the engine alive has panicked.
            above.fail(below.failure().unwrap_or("the engine is kept alive by nobody").to_owned());
        });
        let served = tokio::select! {
            served = self.serve_on(&node) => served,
            // Also while it starts: what it waits for may never come.
            () = node.lifecycle.aborting() => Ok(()),
        };
        node.lifecycle.advance(Phase::Draining);
        let finished = node.finish().await;
        if let Some(engine) = engine {
            engine.stop().await;
        }
        foundation.advance(Phase::Draining);
        foundation.finish().await;
        served.and(finished)
    }

    async fn serve_on(&self, node: &Node) -> anyhow::Result<()> {
        let config = &node.config;
        let client = Client::new(&config.clickhouse);
        let log = node.open_log()?;
        for change in node.migrate(log.as_ref(), &client).await? {
            tracing::info!(change, "migrated");
        }
        // Before the walk, which believes an issuer by it.
        let master = node.open_master_key(log.as_ref()).await?;
        let demo = self.demo.then(|| Demo::new(self.seed, node));
        let on_alert = demo.as_ref().map(Demo::on_alert);
        let snapshots = node.watch_snapshots().await?;
        let pipeline = Pipeline {
            log: Arc::clone(&log),
            client: client.clone(),
            snapshots: Arc::clone(&snapshots),
            adopt: self.adopt,
            on_alert,
        };
        node.start_pipeline(pipeline).await?;
        node.start_delivery(Arc::clone(&log), client.clone(), false)?;
        node.start_api(log, client.clone(), snapshots, Some(&master)).await?;
        println!("{}", banner(config, self.demo.then(|| node.clock.now())));
        match demo {
            Some(demo) => demo.run(node, &client).await,
            None => {
                node.lifecycle.draining().await;
                Ok(())
            }
        }
    }
}

/// Locks the data directory for as long as the file is held: one `up` to a directory.
fn alone(data_dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data_dir).with_context(|| format!("making {}", data_dir.display()))?;
    let path = data_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(anyhow!(
            "another `jwtrail up` has the data directory {}: stop it, or give this one a --data-dir of its own",
            data_dir.display()
        )),
        Err(TryLockError::Error(cause)) => Err(cause).with_context(|| format!("locking {}", path.display())),
    }
}

/// The embedded ClickHouse, in a child process.
async fn start_engine(config: &Config, lifecycle: &Lifecycle) -> anyhow::Result<Engine> {
    let options = EngineOptions {
        library: None,
        data_dir: config.data_dir.join("clickhouse"),
        listen: config.clickhouse.listen,
        credentials: engine::Credentials {
            jwtrail: config.clickhouse.password.clone(),
            analyst: config.clickhouse.analyst_password.clone(),
        },
    };
    Ok(Engine::start(options, lifecycle).await?)
}

/// Says in `/readyz` how the engine's process is.
fn tell_engine(engine: &Engine, node: &Node) {
    let (mut state, condition) = (engine.watch(), node.readiness.condition("clickhouse engine"));
    let lifecycle = node.lifecycle.clone();
    node.lifecycle.spawn("engine-readiness", async move {
        loop {
            match *state.borrow_and_update() {
                EngineState::Up { .. } => condition.met(),
                EngineState::Down => condition.unmet("its process died and is being started again"),
                EngineState::Stopped => condition.unmet("stopped"),
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = lifecycle.draining() => return,
            }
        }
    });
}

/// Where everything is, and in the demo what to try.
fn banner(config: &Config, demo_since: Option<UnixMs>) -> String {
    let credentials = Credentials::path(&config.data_dir);
    let log = match &config.kafka {
        Some(kafka) => format!("Kafka at {}", kafka.brokers),
        None => format!("the journal in {}", config.data_dir.join("journal").display()),
    };
    let clickhouse = match &config.clickhouse.url {
        Some(url) => url.clone(),
        None => format!(
            "http://{}, users jwtrail and analyst (read only), database {}",
            config.clickhouse.listen, config.clickhouse.database
        ),
    };
    let mut text = format!(
        "\nJWTrail is up.\n  \
         door          POST http://{api}/v1/events\n  \
         admin         http://{api}/admin/v1/tenants (Bearer: the admin_key)\n  \
         health        http://{api}/readyz  /healthz  /metrics\n  \
         ClickHouse    {clickhouse}\n  \
         log           {log}\n  \
         keys          {credentials}\n",
        api = config.api,
        credentials = credentials.display(),
    );
    if let Some(since) = demo_since {
        // As this process was called: a fresh checkout has no `jwtrail` on the path.
        let jwtrail = std::env::args().next().unwrap_or_else(|| "jwtrail".to_owned());
        // A case is told once in 24 h: each start has a subject of its own, so that trying it shows something.
        let alice = format!("alice-{:05}", since.get() / 1_000 % 100_000);
        let data_dir = match config.data_dir.to_str() {
            Some("data" | "./data") | None => String::new(),
            Some(other) => format!(" --data-dir {other}"),
        };
        let api = if config.api.port() == 8080 { String::new() } else { format!(" --api {}", config.api) };
        text.push_str(&format!(
            "\nTry it: one token in Paris, then in Tokyo on another device.\n  \
             {jwtrail} send{data_dir}{api} --sub {alice} --jti try-1 --ip 203.0.113.7\n  \
             {jwtrail} send{data_dir}{api} --sub {alice} --jti try-1 --ip 198.51.100.7 --user-agent 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36'\n"
        ));
    }
    text
}
