//! A real ClickHouse for tests: one engine for the tests that run together, a database each, and a wire that can lose things.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
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
        let name = format!("test_{}", Random::hex::<8>());
        let engine = SharedEngine::get();
        let client = Client::new(&config(&name, engine.listen));
        Self { client, name, engine, lifecycle: Lifecycle::new(Duration::ZERO) }
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
        let there = self.engine.listen;
        let lost = Arc::new(AtomicBool::new(false));
        let lifecycle = self.lifecycle.clone();
        self.lifecycle.spawn("wire", async move {
            while let Ok((client, _)) = wire.accept().await {
                let server = TcpStream::connect(there).await.unwrap();
                lifecycle.spawn("connection", carry(client, server, lose, Arc::clone(&lost)));
            }
        });
        Client::new(&ClickHouseConfig { url: Some(format!("http://{here}")), ..config(&self.name, there) })
    }
}

/// Carries bytes both ways until something is to be lost, then drops both sides.
async fn carry(mut client: TcpStream, mut server: TcpStream, lose: Lose, lost: Arc<AtomicBool>) {
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut doomed = false;
    loop {
        tokio::select! {
            Ok(count) = client.read(&mut up) => {
                if count == 0 {
                    return;
                }
                let is_insert = String::from_utf8_lossy(&up[..count]).contains("INSERT+INTO+events+");
                if is_insert && !lost.swap(true, Ordering::SeqCst) {
                    match lose {
                        Lose::Answer => doomed = true,
                        Lose::Request => return,
                        Lose::HalfTheRequest => {
                            server.write_all(&up[..count - count / 4]).await.unwrap();
                            return;
                        }
                    }
                }
                server.write_all(&up[..count]).await.unwrap();
            }
            Ok(count) = server.read(&mut down) => {
                if count == 0 || doomed {
                    return;
                }
                client.write_all(&down[..count]).await.unwrap();
            }
            else => return,
        }
    }
}

fn config(database: &str, listen: SocketAddr) -> ClickHouseConfig {
    ClickHouseConfig {
        url: None,
        listen,
        user: "jwtrail".to_owned(),
        password: Secret::new(PASSWORD.to_owned()),
        analyst_password: Secret::new(String::new()),
        database: database.to_owned(),
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
    _dir: TempDir,
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

    /// The engine's process is this very program, told to be [`engine_process`].
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "clickhouse::testing::engine_process", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let order = serde_json::json!({
            "library": find_library(None).unwrap(),
            "data_dir": dir.path().join("clickhouse"),
            "listen": "127.0.0.1:0",
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
        Self { process, listen, _dir: dir }
    }
}

impl Drop for SharedEngine {
    fn drop(&mut self) {
        // Its data goes with it: no need to let it stop in order.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
