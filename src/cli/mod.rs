//! What is typed: one file a command. Options come from flags, then `JWTRAIL_…`, then the file, then defaults.

mod admin;
mod check;
mod deliver;
mod demo;
mod engine;
mod evaluate;
mod explain;
mod migrate;
mod node;
mod replay;
mod run;
mod send;
mod serve;
mod simulate;
mod token;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, MissingCredentials, Overrides};

/// Event-driven audit and anomaly detection for JWT use.
///
/// Gateways publish metadata about each use of a token, never a token; JWTrail verifies, places, detects, keeps
/// the trail in ClickHouse and tells your SIEM. Begin with `jwtrail up --demo`.
#[derive(Debug, Parser)]
#[command(name = "jwtrail", version, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes. Everything else is configured in the file or by `JWTRAIL_…`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Common {
    /// The configuration file [default: jwtrail.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the journal, the embedded ClickHouse and the credentials live [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where the API listens [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    api: Option<String>,
    /// Where the embedded ClickHouse listens [default: 127.0.0.1:8123]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    clickhouse: Option<String>,
    /// A ClickHouse server in place of the embedded one
    #[arg(long, global = true, value_name = "URL")]
    clickhouse_url: Option<String>,
    /// Kafka brokers in place of the embedded journal
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    /// A Redis 7 for sessions, in place of the data directory
    #[arg(long, global = true, value_name = "URL")]
    redis: Option<String>,
    /// How log lines are written: text, json [default: text on a terminal, json otherwise]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Common {
    fn overrides(&self) -> Overrides {
        let common = self.clone();
        Overrides {
            config: common.config,
            data_dir: common.data_dir,
            api: common.api,
            clickhouse: common.clickhouse,
            clickhouse_url: common.clickhouse_url,
            brokers: common.brokers,
            redis: common.redis,
            log_format: common.log_format,
        }
    }

    /// The configuration as meant, or every problem with it at once.
    fn load(&self, missing: MissingCredentials) -> anyhow::Result<Config> {
        Ok(config::load(&self.overrides(), &config::environment(), missing)?)
    }
}

/// What each is for is said at its own type, which clap shows.
#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Run(run::Run),
    Deliver(deliver::Deliver),
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    Check(check::Check),
    Send(send::Send),
    Tenant(admin::Tenant),
    Client(admin::Client),
    User(admin::User),
    Explain(explain::Explain),
    Replay(replay::Replay),
    Simulate(simulate::Simulate),
    Evaluate(evaluate::Evaluate),
    #[command(subcommand)]
    Token(token::Token),
    #[command(hide = true)]
    Engine(engine::Engine),
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    Bench(crate::bench::Bench),
}

/// Parses, runs, and turns an error into one line on standard error and exit code 1.
pub(crate) fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let outcome = match command {
        Command::Up(up) => up.run(&common),
        Command::Run(run) => run.run(&common),
        Command::Deliver(deliver) => deliver.run(&common),
        Command::Serve(serve) => serve.run(&common),
        Command::Migrate(migrate) => migrate.run(&common),
        Command::Check(check) => check.run(&common),
        Command::Send(send) => send.run(&common),
        Command::Tenant(tenant) => tenant.run(&common),
        Command::Client(client) => client.run(&common),
        Command::User(user) => user.run(&common),
        Command::Explain(explain) => explain.run(&common),
        Command::Replay(replay) => replay.run(&common),
        Command::Simulate(simulate) => simulate.run(&common),
        Command::Evaluate(evaluate) => evaluate.run(&common),
        Command::Token(token) => token.run(),
        Command::Engine(engine) => engine.run(),
        #[cfg(feature = "bench")]
        Command::Bench(bench) => common.load(MissingCredentials::Accept).and_then(|config| bench.run(config)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jwtrail: {error:#}");
            ExitCode::FAILURE
        }
    }
}
