//! Claims, read strictly and written in one form.

use serde_json::{Value, json};

use super::*;

fn least() -> Value {
    json!({
        "iss": "https://id.example/t/acme", "sub": "alice", "aud": "https://api.example", "client_id": "web",
        "iat": 1_795_428_000, "exp": 1_795_428_600, "jti": "hq1m", "scope": "orders:read", "tenant_id": "acme",
    })
}

fn read(json: &Value) -> Result<Claims, Fault> {
    Claims::read(json.to_string().as_bytes())
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = least();
    claims[name] = value;
    claims
}

#[test]
fn what_is_read_is_written_again() {
    let thumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    let mut all = least();
    for (name, value) in [
        ("nbf", json!(1_795_428_000)),
        ("auth_time", json!(1_795_427_000)),
        ("sid", json!("s1")),
        ("gen", json!(3)),
        (
            "act",
            json!({ "sub": "billing", "client_id": "billing", "act": { "sub": "web", "iss": "https://id.example" } }),
        ),
        ("may_act", json!({ "sub": "billing" })),
        ("txn", json!("t1")),
        ("org", json!(thumbprint)),
        ("cnf", json!({ "jkt": thumbprint, "x5t#S256": thumbprint })),
        ("aud", json!(["https://api.example", "https://other.example"])),
        ("scope", json!("")),
    ] {
        all[name] = value;
        for claims in [&all, &with(name, all[name].clone())] {
            let written: Value = serde_json::from_slice(&read(claims).unwrap().to_json()).unwrap();
            assert_eq!(&written, claims, "{name}");
        }
    }
    let actors: Vec<_> = read(&all).unwrap().actors().map(|actor| actor.sub.clone()).collect();
    assert_eq!(actors, ["billing", "web"]);
    // A list of one is written as a text; what we do not know is passed over.
    assert_eq!(read(&with("aud", json!(["https://api.example"]))), read(&least()));
    assert_eq!(read(&with("roles", json!(["admin"]))), read(&least()));
}

#[test]
fn a_claim_that_is_missing_or_of_another_type_is_named() {
    for name in ["iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope", "tenant_id"] {
        let mut claims = least();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(read(&claims), Err(Fault::NoClaim(name)));
        for value in [json!(null), json!(true), json!({}), json!([]), json!([1]), json!(1.5)] {
            assert_eq!(read(&with(name, value.clone())), Err(Fault::BadClaim(name)), "{value}");
        }
    }
    let deep = (0..MAX_ACTORS).fold(json!({ "sub": "a" }), |act, _| json!({ "sub": "a", "act": act }));
    for (name, value) in [
        // One string: a list is none, however short (RFC 7519, section 4.1.1).
        ("iss", json!(["https://id.example/t/acme"])),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(MAX_TEXT_BYTES + 1))),
        ("aud", json!(vec!["a"; MAX_AUDIENCES + 1])),
        ("exp", json!("1795428600")),
        ("exp", json!(-1)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!(1e30)),
        ("scope", json!(" orders:read")),
        ("scope", json!("a  b")),
        ("scope", json!("a\"b")),
        ("scope", json!(["a"])),
        ("gen", json!(-1)),
        ("sid", json!(5)),
        ("org", json!("not a ref")),
        ("act", deep),
        ("act", json!({})),
        ("act", json!({ "sub": "a", "role": "admin" })),
        ("act", json!([{ "sub": "a" }])),
        ("may_act", json!({ "sub": "a", "only_on": "mondays" })),
        ("cnf", json!({})),
        ("cnf", json!({ "jkt": "short" })),
        ("cnf", json!({ "jwk": {} })),
    ] {
        assert_eq!(read(&with(name, value.clone())), Err(Fault::BadClaim(name)), "{value}");
    }
}

#[test]
fn claims_are_one_object_with_each_member_once() {
    use crate::token::strict::NotAnObject;
    let twice = least().to_string().replacen('{', r#"{"sub":"mallory","#, 1);
    assert_eq!(Claims::read(twice.as_bytes()), Err(Fault::NotAnObject(Part::Claims, NotAnObject::Repeated)));
    assert_eq!(Claims::read(b"[]"), Err(Fault::NotAnObject(Part::Claims, NotAnObject::Syntax)));
}

#[test]
fn scopes_are_sets_with_an_order() {
    let scope = |text| Scope::parse(text).unwrap();
    assert_eq!(scope("b a b").to_string(), "b a");
    assert_eq!(scope("b a c").intersection(&scope("c b")).to_string(), "b c");
    assert!(scope("").is_empty() && !scope("a").is_empty());
    assert!(scope("a b").contains("b") && !scope("ab").contains("a"));
}
