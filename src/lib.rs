//! JWTrail: an event-driven audit and anomaly-detection pipeline for JWT use.
//!
//! A reader learns the product from `pipeline`: one record's walk on one screen. The other modules serve it.

mod model;

mod pipeline;

mod clickhouse;
mod deliver;
mod issuer;
mod key_sets;
mod log;
#[cfg_attr(not(test), expect(dead_code, reason = "issued and decided by the endpoints, which come next"))]
#[expect(unused_imports, reason = "as above")]
mod token;

mod api;
mod evaluate;
mod explain;
mod replay;
mod simulate;
mod spool;

#[cfg(feature = "bench")]
mod bench;

mod cli;
mod clock;
mod config;
mod keys;
mod lifecycle;
mod outbound;
mod telemetry;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
mod readme;

/// The program: what was typed, done.
pub fn main() -> std::process::ExitCode {
    cli::main()
}
