//! Storms as stories.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::deliver::tests::alert_with_id;

/// A reader of the outbox, and what it has been given.
#[derive(Default)]
struct Reader {
    storms: Storms,
    said: Vec<String>,
    next: i64,
}

impl Reader {
    /// `t+SECONDS COUNT SEVERITY` and, as wanted, `tenant=NAME`, `far=ADDRESS`, `again=NUMBER` (the step is of that case,
    /// not of a new one): so many alerts, taken by the log at that time.
    fn read(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let time: i64 = words.next().unwrap().strip_prefix("t+").unwrap().parse().unwrap();
        let count: u32 = words.next().unwrap().parse().unwrap();
        let severity = words.next().unwrap();
        let named: HashMap<_, _> = words.map(|word| word.split_once('=').unwrap()).collect();
        for _ in 0..count {
            let number = self.next;
            self.next += 1;
            let case = named.get("again").map_or(number, |again| again.parse().unwrap());
            let text = alert_with_id(u32::try_from(case).unwrap(), severity);
            let mut alert: Alert = serde_json::from_str(&text).unwrap();
            let told_of = &mut alert.data.finding.case;
            (*named.get("tenant").unwrap_or(&"acme")).clone_into(&mut told_of.tenant);
            if let Some(far) = named.get("far") {
                told_of.evidence = json!({ "to": { "ip": far } });
            }
            let said = match self.storms.judge(Offset::new(number).unwrap(), at(time), &alert) {
                Telling::Single => "told".to_owned(),
                Telling::Grouped => "grouped".to_owned(),
                Telling::Storm(storm) => say(&storm),
            };
            self.say(said);
        }
    }

    /// The same again is counted.
    fn say(&mut self, said: String) {
        let last = self.said.last_mut().and_then(|last| {
            let (count, what) = last.split_once(" × ")?;
            (what == said).then(|| count.parse::<u32>().ok()).flatten().map(|count| (last, count))
        });
        match last {
            Some((last, count)) => *last = format!("{} × {said}", count + 1),
            None => self.said.push(format!("1 × {said}")),
        }
    }
}

fn at(seconds: i64) -> UnixMs {
    UnixMs::new(1_795_428_000_000 + 1_000 * seconds)
}

fn say(storm: &Alert) -> String {
    let case = &storm.data.finding.case;
    let network = case.evidence["network"].as_str().map_or(String::new(), |network| format!(" in {network}"));
    format!("{} {} {} of {}{network}", storm.step, case.state, case.severity, case.event_count)
}

#[track_caller]
fn check(story: &str, expected: Expect) {
    let mut reader = Reader::default();
    for line in story.lines() {
        reader.read(line);
    }
    let mut ended = reader.storms.take_ended(at(1_000_000));
    ended.sort_by_key(|storm| storm.data.finding.case.revision);
    ended.iter().for_each(|storm| reader.say(say(storm)));
    expected.assert_eq(&reader.said.join("\n"));
}

#[test]
fn more_than_twenty_in_ten_minutes_are_told_as_one() {
    check("t+0 20 medium", expect!["20 × told"]);
    check(
        "t+0 10 medium\nt+599 30 medium",
        expect![[r#"
        20 × told
        1 × jwtrail.alert.opened open medium of 21
        19 × grouped
        1 × jwtrail.alert.raised closed medium of 40"#]],
    );
    check("t+0 10 medium\nt+601 20 medium", expect!["30 × told"]);
}

#[test]
fn each_tenant_has_its_own() {
    check(
        "t+0 15 medium\nt+1 15 medium tenant=other\nt+2 7 medium",
        expect![[r#"
            35 × told
            1 × jwtrail.alert.opened open medium of 21
            1 × grouped
            1 × jwtrail.alert.raised closed medium of 22"#]],
    );
}

#[test]
fn five_from_one_network_are_a_storm() {
    check(
        "t+0 4 medium far=203.0.113.7\nt+1 9 medium far=198.51.100.7\nt+2 2 medium far=203.0.113.200",
        expect![[r#"
            8 × told
            1 × jwtrail.alert.opened open medium of 5 in 198.51.100.0/24
            4 × grouped
            1 × jwtrail.alert.opened open medium of 5 in 203.0.113.0/24
            1 × grouped
            1 × jwtrail.alert.raised closed medium of 9 in 198.51.100.0/24
            1 × jwtrail.alert.raised closed medium of 6 in 203.0.113.0/24"#]],
    );
    check(
        "t+0 3 medium far=2001:db8:1:2::1\nt+1 2 medium far=2001:db8:1:3::1",
        expect![[r#"
        4 × told
        1 × jwtrail.alert.opened open medium of 5 in 2001:db8:1::/48
        1 × jwtrail.alert.raised closed medium of 5 in 2001:db8:1::/48"#]],
    );
}

#[test]
fn critical_is_never_grouped() {
    check(
        "t+0 20 medium\nt+1 30 critical\nt+2 2 medium\nt+3 1 critical again=51\nt+4 1 critical",
        expect![[r#"
        50 × told
        1 × jwtrail.alert.opened open medium of 21
        1 × grouped
        2 × told
        1 × jwtrail.alert.raised closed medium of 22"#]],
    );
}

#[test]
fn a_storm_is_as_severe_as_its_cases_and_more_when_it_has_grown() {
    check(
        "t+0 22 medium\nt+1 3 high\nt+2 300 medium",
        expect![[r#"
        20 × told
        1 × jwtrail.alert.opened open medium of 21
        1 × grouped
        1 × jwtrail.alert.raised open high of 23
        186 × grouped
        1 × jwtrail.alert.raised open critical of 210
        115 × grouped
        1 × jwtrail.alert.raised closed critical of 325"#]],
    );
    check(
        "t+0 210 medium",
        expect![[r#"
        20 × told
        1 × jwtrail.alert.opened open medium of 21
        188 × grouped
        1 × jwtrail.alert.raised open high of 210
        1 × jwtrail.alert.raised closed high of 210"#]],
    );
}

#[test]
fn a_case_that_rises_is_told_as_it_was_before() {
    // Case 3 was told alone, case 25 within the storm; a repeated walk brings both once more.
    check(
        "t+0 30 medium\nt+1 1 high again=3\nt+2 1 high again=25\nt+3 1 medium again=25\nt+4 1 high again=3",
        expect![[r#"
            20 × told
            1 × jwtrail.alert.opened open medium of 21
            9 × grouped
            1 × told
            1 × jwtrail.alert.raised open high of 30
            1 × grouped
            1 × told
            1 × jwtrail.alert.raised closed high of 30"#]],
    );
}

#[test]
fn repeats_make_no_storm() {
    check("t+0 15 medium\nt+1 30 medium again=3", expect!["45 × told"]);
}

#[test]
fn a_storm_ends_when_it_is_half_as_strong_and_the_next_is_another() {
    check(
        "t+0 30 medium\nt+500 11 medium\nt+1000 1 medium\nt+1700 1 medium\nt+1701 40 medium",
        expect![[r#"
            20 × told
            1 × jwtrail.alert.opened open medium of 21
            21 × grouped
            20 × told
            1 × jwtrail.alert.opened open medium of 21
            20 × grouped
            1 × jwtrail.alert.raised closed medium of 42
            1 × jwtrail.alert.raised closed medium of 41"#]],
    );
}

#[test]
fn a_storm_that_does_not_end_is_told_again_after_a_day() {
    let story: Vec<String> = (0..300).map(|at| format!("t+{} 25 medium", at * 300)).collect();
    check(
        &story.join("\n"),
        expect![[r#"
        20 × told
        1 × jwtrail.alert.opened open medium of 21
        188 × grouped
        1 × jwtrail.alert.raised open high of 210
        7015 × grouped
        20 × told
        1 × jwtrail.alert.opened open medium of 21
        188 × grouped
        1 × jwtrail.alert.raised open high of 210
        65 × grouped
        1 × jwtrail.alert.raised closed high of 7225
        1 × jwtrail.alert.raised closed high of 275"#]],
    );
}

#[test]
fn whoever_reads_the_outbox_again_comes_to_the_same_storm() {
    let storm_of = |story: &[&str]| {
        let mut reader = Reader::default();
        story.iter().for_each(|line| reader.read(line));
        let ended = reader.storms.take_ended(at(1_000_000));
        ended.first().map(|storm| storm.data.finding.case.finding_id)
    };
    let once = storm_of(&["t+0 30 medium"]);
    assert!(once.is_some());
    assert_eq!(once, storm_of(&["t+0 30 medium", "t+300 300 medium"]), "while it goes on");
    assert_ne!(once, storm_of(&["t+0 1 medium tenant=other", "t+0 30 medium"]), "begun by another case");
}

#[test]
fn a_storm_says_what_it_is_and_lists_its_cases() {
    let mut reader = Reader::default();
    reader.read("t+0 4 medium far=203.0.113.7");
    let text = alert_with_id(99, "high");
    let mut alert: Alert = serde_json::from_str(&text).unwrap();
    "acme".clone_into(&mut alert.data.finding.case.tenant);
    alert.data.finding.case.evidence = json!({ "to": { "ip": "::ffff:203.0.113.9" } });
    let Telling::Storm(storm) = reader.storms.judge(Offset::new(4).unwrap(), at(60), &alert) else {
        panic!("no storm");
    };
    let case = &storm.data.finding.case;
    let said = [
        &case.title,
        &case.summary,
        &case.evidence["first"].as_array().unwrap().len().to_string(),
        &storm.data.query,
    ];
    expect![[r#"
        A storm of impossible_travel
        5 cases of impossible_travel since 2026-11-23T10:00:00.000Z, their far end in 203.0.113.0/24; those that follow are not told one by one while it lasts
        5
        SELECT finding_id, severity, sub, client_id, gateway, first_time, last_time, title FROM jwtrail.findings WHERE tenant = 'acme' AND rule = 'impossible_travel' AND last_time >= toDateTime64('2026-11-23 10:15:00.000', 3, 'UTC') AND arrayExists(ip -> isIPAddressInRange(toString(ip), '::ffff:203.0.113.0/120'), ips) ORDER BY first_time"#]].assert_eq(&said.map(String::as_str).join("\n"));
}

#[test]
fn what_is_long_over_is_forgotten() {
    const DAY_S: i64 = 24 * 60 * 60;
    let mut reader = Reader::default();
    let mut cases = 0;
    for day in 0..40 {
        // Storms, of a tenant and of networks that are never seen again.
        for round in 0..10 {
            let time = day * DAY_S + round * 600;
            reader.read(&format!("t+{time} 10 medium far=203.0.{round}.7 tenant=day-{day}"));
            let Storms { seen, crowds, .. } = &reader.storms;
            cases = cases.max(seen.len());
            assert!(crowds.len() <= 8, "{} crowds", crowds.len());
            assert!(crowds.values().all(|crowd| crowd.recent.len() <= 30), "of those of the last minutes");
        }
        reader.storms.take_ended(at(day * DAY_S + DAY_S / 2));
    }
    assert!((2_900..=3_100).contains(&cases), "{cases} of 4,000 cases, 100 a day");
}
