//! `jwtrail simulate`: labelled traffic to a file, to the door, or to Kafka.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::Common;
use super::node::{Node, block_on};
use crate::clock::Clock;
use crate::config::{Config, MissingCredentials};
use crate::model::UnixMs;
use crate::pipeline::decode;
use crate::simulate::{Plan, Simulated, Simulator};

/// Labelled, seeded, realistic traffic with injected attacks.
///
/// The same seed and start give the same events. People have homes, offices, commutes, flights, VPNs and dual stacks;
/// there are fleets, relays and backends; all addresses are documentation addresses, placed by the demo's overlay.
#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// Where the events go: file, door, kafka
    #[arg(long, default_value = "file", value_parser = ["file", "door", "kafka"])]
    to: String,
    /// The file for the events, one JSON object a line
    #[arg(long, default_value = "events.jsonl", value_name = "FILE")]
    events: PathBuf,
    /// The file for the labels: which attack was done to whom, and when
    #[arg(long, default_value = "labels.jsonl", value_name = "FILE")]
    labels: PathBuf,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many events
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Benign events a second of event time, in the mean
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    #[arg(long, default_value_t = 2)]
    tenants: usize,
    /// People a tenant
    #[arg(long, default_value_t = 500)]
    people: usize,
    /// One attack about every so many seconds of event time; 0 for none
    #[arg(long, default_value_t = 20)]
    attack_every: u64,
    /// Event time of the first event, RFC 3339 [default: the span before now; with --paced, now]
    #[arg(long)]
    start: Option<UnixMs>,
    /// Send each event when its time has come, rather than as fast as possible
    #[arg(long)]
    paced: bool,
}

/// Events a request to the door, and records an append to the log.
const SEND_TOGETHER: usize = 500;

impl Simulate {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        ensure!(self.rate > 0.0, "--rate must be above 0");
        ensure!(self.tenants > 0 && self.people > 0, "--tenants and --people must be at least 1");
        let config = common.load(MissingCredentials::Accept)?;
        let clock = Clock::default();
        let labels =
            File::create(&self.labels).with_context(|| format!("writing {}", self.labels.display()))?;
        let mut out = Out { labels: BufWriter::new(labels), progress: Progress::new(self.count) };
        let simulator = Simulator::new(self.plan(&clock));
        let events = simulator.take(usize::try_from(self.count)?);
        match self.to.as_str() {
            "file" => self.to_file(events, &mut out)?,
            _ => block_on(self.to_server(config, clock, events, &mut out))?,
        }
        out.labels.flush()?;
        out.progress.finish();
        Ok(())
    }

    fn plan(&self, clock: &Clock) -> Plan {
        let span = Duration::from_secs_f64(self.count as f64 / self.rate);
        let start = self.start.unwrap_or_else(|| if self.paced { clock.now() } else { clock.now() - span });
        Plan {
            seed: self.seed,
            start,
            rate: self.rate,
            tenants: self.tenants,
            people: self.people,
            attack_every: (self.attack_every > 0).then(|| Duration::from_secs(self.attack_every)),
        }
    }

    fn to_file(&self, events: impl Iterator<Item = Simulated>, out: &mut Out) -> anyhow::Result<()> {
        let file =
            File::create(&self.events).with_context(|| format!("writing {}", self.events.display()))?;
        let mut file = BufWriter::new(file);
        for simulated in events {
            serde_json::to_writer(&mut file, &simulated.event)?;
            file.write_all(b"\n")?;
            out.note(&simulated)?;
        }
        Ok(file.flush()?)
    }

    async fn to_server(
        &self,
        config: Config,
        clock: Clock,
        events: impl Iterator<Item = Simulated>,
        out: &mut Out,
    ) -> anyhow::Result<()> {
        let sender = match self.to.as_str() {
            "door" => Sender::door(&config)?,
            _ => Sender::Log(Node::start(config)?.open_kafka()?),
        };
        let mut together = Vec::new();
        for simulated in events {
            out.note(&simulated)?;
            let ahead_ms = simulated.event.time.since_ms(clock.now());
            together.push(simulated);
            if self.paced && ahead_ms > 0 {
                sender.send(std::mem::take(&mut together)).await?;
                tokio::time::sleep(Duration::from_millis(ahead_ms.unsigned_abs())).await;
            } else if together.len() == SEND_TOGETHER {
                sender.send(std::mem::take(&mut together)).await?;
            }
        }
        sender.send(together).await
    }
}

/// Labels and progress.
struct Out {
    labels: BufWriter<File>,
    progress: Progress,
}

impl Out {
    fn note(&mut self, simulated: &Simulated) -> anyhow::Result<()> {
        for label in &simulated.labels {
            serde_json::to_writer(&mut self.labels, label)?;
            self.labels.write_all(b"\n")?;
        }
        self.progress.step();
        Ok(())
    }
}

/// A line of progress on a terminal; nothing elsewhere.
struct Progress {
    done: u64,
    of: u64,
    shown: bool,
}

impl Progress {
    fn new(of: u64) -> Self {
        Self { done: 0, of, shown: std::io::stderr().is_terminal() }
    }

    fn step(&mut self) {
        self.done += 1;
        if self.shown && self.done.is_multiple_of(1_000) {
            eprint!("\r{} of {} events", self.done, self.of);
        }
    }

    fn finish(&self) {
        if self.shown {
            eprintln!("\r{} of {} events", self.done, self.of);
        }
    }
}

/// The door, or Kafka.
pub(super) enum Sender {
    Door { client: reqwest::Client, url: String, key: crate::config::Secret },
    Log(std::sync::Arc<dyn crate::log::EventLog>),
}

impl Sender {
    /// The door of a running `up` or `serve`.
    pub(super) fn door(config: &Config) -> anyhow::Result<Self> {
        let url = format!("http://{}/v1/events", config.api);
        Ok(Self::Door { client: reqwest::Client::new(), url, key: config.ingest_key()?.clone() })
    }

    pub(super) async fn send(&self, simulated: Vec<Simulated>) -> anyhow::Result<()> {
        if simulated.is_empty() {
            return Ok(());
        }
        match self {
            Self::Door { client, url, key } => {
                let mut body = Vec::new();
                for simulated in &simulated {
                    serde_json::to_writer(&mut body, &simulated.event)?;
                    body.push(b'\n');
                }
                let request = client.post(url).bearer_auth(key.expose()).body(body);
                let response = request
                    .header(reqwest::header::CONTENT_TYPE, "application/x-ndjson")
                    .send()
                    .await
                    .with_context(|| format!("nobody answers at {url}; is `jwtrail up` running?"))?;
                if !response.status().is_success() {
                    bail!(
                        "the door answered {}: {}",
                        response.status(),
                        response.text().await.unwrap_or_default()
                    );
                }
            }
            Self::Log(log) => {
                let records = simulated.iter().map(|simulated| decode::to_record(&simulated.event)).collect();
                log.append(crate::log::Topic::Events, records).await?;
            }
        }
        Ok(())
    }
}
