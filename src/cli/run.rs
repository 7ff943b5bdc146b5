//! `jwtrail run`: the pipeline as a process of its own.

use clap::Args;

use super::Common;
use super::node::{Pipeline, role};
use crate::pipeline::settle::Adopt;

/// The pipeline: consume, verify, enrich, detect, alert, store.
///
/// Start as many as you like: the group divides the partitions among them. Metrics and health are on
/// 127.0.0.1:9101 (`run_metrics`).
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Where to go on if log and ClickHouse do not agree: commit, rows, beginning (the error says when)
    #[arg(long, value_name = "HOW", value_parser = adopt)]
    pub(super) adopt: Option<Adopt>,
}

/// Reads `--adopt`.
pub(super) fn adopt(text: &str) -> Result<Adopt, String> {
    Adopt::parse(text).ok_or_else(|| "one of: commit, rows, beginning".to_owned())
}

impl Run {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        role(common, async |node, log, client| {
            let snapshots = node.watch_snapshots().await?;
            let pipeline = Pipeline { log, client, snapshots, adopt: self.adopt, on_alert: None };
            // First: it also says why the pipeline cannot start yet.
            node.listen(node.config.run_metrics, node.routes()).await?;
            node.start_pipeline(pipeline).await
        })
    }
}
