//! One machine, `up`: what the banner promises, and what must never be seen anywhere.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::app::{TestApp, wait_for};
use crate::receiver::Receiver;

pub(crate) const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0";
pub(crate) const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
pub(crate) const PARIS: &str = "203.0.113.7";
pub(crate) const TOKYO: &str = "198.51.100.7";

/// The least that a gateway sends.
pub(crate) fn accepted(sub: &str, jti: &str, ip: &str, user_agent: &str) -> serde_json::Value {
    json!({
        "token": {"iss": "https://id.example/t/default", "sub": sub, "exp": 4_000_000_000_i64, "jti": jti},
        "request": {"ip": ip, "user_agent": user_agent, "method": "GET", "route": "/orders", "status": 200},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_banners_two_sends_are_two_high_alerts_at_the_webhook_and_rows_in_clickhouse() {
    let receiver = Receiver::start().await;
    let app = TestApp::new(&receiver.destination());
    let up = app.up().await;
    for (ip, user_agent) in [(PARIS, FIREFOX), (TOKYO, CHROME)] {
        let sent = app.command(&[
            "send",
            "--sub",
            "alice",
            "--jti",
            "try-1",
            "--ip",
            ip,
            "--user-agent",
            user_agent,
        ]);
        let sent = { sent }.output().unwrap();
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    }
    wait_for("two alerts", async || (receiver.deliveries().len() == 2).then_some(())).await;
    let told: BTreeSet<String> = receiver
        .deliveries()
        .iter()
        .map(|delivery| {
            assert_eq!(delivery.id, format!("{}_high", delivery.data("finding_id")));
            assert_eq!(delivery.body["type"], "jwtrail.alert.opened");
            format!("{} {} {}", delivery.data("rule"), delivery.data("severity"), delivery.data("sub"))
        })
        .collect();
    let expected = ["impossible_travel high alice", "token_replay high alice"].map(str::to_owned);
    assert_eq!(told, BTreeSet::from(expected));

    app.eventually("SELECT city, count() FROM events GROUP BY city ORDER BY city", "Paris\t1\nTokyo\t1")
        .await;
    app.eventually("SELECT count() FROM findings WHERE is_alert AND severity = 'high'", "2").await;
    app.assert_complete().await;
    assert!(up.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_any_field_is_masked_everywhere_and_its_event_is_a_row() {
    let app =
        TestApp::new("[[destination]]\nname = \"file\"\nkind = \"file\"\npath = \"{dir}/alerts.jsonl\"\n");
    let up = app.up().await;
    // {"alg":"ES256"}.{"sub":"x"}.SIGNATURE, made up: the middle and the end are what a thief would want.
    let (payload, signature) = ("eyJzdWIiOiJ4In0", "c2VjcmV0LXNpZ25hdHVyZS1vZi1hLXRva2Vu");
    let token = format!("eyJhbGciOiJFUzI1NiJ9.{payload}.{signature}");
    let mut events = Vec::new();
    for (number, path) in
        ["/request/user_agent", "/request/route", "/token/sub", "/token/client_id", "/request/id"]
            .into_iter()
            .enumerate()
    {
        let mut event = accepted("mallory", &format!("leak-{number}"), PARIS, FIREFOX);
        let (section, name) = path[1..].split_once('/').unwrap();
        event[section][name] = json!(format!("x {token} y"));
        events.push(event);
    }
    let mut named = accepted("mallory", "leak-name", PARIS, FIREFOX);
    named[&token] = json!(1);
    named["authorization"] = json!(format!("Bearer {}", token.replace('.', "%2E")));
    events.push(named);
    events.push(json!({"token": token, "request": 7}));

    let (status, answer) = app.post(&serde_json::Value::from(events).to_string()).await;
    assert_eq!((status, answer["accepted"].as_u64()), (202, Some(6)), "{answer}");
    assert_eq!(answer["refused"][0]["index"], 6, "{answer}");
    assert!(!answer.to_string().contains(signature), "{answer}");
    app.eventually("SELECT count() FROM events WHERE has(flags, 'masked')", "6").await;
    app.eventually("SELECT count() > 0 FROM findings WHERE rule = 'token_leak'", "1").await;
    app.eventually("SELECT count() > 0 FROM findings WHERE rule = 'token_in_request'", "1").await;
    for table in ["events", "findings", "rejects", "blocks"] {
        let rows = app.query(&format!("SELECT * FROM {table} FORMAT JSONEachRow")).await.unwrap();
        assert!(!rows.contains(payload) && !rows.contains(signature), "{table}: {rows}");
    }
    let metrics = reqwest::get(format!("http://{}/metrics", app.api)).await.unwrap().text().await.unwrap();
    assert!(!metrics.contains(signature));
    let told = app.path("alerts.jsonl");
    wait_for("the alert in the file", async || {
        std::fs::read_to_string(&told).is_ok_and(|text| text.contains("token_leak")).then_some(())
    })
    .await;
    assert!(up.stop().await.success());
    assert_nowhere(&app.path(""), signature.as_bytes());
    assert_nowhere(&app.path(""), payload.as_bytes());
}

/// No file below `folder` holds `secret`.
fn assert_nowhere(folder: &Path, secret: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            assert_nowhere(&path, secret);
        } else if let Ok(bytes) = std::fs::read(&path) {
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret),
                "{} holds it",
                path.display()
            );
        }
    }
}
