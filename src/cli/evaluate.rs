//! `jwtrail evaluate`: walks a file of labelled events through the rooms, and says how good the rules were.

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
use crate::replay;
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

impl Evaluate {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let mut config = common.load(MissingCredentials::Accept)?;
        if self.demo {
            demo::declare(&mut config)?;
        }
        let labels: Vec<Label> = lines(&self.labels)?
            .map(|line| {
                serde_json::from_str(&line?).context("a label is not as `jwtrail simulate` writes it")
            })
            .collect::<anyhow::Result<_>>()?;

        let walked = replay::file(offline_walk(&config)?, lines(&self.events)?, |_, _| ())?;
        let found: Vec<Found> = walked.findings.folded().iter().map(Found::from).collect();
        println!("{}, {} labels, {} cases", walked.counts, labels.len(), found.len());
        print!("{}", Scores::of(&labels, &found, walked.counts.events));
        Ok(())
    }
}

fn lines(path: &Path) -> anyhow::Result<impl Iterator<Item = std::io::Result<String>>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let lines = BufReader::new(file).lines();
    Ok(lines.filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty())))
}
