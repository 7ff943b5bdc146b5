//! Real Redis servers (loopback, free ports) for tests. Uses the standard library alone.
//!
//! A server runs under a small shell that waits on a pipe of ours: however this process ends, kill -9 included, the pipe
//! closes, and the shell kills the server and removes its folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Long, because the machine may be busy building.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Stands between the test and the server. `$1` is the server's folder, the rest its command line. `keep` ends the server
/// and keeps the folder, the end of input (our end) removes both.
const KEEPER: &str = r#"
dir=$1; shift
"$@" </dev/null >>"$dir/redis.log" 2>&1 &
server=$!
echo "$server"
# The shell would tell that the server was killed.
exec 2>/dev/null
read -r word
kill -9 "$server"
wait "$server"
[ "$word" = keep ] || rm -rf "$dir"
"#;

/// Who may enter a server with TLS.
pub(crate) const USER: &str = "jwtrail";
pub(crate) const PASSWORD: &str = "a-password-of-the-tests";

/// What a server is started as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// It writes every change to its append-only file before it answers.
    Alone,
    /// TLS under a CA of its own, for [`USER`] alone.
    Secured,
    /// A part of a Cluster.
    Node,
}

pub(crate) struct Server {
    dir: PathBuf,
    pub(crate) port: u16,
    args: Vec<String>,
    /// `None` while the server is killed.
    keeper: Option<Child>,
}

impl Server {
    /// The one server of this test process, for tests that do not harm it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(As::Alone, &[]))
    }

    /// The one Cluster of three of this test process.
    pub(crate) fn shared_cluster() -> &'static [Self] {
        static SHARED: OnceLock<Vec<Server>> = OnceLock::new();
        SHARED.get_or_init(Self::start_cluster)
    }

    /// Starts a server with these further options, and waits until it answers.
    pub(crate) fn start(kind: As, options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("jwtrail-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder for the server");
        let port = free_port();
        let text = |name: &str| dir.join(name).display().to_string();
        let mut args = vec!["--bind", "127.0.0.1", "--save", "", "--dir", dir.to_str().expect("UTF-8")]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let mut more = |words: &[&str]| args.extend(words.iter().map(|&word| word.to_owned()));
        let plain = port.to_string();
        match kind {
            As::Alone => more(&["--port", &plain, "--appendonly", "yes", "--appendfsync", "always"]),
            As::Node => {
                let bus = free_port().to_string();
                more(&["--port", &plain, "--cluster-enabled", "yes", "--cluster-port", &bus]);
            }
            As::Secured => {
                certify(&dir);
                more(&["--port", "0", "--tls-port", &plain, "--tls-auth-clients", "no"]);
                more(&["--tls-cert-file", &text("server.crt"), "--tls-key-file", &text("server.key")]);
                more(&["--tls-ca-cert-file", &text("ca.pem")]);
                // The password of the tests' user is the only way in.
                more(&["--user", USER, "on", &format!(">{PASSWORD}"), "~jwtrail:*", "+@all"]);
                more(&["--user", "default", "off"]);
            }
        }
        more(options);
        let mut server = Self { dir, port, args, keeper: None };
        server.spawn();
        server
    }

    fn start_cluster() -> Vec<Self> {
        let nodes: Vec<Self> = (0..3).map(|_| Self::start(As::Node, &[])).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(nodes.iter().map(Self::address)).arg("--cluster-yes");
        let made = create.stdin(Stdio::null()).output().expect("redis-cli runs");
        assert!(made.status.success(), "redis-cli: {}", String::from_utf8_lossy(&made.stdout));
        for node in &nodes {
            wait_until("the Cluster is whole", || node.ask("CLUSTER INFO").contains("cluster_state:ok"));
        }
        nodes
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate of the CA of a secured server, in PEM.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Asks a server without TLS; gives the first bytes that it answers.
    pub(crate) fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn try_ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = vec![0; 64 << 10];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    /// kill -9. What it stored stays, for [`Server::restart`].
    pub(crate) fn kill(&mut self) {
        let mut keeper = self.keeper.take().expect("the server was killed already");
        let mut input = keeper.stdin.take().expect("the keeper's input is a pipe");
        input.write_all(b"keep\n").expect("the keeper listens");
        keeper.wait().expect("the keeper ends");
    }

    /// Starts it again where [`Server::kill`] left it.
    pub(crate) fn restart(&mut self) {
        assert!(self.keeper.is_none(), "the server still runs");
        self.spawn();
    }

    fn spawn(&mut self) {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&self.dir)
            .arg("redis-server")
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Ctrl-C goes to the test alone; the keeper ends by its pipe, after the server.
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().expect("the keeper's output is a pipe"))
            .read_line(&mut line)
            .expect("the keeper says the server's pid");
        self.keeper = Some(keeper);
        let secured = self.args.iter().any(|arg| arg == "--tls-port");
        wait_until("the server answers", || {
            let log = std::fs::read_to_string(self.dir.join("redis.log")).unwrap_or_default();
            let failed = log.contains("not found") || log.contains("FATAL CONFIG");
            assert!(!failed, "redis-server does not start (make check-test-tools installs it):\n{log}");
            let answer = || self.try_ask("PING").is_ok_and(|answer| answer.starts_with("+PONG"));
            if secured { TcpStream::connect(self.address()).is_ok() } else { answer() }
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.keeper.take() {
            Some(mut keeper) => {
                drop(keeper.stdin.take());
                let _ = keeper.wait();
            }
            None => drop(std::fs::remove_dir_all(&self.dir)),
        }
    }
}

/// Waits for a condition; panics with `what` when it does not come true.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + START_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port below those that outgoing connections get: who is killed and comes back finds it free. Above those of the
/// tests' brokers.
fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(131);
    let next = || {
        let number = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        u16::try_from(30_000 + number % 2_700).expect("below 32,768")
    };
    std::iter::repeat_with(next)
        .take(2_700)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Makes a CA in `dir`, and of it a certificate for 127.0.0.1 that the server shows.
fn certify(dir: &Path) {
    const SCRIPT: &str = "set -e
        key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        openssl req -x509 $key -keyout ca.key -out ca.pem -subj '/CN=CA of a test' -days 2
        openssl req $key -keyout server.key -out server.csr -subj /CN=127.0.0.1
        echo subjectAltName=IP:127.0.0.1 > names
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt";
    let output = Command::new("sh").args(["-c", SCRIPT]).current_dir(dir).output().expect("sh runs");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
