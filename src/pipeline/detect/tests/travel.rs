//! `impossible_travel`, line by line of DETECTION.

use expect_test::{Expect, expect};

use super::story::{outcome, rulebook};
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
fn radii_that_are_guessed_shorten_the_way_and_weaken_the_proof() {
    check(
        "t+0m  alice paris radius=419 guessed
         t+40m alice tokyo radius=347 guessed",
        expect!["impossible_travel alice medium/medium 9712 km in 40 min, needs 8.9 h"],
    );
}

#[test]
fn proof_is_strong_where_three_times_the_gap_would_not_do() {
    check(
        "t+0h  alice paris
         t+4h  alice newyork",
        expect!["impossible_travel alice medium/medium 5837 km in 240 min, needs 5.8 h"],
    );
}

#[test]
fn the_limit_is_speed_and_ten_minutes() {
    // 838 km after both radii: 50.3 minutes; the gap counts as whole minutes and one more, and ten are granted.
    check(
        "t+0m  alice paris
         t+39m alice berlin",
        expect!["impossible_travel alice medium/medium 877 km in 39 min, needs 0.8 h"],
    );
    check(
        "t+0m  alice paris
         t+40m alice berlin",
        expect!["not: 837 km in 41 min can be travelled"],
    );
}

#[test]
fn less_than_300_km_says_nothing() {
    check(
        "t+0m  alice paris ip=2001:db8:9::1
         t+0m  alice lille",
        expect!["not: 164 km in 60 s can be travelled"],
    );
    check(
        "t+0m  alice lille
         t+0m  alice lyon radius=300",
        expect!["not: 237 km in 60 s can be travelled"],
    );
}

#[test]
fn a_stay_has_no_hole_in_which_a_journey_would_fit() {
    // 351 km after both radii: 21.1 minutes, of which ten are granted, one is the clock's, and 14 lie between.
    check(
        "t+0m    alice lyon
         t+1740s alice lyon
         t+870s  alice paris ip=2001:db8:9::1 device=Safari",
        expect!["not: 351 km in 15 min can be travelled"],
    );
}

#[test]
fn nothing_older_than_20_hours_matters() {
    check(
        "t+0h  alice paris
         t+20h alice sydney",
        expect!["not: 16920 km in 20.0 h can be travelled"],
    );
}

#[test]
fn the_same_instant_is_concurrent() {
    check(
        "t+5m alice paris
         t+5m alice tokyo",
        expect!["impossible_travel alice medium/high 9712 km at once, needs 9.7 h"],
    );
}

#[test]
fn there_and_back_is_one_case() {
    check(
        "t+0m  alice paris
         t+30m alice tokyo
         t+60m alice paris",
        expect!["impossible_travel alice medium/high 9712 km in 30 min, needs 9.7 h"],
    );
}

#[test]
fn a_late_arrival_is_compared_with_what_came_before_and_after_it() {
    check(
        "t+0h  alice tokyo
         t+10h alice paris
         t+9h  alice paris token=t2",
        expect!["impossible_travel alice medium/medium 9712 km in 540 min, needs 9.7 h"],
    );
    check(
        "t+5h alice paris
         t+4h alice tokyo",
        expect!["impossible_travel alice medium/high 9712 km in 60 min, needs 9.7 h"],
    );
}

#[test]
fn every_remembered_use_is_compared_not_the_last_alone() {
    check(
        "t+0m  alice tokyo
         t+30m alice paris kind=vpn
         t+60m alice paris",
        expect!["impossible_travel alice medium/high 9712 km in 60 min, needs 9.7 h"],
    );
}

#[test]
fn one_session_at_both_ends_is_high_if_the_device_differs() {
    let ends = |from: &str, to: &str| format!("t+0m alice paris {from}\nt+40m alice tokyo {to}");
    for (from, to, expected) in [
        (
            "token=t",
            "token=t device=Safari",
            expect!["impossible_travel alice high/high 9712 km in 40 min, needs 9.7 h"],
        ),
        (
            "token=t1 family=f",
            "token=t2 family=f device=Safari",
            expect!["impossible_travel alice high/high 9712 km in 40 min, needs 9.7 h"],
        ),
        (
            "token=t1 sid=s",
            "token=t2 sid=s device=Safari",
            expect!["impossible_travel alice high/high 9712 km in 40 min, needs 9.7 h"],
        ),
        (
            "token=t1",
            "token=t2 device=Safari",
            expect!["impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"],
        ),
        ("token=t", "token=t", expect!["impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"]),
        (
            "token=t",
            "token=t device=-",
            expect!["impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"],
        ),
        (
            "ja4=t13d1516h2_8daaf6152771_e5627efa2ab1",
            "ja4=t13d1516h2_aaaaf6152771_e5627efa2ab1",
            expect!["impossible_travel alice high/high 9712 km in 40 min, needs 9.7 h"],
        ),
        (
            "ja4=t13d1516h2_8daaf6152771_e5627efa2ab1",
            "ja4=t13d1517h2_8daaf6152771_aaaa7efa2ab1",
            expect!["impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"],
        ),
        (
            "ja4=t13d1516h2_8daaf6152771_e5627efa2ab1",
            "ja4=q13d0310h3_55b375c5d22e_cd85d2d88918",
            expect!["impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"],
        ),
    ] {
        check(&ends(from, to), expected);
    }
}

#[test]
fn each_downgrade_has_a_name() {
    let ends =
        |from: &str, to: &str| format!("t+0m alice paris {from}\nt+40m alice tokyo device=Safari {to}");
    for (from, to, expected) in [
        (
            "",
            "kind=vpn",
            expect![
                "impossible_travel alice low/low 9712 km in 40 min, needs 9.7 h lowered by hidden_network"
            ],
        ),
        (
            "kind=relay",
            "",
            expect![
                "impossible_travel alice low/low 9712 km in 40 min, needs 9.7 h lowered by hidden_network"
            ],
        ),
        (
            "",
            "kind=tor",
            expect![
                "impossible_travel alice low/low 9712 km in 40 min, needs 9.7 h lowered by hidden_network"
            ],
        ),
        (
            "",
            "kind=satellite",
            expect![
                "impossible_travel alice low/low 9712 km in 40 min, needs 9.7 h lowered by satellite_network"
            ],
        ),
        (
            "",
            "kind=hosting",
            expect![
                "impossible_travel alice low/low 9712 km in 40 min, needs 9.7 h lowered by hosting_network"
            ],
        ),
        (
            "asn=64511",
            "asn=64511",
            expect!["impossible_travel alice low/low 9712 km in 40 min, needs 9.7 h lowered by same_asn"],
        ),
        (
            "unconfirmed",
            "",
            expect![
                "impossible_travel alice low/low 9712 km in 40 min, needs 9.7 h lowered by country_unconfirmed"
            ],
        ),
        (
            "unconfirmed",
            "kind=hosting",
            expect![
                "impossible_travel alice low/low 9712 km in 40 min, needs 9.7 h lowered by hosting_network, country_unconfirmed"
            ],
        ),
    ] {
        check(&ends(from, to), expected);
    }
}

#[test]
fn within_a_country_both_places_must_know_their_own_small_radius() {
    let ends = |words: &str| format!("t+0m alice lille\nt+20m alice nice device=Safari {words}");
    for (words, expected) in [
        ("", expect!["impossible_travel alice high/medium 832 km in 20 min, needs 0.8 h"]),
        ("radius=200", expect!["impossible_travel alice high/medium 832 km in 20 min, needs 0.6 h"]),
        (
            "radius=201",
            expect!["impossible_travel alice low/low 832 km in 20 min, needs 0.6 h lowered by same_country"],
        ),
        (
            "guessed",
            expect!["impossible_travel alice low/low 832 km in 20 min, needs 0.8 h lowered by same_country"],
        ),
    ] {
        check(&ends(words), expected);
    }
}

#[test]
fn kin_are_one_origin() {
    for (story, expected) in [
        // A carrier renumbers its users within a country.
        ("t+0m alice lille asn=64511\nt+5m alice nice asn=64511", expect!["not: same origin"]),
        // The overlay's label.
        ("t+0m alice paris label=hq\nt+5m alice tokyo label=hq", expect!["not: same origin"]),
        // The same address, or its neighbour, whose geo entry moved.
        (
            "t+0m alice paris kind=hosting\nt+5m alice tokyo kind=hosting ip=192.0.2.200",
            expect!["not: same origin"],
        ),
        (
            "t+0m alice paris ip=2001:db8:9::1\nt+5m alice tokyo ip=2001:db8:9:ff::1",
            expect!["not: same origin"],
        ),
        // Two stacks of one device.
        (
            "t+0m alice paris asn=64511\nt+5m alice tokyo asn=64511 ip=2001:db8:9::1",
            expect!["not: same origin"],
        ),
        ("t+0m alice nice\nt+5m alice lille ip=192.0.2.9", expect!["not: same origin"]),
        (
            "t+0m alice nice\nt+5m alice lille ip=192.0.2.9 device=Safari",
            expect!["impossible_travel alice high/high 832 km in 5 min, needs 0.8 h"],
        ),
        // Two mobile networks of a country, one device.
        ("t+0m alice lille kind=mobile\nt+5m alice nice kind=mobile", expect!["not: same origin"]),
        (
            "t+0m alice lille kind=mobile\nt+5m alice nice kind=mobile device=-",
            expect!["impossible_travel alice medium/high 832 km in 5 min, needs 0.8 h"],
        ),
    ] {
        check(story, expected);
    }
}

#[test]
fn declared_egress_and_company_networks_are_silent() {
    let rules = rulebook();
    check_with(
        &rules,
        "t+0m alice paris ip=198.51.100.130\nt+5m alice tokyo ip=203.0.113.130",
        expect!["not: same origin"],
    );
    check_with(
        &rules,
        "t+0m alice berlin\nt+5m alice tokyo ip=203.0.113.130",
        expect!["not: company egress"],
    );
    check_with(
        &rules,
        "t+0m alice berlin\nt+5m alice tokyo ip=203.0.113.130 tenant=acme",
        expect!["not: company egress"],
    );
    check_with(
        &rules,
        "t+0m alice berlin tenant=other\nt+5m alice tokyo ip=203.0.113.130 tenant=other",
        expect!["impossible_travel alice medium/high 8916 km in 5 min, needs 8.9 h"],
    );
    check("t+0m alice berlin\nt+5m alice tokyo kind=company", expect!["not: company egress"]);
}

#[test]
fn only_a_users_own_verified_uses_at_the_edge_are_eligible() {
    let ends = |words: &str| format!("t+0m alice paris\nt+40m alice tokyo {words}");
    for (words, expected) in [
        ("zone=internal", expect!["not eligible: zone internal"]),
        ("verdict=bad_signature rejected", expect!["not eligible: no gateway found the signature good"]),
        ("verdict=unspecified", expect!["not eligible: no gateway found the signature good"]),
        ("verdict=opaque", expect!["not eligible: no gateway found the signature good"]),
        (
            "verdict=expired rejected",
            expect!["impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"],
        ),
        (
            "verdict=wrong_audience rejected",
            expect!["impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h"],
        ),
        ("clamped", expect!["not eligible: its time was clamped"]),
        ("kind=cdn", expect!["not eligible: a cdn address is no origin"]),
        ("kind=private", expect!["not eligible: a private address is no origin"]),
        ("nowhere", expect!["not: no file and no overlay places the address"]),
        ("client=alice", expect!["not eligible: the subject is a client"]),
    ] {
        check(&ends(words), expected);
    }
}

#[test]
fn client_subjects_are_known_by_preset_or_pattern() {
    let rules = rulebook();
    for (sub, iss, expected) in [
        (
            "service-account-billing",
            "https://keycloak.example",
            expect!["not eligible: the subject is a client"],
        ),
        ("x1@clients", "https://auth0.example", expect!["not eligible: the subject is a client"]),
        ("svc-billing", "https://own.example", expect!["not eligible: the subject is a client"]),
        ("billing", "https://entra.example idtyp=app", expect!["not eligible: the subject is a client"]),
        ("0oa1", "https://okta.example cid=0oa1", expect!["not eligible: the subject is a client"]),
        (
            "00u1",
            "https://okta.example cid=0oa1",
            expect!["impossible_travel 00u1 medium/high 9712 km in 5 min, needs 9.7 h"],
        ),
        (
            "billing",
            "https://own.example",
            expect!["impossible_travel billing medium/high 9712 km in 5 min, needs 9.7 h"],
        ),
    ] {
        let story = format!("t+0m {sub} paris iss={iss}\nt+5m {sub} tokyo iss={iss}");
        check_with(&rules, &story, expected);
    }
}

#[test]
fn a_declared_backend_is_the_clients_origin_not_the_subjects() {
    let rules = rulebook();
    for (words, expected) in [
        ("client=shop", expect!["not: the address is a declared backend of the client"]),
        (
            "client=other-shop",
            expect![
                "impossible_travel alice low/low 5837 km in 1 min, needs 5.8 h lowered by hosting_network"
            ],
        ),
        (
            "client=shop asn=64510 ip=2001:db8:77::1",
            expect!["not: the address is a declared backend of the client"],
        ),
    ] {
        check_with(
            &rules,
            &format!("t+0m alice paris client=shop\nt+1m alice newyork kind=hosting {words}"),
            expected,
        );
    }
}

#[test]
fn a_subject_is_its_tenants_and_its_issuers() {
    check(
        "t+0m alice paris\nt+5m alice tokyo tenant=other",
        expect!["not: nothing else is remembered to compare with"],
    );
    check(
        "t+0m alice paris\nt+5m alice tokyo iss=https://b.example",
        expect!["not: nothing else is remembered to compare with"],
    );
    check_with(
        &rulebook(),
        "t+0m alice paris iss=https://eu.example\nt+5m alice tokyo iss=https://us.example",
        expect!["impossible_travel alice medium/high 9712 km in 5 min, needs 9.7 h"],
    );
}

/// A user at home in two cities, a day here and a day there.
const COMMUTER: &str = "
    t+10h  alice paris
    t+34h  alice tokyo
    t+58h  alice paris
    t+82h  alice tokyo
    t+106h alice paris
    t+130h alice tokyo";

#[test]
fn both_origins_usual_lower() {
    check(
        &format!(
            "{COMMUTER}
             t+154h alice paris token=t2
             t+155h alice tokyo token=t3"
        ),
        expect!["impossible_travel alice low/low 9712 km in 60 min, needs 9.7 h lowered by usual_origins"],
    );
    // A third place is not usual, and a third day of the second has not been yet.
    check(
        &format!(
            "{COMMUTER}
             t+154h alice paris token=t2
             t+155h alice newyork token=t3"
        ),
        expect!["impossible_travel alice medium/high 5837 km in 60 min, needs 5.8 h"],
    );
    check(
        &format!(
            "{COMMUTER}
             t+131h alice paris token=t2"
        ),
        expect!["impossible_travel alice medium/high 9712 km in 60 min, needs 9.7 h"],
    );
}

#[test]
fn a_day_is_usual_ten_minutes_after_it_is_over() {
    // The third day of both ends at t+144h.
    let night = |minutes: i64| {
        format!(
            "{COMMUTER}
             t+{}m alice tokyo token=t2
             t+{}m alice paris token=t3",
            143 * 60,
            144 * 60 + minutes
        )
    };
    check(&night(10), expect!["impossible_travel alice medium/high 9712 km in 70 min, needs 9.7 h"]);
    check(
        &night(11),
        expect!["impossible_travel alice low/low 9712 km in 71 min, needs 9.7 h lowered by usual_origins"],
    );
}

#[test]
fn being_refused_somewhere_is_no_habit() {
    check(
        &format!(
            "{}
             t+154h alice paris token=t2
             t+155h alice tokyo token=t3",
            COMMUTER.replace("tokyo", "tokyo rejected")
        ),
        expect!["impossible_travel alice medium/high 9712 km in 60 min, needs 9.7 h"],
    );
}

#[test]
fn what_was_usual_a_month_ago_is_not() {
    check(
        &format!(
            "{COMMUTER}
             t+850h alice paris token=t2 exp=900h
             t+851h alice tokyo token=t3 exp=900h"
        ),
        expect!["impossible_travel alice medium/high 9712 km in 60 min, needs 9.7 h"],
    );
}

#[test]
fn what_becomes_usual_while_stays_last_lowers_nothing_in_any_order() {
    // The third day of Tokyo counts from t+8650m on: for the later uses of both stays, and not for the earlier ones.
    let stays = ["8648m alice paris", "8649m alice tokyo", "8651m alice tokyo", "8655m alice paris"];
    for order in [[0, 1, 2, 3], [2, 3, 0, 1], [3, 2, 1, 0]] {
        let uses = order.map(|index| format!("t+{} token=t{index}", stays[index]));
        let told =
            outcome(&format!("{COMMUTER}\n{}", uses.join("\n")), "impossible_travel", &Rulebook::default());
        assert!(told.starts_with("impossible_travel alice medium/high"), "{order:?}: {told}");
    }
}
