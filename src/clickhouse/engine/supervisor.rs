//! The parent's side: starts the engine's process, hands it its order over a pipe, starts it again when it dies, and
//! lets it stop in order when nobody needs it any more.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use super::EngineError;
use super::access::Credentials;
use super::child::{Order, Report};
use super::library;
use crate::lifecycle::Lifecycle;

/// The hidden subcommand that is the engine's process: it calls [`serve_child`](super::serve_child).
const SUBCOMMAND: &str = "engine";
/// A start may wait 30 s for the lock, and then repair what a crash left.
const START: Duration = Duration::from_secs(120);
/// An orderly stop: 5 s for running requests, then the engine's own.
const STOP: Duration = Duration::from_secs(15);
/// Between a death and the next start: doubled each time, until one has lived for a minute.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LIVED: Duration = Duration::from_secs(60);

/// What the embedded engine needs.
#[derive(Clone, Debug)]
pub(crate) struct EngineOptions {
    /// libchdb; `None` looks below `.deps` of the working directory and of the executable's folders.
    pub(crate) library: Option<PathBuf>,
    /// The engine's own directory, made if it is missing.
    pub(crate) data_dir: PathBuf,
    /// Where it serves HTTP; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    pub(crate) credentials: Credentials,
}

/// How the engine's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineState {
    /// It serves.
    Up { pid: u32 },
    /// It died, and is being started again.
    Down,
    /// It was stopped, for good.
    Stopped,
}

/// The running engine. It stops when the last clone is dropped, after [`Engine::stop`], or when the process aborts;
/// not when draining begins, because the pipeline still stores then.
#[derive(Clone)]
pub(crate) struct Engine {
    listen: SocketAddr,
    state: watch::Receiver<EngineState>,
    stop: Arc<watch::Sender<bool>>,
}

impl Engine {
    /// Starts the engine and waits until it serves.
    pub(crate) async fn start(options: EngineOptions, lifecycle: &Lifecycle) -> Result<Self, EngineError> {
        Self::start_as(Launch::this_program()?, options, lifecycle).await
    }

    pub(super) async fn start_as(
        launch: Launch,
        options: EngineOptions,
        lifecycle: &Lifecycle,
    ) -> Result<Self, EngineError> {
        let mut order = Order {
            library: library::find(options.library.as_deref())?,
            data_dir: options.data_dir,
            listen: options.listen,
            jwtrail: options.credentials.jwtrail,
            analyst: options.credentials.analyst,
        };
        let (process, ready) = Process::start(&launch, &order).await?;
        // A restart comes back where clients look for it, also if the port was any.
        order.listen = ready.listen;
        let (state_sender, state) = watch::channel(process.state());
        let (stop, stopped) = watch::channel(false);
        let supervisor = Supervisor { launch, order, state: state_sender, stop: stopped };
        let aborting = lifecycle.clone();
        lifecycle.spawn("clickhouse engine", async move {
            supervisor.run(process, async { aborting.aborting().await }).await;
        });
        tracing::info!(listen = %ready.listen, version = ready.version, "the embedded ClickHouse serves");
        Ok(Self { listen: ready.listen, state, stop: Arc::new(stop) })
    }

    /// Where it serves HTTP: the port that it got, if any was wanted.
    pub(crate) const fn listen(&self) -> SocketAddr {
        self.listen
    }

    #[cfg(test)]
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> EngineState {
        *self.state.borrow()
    }

    /// How its process is, and each change of that.
    pub(crate) fn watch(&self) -> watch::Receiver<EngineState> {
        self.state.clone()
    }

    /// Stops the engine in order, and waits for its end.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        // Ends with the supervisor at the latest, which holds the other side.
        let _ = self.state.clone().wait_for(|state| *state == EngineState::Stopped).await;
    }
}

/// How to start the engine's process.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

impl Launch {
    /// This very program, even if its file has been replaced since it was started.
    fn this_program() -> Result<Self, EngineError> {
        let running = Path::new("/proc/self/exe");
        let program = match running.exists() {
            true => running.to_owned(),
            false => std::env::current_exe().map_err(EngineError::Process)?,
        };
        Ok(Self { program, arguments: vec![SUBCOMMAND.into()] })
    }
}

/// Keeps one engine running.
struct Supervisor {
    launch: Launch,
    order: Order,
    state: watch::Sender<EngineState>,
    stop: watch::Receiver<bool>,
}

impl Supervisor {
    async fn run(self, mut process: Process, aborting: impl Future<Output = ()>) {
        let mut stop = self.stop.clone();
        let end = async {
            tokio::select! {
                // Resolves for `stop`, and with an error when the last `Engine` is gone.
                _ = stop.wait_for(|stop| *stop) => {}
                () = aborting => {}
            }
        };
        tokio::pin!(end);
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            tokio::select! {
                status = process.ended() => {
                    tracing::error!(%status, "the ClickHouse engine died: starting it again");
                }
                () = &mut end => break,
            }
            self.state.send_replace(EngineState::Down);
            if started.elapsed() > LIVED {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                next = self.restart(&mut pause) => process = next,
                // A child that is being started dies with its `Process`.
                () = &mut end => {
                    self.state.send_replace(EngineState::Stopped);
                    return;
                }
            }
            self.state.send_replace(process.state());
        }
        process.stop().await;
        self.state.send_replace(EngineState::Stopped);
    }

    async fn restart(&self, pause: &mut Duration) -> Process {
        loop {
            tokio::time::sleep(*pause).await;
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            match Process::start(&self.launch, &self.order).await {
                Ok((process, _)) => {
                    tracing::info!("the ClickHouse engine serves again");
                    return process;
                }
                Err(error) => {
                    tracing::error!(code = error.code(), %error, "the ClickHouse engine did not start again");
                }
            }
        }
    }
}

/// A running child. Dropped, it is killed.
struct Process {
    child: Child,
    /// Its end is the child's wish to stop.
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
    pid: u32,
}

/// What a child's first report says.
struct Ready {
    listen: SocketAddr,
    version: String,
}

enum Heard {
    Line(String),
    Ended(String),
}

impl Process {
    /// Starts a child and waits for its report.
    async fn start(launch: &Launch, order: &Order) -> Result<(Self, Ready), EngineError> {
        let mut child = Command::new(&launch.program)
            .args(&launch.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the parent, which stops the child when nobody stores any more.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(EngineError::Process)?;
        let missing = || EngineError::Process(io::Error::other("the child has no pipes"));
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(missing)?).lines();
        let stderr = BufReader::new(child.stderr.take().ok_or_else(missing)?).lines();
        let pid = child.id().ok_or_else(missing)?;
        let mut line = zeroize::Zeroizing::new(
            serde_json::to_vec(order).map_err(|error| EngineError::Process(error.into()))?,
        );
        line.push(b'\n');
        stdin.write_all(&line).await.map_err(EngineError::Process)?;
        let mut process = Self { child, stdin: Some(stdin), stdout, stderr, pid };
        let report = tokio::time::timeout(START, process.report()).await;
        let overdue = |_| EngineError::Start { path: order.data_dir.clone() };
        match report.map_err(overdue)? {
            Ok(Report::Ready { listen, version }) => Ok((process, Ready { listen, version })),
            Ok(Report::Failed { code, message }) => Err(EngineError::Child { code, message }),
            Err(status) => {
                tracing::error!(status, "the ClickHouse engine ended while it started");
                Err(EngineError::Start { path: order.data_dir.clone() })
            }
        }
    }

    fn state(&self) -> EngineState {
        EngineState::Up { pid: self.pid }
    }

    /// The next line on stdout, or the child's end; lines on stderr are logged on the way.
    async fn hear(&mut self) -> Heard {
        let (mut prints, mut logs) = (true, true);
        while prints || logs {
            tokio::select! {
                line = self.stderr.next_line(), if logs => match line {
                    Ok(Some(line)) => log(&line),
                    // Skipped, and read on: a pipe that nobody empties would stop the engine.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => log("(a line that is not UTF-8)"),
                    _ => logs = false,
                },
                line = self.stdout.next_line(), if prints => match line {
                    Ok(Some(line)) => return Heard::Line(line),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                    _ => prints = false,
                },
            }
        }
        // Both pipes are read to their ends, so the last words are heard.
        Heard::Ended(match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        })
    }

    /// The first line that is a report; the engine may print what it likes before. `Err`: the child ended.
    async fn report(&mut self) -> Result<Report, String> {
        loop {
            match self.hear().await {
                Heard::Line(line) => {
                    if let Ok(report) = serde_json::from_str(&line) {
                        return Ok(report);
                    }
                }
                Heard::Ended(status) => return Err(status),
            }
        }
    }

    /// Waits for the child's end.
    async fn ended(&mut self) -> String {
        loop {
            if let Heard::Ended(status) = self.hear().await {
                return status;
            }
        }
    }

    /// Lets the child stop in order; kills it if it does not.
    async fn stop(mut self) {
        self.stdin = None;
        if tokio::time::timeout(STOP, self.ended()).await.is_err() {
            tracing::error!("the ClickHouse engine did not stop in time: killing it");
        }
        // The child is killed as it is dropped, if it still lives.
    }
}

/// A line of the child's log, at its own level; what the engine itself prints is a warning.
fn log(line: &str) {
    let (level, text) = line.trim_start().split_once(' ').unwrap_or(("", line));
    match level {
        "ERROR" => tracing::error!(engine.line = text.trim_start(), "clickhouse"),
        "INFO" => tracing::info!(engine.line = text.trim_start(), "clickhouse"),
        "DEBUG" | "TRACE" => tracing::debug!(engine.line = text.trim_start(), "clickhouse"),
        "WARN" => tracing::warn!(engine.line = text.trim_start(), "clickhouse"),
        _ => tracing::warn!(engine.line = line, "clickhouse"),
    }
}
