//! Tokens in records: each is told with its field and its owner, and none keeps its event from being judged.

use serde_json::json;

use super::*;

const ES256: &str = r#"{"alg":"ES256","typ":"at+jwt"}"#;

/// The one leak of the example with these members set, as `FIELD OWNER`.
fn leak_of(changes: &[(&str, serde_json::Value)]) -> String {
    let (token, token_ref) = jws(ES256);
    let mut event = example();
    for (pointer, value) in changes {
        let hidden = value.to_string().replace("TOKEN", &token);
        set(&mut event, pointer, serde_json::from_str(&hidden).unwrap());
    }
    with(&bare(event.to_string()), |decoded| {
        let decoded = decoded.unwrap();
        assert!(decoded.flags.has(Flag::Masked));
        let [leak] = decoded.leaks.as_slice() else { panic!("one leak: {:?}", decoded.leaks) };
        assert_eq!(leak.token_ref, token_ref);
        format!("{} {:?}", leak.field, leak.owner)
    })
}

#[test]
fn a_leak_is_told_with_its_field_and_whose_doing_it_is() {
    let leak = |pointer: &str, value: serde_json::Value| leak_of(&[(pointer, value)]);
    for client in ["user_agent", "route", "host", "method", "id"] {
        let pointer = format!("/request/{client}");
        assert_eq!(leak(&pointer, json!("a TOKEN b")), format!("{pointer} Client"));
    }
    assert_eq!(leak("/request/ja4", json!("TOKEN")), "/request/ja4 Gateway");
    assert_eq!(leak("/request/colour", json!("TOKEN")), "/request/colour Gateway");
    assert_eq!(leak("/source/epoch", json!("TOKEN")), "/source/epoch Gateway");
    assert_eq!(leak("/mesh", json!([{"a/b": "Bearer TOKEN"}])), "/mesh/0/a~1b Gateway");
    assert_eq!(leak("/token/kid", json!("TOKEN")), "/token/kid Token");
    assert_eq!(leak("/token/aud", json!(["a", "TOKEN"])), "/token/aud/1 Token");
    assert_eq!(leak("/token/raw", json!("TOKEN")), "/token/raw Token");

    let unverified = [("/kind", json!("rejected")), ("/gateway_verdict", json!("bad_signature"))];
    let claim = [&unverified[..], &[("/token/sub", json!("TOKEN"))]].concat();
    assert_eq!(leak_of(&claim), "/token/sub Client");
    let expired = [("/kind", json!("rejected")), ("/gateway_verdict", json!("expired"))];
    let claim = [&expired[..], &[("/token/sub", json!("TOKEN"))]].concat();
    assert_eq!(leak_of(&claim), "/token/sub Token");
}

#[test]
fn a_token_where_a_ref_should_be_does_not_keep_the_event_out() {
    assert_eq!(leak_of(&[("/token/ref", json!("TOKEN"))]), "/token/ref Token");
}

#[test]
fn names_headers_and_key_are_masked_too() {
    let (token, token_ref) = jws(ES256);
    let mut event = example();
    event.as_object_mut().unwrap().insert(format!("x-{token}"), json!(1));
    let record = NewRecord {
        key: Some(token.clone().into_bytes()),
        headers: vec![(format!("h-{token}"), b"1".to_vec()), ("cookie".to_owned(), token.into_bytes())],
        ..bare(event.to_string())
    };
    with(&record, |decoded| {
        let leaks = decoded.unwrap().leaks;
        assert!(leaks.iter().all(|leak| leak.owner == LeakOwner::Gateway && leak.token_ref == token_ref));
        let fields: Vec<_> = leaks.into_iter().map(|leak| leak.field).collect();
        let marker = format!("[masked:{token_ref}]");
        assert_eq!(
            fields,
            [format!("/x-{marker}"), format!("header:h-{marker}"), "header:cookie".into(), "key".into()]
        );
    });
}

#[test]
fn a_token_as_subject_is_told_once_though_the_key_repeats_it() {
    let (token, _) = jws(ES256);
    let mut event = example();
    set(&mut event, "/token/sub", json!(token));
    let record =
        NewRecord { key: Some(format!("acme\u{1f}{token}").into_bytes()), ..bare(event.to_string()) };
    with(&record, |decoded| {
        let fields: Vec<_> = decoded.unwrap().leaks.into_iter().map(|leak| leak.field).collect();
        assert_eq!(fields, ["/token/sub"]);
    });
}

/// The limit is the masked text's: a long token is a leak to be told, and many short ones are cut, not refused.
#[test]
fn the_length_of_tokens_keeps_no_event_out() {
    let long = jws(&format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(4000))).0;
    let short = "eyJhbGciOjB9.. ".repeat(34);
    for (agent, bytes) in [(format!("a {long}"), 54), (short, 512)] {
        with(&bare(example_with("/request/user_agent", agent.into())), |decoded| {
            let agent = decoded.unwrap().event.request.unwrap().user_agent.unwrap();
            assert_eq!(agent.len(), bytes, "{agent}");
        });
    }
}

/// Masked, then cut: no part of a token is left where the cut goes through it, and one behind the cut is told of.
#[test]
fn what_is_cut_is_masked_first() {
    let (token, token_ref) = jws(ES256);
    for before in [500, 600] {
        let agent = format!("{} {token}", "x".repeat(before));
        with(&bare(example_with("/request/user_agent", agent.clone().into())), |decoded| {
            let decoded = decoded.unwrap();
            let flags: Vec<_> = decoded.flags.iter().map(Flag::as_str).collect();
            assert_eq!(flags, ["masked", "cut"]);
            assert_eq!(decoded.leaks[0].token_ref, token_ref);
            let expected = agent.replace(&token, &format!("[masked:{token_ref}]"));
            assert_eq!(decoded.event.request.unwrap().user_agent.unwrap(), expected[..512]);
        });
    }
}

#[test]
fn what_is_rejected_is_masked_in_value_and_pointer() {
    let (token, token_ref) = jws(ES256);
    let value = format!(r#"{{"version":1,"a":{{"{token}":1,"{token}":"{token}"}}}}"#);
    with(&bare(value), |decoded| {
        let rejected = decoded.unwrap_err();
        let marker = format!("[masked:{token_ref}]");
        assert_eq!(rejected.field, format!("/a/{marker}"));
        let expected = format!(r#"{{"version":1,"a":{{"{marker}":1,"{marker}":"{marker}"}}}}"#);
        assert_eq!(String::from_utf8(rejected.masked).unwrap(), expected);
    });
    with(&bare("x".repeat(100_000)), |decoded| assert_eq!(decoded.unwrap_err().masked.len(), 32 * 1024));
}

#[test]
fn a_clear_jti_goes_no_further() {
    with(&bare(example_with("/token/jti", json!("a-clear-jti"))), |decoded| {
        assert!(!format!("{decoded:?}").contains("a-clear-jti"));
    });
}

/// Also after the event was written again, as it is to be brought home.
#[test]
fn a_token_sent_as_jti_is_told_and_the_rest_of_it_goes_no_further() {
    assert_eq!(leak_of(&[("/token/jti", json!("a-clear-TOKEN"))]), "/token/jti Token");
    let (token, token_ref) = jws(ES256);
    let record = bare(example_with("/token/jti", json!(format!("a-clear-jti {token}"))));
    let again = with(&record, |decoded| to_record(&decoded.unwrap().event));
    assert!(!String::from_utf8_lossy(&again.value).contains("a-clear-jti"));
    with(&again, |decoded| {
        let [leak] = decoded.unwrap().leaks.try_into().unwrap();
        assert_eq!((leak.field.as_str(), leak.owner), ("/token/jti", LeakOwner::Token));
        assert_eq!(leak.token_ref, token_ref);
    });
}

#[test]
fn a_dead_letter_shows_no_clear_jti() {
    let case = |value: &str, expected: &str| {
        let masked = with(&bare(value), |decoded| decoded.unwrap_err().masked);
        assert_eq!(String::from_utf8(masked).unwrap(), expected);
    };
    case(r#"{"token":{"jti":"a-jti","sub":"a"}}"#, r#"{"token":{"jti":"[masked]","sub":"a"}}"#);
    case(
        r#"{"jti" : "a \\\" \" b","jti":"c\\","d":"e"}"#,
        r#"{"jti" : "[masked]","jti":"[masked]\\","d":"e"}"#,
    );
    case(r#"{"\u006ati":"a-jti"}"#, r#"{"\u006ati":"[masked]"}"#);
    case("{\"jti\":\n12345 ,\"a\":1}", "{\"jti\":\n\"[masked]\",\"a\":1}");
    case(r#"{"jti":{"a":["}",{"b":"]"}]},"c":1}"#, r#"{"jti":"[masked]","c":1}"#);
    case(
        r#"{"jti":"","xjti":"a","jtix":"b","jti_ref":"c"}"#,
        r#"{"jti":"","xjti":"a","jtix":"b","jti_ref":"c"}"#,
    );
    case(r#"{"a":"jti","b":"c"}"#, r#"{"a":"jti","b":"c"}"#);
    // Broken off, in a string of JSON, in one within one, in a URL.
    case(r#"{"token":{"jti":"a-j"#, r#"{"token":{"jti":"[masked]"#);
    case(r#"{"token":{"jti":12"#, r#"{"token":{"jti":"[masked]""#);
    case(r#"{"data":"{\"jti\":\n\"a\\\"-jti\",\"a\":1}"}"#, r#"{"data":"{\"jti\":\n\"[masked]\",\"a\":1}"}"#);
    case(
        r#"{"a":"{\"b\":\"{\\\"jti\\\":\\\"a-jti\\\"}\"}"}"#,
        r#"{"a":"{\"b\":\"{\\\"jti\\\":\\\"[masked]\\\"}\"}"}"#,
    );
    case(r#"{"a":"%7B%22jti%22%3A%22a-jti%22%7D"}"#, r#"{"a":"%7B%22jti%22%3A%22[masked]%22%7D"}"#);
}
