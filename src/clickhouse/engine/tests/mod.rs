//! The embedded engine as its clients see it: the real engine, in a process of its own.

mod analyst;
mod clients;
mod interface;
mod supervision;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response};

use super::supervisor::Launch;
use super::{Credentials, Engine, EngineOptions, EngineState};
use crate::config::Secret;
use crate::lifecycle::{Lifecycle, Phase};

const JWTRAIL_PASSWORD: &str = "full-password";
const ANALYST_PASSWORD: &str = "read-password";

/// Not a test: the engine's process of all the others, which start this very program with this very name.
#[test]
#[ignore = "the tests' engine process, which they start themselves"]
fn child_process() {
    super::serve_child().unwrap();
}

/// How a test starts a process that is one function of these tests.
fn launch(function: &str) -> Launch {
    let name = format!("clickhouse::engine::tests::{function}");
    let arguments = ["--ignored", "--exact", name.as_str(), "--nocapture"].map(Into::into).to_vec();
    Launch { program: std::env::current_exe().unwrap(), arguments }
}

fn options(data_dir: PathBuf) -> EngineOptions {
    EngineOptions {
        library: None,
        data_dir,
        listen: "127.0.0.1:0".parse().unwrap(),
        credentials: Credentials {
            jwtrail: Secret::new(JWTRAIL_PASSWORD.to_owned()),
            analyst: Secret::new(ANALYST_PASSWORD.to_owned()),
        },
    }
}

/// A running engine on a directory of its own.
struct TestEngine {
    engine: Engine,
    lifecycle: Lifecycle,
    directory: tempfile::TempDir,
    http: reqwest::Client,
}

impl TestEngine {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lifecycle = Lifecycle::new(Duration::from_secs(10));
        let options = options(directory.path().join("clickhouse"));
        let engine = Engine::start_as(launch("child_process"), options, &lifecycle).await.unwrap();
        let test = Self { engine, lifecycle, directory, http: reqwest::Client::new() };
        test.full("CREATE DATABASE jwtrail").await;
        test
    }

    async fn stop(self) {
        self.engine.stop().await;
        assert_eq!(self.engine.state(), EngineState::Stopped);
        self.lifecycle.advance(Phase::Draining);
        assert!(self.lifecycle.finish().await.is_empty());
    }

    fn pid(&self) -> u32 {
        match self.engine.state() {
            EngineState::Up { pid } => pid,
            state => panic!("the engine is {state:?}"),
        }
    }

    /// A request whose credentials are the test's matter.
    fn post(&self, parameters: &str) -> RequestBuilder {
        self.http.post(format!("{}/?{parameters}", self.engine.url()))
    }

    /// A statement of `jwtrail`, which must succeed.
    async fn full(&self, sql: &str) -> String {
        let response = self.as_full("", sql.to_owned()).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{sql}: {text}");
        text
    }

    async fn as_full(&self, parameters: &str, body: impl Into<reqwest::Body>) -> Response {
        self.post(parameters).basic_auth("jwtrail", Some(JWTRAIL_PASSWORD)).body(body).send().await.unwrap()
    }

    async fn as_analyst(&self, parameters: &str, body: impl Into<reqwest::Body>) -> Response {
        self.post(parameters).basic_auth("analyst", Some(ANALYST_PASSWORD)).body(body).send().await.unwrap()
    }

    fn client(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(self.engine.url())
            .with_user("jwtrail")
            .with_password(JWTRAIL_PASSWORD)
            .with_database("jwtrail")
    }
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Waits until `holds`, and fails after a minute, saying `what` was waited for.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < Duration::from_secs(60), "still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a process lives. One that has ended but was not waited for does not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn kill_9(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}
