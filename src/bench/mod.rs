//! The bench, behind the feature `bench`: what an event costs, a room at a time and the whole way, in one run.
//!
//! Costs are processor time on one thread, the least of a few rounds. What else runs on the machine still counts a
//! little (caches, clock speed): compare ratios within a run rather than figures of two.

mod allocator;
mod meter;
mod report;
mod setting;
mod traffic;

mod rooms;

mod memory;

mod instructions;

mod floor;
mod latency;
mod way;

/// A real Apache Kafka, as the tests have it.
#[expect(dead_code, reason = "tests stop, kill and restart it too")]
#[expect(
    clippy::expect_used,
    reason = "tests say so what they cannot do without; a bench may end like that too"
)]
#[path = "../../tests/support/kafka.rs"]
mod broker;

use std::path::Path;

use anyhow::Context as _;

use crate::config::Config;
use report::Report;
use rooms::{Costs, Room};
use setting::Setting;
use traffic::{BATCH_RECORDS, Traffic};
use way::{Ends, Through, Way};

/// What is to be measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Bench {
    /// Events that go through the rooms
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// Times that each measurement is repeated; the cheapest counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Subjects whose state is measured, in thousands; each thousand takes a tenth of a second or less
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000])]
    subjects: Vec<usize>,
    /// Events that go the whole way from the log to ClickHouse; 0 for none
    #[arg(long, default_value_t = 200_000)]
    way_events: usize,
    /// The logs that they come from
    #[arg(long, value_delimiter = ',', default_values_t = [Through::Journal, Through::Kafka])]
    logs: Vec<Through>,
    /// Events whose instructions callgrind counts; 0 for none
    #[arg(long, default_value_t = 20_000)]
    callgrind_events: usize,
    /// Only walk `--events` events through each room once: what runs under callgrind
    #[arg(long, hide = true)]
    once: bool,
}

/// Where everything goes that the bench writes.
const FOLDER: &str = "target/bench";
const LINES: &str = "target/bench.json";

impl Bench {
    /// Measures, prints the tables, and writes `target/bench.json`.
    pub(crate) fn run(self, config: Config) -> anyhow::Result<()> {
        let folder = Path::new(FOLDER);
        std::fs::create_dir_all(folder).with_context(|| format!("making {FOLDER}"))?;
        if self.once {
            return instructions::walk_once(&Setting::read(&config, folder, true)?, self.events);
        }
        let mut report = Report::create(Path::new(LINES))?;
        let setting = Setting::read(&config, folder, false)?;
        // First, while the process is as small as `run` is when it starts.
        self.memory(&setting, &mut report)?;
        self.rooms(&setting, &mut report)?;
        if self.callgrind_events > 0 {
            instructions::measure(folder, self.callgrind_events, &mut report)?;
        }
        runtime()?.block_on(self.ways(&setting, folder, &mut report))?;
        report.finish()
    }

    fn memory(&self, setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
        report.memory_head();
        self.subjects.iter().try_for_each(|thousands| memory::measure(setting, thousands * 1_000, report))
    }

    /// The whole way over each log, keyed and keyless, then what waits at half of that load.
    async fn ways(&self, setting: &Setting, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
        if self.way_events == 0 {
            return Ok(());
        }
        let ends = Ends::start(folder).await?;
        report.way_head();
        let mut latencies = Vec::new();
        for &log in &self.logs {
            let mut keyed_rate = 0.0;
            for keyed in [true, false] {
                let way = Way::open(log, &ends, folder).await?;
                way.fill(self.way_events, keyed).await?;
                let floor = way.floor(self.way_events).await?;
                let walk = way.walk(setting, self.way_events).await?;
                report.way(log, keyed, self.way_events, floor, walk)?;
                if keyed {
                    keyed_rate = self.way_events as f64 / walk.elapsed.as_secs_f64();
                }
            }
            let way = Way::open(log, &ends, folder).await?;
            let rate = keyed_rate / 2.0;
            latencies.push((log, rate, latency::measure(&way, setting, rate).await?));
        }
        report.latency_head();
        for (log, rate, measured) in latencies {
            report.latency(log, rate, &measured)?;
        }
        ends.stop().await;
        Ok(())
    }

    fn rooms(&self, setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
        for (name, key) in [("unsigned", None), ("hs256", Some(&setting.door))] {
            let traffic = Traffic::simulated(self.events, BATCH_RECORDS, key);
            report.head(&format!("{name}, {:.0} bytes an event", traffic.value_bytes()));
            let costs = Costs::measure(&traffic, setting, self.rounds)?;
            for room in Room::ALL {
                report.cost(name, room.as_str(), costs.of(room))?;
            }
        }
        let anywhere = Traffic::from_anywhere(self.events);
        let costs = Costs::measure(&anywhere, setting, self.rounds)?;
        report.cost("a new address each", "enrich, a new address each", costs.of(Room::Enrich))
    }
}

/// As the roles have it: two threads for I/O.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_stack_size(4 << 20).enable_all().build().context("starting the runtime")
}
