//! What must hold at the end of every history, whatever happened: one uninterrupted walk of the log is the truth.
//!
//! Where records left the log that were wanted, the state of later owners is another, and so is what they find: of such a
//! partition each record is still accounted for, or told to be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::house::{House, partitions_of, retried_key};
use super::recut;
use super::truth::{ASKED_BACK, Truth, Walked, Way, batch_of, told};
use crate::log::Topic;
use crate::log::memory::Lying;
use crate::model::{Alert, LogId, Offset, PartitionId, Proof, RuleId, Summary, UnixMs};
use crate::pipeline::corridor::Course;
use crate::pipeline::decode;
use crate::pipeline::store::memory::Row;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should_be: &T) -> Result<(), String> {
    if is == should_be { Ok(()) } else { Err(format!("{what}: is {is:?}, should be {should_be:?}")) }
}

fn holds(what: impl FnOnce() -> String, holds: bool) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

pub(super) fn hold(house: &House) -> Result<(), String> {
    let mut events = Events::default();
    for course in Course::ALL {
        for partition in partitions_of(course) {
            let place = Place { house, course, partition };
            place.hold(&mut events).map_err(|why| format!("{} {partition}: {why}", course.topic().name()))?;
        }
    }
    events.hold(house)
}

/// One partition, and what became of it.
#[derive(Clone, Copy)]
struct Place<'h> {
    house: &'h House,
    course: Course,
    partition: PartitionId,
}

/// What the partitions of the events come to together.
#[derive(Default)]
struct Events {
    forwarded: usize,
    copies: Vec<Vec<(String, Vec<u8>)>>,
    /// By id: where it was walked to its end.
    walked: BTreeMap<String, Vec<Lying>>,
    /// Something left the log that was wanted.
    missed: bool,
}

/// A block's line, with the offsets that it is for.
struct Line {
    first: u64,
    last: u64,
    snapshots: u32,
    row: Row,
}

impl Place<'_> {
    fn hold(self, events: &mut Events) -> Result<(), String> {
        let Self { house, course, partition } = self;
        let (records, missed) = house.ever(course, partition);
        let Some(commit) = house.log.committed(course.group(), course.topic(), partition) else {
            return same("records without a commit", &records.len(), &0);
        };
        let metadata: serde_json::Value = serde_json::from_str(&commit.metadata).unwrap();
        let log = LogId::try_from(metadata["log"].as_str().unwrap().to_owned()).unwrap();
        let committed = commit.resume_at.offset().get().unsigned_abs();
        let lines = self.lines();
        // What no block had was walked by nobody, and what is said of it does not matter.
        let of_offset = |offset: Offset| {
            let offset = offset.get().unsigned_abs();
            let line = lines.iter().rev().find(|line| (line.first..=line.last).contains(&offset));
            line.map_or(0, |line| line.snapshots)
        };
        let walked = Walked { course, log: &log, partition, snapshots: &of_offset };
        let truth = Truth::of(&walked, &records);
        let lost = self.lost();
        self.each_is_accounted_for(&truth, &lines, &lost, missed, committed)?;
        self.proofs(&truth, &lines, &log)?;
        same(
            "alerts of what is lost",
            &self.alerts_of_loss(),
            &lost.iter().map(|range| range.start).collect(),
        )?;
        if !missed {
            same("what is told to be lost", &lost, &Vec::new())?;
            self.findings(&truth)?;
            same("alerts", &self.alerts(), &truth.alerts)?;
            recut::hold(&walked, &records, &truth)?;
        }
        if course == Course::Events {
            self.summaries(&lines, missed)?;
            events.add(&truth, records, &lost, missed);
        }
        Ok(())
    }

    fn is_here(self, row: &Row) -> bool {
        row["topic"] == self.course.topic().name() && row["partition"] == self.partition.0
    }

    fn offsets(self, rows: Vec<Row>) -> Vec<u64> {
        let here = rows.iter().filter(|row| self.is_here(row));
        let mut offsets: Vec<u64> = here.map(|row| number(row, "offset")).collect();
        offsets.sort_unstable();
        offsets
    }

    fn lines(self) -> Vec<Line> {
        let rows = self.house.tables.newest("blocks", &["log", "topic", "partition", "first"]);
        let here = rows.into_iter().filter(|row| self.is_here(row));
        let mut lines: Vec<Line> = here
            .map(|row| Line {
                first: number(&row, "first"),
                last: number(&row, "last"),
                snapshots: row["snapshots"].as_str().unwrap().parse().unwrap(),
                row,
            })
            .collect();
        lines.sort_by_key(|line| line.first);
        lines
    }

    /// Offsets that `log_truncated` says are gone.
    fn lost(self) -> Vec<Range<u64>> {
        let rows = self.house.tables.newest("finding_rows", &["finding_id", "topic", "partition"]);
        let of_rule = |row: &&Row| self.is_here(row) && row["rule"] == RuleId::LogTruncated.as_str();
        let range = |row: &Row| {
            let evidence: serde_json::Value =
                serde_json::from_str(row["evidence"].as_str().unwrap()).unwrap();
            let offset = |name: &str| evidence[name].as_u64().unwrap();
            offset("from_offset")..offset("to_offset")
        };
        let mut lost: Vec<Range<u64>> = rows.iter().filter(of_rule).map(range).collect();
        lost.sort_by_key(|range| range.start);
        lost
    }

    /// Everything up to the commit lies in a block, or is told to be lost, and each record of a block left it in one way.
    fn each_is_accounted_for(
        self,
        truth: &Truth,
        lines: &[Line],
        lost: &[Range<u64>],
        missed: bool,
        committed: u64,
    ) -> Result<(), String> {
        let blocks = lines.iter().map(|line| line.first..line.last + 1);
        let mut known: Vec<Range<u64>> = blocks.chain(lost.iter().cloned()).collect();
        known.sort_by_key(|range| range.start);
        let mut next = 0;
        for range in &known {
            // Only what is lost may be in a block as well: its owner was stopped before it could commit.
            let touches = range.start == next || (range.start < next && missed);
            holds(|| format!("{range:?} begins where {next} is next: {known:?}"), touches)?;
            next = next.max(range.end);
        }
        same("where the last block ends", &next, &committed)?;

        let rows = self.offsets(self.house.tables.rows("events"));
        let rejects = self.house.tables.newest("rejects", &["log", "topic", "partition", "offset"]);
        let rejected = self.offsets(rejects);
        if missed {
            let once: BTreeSet<u64> = rows.iter().copied().collect();
            same("rows", &rows.len(), &once.len())?;
            let is_lost = |offset: u64| lost.iter().any(|range| range.contains(&offset));
            for (&offset, &way) in truth.ways.iter().filter(|(offset, _)| !is_lost(**offset)) {
                let leaves_none = matches!(way, Way::Forwarded | Way::Control);
                let has_one = rows.contains(&offset) || rejected.contains(&offset);
                holds(
                    || format!("{offset} is nowhere; blocks and losses: {known:?}"),
                    has_one || leaves_none,
                )?;
            }
            return Ok(());
        }
        same("rows", &rows, &truth.offsets(&[Way::Stored]))?;
        same("rejects", &rejected, &truth.offsets(&[Way::Dropped, Way::Dead]))?;
        lines.iter().try_for_each(|line| line.adds_up(truth))
    }

    /// Within a block every record was walked with the snapshots that its line names. One that was walked again may hold
    /// rows of either walk (PROMISE 5).
    fn proofs(self, truth: &Truth, lines: &[Line], log: &LogId) -> Result<(), String> {
        let rows = self.house.tables.rows("events");
        for line in lines {
            let block = format!(
                "{log}/{}/{}/{}-{}",
                self.course.topic().name(),
                self.partition,
                line.first,
                line.last
            );
            let was_repeated = self.house.tables.was_repeated(&block);
            let within =
                |row: &&Row| self.is_here(row) && (line.first..=line.last).contains(&number(row, "offset"));
            for row in rows.iter().filter(within) {
                let offset = number(row, "offset");
                let Some(proof) = truth.proofs.get(&offset) else { continue };
                let is_so = was_repeated || row["proof"] == proof.as_str();
                holds(
                    || format!("the proof of {offset} in {block} is {:?}, should be {proof}", row["proof"]),
                    is_so,
                )?;
                let is_signed = *proof != Proof::None || was_repeated;
                holds(
                    || format!("{offset} is attested by nobody"),
                    is_signed || row["proof"] == Proof::None.as_str(),
                )?;
            }
        }
        Ok(())
    }

    /// As the uninterrupted walk found them, to the last revision.
    fn findings(self, truth: &Truth) -> Result<(), String> {
        let mut newest = BTreeMap::<String, Row>::new();
        for row in self.house.tables.rows("finding_rows").into_iter().filter(|row| self.is_here(row)) {
            let id = row["finding_id"].as_str().unwrap().to_owned();
            let revision = |row: &Row| row["revision"].as_u64();
            if newest.get(&id).is_none_or(|known| revision(known) <= revision(&row)) {
                newest.insert(id, row);
            }
        }
        let tell = |id: &str, words: [String; 6]| format!("{id} {}", words.join(" "));
        let found = newest.iter().map(|(id, row)| {
            let columns = ["rule", "revision", "state", "severity", "event_count", "evidence"];
            let words = columns.map(|column| match &row[column] {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            tell(id, words)
        });
        let should_be = truth.findings.iter().map(|(id, finding)| {
            let case = &finding.case;
            let words = [
                case.rule.as_str().to_owned(),
                case.revision.to_string(),
                case.state.as_str().to_owned(),
                (case.severity as u8 + 1).to_string(),
                case.event_count.to_string(),
                case.evidence.to_string(),
            ];
            tell(id, words)
        });
        same("findings", &found.collect::<Vec<_>>(), &should_be.collect())
    }

    /// What lies in the outbox of this partition's cases.
    fn alerts(self) -> BTreeSet<(String, String)> {
        let of_walk = |alert: &Alert| alert.data.finding.case.rule != RuleId::LogTruncated;
        self.outbox().filter(of_walk).map(|alert| told(&alert)).collect()
    }

    /// Where that begins which somebody is told to be lost: each loss once or, if its owner died over it, again.
    fn alerts_of_loss(self) -> BTreeSet<u64> {
        let of_loss = |alert: &Alert| alert.data.finding.case.rule == RuleId::LogTruncated;
        let from = |alert: Alert| alert.data.finding.case.evidence["from_offset"].as_u64().unwrap();
        self.outbox().filter(of_loss).map(from).collect()
    }

    fn outbox(self) -> impl Iterator<Item = Alert> {
        let records = self.house.log.records(Topic::Alerts, PartitionId(0));
        let alerts = records.into_iter().map(|(_, _, record)| serde_json::from_slice(&record.value).unwrap());
        alerts.filter(move |alert: &Alert| {
            alert.data.topic == self.course.topic().name() && alert.data.partition == self.partition.0
        })
    }

    /// Each block that was released has added one, and no other has.
    fn summaries(self, lines: &[Line], missed: bool) -> Result<(), String> {
        let records = self.house.log.records(Topic::Summaries, PartitionId(0));
        let summaries =
            records.iter().filter_map(|(_, _, record)| serde_json::from_slice::<Summary>(&record.value).ok());
        let here = summaries.filter(|summary| summary.partition == self.partition);
        let told: Vec<(u64, u64)> =
            here.map(|it| (it.first.get().unsigned_abs(), it.last.get().unsigned_abs())).collect();
        let blocks: Vec<(u64, u64)> = lines.iter().map(|line| (line.first, line.last)).collect();
        if missed {
            // A block that lost a part of itself before it was released is another one afterwards.
            let in_order = told.windows(2).all(|pair| pair[0].1 < pair[1].0);
            return holds(|| format!("summaries of {told:?}"), in_order);
        }
        same("summaries", &told, &blocks)
    }
}

impl Line {
    /// It accounts for its records.
    fn adds_up(&self, truth: &Truth) -> Result<(), String> {
        let Self { first, last, row, .. } = self;
        let sum = |column: &str| -> u64 {
            row[column].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
        };
        let counts = [
            number(row, "rows"),
            sum("dropped"),
            sum("dead"),
            number(row, "forwarded"),
            number(row, "control"),
        ];
        let within =
            |way: Way| truth.ways.range(first..=last).filter(|(_, other)| **other == way).count() as u64;
        let ways = Way::ALL.map(within);
        same(&format!("block {first}-{last}"), &counts, &ways)?;
        same("its records", &number(row, "records"), &ways.iter().sum())
    }
}

fn number(row: &Row, column: &str) -> u64 {
    row[column].as_u64().unwrap()
}

impl Events {
    fn add(&mut self, truth: &Truth, records: Vec<Lying>, lost: &[Range<u64>], missed: bool) {
        self.missed |= missed;
        self.forwarded += truth.count(Way::Forwarded);
        let is_copy =
            |(_, _, record): &&Lying| record.headers.iter().any(|(name, _)| name == "jwtrail-forward");
        self.copies.extend(records.iter().filter(is_copy).map(|(_, _, record)| record.headers.clone()));
        for lying in records {
            let offset = lying.0.get().unsigned_abs();
            let is_lost = lost.iter().any(|range| range.contains(&offset));
            if matches!(truth.ways[&offset], Way::Stored | Way::Dropped) && !is_lost {
                let event: serde_json::Value = serde_json::from_slice(&lying.2.value).unwrap();
                self.walked.entry(event["id"].to_string()).or_default().push(lying);
            }
        }
    }

    fn hold(mut self, house: &House) -> Result<(), String> {
        let copies = self.copies.len();
        self.copies.sort();
        self.copies.dedup();
        same("different copies", &self.copies.len(), &copies)?;
        // What is lost may have been forwarded before, and may not.
        holds(|| format!("{copies} copies of {}", self.forwarded), copies <= self.forwarded)?;
        holds(|| format!("{copies} copies of {}", self.forwarded), copies == self.forwarded || self.missed)?;
        self.each_event_once(house)
    }

    /// Every event has a row, and one alone if its repeats came within the time that they are remembered, or were held
    /// back.
    fn each_event_once(&self, house: &House) -> Result<(), String> {
        let mut rows = BTreeMap::<String, usize>::new();
        for row in house.tables.rows("events") {
            *rows.entry(row["event_id"].to_string()).or_default() += 1;
        }
        let all_have = self.walked.keys().all(|id| rows.contains_key(id));
        holds(|| format!("an event has no row: {:?} of {:?}", rows.keys(), self.walked.keys()), all_have)?;
        if self.missed {
            return Ok(());
        }
        same("events with rows", &rows.len(), &self.walked.len())?;
        for (id, _) in self.walked.iter().filter(|(_, records)| is_one(records)) {
            same(&format!("rows of {id}"), &rows[id], &1)?;
        }
        Ok(())
    }
}

/// Whether records of one event, in the order of their partition, must have left one row.
fn is_one(records: &[Lying]) -> bool {
    /// A little less than the ten minutes for which it is remembered.
    const REMEMBERED_MS: i64 = 9 * 60_000;
    let Some((_, first, _)) = records.first() else { return false };
    let span = records.iter().map(|(_, time, _)| time.since_ms(*first)).max().unwrap_or_default();
    let was_held_back = |since: UnixMs| *first >= since - ASKED_BACK;
    let batch = batch_of(PartitionId(0), records);
    let mut later = batch.iter().skip(1);
    span <= REMEMBERED_MS
        || later
            .all(|record| decode::retried(&record, &retried_key()).is_some_and(|it| was_held_back(it.since)))
}
