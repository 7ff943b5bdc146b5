//! A queue against a model: a receiver that counts, an outbox, and a process that may end at any time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::deliver::tests::alert_with_id;
use crate::log::{Batch, Commit, METADATA_BYTES_MAX};
use crate::model::PartitionId;

/// What may happen.
#[derive(Clone, Debug)]
enum Op {
    Append {
        finding: u8,
        severity: Severity,
    },
    Read(u8),
    /// Starts one delivery, if there is one.
    Start,
    /// One of those under way is answered.
    Answer {
        which: u8,
        answer: Answered,
        stored: bool,
    },
    /// Rows alone are stored, or not.
    Stored(bool),
    AdvanceMs(u16),
    /// Ends in an orderly way: what is under way has no answer, the rest is committed.
    Stop,
    /// Ends without warning; the receiver may have been told of what is under way.
    Crash {
        told: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Answered {
    Delivered,
    Away,
    Refused,
}

/// What is told, or has a row.
type Step = (FindingId, Severity);

struct World {
    outbox: Vec<String>,
    queue: Queue,
    under_way: Vec<Job>,
    committed: Option<(crate::model::ResumeAt, String)>,
    now: Instant,
    /// What the receiver was told, in order.
    told: Vec<Step>,
    /// Told since the last commit: a crash may repeat these.
    unwritten: usize,
    repeats_allowed: usize,
    storing: Option<Vec<Bytes>>,
    stored: BTreeSet<Step>,
}

const PACE: Pace = Pace {
    first: Duration::from_millis(100),
    away_cap: Duration::from_secs(2),
    refused_cap: Duration::from_secs(2),
    give_up_after: Duration::from_secs(u64::MAX / 1_000),
    at_once: 3,
};

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let queue = restart(&[], None, now);
        Self {
            outbox: Vec::new(),
            queue,
            under_way: Vec::new(),
            committed: None,
            now,
            told: Vec::new(),
            unwritten: 0,
            repeats_allowed: 0,
            storing: None,
            stored: BTreeSet::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Append { finding, severity } => {
                self.outbox.push(from_one_network(u32::from(*finding), severity.as_str()));
            }
            Op::Read(count) => {
                let from = usize::try_from(self.queue.position().get()).unwrap();
                let to = (from + usize::from(*count)).min(self.outbox.len());
                if self.queue.has_room() {
                    let batch = batch(&self.outbox[from..to], from);
                    batch.iter().for_each(|record| self.queue.read(&record, self.now));
                }
            }
            Op::Start => {
                // As the lane does: nothing is begun before what has ended is written down.
                self.commit();
                match self.queue.next(self.now, UnixMs::new(0)) {
                    Next::Start(job) => {
                        self.under_way.push(job);
                        assert!(self.under_way.len() <= PACE.at_once);
                    }
                    Next::Store(rows) => self.storing = Some(rows),
                    Next::Wait(_) => {}
                }
            }
            Op::Answer { which, answer, stored } => {
                if !self.under_way.is_empty() {
                    let job = self.under_way.remove(usize::from(*which) % self.under_way.len());
                    self.answer(&job, *answer, *stored);
                }
            }
            Op::Stored(stored) => {
                if let Some(rows) = self.storing.take() {
                    if *stored {
                        self.store(&rows);
                    }
                    self.queue.rows_stored(*stored, self.now);
                }
            }
            Op::AdvanceMs(ms) => self.now += Duration::from_millis((*ms).into()),
            Op::Stop => {
                self.commit();
                self.under_way.clear();
                self.storing = None;
                self.restart();
            }
            Op::Crash { told } => {
                for job in std::mem::take(&mut self.under_way) {
                    if *told {
                        self.tell(&job);
                    }
                }
                self.storing = None;
                self.repeats_allowed += std::mem::take(&mut self.unwritten);
                self.restart();
            }
        }
    }

    fn answer(&mut self, job: &Job, answer: Answered, stored: bool) {
        let answer = match answer {
            Answered::Delivered => Answer::Delivered,
            Answered::Away => Answer::Away { why: String::new(), retry_after: None },
            Answered::Refused => Answer::Refused { why: String::new(), retry_after: None },
        };
        if answer == Answer::Delivered {
            self.tell(job);
        }
        if stored {
            self.store(&job.rows);
        }
        let report = Report { stored: stored || job.rows.is_empty(), answer };
        self.queue.report(job.offset, report, self.now, 500);
    }

    /// Rows are told apart by the step that they hold.
    fn store(&mut self, rows: &[Bytes]) {
        self.stored.extend(rows.iter().map(|row| step_of(&serde_json::from_slice(row).unwrap())));
    }

    fn tell(&mut self, job: &Job) {
        self.told.push(step_of(&serde_json::from_slice(&job.body).unwrap()));
        self.unwritten += 1;
    }

    fn commit(&mut self) {
        if self.queue.is_changed() {
            let (resume_at, metadata) = self.queue.progress().write();
            assert!(metadata.len() <= METADATA_BYTES_MAX, "{} bytes", metadata.len());
            self.committed = Some((resume_at, metadata));
            self.queue.set_committed();
            self.unwritten = 0;
        }
    }

    fn restart(&mut self) {
        self.queue = restart(&self.outbox, self.committed.as_ref(), self.now);
    }

    /// Everything works from now on: all must be told and done.
    fn settle(&mut self) {
        for _ in 0..4 * (self.outbox.len() + 8) {
            self.step(&Op::Read(u8::MAX));
            self.step(&Op::Start);
            self.step(&Op::Stored(true));
            self.step(&Op::Answer { which: 0, answer: Answered::Delivered, stored: true });
            self.step(&Op::AdvanceMs(6_000));
        }
        self.commit();
        let progress = self.queue.progress();
        assert_eq!(progress.resume_at.get(), i64::try_from(self.outbox.len()).unwrap());
        assert!(progress.done.is_empty() && progress.told.is_empty());

        // Each finding, or the storm that it was in, was told at its highest severity, and every row is stored.
        let (steps, rows) = expected(&self.outbox);
        assert_eq!(highest(&self.told), highest(&steps));
        let repeats = self.told.len() - self.told.iter().collect::<BTreeSet<_>>().len();
        assert!(repeats <= self.repeats_allowed, "{repeats} repeats of {} allowed", self.repeats_allowed);
        if self.repeats_allowed == 0 {
            let mut so_far = BTreeMap::new();
            for &(finding, severity) in &self.told {
                let before = so_far.insert(finding, severity);
                assert!(before < Some(severity), "{finding} falls to {severity}");
            }
        }
        assert_eq!(self.stored, rows);
    }
}

/// An alert whose far end is where that of all others is: five cases are a storm.
fn from_one_network(number: u32, severity: &str) -> String {
    let mut alert: serde_json::Value = serde_json::from_str(&alert_with_id(number, severity)).unwrap();
    alert["data"]["tenant"] = "acme".into();
    alert["data"]["evidence"] = serde_json::json!({ "to": { "ip": "203.0.113.7" } });
    alert.to_string()
}

/// The steps that are to be told, by one reading of the whole outbox, and those that are to have rows.
fn expected(outbox: &[String]) -> (Vec<Step>, BTreeSet<Step>) {
    let (mut storms, mut told, mut rows) = (Storms::default(), Vec::new(), BTreeSet::new());
    for record in batch(outbox, 0).iter() {
        let alert = serde_json::from_slice(record.value).unwrap();
        rows.insert(step_of(&alert));
        match storms.judge(record.offset, record.append_time, &alert) {
            Telling::Single => told.push(step_of(&alert)),
            Telling::Grouped => {}
            Telling::Storm(storm) => {
                told.push(step_of(&storm));
                rows.insert(step_of(&storm));
            }
        }
    }
    (told, rows)
}

fn highest(steps: &[Step]) -> BTreeMap<FindingId, Severity> {
    let mut highest = BTreeMap::new();
    for &(finding, severity) in steps {
        let so_far = highest.entry(finding).or_insert(severity);
        *so_far = severity.max(*so_far);
    }
    highest
}

fn batch(alerts: &[String], first: usize) -> Batch {
    let mut batch = Batch::default();
    batch.clear(PartitionId(0));
    for (index, alert) in alerts.iter().enumerate() {
        let offset = Offset::new(i64::try_from(first + index).unwrap()).unwrap();
        batch.push(offset, UnixMs::new(0), None, alert.as_bytes(), []);
    }
    batch
}

/// As a lane begins.
fn restart(outbox: &[String], committed: Option<&(crate::model::ResumeAt, String)>, now: Instant) -> Queue {
    let commit = |(resume_at, metadata): &(crate::model::ResumeAt, String)| Commit {
        resume_at: *resume_at,
        metadata: metadata.clone(),
    };
    let end = Offset::new(i64::try_from(outbox.len()).unwrap()).unwrap();
    let (progress, _) = Progress::of(committed.map(commit).as_ref(), Offset::ZERO, end);
    let owner = Owner { destination: "soc".into(), partition: PartitionId(0), policy: Arc::default() };
    let mut queue = Queue::new(owner, &progress, Offset::ZERO, PACE, now);
    let known = usize::try_from(progress.known_end().get()).unwrap();
    let batch = batch(&outbox[..known], 0);
    batch.iter().for_each(|record| queue.recover(&record, &progress, now));
    queue
}

fn severity() -> impl Strategy<Value = Severity> {
    prop::sample::select(Severity::ALL)
}

fn op() -> impl Strategy<Value = Op> {
    let answered = prop_oneof![
        4 => Just(Answered::Delivered),
        1 => Just(Answered::Away),
        1 => Just(Answered::Refused)
    ];
    prop_oneof![
        6 => (0_u8..9, severity()).prop_map(|(finding, severity)| Op::Append { finding, severity }),
        3 => (1_u8..5).prop_map(Op::Read),
        6 => Just(Op::Start),
        6 => (any::<u8>(), answered, prop::bool::weighted(0.8))
            .prop_map(|(which, answer, stored)| Op::Answer { which, answer, stored }),
        3 => prop::bool::weighted(0.8).prop_map(Op::Stored),
        3 => (1_u16..3_000).prop_map(Op::AdvanceMs),
        1 => Just(Op::Stop),
        1 => any::<bool>().prop_map(|told| Op::Crash { told }),
    ]
}

fn play(ops: &[Op]) {
    let mut world = World::new();
    ops.iter().for_each(|op| world.step(op));
    world.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_only_a_crash_repeats(ops in prop::collection::vec(op(), 0..160)) {
        play(&ops);
    }
}

/// Every second one is refused for ever: more runs than a commit can hold.
#[test]
fn runs_beyond_a_commits_metadata_pause_the_destination() {
    let mut world = World::new();
    for number in 0..6_000_u32 {
        world.outbox.push(alert_with_id(number, "high"));
    }
    let mut refused = 0;
    while world.queue.has_room() && world.queue.position().get() < 6_000 {
        world.step(&Op::Read(200));
        loop {
            world.step(&Op::Start);
            let Some(job) = world.under_way.pop() else { break };
            let odd = job.offset.get() % 2 == 1;
            refused += u32::from(odd);
            world.answer(&job, if odd { Answered::Refused } else { Answered::Delivered }, true);
        }
    }
    assert!(!world.queue.has_room(), "it reads on");
    assert!(world.queue.position().get() < 6_000);
    assert!(refused > 700, "{refused}: it pauses long before the metadata is full");
    // Only the lowest is tried from now on.
    world.step(&Op::AdvanceMs(10_000));
    world.step(&Op::Start);
    world.step(&Op::Start);
    let offsets: Vec<i64> = world.under_way.iter().map(|job| job.offset.get()).collect();
    assert_eq!(offsets, [1]);
}

#[test]
fn a_destination_that_is_away_is_asked_by_one_delivery_at_a_time() {
    let mut world = World::new();
    for number in 0..10 {
        world.outbox.push(alert_with_id(number, "high"));
    }
    world.step(&Op::Read(10));
    for _ in 0..10 {
        world.step(&Op::Start);
    }
    assert_eq!(world.under_way.len(), PACE.at_once);
    while let Some(job) = world.under_way.pop() {
        world.answer(&job, Answered::Away, true);
    }
    assert_eq!(world.queue.failures(), 1, "those under way at once are one failure");
    let mut asked = Vec::new();
    for _ in 0..4 {
        world.step(&Op::Start);
        assert!(world.under_way.is_empty(), "it waits");
        world.step(&Op::AdvanceMs(3_000));
        world.step(&Op::Start);
        world.step(&Op::Start);
        assert_eq!(world.under_way.len(), 1);
        let job = world.under_way.remove(0);
        asked.push(job.offset.get());
        world.answer(&job, Answered::Away, true);
    }
    assert_eq!(asked, [3, 4, 5, 6], "another each time: one that makes it hang must not stop the rest");
}
