//! What one destination has yet to be told of one partition: which alert is next, when, and what becomes of it. No I/O and
//! no clock of its own; the lane asks and reports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pace::Pace;
use super::progress::{DONE_BYTES, Progress};
use super::runs::Runs;
use super::storms::{Storms, Telling};
use crate::log::{Origin, Record, Topic};
use crate::model::{Alert, CaseState, FindingId, LogId, Offset, PartitionId, RuleId, Severity, UnixMs};
use crate::pipeline::alert::{GivenUp, Policy, delivery_given_up};

/// Above these the outbox is not read on: PROMISE 8.
const MAX_PENDING: usize = 20_000;
const MAX_PENDING_BYTES: usize = 64 << 20;

/// How long rows wait for ClickHouse before they are tried again.
const ROW_PAUSE: Duration = Duration::from_secs(5);

/// So many rows are stored at once. Beside deliveries, which store their own row first.
const ROWS_AT_ONCE: usize = 1_000;

/// Whose queue it is.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) destination: Arc<str>,
    pub(super) partition: PartitionId,
    /// Decides about the findings that the queue makes itself.
    pub(super) policy: Arc<Policy>,
}

/// One partition's queue.
pub(super) struct Queue {
    owner: Owner,
    log: LogId,
    pace: Pace,
    /// Read and not done.
    pending: BTreeMap<Offset, Pending>,
    pending_bytes: usize,
    /// Everything below was read.
    position: Offset,
    /// The highest severity that was told of each finding, from the whole outbox.
    told: HashMap<FindingId, Severity>,
    /// Findings with a delivery under way: their next step waits, so that steps are told in order and once.
    busy: HashSet<FindingId>,
    given_up: Runs,
    storms: Storms,
    trouble: Option<Trouble>,
    /// Alerts of our own, for the outbox: they are appended with the next commit.
    raised: Vec<Alert>,
    /// Alerts that nobody is told of and that have no record: of each the row alone is stored.
    closing: Vec<Bytes>,
    storing: Option<Storing>,
    /// Rows are not tried before.
    rows_at: Instant,
    /// As [`Queue::next`] last heard it.
    wall: UnixMs,
    circuit: Circuit,
    left: Vec<Left>,
    /// Whether there is something new to commit.
    changed: bool,
}

/// Whether the destination answers at all. While it does not, one delivery at a time finds out.
struct Circuit {
    failures: u32,
    opens_at: Instant,
}

/// Alerts were given up, and nothing was taken since.
struct Trouble {
    /// When the log took the first of them.
    since: UnixMs,
    recovery: Recovery,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Recovery {
    None,
    /// Something was taken: the case is to be closed.
    Due,
    /// Its last revision is on the way.
    UnderWay,
}

/// Rows that are on the way to ClickHouse.
struct Storing {
    offsets: Vec<Offset>,
    closing: Vec<Bytes>,
    /// That the destination takes something again is among them.
    recovered: bool,
}

struct Pending {
    /// Of what is told: the case, or the storm that it began.
    finding: FindingId,
    severity: Severity,
    rule: RuleId,
    body: Bytes,
    /// The record, if that is not what is told: its row is stored, too.
    case: Option<Bytes>,
    /// It is not told, and leaves so when its row is stored.
    untold: Option<How>,
    appended: UnixMs,
    /// How often the destination refused this very alert.
    refusals: u32,
    tried: bool,
    due: Instant,
    told: bool,
    stored: bool,
    under_way: bool,
}

/// One delivery to be made.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) offset: Offset,
    /// Stable over retries and repeats: `FINDING_SEVERITY`.
    pub(super) id: String,
    pub(super) body: Bytes,
    /// Alerts whose rows are put into ClickHouse before; none if they are there.
    pub(super) rows: Vec<Bytes>,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) stored: bool,
    pub(super) answer: Answer,
}

/// What a destination answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Delivered,
    /// The destination's fault: unreachable, overloaded. All its deliveries wait.
    Away {
        why: String,
        retry_after: Option<Duration>,
    },
    /// It answers, and does not take this one. Only this one waits.
    Refused {
        why: String,
        retry_after: Option<Duration>,
    },
}

/// What to do now.
#[derive(Debug)]
pub(super) enum Next {
    Start(Job),
    /// Alerts whose rows are to be put into ClickHouse: nobody is told, or was told before.
    Store(Vec<Bytes>),
    /// Nothing before then; `None`: nothing until something is read or reported.
    Wait(Option<Instant>),
}

/// An alert that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) offset: Offset,
    pub(super) id: String,
    pub(super) how: How,
    pub(super) appended: UnixMs,
}

crate::model::words! {
    /// How an alert left a queue: the metric's label.
    How {
        Delivered = "delivered",
        /// A step at or below one that was told before.
        AlreadyTold = "already_told",
        /// It is one of a storm, which was told in its place.
        Grouped = "grouped",
        /// It says that this very destination takes nothing.
        AboutItself = "about_itself",
        GivenUp = "given_up",
        /// Not an alert: somebody else writes to the topic.
        Malformed = "malformed",
    }
}

impl Queue {
    /// Begins at the start of the outbox: [`Queue::recover`] then takes what was read before.
    pub(super) fn new(owner: Owner, progress: &Progress, start: Offset, pace: Pace, now: Instant) -> Self {
        let trouble = progress.given_up_since.map(|since| Trouble { since, recovery: Recovery::None });
        Self {
            owner,
            log: progress.log.clone(),
            pace,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            position: start,
            told: HashMap::new(),
            busy: HashSet::new(),
            given_up: progress.given_up.clone(),
            storms: Storms::default(),
            trouble,
            raised: Vec::new(),
            closing: Vec::new(),
            storing: None,
            rows_at: now,
            wall: UnixMs::default(),
            circuit: Circuit { failures: 0, opens_at: now },
            left: Vec::new(),
            changed: false,
        }
    }

    /// Takes a record of before: what was told is remembered, what was not done is pending again.
    pub(super) fn recover(&mut self, record: &Record<'_>, progress: &Progress, now: Instant) {
        self.take(record, Some(progress), now);
    }

    /// Takes a new record.
    pub(super) fn read(&mut self, record: &Record<'_>, now: Instant) {
        self.take(record, None, now);
    }

    fn take(&mut self, record: &Record<'_>, before: Option<&Progress>, now: Instant) {
        let offset = record.offset;
        let done = before.is_some_and(|progress| progress.is_done(offset));
        let told = before.is_some_and(|progress| progress.told.contains(offset));
        let given_up = before.is_some_and(|progress| progress.given_up.contains(offset));
        let Ok(alert) = serde_json::from_slice::<Alert>(record.value) else {
            return if done { self.read_up_to(offset) } else { self.malformed(record) };
        };
        // Of what is done, too: the storms are those of the whole outbox.
        let telling = self.storms.judge(offset, record.append_time, &alert);
        let (untold, storm) = match telling {
            Telling::Single => (self.is_about_us(&alert).then_some(How::AboutItself), None),
            Telling::Grouped => (Some(How::Grouped), None),
            Telling::Storm(storm) => (None, Some(storm)),
        };
        let told_of = storm.as_deref().unwrap_or(&alert);
        let ((finding, severity), rule) = (step_of(told_of), told_of.data.finding.case.rule);
        if untold.is_none() && ((done && !given_up) || told) {
            self.remember(finding, severity);
        }
        if !done {
            let record_body = Bytes::copy_from_slice(record.value);
            let (body, case) = match storm {
                Some(storm) => (body_of(&storm), Some(record_body)),
                None => (record_body, None),
            };
            let pending = Pending {
                finding,
                severity,
                rule,
                body,
                case,
                untold,
                appended: record.append_time,
                refusals: 0,
                tried: false,
                due: now,
                told,
                stored: false,
                under_way: false,
            };
            self.pending_bytes += pending.bytes();
            self.pending.insert(offset, pending);
        }
        self.read_up_to(offset);
    }

    /// Whether it says that this destination takes nothing: telling it that is no use.
    fn is_about_us(&self, alert: &Alert) -> bool {
        let case = &alert.data.finding.case;
        case.rule == RuleId::DeliveryGivenUp
            && case.evidence.get("destination").and_then(serde_json::Value::as_str)
                == Some(&*self.owner.destination)
    }

    fn malformed(&mut self, record: &Record<'_>) {
        let (offset, appended) = (record.offset, record.append_time);
        self.left.push(Left { offset, id: String::new(), how: How::Malformed, appended });
        self.changed = true;
        self.read_up_to(offset);
    }

    fn read_up_to(&mut self, offset: Offset) {
        self.set_position(offset.resume_after().offset());
    }

    /// Says that everything below `position` was read, although no record lies there.
    pub(super) fn set_position(&mut self, position: Offset) {
        self.position = self.position.max(position);
    }

    pub(super) const fn position(&self) -> Offset {
        self.position
    }

    fn remember(&mut self, finding: FindingId, severity: Severity) {
        let told = self.told.entry(finding).or_insert(severity);
        *told = severity.max(*told);
    }

    /// Whether the outbox may be read on.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < MAX_PENDING
            && self.pending_bytes < MAX_PENDING_BYTES
            && self.done().encode().len() < DONE_BYTES
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Failures of the destination in a row.
    #[cfg(test)]
    pub(super) const fn failures(&self) -> u32 {
        self.circuit.failures
    }

    /// What to do now: `wall` is the same moment as `now`.
    pub(super) fn next(&mut self, now: Instant, wall: UnixMs) -> Next {
        self.give_up(wall);
        self.closing.extend(self.storms.take_ended(wall).iter().map(body_of));
        let may_begin = self.may_begin();
        let rows = self.rows_to_store(may_begin, now);
        if !rows.is_empty() {
            return Next::Store(rows);
        }
        let under_way = self.busy.len();
        if self.circuit.failures > 0 {
            if under_way > 0 {
                return Next::Wait(None);
            }
            if self.circuit.opens_at > now && !self.pending.is_empty() {
                return Next::Wait(Some(self.circuit.opens_at));
            }
        }
        if under_way >= self.pace.at_once {
            return Next::Wait(None);
        }
        let (told, busy) = (&self.told, &self.busy);
        let candidates = self.pending.iter_mut().take(may_begin);
        let free = candidates
            .filter(|(_, alert)| !alert.under_way && !busy.contains(&alert.finding) && !alert.is_over(told));
        let Some((&offset, alert)) = free.min_by_key(|(offset, alert)| (alert.due, **offset)) else {
            return Next::Wait(self.rows_due());
        };
        let due = alert.due;
        if due > now {
            let rows = self.rows_due();
            return Next::Wait(Some(rows.map_or(due, |rows| rows.min(due))));
        }
        let rows = if alert.stored { Vec::new() } else { alert.rows().collect() };
        let job = Job { offset, id: id_of(alert), body: alert.body.clone(), rows };
        alert.under_way = true;
        self.busy.insert(alert.finding);
        Next::Start(job)
    }

    /// The lowest so many may be begun: while no more can be written of what is done, only the very lowest, which adds
    /// nothing to write.
    fn may_begin(&self) -> usize {
        if self.done().encode().len() >= DONE_BYTES { 1 } else { usize::MAX }
    }

    /// Rows of alerts that are not told, or were before, and of what is over.
    fn rows_to_store(&mut self, may_begin: usize, now: Instant) -> Vec<Bytes> {
        if self.storing.is_some() || self.rows_at > now {
            return Vec::new();
        }
        let (told, mut rows, mut offsets) = (&self.told, Vec::new(), Vec::new());
        let candidates = self.pending.iter_mut().take(may_begin);
        for (&offset, alert) in candidates.filter(|(_, alert)| alert.is_over(told)).take(ROWS_AT_ONCE) {
            alert.under_way = true;
            offsets.push(offset);
            rows.extend(alert.rows());
        }
        let closing = std::mem::take(&mut self.closing);
        rows.extend(closing.iter().cloned());
        let recovery = self.trouble.as_mut().filter(|trouble| trouble.recovery == Recovery::Due);
        let recovered = recovery.map(|trouble| trouble.recovery = Recovery::UnderWay).is_some();
        if recovered {
            rows.extend(self.given_up_alert(CaseState::Closed).as_ref().map(body_of));
        }
        if !rows.is_empty() {
            self.storing = Some(Storing { offsets, closing, recovered });
        }
        rows
    }

    /// Whether the rows that were to be stored are.
    pub(super) fn rows_stored(&mut self, stored: bool, now: Instant) {
        let Some(Storing { offsets, closing, recovered }) = self.storing.take() else { return };
        for offset in offsets {
            let Some(alert) = self.pending.get_mut(&offset) else { continue };
            (alert.under_way, alert.tried, alert.stored) = (false, true, stored);
            if stored {
                let how = alert.untold.unwrap_or(if alert.told { How::Delivered } else { How::AlreadyTold });
                self.leave(offset, how);
            }
        }
        if !stored {
            self.rows_at = now + ROW_PAUSE;
            self.closing.splice(..0, closing);
        }
        // Unless more was given up meanwhile.
        let under_way = self.trouble.as_mut().filter(|trouble| trouble.recovery == Recovery::UnderWay);
        if let Some(trouble) = under_way.filter(|_| recovered) {
            if stored {
                self.trouble = None;
                self.changed = true;
            } else {
                trouble.recovery = Recovery::Due;
            }
        }
    }

    /// When rows may be tried again, if any wait for that.
    fn rows_due(&self) -> Option<Instant> {
        let waits = || {
            let recovers = self.trouble.as_ref().is_some_and(|trouble| trouble.recovery == Recovery::Due);
            recovers
                || !self.closing.is_empty()
                || self.pending.values().any(|alert| alert.is_over(&self.told))
        };
        (self.storing.is_none() && waits()).then_some(self.rows_at)
    }

    /// Gives up what is too old, if it was tried or nothing gets through.
    fn give_up(&mut self, wall: UnixMs) {
        self.wall = wall;
        let limit = i64::try_from(self.pace.give_up_after.as_millis()).unwrap_or(i64::MAX);
        let away = self.circuit.failures > 0;
        let hopeless = |alert: &Pending| {
            !alert.under_way && (alert.tried || away) && wall.since_ms(alert.appended) > limit
        };
        // Appended in order, so the lowest are the oldest.
        while let Some((&offset, alert)) = self.pending.first_key_value()
            && hopeless(alert)
        {
            let how = match alert.untold {
                Some(how) => how,
                None if alert.told => How::Delivered,
                None if alert.is_over(&self.told) => How::AlreadyTold,
                None => How::GivenUp,
            };
            let (since, about_giving_up) = (alert.appended, alert.rule == RuleId::DeliveryGivenUp);
            self.leave(offset, how);
            // An alert about giving up that is given up raises none: it would have no end.
            if how == How::GivenUp && !about_giving_up {
                self.raise_given_up(since);
            }
        }
    }

    /// Makes the finding `delivery_given_up`, unless it is made.
    fn raise_given_up(&mut self, since: UnixMs) {
        match &mut self.trouble {
            Some(trouble) if trouble.recovery == Recovery::None => return,
            Some(trouble) => trouble.recovery = Recovery::None,
            None => self.trouble = Some(Trouble { since, recovery: Recovery::None }),
        }
        let Some(alert) = self.given_up_alert(CaseState::Open) else { return };
        if alert.data.finding.is_alert {
            self.raised.push(alert);
        } else {
            self.closing.push(body_of(&alert));
        }
    }

    fn given_up_alert(&self, state: CaseState) -> Option<Alert> {
        let Owner { destination, partition, policy } = &self.owner;
        let origin = Origin { log: self.log.clone(), topic: Topic::Alerts, partition: *partition };
        let (since, kept) = (self.trouble.as_ref()?.since, self.given_up.count());
        let given_up = GivenUp { destination, origin: &origin, since, kept, state };
        Some(delivery_given_up(&given_up, self.wall, policy))
    }

    /// Takes what became of a job. `random` spreads the next tries.
    pub(super) fn report(&mut self, offset: Offset, report: Report, now: Instant, random: u64) {
        let Some(alert) = self.pending.get_mut(&offset) else { return };
        (alert.under_way, alert.tried) = (false, true);
        alert.stored |= report.stored;
        let (finding, severity, stored) = (alert.finding, alert.severity, alert.stored);
        self.busy.remove(&finding);
        match report.answer {
            Answer::Delivered => {
                self.circuit.failures = 0;
                alert.told = true;
                self.changed = true;
                if let Some(trouble) = self.trouble.as_mut().filter(|it| it.recovery == Recovery::None) {
                    trouble.recovery = Recovery::Due;
                }
                self.remember(finding, severity);
                if stored {
                    self.leave(offset, How::Delivered);
                } else {
                    self.rows_at = now + ROW_PAUSE;
                }
            }
            Answer::Away { retry_after, .. } => {
                // Several that were under way when it went away are one failure.
                let known = self.circuit.failures > 0 && now < self.circuit.opens_at;
                self.circuit.failures = self.circuit.failures.saturating_add(u32::from(!known));
                let pause = self.pace.pause(self.circuit.failures, self.pace.away_cap, random, retry_after);
                self.circuit.opens_at = self.circuit.opens_at.max(now + pause);
                // The others, which have waited longer, find out whether it is back.
                alert.due = self.circuit.opens_at;
            }
            Answer::Refused { retry_after, .. } => {
                self.circuit.failures = 0;
                alert.refusals = alert.refusals.saturating_add(1);
                alert.due = now + self.pace.pause(alert.refusals, self.pace.refused_cap, random, retry_after);
            }
        }
    }

    fn leave(&mut self, offset: Offset, how: How) {
        let Some(alert) = self.pending.remove(&offset) else { return };
        self.pending_bytes -= alert.bytes();
        if how == How::GivenUp {
            self.given_up.add_one(offset);
        }
        self.left.push(Left { offset, id: id_of(&alert), how, appended: alert.appended });
        self.changed = true;
    }

    /// What has left since the last call.
    pub(super) fn take_left(&mut self) -> Vec<Left> {
        std::mem::take(&mut self.left)
    }

    /// Whether there is something new to commit.
    pub(super) const fn is_changed(&self) -> bool {
        self.changed
    }

    /// Alerts that are to be appended to the outbox with the next commit.
    pub(super) fn raised(&self) -> &[Alert] {
        &self.raised
    }

    /// What `progress` says is committed, and what was raised appended.
    pub(super) fn set_committed(&mut self) {
        self.changed = false;
        self.raised.clear();
    }

    /// What was read, is not pending, and lies above the lowest that is.
    fn done(&self) -> Runs {
        let mut runs = Runs::default();
        let mut at = self.resume_at();
        for &offset in self.pending.keys() {
            runs.add(at, offset);
            at = offset.resume_after().offset();
        }
        runs.add(at, self.position);
        runs
    }

    fn resume_at(&self) -> Offset {
        self.pending.first_key_value().map_or(self.position, |(&offset, _)| offset)
    }

    /// What to commit.
    pub(super) fn progress(&self) -> Progress {
        let mut told = Runs::default();
        for (&offset, _) in self.pending.iter().filter(|(_, alert)| alert.told) {
            told.add_one(offset);
        }
        Progress {
            log: self.log.clone(),
            resume_at: self.resume_at(),
            done: self.done(),
            told,
            given_up: self.given_up.clone(),
            given_up_since: self.trouble.as_ref().map(|trouble| trouble.since),
        }
    }
}

impl Pending {
    /// Whether there is nothing to be told, only a row to be stored. `told` of each finding.
    fn is_over(&self, told: &HashMap<FindingId, Severity>) -> bool {
        let was_told = || told.get(&self.finding).is_some_and(|&told| told >= self.severity);
        !self.under_way && (self.untold.is_some() || self.told || was_told())
    }

    fn rows(&self) -> impl Iterator<Item = Bytes> + use<> {
        [Some(self.body.clone()), self.case.clone()].into_iter().flatten()
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.case.as_ref().map_or(0, Bytes::len)
    }
}

fn body_of(alert: &Alert) -> Bytes {
    serde_json::to_vec(alert).unwrap_or_default().into()
}

fn step_of(alert: &Alert) -> (FindingId, Severity) {
    (alert.data.finding.case.finding_id, alert.data.finding.case.severity)
}

fn id_of(alert: &Pending) -> String {
    format!("{}_{}", alert.finding, alert.severity)
}

#[cfg(test)]
mod tests;
