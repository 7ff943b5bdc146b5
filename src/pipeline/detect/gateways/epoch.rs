//! `audit_gap`: what a source counted within one epoch, against what is in the log of it.
//!
//! A heartbeat claims: "up to now I have sent n events". It is judged when the lateness bound has passed: the events that
//! were sent by then (and a little longer, for what was just being counted) are then all walked, and fewer than n are a
//! gap. So what is found is a lower bound: traffic of the last seconds hides as much, and the epoch's end shows it.
//! Without heartbeats the epoch's `seq`s are judged alike, and trusted less.

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;

use super::matched;
use super::seqs::Seqs;
use crate::model::{
    CaseState, Confidence, FindingId, HeartbeatSeen, PLATFORM_TENANT, RuleId, STEP_MS, Severity,
    SourceSummary, UnixMs, Zone,
};
use crate::pipeline::detect::cases::{Cases, Facts, HOUR_MS};
use crate::pipeline::detect::rulebook::{LATENESS, Rulebook};

/// Steps that are kept apart: what is older has long been judged.
const MAX_STEPS: usize = 256;
/// Heartbeats that wait for their time. One more takes the place of the last but one.
const MAX_CLAIMS: usize = 64;
/// How exactly the last hour is known.
const MARK_EVERY_MS: i64 = 5 * 60_000;

/// A gap of so many in an hour is high.
const HIGH_COUNT: u64 = 1_000;
/// What a crash may take with it.
const CRASH_COUNT: u64 = 10;

/// What is known of one epoch.
pub(super) struct Epoch {
    /// Events by the step in which they were sent, and those of the steps before.
    steps: BTreeMap<i64, u64>,
    before_steps: u64,
    /// Heartbeats that are not judged yet, by their time.
    claims: VecDeque<HeartbeatSeen>,
    latest: Option<HeartbeatSeen>,
    /// The last one that is judged.
    judged: Option<HeartbeatSeen>,
    /// Whether all of the epoch was watched. Else it is counted from its first heartbeat on.
    is_whole: bool,
    /// What the first heartbeat said, where it is counted from that: events said, and seen.
    base: (u64, u64),
    /// What may be missing without a fault, when the epoch was first heard.
    allowed_before: u64,
    /// Events that are missing, at the least.
    missing: u64,
    /// As it was told; 0 while there is no case.
    told: u64,
    /// Of the last hour: when, events said, missing.
    marks: VecDeque<(UnixMs, u64, u64)>,
    seqs: Seqs,
    /// As the door says within its own epoch.
    refused: u64,
    heard_at: UnixMs,
}

/// Whose epoch it is: gateway, epoch, zone.
pub(super) type Whose<'n> = (&'n str, &'n str, Zone);

impl Epoch {
    /// `allowed_before`: what may be missing of any epoch by now.
    pub(super) fn new(allowed_before: u64) -> Self {
        Self {
            steps: BTreeMap::new(),
            before_steps: 0,
            claims: VecDeque::new(),
            latest: None,
            judged: None,
            is_whole: false,
            base: (0, 0),
            allowed_before,
            missing: 0,
            told: 0,
            marks: VecDeque::new(),
            seqs: Seqs::default(),
            refused: 0,
            heard_at: UnixMs::default(),
        }
    }

    pub(super) const fn heard_at(&self) -> UnixMs {
        self.heard_at
    }

    /// Takes a heartbeat in; `is_whole`: whether the epoch, if this is its first, was watched from its beginning. Gives
    /// what the door has refused since its last one.
    pub(super) fn hear(&mut self, heartbeat: HeartbeatSeen, is_whole: bool) -> u64 {
        let refused = heartbeat.refused.unwrap_or_default().saturating_sub(self.refused);
        self.refused = self.refused.saturating_add(refused);
        if self.latest.is_none() {
            self.is_whole = is_whole;
        }
        if self.latest.is_none_or(|latest| latest.time <= heartbeat.time) {
            self.latest = Some(heartbeat);
        }
        if self.judged.is_none_or(|judged| judged.time < heartbeat.time) {
            let place = self.claims.partition_point(|claim| claim.time <= heartbeat.time);
            self.claims.insert(place, heartbeat);
            if self.claims.len() > MAX_CLAIMS {
                self.claims.remove(MAX_CLAIMS - 1);
            }
        }
        refused
    }

    /// Takes events in.
    pub(super) fn count(&mut self, source: &SourceSummary, seen_at: UnixMs) {
        self.heard_at = self.heard_at.max(seen_at);
        let judged_step = self.judged.map(|judged| last_step(judged.time));
        for &(step, events) in &source.steps {
            if judged_step.is_some_and(|judged| step <= judged) {
                // Late, but not for nothing: each is one that was missing.
                self.missing = self.missing.saturating_sub(events);
            }
            match self.steps.first_key_value() {
                Some((&first, _)) if step < first && self.steps.len() >= MAX_STEPS => {
                    self.before_steps = self.before_steps.saturating_add(events);
                }
                _ => {
                    let known = self.steps.entry(step).or_default();
                    *known = known.saturating_add(events);
                }
            }
        }
        while self.steps.len() > MAX_STEPS {
            let first = self.steps.pop_first().map_or(0, |(_, events)| events);
            self.before_steps = self.before_steps.saturating_add(first);
        }
        if self.latest.is_some() {
            self.seqs = Seqs::default();
        } else if source.seqs.as_ref().is_none_or(|runs| runs.intervals().next().is_some()) {
            self.seqs.add(source.seqs.as_ref(), seen_at);
        }
    }

    /// Events that were sent up to the end of `step`, as far as they are walked.
    fn seen_by(&self, step: i64) -> u64 {
        self.steps.range(..=step).fold(self.before_steps, |sum, (_, &events)| sum.saturating_add(events))
    }

    /// Judges what can be judged at `now`, up to when all partitions are walked. `allowed`: what may be missing of any
    /// epoch without a fault.
    pub(super) fn judge(
        &mut self,
        whose: Whose<'_>,
        now: UnixMs,
        allowed: u64,
        rules: &Rulebook,
        cases: &mut Cases,
    ) {
        let allowed = allowed.saturating_sub(self.allowed_before);
        while let Some(claim) = self.claims.pop_front_if(|claim| claim.time + LATENESS <= now) {
            self.judge_claim(claim, allowed);
        }
        let confidence = if self.latest.is_some() { Confidence::High } else { Confidence::Low };
        if self.latest.is_none() {
            self.missing = self.seqs.missing(now).unwrap_or(0).saturating_sub(allowed);
        }
        if self.missing == self.told {
            return;
        }
        let (gateway, epoch, _) = whose;
        let key = [gateway, epoch];
        let time = self.judged.map_or(self.heard_at, |judged| judged.time);
        self.told = self.missing;
        if self.missing == 0 {
            let finding_id = FindingId::of(RuleId::AuditGap, PLATFORM_TENANT, &key, UnixMs::default());
            cases.end(RuleId::AuditGap, finding_id, CaseState::Withdrawn, time);
            return;
        }
        let has_crashed =
            self.latest.is_some_and(|latest| !latest.closing && now >= latest.time + rules.silent_after());
        let severity = self.severity(time, has_crashed);
        let times = (UnixMs::default(), time);
        let matched = matched(RuleId::AuditGap, gateway, &key, times, (severity, confidence));
        cases.touch(&matched, || self.facts(whose, allowed, severity));
    }

    fn judge_claim(&mut self, claim: HeartbeatSeen, allowed: u64) {
        let said = claim.sent.saturating_add(claim.dropped);
        if self.judged.is_none() && !self.is_whole {
            // What was sent just then may be in one count and not in the other: none of it is.
            self.base = (said, self.seen_by(claim.time.get().div_euclid(STEP_MS) - 2));
        }
        self.judged = Some(claim);
        let (said_before, seen_before) = self.base;
        let seen = self.seen_by(last_step(claim.time)) - seen_before + allowed;
        let missing = said.saturating_sub(said_before).saturating_sub(seen);
        self.missing = self.missing.max(missing);
        let is_due = |&(last, ..): &(UnixMs, u64, u64)| claim.time.since_ms(last) >= MARK_EVERY_MS;
        if self.marks.back().is_none_or(is_due) {
            self.marks.push_back((claim.time, said, self.missing));
            while self.marks.get(1).is_some_and(|&(next, ..)| claim.time.since_ms(next) >= HOUR_MS) {
                self.marks.pop_front();
            }
        }
    }

    fn severity(&self, time: UnixMs, has_crashed: bool) -> Severity {
        if self.missing <= CRASH_COUNT && has_crashed {
            return Severity::Low;
        }
        let (said, missing) = self.last_hour(time);
        if missing >= HIGH_COUNT || (missing > 0 && missing.saturating_mul(100) >= said) {
            Severity::High
        } else {
            Severity::Medium
        }
    }

    /// Events said and missing in the hour before `time`; without heartbeats, in all of the epoch.
    fn last_hour(&self, time: UnixMs) -> (u64, u64) {
        let Some(judged) = self.judged else { return (self.seqs.judged_count(), self.missing) };
        let said = judged.sent.saturating_add(judged.dropped);
        let old = self.marks.front().filter(|(at, ..)| time.since_ms(*at) >= HOUR_MS);
        let (said_before, missing_before) =
            old.map_or((self.base.0, 0), |&(_, said, missing)| (said, missing));
        (said.saturating_sub(said_before), self.missing.saturating_sub(missing_before))
    }

    fn facts(&self, (gateway, epoch, zone): Whose<'_>, allowed: u64, severity: Severity) -> Facts {
        let missing = self.missing;
        let (counted_by, summary) = match self.judged {
            Some(judged) => (
                "heartbeat",
                format!(
                    "By {} {gateway} had counted {} events of its epoch {epoch} ({} of them given up). {missing} of them \
                     are not in the log.",
                    judged.time,
                    judged.sent.saturating_add(judged.dropped),
                    judged.dropped
                ),
            ),
            None => (
                "seq",
                format!(
                    "{missing} numbers are missing among those that {gateway} gave to the events of its epoch {epoch}."
                ),
            ),
        };
        let (said_in_hour, missing_in_hour) =
            self.last_hour(self.judged.map_or(self.heard_at, |judged| judged.time));
        Facts {
            title: format!("{missing} events of {gateway} are not in the log"),
            summary,
            evidence: json!({
                "gateway": gateway, "zone": zone, "epoch": epoch, "counted_by": counted_by, "missing": missing,
                "sent": self.judged.map(|judged| judged.sent), "dropped": self.judged.map(|judged| judged.dropped),
                "as_of": self.judged.map(|judged| judged.time), "allowed": allowed,
                "counted_in_hour": said_in_hour, "missing_in_hour": missing_in_hour, "is_whole": self.is_whole,
            }),
            lowered_by: if severity == Severity::Low { vec!["crash".to_owned()] } else { Vec::new() },
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.steps.len() * 24
            + self.claims.len() * size_of::<HeartbeatSeen>()
            + self.seqs.bytes()
    }
}

/// The last step whose events a heartbeat of that time may speak of: the one after its own, for clocks differ a little.
const fn last_step(time: UnixMs) -> i64 {
    time.get().div_euclid(STEP_MS) + 1
}
