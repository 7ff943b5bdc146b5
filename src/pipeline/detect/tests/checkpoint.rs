//! What is restored from checkpoints behaves as if it had walked from the start: the oracle is a detector that did.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::property::{Draw, draw, line, runner};
use super::story::{Line, T0, lines, walk_batch};
use crate::log::{self, NewRecord, Origin};
use crate::model::{Case, CaseUpdate, FindingId, LogId, PartitionId, RuleId, Severity};
use crate::pipeline::alert::{Found, Policy, judge};
use crate::pipeline::detect::{Checkpoint, Detector, Limits, NotUsable, Restoring, Rulebook};

const HOUR_MS: i64 = 3_600_000;

fn log(digit: char) -> LogId {
    LogId::try_from(digit.to_string().repeat(32)).unwrap()
}

/// A partition of `jwtrail.state`, compacted as hard as can be. The order of its keys says nothing.
#[derive(Clone, Default)]
struct Topic(BTreeMap<Vec<u8>, Vec<u8>>);

impl Topic {
    fn commit(&mut self, checkpoint: Checkpoint) {
        for NewRecord { key, value, partition, .. } in checkpoint.records {
            assert_eq!(partition, Some(PartitionId(3)));
            let key = key.unwrap();
            if value.is_empty() {
                self.0.remove(&key)
            } else {
                self.0.insert(key, value)
            };
        }
    }

    fn scan(&self, log: &LogId) -> Restoring {
        let mut restoring = Restoring::new(log);
        for (key, value) in self.0.iter().rev() {
            restoring.take(key, value);
        }
        restoring
    }
}

fn checkpoint(detector: &mut Detector, max_bytes: usize) -> Checkpoint {
    detector.checkpoint(&log('a'), PartitionId(3), max_bytes, &())
}

fn restore(topic: &Topic, log: &LogId, limits: Limits) -> Result<Detector, NotUsable> {
    topic.scan(log).restore::<()>(limits).map(|(detector, ())| detector)
}

/// Everything that is bounded, counted and weighed.
fn sizes(detector: &Detector) -> [[usize; 2]; 4] {
    let Detector { usual, travel, replay, cases, .. } = detector;
    [
        [usual.subjects(), usual.bytes()],
        [travel.subjects(), travel.bytes()],
        [replay.tokens(), replay.bytes()],
        [cases.len(), cases.bytes()],
    ]
}

/// What the lines from `offset` on come to, record by record.
fn walked(detector: &mut Detector, lines: &[Line], offset: usize) -> Vec<(Vec<CaseUpdate>, String)> {
    let mut found = Vec::new();
    walk_batch(detector, &Rulebook::default(), lines, i64::try_from(offset).unwrap(), |assessed| {
        // Which of the cases that close by one record is written first is nobody's concern.
        let (mut cases, rulings) = (assessed.cases, format!("{:?}", assessed.rulings));
        cases.sort_by_key(|update| update.case.finding_id);
        found.push((cases, rulings));
    });
    found
}

/// A part of the walk, and what happens after it.
#[derive(Clone, Debug)]
struct Cut {
    records: usize,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    GoOn,
    Checkpoint,
    /// Another owner restores the last checkpoint and walks on from it for state alone.
    TakeOver,
}

fn cut() -> impl Strategy<Value = Cut> {
    let then = prop_oneof![Just(Then::GoOn), Just(Then::Checkpoint), Just(Then::TakeOver)];
    (1..40usize, then).prop_map(|(records, then)| Cut { records, then })
}

/// A use of one of a dozen subjects within some days, and how late it comes.
fn arrival() -> impl Strategy<Value = (Draw, i64, u8, i64)> {
    let late_ms = prop_oneof![8 => 0..8 * 60_000i64, 1 => 0..30 * HOUR_MS];
    (draw(), 0..5i64, 0..12u8, late_ms)
}

fn arrived(arrivals: Vec<(Draw, i64, u8, i64)>) -> Vec<Line> {
    let mut lines: Vec<Line> = arrivals
        .into_iter()
        .enumerate()
        .map(|(index, (mut draw, day, subject, late_ms))| {
            draw.seconds += day * 24 * 3_600;
            let mut line = line(&draw, &format!("user{subject}"), index);
            line.token = line.token.map(|token| format!("{token}-{subject}-{day}"));
            line.tenant = format!("tenant-{}", subject % 3);
            line.arrives_ms = line.time_ms + late_ms;
            line.exp = Some(line.time_ms / 1_000 + 3_600);
            line
        })
        .collect();
    lines.sort_by_key(|line| line.arrives_ms);
    lines
}

/// So little room that there is hardly a walk in which nothing makes room for something.
const NARROW: Limits = Limits {
    subjects_bytes: 4_000,
    usual_bytes: 1_000,
    tokens_bytes: 3_000,
    cases_bytes: 30_000,
    ids_bytes: 2_000,
};

#[test]
fn a_restored_detector_is_the_one_that_walked_from_the_start() {
    let strategy =
        (prop::collection::vec(arrival(), 30..250), prop::collection::vec(cut(), 3..12), any::<bool>());
    let (taken_over, cases, evicted, closed) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    runner(300)
        .run(&strategy, |(arrivals, cuts, narrow)| {
            let limits = if narrow { NARROW } else { Limits::default() };
            let lines = arrived(arrivals);
            let (mut oracle, mut owner) = (Detector::with_limits(limits), Detector::with_limits(limits));
            let (mut topic, mut state, mut at) = (Topic::default(), 0, 0);
            let the_rest = Cut { records: lines.len(), then: Then::GoOn };
            for Cut { records, then } in cuts.into_iter().chain([the_rest]) {
                let end = lines.len().min(at + records);
                let expected = walked(&mut oracle, &lines[at..end], at);
                prop_assert_eq!(&walked(&mut owner, &lines[at..end], at), &expected, "from {}", at);
                prop_assert_eq!(sizes(&owner), sizes(&oracle), "up to {}", end);
                let updates = || expected.iter().flat_map(|(cases, _)| cases);
                let closings = updates().filter(|update| update.case.state != crate::model::CaseState::Open);
                closed.set(closed.get() + closings.count());
                cases.set(cases.get() + updates().count());
                at = end;
                match then {
                    Then::GoOn => {}
                    Then::Checkpoint => {
                        let made = checkpoint(&mut owner, usize::MAX);
                        prop_assert!(made.complete);
                        topic.commit(made);
                        state = at;
                    }
                    Then::TakeOver => {
                        owner = match restore(&topic, &log('a'), limits) {
                            Err(NotUsable::Missing) if state == 0 => Detector::with_limits(limits),
                            restored => restored.unwrap(),
                        };
                        walked(&mut owner, &lines[state..at], state);
                        prop_assert_eq!(sizes(&owner), sizes(&oracle), "taken over at {}", at);
                        taken_over.set(taken_over.get() + 1);
                    }
                }
            }
            evicted.set(evicted.get() + oracle.size().evicted);
            Ok(())
        })
        .unwrap();
    let seen = [taken_over.get(), cases.get(), evicted.get() as usize, closed.get()];
    assert!(seen.iter().all(|&seen| seen > 300), "take-overs, cases, evictions, closings: {seen:?}");
}

/// The cases of travel that records from `from` on touched, each as strong as it came to be, and what was told of them: the
/// strongest step a case.
fn told_since(detector: &mut Detector, lines: &[Line], from: usize) -> [BTreeMap<FindingId, Severity>; 2] {
    let origin = Origin { log: log('a'), topic: log::Topic::Events, partition: PartitionId(3) };
    let [mut stands, mut told] = [BTreeMap::new(), BTreeMap::new()];
    let strongest = |of: &mut BTreeMap<FindingId, Severity>, case: &Case| {
        if case.rule == RuleId::ImpossibleTravel {
            let known = of.entry(case.finding_id).or_insert(case.severity);
            *known = case.severity.max(*known);
        }
    };
    for (cases, _) in walked(detector, &lines[from..], from) {
        let Found { findings, alerts, .. } = judge(cases, &Policy::default(), &origin);
        for case in findings.iter().map(|finding| &finding.case) {
            strongest(&mut stands, case);
        }
        for case in alerts.iter().map(|alert| &alert.data.finding.case) {
            strongest(&mut told, case);
        }
    }
    [stands, told]
}

/// Whoever walks the last 50 hours instead of restoring a checkpoint does not know what was usual before. There this oracle
/// ends: what such an owner finds may be louder, and it may tell again what was told, but it is silent about nothing.
#[test]
fn a_walk_of_fifty_hours_is_never_quieter() {
    let arrivals = prop::collection::vec((draw(), 0..12i64, 0..3u8, 0..8 * 60_000i64), 100..200);
    let (told, louder) = (Cell::new(0), Cell::new(0));
    runner(200)
        .run(&(arrivals, 0..100usize), |(arrivals, hundredths)| {
            let lines = arrived(arrivals);
            let at = lines.len() * hundredths / 100;
            let horizon = lines[at].arrives_ms - 50 * HOUR_MS;
            let begin = lines.partition_point(|line| line.arrives_ms < horizon);
            let (mut owner, mut next) = (Detector::default(), Detector::default());
            walked(&mut owner, &lines[..at], 0);
            walked(&mut next, &lines[begin..at], begin);
            if begin > 0 {
                next.doubt();
            }
            let expected = told_since(&mut owner, &lines, at);
            let found = told_since(&mut next, &lines, at);
            for (expected, found) in expected.iter().zip(&found) {
                for (finding, severity) in expected {
                    prop_assert!(
                        found.get(finding) >= Some(severity),
                        "{:?} of {}",
                        found.get(finding),
                        severity
                    );
                    louder.set(louder.get() + u32::from(found.get(finding) > Some(severity)));
                }
            }
            told.set(told.get() + expected[1].len());
            Ok(())
        })
        .unwrap();
    assert!(told.get() > 300 && louder.get() > 30, "{} told, {} louder", told.get(), louder.get());
}

/// A partition's first checkpoint may come in many parts, with walking between them: none but the last is complete.
#[test]
fn a_state_written_in_parts_is_whole_with_the_last() {
    runner(100)
        .run(&(prop::collection::vec(arrival(), 100..250), 1..4_000usize), |(arrivals, max_bytes)| {
            let lines = arrived(arrivals);
            let (mut owner, mut topic) = (Detector::with_limits(NARROW), Topic::default());
            let half = lines.len() / 2;
            walked(&mut owner, &lines[..half], 0);
            let mut rest = half..lines.len();
            loop {
                let made = checkpoint(&mut owner, max_bytes);
                let complete = made.complete;
                topic.commit(made);
                if complete {
                    break;
                }
                // A few more records, as long as there are some.
                let at = rest.start;
                let until = lines.len().min(at + 3);
                walked(&mut owner, &lines[at..until], at);
                rest.start = until;
            }
            let mut restored = restore(&topic, &log('a'), NARROW).unwrap();
            prop_assert_eq!(sizes(&restored), sizes(&owner));
            let at = rest.start;
            prop_assert_eq!(walked(&mut restored, &lines[at..], at), walked(&mut owner, &lines[at..], at));
            Ok(())
        })
        .unwrap();
}

const STORY: &str = "
    t+0m   alice paris
    t+40m  alice tokyo
    t+50m  bob   berlin";

fn told() -> (Detector, Topic) {
    let (mut detector, mut topic) = (Detector::default(), Topic::default());
    walked(&mut detector, &lines(STORY), 0);
    topic.commit(checkpoint(&mut detector, usize::MAX));
    (detector, topic)
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let (mut detector, _) = told();
    // Two subjects with their habits and tokens, three sites, two cases (travel and replay), and the stream time.
    let count = |detector: &mut Detector| checkpoint(detector, usize::MAX).records.len();
    assert_eq!(count(&mut detector), 1, "the stream time alone");
    walked(&mut detector, &lines("t+55m bob berlin"), 3);
    assert_eq!(count(&mut detector), 3, "bob, his token, the stream time");
}

#[test]
fn what_expires_leaves_the_topic() {
    let (mut detector, mut topic) = told();
    assert!(topic.0.len() > 6);
    let mut late = lines("t+0m carol nice token=-");
    // Carol's journeys, the stream time, and for a month more what is usual for all three.
    for (days, left) in [(2, None), (3, None), (6, None), (9, Some(5)), (36, Some(3))] {
        late[0].time_ms = T0 + days * 24 * HOUR_MS;
        late[0].arrives_ms = late[0].time_ms;
        walked(&mut detector, &late, 3 + usize::try_from(days).unwrap());
        topic.commit(checkpoint(&mut detector, usize::MAX));
        let subjects = topic.0.keys().filter(|key| key[16] != b'p').count();
        assert!(left.is_none_or(|left| left == subjects), "after {days} days {subjects} are left");
    }
}

#[test]
fn another_logs_state_is_not_restored_and_is_removed() {
    let (_, mut topic) = told();
    let old = topic.0.len();
    assert!(matches!(restore(&topic, &log('b'), Limits::default()), Err(NotUsable::Missing)));
    let mut owner = topic.scan(&log('b')).start_anew(Limits::default());
    walked(&mut owner, &lines("t+0m carol nice"), 0);
    let made = owner.checkpoint(&log('b'), PartitionId(3), usize::MAX, &());
    assert_eq!(made.records.iter().filter(|record| record.value.is_empty()).count(), old);
    topic.commit(made);
    assert!(topic.0.keys().all(|key| key.starts_with(&[0xbb; 16])));
    assert_eq!(restore(&topic, &log('b'), Limits::default()).unwrap().size().subjects, 1);
}

#[test]
fn a_walk_that_begins_anew_leaves_nothing_of_what_lay_there() {
    let (_, mut topic) = told();
    let mut owner = topic.scan(&log('a')).start_anew(Limits::default());
    walked(&mut owner, &lines("t+0m bob berlin"), 0);
    topic.commit(checkpoint(&mut owner, usize::MAX));
    let restored = restore(&topic, &log('a'), Limits::default()).unwrap();
    assert_eq!(sizes(&restored), sizes(&owner));
    assert_eq!(restored.size().subjects, 1);
}

#[test]
fn what_another_version_wrote_or_is_broken_is_not_usable() {
    fn check(change: impl Fn(&mut Vec<u8>), of: u8, expected: &str) {
        let (_, mut topic) = told();
        let value = topic.0.iter_mut().find(|(key, _)| key[16] == of).unwrap().1;
        change(value);
        let refused = restore(&topic, &log('a'), Limits::default()).err();
        assert_eq!(refused.as_ref().map(NotUsable::code), Some(expected));
    }
    for of in [b'p', b's', b'u', b't', b'c', b'x'] {
        check(|value| value[0] += 1, of, "state_version");
        check(|value| value.truncate(value.len() - 1), of, "state_broken");
        check(|value| value.push(0), of, "state_broken");
    }
}

#[test]
fn what_is_not_whole_is_not_usable() {
    fn check(without: impl Fn(u8) -> bool, expected: &str) {
        let (_, mut topic) = told();
        topic.0.retain(|key, _| !without(key[16]));
        let refused = restore(&topic, &log('a'), Limits::default()).err();
        assert_eq!(refused.as_ref().map(NotUsable::code), Some(expected));
    }
    check(|letter| letter == b'p', "state_broken");
    check(|letter| letter == b'x', "state_missing");
    check(|_| true, "state_missing");
}
