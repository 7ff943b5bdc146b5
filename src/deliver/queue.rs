//! What one destination has yet to be told of one partition: which alert is next, when, and what becomes of it. No I/O and
//! no clock of its own; the lane asks and reports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::progress::{DONE_BYTES, Progress};
use super::runs::Runs;
use crate::log::Record;
use crate::model::{Alert, FindingId, LogId, Offset, Severity, UnixMs};

/// How patient deliveries are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The pause after a first failure; it doubles with each further one.
    pub(crate) first: Duration,
    /// The longest pause of a destination that is away: how soon it is found to be back.
    pub(crate) away_cap: Duration,
    /// The longest pause of an alert that the destination refuses.
    pub(crate) refused_cap: Duration,
    /// After so long an alert is given up.
    pub(crate) give_up_after: Duration,
    /// Deliveries under way at the same time, a partition.
    pub(crate) at_once: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            away_cap: Duration::from_secs(60),
            refused_cap: Duration::from_secs(60 * 60),
            give_up_after: Duration::from_secs(72 * 60 * 60),
            at_once: 8,
        }
    }
}

impl Pace {
    /// The pause after the `failures`-th failure in a row: between half of it and all of it, by `random`.
    fn pause(&self, failures: u32, cap: Duration, random: u64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(cap);
        let part = u32::try_from(random % 1_000).unwrap_or_default();
        doubled / 2 + doubled / 2 * part / 1_000
    }
}

/// A destination may ask for a longer pause than ours, up to this.
const RETRY_AFTER_CAP: Duration = Duration::from_secs(60 * 60);

/// Above these the outbox is not read on: PROMISE 8.
const MAX_PENDING: usize = 20_000;
const MAX_PENDING_BYTES: usize = 64 << 20;

/// How long the row of an alert that was told waits for ClickHouse before it is tried again.
const ROW_PAUSE: Duration = Duration::from_secs(5);

/// One partition's queue.
pub(super) struct Queue {
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

struct Pending {
    finding: FindingId,
    severity: Severity,
    body: Bytes,
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
    /// Put the row into ClickHouse.
    pub(super) store: bool,
    /// Tell the destination.
    pub(super) tell: bool,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) stored: bool,
    /// `None` if the job was not to tell.
    pub(super) answer: Option<Answer>,
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
        GivenUp = "given_up",
        /// Not an alert: somebody else writes to the topic.
        Malformed = "malformed",
    }
}

impl Queue {
    /// Begins at the start of the outbox: [`Queue::recover`] then takes what was read before.
    pub(super) fn new(progress: &Progress, start: Offset, pace: Pace, now: Instant) -> Self {
        Self {
            log: progress.log.clone(),
            pace,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            position: start,
            told: HashMap::new(),
            busy: HashSet::new(),
            given_up: progress.given_up.clone(),
            circuit: Circuit { failures: 0, opens_at: now },
            left: Vec::new(),
            changed: false,
        }
    }

    /// Takes a record of before: what was told is remembered, what was not done is pending again.
    pub(super) fn recover(&mut self, record: &Record<'_>, progress: &Progress, now: Instant) {
        let done = progress.is_done(record.offset);
        let told = progress.told.contains(record.offset);
        let Ok(alert) = serde_json::from_slice::<Alert>(record.value) else {
            return if done { self.read_up_to(record.offset) } else { self.malformed(record) };
        };
        let (finding, severity) = step_of(&alert);
        if (done && !progress.given_up.contains(record.offset)) || told {
            self.remember(finding, severity);
        }
        if done { self.read_up_to(record.offset) } else { self.push(record, finding, severity, told, now) }
    }

    /// Takes a new record.
    pub(super) fn read(&mut self, record: &Record<'_>, now: Instant) {
        match serde_json::from_slice::<Alert>(record.value) {
            Ok(alert) => {
                let (finding, severity) = step_of(&alert);
                self.push(record, finding, severity, false, now);
            }
            Err(_) => self.malformed(record),
        }
    }

    fn malformed(&mut self, record: &Record<'_>) {
        let (offset, appended) = (record.offset, record.append_time);
        self.left.push(Left { offset, id: String::new(), how: How::Malformed, appended });
        self.changed = true;
        self.read_up_to(offset);
    }

    fn push(
        &mut self,
        record: &Record<'_>,
        finding: FindingId,
        severity: Severity,
        told: bool,
        now: Instant,
    ) {
        let pending = Pending {
            finding,
            severity,
            body: Bytes::copy_from_slice(record.value),
            appended: record.append_time,
            refusals: 0,
            tried: false,
            due: now,
            told,
            stored: false,
            under_way: false,
        };
        self.pending_bytes += pending.body.len();
        self.pending.insert(record.offset, pending);
        self.read_up_to(record.offset);
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
        // While no more can be written of what is done, only the lowest may be tried: it adds nothing to write.
        let full = self.done().encode().len() >= DONE_BYTES;
        let candidates = self.pending.iter_mut().take(if full { 1 } else { usize::MAX });
        let free = candidates.filter(|(_, alert)| !alert.under_way && !self.busy.contains(&alert.finding));
        let Some((&offset, alert)) = free.min_by_key(|(offset, alert)| (alert.due, **offset)) else {
            return Next::Wait(None);
        };
        if alert.due > now {
            return Next::Wait(Some(alert.due));
        }
        let told = self.told.get(&alert.finding).is_some_and(|&told| told >= alert.severity);
        let job = Job {
            offset,
            id: id_of(alert),
            body: alert.body.clone(),
            store: !alert.stored,
            tell: !alert.told && !told,
        };
        alert.under_way = true;
        self.busy.insert(alert.finding);
        Next::Start(job)
    }

    /// Gives up what is too old, if it was tried or nothing gets through.
    fn give_up(&mut self, wall: UnixMs) {
        let limit = i64::try_from(self.pace.give_up_after.as_millis()).unwrap_or(i64::MAX);
        let away = self.circuit.failures > 0;
        let hopeless = |alert: &Pending| {
            !alert.under_way && (alert.tried || away) && wall.since_ms(alert.appended) > limit
        };
        // Appended in order, so the lowest are the oldest.
        while let Some((&offset, alert)) = self.pending.first_key_value()
            && hopeless(alert)
        {
            let how = if alert.told { How::Delivered } else { How::GivenUp };
            self.leave(offset, how);
        }
    }

    /// Takes what became of a job. `random` spreads the next tries.
    pub(super) fn report(&mut self, offset: Offset, report: Report, now: Instant, random: u64) {
        let Some(alert) = self.pending.get_mut(&offset) else { return };
        alert.under_way = false;
        alert.tried = true;
        alert.stored |= report.stored;
        let (finding, severity) = (alert.finding, alert.severity);
        self.busy.remove(&finding);
        let told_now = match report.answer {
            None => true,
            Some(Answer::Delivered) => {
                self.circuit.failures = 0;
                true
            }
            Some(Answer::Away { retry_after, .. }) => {
                // Several that were under way when it went away are one failure.
                let known = self.circuit.failures > 0 && now < self.circuit.opens_at;
                self.circuit.failures = self.circuit.failures.saturating_add(u32::from(!known));
                let pause = self.pace.pause(self.circuit.failures, self.pace.away_cap, random);
                self.circuit.opens_at = self.circuit.opens_at.max(now + longer(pause, retry_after));
                // The others, which have waited longer, find out whether it is back.
                alert.due = self.circuit.opens_at;
                false
            }
            Some(Answer::Refused { retry_after, .. }) => {
                self.circuit.failures = 0;
                alert.refusals = alert.refusals.saturating_add(1);
                let pause = self.pace.pause(alert.refusals, self.pace.refused_cap, random);
                alert.due = now + longer(pause, retry_after);
                false
            }
        };
        if !told_now {
            return;
        }
        let before = self.told.get(&finding).is_some_and(|&told| told >= severity) && !alert.told;
        self.changed |= !alert.told;
        alert.told = true;
        if !alert.stored {
            alert.due = now + ROW_PAUSE;
        }
        let stored = alert.stored;
        self.remember(finding, severity);
        if stored {
            self.leave(offset, if before { How::AlreadyTold } else { How::Delivered });
        }
    }

    fn leave(&mut self, offset: Offset, how: How) {
        let Some(alert) = self.pending.remove(&offset) else { return };
        self.pending_bytes -= alert.body.len();
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

    /// What `progress` says is committed.
    pub(super) const fn set_committed(&mut self) {
        self.changed = false;
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
        }
    }
}

fn step_of(alert: &Alert) -> (FindingId, Severity) {
    (alert.data.finding.case.finding_id, alert.data.finding.case.severity)
}

fn id_of(alert: &Pending) -> String {
    format!("{}_{}", alert.finding, alert.severity)
}

fn longer(pause: Duration, retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(pause, |asked| pause.max(asked.min(RETRY_AFTER_CAP)))
}

#[cfg(test)]
mod tests;
