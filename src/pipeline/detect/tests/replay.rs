//! `token_replay` and `shared_token`, line by line of DETECTION.

use expect_test::{Expect, expect};

use super::story::{outcome, rulebook};
use crate::pipeline::detect::Rulebook;

fn check(story: &str, expected: Expect) {
    expected.assert_eq(&outcome(story, "token_replay", &Rulebook::default()));
}

fn check_shared(story: &str, expected: Expect) {
    expected.assert_eq(&outcome(story, "shared_token", &Rulebook::default()));
}

#[test]
fn another_device_in_another_country_or_class_is_high() {
    for (second, expected) in [
        ("tokyo device=Safari", expect!["token_replay alice high/medium dev+country"]),
        ("lyon device=Safari kind=hosting", expect!["token_replay alice high/medium dev+class"]),
        ("tokyo device=Safari kind=vpn", expect!["token_replay alice high/medium dev+class+country"]),
    ] {
        check(&format!("t+0m alice paris\nt+40m alice {second}"), expected);
    }
}

#[test]
fn an_origin_that_comes_back_makes_it_certain() {
    check(
        "t+0m  alice paris
         t+10m alice tokyo device=Safari
         t+20m alice paris",
        expect!["token_replay alice high/high dev+country+overlap"],
    );
    // Whatever the order of arrival.
    check(
        "t+20m alice paris
         t+0m  alice paris
         t+10m alice tokyo device=Safari",
        expect!["token_replay alice high/high dev+country+overlap"],
    );
}

#[test]
fn one_device_that_moves_is_silent_and_one_that_is_in_two_countries_is_not() {
    check(
        "t+0m  alice paris
         t+10m alice tokyo",
        expect!["not: moved once, and no second device was seen"],
    );
    check(
        "t+0m  alice paris
         t+10m alice tokyo
         t+20m alice paris",
        expect!["token_replay alice medium/medium country+overlap"],
    );
    check(
        "t+0m  alice lille
         t+10m alice lyon kind=hosting
         t+20m alice lille",
        expect!["token_replay alice medium/medium class+overlap"],
    );
}

#[test]
fn a_device_alone_is_low() {
    check(
        "t+0m alice paris\nt+5m alice paris device=Safari",
        expect!["token_replay alice low/low dev lowered by device_alone"],
    );
    check(
        "t+0m alice lille\nt+5m alice nice device=Safari",
        expect!["token_replay alice low/low dev lowered by device_alone"],
    );
    check("t+0m alice lille\nt+5m alice nice", expect!["not: same country, network class and device"]);
}

#[test]
fn an_unknown_device_does_not_differ_and_caps_at_medium() {
    check(
        "t+0m alice paris\nt+5m alice tokyo device=-",
        expect!["not: moved once, and no second device was seen"],
    );
    check(
        "t+0m alice paris\nt+5m alice tokyo device=-\nt+9m alice paris",
        expect!["token_replay alice medium/medium country+overlap"],
    );
    check(
        "t+0m alice paris device=-\nt+5m alice tokyo device=-\nt+9m alice paris device=-",
        expect!["token_replay alice medium/medium country+overlap"],
    );
}

#[test]
fn a_hidden_network_with_the_same_device_is_low() {
    check(
        "t+0m alice paris\nt+5m alice newyork kind=relay\nt+9m alice paris",
        expect!["token_replay alice low/low class+country+overlap lowered by hidden_network"],
    );
    check(
        "t+0m alice paris\nt+5m alice newyork kind=vpn device=-\nt+9m alice paris",
        expect!["token_replay alice medium/medium class+country+overlap"],
    );
}

#[test]
fn a_bound_token_proved_at_both_ends_is_silent() {
    let story = |second: &str| {
        format!("t+0m alice paris proved\nt+5m alice tokyo device=Safari {second}\nt+9m alice paris proved")
    };
    check(&story("proved"), expect!["not: the key that the token is bound to was shown at both ends"]);
    check(&story(""), expect!["token_replay alice high/high dev+country+overlap"]);
}

#[test]
fn one_use_without_the_key_is_enough_to_lose_the_proof() {
    check(
        "t+0m alice paris proved
         t+1m alice paris
         t+2m alice paris proved
         t+5m alice tokyo device=Safari proved",
        expect!["token_replay alice high/medium dev+country"],
    );
}

#[test]
fn kin_are_one_origin() {
    for (story, expected) in [
        // Wi-Fi, LTE, Wi-Fi.
        (
            "t+0m alice lille\nt+5m alice nice kind=mobile\nt+9m alice lille",
            expect!["not: same country, network class and device"],
        ),
        // A carrier on both sides of a border is not kin, but dual stack is.
        (
            "t+0m alice paris asn=64511\nt+5m alice berlin asn=64511\nt+9m alice paris asn=64511",
            expect!["not: same origin"],
        ),
        (
            "t+0m alice lille asn=64511\nt+5m alice berlin asn=64511\nt+9m alice lille asn=64511",
            expect!["token_replay alice medium/medium country+overlap"],
        ),
        // A neighbour in the same /24 whose geo entry moved.
        ("t+0m alice paris\nt+5m alice tokyo ip=192.0.2.9\nt+9m alice paris", expect!["not: same origin"]),
    ] {
        check(story, expected);
    }
}

#[test]
fn company_egress_with_the_same_device_is_low() {
    let rules = rulebook();
    let story = |device: &str| {
        format!("t+0m alice berlin\nt+5m alice tokyo ip=203.0.113.130 {device}\nt+9m alice berlin")
    };
    expect!["token_replay alice low/low country+overlap lowered by company_egress"].assert_eq(&outcome(
        &story(""),
        "token_replay",
        &rules,
    ));
    expect!["token_replay alice high/high dev+country+overlap"].assert_eq(&outcome(
        &story("device=Safari"),
        "token_replay",
        &rules,
    ));
}

#[test]
fn eligible_as_for_travel_but_without_a_place() {
    for (words, expected) in [
        ("nowhere kind=hosting", expect!["token_replay alice high/medium dev+class"]),
        ("zone=internal", expect!["not eligible: zone internal"]),
        ("client=alice", expect!["not eligible: the subject is a client"]),
        ("token=-", expect!["not: the event names no token"]),
        ("verdict=bad_signature", expect!["not eligible: no gateway found the signature good"]),
        ("kind=cdn", expect!["not eligible: a cdn address is no origin"]),
        ("token=other", expect!["not: nothing else is remembered to compare with"]),
        ("tenant=other", expect!["not: nothing else is remembered to compare with"]),
    ] {
        check(&format!("t+0m alice paris\nt+5m alice tokyo device=Safari {words}"), expected);
    }
}

#[test]
fn a_server_side_caller_alerts_unless_it_is_declared() {
    let story = "t+0m alice paris client=shop
                 t+1m alice newyork kind=hosting device=- client=shop
                 t+2m alice paris client=shop";
    check(story, expect!["token_replay alice medium/medium class+country+overlap"]);
    expect!["not: nothing else is remembered to compare with"].assert_eq(&outcome(
        story,
        "token_replay",
        &rulebook(),
    ));
}

#[test]
fn a_token_is_remembered_until_it_expires() {
    for (story, expected) in [
        (
            "t+0h alice paris exp=1h\nt+50m alice tokyo device=Safari exp=1h",
            expect!["token_replay alice high/medium dev+country"],
        ),
        (
            "t+0h alice paris exp=1h\nt+2h alice tokyo device=Safari exp=1h rejected verdict=expired",
            expect!["not: nothing else is remembered to compare with"],
        ),
        (
            "t+0h alice paris\nt+23h alice tokyo device=Safari",
            expect!["token_replay alice high/medium dev+country"],
        ),
        (
            "t+0h alice paris\nt+25h alice tokyo device=Safari",
            expect!["not: nothing else is remembered to compare with"],
        ),
    ] {
        check(story, expected);
    }
}

#[test]
fn five_independent_origins_share_a_token() {
    check_shared(
        "t+0m alice paris
         t+1m alice tokyo
         t+2m alice newyork
         t+3m alice berlin
         t+4m alice madrid",
        expect!["shared_token alice medium/high 5 origins"],
    );
    check_shared(
        "t+0m alice paris
         t+1m alice tokyo
         t+2m alice newyork
         t+3m alice berlin
         t+4m alice nice",
        expect!["not: 4 of 5 independent origins"],
    );
}
