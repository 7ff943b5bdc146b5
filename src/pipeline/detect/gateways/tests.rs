//! Stories of blocks, as summaries.
//!
//! ```text
//! t+30s p0 edge-1/e1 events=10 beat=10
//! ```
//!
//! A line is what one block of a partition of the event topic says. The first word is up to when that partition is
//! walked; then what each source did: `events=N`, `beat=N` (a heartbeat that says so many were sent), with it `dropped=N`,
//! `refused=N` or `closing`; `seqs=1-5,7`; `uses=N`, of which `private=N`, `off=N`. Events and heartbeats are of the
//! line's time, or of `at+2m`. Bare words: `rest` (the partition rests), `left=N` (events left out), `internal`.

use expect_test::{Expect, expect};

use super::*;
use crate::log::Batch;
use crate::model::{CaseState, HeartbeatSeen, Offset, Runs, STEP_MS, SummaryVersion};
use crate::pipeline::detect::tests::story::T0;

fn span_ms(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => panic!("no span {text}"),
    };
    number.parse::<i64>().unwrap() * unit
}

fn summary(line: &str) -> Summary {
    let mut words = line.split_whitespace();
    let time = |word: &str, prefix: &str| UnixMs::new(T0 + span_ms(word.strip_prefix(prefix).unwrap()));
    let through = time(words.next().unwrap(), "t+");
    let partition = words.next().and_then(|word| word.strip_prefix('p')).unwrap().parse().unwrap();
    let mut summary = Summary {
        version: SummaryVersion,
        log: LogId::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap(),
        partition: PartitionId(partition),
        first: Offset::ZERO,
        last: Offset::ZERO,
        through,
        at_rest: false,
        sources: Vec::new(),
        left_out: 0,
    };
    let mut at = through;
    for word in words {
        if let Some((gateway, epoch)) = word.split_once('/') {
            at = through;
            summary.sources.push(SourceSummary {
                gateway: gateway.to_owned(),
                zone: Zone::Edge,
                epoch: epoch.to_owned(),
                steps: Vec::new(),
                seqs: Some(Runs::default()),
                heartbeats: Vec::new(),
                edge: Vec::new(),
            });
        } else if word == "rest" {
            summary.at_rest = true;
        } else if let Some(left_out) = word.strip_prefix("left=") {
            summary.left_out = left_out.parse().unwrap();
        } else if word.starts_with("at+") {
            at = time(word, "at+");
        } else {
            let source = summary.sources.last_mut().unwrap();
            say(source, word, at, through);
        }
    }
    summary
}

fn say(source: &mut SourceSummary, word: &str, time: UnixMs, received_at: UnixMs) {
    let (name, value) = word.split_once('=').unwrap_or((word, "0"));
    if name == "seqs" {
        let numbers = value.split(',').flat_map(|run| {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            first.parse::<u64>().unwrap()..=last.parse().unwrap()
        });
        source.seqs = Some(Runs::of(numbers));
        return;
    }
    let number: u64 = value.parse().unwrap();
    let heartbeat = source.heartbeats.last_mut();
    let hour = source.edge.last_mut();
    match name {
        "events" => source.steps.push((time.get().div_euclid(STEP_MS), number)),
        "beat" => source.heartbeats.push(HeartbeatSeen {
            time,
            received_at,
            sent: number,
            dropped: 0,
            closing: false,
            refused: None,
        }),
        "dropped" => heartbeat.unwrap().dropped = number,
        "refused" => heartbeat.unwrap().refused = Some(number),
        "closing" => heartbeat.unwrap().closing = true,
        "internal" => source.zone = Zone::Internal,
        "uses" => {
            let hour = received_at.get().div_euclid(3_600_000);
            source.edge.push(EdgeHour { hour, uses: number, without_client_ip: 0, off_clock: 0 });
        }
        "private" => hour.unwrap().without_client_ip = number,
        "off" => hour.unwrap().off_clock = number,
        _ => panic!("no word {word}"),
    }
}

/// The revisions of cases that a story makes, each with the line that made it.
pub(in crate::pipeline) fn revisions(story: &str) -> Vec<CaseUpdate> {
    let lines = story.lines().map(str::trim).filter(|line| !line.is_empty());
    let (mut detector, rules) = (GatewayDetector::default(), Rulebook::default());
    let mut updates = Vec::new();
    for (offset, line) in lines.enumerate() {
        let summary = summary(line);
        let mut batch = Batch::default();
        // A summary is written when its block is released, a moment later.
        let append_time = summary.through + Duration::from_secs(1);
        batch.push(Offset::new(offset as i64 + 1).unwrap(), append_time, None, b"", []);
        for record in batch.iter() {
            updates.extend(detector.detect(&summary, &record, &rules));
        }
    }
    updates
}

/// What a story comes to, for rules of which the name begins with `rule`.
fn check(rule: &str, story: &str, expected: Expect) {
    let of_rule = revisions(story).into_iter().filter(|update| update.case.rule.as_str().starts_with(rule));
    let told: Vec<String> = of_rule.map(|update| tell(&update)).collect();
    expected.assert_eq(&told.join("\n"));
}

fn tell(CaseUpdate { case, .. }: &CaseUpdate) -> String {
    let state = if case.state == CaseState::Open { String::new() } else { format!(" {}", case.state) };
    let by = case.evidence["counted_by"].as_str().map_or_else(String::new, |by| format!(" by {by}"));
    let lowered = case.lowered_by.join(", ");
    format!(
        "{}: {} {}/{}: {}{by}{}{lowered}{state}",
        case.revision,
        case.rule,
        case.severity,
        case.confidence,
        case.title,
        if lowered.is_empty() { "" } else { ", lowered by " },
    )
}

// audit_gap

#[test]
fn what_a_heartbeat_counted_and_the_log_has_not_is_a_gap_when_lateness_has_passed() {
    check(
        "audit_gap",
        "t+0m   p0
         t+2m   p0 edge-1/e1 events=10000 beat=10000
         t+4m   p0 edge-1/e1 events=9950 beat=20000
         t+13m  p0
         t+14m  p0",
        expect!["5: audit_gap medium/high: 50 events of edge-1 are not in the log by heartbeat"],
    );
}

#[test]
fn a_hundredth_or_a_thousand_in_an_hour_is_high() {
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=90 beat=100
         t+12m p0 edge-1/e1 beat=100",
        expect!["3: audit_gap high/high: 10 events of edge-1 are not in the log by heartbeat"],
    );
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=199000 beat=200000
         t+12m p0",
        expect!["3: audit_gap high/high: 1000 events of edge-1 are not in the log by heartbeat"],
    );
}

#[test]
fn what_a_source_gave_up_is_missing_too() {
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=10000 beat=10000 dropped=3
         t+12m p0 edge-1/e1 beat=10000 dropped=3",
        expect!["3: audit_gap medium/high: 3 events of edge-1 are not in the log by heartbeat"],
    );
}

#[test]
fn up_to_ten_that_a_crash_took_are_low() {
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=990 beat=1000
         t+3m  p0 edge-1/e2 beat=0
         t+12m p0 edge-1/e2 beat=0",
        expect![
            "4: audit_gap low/high: 10 events of edge-1 are not in the log by heartbeat, lowered by crash"
        ],
    );
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=990 beat=1000 closing
         t+3m  p0 edge-1/e2 beat=0
         t+12m p0 edge-1/e2 beat=0",
        expect!["4: audit_gap high/high: 10 events of edge-1 are not in the log by heartbeat"],
    );
}

#[test]
fn the_order_of_arrival_does_not_matter_within_the_lateness_bound() {
    for story in [
        // The heartbeat first; the events in another partition; the events long after they happened.
        "t+0m  p0
         t+2m  p0 edge-1/e1 beat=100
         t+3m  p0 edge-1/e1 at+2m events=100 at+3m beat=100
         t+12m p0 edge-1/e1 beat=100",
        "t+0m  p0
         t+2m  p1 edge-1/e1 beat=100
         t+9m  p0 edge-1/e1 at+1m events=60
         t+11m p1 edge-1/e1 at+2m events=40 at+11m beat=100
         t+13m p0
         t+13m p1 edge-1/e1 beat=100",
    ] {
        check("audit_gap", story, expect![""]);
    }
}

#[test]
fn a_partition_that_is_not_walked_so_far_is_waited_for() {
    check(
        "audit_gap",
        "t+0m  p1
         t+0m  p0
         t+2m  p0 edge-1/e1 events=50 beat=100
         t+30m p0 edge-1/e1 beat=100
         t+2m  p1 edge-1/e1 events=50
         t+13m p1",
        expect![""],
    );
    // One that rests has nothing to wait for.
    check(
        "audit_gap",
        "t+0m  p1
         t+0m  p0
         t+2m  p0 edge-1/e1 events=50 beat=100
         t+12m p1 rest
         t+13m p0 edge-1/e1 beat=100",
        expect!["5: audit_gap high/high: 50 events of edge-1 are not in the log by heartbeat"],
    );
}

#[test]
fn late_events_take_a_gap_back() {
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=90 beat=100
         t+12m p0 edge-1/e1 beat=100
         t+20m p0 edge-1/e1 at+1m events=4 at+20m beat=100
         t+21m p0 edge-1/e1 at+1m events=6 at+21m beat=100
         t+40m p0 edge-1/e1 beat=120",
        expect![[r#"
            3: audit_gap high/high: 10 events of edge-1 are not in the log by heartbeat
            4: audit_gap high/high: 6 events of edge-1 are not in the log by heartbeat
            5: audit_gap high/high: 6 events of edge-1 are not in the log by heartbeat withdrawn"#]],
    );
}

#[test]
fn a_gap_that_was_taken_back_may_open_again() {
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=90 beat=100
         t+12m p0 edge-1/e1 at+2m events=10 at+12m beat=100
         t+13m p0 edge-1/e1 beat=100
         t+14m p0 edge-1/e1 beat=150
         t+24m p0 edge-1/e1 beat=150",
        expect!["6: audit_gap high/high: 50 events of edge-1 are not in the log by heartbeat"],
    );
}

#[test]
fn what_the_door_refused_counts_as_seen() {
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=90 beat=100 edge-1/door beat=0 refused=10
         t+12m p0 edge-1/e1 beat=100",
        expect![""],
    );
}

#[test]
fn an_epoch_that_began_before_we_watched_is_counted_from_its_first_heartbeat() {
    check(
        "audit_gap",
        "t+0m  p0 edge-1/e1 events=5 beat=1000000
         t+2m  p0 edge-1/e1 events=100 beat=1000100
         t+4m  p0 edge-1/e1 events=60 beat=1000200
         t+12m p0 edge-1/e1 beat=1000200
         t+14m p0 edge-1/e1 beat=1000200",
        expect!["5: audit_gap high/high: 35 events of edge-1 are not in the log by heartbeat"],
    );
}

#[test]
fn what_summaries_left_out_may_be_anybodys() {
    check(
        "audit_gap",
        "t+0m  p0
         t+2m  p0 edge-1/e1 events=90 beat=100
         t+3m  p0 left=10
         t+12m p0 edge-1/e1 beat=100",
        expect![""],
    );
}

#[test]
fn without_heartbeats_the_numbers_say_it_and_are_trusted_less() {
    check(
        "audit_gap",
        "t+0m  p0 edge-1/e1 seqs=1-50
         t+2m  p0 edge-1/e1 seqs=61-400
         t+3m  p1 edge-1/e1 seqs=51-58
         t+14m p0
         t+14m p1",
        expect!["5: audit_gap medium/low: 2 events of edge-1 are not in the log by seq"],
    );
}

// gateway_silent

#[test]
fn three_missing_heartbeats_are_silence_until_the_gateway_speaks() {
    check(
        "gateway_silent",
        "t+0s   p0 edge-1/e1 beat=0 edge-2/e1 beat=0
         t+30s  p0 edge-2/e1 beat=0
         t+60s  p0 edge-2/e1 beat=0
         t+89s  p0 edge-2/e1 beat=0
         t+90s  p0
         t+120s p0 edge-2/e1 beat=0
         t+150s p0 edge-1/e1 beat=0",
        expect![[r#"
            5: gateway_silent medium/high: edge-1 fell silent
            7: gateway_silent medium/high: edge-1 fell silent closed"#]],
    );
}

#[test]
fn a_whole_zone_that_is_silent_is_high() {
    check(
        "gateway_silent",
        "t+0s   p0 edge-1/e1 beat=0 edge-2/e1 beat=0 inner/e1 beat=0 internal
         t+30s  p0 edge-2/e1 beat=0 inner/e1 beat=0 internal
         t+60s  p0 inner/e1 beat=0 internal
         t+90s  p0 inner/e1 beat=0 internal
         t+120s p0 inner/e1 beat=0 internal",
        expect![[r#"
            4: gateway_silent medium/high: edge-1 fell silent
            5: gateway_silent high/high: edge-2 fell silent
            5: gateway_silent high/high: edge-1 fell silent"#]],
    );
}

#[test]
fn a_gateway_that_was_stopped_is_worth_a_note() {
    check(
        "gateway_silent",
        "t+0s  p0 edge-1/e1 beat=7 closing
         t+40s p0
         t+80s p0
         t+90s p0",
        expect!["4: gateway_silent info/high: edge-1 was stopped, lowered by closed"],
    );
}

#[test]
fn a_restart_is_no_silence() {
    check(
        "gateway_silent",
        "t+0s  p0 edge-1/e1 beat=7 closing
         t+40s p0 edge-1/e2 beat=0
         t+80s p0 edge-1/e2 beat=0
         t+99s p0 edge-1/e2 beat=0",
        expect![""],
    );
}

#[test]
fn an_outage_of_the_log_and_a_walk_that_lags_are_no_silence() {
    // Nobody could append for an hour.
    check(
        "gateway_silent",
        "t+0s  p0 edge-1/e1 beat=0
         t+1h  p0
         t+61m p0 edge-1/e1 beat=0",
        expect![""],
    );
    // Another partition is far ahead.
    check(
        "gateway_silent",
        "t+0s p0 edge-1/e1 beat=0
         t+0s p1
         t+1h p1
         t+2h p1",
        expect![""],
    );
}

#[test]
fn the_door_speaks_for_who_does_not_and_for_nobody_else() {
    check(
        "gateway_silent",
        "t+0s  p0 edge-1/e1 beat=0 edge-1/door beat=0 refused=1 edge-2/door beat=0 refused=0
         t+40s p0 edge-1/door beat=0 refused=1 edge-2/door beat=0 refused=0
         t+80s p0 edge-1/door beat=0 refused=1 edge-2/door beat=0 refused=0
         t+99s p0 edge-1/door beat=0 refused=1 edge-2/door beat=0 refused=0",
        expect!["4: gateway_silent medium/high: edge-1 fell silent"],
    );
}

// gateway_misses_client_ip, gateway_clock_skew

#[test]
fn an_hours_share_is_judged_when_the_hour_is_walked() {
    check(
        "gateway_misses",
        "t+10m p0 edge-1/ uses=100 private=5
         t+20m p1 edge-1/ uses=100 private=95
         t+50m p0 edge-1/ uses=900 off=45
         t+60m p0
         t+60m p1",
        expect!["5: gateway_misses_client_ip low/high: edge-1 does not say who its clients are"],
    );
    check(
        "gateway_",
        "t+10m p0 edge-1/ uses=200 off=100
         t+60m p0
         t+70m p0 edge-1/ uses=99 private=99
         t+2h  p0",
        expect!["2: gateway_clock_skew medium/high: The clock of edge-1 is off"],
    );
}

#[test]
fn hours_of_a_day_are_one_case() {
    check(
        "gateway_",
        "t+10m p0 edge-1/ uses=200 private=10
         t+70m p0 edge-1/ uses=200 private=150
         t+2h  p0 edge-1/ uses=200 private=20
         t+3h  p0",
        expect![[r#"
            2: gateway_misses_client_ip low/high: edge-1 does not say who its clients are
            3: gateway_misses_client_ip medium/high: edge-1 does not say who its clients are
            4: gateway_misses_client_ip medium/high: edge-1 does not say who its clients are"#]],
    );
}

// Bounds

#[test]
fn made_up_gateways_drop_nobody_and_take_a_bounded_room() {
    let mut story = "t+0s p0 edge-1/e1 beat=0\n".to_owned();
    for block in 0..20 {
        story.push_str(&format!("t+{}s p0 edge-1/e1 beat=0 ", 30 + block));
        for gateway in 0..500 {
            story.push_str(&format!("made-{block}-{gateway}/e1 events=1 "));
        }
        story.push('\n');
    }
    story.push_str("t+80s p0\nt+120s p0\nt+150s p0");
    check("gateway_silent", &story, expect!["24: gateway_silent high/high: edge-1 fell silent"]);
}
