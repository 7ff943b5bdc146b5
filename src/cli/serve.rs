//! `jwtrail serve`: the HTTP API as a process of its own.

use clap::Args;

use super::Common;
use super::node::role;

/// The HTTP API: the door, metrics, health.
#[derive(Debug, Args)]
pub(super) struct Serve {}

impl Serve {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        role(common, async |node, log, client| {
            node.start_api(log, client, node.watch_snapshots().await?, None).await
        })
    }
}
