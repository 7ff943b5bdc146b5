//! `jwtrail migrate`: topics and ClickHouse schema as this version wants them.

use clap::Args;

use super::Common;
use super::node::{Node, block_on};
use crate::clickhouse::Client;
use crate::config::MissingCredentials;

/// Create or upgrade the ClickHouse schema and the topics.
///
/// Idempotent: run it before each new version. `up` does it by itself.
#[derive(Debug, Args)]
pub(super) struct Migrate {}

impl Migrate {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let config = common.load(MissingCredentials::Accept)?;
        block_on(async {
            let node = Node::brief(config)?;
            let log = node.open_kafka()?;
            let done = node.migrate(log.as_ref(), &Client::new(&node.config.clickhouse)).await?;
            if done.is_empty() {
                println!("topics and schema are as this version wants them");
            }
            for change in done {
                println!("{change}");
            }
            Ok(())
        })
    }
}
