//! `jwtrail replay`: a past span of the log, a file or the dead letters once more through the rooms.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::Common;
use super::demo;
use super::node::{Node, block_on, offline_walk, replay_bounds, replay_walks};
use crate::clickhouse::Client;
use crate::config::{Config, MissingCredentials};
use crate::log::{EventLog, Topic};
use crate::model::{Finding, UnixMs};
use crate::pipeline::alert::{case_block, clean};
use crate::pipeline::decode::RejectReason;
use crate::replay::{self, FindingRows, Letters, Span, Survey, Wanted};

/// A past span of the log, a file or the dead letters once more through the rooms.
///
/// A span and a file are only walked: what the rules find is printed, and nothing is stored, told or changed. With
/// another configuration that is a backtest. Dead letters whose fault is mended go back into the log, once each.
///
/// The single machine's journal belongs to one process: stop `jwtrail up` meanwhile, it goes on where it was. On Kafka
/// everything may go on.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Replay {
    /// Walk the log from this time of arrival on, RFC 3339 [default: all that the log has]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["file", "dead_letters"])]
    from: Option<UnixMs>,
    /// … and up to this one [default: up to now]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["file", "dead_letters"])]
    to: Option<UnixMs>,
    /// Hold what was found against what ClickHouse has, row by row, and fail if they differ
    #[arg(long, conflicts_with_all = ["file", "dead_letters", "json"])]
    compare: bool,
    /// Walk a file of complete events, one JSON object a line, each as if it had arrived at its own time
    #[arg(long, value_name = "FILE", conflicts_with = "dead_letters")]
    file: Option<PathBuf>,
    /// A finding a line as JSON, by finding_id, in place of text
    #[arg(long, conflicts_with = "dead_letters")]
    json: bool,
    /// Judge with the places and declarations of the demo
    #[arg(long)]
    demo: bool,
    /// Bring back the dead letters that are events by now
    #[arg(long)]
    dead_letters: bool,
    /// Only those that were rejected for this reason
    #[arg(long, requires = "dead_letters", value_parser = reason)]
    reason: Option<RejectReason>,
    /// Only this tenant's
    #[arg(long, requires = "dead_letters")]
    tenant: Option<String>,
    /// Only those that were written since, RFC 3339
    #[arg(long, value_name = "TIME", requires = "dead_letters")]
    since: Option<UnixMs>,
    /// Only say which would go back, and what is still wrong with the others
    #[arg(long, requires = "dead_letters")]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  jwtrail replay --from 2026-11-23T00:00:00Z --to 2026-11-24T00:00:00Z
      what the rules find in what arrived that day
  jwtrail replay --config stricter.toml --from 2026-11-23T00:00:00Z --json
      a backtest: the same events under other rules
  jwtrail replay --compare
      is every finding in ClickHouse, and none that the log does not say?
  jwtrail replay --file events.jsonl
      findings of a file
  jwtrail replay --dead-letters --reason bad_value --dry-run
      which dead letters are events by now; without --dry-run they go back into the log";

fn reason(text: &str) -> Result<RejectReason, String> {
    let words = || RejectReason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ");
    RejectReason::parse(text).ok_or_else(|| format!("one of: {}", words()))
}

impl Replay {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let mut config = common.load(MissingCredentials::Accept)?;
        if self.demo {
            demo::declare(&mut config)?;
        }
        if let Some(file) = &self.file {
            return self.file(&config, file);
        }
        block_on(async {
            let node = Node::brief(config)?;
            let log = open(&node)?;
            if self.dead_letters {
                self.letters(&node.config, log.as_ref()).await
            } else {
                self.span(&node.config, log.as_ref()).await
            }
        })
    }

    fn file(&self, config: &Config, path: &Path) -> anyhow::Result<()> {
        let lines = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let walked = replay::file(offline_walk(config)?, BufReader::new(lines).lines(), |line, why| {
            eprintln!("line {line}: {} at `{}`", why.reason, clean(&why.field));
        })?;
        self.print(walked.findings)?;
        eprintln!("{}", walked.counts);
        Ok(())
    }

    async fn span(&self, config: &Config, log: &dyn EventLog) -> anyhow::Result<()> {
        if let (Some(from), Some(to)) = (self.from, self.to) {
            ensure!(from < to, "--from must be before --to");
        }
        let walks = replay_walks(config, log.partitions(Topic::Events).await?)?;
        let progress = Progress::new();
        let span = Span { from: self.from, to: self.to };
        let (walked, pieces) = replay::span(log, walks, span, |topic, partition, records| {
            progress.show(&format!("{}/{partition}, {records} records", topic.name()));
        })
        .await?;
        progress.end();
        eprintln!("{}", walked.counts);
        if !self.compare {
            return self.print(walked.findings);
        }
        for piece in pieces.iter().filter(|piece| !piece.is_whole) {
            eprintln!(
                "{}/{} is left out: the log has lost what its cases may rest on; give --from, 50 h after the log's start or \
                 later",
                piece.topic.name(),
                piece.partition
            );
        }
        let comparison = replay::compare(&Client::new(&config.clickhouse), &walked.findings, &pieces).await?;
        println!("{comparison}");
        ensure!(
            comparison.is_clean(),
            "the log and ClickHouse differ: look whether the walk has caught up (`jwtrail_lag_records`) and had this \
             configuration and these geo files"
        );
        Ok(())
    }

    fn print(&self, findings: FindingRows) -> anyhow::Result<()> {
        let mut findings = findings.folded();
        let mut out = std::io::stdout().lock();
        if self.json {
            for finding in &findings {
                serde_json::to_writer(&mut out, finding)?;
                out.write_all(b"\n")?;
            }
            return Ok(());
        }
        findings.sort_by_key(|finding| (finding.case.first_time, finding.case.finding_id));
        for finding in &findings {
            out.write_all(case_block(&finding.case, &note(finding)).as_bytes())?;
        }
        let alerts = findings.iter().filter(|finding| finding.is_alert).count();
        writeln!(out, "{} cases, {alerts} of them alerts", findings.len())?;
        Ok(())
    }

    async fn letters(self, config: &Config, log: &dyn EventLog) -> anyhow::Result<()> {
        let bounds = replay_bounds(config, log.partitions(Topic::Events).await?)?;
        let wanted = Wanted { reason: self.reason, tenant: self.tenant, since: self.since };
        let letters = Letters { log, bounds, wanted };
        let progress = Progress::new();
        let survey = letters.survey(|read| progress.show(&format!("{read} dead letters read"))).await?;
        progress.end();
        print!("{}", told(&survey));
        if self.dry_run || survey.mended == 0 {
            return Ok(());
        }
        let of = survey.mended;
        let appended = letters
            .bring_back(&survey, |appended| progress.show(&format!("{appended} of {of} appended")))
            .await?;
        progress.end();
        println!("{appended} went back into the log");
        Ok(())
    }
}

fn open(node: &Node) -> anyhow::Result<Arc<dyn EventLog>> {
    if node.config.kafka.is_some() {
        return node.open_log();
    }
    let journal = node.config.data_dir.join("journal");
    if !journal.is_dir() {
        bail!(
            "there is no journal in {}: name the data directory (--data-dir) or the brokers (--brokers)",
            journal.display()
        );
    }
    node.open_log().context(
        "the journal belongs to `jwtrail up` while that runs: stop it for as long as this takes, it goes on where it was",
    )
}

fn note(finding: &Finding) -> String {
    match finding.not_alerted {
        None => String::new(),
        Some(why) if finding.suppressed_by.is_empty() => format!(" (no alert: {why})"),
        Some(why) => format!(" (no alert: {why} by {})", finding.suppressed_by),
    }
}

/// What the survey found, a line each; the origins lead to the letters.
fn told(survey: &Survey) -> String {
    let mut text = format!("{} are events by now\n", survey.mended);
    for ((reason, field), (count, examples)) in &survey.rejected {
        let field = if field.is_empty() { String::new() } else { format!(" at `{}`", clean(field)) };
        text.push_str(&format!(
            "{count} are still rejected: {reason}{field}, such as {}\n",
            clean(&examples.join(", "))
        ));
    }
    if survey.before > 0 {
        text.push_str(&format!("{} went back before\n", survey.before));
    }
    if survey.foreign > 0 {
        text.push_str(&format!("{} are no dead letters of this program\n", survey.foreign));
    }
    text
}

/// A line of progress on a terminal; nothing elsewhere.
struct Progress {
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, line: &str) {
        if self.shown {
            eprint!("\r\u{1b}[K{line}");
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}
