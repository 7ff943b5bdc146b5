//! A tenant's issuer, as the README has a new user try it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::app::TestApp;

const API: &str = "https://api.example";

/// What a command prints with `--json`.
fn told(app: &TestApp, args: &[&str]) -> Value {
    let output = app.command(&[args, &["--json"]].concat()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Posts a form as a client.
async fn post(app: &TestApp, path: &str, client: (&str, &str), form: String) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("http://{}{path}", app.api)).body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let response = request.basic_auth(client.0, Some(client.1)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// What npm's `jose` reads in a token that it verified by what the issuer publishes.
fn judged_by_jose(issuer: &str, token: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut node = Command::new("node")
        .arg(root.join("tests/it/issuing.mjs"))
        .arg(root.join(".deps/package.json"))
        .args([issuer, API])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs: `make test-deps` says how to get it");
    node.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "jose refuses the token");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_a_token_that_strangers_verify_and_the_audit_has_it() {
    let app = TestApp::new("");
    let running = app.up().await;
    told(&app, &["tenant", "create", "acme"]);
    let secret = |made: Value| made["client_secret"].as_str().unwrap().to_owned();
    let grant = ["--grant", "client_credentials", "--audience", API, "--scope", "read"];
    let billing = secret(told(&app, &[["client", "create", "acme", "billing"].as_slice(), &grant].concat()));
    let api = secret(told(&app, &["client", "create", "acme", "api", "--owns", API]));

    let ask =
        || post(&app, "/t/acme/token", ("billing", &billing), "grant_type=client_credentials".to_owned());
    let (status, issued) = ask().await;
    assert_eq!((status, &issued["scope"]), (200, &"read".into()), "{issued}");
    let token = issued["access_token"].as_str().unwrap().to_owned();
    let issuer = format!("http://{}/t/acme", app.api);
    let claims = judged_by_jose(&issuer, &token);
    assert_eq!((&claims["sub"], &claims["tenant_id"]), (&"billing".into(), &"acme".into()));
    let introspected = || post(&app, "/t/acme/introspect", ("api", &api), format!("token={token}"));
    assert_eq!(introspected().await.1["active"], true);
    app.eventually(
        "SELECT count(), any(sub), any(client_id) FROM events WHERE kind = 'issued'",
        "1\tbilling\tbilling",
    )
    .await;

    // The keys outlive the process: what was issued stays good.
    running.stop().await;
    let running = app.up().await;
    assert_eq!(judged_by_jose(&issuer, &token), claims);
    assert_eq!(introspected().await.1["active"], true);

    told(&app, &["tenant", "suspend", "acme"]);
    assert_eq!(ask().await.0, 400);
    assert_eq!(introspected().await.1["active"], false);
    let log = running.log();
    for secret in [&billing, &api, &token, claims["jti"].as_str().unwrap()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}
