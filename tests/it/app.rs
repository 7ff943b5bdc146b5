//! A running `jwtrail` in a data directory of its own, and what a user does with it. Whatever is left of it at the end
//! of a test is killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Long, because the machine may be busy building.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The overlay knows all that a test's events name; the rest takes seconds to read.
const OVERLAY_ALONE: &str = "city = []\nasn = []\ncountry = []";

/// A configuration, and the addresses that everything in it listens at.
pub(crate) struct TestApp {
    dir: TempDir,
    /// What a test configures besides addresses and paths.
    config: String,
    data: PathBuf,
    pub(crate) api: SocketAddr,
    pub(crate) clickhouse: SocketAddr,
    /// Metrics and health of `run`.
    pub(crate) run_metrics: SocketAddr,
    http: reqwest::Client,
}

impl TestApp {
    /// `config` is the text of `jwtrail.toml`, besides addresses and paths; `{dir}` in it is a directory of the test's own.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let [clickhouse] = free_addresses();
        let app = Self::with(dir, config, data, clickhouse);
        app.configure("", &format!("listen = \"{clickhouse}\""));
        app
    }

    /// A configuration for roles that use the ClickHouse and the credentials of `lender`.
    pub(crate) fn lent(config: &str, lender: &Self) -> Self {
        let app = Self::with(tempfile::tempdir().unwrap(), config, lender.data.clone(), lender.clickhouse);
        app.configure(OVERLAY_ALONE, &format!("url = \"http://{}\"", lender.clickhouse));
        app
    }

    /// A configuration for a whole `up` with a data directory of its own, whose ClickHouse is the `lender`'s, found at
    /// `front`.
    pub(crate) fn behind(front: SocketAddr, lender: &Self, clickhouse: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let app = Self::with(dir, "", data, lender.clickhouse);
        let password = lender.credential("clickhouse_password");
        app.configure(
            OVERLAY_ALONE,
            &format!("url = \"http://{front}\"\npassword = \"{password}\"\n{clickhouse}"),
        );
        app
    }

    /// Only asks the ClickHouse at an address, with the credentials of a data directory.
    pub(crate) fn onlooker(data: &Path, clickhouse: SocketAddr) -> Self {
        Self::with(tempfile::tempdir().unwrap(), "", data.to_owned(), clickhouse)
    }

    /// The same once more, at other addresses: another instance of a role.
    pub(crate) fn sibling(&self) -> Self {
        Self::lent(&self.config, self)
    }

    fn with(dir: TempDir, config: &str, data: PathBuf, clickhouse: SocketAddr) -> Self {
        let [api, run_metrics] = free_addresses();
        Self {
            dir,
            config: config.to_owned(),
            data,
            api,
            clickhouse,
            run_metrics,
            http: reqwest::Client::new(),
        }
    }

    fn configure(&self, geo: &str, clickhouse: &str) {
        let [deliver] = free_addresses();
        let run = self.run_metrics;
        let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/overlay-demo.csv");
        let text = format!(
            "data_dir = {data:?}\napi = \"{api}\"\nrun_metrics = \"{run}\"\n\
             deliver_metrics = \"{deliver}\"\nlog = \"debug\"\n{config}\n[geo]\noverlay = {overlay:?}\n{geo}\n\
             [clickhouse]\n{clickhouse}\n",
            data = self.data,
            api = self.api,
            config = self.config.replace("{dir}", &self.dir.path().display().to_string()),
        );
        std::fs::write(self.path("jwtrail.toml"), text).unwrap();
    }

    /// The command, configured.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jwtrail"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("--config")
            .arg(self.path("jwtrail.toml"))
            .args(args);
        command
    }

    /// Starts a role and returns at once; its log is in `NAME.log`.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let log = self.path(&format!("{}.log", args[0]));
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Running { child: command.spawn().unwrap(), log }
    }

    /// Starts `up` and waits until it is ready.
    pub(crate) async fn up(&self) -> Running {
        let mut running = self.start(&["up"]);
        self.ready(&mut running).await;
        running
    }

    /// What `/readyz` says of each condition: `ready` or `met`, else what is wrong.
    pub(crate) async fn conditions(&self) -> Value {
        let answer = self.http.get(format!("http://{}/readyz", self.api)).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["conditions"].take()
    }

    /// Waits until `/readyz` at the API says so.
    pub(crate) async fn ready(&self, running: &mut Running) {
        let url = format!("http://{}/readyz", self.api);
        wait_for("the API to be ready", async || {
            assert!(running.child.try_wait().unwrap().is_none(), "it ended:\n{}", running.log());
            Some(self.http.get(&url).send().await.ok()?.status().is_success()).filter(|ready| *ready)
        })
        .await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One of the secrets that `up` drew.
    pub(crate) fn credential(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.data.join("credentials.toml")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        table[name].as_str().unwrap().to_owned()
    }

    /// Posts to the door with the ingest key.
    pub(crate) async fn post(&self, body: &str) -> (u16, Value) {
        self.post_as(&self.credential("ingest_key"), body).await
    }

    pub(crate) async fn post_as(&self, key: &str, body: &str) -> (u16, Value) {
        self.post_as_to(key, "/v1/events", body).await
    }

    /// Posts to a path of the API with the ingest key.
    pub(crate) async fn post_to(&self, path: &str, body: &str) -> (u16, Value) {
        self.post_as_to(&self.credential("ingest_key"), path, body).await
    }

    async fn post_as_to(&self, key: &str, path: &str, body: &str) -> (u16, Value) {
        let request = self.http.post(format!("http://{}{path}", self.api)).bearer_auth(key);
        let response =
            request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Asks ClickHouse; the answer is tab-separated.
    pub(crate) async fn query(&self, sql: &str) -> Result<String, String> {
        let password = self.credential("clickhouse_password");
        let request = self.http.post(format!("http://{}/?database=jwtrail", self.clickhouse));
        let request = request.header("x-clickhouse-user", "jwtrail").header("x-clickhouse-key", password);
        let response = request.body(sql.to_owned()).send().await.map_err(|error| error.to_string())?;
        let ok = response.status().is_success();
        let text = response.text().await.map_err(|error| error.to_string())?.trim_end().to_owned();
        if ok { Ok(text) } else { Err(text) }
    }

    /// Waits until the query answers `expected`.
    pub(crate) async fn eventually(&self, sql: &str, expected: &str) {
        let begun = Instant::now();
        loop {
            let answer = self.query(sql).await;
            if answer.as_deref() == Ok(expected) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{sql}\nanswers {answer:?}\nnot     {expected:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The query that the README names: no hole, no overlap, no wrong sum in any partition.
    pub(crate) async fn assert_complete(&self) {
        let proof = include_str!("../../schemas/clickhouse/queries/completeness.sql");
        let proof = proof.replace("{since:DateTime64(3, 'UTC')}", "toDateTime64(0, 3, 'UTC')");
        let partitions = format!("SELECT count() > 0, countIf(NOT complete) FROM (\n{proof}\n)");
        self.eventually(&partitions, "1\t0").await;
    }
}

/// A process of ours. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory, in MiB.
    pub(crate) fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap() >> 10
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        crate::kafka::signal(self.pid(), "TERM");
        wait_for("the process to end", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until there is an answer.
pub(crate) async fn wait_for<T>(what: &str, mut answer: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = answer().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Addresses that were free a moment ago.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    std::array::from_fn(|_| SocketAddr::from(([127, 0, 0, 1], crate::kafka::free_port())))
}
