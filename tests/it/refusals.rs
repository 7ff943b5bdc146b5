//! What is refused, and how: each with a reason, none of it at the cost of the rest of its batch.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::attacks::accepted;

#[tokio::test(flavor = "multi_thread")]
async fn the_door_says_what_is_wrong_with_each_event_and_takes_the_others() {
    let app = TestApp::new("");
    let up = app.up().await;
    let good = accepted("alice", "good-1", "203.0.113.7", "Firefox");
    let with = |pointer: &str, value: Value| {
        let mut event = accepted("alice", "bad", "203.0.113.7", "Firefox");
        let (section, name) = pointer[1..].split_once('/').unwrap_or(("", &pointer[1..]));
        let target = if section.is_empty() { &mut event } else { &mut event[section] };
        target[name] = value;
        event
    };
    let mut deep = json!(1);
    for _ in 0..20 {
        deep = json!([deep]);
    }
    let mut login = with("/kind", json!("login_failed"));
    login["login"] = json!({"username": "alice", "reason": "bad_password"});
    let bad = [
        (json!(17), "bad_type"),
        (with("/version", json!(2)), "unknown_version"),
        (with("/kind", json!("stolen")), "unknown_kind"),
        (login, "issuer_signature_invalid"),
        (with("/request/ip", json!("not an address")), "bad_value"),
        (with("/token/sub", json!({"a": 1})), "bad_type"),
        (with("/token/acr", json!("x".repeat(3_000))), "too_long"),
        (with("/extra", json!("x".repeat(40_000))), "too_large"),
        (with("/extra", deep), "too_deep"),
        (with("/token/scope", json!(vec!["a"; 65])), "too_many"),
        (json!({"token": {"sub": "a"}, "request": {}}), "missing_field"),
    ];
    let mut batch = vec![good.clone()];
    batch.extend(bad.iter().map(|(event, _)| event.clone()));
    batch.push(accepted("alice", "good-2", "203.0.113.7", "Firefox"));
    let (status, answer) = app.post(&Value::from(batch).to_string()).await;
    assert_eq!((status, answer["accepted"].as_u64()), (202, Some(2)), "{answer}");
    let codes: Vec<&str> =
        answer["refused"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    let expected: Vec<&str> = bad.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, expected, "{answer:#}");
    app.eventually("SELECT count() FROM events", "2").await;

    let (status, _) = app.post("[17]").await;
    assert_eq!(status, 422);
    let (status, problem) = app.post("{").await;
    assert_eq!(status, 400, "{problem}");
    let (status, problem) = app.post_as("nobody", &good.to_string()).await;
    assert_eq!(status, 401, "{problem}");
    assert!(up.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_configuration_are_reported_all_at_once() {
    let app = TestApp::new(
        "[[destination]]\nname = \"a\"\nkind = \"pigeon\"\n[[issuer]]\niss = \"https://id.example\"\n[kafka]\nbroker = \"x\"\n",
    );
    let output = app.command(&["check"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for key in ["destination", "issuer", "broker"] {
        assert!(said.contains(key), "{key} is not in:\n{said}");
    }
}
