//! Findings of operations that no record raises: what goes wrong around the walk, found by whoever met it.
//!
//! Such a case is open until it recovers, so it has no window; and what happens again later must be told again. So its
//! key ends with what began it (an offset, a day): the same trouble met again after a crash is the same case, one that
//! comes after the recovery is another.

use serde_json::{Value, json};

use super::policy::Policy;
use super::tell::{quoted, runbook};
use crate::log::Origin;
use crate::model::{
    Alert, AlertData, Case, CaseState, Confidence, Finding, FindingId, Offset, PLATFORM_TENANT, RuleId,
    Severity, Standing, Step, UnixMs,
};
use crate::pipeline::detect::info;

/// One revision of such a case.
#[derive(Clone, Debug)]
pub(crate) struct Trouble<'t> {
    pub(crate) rule: RuleId,
    /// [`PLATFORM_TENANT`], unless it is one tenant's.
    pub(crate) tenant: &'t str,
    /// Who has it, and what began it.
    pub(crate) key: &'t [&'t str],
    /// Rises with every revision, below [`Trouble::origin`].
    pub(crate) revision: Offset,
    /// The partition whose owner met it: one that several meet has a row of each.
    pub(crate) origin: &'t Origin,
    pub(crate) state: CaseState,
    pub(crate) severity: Severity,
    /// When it began: the same in every revision.
    pub(crate) since: UnixMs,
    /// When this revision was made.
    pub(crate) time: UnixMs,
    /// How many records, alerts or cases it concerns, at least one.
    pub(crate) count: u64,
    pub(crate) title: String,
    pub(crate) summary: String,
    /// A JSON object.
    pub(crate) evidence: Value,
    /// One ready ClickHouse query.
    pub(crate) query: String,
}

/// The alert of a trouble's first revision (`opened`) or of a graver one (`raised`), with its row in it. It is for the
/// outbox only if `data.finding.is_alert`: a suppression may mute it. A revision that nobody is told of is a row alone.
pub(crate) fn operations(trouble: Trouble<'_>, step: Step, policy: &Policy) -> Alert {
    let Trouble { rule, tenant, key, origin, severity, time, .. } = trouble;
    let info = info(rule);
    let case = Case {
        finding_id: FindingId::of(rule, tenant, key, UnixMs::default()),
        revision: trouble.revision,
        rule,
        rule_version: info.version,
        tenant: tenant.to_owned(),
        iss: String::new(),
        sub: String::new(),
        subject_kind: None,
        client_id: String::new(),
        gateway: String::new(),
        kid: String::new(),
        case_start: trouble.since,
        first_time: trouble.since,
        last_time: time,
        state: trouble.state,
        severity,
        confidence: Confidence::High,
        class: info.class,
        lowered_by: Vec::new(),
        title: trouble.title,
        summary: trouble.summary,
        evidence: trouble.evidence,
        token_refs: Vec::new(),
        ips: Vec::new(),
        event_ids: Vec::new(),
        event_count: trouble.count,
        techniques: Vec::new(),
    };
    let standing = Standing { severity, confidence: case.confidence, time, ips: [None, None] };
    let decision = policy.judge(&case, &standing);
    let finding = Finding {
        is_alert: decision.is_alert(),
        not_alerted: decision.not_alerted(),
        suppressed_by: decision.suppressed_by().to_owned(),
        case,
    };
    let data = AlertData {
        finding,
        log: origin.log.to_string(),
        topic: origin.topic.name().to_owned(),
        partition: origin.partition.0,
        runbook_url: runbook(rule),
        query: trouble.query,
        would_revoke: "nothing".to_owned(),
    };
    Alert { step, timestamp: time, data }
}

/// Records `from` up to, not including, `to` left `origin` before they were walked. The case is closed when it is told:
/// the walk goes on at `to`, and what is gone stays gone. It begins with `from`: an owner that dies before its first
/// commit finds the same loss again. `time`: when that was found.
pub(crate) fn log_truncated(
    origin: &Origin,
    from: Offset,
    to: Offset,
    time: UnixMs,
    policy: &Policy,
) -> Alert {
    let (partition, begun_by) = (origin.partition.to_string(), from.to_string());
    let count = to.get().abs_diff(from.get()).max(1);
    let trouble = Trouble {
        rule: RuleId::LogTruncated,
        tenant: PLATFORM_TENANT,
        key: &[origin.log.as_str(), origin.topic.name(), &partition, &begun_by],
        revision: to,
        origin,
        state: CaseState::Closed,
        severity: Severity::High,
        since: time,
        time,
        count,
        title: "Records left the log before they were walked".to_owned(),
        summary: format!(
            "partition {partition} of {} lost the offsets {from} up to {to}",
            origin.topic.name()
        ),
        evidence: json!({
            "log": origin.log.as_str(), "topic": origin.topic.name(), "partition": origin.partition.0,
            "from_offset": from.get(), "to_offset": to.get(),
        }),
        query: format!(
            "SELECT first, last, received_at, records, rows FROM jwtrail.blocks FINAL \
             WHERE log = {} AND topic = {} AND partition = {partition} ORDER BY first DESC LIMIT 20",
            quoted(origin.log.as_str()),
            quoted(origin.topic.name()),
        ),
    };
    operations(trouble, Step::Opened, policy)
}
