//! The engine's process. Its order comes in one line on stdin, so that no password stands on a command line; it says
//! in one line on stdout that it serves, or why it cannot; and it ends when stdin does, which a parent that is killed
//! closes too.

use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use zeroize::Zeroize as _;

use super::EngineError;
use super::access::Credentials;
use super::ffi::Api;
use super::http::Server;
use super::layout::Layout;
use super::session::Sessions;
use crate::clock::Clock;
use crate::config::Secret;
use crate::lifecycle::{Lifecycle, Phase};

/// How long running requests may take to end when the engine stops, before they are killed.
const DRAIN: Duration = Duration::from_secs(5);
/// After the parent's end the process is gone by then, whatever hangs.
const LAST_RESORT: Duration = Duration::from_secs(20);

/// What the parent writes: one line of JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub(super) library: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) listen: SocketAddr,
    #[serde(with = "secret")]
    pub(super) jwtrail: Secret,
    #[serde(with = "secret")]
    pub(super) analyst: Secret,
}

/// A secret as it crosses the pipe, and nowhere else.
mod secret {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::config::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// What the child answers: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// It serves.
    Ready { listen: SocketAddr, version: String },
    /// It cannot, and ends.
    Failed { code: String, message: String },
}

/// The child's whole life. Blocks until stdin ends, or a signal comes.
pub(crate) fn serve_child() -> anyhow::Result<()> {
    // The parent reads stderr line by line and logs it under its own time.
    let log = tracing_subscriber::fmt().with_writer(io::stderr).without_time().with_target(false);
    // A test's process may have a subscriber already.
    let _ = log.with_ansi(false).try_init();
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot read the order from stdin")?;
    let order = serde_json::from_str::<Order>(&line);
    line.zeroize();
    let order =
        order.ok().context("this process is started by `jwtrail up`, which writes its order to stdin")?;
    let engine = Lifecycle::thread("clickhouse engine", move || run(order)).context("no thread")?;
    let result = engine.join().map_err(|_| anyhow::anyhow!("the engine's thread panicked"))?;
    if let Err(error) = &result {
        report(&Report::Failed { code: error.code().to_owned(), message: error.to_string() })
            .context("cannot report to stdout")?;
    }
    Ok(result?)
}

fn report(report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

fn run(order: Order) -> Result<(), EngineError> {
    let lifecycle = Lifecycle::new(DRAIN);
    let parent = lifecycle.clone();
    Lifecycle::thread("clickhouse parent", move || outlive_not(&parent)).map_err(EngineError::Process)?;
    let layout = Layout::take(&order.data_dir)?;
    let api = Api::load(&order.library)?;
    let broken = || EngineError::Start { path: order.data_dir.clone() };
    let sessions = Arc::new(Sessions::start(api, layout.arguments()?).ok_or_else(broken)?);
    let credentials = Credentials { jwtrail: order.jwtrail.clone(), analyst: order.analyst.clone() };
    let server = Server::new(Arc::clone(&sessions), credentials, Clock::System).map_err(|exception| {
        tracing::error!(error = exception.text, "the engine answers no query");
        broken()
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(EngineError::Process)?;
    let served = runtime.block_on(serve(order.listen, Arc::new(server), &sessions, &lifecycle));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if Arc::strong_count(&sessions) > 1 {
        tracing::warn!("a query did not end; the engine ends without an orderly stop");
    }
    served
}

/// Waits for the end of stdin, which is the parent's wish or the parent's end.
fn outlive_not(lifecycle: &Lifecycle) {
    let mut rest = [0; 64];
    while matches!(io::stdin().lock().read(&mut rest), Ok(1..)) {}
    lifecycle.advance(Phase::Draining);
    std::thread::sleep(LAST_RESORT);
    std::process::abort();
}

async fn serve(
    listen: SocketAddr,
    server: Arc<Server>,
    sessions: &Sessions,
    lifecycle: &Lifecycle,
) -> Result<(), EngineError> {
    let failed = |source: io::Error| EngineError::Listen { listen, source };
    lifecycle.watch_signals().map_err(EngineError::Process)?;
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let ready =
        Report::Ready { listen: listener.local_addr().map_err(failed)?, version: server.version.clone() };
    // Small answers wait for nothing: 8 ms instead of 48 for a query.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let router = server.router();
    report(&ready).map_err(EngineError::Process)?;
    let draining = lifecycle.clone();
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(async move { draining.draining().await })
        .into_future();
    let overdue = async {
        lifecycle.draining().await;
        tokio::time::sleep(DRAIN).await;
        if let Err(exception) = sessions.kill(None) {
            tracing::warn!(error = exception.text, "cannot kill what still runs");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    tokio::select! {
        served = serving => served.map_err(failed),
        // Requests that do not end even when they are killed are left behind.
        () = overdue => Ok(()),
    }
}
