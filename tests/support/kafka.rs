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
}

impl Broker {
    /// The one broker of this test process. It lives as long as the process does.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a broker on free ports with an empty folder and waits until it serves.
    pub(crate) fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Before anything is left behind.
        require_jars();
        // A free port may be taken by somebody else before the broker binds it.
        for _ in 0..3 {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("jwtrail-kafka-{}-{number}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a folder for the broker");
            let [port, controller_port] = free_ports();
            std::fs::write(dir.join("server.properties"), properties(&dir, port, controller_port))
                .expect("the broker's configuration is written");
            format_storage(&dir);
            let mut broker = Self { dir, port, running: None };
            if broker.run() {
                return broker;
            }
            assert!(broker.log().contains("BindException"), "the broker does not start:\n{}", broker.log());
        }
        panic!("three brokers in turn found their port taken");
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
        assert!(self.run(), "the broker does not start again:\n{}", self.log());
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

    /// False if it ended by itself.
    fn run(&mut self) -> bool {
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
        self.running = Some(Running { keeper, pid });
        wait_until("the broker serves or ends", || self.started() > starts_before || !alive(pid));
        alive(pid)
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

fn format_storage(dir: &Path) {
    let [java, rest @ ..] = java();
    let output = Command::new(java)
        .args(rest)
        .args(["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"])
        .args(["-t", CLUSTER_ID, "--standalone", "-c"])
        .arg(dir.join("server.properties"))
        .output()
        .expect("java runs: JDK 17 or later is needed");
    assert!(output.status.success(), "format: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_ports() -> [u16; 2] {
    // Both are held until both are known, so that they differ.
    [(), ()]
        .map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .map(|listener| listener.local_addr().expect("a bound port").port())
}

fn properties(dir: &Path, port: u16, controller_port: u16) -> String {
    let dir = dir.display();
    format!(
        "node.id=1
process.roles=broker,controller
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={dir}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=200
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"
    )
}
