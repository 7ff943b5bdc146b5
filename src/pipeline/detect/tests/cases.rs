//! Cases: windows, revisions, strength, closing, lateness.

use expect_test::{Expect, expect};

use super::story::{Line, T0, lines, revisions, tell, walk};
use crate::model::{CaseUpdate, Flag, LogId, PartitionId, RuleId, UnixMs};
use crate::pipeline::detect::{Detector, Limits, Rulebook};

/// One line a revision of `impossible_travel`: its offset, how the case stood before, how it stands, its count.
fn check(story: &str, expected: Expect) {
    let told: Vec<String> = revisions(&lines(story), &Rulebook::default())
        .iter()
        .filter(|update| update.case.rule == RuleId::ImpossibleTravel)
        .map(tell_update)
        .collect();
    expected.assert_eq(&told.join("\n"));
}

fn tell_update(CaseUpdate { case, now, before }: &CaseUpdate) -> String {
    assert_eq!((now.severity, now.confidence), (case.severity, case.confidence));
    let before = before
        .map_or_else(|| "new".to_owned(), |before| format!("{}/{}", before.severity, before.confidence));
    let span = (case.last_time.since_ms(case.first_time)) / 60_000;
    format!("{} {before} → {} ×{} over {span} min", case.revision, tell(case), case.event_count)
}

#[test]
fn a_case_rises_and_never_falls() {
    check(
        "t+0m  alice paris
         t+20m alice tokyo kind=vpn
         t+40m alice tokyo
         t+60m alice tokyo device=Safari
         t+80m alice tokyo kind=vpn",
        expect![[r#"
            1 new → impossible_travel alice low/low 9712 km in 20 min, needs 9.7 h lowered by hidden_network ×1 over 20 min
            2 low/low → impossible_travel alice medium/high 9712 km in 40 min, needs 9.7 h ×2 over 40 min
            3 medium/high → impossible_travel alice high/high 9712 km in 60 min, needs 9.7 h ×3 over 60 min
            4 high/high → impossible_travel alice high/high 9712 km in 60 min, needs 9.7 h ×4 over 80 min"#]],
    );
}

#[test]
fn a_case_that_gets_no_stronger_is_written_once_a_minute_and_when_it_closes() {
    check(
        "t+0s   alice paris
         t+600s alice tokyo
         t+610s alice tokyo
         t+620s alice tokyo
         t+680s alice tokyo
         t+690s alice tokyo
         t+48h  bob paris",
        expect![[r#"
            1 new → impossible_travel alice medium/high 9712 km in 10 min, needs 9.7 h ×1 over 10 min
            4 medium/high → impossible_travel alice medium/high 9712 km in 10 min, needs 9.7 h ×4 over 11 min
            6 medium/high → impossible_travel alice medium/high 9712 km in 10 min, needs 9.7 h closed ×5 over 11 min"#]],
    );
}

#[test]
fn a_late_match_finds_its_closed_case() {
    check(
        "t+0h  alice paris
         t+1h  alice tokyo
         t+25h bob   paris
         t+2h  alice paris arrives+25h
         t+48h bob   paris",
        expect![[r#"
            1 new → impossible_travel alice medium/high 9712 km in 60 min, needs 9.7 h ×1 over 60 min
            2 medium/high → impossible_travel alice medium/high 9712 km in 60 min, needs 9.7 h closed ×1 over 60 min
            3 medium/high → impossible_travel alice medium/high 9712 km in 60 min, needs 9.7 h closed ×2 over 120 min"#]],
    );
}

#[test]
fn an_event_more_than_a_day_behind_the_stream_is_flagged_and_compared_with_nothing() {
    let lines = lines(
        "t+0h  alice paris
         t+30h bob   paris
         t+1h  alice tokyo arrives+30h",
    );
    let mut last = (false, 0);
    walk(&mut Detector::default(), &Rulebook::default(), &lines, 1, |assessed| {
        last = (assessed.enriched.checked.decoded.flags.has(Flag::Late), assessed.cases.len());
    });
    assert_eq!(last, (true, 0));
}

#[test]
fn a_wave_over_many_subjects_does_not_start_at_one_time() {
    let starts: std::collections::HashSet<UnixMs> = (0..50)
        .flat_map(|subject| {
            let sub = format!("user{subject}");
            let story = format!("t+0m {sub} paris\nt+5m {sub} tokyo");
            revisions(&lines(&story), &Rulebook::default())
        })
        .map(|update| update.case.case_start)
        .collect();
    assert!(starts.len() > 40, "{} different starts of 50", starts.len());
}

#[test]
fn state_stays_bounded_under_a_flood_of_subjects() {
    let limits = Limits {
        subjects_bytes: 64 << 10,
        usual_bytes: 64 << 10,
        tokens_bytes: 64 << 10,
        cases_bytes: 64 << 10,
        ids_bytes: 0,
    };
    let mut detector = Detector::with_limits(limits);
    let flood: Vec<Line> = (0..1_500)
        .flat_map(|number| {
            let sub = format!("user{number}");
            let mut home = Line::new(T0 + number * 10, &sub, "paris");
            home.device = Some(format!("device {}", number % 7));
            let away =
                Line { device: Some("other".to_owned()), ..Line::new(T0 + number * 10 + 5, &sub, "tokyo") };
            [home, away]
        })
        .collect();
    let mut most = 0;
    let mut cases = 0;
    let mut sizes = Vec::new();
    let rules = Rulebook::default();
    walk(&mut detector, &rules, &flood, 100, |assessed| cases += assessed.cases.len());
    for lines in flood.chunks(200) {
        walk(&mut detector, &rules, lines, 100, |_| {});
        sizes.push(detector.size());
        most = most.max(detector.size().bytes);
    }
    // Three kinds of state, the cases of five rules, and the handful of sites.
    assert!(most < (64 << 10) * 8 + (64 << 10), "{most} bytes");
    assert!(detector.size().evicted > 3_000, "{:?}", detector.size());
    assert_eq!(cases, 3_000, "every subject is judged all the same: two cases each");
}

#[test]
fn made_up_subjects_of_one_tenant_hide_nothing_from_another() {
    let limits = Limits {
        subjects_bytes: 32 << 10,
        usual_bytes: 32 << 10,
        tokens_bytes: 32 << 10,
        cases_bytes: 64 << 10,
        ids_bytes: 0,
    };
    let mut detector = Detector::with_limits(limits);
    let of_mallory = |number: i64| Line {
        tenant: "mallory".to_owned(),
        ..Line::new(T0 + 1_000 + number, &format!("made-up-{number}"), "madrid")
    };
    let away = Line { device: Some("other".to_owned()), ..Line::new(T0 + 60_000, "alice", "tokyo") };
    let home = std::iter::once(Line::new(T0, "alice", "paris"));
    let story: Vec<Line> = home.chain((0..2_000).map(of_mallory)).chain([away]).collect();
    let mut rules = Vec::new();
    walk(&mut detector, &Rulebook::default(), &story, 100, |assessed| {
        rules.extend(assessed.cases.iter().map(|update| update.case.rule));
    });
    assert_eq!(rules, [RuleId::ImpossibleTravel, RuleId::TokenReplay]);
    assert!(detector.size().evicted > 1_000);
}

#[test]
fn idle_state_is_dropped_by_stream_time() {
    let mut detector = Detector::default();
    let mut story: Vec<Line> = (0..100).map(|n| Line::new(T0, &format!("user{n}"), "paris")).collect();
    story.push(Line::new(T0 + 46 * 3_600_000, "alice", "paris"));
    walk(&mut detector, &Rulebook::default(), &story, 7, |_| {});
    let size = detector.size();
    assert_eq!((size.subjects, size.tokens, size.evicted), (1, 1, 0));
}

#[test]
fn sites_that_nobody_remembers_are_swept_out() {
    for checkpoints in [false, true] {
        let limits = Limits {
            subjects_bytes: 16 << 10,
            usual_bytes: 16 << 10,
            tokens_bytes: 16 << 10,
            ..Limits::default()
        };
        let mut detector = Detector::with_limits(limits);
        for round in 0..20 {
            let lines: Vec<Line> = (0..1_000)
                .map(|number| {
                    let number = round * 1_000 + number;
                    let mut line = Line::new(T0 + number * 10, &format!("user{number}"), "paris");
                    line.device = Some(format!("device {number}"));
                    line
                })
                .collect();
            walk(&mut detector, &Rulebook::default(), &lines, 100, |_| {});
            let changed = detector.sites.changed();
            assert!(detector.sites.bytes() < 512 << 10, "{} bytes", detector.sites.bytes());
            assert!(changed < 4_096, "{changed} for the next checkpoint");
            if checkpoints {
                let log = LogId::try_from("a".repeat(32)).unwrap();
                assert!(detector.checkpoint(&log, PartitionId(0), usize::MAX, &()).complete);
                assert_eq!(detector.sites.changed(), 0);
            }
        }
    }
}
