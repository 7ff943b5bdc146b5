//! The gateway dialect: what it is turned into, what is filled in, what is refused.

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::lenient::{Admitted, Arrival, Credential, Refused, admit};
use super::*;
use crate::model::Zone;

const FRESH: Uuid = Uuid::from_u128(0x019a_af5e_2f7b_7c3a_9d1e_3b6f_0c9a_1e42);

pub(super) fn arrival() -> Arrival {
    Arrival { now: received(), fresh_id: FRESH, door_epoch: None }
}

fn gateway(tenants: &[&str]) -> Credential {
    let tenants = tenants.iter().map(|tenant| tenant.parse().unwrap()).collect();
    Credential::Gateway { gateway: "edge-fra-1".to_owned(), zone: Zone::Internal, tenants }
}

fn admitted(event: &Value, credential: &Credential) -> Result<Admitted, Refused> {
    admit(event.to_string().as_bytes(), credential, arrival())
}

/// The canonical JSON of the least event with these members set.
fn canonical(changes: &[(&str, Value)]) -> Result<Value, String> {
    let mut event = least();
    for (pointer, value) in changes {
        set(&mut event, pointer, value.clone());
    }
    admitted(&event, &gateway(&["acme"]))
        .map(|admitted| serde_json::to_value(&admitted.event).unwrap())
        .map_err(|refused| format!("{} {}", refused.code.as_str(), refused.field))
}

/// "The least that a gateway sends."
fn least() -> Value {
    json!({"token": {"iss": "https://id.example/t/acme", "sub": "alice", "exp": 1_795_431_600,
            "jti": "6b0c1f9e-5a0b-4a53-9d2f-0f2f3a1c7d11"},
        "request": {"ip": "203.0.113.7", "user_agent": "curl/8", "method": "GET", "route": "/orders/{id}", "status": 200}})
}

/// Sends `value` at `pointer`; what stands at `at` of the canonical event must be `expected`.
fn check(pointer: &str, value: Value, at: &str, expected: Value) {
    let event = canonical(&[(pointer, value.clone())]);
    let found = event.as_ref().map(|event| event.pointer(at).cloned().unwrap_or_default());
    assert_eq!(found, Ok(expected), "{pointer} {value}");
}

fn refuse(pointer: &str, value: Value, expected: &str) {
    assert_eq!(canonical(&[(pointer, value.clone())]).unwrap_err(), expected, "{pointer} {value}");
}

#[test]
fn the_least_event_is_filled_to_a_whole_one() {
    let admitted = admitted(&least(), &gateway(&["acme"])).unwrap();
    let expected = json!({"version": 1, "id": FRESH, "kind": "accepted", "time": "2026-11-23T10:15:01.000Z",
        "tenant": "acme", "source": {"gateway": "edge-fra-1", "zone": "internal"},
        "token": {"jti_ref": "P0KJGLOum6xNWAaexWNuFh_flA5zEVplzYFX6xCuIWM", "iss": "https://id.example/t/acme",
            "sub": "alice", "exp": 1_795_431_600},
        "request": {"ip": "203.0.113.7", "user_agent": "curl/8", "method": "GET", "route": "/orders/{id}", "status": 200},
        "gateway_verdict": "valid"});
    assert_eq!(serde_json::to_value(&admitted.event).unwrap(), expected);
    let filled = [
        "/version",
        "/time",
        "/kind",
        "/gateway_verdict",
        "/source/gateway",
        "/source/zone",
        "/tenant",
        "/id",
    ];
    assert_eq!(admitted.filled, filled);
    assert_eq!(admitted.record.key.as_deref(), Some(b"acme\x1falice".as_slice()));
    assert_eq!(serde_json::from_slice::<Value>(&admitted.record.value).unwrap(), expected);
}

#[test]
fn the_dialect_is_undone() {
    for nothing in [json!(null), json!(""), json!("-")] {
        check("/request/user_agent", nothing.clone(), "/request/user_agent", Value::Null);
        check("/token/scope", nothing.clone(), "/token/scope", Value::Null);
        check("/tenant", nothing, "/tenant", json!("acme"));
    }
    for (sent, meant) in [
        (json!("1795431600"), 1_795_431_600),
        (json!(1_795_431_600.9), 1_795_431_600),
        (json!("1795431600.9"), 1_795_431_600),
    ] {
        check("/token/exp", sent, "/token/exp", json!(meant));
    }
    check("/request/status", json!("204"), "/request/status", json!(204));
    check("/version", json!("1"), "/version", json!(1));
    for same in [
        json!("2026-11-23T11:15:00.123+01:00"),
        json!(1_795_428_900.123),
        json!("1795428900.123"),
        json!(1_795_428_900_123_u64),
        json!("1795428900123"),
    ] {
        let event = canonical(&[("/time", same.clone())]).unwrap();
        let time: UnixMs = event["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(time.get(), 1_795_428_900_123, "{same}");
    }
    for (sent, meant) in [
        ("203.0.113.7:51234", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ] {
        check("/request/ip", json!(sent), "/request/ip", json!(meant));
    }
    check(
        "/token/scope",
        json!("orders:read  orders:write"),
        "/token/scope",
        json!(["orders:read", "orders:write"]),
    );
    check("/token/aud", json!("https://api.example"), "/token/aud", json!(["https://api.example"]));
    check("/token/aud", json!(["a", null, "", "b"]), "/token/aud", json!(["a", "b"]));
    check("/request/route", json!("/orders/7?token=abc#top"), "/request/route", json!("/orders/7"));
    check("/request/route", json!("?a=b"), "/request/route", Value::Null);
    let nested = json!({"sub": "c", "act": {"sub": "b", "iss": "-", "act": {"sub": "a", "client_id": "x"}}});
    check(
        "/token/act",
        nested,
        "/token/act",
        json!([{"sub": "c"}, {"sub": "b"}, {"sub": "a", "client_id": "x"}]),
    );
}

#[test]
fn a_client_cannot_keep_its_event_out_by_being_long_winded() {
    let event = canonical(&[("/request/user_agent", json!("é".repeat(400)))]).unwrap();
    assert_eq!(event["request"]["user_agent"], json!("é".repeat(256)));
    let event = canonical(&[("/request/host", json!("x".repeat(4000)))]).unwrap();
    assert_eq!(event["request"]["host"], json!("x".repeat(2048)));
}

#[test]
fn what_is_cut_away_from_a_clients_text_hides_no_token() {
    let (token, token_ref) = jws(r#"{"alg":"ES256"}"#);
    let marker = format!("[masked:{token_ref}]");
    for (field, sent, kept) in [
        ("/request/route", format!("/cb?access_token={token}&x=1"), format!("/cb{marker}")),
        ("/request/route", format!("/{token}?x={token}"), format!("/{marker}{marker}")),
        (
            "/request/user_agent",
            format!("{}{token}", "x".repeat(600)),
            format!("{}{marker}", "x".repeat(460)),
        ),
        (
            "/request/user_agent",
            format!("{}{token}", "x".repeat(500)),
            format!("{}{marker}", "x".repeat(460)),
        ),
    ] {
        let event = canonical(&[(field, json!(sent))]).unwrap();
        assert_eq!(event.pointer(field), Some(&json!(kept)), "{field}");
    }
}

#[test]
fn the_kind_is_read_off_the_status() {
    for (status, kind, verdict) in [
        (json!(200), "accepted", "valid"),
        (json!(null), "accepted", "valid"),
        (json!("500"), "accepted", "valid"),
        (json!("401"), "rejected", "unspecified"),
        (json!(403), "rejected", "unspecified"),
    ] {
        let event = canonical(&[("/request/status", status.clone())]).unwrap();
        assert_eq!((&event["kind"], &event["gateway_verdict"]), (&json!(kind), &json!(verdict)), "{status}");
    }
    let event =
        canonical(&[("/request/status", json!(null)), ("/gateway_verdict", json!("expired"))]).unwrap();
    assert_eq!(event["kind"], "rejected");
    let event = canonical(&[("/kind", json!("rejected"))]).unwrap();
    assert_eq!(event["gateway_verdict"], "unspecified");
}

#[test]
fn an_id_becomes_a_uuid_and_always_the_same() {
    check("/id", json!("019AAF5E-2F7B-7C3A-9D1E-3B6F0C9A1E42"), "/id", json!(FRESH));
    let of = |id: Value| canonical(&[("/id", id)]).unwrap()["id"].clone();
    assert_eq!(of(json!("req-1")), json!("2ab8b5e8-b45e-555b-96d4-1786e737c7b2"));
    assert_ne!(of(json!("req-1")), of(json!("req-2")));
    assert_eq!(of(json!(7)), of(json!("7")));
    refuse("/id", json!("x".repeat(129)), "too_long /id");
    refuse("/id", json!(["x"]), "bad_type /id");
}

#[test]
fn a_credential_fixes_what_it_names() {
    let conflict = |pointer: &str, value: &str| refuse(pointer, json!(value), &format!("conflict {pointer}"));
    conflict("/tenant", "globex");
    conflict("/tenant", "_platform");
    refuse("/source", json!({"gateway": "other"}), "conflict /source/gateway");
    refuse("/source", json!({"zone": "edge"}), "conflict /source/zone");
    refuse("/source", json!("edge-fra-1"), "bad_type /source");
    check("/source", json!({"gateway": "edge-fra-1", "seq": "7"}), "/source/seq", json!(7));

    let several = gateway(&["acme", "globex"]);
    let refused = admitted(&least(), &several).unwrap_err();
    assert_eq!((refused.code.as_str(), refused.field.as_str()), ("missing_field", "/tenant"));
    let mut event = least();
    set(&mut event, "/tenant", json!("globex"));
    assert_eq!(admitted(&event, &several).unwrap().event.tenant, "globex");
}

#[test]
fn the_ingest_key_may_name_anyone_and_need_name_no_one() {
    let nameless = admitted(&least(), &Credential::Ingest).unwrap();
    let source = &nameless.event.source;
    assert_eq!(
        (nameless.event.tenant.as_ref(), source.gateway.as_ref(), source.zone),
        ("default", "default", Zone::Edge)
    );
    let mut event = least();
    set(&mut event, "/tenant", json!("globex"));
    set(&mut event, "/source", json!({"gateway": "other", "zone": "internal"}));
    let named = admitted(&event, &Credential::Ingest).unwrap();
    assert_eq!((named.event.tenant.as_ref(), named.event.source.gateway.as_ref()), ("globex", "other"));
}

#[test]
fn a_heartbeat_is_the_gateways() {
    let beat = json!({"heartbeat": {"sent": "12", "dropped": 0}, "source": {"epoch": "e1", "seq": 3}, "tenant": "acme"});
    let admitted = admitted(&beat, &gateway(&["acme"])).unwrap();
    assert_eq!(admitted.event.tenant, "_platform");
    assert_eq!(admitted.event.kind, Kind::Heartbeat);
    assert_eq!(admitted.record.key.as_deref(), Some(b"edge-fra-1".as_slice()));
}

#[test]
fn what_cannot_be_an_event_is_refused_with_its_place() {
    refuse("/token/sub", json!(null), "missing_field /token/sub");
    refuse("/token/iss", json!(null), "missing_field /token/iss");
    refuse("/token/jti", json!(null), "missing_field /token/ref");
    refuse("/token/jti_ref", json!("A".repeat(43)), "bad_value /token/jti_ref");
    refuse("/request/ip", json!("localhost"), "bad_value /request/ip");
    refuse("/request/status", json!("ok"), "bad_type /request/status");
    refuse("/time", json!("yesterday"), "bad_value /time");
    refuse("/time", json!("nan"), "bad_value /time");
    refuse("/time", json!(1e300), "bad_value /time");
    refuse("/kind", json!("used"), "unknown_kind /kind");
    refuse("/version", json!(2), "unknown_version /version");
    refuse("/kind", json!("login_failed"), "missing_field /login/username");
    let mut revoked = least();
    set(&mut revoked, "/kind", json!("revoked"));
    let refused = admitted(&revoked, &Credential::Ingest).unwrap_err();
    assert_eq!(refused.code.as_str(), "issuer_signature_invalid");
    for (raw, expected) in [
        ("", "not_json "),
        ("[1]", "bad_type "),
        ("{\"a\":1} x", "not_json "),
        ("{\"tenant\":\"acme\",\"tenant\":\"acme\"}", "duplicate_member /tenant"),
    ] {
        let refused = admit(raw.as_bytes(), &gateway(&["acme"]), arrival()).unwrap_err();
        assert_eq!(format!("{} {}", refused.code.as_str(), refused.field), expected, "{raw}");
    }
}

#[test]
fn a_token_anywhere_is_masked_before_it_is_written() {
    let (token, token_ref) = jws(r#"{"alg":"ES256"}"#);
    let mut event = least();
    set(&mut event, "/token/raw", json!(token));
    set(&mut event, "/token/jti", json!(token));
    set(&mut event, "/id", json!(token));
    set(&mut event, "/request/headers", json!({"authorization": format!("Bearer {token}")}));
    let admitted = admitted(&event, &gateway(&["acme"])).unwrap();
    let written = String::from_utf8(admitted.record.value.clone()).unwrap();
    assert!(!written.contains(&token) && written.contains(&token_ref), "{written}");
    let mut told: Vec<_> = admitted.leaks.iter().map(|leak| (leak.field.as_str(), leak.owner)).collect();
    told.sort_by_key(|leak| leak.0);
    assert_eq!(
        told,
        [
            ("/id", LeakOwner::Gateway),
            ("/request/headers/authorization", LeakOwner::Gateway),
            ("/token/jti", LeakOwner::Token),
            ("/token/raw", LeakOwner::Token)
        ]
    );
    // What became of them is what becomes of any text there.
    let plain = |text: &str| canonical(&[("/token/jti", json!(text)), ("/id", json!(text))]).unwrap();
    assert_ne!(plain("a")["id"], plain("b")["id"]);
    assert_eq!(plain(&token)["id"], json!(admitted.event.id));
    // The walk reads the markers off the record and raises the same.
    with(&admitted.record, |decoded| {
        let mut walked = decoded.unwrap().leaks;
        walked.sort_by(|a, b| a.field.cmp(&b.field));
        let mut told = admitted.leaks;
        told.sort_by(|a, b| a.field.cmp(&b.field));
        assert_eq!(walked, told);
    });
}
