//! The embedded ClickHouse: the real engine as one shared library, in a child process that serves ClickHouse's HTTP
//! interface on loopback, so that the same clients speak to it as to a server. A crash of the engine spares the
//! pipeline; the supervisor starts it again.
//!
//! [`Engine`] is the parent's side, [`serve_child`] the child's. What the engine cannot do, a server can: it has one
//! user, so that users and their limits are this interface's; no replication, no `query_log`, no `query_id` inside.

mod supervisor;

mod child;

mod http;
mod request;

mod answer;
mod body;
mod worker;

mod access;
mod compress;
mod exception;
mod session;
mod sql;

mod ffi;
mod layout;
mod library;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use self::access::Credentials;
pub(crate) use self::child::serve_child;
#[cfg(test)]
pub(crate) use self::library::find as find_library;
pub(crate) use self::supervisor::{Engine, EngineOptions, EngineState};

/// Why the embedded engine cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(
        "there is no ClickHouse engine for this platform: run a ClickHouse server and name it by --clickhouse-url"
    )]
    Platform,
    #[error(
        "the ClickHouse engine is not here: run `npm ci` in .deps at the repository's top (looked for {})",
        .looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoLibrary { looked: Vec<PathBuf> },
    #[error("cannot load the ClickHouse engine {}: {reason}", .path.display())]
    Load { path: PathBuf, reason: String },
    #[error(
        "{} is chdb {found}, but {} is needed: run `npm ci` in .deps at the repository's top",
        .path.display(), ffi::CHDB_VERSION
    )]
    Version { path: PathBuf, found: String },
    #[error("cannot use {} for the ClickHouse engine: {source}", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("another process holds the ClickHouse data in {}, and did not end within 30 s", .path.display())]
    Locked { path: PathBuf },
    #[error("the path {} cannot be handed to the ClickHouse engine", .path.display())]
    Path { path: PathBuf },
    #[error("the ClickHouse engine did not start on {}; the log lines above say why", .path.display())]
    Start { path: PathBuf },
    #[error("the ClickHouse engine cannot listen on {listen}: {source}")]
    Listen { listen: SocketAddr, source: io::Error },
    #[error("cannot run the ClickHouse engine's process: {0}")]
    Process(#[source] io::Error),
    #[error("{message}")]
    Child { code: String, message: String },
}

impl EngineError {
    /// A closed name for logs and metrics.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Platform => "engine_platform",
            Self::NoLibrary { .. } => "engine_library_missing",
            Self::Load { .. } => "engine_library_broken",
            Self::Version { .. } => "engine_library_version",
            Self::Directory { .. } => "engine_directory",
            Self::Locked { .. } => "engine_locked",
            Self::Path { .. } => "engine_path",
            Self::Start { .. } => "engine_start",
            Self::Listen { .. } => "engine_listen",
            Self::Process(_) => "engine_process",
            Self::Child { code, .. } => code,
        }
    }
}
