//! `jwtrail deliver`: the outbox to its destinations as a process of its own.

use clap::Args;

use super::Common;
use super::node::role;

/// The alerts outbox to webhooks and files.
///
/// Each `[[destination]]` goes at its own pace: a dead one delays no other. Metrics and health are on
/// 127.0.0.1:9102 (`deliver_metrics`).
#[derive(Debug, Args)]
pub(super) struct Deliver {
    /// Begin with the alerts that were given up after 72 hours
    #[arg(long)]
    retry: bool,
}

impl Deliver {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        role(common, async |node, log, client| {
            node.start_delivery(log, client, self.retry)?;
            node.listen(node.config.deliver_metrics, node.routes()).await
        })
    }
}
