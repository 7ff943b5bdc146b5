//! Everything that runs: brokers, the engine, the roles, the receiver, and a proxy on every wire between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::daemon::Daemon;
use super::proxy::{Proxy, Weather};
use super::schedule::{End, Fault, Op, Part, Rename, Size};
use crate::app::{TestApp, wait_for};
use crate::kafka::{Broker, Way, free_port, signal};
use crate::receiver::Receiver;

/// A member that is gone is missed after so long: the least that a broker allows.
const SESSION_MS: u32 = 6_000;

/// What was done, for explaining what came of it.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) op: Op,
    pub(super) began: Instant,
    pub(super) ended: Option<Instant>,
}

pub(super) struct House {
    /// Everything that the run leaves behind. Kept if it failed.
    dir: TempDir,
    size: Size,
    pub(super) receiver: Receiver,
    /// Asks ClickHouse on a wire that nothing happens to.
    pub(super) onlooker: TestApp,
    /// Where `serve` listens.
    pub(super) api: SocketAddr,
    /// Where each `run` has its metrics.
    pub(super) metrics: Vec<SocketAddr>,
    /// Behind a lock each: one fault may still be ending while the next one of another part begins.
    brokers: Vec<Arc<Mutex<Option<Broker>>>>,
    daemons: BTreeMap<Part, Arc<Mutex<Daemon>>>,
    wires: BTreeMap<(Part, End), Vec<Proxy>>,
    done: std::sync::Mutex<Vec<Done>>,
    /// `HOST:PORT,…` for the suite's own clients.
    pub(super) bootstrap: String,
}

impl House {
    pub(super) async fn build(size: Size) -> Arc<Self> {
        let dir = tempfile::Builder::new().prefix("jwtrail-faults-").tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        write_credentials(&data);
        let roles: Vec<Part> =
            [Part::Serve, Part::Deliver].into_iter().chain((0..size.runs).map(Part::Run)).collect();

        let mut wires: BTreeMap<(Part, End), Vec<Proxy>> = BTreeMap::new();
        let mut ways = vec![Vec::new(); size.brokers];
        for &role in &roles {
            for ways in &mut ways {
                let way = Way { listen: free_port(), told: free_port() };
                ways.push(way);
                let proxy = Proxy::start(way.told, loopback(way.listen)).await;
                wires.entry((role, End::Kafka)).or_default().push(proxy);
            }
        }
        let parent = dir.path().to_owned();
        let brokers = blocking(move || Broker::start_cluster(&ways, &parent)).await;
        let bootstrap: Vec<String> = brokers.iter().map(Broker::address).collect();

        let receiver = Receiver::start().await;
        let clickhouse = loopback(free_port());
        for &role in &roles {
            let ends = [(End::ClickHouse, clickhouse), (End::Receiver, receiver.address)];
            for (end, server) in ends {
                wires.entry((role, end)).or_default().push(Proxy::start(free_port(), server).await);
            }
        }

        let shim = Daemon::compile_shim(dir.path());
        let api = loopback(free_port());
        let metrics: Vec<SocketAddr> = (0..size.runs).map(|_| loopback(free_port())).collect();
        let mut daemons = BTreeMap::new();
        let order = engine_order(&data, clickhouse);
        let engine = Daemon::new("engine", dir.path(), &shim, &["engine"], Some(order));
        daemons.insert(Part::Engine, Arc::new(Mutex::new(engine)));
        for &role in &roles {
            let name = role.to_string();
            let config = dir.path().join(format!("{name}.toml"));
            let wire = |end| wires[&(role, end)].as_slice();
            let own = if let Part::Run(number) = role { metrics[number] } else { loopback(free_port()) };
            std::fs::write(&config, configuration(&data, api, own, wire)).unwrap();
            let word = name.split('-').next().unwrap_or_default();
            let arguments = ["--config", config.to_str().unwrap(), word];
            let daemon = Daemon::new(&name, dir.path(), &shim, &arguments, None);
            daemons.insert(role, Arc::new(Mutex::new(daemon)));
        }

        let onlooker = TestApp::onlooker(&data, clickhouse);
        let brokers = brokers.into_iter().map(|broker| Arc::new(Mutex::new(Some(broker)))).collect();
        let (done, bootstrap) = (std::sync::Mutex::default(), bootstrap.join(","));
        let house =
            Self { dir, size, receiver, onlooker, api, metrics, brokers, daemons, wires, done, bootstrap };
        house.open().await;
        Arc::new(house)
    }

    /// Starts the engine, migrates, starts the roles.
    async fn open(&self) {
        self.daemon(Part::Engine).await.start();
        self.engine_serves().await;
        let config = self.dir.path().join("serve.toml");
        let migrated = std::process::Command::new(super::program())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("--config")
            .arg(config)
            .arg("migrate")
            .output()
            .unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        for (_, daemon) in self.roles() {
            daemon.lock().await.start();
        }
        let ready = format!("http://{}/readyz", self.api);
        wait_for("the door", async || {
            let ready = reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success());
            assert_eq!(self.dead().await, Vec::<String>::new());
            ready.then_some(())
        })
        .await;
    }

    async fn engine_serves(&self) {
        let ping = format!("http://{}/ping", self.onlooker.clickhouse);
        wait_for("the engine", async || reqwest::get(&ping).await.ok()).await;
    }

    async fn daemon(&self, part: Part) -> OwnedMutexGuard<Daemon> {
        Arc::clone(&self.daemons[&part]).lock_owned().await
    }

    fn roles(&self) -> impl Iterator<Item = (Part, &Arc<Mutex<Daemon>>)> {
        self.daemons.iter().filter(|(part, _)| **part != Part::Engine).map(|(part, daemon)| (*part, daemon))
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn done(&self) -> Vec<Done> {
        self.done.lock().unwrap().clone()
    }

    /// Keeps what the run left behind.
    pub(super) fn keep(mut self: Arc<Self>) -> PathBuf {
        let path = self.dir.path().to_owned();
        if let Some(house) = Arc::get_mut(&mut self) {
            house.dir.disable_cleanup(true);
            for broker in &house.brokers {
                if let Some(mut broker) = broker.try_lock().ok().and_then(|mut place| place.take()) {
                    broker.kill();
                    broker.keep();
                }
            }
        }
        path
    }

    /// Does what the op says, from its beginning to its end.
    pub(super) async fn suffer(self: Arc<Self>, op: Op) {
        let index = {
            let mut done = self.done.lock().unwrap();
            done.push(Done { op, began: Instant::now(), ended: None });
            done.len() - 1
        };
        match op.fault {
            Fault::Kill(Part::Broker(number)) => {
                let mut place = Arc::clone(&self.brokers[number]).lock_owned().await;
                let mut broker = place.take().expect("faults of one part do not overlap");
                let mut broker = blocking(move || {
                    broker.kill();
                    broker
                })
                .await;
                tokio::time::sleep(op.lasts).await;
                let broker = blocking(move || {
                    broker.restart();
                    broker
                })
                .await;
                *place = Some(broker);
            }
            Fault::Freeze(Part::Broker(number)) => {
                let place = Arc::clone(&self.brokers[number]).lock_owned().await;
                let pid = place.as_ref().expect("faults of one part do not overlap").pid();
                signal(pid, "STOP");
                tokio::time::sleep(op.lasts).await;
                signal(pid, "CONT");
            }
            Fault::Kill(part) => {
                let mut daemon = self.daemon(part).await;
                daemon.kill();
                tokio::time::sleep(op.lasts).await;
                daemon.start();
            }
            Fault::Restart(part) => {
                let mut daemon = self.daemon(part).await;
                daemon.stop().await;
                tokio::time::sleep(op.lasts).await;
                daemon.start();
            }
            Fault::Freeze(part) => {
                let daemon = self.daemon(part).await;
                daemon.signal("STOP");
                tokio::time::sleep(op.lasts).await;
                daemon.signal("CONT");
            }
            Fault::Rename(how) => {
                let mut daemon = self.daemon(Part::Engine).await;
                let word = match how {
                    Rename::KilledBefore => "before",
                    Rename::KilledAfter => "after",
                    Rename::Fails => "fail",
                };
                daemon.tell("rename", Some(word));
                tokio::time::sleep(op.lasts).await;
                daemon.tell("rename", None);
                if daemon.ended().is_some() {
                    daemon.start();
                }
            }
            Fault::Wire(part, end, weather) => {
                let wires = &self.wires[&(part, end)];
                wires.iter().for_each(|wire| wire.set(weather));
                tokio::time::sleep(op.lasts).await;
                wires.iter().for_each(|wire| wire.set(Weather::Clear));
            }
            Fault::Clock(part, ms) => {
                let daemon = self.daemon(part).await;
                daemon.tell("clock", Some(&ms.to_string()));
                tokio::time::sleep(op.lasts).await;
                daemon.tell("clock", None);
            }
            Fault::Full(part) => {
                let mut daemon = self.daemon(part).await;
                daemon.tell("full", Some(""));
                tokio::time::sleep(op.lasts).await;
                daemon.tell("full", None);
                // The engine may give up without a disk; its supervisor would start it again.
                if part == Part::Engine && daemon.ended().is_some() {
                    daemon.start();
                }
            }
        }
        self.done.lock().unwrap()[index].ended = Some(Instant::now());
    }

    /// A journal in which a write has failed is not written to again: its process ends, and reads it anew at the next start.
    fn lost_its_disk(&self, part: Part) -> bool {
        let since = |ended: Instant| ended.elapsed() < Duration::from_secs(30);
        let done = self.done.lock().unwrap();
        done.iter().any(|done| done.op.fault == Fault::Full(part) && done.ended.is_none_or(since))
    }

    /// Roles that ended although nobody ended them: whatever goes on, they wait and go on.
    pub(super) async fn dead(&self) -> Vec<String> {
        let mut dead = Vec::new();
        for (part, daemon) in self.roles() {
            // Who is locked has something done to it.
            let Ok(mut daemon) = daemon.try_lock() else { continue };
            if let Some(status) = daemon.ended() {
                daemon.start();
                if self.lost_its_disk(part) {
                    continue;
                }
                dead.push(format!("{part} ended by itself: {status}; see {}", daemon.log().display()));
            }
        }
        dead
    }

    /// Walks the log that the run left behind once more, uninterrupted, and holds what it finds against ClickHouse.
    pub(super) async fn replay(&self) -> Option<String> {
        let config = self.dir.path().join("run-0.toml");
        let output = blocking(move || {
            let mut replay = std::process::Command::new(super::program());
            replay.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--config").arg(config);
            replay.args(["replay", "--compare"]).output().unwrap()
        })
        .await;
        let said = [output.stdout, output.stderr].concat();
        (!output.status.success())
            .then(|| format!("another replay of the log:\n{}", String::from_utf8_lossy(&said)))
    }

    /// Resident memory of each process, in MiB.
    pub(super) async fn resident(&self) -> Vec<(Part, u64)> {
        let mut resident = Vec::new();
        for (part, daemon) in &self.daemons {
            let Some(pid) = daemon.lock().await.pid() else { continue };
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            resident.push((*part, kilobytes.unwrap_or_default() >> 10));
        }
        resident
    }

    /// Asks every role to end; answers those that did not end well.
    pub(super) async fn close(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (part, daemon) in self.roles() {
            match daemon.lock().await.stop().await {
                Some(status) if status.success() => {}
                other => wrong.push(format!("{part} did not end well: {other:?}")),
            }
        }
        wrong
    }

    pub(super) fn ingest_key() -> &'static str {
        INGEST_KEY
    }

    pub(super) const fn size(&self) -> Size {
        self.size
    }
}

const INGEST_KEY: &str = "jwtrail_ingest_of_the_fault_suite_0123456789abcdef";
const PASSWORD: &str = "password-of-the-fault-suite-0123456789";

fn write_credentials(data: &Path) {
    use std::io::Write as _;
    let text = format!(
        "ingest_key = \"{INGEST_KEY}\"\nadmin_key = \"jwtrail_admin_of_the_fault_suite_0123456789abcdef\"\n\
         clickhouse_password = \"{PASSWORD}\"\nanalyst_password = \"{PASSWORD}\"\nwebhook_secret = \"{}\"\n",
        crate::receiver::SECRET
    );
    let path = data.join("credentials.toml");
    let mut file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// What the engine's process reads first.
fn engine_order(data: &Path, listen: SocketAddr) -> String {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/node_modules/@chdb");
    let library = std::fs::read_dir(packages)
        .expect("`make deps` fetched the engine")
        .map(|entry| entry.unwrap().path().join("libchdb.so"))
        .find(|path| path.is_file())
        .expect("`make deps` fetched the engine");
    serde_json::json!({
        "library": library,
        "data_dir": data.join("clickhouse"),
        "listen": listen,
        "jwtrail": PASSWORD,
        "analyst": PASSWORD,
    })
    .to_string()
}

/// `own` is where the role has its metrics.
fn configuration<'w>(
    data: &Path,
    api: SocketAddr,
    own: SocketAddr,
    wire: impl Fn(End) -> &'w [Proxy],
) -> String {
    let addresses =
        |end| -> Vec<String> { wire(end).iter().map(|proxy| proxy.address.to_string()).collect() };
    let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/overlay-demo.csv");
    format!(
        "data_dir = {data:?}\napi = \"{api}\"\nrun_metrics = \"{own}\"\ndeliver_metrics = \"{own}\"\n\
         log = \"info\"\nlog_format = \"text\"\n\
         [kafka]\nbrokers = \"{kafka}\"\n[kafka.properties]\n\"session.timeout.ms\" = \"{SESSION_MS}\"\n\
         [clickhouse]\nurl = \"http://{clickhouse}\"\n\
         [[destination]]\nname = \"soc\"\nkind = \"webhook\"\nurl = \"http://{receiver}/hook\"\nallow_private = true\n\
         [geo]\noverlay = {overlay:?}\ncity = []\nasn = []\ncountry = []\n",
        kafka = addresses(End::Kafka).join(","),
        clickhouse = addresses(End::ClickHouse).join(","),
        receiver = addresses(End::Receiver).join(","),
    )
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Runs what blocks for seconds.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
