//! `jwtrail evaluate`: walks a file of labelled events through the rooms, and says how good the rules were.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::Common;
use super::demo;
use super::node::offline_walk;
use crate::config::MissingCredentials;
use crate::evaluate::{Found, Scores};
use crate::log::Batch;
use crate::model::{FindingId, Offset, PartitionId, UnixMs};
use crate::pipeline::WayOut;
use crate::simulate::Label;

/// Precision and recall of the rules on labelled traffic.
///
/// Nothing is stored: the events go through the same rooms in this process. A label is found by a case of its rule
/// and subject within ten minutes. `jwtrail simulate` makes both files.
#[derive(Debug, Args)]
pub(super) struct Evaluate {
    /// Events, one JSON object a line
    events: PathBuf,
    /// Labels, one JSON object a line
    labels: PathBuf,
    /// Judge with the places and declarations of the simulator
    #[arg(long)]
    demo: bool,
}

/// Records a batch while walking a file.
const BATCH_RECORDS: usize = 4_096;

impl Evaluate {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let mut config = common.load(MissingCredentials::Accept)?;
        if self.demo {
            demo::declare(&mut config)?;
        }
        let mut walk = offline_walk(&config)?;
        let labels: Vec<Label> = lines(&self.labels)?
            .map(|line| {
                serde_json::from_str(&line?).context("a label is not as `jwtrail simulate` writes it")
            })
            .collect::<anyhow::Result<_>>()?;

        let mut findings: HashMap<FindingId, Found> = HashMap::new();
        let (mut events, mut rejected, mut repeated) = (0_u64, 0_u64, 0_u64);
        let mut file = lines(&self.events)?.peekable();
        let mut batch = Batch::default();
        while file.peek().is_some() {
            batch.clear(PartitionId(0));
            for line in file.by_ref().take(BATCH_RECORDS) {
                let line = line?;
                // The log would have stamped it on arrival: at the event's own time, for a file.
                let time = event_time(&line).unwrap_or_default();
                let offset = Offset::new(i64::try_from(events)?).unwrap_or_default();
                batch.push(offset, time, None, line.as_bytes(), []);
                events += 1;
            }
            for record in batch.iter() {
                match walk.step(&record) {
                    WayOut::Alerted(alerted) => findings.extend(
                        alerted
                            .found
                            .findings
                            .iter()
                            .map(|finding| (finding.case.finding_id, Found::from(finding))),
                    ),
                    WayOut::Rejected(_) => rejected += 1,
                    WayOut::Dropped(_) => repeated += 1,
                    WayOut::Forwarded(_) | WayOut::Ticked(_) => {}
                }
            }
        }
        let found: Vec<Found> = findings.into_values().collect();
        let (labelled, cases) = (labels.len(), found.len());
        println!(
            "{events} events, {rejected} rejected, {repeated} repeated, {labelled} labels, {cases} cases"
        );
        print!("{}", Scores::of(&labels, &found, events));
        Ok(())
    }
}

fn lines(path: &Path) -> anyhow::Result<impl Iterator<Item = std::io::Result<String>>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let lines = BufReader::new(file).lines();
    Ok(lines.filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty())))
}

fn event_time(line: &str) -> Option<UnixMs> {
    #[derive(serde::Deserialize)]
    struct Time {
        time: UnixMs,
    }
    serde_json::from_str::<Time>(line).ok().map(|event| event.time)
}
