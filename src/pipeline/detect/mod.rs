//! **detect**: the rules (DETECTION). The only room with state: bounded, keyed by subject or token, event time only. Pure.
//!
//! One event costs the same however many subjects, tenants and cases there are: each rule looks up its own state and
//! compares a bounded number of remembered uses. The state of a partition is a function of its records alone; how they
//! were cut into batches is never seen here.

mod catalogue;
mod rulebook;
mod why;

mod checkpoint;
mod keyed;
mod keys;
mod nets;
mod sessions;
mod sites;
mod terms;

mod cases;

mod travel;

mod replay;

mod leak;

mod gateways;

mod evidence;
mod words;

#[cfg(test)]
pub(super) mod tests;

use super::enrich::Enriched;
use crate::log::Record;
use crate::model::{Case, CaseUpdate, Flag, RuleId, UnixMs};

pub(crate) use catalogue::{JUDGES, RULES, info};
pub(crate) use checkpoint::{Checkpoint, NotUsable, Restoring};
pub(crate) use gateways::GatewayDetector;
pub(crate) use rulebook::Rulebook;
pub(crate) use why::{Ruling, Why};

/// How many bytes of state one partition may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) subjects_bytes: usize,
    pub(crate) tokens_bytes: usize,
    /// For each rule: a flood of one rule's cases drops no other's.
    pub(crate) cases_bytes: usize,
}

impl Default for Limits {
    /// About 300,000 subjects with two stays each, 400,000 tokens, and 3,500 cases a rule.
    fn default() -> Self {
        Self { subjects_bytes: 128 << 20, tokens_bytes: 64 << 20, cases_bytes: 16 << 20 }
    }
}

/// One partition's state.
pub(crate) struct Detector {
    /// The highest `received_at` walked: state, cases and timers expire by it.
    stream_time: UnixMs,
    sites: sites::Sites,
    travel: travel::Travel,
    replay: replay::Replay,
    cases: cases::Cases,
    /// Keys of records that others left and that nothing here answers for: the next checkpoints remove them.
    stale: Vec<Box<[u8]>>,
}

/// What `detect` leaves.
#[derive(Debug)]
pub(crate) struct Assessed<'r> {
    pub(crate) enriched: Enriched<'r>,
    /// The cases that this record opened, touched or closed, one revision each.
    pub(crate) cases: Vec<CaseUpdate>,
    /// What each rule that judges events said, in the order of [`RULES`]: why it fired or did not.
    pub(crate) rulings: [Ruling; JUDGES],
}

/// How much state there is: for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateSize {
    pub(crate) subjects: usize,
    pub(crate) tokens: usize,
    pub(crate) cases: usize,
    pub(crate) gateways: usize,
    /// Estimated from sizes and capacities.
    pub(crate) bytes: usize,
    /// What had to make room since the start: where it did, the order of arrival may matter.
    pub(crate) evicted: u64,
}

impl Default for Detector {
    fn default() -> Self {
        Self::with_limits(Limits::default())
    }
}

impl Detector {
    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self {
            stream_time: UnixMs::new(i64::MIN),
            sites: sites::Sites::default(),
            travel: travel::Travel::new(limits.subjects_bytes),
            replay: replay::Replay::new(limits.tokens_bytes),
            cases: cases::Cases::new(limits.cases_bytes),
            stale: Vec::new(),
        }
    }

    /// Runs every rule over one event.
    pub(crate) fn detect<'r>(
        &mut self,
        mut enriched: Enriched<'r>,
        record: &Record<'r>,
        rules: &Rulebook,
    ) -> Assessed<'r> {
        self.begin(record);
        let decoded = &mut enriched.checked.decoded;
        let subject_kind =
            decoded.event.token.as_ref().and_then(|token| rules.subject_kind(&decoded.event, token));
        if let Some(token) = &mut decoded.event.token {
            // The row says whom the rules took the subject for.
            token.subject_kind = subject_kind;
        }
        let late = self.stream_time.since_ms(decoded.event.time) > cases::LATE_AFTER_MS;
        if late {
            decoded.flags.set(Flag::Late);
        }
        let whys = if late { [Why::Late; JUDGES] } else { self.judge(&enriched, rules) };
        let mut rulings = RuleId::ALL.iter().zip(whys).map(|(&rule, why)| Ruling { rule, why });
        let rulings = std::array::from_fn(|_| match rulings.next() {
            Some(ruling) => ruling,
            None => unreachable!("there are as many rules as answers"),
        });
        Assessed { enriched, cases: self.cases.take_updates(), rulings }
    }

    /// Time has passed, and nothing else: the cases that this closed.
    pub(crate) fn tick(&mut self, record: &Record<'_>) -> Vec<CaseUpdate> {
        self.begin(record);
        self.cases.take_updates()
    }

    /// The stream time at which something would be said although nothing else happened; `None` while nothing is
    /// pending. Where no record comes by then, a tick has to.
    pub(crate) fn next_due(&self) -> Option<UnixMs> {
        self.cases.next_due()
    }

    /// A record is walked: stream time moves on, and what it has passed expires or closes.
    fn begin(&mut self, record: &Record<'_>) {
        if record.append_time > self.stream_time {
            self.stream_time = record.append_time;
            self.travel.expire(self.stream_time);
            self.replay.expire(self.stream_time);
        }
        self.cases.begin(record.offset, self.stream_time);
    }

    /// The answers in the order of [`RULES`].
    fn judge(&mut self, enriched: &Enriched<'_>, rules: &Rulebook) -> [Why; JUDGES] {
        let cases = &mut self.cases;
        let (leak, in_request) = leak::judge(enriched, rules, cases);
        let (travel, (replay, shared)) = match terms::eligible(enriched, rules, &mut self.sites) {
            Ok(used) => (self.travel.judge(&used, self.stream_time, cases), self.replay.judge(&used, cases)),
            Err(why) => (why, (why, why)),
        };
        [travel, replay, shared, leak, in_request]
    }

    /// The cases that the record walked last matched, as they stand: also those that it left as strong as they were, of
    /// which no revision is written at once.
    pub(crate) fn touched(&self) -> impl Iterator<Item = &Case> {
        self.cases.touched()
    }

    pub(crate) fn size(&self) -> StateSize {
        StateSize {
            subjects: self.travel.subjects(),
            tokens: self.replay.tokens(),
            cases: self.cases.len(),
            gateways: 0,
            bytes: self.travel.bytes() + self.replay.bytes() + self.cases.bytes() + self.sites.bytes(),
            evicted: self.travel.evicted() + self.replay.evicted() + self.cases.evicted(),
        }
    }
}
