//! What one uninterrupted walk says of a partition.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::house::{retried_key, snapshots, walk_bounds};
use crate::log::memory::Lying;
use crate::log::{Batch, Record};
use crate::model::{Alert, Finding, LogId, Offset, PartitionId, Proof, UnixMs};
use crate::pipeline::alert::Found;
use crate::pipeline::corridor::Course;
use crate::pipeline::decode::Bounds;
use crate::pipeline::{LaneWalk, WayOut, decode};

/// How a record leaves the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Stored,
    Dropped,
    Dead,
    Forwarded,
    Control,
}

impl Way {
    pub(super) const ALL: [Self; 5] =
        [Self::Stored, Self::Dropped, Self::Dead, Self::Forwarded, Self::Control];
}

/// The partition that is walked, and with which snapshots.
pub(super) struct Walked<'w> {
    pub(super) course: Course,
    pub(super) log: &'w LogId,
    pub(super) partition: PartitionId,
    /// The number of those with which the record at an offset was walked.
    pub(super) snapshots: &'w dyn Fn(Offset) -> u32,
}

impl Walked<'_> {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { log: self.log.clone(), ..walk_bounds() }
    }
}

/// What one walk says of one partition.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Truth {
    pub(super) ways: BTreeMap<u64, Way>,
    pub(super) proofs: BTreeMap<u64, Proof>,
    /// The newest revision of each case.
    pub(super) findings: BTreeMap<String, Finding>,
    /// Cases, and the steps that somebody must be told.
    pub(super) alerts: BTreeSet<(String, String)>,
}

impl Truth {
    pub(super) fn of(walked: &Walked<'_>, records: &[Lying]) -> Self {
        let walk = walked.course.begin(walked.bounds(), snapshots(0), walked.partition);
        Self::walk(walked, records, walk, |_, _, walk| walk)
    }

    /// `own` is asked before each record who walks it: with the snapshots of that number, if it is a new owner.
    pub(super) fn walk(
        walked: &Walked<'_>,
        records: &[Lying],
        mut walk: Box<dyn LaneWalk>,
        mut own: impl FnMut(Offset, u32, Box<dyn LaneWalk>) -> Box<dyn LaneWalk>,
    ) -> Self {
        let (mut truth, mut rows, mut used) = (Self::default(), Rows::default(), 0);
        for record in batch_of(walked.partition, records).iter() {
            walk = own(record.offset, used, walk);
            let number = (walked.snapshots)(record.offset);
            if number != used {
                walk.use_snapshots(snapshots(number));
                used = number;
            }
            walk.drop_repeats(rows.before(&record));
            truth.take(&record, walk.step(&record), &mut rows);
        }
        truth
    }

    fn take(&mut self, record: &Record<'_>, way_out: WayOut<'_>, rows: &mut Rows) {
        let offset = record.offset.get().unsigned_abs();
        let (way, found) = match way_out {
            WayOut::Alerted(alerted) => {
                let checked = &alerted.enriched.checked;
                let event = &checked.decoded.event;
                if event.kind.is_control() {
                    (Way::Control, Some(alerted.found))
                } else {
                    self.proofs.insert(offset, checked.proof);
                    rows.add(event.id, checked.attested_by.is_some(), record);
                    (Way::Stored, Some(alerted.found))
                }
            }
            WayOut::Rejected(_) => (Way::Dead, None),
            WayOut::Dropped(_) => (Way::Dropped, None),
            WayOut::Forwarded(_) => (Way::Forwarded, None),
            WayOut::Control(found) => (Way::Control, Some(found)),
        };
        self.ways.insert(offset, way);
        found.into_iter().for_each(|found| self.find(found));
    }

    fn find(&mut self, found: Found) {
        for finding in found.findings {
            self.findings.insert(finding.case.finding_id.to_string(), finding);
        }
        self.alerts.extend(found.alerts.iter().map(told));
    }

    pub(super) fn count(&self, way: Way) -> usize {
        self.ways.values().filter(|&&other| other == way).count()
    }

    pub(super) fn offsets(&self, ways: &[Way]) -> Vec<u64> {
        self.ways.iter().filter(|(_, way)| ways.contains(way)).map(|(&offset, _)| offset).collect()
    }
}

pub(super) fn told(alert: &Alert) -> (String, String) {
    (alert.data.finding.case.finding_id.to_string(), alert.step.as_str().to_owned())
}

pub(super) fn batch_of(partition: PartitionId, records: &[Lying]) -> Batch {
    let mut batch = Batch::default();
    batch.clear(partition);
    for (offset, time, record) in records {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        batch.push(*offset, *time, record.key.as_deref(), &record.value, headers);
    }
    batch
}

/// How far the tables are asked back of what was held back since some time: the door's clock may be ahead of the log's.
pub(super) const ASKED_BACK: Duration = Duration::from_secs(60 * 60);

/// The rows so far, of each event and whether it is attested: its offsets and times.
#[derive(Default)]
pub(super) struct Rows(HashMap<(Uuid, bool), Vec<(Offset, UnixMs)>>);

impl Rows {
    fn add(&mut self, id: Uuid, attested: bool, record: &Record<'_>) {
        self.0.entry((id, attested)).or_default().push((record.offset, record.append_time));
    }

    /// Whether a record that was held back has a row, as [`LaneWalk::drop_repeats`] is told.
    fn before(&self, record: &Record<'_>) -> HashSet<(Offset, bool)> {
        let Some(retried) = decode::retried(record, &retried_key()) else { return HashSet::new() };
        let since = retried.since - ASKED_BACK;
        let has_row = |attested: &bool| {
            let rows = self.0.get(&(retried.event_id, *attested));
            rows.is_some_and(|rows| rows.iter().any(|(_, received_at)| *received_at >= since))
        };
        [false, true].into_iter().filter(has_row).map(|attested| (record.offset, attested)).collect()
    }
}
