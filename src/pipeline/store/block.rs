//! A block: what one run of records of a partition becomes, while it is filled and after it was cut.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::dead_letter::{self, Dead};
use super::retention::Retention;
use super::rows::{Reject, event_row, finding_row, origin_text, reject_row};
use crate::keys::Seals;
use crate::log::{NewRecord, Origin, Record, Topic};
use crate::model::{Alert, Finding, FindingId, Offset, RuleId, UnixMs};
use crate::pipeline::alert::{Alerted, Found};
use crate::pipeline::decode::{self, RejectReason, Rejected};
use crate::pipeline::detect::DropReason;
use crate::pipeline::summarize::Tally;

/// More rows than this would be split by ClickHouse into two blocks, and a token holds for one (PROMISE).
pub(super) const MAX_ROWS: usize = 500_000;
/// What a block may hold of rows, dead letters and forwards.
const MAX_BYTES: usize = 16 << 20;
/// What it may keep beside them of the records' own values. An ordinary event is about twice its row; one that is mostly
/// blanks, or members that have no column, is much more.
const MAX_VALUE_BYTES: usize = 48 << 20;

/// So many blocks a process may fill to these bounds at the same time.
const FULL_BLOCKS: usize = 4;

/// Names a block: the same records, the same id, in every repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockId {
    pub(crate) origin: Origin,
    pub(crate) first: Offset,
    /// Inclusive. No record need lie there: offsets may have holes.
    pub(crate) last: Offset,
}

impl BlockId {
    /// The insert token `L/topic/partition/a-b/ATTEMPT`.
    pub(super) fn token(&self, attempt: u32) -> String {
        format!("{self}/{attempt}")
    }
}

/// `L/topic/partition/a-b`.
impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.origin, self.first, self.last)
    }
}

/// What became of a block's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// A row of `events`.
    pub(crate) stored: u64,
    /// A dead letter, by reason.
    pub(crate) dead: BTreeMap<RejectReason, u64>,
    /// No row, and intended.
    pub(crate) dropped: BTreeMap<DropReason, u64>,
    /// Copied to its home partition.
    pub(crate) forwarded: u64,
    /// Heartbeats, marks and ticks.
    pub(crate) control: u64,
}

impl Counts {
    /// All records: each is counted once, under one name.
    pub(crate) fn records(&self) -> u64 {
        self.stored + self.dropped() + self.dead_letters() + self.forwarded + self.control
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    pub(crate) fn dead_letters(&self) -> u64 {
        self.dead.values().sum()
    }
}

/// Where one event's row ends in the block's buffer, and what is needed if ClickHouse refuses it.
#[derive(Clone, Debug)]
pub(super) struct RowEnd {
    pub(super) offset: Offset,
    pub(super) received_at: UnixMs,
    /// One past its last byte in `events`.
    pub(super) end: usize,
    /// One past the last byte of its record's value, as received, in `values`.
    pub(super) value_end: usize,
}

/// An alert, and when the log took the record that raised it.
#[derive(Clone, Debug)]
pub(crate) struct Raised {
    pub(crate) alert: Alert,
    pub(crate) appended_at: UnixMs,
}

/// The rows of one block, in ClickHouse's binary format, while it is being filled.
pub(crate) struct Block {
    origin: Origin,
    first: Offset,
    retention: Arc<Retention>,
    snapshots: Arc<str>,
    /// Seal its summary.
    seals: Arc<Seals>,
    events: Vec<u8>,
    values: Vec<u8>,
    ends: Vec<RowEnd>,
    /// The newest revision of each case: the ones before it would be replaced anyway.
    findings: BTreeMap<FindingId, Finding>,
    rejects: Vec<u8>,
    dead_letters: Vec<NewRecord>,
    forwards: Vec<NewRecord>,
    raised: Vec<Raised>,
    opened: BTreeMap<RuleId, u64>,
    masked: u64,
    walked: u64,
    /// Bytes of dead letters and forwards.
    carried_bytes: usize,
    counts: Counts,
    /// Append times of the first and the last record.
    span: Option<(UnixMs, UnixMs)>,
    tally: Tally,
}

impl Block {
    /// An empty block that begins at `first`. `snapshots` names what its records are walked with.
    pub(crate) fn new(
        origin: Origin,
        first: Offset,
        retention: Arc<Retention>,
        snapshots: Arc<str>,
        seals: Arc<Seals>,
    ) -> Self {
        Self {
            origin,
            first,
            retention,
            snapshots,
            seals,
            events: Vec::new(),
            values: Vec::new(),
            ends: Vec::new(),
            findings: BTreeMap::new(),
            rejects: Vec::new(),
            dead_letters: Vec::new(),
            forwards: Vec::new(),
            raised: Vec::new(),
            opened: BTreeMap::new(),
            masked: 0,
            walked: 0,
            carried_bytes: 0,
            counts: Counts::default(),
            span: None,
            tally: Tally::default(),
        }
    }

    /// Every record of the event topic, before what becomes of it. `at_rest`: whether the partition waits for nothing.
    pub(crate) fn pass(&mut self, record: &Record<'_>, at_rest: bool) {
        self.tally.pass(record, at_rest);
    }

    /// One event's row, and those of its findings. Control leaves no row, but may have findings.
    pub(crate) fn push(&mut self, record: &Record<'_>, alerted: Alerted<'_>) {
        self.find(record, alerted.found);
        let decoded = &alerted.enriched.checked.decoded;
        self.masked += decoded.leaks.len() as u64;
        self.tally.event(record, &alerted.enriched);
        if decoded.event.kind.is_control() {
            self.counts.control += 1;
        } else {
            self.counts.stored += 1;
            let retention_days = self.retention.days(&decoded.event.tenant);
            event_row(&mut self.events, &self.origin, record, &alerted.enriched, retention_days);
            self.values.extend_from_slice(record.value);
            self.ends.push(RowEnd {
                offset: record.offset,
                received_at: record.append_time,
                end: self.events.len(),
                value_end: self.values.len(),
            });
        }
    }

    /// A tick or a summary: control, which may have findings.
    pub(crate) fn control(&mut self, record: &Record<'_>, found: Found) {
        self.find(record, found);
        self.counts.control += 1;
    }

    fn find(&mut self, record: &Record<'_>, found: Found) {
        self.note(record);
        for finding in found.findings {
            self.findings.insert(finding.case.finding_id, finding);
        }
        for rule in found.opened {
            *self.opened.entry(rule).or_default() += 1;
        }
        let appended_at = record.append_time;
        self.raised.extend(found.alerts.into_iter().map(|alert| Raised { alert, appended_at }));
    }

    /// A dead letter, and its row of `rejects`.
    pub(crate) fn reject(&mut self, record: &Record<'_>, rejected: Rejected) {
        self.note(record);
        *self.counts.dead.entry(rejected.reason).or_default() += 1;
        let dead = Dead {
            offset: record.offset,
            received_at: record.append_time,
            reason: rejected.reason,
            field: &rejected.field,
            value_bytes: record.value.len(),
        };
        reject_row(&mut self.rejects, &self.origin, &Reject::dead(&dead));
        let key = record.key.map(decode::mask_record);
        let signature = dead_letter::signature(record, &rejected.masked);
        let mut letter = dead_letter::letter(&self.origin, &dead, key, rejected.masked);
        letter.headers.extend(signature);
        self.carried_bytes += size_bytes(&letter);
        self.dead_letters.push(letter);
    }

    /// A record that leaves a row of `rejects` alone.
    pub(crate) fn drop(&mut self, record: &Record<'_>, reason: DropReason) {
        self.note(record);
        *self.counts.dropped.entry(reason).or_default() += 1;
        reject_row(&mut self.rejects, &self.origin, &Reject::dropped(record, reason));
    }

    /// A record that goes to its home partition with this block's commit.
    pub(crate) fn forward(&mut self, record: &Record<'_>, copy: NewRecord) {
        self.note(record);
        self.counts.forwarded += 1;
        self.carried_bytes += size_bytes(&copy);
        self.forwards.push(copy);
    }

    fn note(&mut self, record: &Record<'_>) {
        self.walked += 1;
        let first = self.span.map_or(record.append_time, |(first, _)| first);
        self.span = Some((first, record.append_time));
    }

    /// The alerts since the last call: they go to the outbox at once, before their block.
    pub(crate) fn take_alerts(&mut self) -> Vec<Raised> {
        std::mem::take(&mut self.raised)
    }

    /// Whether no record was walked into it.
    pub(crate) fn is_empty(&self) -> bool {
        self.span.is_none()
    }

    /// Whether it must be cut now. While ClickHouse is away every partition fills its block: where one process has
    /// many `partitions`, each gets a smaller share.
    pub(crate) fn is_full(&self, partitions: usize) -> bool {
        let share = |bytes: usize| bytes * FULL_BLOCKS / partitions.max(FULL_BLOCKS);
        self.ends.len() >= MAX_ROWS
            || self.values.len() >= share(MAX_VALUE_BYTES)
            || self.events.len() + self.rejects.len() + self.carried_bytes >= share(MAX_BYTES)
    }

    /// Ends the block at `last`, for good: every repetition of it ends there.
    pub(crate) fn cut(self, last: Offset) -> CutBlock {
        let mut findings = Vec::new();
        for finding in self.findings.values() {
            finding_row(&mut findings, origin_text(&self.origin), finding);
        }
        let left_out = self.tally.left_out();
        let summary = match self.origin.topic {
            Topic::Events => self.tally.close(&self.origin, (self.first, last), &self.seals),
            _ => None,
        };
        CutBlock {
            id: BlockId { origin: self.origin, first: self.first, last },
            snapshots: self.snapshots,
            events: self.events.into(),
            values: self.values.into(),
            ends: self.ends,
            findings: findings.into(),
            rejects: self.rejects.into(),
            dead_letters: self.dead_letters,
            forwards: self.forwards,
            counts: self.counts,
            opened: self.opened,
            masked: self.masked,
            walked: self.walked,
            span: self.span,
            summary,
            left_out,
        }
    }
}

fn size_bytes(record: &NewRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, Vec::len) + record.value.len() + headers
}

/// A block that has its end: what is reserved, put and released.
pub(crate) struct CutBlock {
    pub(super) id: BlockId,
    pub(super) snapshots: Arc<str>,
    pub(super) events: Bytes,
    pub(super) values: Bytes,
    pub(super) ends: Vec<RowEnd>,
    pub(super) findings: Bytes,
    pub(super) rejects: Bytes,
    pub(super) dead_letters: Vec<NewRecord>,
    forwards: Vec<NewRecord>,
    pub(super) counts: Counts,
    opened: BTreeMap<RuleId, u64>,
    masked: u64,
    walked: u64,
    pub(super) span: Option<(UnixMs, UnixMs)>,
    summary: Option<NewRecord>,
    left_out: u64,
}

impl CutBlock {
    pub(crate) fn id(&self) -> &BlockId {
        &self.id
    }

    /// The copies that go to their home partitions in the transaction that reserves this block.
    pub(crate) fn forwards(&self) -> &[NewRecord] {
        &self.forwards
    }

    /// What it adds to `jwtrail.summaries`, in the transaction that releases it: then its records are settled, so a
    /// repetition of it adds nothing.
    pub(crate) fn summary(&self) -> Option<&NewRecord> {
        self.summary.as_ref()
    }

    /// Events that its summary had no room for.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Cases that its records opened, by rule.
    pub(crate) fn opened(&self) -> &BTreeMap<RuleId, u64> {
        &self.opened
    }

    /// Records that were walked into it, however they left.
    pub(crate) fn walked(&self) -> u64 {
        self.walked
    }

    /// Tokens that were masked in its events.
    pub(crate) fn masked(&self) -> u64 {
        self.masked
    }

    /// When the log took its first record.
    pub(crate) fn first_append(&self) -> Option<UnixMs> {
        self.span.map(|(first, _)| first)
    }

    /// The bytes of the event rows `from..to`.
    pub(super) fn event_rows(&self, from: usize, to: usize) -> Bytes {
        self.events.slice(self.row_start(from)..self.row_start(to))
    }

    fn row_start(&self, row: usize) -> usize {
        if row == 0 { 0 } else { self.ends[row - 1].end }
    }

    /// The value of the record behind an event row, as received: it may hold a token.
    pub(super) fn value(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1].value_end };
        &self.values[start..self.ends[row].value_end]
    }
}
