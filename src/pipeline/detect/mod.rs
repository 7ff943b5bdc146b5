//! **detect**: the rules (DETECTION). The only room with state: bounded, keyed by subject or token, event time only. Pure.
//!
//! One event costs the same however many subjects, tenants and cases there are: each rule looks up its own state and
//! compares a bounded number of remembered uses. The state of a partition is a function of its records alone; how they
//! were cut into batches is never seen here.

mod catalogue;
mod rulebook;
mod why;

mod checkpoint;
mod shares;

mod keyed;
mod keys;
mod nets;
mod sessions;
mod sites;
mod terms;

mod repeats;
mod set_aside;

mod cases;

mod usual;

mod travel;

mod replay;

mod leak;

mod gateways;

mod evidence;
mod words;

#[cfg(test)]
pub(super) use gateways::tests::revisions as gateway_revisions;
#[cfg(test)]
pub(super) mod tests;

use super::decode::Rejected;
use super::enrich::Enriched;
use super::verify::Checked;
use crate::log::Record;
use crate::model::{Case, CaseUpdate, Event, Flag, RuleId, UnixMs};

#[cfg(test)]
pub(crate) use catalogue::RULES;
pub(crate) use catalogue::{JUDGES, info};
pub(crate) use checkpoint::{Checkpoint, NotUsable, Restoring};
pub(crate) use gateways::GatewayDetector;
pub(crate) use rulebook::Rulebook;
pub(crate) use why::{Ruling, Why};

/// How many bytes of state one partition may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) subjects_bytes: usize,
    /// Origins that are usual for subjects.
    pub(crate) usual_bytes: usize,
    pub(crate) tokens_bytes: usize,
    /// For each rule: a flood of one rule's cases drops no other's.
    pub(crate) cases_bytes: usize,
    /// Ids of events: over it they are remembered for less than ten minutes.
    pub(crate) ids_bytes: usize,
}

impl Default for Limits {
    /// About 300,000 subjects with two stays each, 500,000 of a month with two origins each, 400,000 tokens, 3,500 cases a
    /// rule, and the ids of 10 minutes of 1,400 events a second.
    fn default() -> Self {
        Self {
            subjects_bytes: 128 << 20,
            usual_bytes: 64 << 20,
            tokens_bytes: 64 << 20,
            cases_bytes: 16 << 20,
            ids_bytes: 64 << 20,
        }
    }
}

/// One partition's state.
pub(crate) struct Detector {
    /// The highest `received_at` walked: state, cases and timers expire by it.
    stream_time: UnixMs,
    repeats: repeats::Repeats,
    set_aside: set_aside::SetAside,
    sites: sites::Sites,
    usual: usual::Usual,
    travel: travel::Travel,
    replay: replay::Replay,
    cases: cases::Cases,
    /// Keys of records that others left and that nothing here answers for: the next checkpoints remove them.
    stale: Vec<Box<[u8]>>,
}

crate::model::words! {
    /// Why a record is dropped, which is intended: the reason in `rejects` and in the block's line.
    DropReason {
        /// Its event was walked before: the source sent it twice.
        Duplicate = "duplicate",
    }
}

/// A record that no rule judges and that leaves no row of `events`.
#[derive(Debug)]
pub(crate) struct Dropped<'r> {
    pub(crate) reason: DropReason,
    pub(crate) checked: Checked<'r>,
}

/// What `detect` leaves.
#[derive(Debug)]
pub(crate) struct Assessed<'r> {
    pub(crate) enriched: Enriched<'r>,
    /// The cases that this record opened, touched or closed, one revision each.
    pub(crate) cases: Vec<CaseUpdate>,
    /// What each rule that judges events said, in the order of [`RuleId`]: why it fired or did not.
    pub(crate) rulings: [Ruling; JUDGES],
}

/// How much state there is: for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateSize {
    pub(crate) subjects: usize,
    /// Subjects of which it is known what is usual.
    pub(crate) habits: usize,
    pub(crate) tokens: usize,
    pub(crate) cases: usize,
    pub(crate) gateways: usize,
    /// Of events, by which repeats are known.
    pub(crate) ids: usize,
    /// Estimated from sizes and capacities.
    pub(crate) bytes: usize,
    /// What had to make room since the start: where it did, the order of arrival may matter.
    pub(crate) evicted: u64,
    /// Ids that had to make room within their ten minutes since the start.
    pub(crate) ids_forgotten: u64,
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
            repeats: repeats::Repeats::new(limits.ids_bytes),
            sites: sites::Sites::default(),
            usual: usual::Usual::new(limits.usual_bytes),
            travel: travel::Travel::new(limits.subjects_bytes),
            replay: replay::Replay::new(limits.tokens_bytes),
            cases: cases::Cases::new(limits.cases_bytes),
            set_aside: set_aside::SetAside::default(),
            stale: Vec::new(),
        }
    }

    /// A record that cannot be an event, if it says whose it is.
    pub(crate) fn refused(&mut self, rejected: &Rejected, record: &Record<'_>) {
        if let Some(tenant) = &rejected.tenant {
            self.set_aside.refused(tenant.as_str(), record.append_time);
        }
    }

    /// Whether the event's tenant is set aside, because too much of what it sends cannot be an event. Call it once an
    /// event. What speaks for the platform, and not for a tenant, never is.
    pub(crate) fn is_set_aside(&mut self, event: &Event<'_>, record: &Record<'_>) -> bool {
        !event.kind.is_control()
            && !event.is_platform()
            && self.set_aside.is_set_aside(&event.tenant, record.append_time)
    }

    /// Whether an event of the same tenant, gateway and id was walked here within the last ten minutes. If not, this one
    /// has been now: call it once a record, and only where the record is judged, not where it is forwarded.
    pub(crate) fn is_repeat(&mut self, checked: &Checked<'_>, record: &Record<'_>, rules: &Rulebook) -> bool {
        self.advance(record.append_time);
        let attested = checked.attested_by.is_some();
        let id = repeats::EventHash::of(&checked.decoded.event, attested, rules.event_ids());
        self.repeats.is_repeat(id, self.stream_time)
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

    /// A record is walked to its end: what stream time has passed expires or closes.
    fn begin(&mut self, record: &Record<'_>) {
        self.advance(record.append_time);
        self.cases.begin(record.offset, self.stream_time);
    }

    fn advance(&mut self, append_time: UnixMs) {
        if append_time > self.stream_time {
            self.stream_time = append_time;
            self.usual.expire(self.stream_time);
            self.travel.expire(self.stream_time);
            self.replay.expire(self.stream_time);
        }
    }

    /// The answers in the order of [`RuleId`].
    fn judge(&mut self, enriched: &Enriched<'_>, rules: &Rulebook) -> [Why; JUDGES] {
        let cases = &mut self.cases;
        let (leak, in_request) = leak::judge(enriched, rules, cases);
        let (travel, (replay, shared)) = match terms::eligible(enriched, rules, &mut self.sites) {
            Ok(used) => {
                let travel = self.travel.judge(&used, self.stream_time, &mut self.usual, cases);
                (travel, self.replay.judge(&used, cases))
            }
            Err(why) => (why, (why, why)),
        };
        [travel, replay, shared, leak, in_request]
    }

    /// What was walked so far was walked for state alone, and not from the log's beginning: what is usual for subjects is
    /// known of these days only. A case may stand higher than it did when it was told; so its next match tells it again,
    /// whatever it was told of before.
    pub(crate) fn doubt(&mut self) {
        self.cases.doubt(RuleId::ImpossibleTravel);
    }

    /// The cases that the record walked last matched, as they stand: also those that it left as strong as they were, of
    /// which no revision is written at once.
    pub(crate) fn touched(&self) -> impl Iterator<Item = &Case> {
        self.cases.touched()
    }

    pub(crate) fn size(&self) -> StateSize {
        StateSize {
            subjects: self.travel.subjects(),
            habits: self.usual.subjects(),
            tokens: self.replay.tokens(),
            cases: self.cases.len(),
            gateways: 0,
            ids: self.repeats.len(),
            bytes: self.usual.bytes()
                + self.travel.bytes()
                + self.replay.bytes()
                + self.cases.bytes()
                + self.sites.bytes()
                + self.repeats.bytes(),
            evicted: self.usual.evicted()
                + self.travel.evicted()
                + self.replay.evicted()
                + self.cases.evicted(),
            ids_forgotten: self.repeats.forgotten(),
        }
    }
}
