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

use std::path::Path;

use anyhow::Context as _;

use crate::config::Config;
use report::Report;
use rooms::{Costs, Room};
use setting::Setting;
use traffic::Traffic;

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
}

/// Where everything goes that the bench writes.
const FOLDER: &str = "target/bench";
const LINES: &str = "target/bench.json";

impl Bench {
    /// Measures, prints the tables, and writes `target/bench.json`.
    pub(crate) fn run(self, config: Config) -> anyhow::Result<()> {
        let folder = Path::new(FOLDER);
        std::fs::create_dir_all(folder).with_context(|| format!("making {FOLDER}"))?;
        let mut report = Report::create(Path::new(LINES))?;
        let setting = Setting::read(&config, folder, false)?;
        // First, while the process is as small as `run` is when it starts.
        self.memory(&setting, &mut report)?;
        self.rooms(&setting, &mut report)?;
        report.finish()
    }

    fn memory(&self, setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
        report.memory_head();
        self.subjects.iter().try_for_each(|thousands| memory::measure(setting, thousands * 1_000, report))
    }

    fn rooms(&self, setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
        for (name, key) in [("unsigned", None), ("hs256", Some(&setting.door))] {
            let traffic = Traffic::simulated(self.events, key);
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
