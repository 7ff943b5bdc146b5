//! `token_leak` and `token_in_request`.

use expect_test::{Expect, expect};

use super::story::{cases, lines, outcome};
use crate::pipeline::detect::Rulebook;

fn check(story: &str, expected: Expect) {
    expected.assert_eq(&outcome(story, "token_", &Rulebook::default()));
}

#[test]
fn whose_field_it_was_decides() {
    for (words, expected) in [
        ("leak=token:/token/kid", expect!["token_leak  high/high edge-1 /token/kid"]),
        (
            "leak=token:/token/kid exp=0h verdict=expired rejected",
            expect!["token_leak  medium/high edge-1 /token/kid lowered by expired"],
        ),
        ("leak=gateway:/source/region", expect!["token_leak  medium/high edge-1 /source/region"]),
        (
            "leak=client:/request/user_agent",
            expect!["token_in_request alice low/high edge-1 /request/user_agent"],
        ),
        (
            "leak=client:/token/sub verdict=bad_signature rejected",
            expect!["token_in_request  low/high edge-1 /token/sub"],
        ),
        (
            "leak=client:/request/route leak=gateway:header:x-debug",
            expect![[r#"
            token_in_request alice low/high edge-1 /request/route
            token_leak  medium/high edge-1 header:x-debug"#]],
        ),
        (
            "",
            expect![[r#"
            not: nothing else is remembered to compare with
            not: no token-shaped text
            not: no token-shaped text"#]],
        ),
    ] {
        check(&format!("t+1m alice paris {words}"), expected);
    }
}

#[test]
fn a_leak_is_one_case_a_gateway_and_field() {
    check(
        "t+0m alice paris leak=token:/token/kid
         t+1m bob   paris leak=token:/token/kid
         t+2m bob   paris leak=token:/token/sid
         t+3m bob   paris leak=token:/token/kid gateway=edge-2",
        expect![[r#"
            token_leak  high/high edge-1 /token/kid
            token_leak  high/high edge-1 /token/sid
            token_leak  high/high edge-2 /token/kid"#]],
    );
}

#[test]
fn nobody_writes_findings_about_others() {
    let lines = lines("t+0m alice paris leak=client:/token/sub verdict=bad_signature rejected");
    let cases = cases(&lines, &Rulebook::default());
    assert_eq!((cases[0].sub.as_str(), cases[0].client_id.as_str()), ("", ""));
}

#[test]
fn a_thief_with_a_token_in_his_user_agent_is_still_judged() {
    let story = "t+0m  alice paris
                 t+40m alice tokyo device=- leak=client:/request/user_agent";
    expect![[r#"
        token_in_request alice low/high edge-1 /request/user_agent
        impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"#]]
    .assert_eq(&outcome(story, "", &Rulebook::default()));
}

#[test]
fn leaks_are_leaks_wherever_the_event_comes_from() {
    check(
        "t+0m alice paris leak=token:/token/kid zone=internal clamped kind=private",
        expect!["token_leak  high/high edge-1 /token/kid"],
    );
}
