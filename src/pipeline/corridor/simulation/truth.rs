//! What must hold at the end of every history, whatever happened: one uninterrupted walk of the log is the truth.

use std::collections::{BTreeMap, BTreeSet};

use super::house::{GROUP, House, snapshots, walk_bounds};
use super::op::PARTITIONS;
use crate::log::memory::Lying;
use crate::log::{Batch, Topic};
use crate::model::{Alert, Finding, LogId, PartitionId};
use crate::pipeline::alert::Found;
use crate::pipeline::store::memory::Row;
use crate::pipeline::{Walk, WayOut, decode};

/// How a record leaves the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Stored,
    Dropped,
    Dead,
    Forwarded,
    Control,
}

/// What one walk says of one partition.
#[derive(Default)]
struct Truth {
    ways: BTreeMap<u64, Way>,
    /// The newest revision of each case.
    findings: BTreeMap<String, Finding>,
    /// Cases, and the steps that somebody must be told.
    alerts: BTreeSet<(String, String)>,
}

impl Truth {
    fn of(log: LogId, partition: PartitionId, records: &[Lying]) -> Self {
        let bounds = decode::Bounds { log, ..walk_bounds() };
        let (mut walk, mut truth) = (Walk::new(bounds, snapshots(0), partition), Self::default());
        let mut batch = Batch::default();
        batch.clear(partition);
        for (offset, time, record) in records {
            let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
            batch.push(*offset, *time, record.key.as_deref(), &record.value, headers);
        }
        for record in batch.iter() {
            let (way, found) = match walk.step(&record) {
                WayOut::Alerted(alerted) => {
                    let kind = alerted.enriched.checked.decoded.event.kind;
                    (if kind.is_control() { Way::Control } else { Way::Stored }, Some(alerted.found))
                }
                WayOut::Rejected(_) => (Way::Dead, None),
                WayOut::Dropped(_) => (Way::Dropped, None),
                WayOut::Forwarded(_) => (Way::Forwarded, None),
                WayOut::Control(found) => (Way::Control, Some(found)),
            };
            truth.ways.insert(record.offset.get().unsigned_abs(), way);
            found.into_iter().for_each(|found| truth.find(found));
        }
        truth
    }

    fn find(&mut self, found: Found) {
        for finding in found.findings {
            self.findings.insert(finding.case.finding_id.to_string(), finding);
        }
        self.alerts.extend(found.alerts.iter().map(told));
    }

    fn count(&self, way: Way) -> usize {
        self.ways.values().filter(|&&other| other == way).count()
    }

    fn offsets(&self, ways: &[Way]) -> Vec<u64> {
        self.ways.iter().filter(|(_, way)| ways.contains(way)).map(|(&offset, _)| offset).collect()
    }
}

fn told(alert: &Alert) -> (String, String) {
    (alert.data.finding.case.finding_id.to_string(), alert.step.as_str().to_owned())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should_be: &T) -> Result<(), String> {
    if is == should_be { Ok(()) } else { Err(format!("{what}: is {is:?}, should be {should_be:?}")) }
}

pub(super) fn hold(house: &House) -> Result<(), String> {
    let mut alerts = BTreeSet::new();
    let mut stored = BTreeMap::<String, Vec<Lying>>::new();
    let (mut forwarded, mut copies) = (0, Vec::new());
    for partition in (0..PARTITIONS).map(PartitionId) {
        let records = house.log.records(Topic::Events, partition);
        let Some(commit) = house.log.committed(GROUP, Topic::Events, partition) else {
            same("records without a commit", &records.len(), &0)?;
            continue;
        };
        let metadata: serde_json::Value = serde_json::from_str(&commit.metadata).unwrap();
        let log = LogId::try_from(metadata["log"].as_str().unwrap().to_owned()).unwrap();
        let truth = Truth::of(log, partition, &records);
        of_partition(house, partition, &truth, commit.resume_at.offset().get().unsigned_abs())
            .map_err(|why| format!("partition {partition}: {why}"))?;
        forwarded += truth.count(Way::Forwarded);
        let is_copy =
            |(_, _, record): &&Lying| record.headers.iter().any(|(name, _)| name == "jwtrail-forward");
        copies.extend(records.iter().filter(is_copy).map(|(_, _, record)| record.headers.clone()));
        for lying in records {
            let offset = lying.0.get().unsigned_abs();
            if matches!(truth.ways[&offset], Way::Stored | Way::Dropped) {
                let event: serde_json::Value = serde_json::from_slice(&lying.2.value).unwrap();
                stored.entry(event["id"].to_string()).or_default().push(lying);
            }
        }
        alerts.extend(truth.alerts);
    }
    same("copies in the log", &copies.len(), &forwarded)?;
    copies.sort();
    copies.dedup();
    same("different copies", &copies.len(), &forwarded)?;
    each_event_once(house, &stored)?;
    let outbox = house.log.records(Topic::Alerts, PartitionId(0));
    let outbox = outbox.iter().map(|(_, _, record)| told(&serde_json::from_slice(&record.value).unwrap()));
    same("alerts", &outbox.collect(), &alerts)
}

/// Every event has a row, and one alone if its repeats came within the time that they are remembered.
fn each_event_once(house: &House, walked: &BTreeMap<String, Vec<Lying>>) -> Result<(), String> {
    /// A little less than the ten minutes.
    const REMEMBERED_MS: i64 = 9 * 60_000;
    let mut rows = BTreeMap::<String, usize>::new();
    for row in house.tables.rows("events") {
        *rows.entry(row["event_id"].to_string()).or_default() += 1;
    }
    same("events with rows", &rows.keys().collect(), &walked.keys().collect::<Vec<_>>())?;
    for (id, records) in walked {
        let times = || records.iter().map(|(_, time, _)| time.get());
        let span = times().max().unwrap_or_default() - times().min().unwrap_or_default();
        if span <= REMEMBERED_MS {
            same(&format!("rows of {id}"), &rows[id], &1)?;
        }
    }
    Ok(())
}

fn of_partition(house: &House, partition: PartitionId, truth: &Truth, committed: u64) -> Result<(), String> {
    let here = |row: &Row| row["topic"] == Topic::Events.name() && row["partition"] == partition.0;
    let offset = |row: &Row| row["offset"].as_u64().unwrap();
    let mut rows: Vec<u64> = house.tables.rows("events").iter().filter(|row| here(row)).map(offset).collect();
    rows.sort_unstable();
    same("rows", &rows, &truth.offsets(&[Way::Stored]))?;

    let rejects = house.tables.newest("rejects", &["log", "topic", "partition", "offset"]);
    let mut rejected: Vec<u64> = rejects.iter().filter(|row| here(row)).map(offset).collect();
    rejected.sort_unstable();
    same("rejects", &rejected, &truth.offsets(&[Way::Dropped, Way::Dead]))?;

    blocks(house, here, truth, committed)?;
    findings(house, here, truth)
}

/// The lines touch, from the first offset to the commit, and each accounts for its records.
fn blocks(house: &House, here: impl Fn(&Row) -> bool, truth: &Truth, committed: u64) -> Result<(), String> {
    let lines = house.tables.newest("blocks", &["log", "topic", "partition", "first"]);
    let number = |row: &Row, column: &str| row[column].as_u64().unwrap() as usize;
    let mut lines: Vec<Row> = lines.into_iter().filter(|row| here(row)).collect();
    lines.sort_by_key(|line| number(line, "first"));
    let mut next = 0;
    for line in &lines {
        let (first, last) = (number(line, "first"), number(line, "last"));
        same("where a block begins", &first, &next)?;
        next = last + 1;
        let sum = |column: &str| -> usize {
            let counts = line[column].as_object().unwrap().values();
            counts.map(|count| usize::try_from(count.as_u64().unwrap()).unwrap()).sum()
        };
        let counts = (
            number(line, "rows"),
            sum("dropped"),
            sum("dead"),
            number(line, "forwarded"),
            number(line, "control"),
        );
        let within = |way: Way| {
            let offsets = truth.ways.range(first as u64..=last as u64);
            offsets.filter(|(_, other)| **other == way).count()
        };
        let ways = [Way::Stored, Way::Dropped, Way::Dead, Way::Forwarded, Way::Control].map(within);
        let [stored, dropped, dead, forwarded, control] = ways;
        same(&format!("block {first}-{last}"), &counts, &(stored, dropped, dead, forwarded, control))?;
        same("its records", &number(line, "records"), &ways.iter().sum())?;
    }
    same("where the last block ends", &(next as u64), &committed)
}

/// As the uninterrupted walk found them, to the last revision.
fn findings(house: &House, here: impl Fn(&Row) -> bool, truth: &Truth) -> Result<(), String> {
    let mut newest = BTreeMap::<String, Row>::new();
    for row in house.tables.rows("finding_rows").into_iter().filter(|row| here(row)) {
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
