//! What is an event and what is not.

use serde_json::json;

use super::*;

fn check(value: impl Into<Vec<u8>>, expected: &str) {
    let value = value.into();
    let shown = String::from_utf8_lossy(&value[..value.len().min(300)]).into_owned();
    let outcome = with(&bare(value), |outcome| match outcome {
        Ok(decoded) => decoded.flags.iter().fold("event".to_owned(), |text, flag| format!("{text} {flag}")),
        Err(rejected) => format!("{} {}", rejected.reason, rejected.field).trim_end().to_owned(),
    });
    assert_eq!(outcome, expected, "{shown}");
}

#[test]
fn the_example_decodes_to_itself() {
    let value = serde_json::to_vec(&example()).unwrap();
    with(&bare(value), |outcome| {
        let decoded = outcome.unwrap();
        assert_eq!(serde_json::to_value(&decoded.event).unwrap(), example());
        assert_eq!(decoded.leaks, []);
        assert_eq!(decoded.origin, None);
    });
}

#[test]
fn each_fault_has_its_reason_and_its_place() {
    check("", "not_json");
    check("  ", "not_json");
    check([b'{', 0xff, b'}'], "not_utf8");
    check("{", "not_json");
    check("nonsense", "not_json");
    check("[]", "bad_type");
    check("{}", "missing_field /version");
    check(format!("{}x", example()), "not_json");
    check(r#"{"version":1,"version":1}"#, "duplicate_member /version");
    check(r#"{"version":1,"source":{"seq":1,"seq":2}}"#, "duplicate_member /source/seq");
    check(r#"{"colour":1,"colour":2}"#, "duplicate_member /colour");
    check(r#"{"a":{"b":{"c":1,"\u0063":2}}}"#, "duplicate_member /a/b/c");
    check(r#"{"version":01}"#, "not_json");
    check(r#"{"a":"\ud800"}"#, "not_json /a");
    check("{\"a\":\"tab\there\"}", "not_json /a");
    check(r#"{"a":"\x41"}"#, "not_json /a");
    check(r#"{"a":1,}"#, "not_json");
    check(r#"{"a":nul}"#, "not_json /a");
    check(format!("{}{}", "x".repeat(32 * 1024), "x"), "too_large");
    check(format!(r#"{{"a":{}1{}}}"#, "[".repeat(8), "]".repeat(8)), "too_deep /a/0/0/0/0/0/0/0");
    check(example_with("/request/ja4", json!("x".repeat(2049))), "too_long /request/ja4");
    check(example_with("/token/kid", json!("x".repeat(2049))), "too_long /token/kid");
    check(example_with("/token/aud", json!(["a", "x".repeat(2049)])), "too_long /token/aud/1");
    check(example_with("/colour", json!("x".repeat(2049))), "too_long /colour");
    check(example_with("/token/aud", json!(vec!["a"; 65])), "too_many /token/aud");
    check(example_with("/colours", json!(vec![1; 65])), "too_many /colours");
    check(example_with("/token/sub", json!(7)), "bad_type /token/sub");
}

/// A client decides how long its texts are, and must not keep its event out by it.
#[test]
fn what_a_client_wrote_too_long_is_cut_and_flagged() {
    for (name, kept) in [("user_agent", 512), ("route", 2048), ("host", 2048), ("method", 2048), ("id", 2048)]
    {
        let pointer = format!("/request/{name}");
        let cut_to = |text: String| {
            let value = example_with(&pointer, json!(text));
            check(value.clone(), "event cut");
            with(&bare(value), |outcome| {
                let event = serde_json::to_value(&outcome.unwrap().event).unwrap();
                event.pointer(&pointer).unwrap().as_str().unwrap().to_owned()
            })
        };
        assert_eq!(cut_to("x".repeat(kept + 1)), "x".repeat(kept));
        assert_eq!(cut_to("\u{1}".repeat(kept + 1)), "\u{1}".repeat(kept), "escaped");
        assert_eq!(cut_to(format!("x{}", "é".repeat(kept))), format!("x{}", "é".repeat(kept / 2 - 1)));
        check(example_with(&pointer, json!("x".repeat(kept))), "event");
    }
    let mut forged = example();
    set(&mut forged, "/kind", json!("rejected"));
    set(&mut forged, "/gateway_verdict", json!("bad_signature"));
    set(&mut forged, "/token/kid", json!("x".repeat(2049)));
    set(&mut forged, "/token/acr", json!("x".repeat(2049)));
    check(forged.to_string(), "event cut");
    set(&mut forged, "/gateway_verdict", json!("expired"));
    check(forged.to_string(), "too_long /token/acr");
}

#[test]
fn what_each_kind_must_have_is_missed() {
    for pointer in [
        "/version",
        "/id",
        "/kind",
        "/time",
        "/tenant",
        "/source",
        "/source/gateway",
        "/source/zone",
        "/request/ip",
        "/gateway_verdict",
        "/token/iss",
        "/token/sub",
    ] {
        check(example_with(pointer, json!(null)), &format!("missing_field {pointer}"));
    }
}
