//! A real Apache Kafka broker (KRaft, one node, loopback) for tests. Uses the standard library alone, so that both the
//! crate's unit tests and `tests/it` can include it by `#[path]`.
//!
//! The jars come from `tests/support/fetch-kafka.sh`. A broker runs under a small shell that waits on a pipe of ours:
//! however this process ends, kill -9 included, the pipe closes, and the shell kills the broker and removes its folder.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const FETCH: &str = "tests/support/fetch-kafka.sh";
/// Long, because the machine may be busy building.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Any will do: 22 characters of base64url.
const CLUSTER_ID: &str = "andUcmFpbC10ZXN0cy0xMQ";

/// Stands between the test and the broker. `$1` is the broker's folder, the rest its command line. It says the
/// broker's pid, then reads: `keep` ends the broker and keeps the folder, the end of input (our end) removes both.
const KEEPER: &str = r#"
dir=$1; shift
"$@" </dev/null >>"$dir/broker.log" 2>&1 &
broker=$!
echo "$broker"
# The shell would tell that the broker was killed.
exec 2>/dev/null
read -r word
kill -9 "$broker"
wait "$broker"
[ "$word" = keep ] || rm -rf "$dir"
"#;

/// Another way to a broker than its own address: it listens at `listen`, and tells those who come that way that it is at
/// `told`, where a proxy stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) listen: u16,
    pub(crate) told: u16,
}

/// Who may enter by the secured way, and how.
pub(crate) const USER: &str = "jwtrail";
pub(crate) const PASSWORD: &str = "a-password-of-the-tests";

/// A broker of its own: for tests that kill, stop or restart it. The others use [`Broker::shared`].
pub(crate) struct Broker {
    dir: PathBuf,
    port: u16,
    /// `None` while the broker is killed.
    running: Option<Running>,
}

struct Running {
    keeper: Child,
    pid: u32,
    /// How often the broker had said that it serves before this process began.
    starts_before: usize,
}

impl Broker {
    /// The one broker of this test process. It lives as long as the process does.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a broker on free ports with an empty folder and waits until it serves.
    pub(crate) fn start() -> Self {
        let mut brokers = Self::start_cluster(&[Vec::new()], &std::env::temp_dir());
        brokers.pop().expect("one was asked for")
    }

    /// As [`Broker::start`], with one way more: TLS under a CA of its own ([`Broker::ca`]), and SCRAM-SHA-512 for
    /// [`USER`]. Gives that way's port.
    pub(crate) fn start_secured() -> (Self, u16) {
        let port = free_port();
        let mut brokers = Self::start_as(&[Vec::new()], &std::env::temp_dir(), Some(port));
        (brokers.pop().expect("one was asked for"), port)
    }

    /// The certificate of the CA, in PEM.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Starts brokers that form one cluster, one for each list of further ways to it, in folders below `parent`.
    pub(crate) fn start_cluster(ways: &[Vec<Way>], parent: &Path) -> Vec<Self> {
        Self::start_as(ways, parent, None)
    }

    fn start_as(ways: &[Vec<Way>], parent: &Path, secure: Option<u16>) -> Vec<Self> {
        // Before anything is left behind.
        require_jars();
        // A free port may be taken by somebody else before the broker binds it.
        for _ in 0..3 {
            let mut brokers = Self::prepare(ways, parent, secure);
            for broker in &mut brokers {
                broker.spawn();
            }
            if brokers.iter().all(Self::serves) {
                return brokers;
            }
            let taken = brokers.iter().any(|broker| broker.log().contains("BindException"));
            let logs: Vec<String> = brokers.iter().map(Self::log).collect();
            assert!(taken, "a broker does not start:\n{}", logs.join("\n"));
        }
        panic!("three times in turn a port was taken");
    }

    /// Writes the configurations of a cluster.
    fn prepare(ways: &[Vec<Way>], parent: &Path, secure: Option<u16>) -> Vec<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let controllers: Vec<u16> = ways.iter().map(|_| free_port()).collect();
        let broker = |(node, ways): (usize, &Vec<Way>)| {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = parent.join(format!("jwtrail-kafka-{}-{number}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a folder for the broker");
            let port = free_port();
            let mut text = properties(&dir, node, port, ways, &controllers);
            if let Some(port) = secure {
                certify(&dir);
                text = secured(&dir, &text, port);
            }
            std::fs::write(dir.join("server.properties"), text)
                .expect("the broker's configuration is written");
            format_storage(&dir, secure.is_some());
            Self { dir, port, running: None }
        };
        ways.iter().enumerate().map(broker).collect()
    }

    /// `HOST:PORT`, for `bootstrap.servers`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process id of the broker's own process.
    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("the broker was killed").pid
    }

    /// kill -9. What it stored stays, for [`Broker::restart`].
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().expect("the broker was killed already");
        let mut input = running.keeper.stdin.take().expect("the keeper's input is a pipe");
        input.write_all(b"keep\n").expect("the keeper listens");
        running.keeper.wait().expect("the keeper ends");
    }

    /// Starts it again where [`Broker::kill`] left it: same ports, same folder.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "the broker still runs");
        self.spawn();
        assert!(self.serves(), "the broker does not start again:\n{}", self.log());
    }

    /// Leaves the folder of a killed broker behind.
    pub(crate) fn keep(mut self) {
        self.dir = PathBuf::new();
    }

    /// SIGSTOP: it holds its connections and answers nothing.
    pub(crate) fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    /// What the broker said so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("broker.log")).unwrap_or_default()
    }

    fn spawn(&mut self) {
        let starts_before = self.started();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&self.dir)
            .args(java())
            .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            .args(["-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info", "kafka.Kafka"])
            .arg(self.dir.join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Ctrl-C goes to the test alone; the keeper ends by its pipe, after the broker.
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().expect("the keeper's output is a pipe"))
            .read_line(&mut line)
            .expect("the keeper says the broker's pid");
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("not a pid: {line:?}"));
        self.running = Some(Running { keeper, pid, starts_before });
    }

    /// Waits for it; false if it ended by itself.
    fn serves(&self) -> bool {
        let Some(Running { pid, starts_before, .. }) = &self.running else { return false };
        wait_until("the broker serves or ends", || self.started() > *starts_before || !alive(*pid));
        alive(*pid)
    }

    fn started(&self) -> usize {
        self.log().matches("Kafka Server started").count()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        match self.running.take() {
            Some(mut running) => {
                drop(running.keeper.stdin.take());
                let _ = running.keeper.wait();
            }
            None => drop(std::fs::remove_dir_all(&self.dir)),
        }
    }
}

/// Sends a signal (`STOP`, `CONT`, `KILL`) to a process that this test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// Waits for a condition; panics with `what` when it does not come true.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + START_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Neither gone nor a zombie.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

fn libs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka-libs")
}

fn require_jars() {
    // The script writes it last.
    assert!(libs().join("pom.xml").exists(), "no Kafka broker to test against: run {FETCH} first");
}

fn java() -> [String; 3] {
    ["java".to_owned(), "-cp".to_owned(), format!("{}/*", libs().display())]
}

fn format_storage(dir: &Path, with_user: bool) {
    let [java, rest @ ..] = java();
    let user = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
    let user = ["--add-scram", &user];
    let output = Command::new(java)
        .args(rest)
        .args(["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"])
        .args(["-t", CLUSTER_ID, "-c"])
        .arg(dir.join("server.properties"))
        .args(user.iter().filter(|_| with_user))
        .output()
        .expect("java runs: JDK 17 or later is needed");
    assert!(output.status.success(), "format: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a CA in `dir`, and of it a certificate for 127.0.0.1 that the broker shows.
fn certify(dir: &Path) {
    const SCRIPT: &str = "set -e
        key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        openssl req -x509 $key -keyout ca.key -out ca.pem -subj '/CN=CA of a test' -days 2
        openssl req $key -keyout broker.key -out broker.csr -subj /CN=127.0.0.1
        echo subjectAltName=IP:127.0.0.1 > names
        openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out broker.crt
        cat broker.key broker.crt > broker.pem";
    let output = Command::new("sh").args(["-c", SCRIPT]).current_dir(dir).output().expect("sh runs");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}

/// Adds a listener with TLS and SCRAM to a configuration.
fn secured(dir: &Path, text: &str, port: u16) -> String {
    let dir = dir.display();
    let more = |line: &str| match line.split_once('=') {
        Some(("listeners" | "advertised.listeners", _)) => format!("{line},SECURE://127.0.0.1:{port}\n"),
        Some(("listener.security.protocol.map", _)) => format!("{line},SECURE:SASL_SSL\n"),
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(more).collect();
    format!(
        "{text}inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={dir}/broker.pem
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"
    )
}

/// A port below those that outgoing connections get: who is killed and comes back finds it free.
pub(crate) fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(131);
    let next = || {
        let number = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        u16::try_from(10_000 + number % 20_000).expect("below 30,000")
    };
    std::iter::repeat_with(next)
        .take(20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// `node` counts from 0; `controllers` are the ports of all nodes' controllers.
fn properties(dir: &Path, node: usize, port: u16, ways: &[Way], controllers: &[u16]) -> String {
    let (dir, node_id, controller_port) = (dir.display(), node + 1, controllers[node]);
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}");
    let mut told = format!("PLAINTEXT://127.0.0.1:{port}");
    let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
    for (number, way) in ways.iter().enumerate() {
        listeners += &format!(",WAY{number}://127.0.0.1:{}", way.listen);
        told += &format!(",WAY{number}://127.0.0.1:{}", way.told);
        protocols += &format!(",WAY{number}:PLAINTEXT");
    }
    let voters: Vec<String> =
        (1..).zip(controllers).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
    let voters = voters.join(",");
    let replicas = controllers.len().min(3);
    let in_sync = controllers.len().min(2);
    format!(
        "node.id={node_id}
process.roles=broker,controller
listeners={listeners}
advertised.listeners={told}
listener.security.protocol.map={protocols}
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={dir}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=200
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
"
    )
}
