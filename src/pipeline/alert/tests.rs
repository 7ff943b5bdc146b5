//! Who is told, when, and in what words; and that real alerts keep to their schema.

use std::net::IpAddr;

use expect_test::{Expect, expect, expect_file};
use serde_json::Value;

use super::*;
use crate::config::Suppression;
use crate::log::Topic;
use crate::model::{CaseState, LogId, Offset, PartitionId};
use crate::model::{RuleId, UnixMs};
use crate::pipeline::detect::tests::story::{self, T0};
use crate::pipeline::detect::{Detector, JUDGES, Rulebook, gateway_revisions};

/// Everything that a story leaves under a policy.
fn alerted(story: &str, policy: &Policy) -> (Vec<Finding>, Vec<Alert>) {
    let log = LogId::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap();
    let origin = Origin { log, topic: Topic::Events, partition: PartitionId(2) };
    let (mut findings, mut alerts) = (Vec::new(), Vec::new());
    let lines = story::lines(story);
    story::walk_into(&mut Detector::default(), &Rulebook::default(), &lines, |assessed| {
        let left = alert(assessed, policy, &origin);
        findings.extend(left.found.findings);
        alerts.extend(left.found.alerts);
    });
    (findings, alerts)
}

/// One line a step of `impossible_travel`, then what its last revision says.
fn check(story: &str, policy: &Policy, expected: Expect) {
    let travel = |rule: RuleId| rule == RuleId::ImpossibleTravel;
    let (findings, alerts) = alerted(story, policy);
    let mut told: Vec<String> = alerts
        .iter()
        .filter(|alert| travel(alert.data.finding.case.rule))
        .map(|alert| {
            let case = &alert.data.finding.case;
            format!("{} {} by record {}", alert.step, case.severity, case.revision)
        })
        .collect();
    if let Some(last) = findings.iter().rev().find(|finding| travel(finding.case.rule)) {
        let why = last.not_alerted.map_or("", NotAlerted::as_str);
        told.push(format!("alert: {} {why} {}", last.is_alert, last.suppressed_by).trim_end().to_owned());
    }
    expected.assert_eq(&told.join("\n"));
}

fn suppression(change: impl FnOnce(&mut Suppression)) -> Policy {
    let mut suppression = Suppression {
        name: "carol: known journeys".to_owned(),
        rule: RuleId::ImpossibleTravel,
        tenant: None,
        sub: None,
        client_id: None,
        gateway: None,
        cidr: None,
        expires: UnixMs::new(T0 + 24 * 3_600_000),
    };
    change(&mut suppression);
    Policy::new(&[suppression])
}

const HIGH: &str = "t+0m  alice paris
                    t+40m alice tokyo device=Safari";

#[test]
fn opened_once_and_raised_when_high_is_first_reached() {
    check(
        HIGH,
        &Policy::default(),
        expect![[r#"
        jwtrail.alert.opened high by record 1
        alert: true"#]],
    );
    check(
        "t+0m  alice paris
         t+20m alice tokyo kind=vpn
         t+40m alice tokyo
         t+50m alice tokyo
         t+60m alice tokyo device=Safari
         t+70m alice tokyo device=Safari",
        &Policy::default(),
        expect![[r#"
            jwtrail.alert.opened medium by record 2
            jwtrail.alert.raised high by record 4
            alert: true"#]],
    );
}

#[test]
fn what_is_too_weak_is_a_finding_with_its_reason() {
    check(
        "t+0m alice paris\nt+20m alice tokyo kind=vpn",
        &Policy::default(),
        expect!["alert: false severity"],
    );
}

#[test]
fn closing_a_case_tells_nobody() {
    check(
        &format!("{HIGH}\nt+40h bob paris"),
        &Policy::default(),
        expect![[r#"
        jwtrail.alert.opened high by record 1
        alert: true"#]],
    );
}

#[test]
fn all_that_a_suppression_names_must_fit() {
    let cidr = |text: &str| Some(text.parse().unwrap());
    for (policy, expected) in [
        (suppression(|_| ()), expect!["alert: false suppressed carol: known journeys"]),
        (
            suppression(|it| it.sub = Some("alice".to_owned())),
            expect!["alert: false suppressed carol: known journeys"],
        ),
        (
            suppression(|it| it.sub = Some("bob".to_owned())),
            expect![[r#"
            jwtrail.alert.opened high by record 1
            alert: true"#]],
        ),
        (
            suppression(|it| it.tenant = Some("acme".parse().unwrap())),
            expect!["alert: false suppressed carol: known journeys"],
        ),
        (
            suppression(|it| it.tenant = Some("other".parse().unwrap())),
            expect![[r#"
            jwtrail.alert.opened high by record 1
            alert: true"#]],
        ),
        (
            suppression(|it| it.client_id = Some("cli".to_owned())),
            expect![[r#"
            jwtrail.alert.opened high by record 1
            alert: true"#]],
        ),
        (
            suppression(|it| it.gateway = Some("edge-1".to_owned())),
            expect!["alert: false suppressed carol: known journeys"],
        ),
        (
            suppression(|it| it.cidr = cidr("198.51.100.0/24")),
            expect!["alert: false suppressed carol: known journeys"],
        ),
        (
            suppression(|it| it.cidr = cidr("203.0.113.0/24")),
            expect![[r#"
            jwtrail.alert.opened high by record 1
            alert: true"#]],
        ),
        (
            suppression(|it| it.rule = RuleId::TokenReplay),
            expect![[r#"
            jwtrail.alert.opened high by record 1
            alert: true"#]],
        ),
        (
            suppression(|it| it.expires = UnixMs::new(T0 + 40 * 60_000)),
            expect![[r#"
            jwtrail.alert.opened high by record 1
            alert: true"#]],
        ),
    ] {
        check(HIGH, &policy, expected);
    }
}

#[test]
fn a_case_that_outlives_its_suppression_opens() {
    let policy = suppression(|it| it.expires = UnixMs::new(T0 + 3_600_000));
    check(
        &format!("{HIGH}\nt+50m alice paris\nt+70m alice paris"),
        &policy,
        expect![[r#"
        jwtrail.alert.opened high by record 3
        alert: true"#]],
    );
}

#[test]
fn a_stronger_pair_elsewhere_is_not_muted_with_the_first() {
    let policy = suppression(|it| it.cidr = Some("203.0.113.0/24".parse().unwrap()));
    check(
        "t+0m  alice paris
         t+40m alice newyork
         t+80m alice tokyo device=Safari",
        &policy,
        expect![[r#"
            jwtrail.alert.opened high by record 2
            alert: true"#]],
    );
}

#[test]
fn the_block_on_the_terminal_says_it_all() {
    let (_, alerts) = alerted(HIGH, &Policy::default());
    let blocks: Vec<String> = alerts.iter().map(text_block).collect();
    expect![[r#"
        HIGH  impossible_travel  acme/alice
          from 00:00:00 Paris, FR ±20 km  192.0.2.7  AS64496 Paris Net (access)  Chrome on Windows
          to   00:40:00 Tokyo, JP ±20 km  198.51.100.7  AS64497 Tokyo Net (access)  Safari
          what Paris, FR to Tokyo, JP: 9712 km (9672 km after both radii) within 40 min, which needs 9.7 h; one session at both ends, another device
          why high, confidence high: one session at both ends, on two devices
          more jwtrail explain 173e0826-6fc4-8322-9696-6275ee953af3

        HIGH  token_replay  acme/alice
          from 00:00:00 Paris, FR ±20 km  192.0.2.7  AS64496 Paris Net (access)  Chrome on Windows
          to   00:40:00 Tokyo, JP ±20 km  198.51.100.7  AS64497 Tokyo Net (access)  Safari
          what Paris, FR (Paris Net), then Tokyo, JP (Tokyo Net): other device, other country
          why high, confidence medium: another device elsewhere
          more jwtrail explain 4f82fbe4-5514-8155-948a-86345239bb5c
    "#]].assert_eq(&blocks.join("\n"));
}

#[test]
fn names_from_tokens_reach_neither_the_terminal_nor_the_query_raw() {
    let mut lines = story::lines(HIGH);
    for line in &mut lines {
        line.sub = "al'ice\\\u{1b}[31m\n".to_owned();
    }
    let log = LogId::try_from("0".repeat(32)).unwrap();
    let origin = Origin { log, topic: Topic::Events, partition: PartitionId(0) };
    let mut alerts = Vec::new();
    story::walk_into(&mut Detector::default(), &Rulebook::default(), &lines, |assessed| {
        alerts.extend(alert(assessed, &Policy::default(), &origin).found.alerts);
    });
    for alert in &alerts {
        assert!(!text_block(alert).contains('\u{1b}'));
        assert!(alert.data.query.contains(r"sub = 'al\'ice\\"), "{}", alert.data.query);
        assert!(!alert.data.query.contains('\n'));
    }
    assert_eq!(alerts.len(), 2);
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(include_str!("../../../schemas/alerts/alert.v1.json")).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[track_caller]
fn assert_valid(alert: &Value) {
    let faults: Vec<String> = validator()
        .iter_errors(alert)
        .map(|fault| format!("{} at {}", fault, fault.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}\n{alert:#}");
}

#[test]
fn every_rules_alert_keeps_to_the_schema_and_is_read_back_as_written() {
    let stories = [
        HIGH,
        "t+0m alice paris leak=token:/token/kid",
        "t+0m alice paris\nt+1m alice tokyo\nt+2m alice newyork\nt+3m alice berlin\nt+4m alice madrid",
        "t+0m alice paris nowhere kind=hosting\nt+5m alice tokyo device=- kind=access\nt+6m alice paris nowhere kind=hosting",
    ];
    let mut rules = std::collections::BTreeSet::new();
    for story in stories {
        for alert in alerted(story, &Policy::default()).1 {
            rules.insert(alert.data.finding.case.rule);
            let written = serde_json::to_value(&alert).unwrap();
            assert_valid(&written);
            assert_eq!(serde_json::from_value::<Alert>(written).unwrap(), alert);
        }
    }
    let can_alert = RuleId::ALL[..JUDGES].iter().copied().filter(|rule| *rule != RuleId::TokenInRequest);
    assert_eq!(rules, can_alert.collect());
}

#[test]
fn the_example_is_a_real_alert() {
    let (_, alerts) =
        alerted("t+0m alice paris family=f1\nt+40m alice tokyo device=Safari family=f1", &Policy::default());
    let written = serde_json::to_string_pretty(&alerts[0]).unwrap() + "\n";
    expect_file!["../../../schemas/alerts/alert.v1.example.json"].assert_eq(&written);
    assert_valid(&serde_json::from_str(&written).unwrap());
}

#[test]
fn the_schema_refuses_what_is_no_alert() {
    let (_, alerts) = alerted(HIGH, &Policy::default());
    let good = serde_json::to_value(&alerts[0]).unwrap();
    for (pointer, bad) in [
        ("/type", Value::from("jwtrail.alert.closed")),
        ("/data/severity", Value::from("dire")),
        ("/data/is_alert", Value::from(false)),
        ("/data/finding_id", Value::from("1")),
        ("/data/ips", Value::from("192.0.2.7")),
        ("/data/query", Value::Null),
    ] {
        let mut alert = good.clone();
        *alert.pointer_mut(pointer).unwrap() = bad;
        assert!(!validator().is_valid(&alert), "{pointer}");
    }
}

#[test]
fn addresses_are_written_as_people_write_them() {
    let (_, alerts) = alerted(HIGH, &Policy::default());
    let ips = &alerts[0].data.finding.case.ips;
    assert_eq!(ips, &["192.0.2.7".parse::<IpAddr>().unwrap(), "198.51.100.7".parse().unwrap()]);
}

fn log() -> LogId {
    LogId::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap()
}

/// What the log lost, as an alert.
fn lost(from: i64, to: i64, policy: &Policy) -> Alert {
    let origin = Origin { log: log(), topic: Topic::Events, partition: PartitionId(3) };
    let at = |offset| Offset::new(offset).unwrap();
    log_truncated(&origin, at(from), at(to), UnixMs::new(T0), policy)
}

/// One of each of the findings that no record raises.
pub(in crate::pipeline) fn of_operations() -> [Alert; 3] {
    let origin = Origin { log: log(), topic: Topic::Alerts, partition: PartitionId(0) };
    let (since, state) = (UnixMs::new(T0), CaseState::Open);
    let given_up = GivenUp { destination: "soc", origin: &origin, since, kept: 2, state };
    let lost = lost(40, 100, &Policy::default());
    let storm = Storm {
        tenant: "acme".to_owned(),
        rule: RuleId::TokenReplay,
        network: Some("203.0.113.0/24".parse().unwrap()),
        begun_by: lost.data.finding.case.finding_id,
        log: log().to_string(),
        topic: Topic::Events.name().to_owned(),
        partition: 1,
        since,
        first_time: since,
        cases: 5,
        first: vec![lost.data.finding.case.finding_id],
        severity: Severity::Medium,
    };
    let storm = alert_storm(&storm, Step::Opened, state, Offset::ZERO, since);
    [lost, delivery_given_up(&given_up, UnixMs::new(T0 + 73 * 3_600_000), &Policy::default()), storm]
}

#[test]
fn a_finding_that_no_record_raises_keeps_to_the_schema_too() {
    let mut texts = String::new();
    for alert in of_operations() {
        let written = serde_json::to_value(&alert).unwrap();
        assert_valid(&written);
        assert_eq!(serde_json::from_value::<Alert>(written).unwrap(), alert);
        texts += &text_block(&alert).replace(&alert.data.finding.case.finding_id.to_string(), "ID");
    }
    expect![[r#"
        HIGH  log_truncated  _platform
          what partition 3 of jwtrail.events lost the offsets 40 up to 100
          why high, confidence high: what was not walked is not audited
          more jwtrail explain ID
        HIGH  delivery_given_up  _platform
          what soc did not take alerts of 2026-11-23 within 72 hours: they were given up, and so are those that follow as they get as old; `jwtrail deliver --retry` tries them again
          why high, confidence high: somebody was not told
          more jwtrail explain ID
        MEDIUM  alert_storm  acme
          what 5 cases of token_replay since 2026-11-23T00:00:00.000Z, their far end in 203.0.113.0/24; those that follow are not told one by one while it lasts
          why medium, confidence high: more cases at once than anyone can read
          more jwtrail explain ID
    "#]]
    .assert_eq(&texts);
}

#[test]
fn the_same_trouble_is_the_same_case_and_the_next_one_another() {
    let id = |from, to| lost(from, to, &Policy::default()).data.finding.case.finding_id;
    assert_eq!(id(40, 100), id(40, 120), "found again by the next owner, when more was gone");
    assert_ne!(id(40, 100), id(150, 200));
}

#[test]
fn a_suppression_mutes_a_finding_of_operations_too() {
    let muted = |tenant: Option<&str>| {
        let policy = suppression(|it| {
            it.rule = RuleId::LogTruncated;
            it.tenant = tenant.map(|tenant| tenant.parse().unwrap());
        });
        lost(40, 100, &policy).data.finding
    };
    assert!(!muted(None).is_alert);
    assert_eq!(muted(None).not_alerted, Some(crate::model::NotAlerted::Suppressed));
    assert!(muted(Some("acme")).is_alert);
}

/// What gateways did, as the second walk tells it.
#[test]
fn the_alerts_of_gateways_keep_to_the_schema_and_ask_for_what_the_gateway_sent() {
    let log = LogId::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap();
    let origin = Origin { log, topic: Topic::Summaries, partition: PartitionId(0) };
    let stories = [
        "t+0m p0
         t+2m p0 edge-1/e'1 events=90 beat=100
         t+12m p0 edge-1/e'1 beat=100",
        "t+0s p0 edge-1/e1 beat=0\nt+45s p0\nt+90s p0",
        "t+10m p0 edge-1/ uses=200 private=200 off=200\nt+60m p0",
    ];
    let mut told = Vec::new();
    for story in stories {
        for alert in judge(gateway_revisions(story), &Policy::default(), &origin).alerts {
            let written = serde_json::to_value(&alert).unwrap();
            assert_valid(&written);
            assert_eq!(serde_json::from_value::<Alert>(written).unwrap(), alert);
            let text = text_block(&alert).replace(&alert.data.finding.case.finding_id.to_string(), "ID");
            told.push(format!("{text}  {}\n  would revoke {}", alert.data.query, alert.data.would_revoke));
        }
    }
    expect![[r#"
        HIGH  audit_gap  _platform/edge-1
          what By 2026-11-23T00:02:00.000Z edge-1 had counted 100 events of its epoch e'1 (0 of them given up). 10 of them are not in the log.
          why high, confidence high: a hundredth of what it counted, or 1,000 events, within an hour
          more jwtrail explain ID
          SELECT toStartOfMinute(time) AS minute, count() AS events, min(source_seq) AS first_seq, max(source_seq) AS last_seq FROM jwtrail.events WHERE gateway = 'edge-1' AND source_epoch = 'e\'1' AND received_at BETWEEN toDateTime64('2026-11-23 00:02:00.000', 3, 'UTC') - INTERVAL 1 HOUR AND toDateTime64('2026-11-23 00:02:00.000', 3, 'UTC') + INTERVAL 1 HOUR GROUP BY minute ORDER BY minute
          would revoke nothing
        HIGH  gateway_silent  _platform/edge-1
          what Nothing was heard of edge-1 since 2026-11-23T00:00:00.000Z, nor of any other gateway of the zone edge.
          why high, confidence high: a whole zone is silent
          more jwtrail explain ID
          SELECT received_at, time, kind, tenant, source_epoch, source_seq, status FROM jwtrail.events WHERE gateway = 'edge-1' AND received_at BETWEEN toDateTime64('2026-11-23 00:01:30.000', 3, 'UTC') - INTERVAL 1 HOUR AND toDateTime64('2026-11-23 00:01:30.000', 3, 'UTC') + INTERVAL 1 HOUR ORDER BY received_at DESC LIMIT 100
          would revoke nothing
        MEDIUM  gateway_misses_client_ip  _platform/edge-1
          what 200 of 200 uses at the edge that edge-1 reported within an hour have a private address, or one of a content delivery network, where the client's should be: the rules of place cannot see them.
          why medium, confidence high: at least half of an hour
          more jwtrail explain ID
          SELECT received_at, ip, peer_ip, network_kind, as_org, route FROM jwtrail.events WHERE gateway = 'edge-1' AND received_at BETWEEN toDateTime64('2026-11-23 00:00:00.000', 3, 'UTC') - INTERVAL 1 HOUR AND toDateTime64('2026-11-23 00:00:00.000', 3, 'UTC') + INTERVAL 1 HOUR ORDER BY received_at LIMIT 100
          would revoke nothing
        MEDIUM  gateway_clock_skew  _platform/edge-1
          what 200 of 200 uses at the edge that edge-1 reported within an hour have a time that is more than a minute from when they arrived.
          why medium, confidence high: at least half of an hour
          more jwtrail explain ID
          SELECT received_at, time, claimed_time, dateDiff('second', ifNull(claimed_time, time), received_at) AS behind_s FROM jwtrail.events WHERE gateway = 'edge-1' AND received_at BETWEEN toDateTime64('2026-11-23 00:00:00.000', 3, 'UTC') - INTERVAL 1 HOUR AND toDateTime64('2026-11-23 00:00:00.000', 3, 'UTC') + INTERVAL 1 HOUR ORDER BY abs(behind_s) DESC LIMIT 100
          would revoke nothing"#]].assert_eq(&told.join("\n"));
}
