//! `jwtrail engine`: the child process that the embedded ClickHouse lives in. It gets its order on standard input.

use clap::Args;

/// The embedded ClickHouse: started by `up`, not by hand.
#[derive(Debug, Args)]
pub(super) struct Engine {}

impl Engine {
    pub(super) fn run(self) -> anyhow::Result<()> {
        crate::clickhouse::engine::serve_child()
    }
}
