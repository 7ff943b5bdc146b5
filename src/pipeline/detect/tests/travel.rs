//! `impossible_travel`, line by line of DETECTION.

use expect_test::{Expect, expect};

use super::story::outcome;
use crate::pipeline::detect::Rulebook;

fn check(story: &str, expected: Expect) {
    check_with(&Rulebook::default(), story, expected);
}

fn check_with(rules: &Rulebook, story: &str, expected: Expect) {
    expected.assert_eq(&outcome(story, "impossible_travel", rules));
}

#[test]
fn two_far_places_in_too_short_a_time() {
    check(
        "t+0m  alice paris
         t+40m alice tokyo",
        expect!["impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"],
    );
}

#[test]
fn one_token_on_another_device_far_away_is_high() {
    check(
        "t+0m  alice paris
         t+40m alice tokyo device=Safari",
        expect!["impossible_travel alice high/high 9712 km in 40 min, needs 9.7 h"],
    );
}

#[test]
fn time_enough_is_silent() {
    check(
        "t+0h  alice paris
         t+10h alice tokyo",
        expect!["not: 9672 km in 10.0 h can be travelled"],
    );
}
