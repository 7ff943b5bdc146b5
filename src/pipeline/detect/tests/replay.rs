//! `token_replay` and `shared_token`, line by line of DETECTION.

use expect_test::{Expect, expect};

use super::story::outcome;
use crate::pipeline::detect::Rulebook;

fn check(story: &str, expected: Expect) {
    expected.assert_eq(&outcome(story, "token_replay", &Rulebook::default()));
}

#[test]
fn another_device_in_another_country_is_high() {
    check(
        "t+0m  alice paris
         t+40m alice tokyo device=Safari",
        expect!["token_replay alice high/medium dev+country"],
    );
}
