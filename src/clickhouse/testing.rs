//! A real ClickHouse for tests: one engine for the tests that run together, a database each, and a wire that can lose things.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::engine::{find_library, serve_child};
use super::{Client, migrate};
use crate::clock::Random;
use crate::config::{ClickHouseConfig, Secret};
use crate::lifecycle::Lifecycle;

/// What the wire loses of the first insert into `events`, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lose {
    /// The rows are stored, and nobody hears of it.
    Answer,
    /// ClickHouse never hears of it.
    Request,
    /// ClickHouse hears the beginning.
    HalfTheRequest,
    /// ClickHouse is killed when it has got so many bytes, or at its answer. Only for a [`Database::apart`].
    Engine { after_bytes: usize },
}

/// A database of its own, with the schema.
pub(crate) struct Database {
    pub(crate) client: Client,
    name: String,
    engine: Arc<SharedEngine>,
    lifecycle: Lifecycle,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let database = Self::without_schema();
        migrate(&database.client).await.unwrap();
        database
    }

    /// A name and a client: the database is not there yet.
    pub(crate) fn without_schema() -> Self {
        Self::on(SharedEngine::get())
    }

    fn on(engine: Arc<SharedEngine>) -> Self {
        let name = format!("test_{}", Random::hex::<8>());
        let client = Client::new(&config(&name, engine.listen));
        Self { client, name, engine, lifecycle: Lifecycle::new(Duration::ZERO) }
    }

    /// On an engine of its own, which may be killed.
    pub(crate) async fn apart() -> Self {
        let database = Self::on(Arc::new(SharedEngine::start()));
        migrate(&database.client).await.unwrap();
        database
    }

    /// Waits until the engine was killed, and starts it again: the same data, the same port.
    pub(crate) async fn revive(&mut self) {
        let engine = Arc::get_mut(&mut self.engine).unwrap();
        while engine.process.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (engine.process, engine.listen) = SharedEngine::serve(engine.dir.path(), engine.listen);
    }

    /// What a SELECT with a FORMAT prints.
    pub(crate) async fn text(&self, select: &str) -> String {
        let (select, format) = select.rsplit_once(" FORMAT ").unwrap();
        let bytes = self.client.query(select).fetch_bytes(format).unwrap().collect().await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// The same database over a wire that loses something once.
    pub(crate) async fn client_through(&self, lose: Lose) -> Client {
        let wire = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = wire.local_addr().unwrap();
        let (there, pid) = (self.engine.listen, self.engine.process.id());
        let lost = Arc::new(AtomicBool::new(false));
        let lifecycle = self.lifecycle.clone();
        self.lifecycle.spawn("wire", async move {
            while let Ok((client, _)) = wire.accept().await {
                // While the engine is down, the client's connection just ends.
                let Ok(server) = TcpStream::connect(there).await else { continue };
                lifecycle.spawn("connection", carry(client, server, lose, pid, Arc::clone(&lost)));
            }
        });
        Client::new(&ClickHouseConfig { url: Some(format!("http://{here}")), ..config(&self.name, there) })
    }
}

/// Carries bytes both ways until something is to be lost, or either side ends; then drops both.
async fn carry(mut client: TcpStream, mut server: TcpStream, lose: Lose, pid: u32, lost: Arc<AtomicBool>) {
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    // Bytes of the insert that is to be lost.
    let mut carried = None;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let count = read.unwrap_or(0);
                if count == 0 {
                    return;
                }
                let is_insert = String::from_utf8_lossy(&up[..count]).contains("INSERT+INTO+events+");
                if is_insert && !lost.swap(true, Ordering::SeqCst) {
                    carried = Some(0);
                }
                let Some(before) = carried else {
                    if server.write_all(&up[..count]).await.is_err() {
                        return;
                    }
                    continue;
                };
                carried = Some(before + count);
                match lose {
                    Lose::Request => return,
                    Lose::HalfTheRequest => {
                        server.write_all(&up[..count - count / 4]).await.unwrap();
                        return;
                    }
                    Lose::Engine { after_bytes } if before + count > after_bytes => return kill_9(pid),
                    Lose::Answer | Lose::Engine { .. } => server.write_all(&up[..count]).await.unwrap(),
                }
            }
            read = server.read(&mut down) => match (read.unwrap_or(0), carried, lose) {
                (0, ..) => return,
                (count, None, _) => client.write_all(&down[..count]).await.unwrap(),
                (_, Some(_), Lose::Engine { .. }) => return kill_9(pid),
                (_, Some(_), _) => return,
            },
        }
    }
}

fn kill_9(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

fn config(database: &str, listen: SocketAddr) -> ClickHouseConfig {
    ClickHouseConfig {
        url: None,
        listen,
        user: "jwtrail".to_owned(),
        password: Secret::new(PASSWORD.to_owned()),
        analyst_password: Secret::new(String::new()),
        database: database.to_owned(),
        answer_within: Duration::from_secs(30),
        insert_within: Duration::from_secs(180),
    }
}

const PASSWORD: &str = "of the tests";

/// Not a test: the process of [`SharedEngine`].
#[test]
#[ignore = "the engine's process, which tests start themselves"]
fn engine_process() {
    serve_child().unwrap();
}

/// The engine that tests share which run at the same time; the last one to end stops it.
struct SharedEngine {
    process: Child,
    listen: SocketAddr,
    dir: TempDir,
}

impl SharedEngine {
    fn get() -> Arc<Self> {
        static RUNNING: Mutex<Weak<SharedEngine>> = Mutex::new(Weak::new());
        // A test that panicked while it started the engine leaves nothing half done behind.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *running = Arc::downgrade(&started);
            started
        })
    }

    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (process, listen) = Self::serve(dir.path(), "127.0.0.1:0".parse().unwrap());
        Self { process, listen, dir }
    }

    /// The engine's process is this very program, told to be [`engine_process`].
    fn serve(dir: &Path, listen: SocketAddr) -> (Child, SocketAddr) {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "clickhouse::testing::engine_process", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let order = serde_json::json!({
            "library": find_library(None).unwrap(),
            "data_dir": dir.join("clickhouse"),
            "listen": listen,
            "jwtrail": PASSWORD,
            "analyst": PASSWORD,
        });
        writeln!(process.stdin.as_mut().unwrap(), "{order}").unwrap();
        let ready = |line: String| {
            let report: serde_json::Value = serde_json::from_str(&line).ok()?;
            Some(report["ready"]["listen"].as_str().unwrap_or_else(|| panic!("{line}")).parse().unwrap())
        };
        let listen = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .find_map(|line| ready(line.unwrap()))
            .expect("the engine says where it listens");
        (process, listen)
    }
}

impl Drop for SharedEngine {
    fn drop(&mut self) {
        // Its data goes with it: no need to let it stop in order.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
