//! What is typed: one file a command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "jwtrail", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The embedded ClickHouse's process, which `up` starts.
    #[command(hide = true)]
    Engine,
}

pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Engine => crate::clickhouse::engine::serve_child(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jwtrail: {error:#}");
            ExitCode::FAILURE
        }
    }
}
