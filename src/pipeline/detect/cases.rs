//! Cases: what all matches of one rule, one key and one window come to. Each is a row that its later revisions replace.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::catalogue::info;
use super::checkpoint::{Changes, Restored, Store, StoreKey};
use super::keyed::{Entry, Keyed};
use super::keys::StateKey;
use super::terms::Seen;
use crate::model::{
    Case, CaseState, CaseUpdate, Confidence, FindingId, Offset, RuleId, Severity, Standing, SubjectKind,
    UnixMs,
};

/// Every case window is a day.
pub(super) const WINDOW_MINUTES: i64 = 24 * 60;
const MINUTE_MS: i64 = 60_000;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A case closes when stream time has passed its window by this: the lateness bound.
const CLOSE_AFTER_MS: i64 = 10 * MINUTE_MS;

/// How far behind stream time an event may be and still take part. A case is kept that long after its window, so that
/// a late match finds it and never writes a smaller one over it.
pub(super) const LATE_AFTER_MS: i64 = 24 * HOUR_MS;

/// A case that was matched again and is no stronger is written at most this often; closing it writes the rest.
const REWRITE_AFTER_MS: i64 = MINUTE_MS;

/// At most so many refs, addresses and event ids a case, the first of each.
const MAX_LISTED: usize = 32;

/// How a case's windows lie: tumbling days, shifted by a hash of the case key so that no wave starts at midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Phase(u16);

impl Phase {
    /// `H(tenant, case key)`, in whole minutes.
    pub(super) fn of(tenant: &str, key: &[&str]) -> Self {
        let hash = StateKey::of(&[&[tenant], key].concat()).low_bits();
        Self((hash % WINDOW_MINUTES as u64) as u16)
    }

    /// The number of the window that holds `time`.
    pub(super) const fn window(self, time: UnixMs) -> Window {
        let minutes = time.get().div_euclid(MINUTE_MS) - self.0 as i64;
        Window(minutes.div_euclid(WINDOW_MINUTES) as i32)
    }

    pub(super) const fn start(self, window: Window) -> UnixMs {
        UnixMs::new((window.0 as i64 * WINDOW_MINUTES + self.0 as i64) * MINUTE_MS)
    }
}

/// A window's number among those of its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Window(i32);

/// One match: what a rule says of one event.
pub(super) struct Match<'m> {
    pub(super) rule: RuleId,
    pub(super) tenant: &'m str,
    /// What all witnesses of the case share.
    pub(super) key: &'m [&'m str],
    /// The Unix epoch for a case without a window: it lasts for a day after its last match.
    pub(super) window_start: UnixMs,
    pub(super) severity: Severity,
    pub(super) confidence: Confidence,
    /// Whom it concerns: the columns of the row.
    pub(super) iss: &'m str,
    pub(super) sub: &'m str,
    pub(super) subject_kind: Option<SubjectKind>,
    pub(super) client_id: &'m str,
    pub(super) gateway: &'m str,
    pub(super) kid: &'m str,
    /// Event time of the record that is walked.
    pub(super) time: UnixMs,
    pub(super) token_ref: Option<&'m str>,
    /// The events that bear witness: first the deciding pair, the earlier before the later.
    pub(super) witnesses: &'m [Witness],
    /// Whether its facts take the place of an equally strong match's: what is counted on says the latest count.
    pub(super) is_count: bool,
}

impl Match<'_> {
    /// Start and end of the time in which matches belong to the case.
    const fn window(&self) -> (UnixMs, UnixMs) {
        let start = if self.window_start.get() == 0 { self.time } else { self.window_start };
        (start, UnixMs::new(start.get() + WINDOW_MINUTES * MINUTE_MS))
    }
}

/// One event of a match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witness {
    pub(super) id: Uuid,
    pub(super) time: UnixMs,
    pub(super) ip: Option<IpAddr>,
}

impl Witness {
    pub(super) fn of(seen: &Seen) -> Self {
        Self { id: seen.id, time: seen.time, ip: Some(seen.ip.to_canonical()) }
    }
}

/// What a case says of its deciding pair.
pub(super) struct Facts {
    pub(super) title: String,
    pub(super) summary: String,
    pub(super) evidence: serde_json::Value,
    pub(super) lowered_by: Vec<String>,
}

/// The cases of one partition, a store a rule: a flood of one rule's cases drops no other's.
pub(super) struct Cases {
    by_rule: Vec<(RuleId, Keyed<FindingId, OpenCase>)>,
    stream_time: UnixMs,
    revision: Offset,
    updates: Vec<CaseUpdate>,
    /// The cases that the record matched, whether a revision was written or not.
    touched: Vec<(RuleId, FindingId)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct OpenCase {
    case: Case,
    standing: Standing,
    /// When its window ends.
    ends: UnixMs,
    written_at: UnixMs,
    /// Whether the last match is not written yet.
    unwritten: bool,
    /// Whether nobody may have been told of it as it stands. Not in what earlier versions wrote.
    #[serde(default)]
    doubted: bool,
}

impl Entry for OpenCase {
    fn heap_bytes(&self) -> usize {
        let case = &self.case;
        let texts = case.token_refs.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
        // The texts and the evidence of a case, a JSON tree, are of one size within a factor of two; its lists are not.
        4_096 + texts + case.ips.len() * size_of::<IpAddr>() + case.event_ids.len() * size_of::<Uuid>()
    }
}

/// JSON, because a case's evidence is.
fn write(open: &OpenCase, out: &mut Vec<u8>) {
    // Writing to memory cannot fail, and a case holds nothing that JSON cannot say.
    let _ = serde_json::to_writer(out, open);
}

pub(super) fn read(bytes: &[u8]) -> Option<OpenCase> {
    serde_json::from_slice(bytes).ok()
}

impl StoreKey for FindingId {
    type Bytes = [u8; 16];
    fn to_bytes(&self) -> [u8; 16] {
        self.uuid().into_bytes()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self::from)
    }
}

impl Cases {
    /// `max_bytes` for each rule.
    pub(super) fn new(max_bytes: usize) -> Self {
        let by_rule = RuleId::ALL.iter().map(|&rule| (rule, Keyed::new(max_bytes))).collect();
        let (updates, touched) = (Vec::new(), Vec::new());
        Self { by_rule, stream_time: UnixMs::default(), revision: Offset::ZERO, updates, touched }
    }

    pub(super) fn len(&self) -> usize {
        self.by_rule.iter().map(|(_, cases)| cases.len()).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.by_rule.iter().map(|(_, cases)| cases.bytes()).sum()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.by_rule.iter().map(|(_, cases)| cases.evicted()).sum()
    }

    pub(super) fn changed(&self) -> usize {
        self.by_rule.iter().map(|(_, cases)| cases.changed()).sum()
    }

    pub(super) fn write_changes(&mut self, changes: &mut Changes) {
        for (_, cases) in &mut self.by_rule {
            cases.write_changes(Store::Case, changes, write);
        }
    }

    pub(super) fn restore(&mut self, mut cases: Vec<Restored<'_, FindingId, OpenCase>>) {
        for (rule, of_rule) in &mut self.by_rule {
            of_rule.restore(cases.extract_if(.., |entry| entry.value.case.rule == *rule).collect());
        }
    }

    /// A record is walked: closes what stream time has passed.
    pub(super) fn begin(&mut self, revision: Offset, stream_time: UnixMs) {
        (self.revision, self.stream_time) = (revision, stream_time);
        self.touched.clear();
        let updates = &mut self.updates;
        for (_, cases) in &mut self.by_rule {
            cases.expire(stream_time, |open| open.time_has_come(revision, updates));
        }
    }

    /// When the next case closes, or is written once more: what only drops out then says nothing.
    pub(super) fn next_due(&self) -> Option<UnixMs> {
        self.by_rule.iter().filter_map(|(_, cases)| cases.next_due(OpenCase::is_pending)).min()
    }

    /// The revisions that this record made, one a case.
    pub(super) fn take_updates(&mut self) -> Vec<CaseUpdate> {
        std::mem::take(&mut self.updates)
    }

    /// The cases that this record matched, as they stand.
    pub(super) fn touched(&self) -> impl Iterator<Item = &Case> {
        self.touched.iter().filter_map(|(rule, finding_id)| {
            let (_, cases) = self.by_rule.iter().find(|(of, _)| of == rule)?;
            cases.get(finding_id).map(|open| &open.case)
        })
    }

    /// Takes a match into its case; `facts` are asked for only where they replace weaker ones.
    pub(super) fn touch(&mut self, matched: &Match<'_>, facts: impl FnOnce() -> Facts) {
        let (_, window_end) = matched.window();
        if window_end.get() + LATE_AFTER_MS <= self.stream_time.get() {
            return;
        }
        let finding_id = FindingId::of(matched.rule, matched.tenant, matched.key, matched.window_start);
        let closes = UnixMs::new(window_end.get() + CLOSE_AFTER_MS);
        let (revision, stream_time, updates) = (self.revision, self.stream_time, &mut self.updates);
        let Some((_, cases)) = self.by_rule.iter_mut().find(|(rule, _)| *rule == matched.rule) else {
            return;
        };
        if !self.touched.contains(&(matched.rule, finding_id)) {
            self.touched.push((matched.rule, finding_id));
        }
        cases.change(
            finding_id,
            matched.tenant,
            closes,
            || OpenCase::new(finding_id, matched),
            |open| {
                let doubted = std::mem::take(&mut open.doubted);
                let before = (open.case.event_count > 0 && !doubted).then_some(open.standing);
                let stronger = open.add(matched, revision, facts);
                let rewrite = doubted || stream_time.since_ms(open.written_at) >= REWRITE_AFTER_MS;
                open.unwritten = !stronger && !rewrite;
                if !open.unwritten {
                    open.written_at = stream_time;
                    push_update(updates, CaseUpdate { case: open.case.clone(), now: open.standing, before });
                }
            },
        );
    }

    /// From now on nobody knows whether these cases were told as they stand: the next match of each tells it anew.
    pub(super) fn doubt(&mut self, rule: RuleId) {
        for (_, cases) in self.by_rule.iter_mut().filter(|(of, _)| *of == rule) {
            cases.change_all(|open| open.doubted = true);
        }
    }

    /// Ends a case before its window does: over, or taken back by late proof. Nothing, if there is none.
    pub(super) fn end(&mut self, rule: RuleId, finding_id: FindingId, state: CaseState, time: UnixMs) {
        let (revision, updates) = (self.revision, &mut self.updates);
        let Some((_, cases)) = self.by_rule.iter_mut().find(|(of, _)| *of == rule) else { return };
        let known = cases.get(&finding_id).map(|open| (open.ends, open.case.tenant.clone()));
        let Some((ends, tenant)) = known else { return };
        let never = || unreachable!("it is there");
        cases.change(finding_id, &tenant, ends, never, |open| open.end(state, time, revision, updates));
    }
}

/// One revision a case and record: a later one takes the earlier one's place and keeps what it was before.
fn push_update(updates: &mut Vec<CaseUpdate>, update: CaseUpdate) {
    match updates.iter_mut().find(|known| known.case.finding_id == update.case.finding_id) {
        Some(known) => *known = CaseUpdate { before: known.before, ..update },
        None => updates.push(update),
    }
}

impl OpenCase {
    /// A case that nothing was added to yet.
    fn new(finding_id: FindingId, matched: &Match<'_>) -> Self {
        let (info, (start, ends)) = (info(matched.rule), matched.window());
        let case = Case {
            finding_id,
            revision: Offset::ZERO,
            rule: matched.rule,
            rule_version: info.version,
            tenant: matched.tenant.to_owned(),
            iss: matched.iss.to_owned(),
            sub: matched.sub.to_owned(),
            subject_kind: matched.subject_kind,
            client_id: matched.client_id.to_owned(),
            gateway: matched.gateway.to_owned(),
            kid: matched.kid.to_owned(),
            case_start: start,
            first_time: matched.time,
            last_time: matched.time,
            state: CaseState::Open,
            severity: matched.severity,
            confidence: matched.confidence,
            class: info.class,
            lowered_by: Vec::new(),
            title: String::new(),
            summary: String::new(),
            evidence: serde_json::Value::Null,
            token_refs: Vec::new(),
            ips: Vec::new(),
            event_ids: Vec::new(),
            event_count: 0,
            techniques: info.techniques.iter().map(|&id| id.to_owned()).collect(),
        };
        let standing = Standing::of(matched);
        Self { case, standing, ends, written_at: UnixMs::default(), unwritten: false, doubted: false }
    }

    /// Whether the match opened the case or made it stronger.
    fn add(&mut self, matched: &Match<'_>, revision: Offset, facts: impl FnOnce() -> Facts) -> bool {
        let case = &mut self.case;
        let standing = Standing::of(matched);
        let strength = (case.severity, case.confidence);
        let stronger = case.event_count == 0
            || case.state == CaseState::Withdrawn
            || (standing.severity, standing.confidence) > strength
            || (matched.is_count && (standing.severity, standing.confidence) == strength);
        if case.state == CaseState::Withdrawn {
            case.state = CaseState::Open;
        }
        case.revision = revision;
        case.event_count += 1;
        (case.first_time, case.last_time) =
            (case.first_time.min(matched.time), case.last_time.max(matched.time));
        self.ends = self.ends.max(matched.window().1);
        for witness in matched.witnesses {
            case.first_time = case.first_time.min(witness.time);
            case.last_time = case.last_time.max(witness.time);
            list(&mut case.event_ids, witness.id);
            if let Some(ip) = witness.ip {
                list(&mut case.ips, ip);
            }
        }
        if let Some(token_ref) = matched.token_ref
            && case.token_refs.len() < MAX_LISTED
            && !case.token_refs.iter().any(|known| known == token_ref)
        {
            case.token_refs.push(token_ref.to_owned());
        }
        if stronger {
            let facts = facts();
            (case.severity, case.confidence) = strength.max((matched.severity, matched.confidence));
            (case.title, case.summary, case.evidence) = (facts.title, facts.summary, facts.evidence);
            case.lowered_by = facts.lowered_by;
            self.standing = Standing { severity: case.severity, confidence: case.confidence, ..standing };
        }
        self.standing.time = matched.time;
        stronger
    }

    /// Whether it is still to be closed, or has matches that no revision tells of.
    fn is_pending(&self) -> bool {
        self.case.state == CaseState::Open || self.unwritten
    }

    fn end(&mut self, state: CaseState, time: UnixMs, revision: Offset, updates: &mut Vec<CaseUpdate>) {
        if self.case.state != CaseState::Open {
            return;
        }
        (self.case.state, self.case.revision, self.case.last_time) =
            (state, revision, self.case.last_time.max(time));
        self.unwritten = false;
        let (now, before) = (self.standing, Some(self.standing));
        push_update(updates, CaseUpdate { case: self.case.clone(), now, before });
    }

    /// The window is over: closes the case; a day later nothing can touch it any more, and it is dropped.
    fn time_has_come(&mut self, revision: Offset, updates: &mut Vec<CaseUpdate>) -> Option<UnixMs> {
        if !self.is_pending() {
            return None;
        }
        let closing = self.case.state == CaseState::Open;
        if closing {
            self.case.state = CaseState::Closed;
        }
        self.case.revision = revision;
        self.unwritten = false;
        let (now, before) = (self.standing, Some(self.standing));
        push_update(updates, CaseUpdate { case: self.case.clone(), now, before });
        closing.then(|| UnixMs::new(self.ends.get() + LATE_AFTER_MS))
    }
}

impl Standing {
    fn of(matched: &Match<'_>) -> Self {
        let ip = |index: usize| matched.witnesses.get(index).and_then(|witness| witness.ip);
        let (severity, confidence) = (matched.severity, matched.confidence);
        Self { severity, confidence, time: matched.time, ips: [ip(0), ip(1)] }
    }
}

fn list<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if list.len() < MAX_LISTED && !list.contains(&item) {
        list.push(item);
    }
}
