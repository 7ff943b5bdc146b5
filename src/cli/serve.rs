//! `jwtrail serve`: the HTTP API as a process of its own.

use clap::Args;

use super::Common;
use super::node::{Node, block_on};
use crate::clickhouse::Client;
use crate::config::MissingCredentials;

/// The HTTP API: the door, metrics, health.
#[derive(Debug, Args)]
pub(super) struct Serve {}

impl Serve {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let config = common.load(MissingCredentials::Accept)?;
        block_on(async {
            let node = Node::start(config)?;
            let log = node.open_kafka()?;
            let client = Client::new(&node.config.clickhouse);
            node.start_api(log, client, node.watch_snapshots().await?).await?;
            node.finish().await
        })
    }
}
