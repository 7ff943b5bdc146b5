//! Findings of operations that no record raises: what goes wrong around the walk, found by whoever met it.
//!
//! Such a case is open until it recovers, so it has no window; and what happens again later must be told again. So its
//! key ends with what began it (an offset, a day): the same trouble met again after a crash is the same case, one that
//! comes after the recovery is another.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::policy::Policy;
use super::tell::{moment, quoted, runbook};
use crate::log::Origin;
use crate::model::{
    Alert, AlertData, Case, CaseState, Confidence, Finding, FindingId, Offset, PLATFORM_TENANT, RuleId,
    Severity, Standing, Step, UnixMs,
};
use crate::pipeline::detect::info;

/// One revision of such a case.
#[derive(Clone, Debug)]
struct Trouble<'t> {
    rule: RuleId,
    /// [`PLATFORM_TENANT`], unless it is one tenant's.
    tenant: &'t str,
    /// Who has it, and what began it.
    key: &'t [&'t str],
    /// Log, topic and partition whose owner met it: one that several meet has a row of each.
    origin: (&'t str, &'t str, u32),
    /// Rises with every revision of that row.
    revision: Offset,
    state: CaseState,
    severity: Severity,
    /// When it began: the same in every revision.
    since: UnixMs,
    /// When this revision was made.
    time: UnixMs,
    /// How many records, alerts or cases it concerns, at least one.
    count: u64,
    title: String,
    summary: String,
    /// A JSON object.
    evidence: Value,
    /// One ready ClickHouse query.
    query: String,
}

/// The alert of a trouble's first revision (`opened`) or of a graver one (`raised`), with its row in it. It is for the
/// outbox only if `data.finding.is_alert`: a suppression may mute it. A revision that nobody is told of is a row alone.
fn operations(trouble: Trouble<'_>, step: Step, policy: &Policy) -> Alert {
    let Trouble { rule, tenant, key, origin: (log, topic, partition), severity, time, .. } = trouble;
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
        log: log.to_owned(),
        topic: topic.to_owned(),
        partition,
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
    let (log, topic) = (origin.log.as_str(), origin.topic.name());
    let (partition, begun_by) = (origin.partition.to_string(), from.to_string());
    let count = to.get().abs_diff(from.get()).max(1);
    let trouble = Trouble {
        rule: RuleId::LogTruncated,
        tenant: PLATFORM_TENANT,
        key: &[log, topic, &partition, &begun_by],
        origin: (log, topic, origin.partition.0),
        revision: to,
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
            "log": log, "topic": topic, "partition": origin.partition.0,
            "from_offset": from.get(), "to_offset": to.get(),
        }),
        query: format!(
            "SELECT first, last, received_at, records, rows FROM jwtrail.blocks FINAL \
             WHERE log = {} AND topic = {} AND partition = {partition} ORDER BY first DESC LIMIT 20",
            quoted(log),
            quoted(topic),
        ),
    };
    operations(trouble, Step::Opened, policy)
}

/// Alerts that a destination did not take in time: what `deliver` knows of them.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp<'t> {
    pub(crate) destination: &'t str,
    /// The partition of the outbox.
    pub(crate) origin: &'t Origin,
    /// When the log took the first that was given up.
    pub(crate) since: UnixMs,
    /// How many are kept for `deliver --retry`.
    pub(crate) kept: u64,
    /// Closed once the destination has taken something again.
    pub(crate) state: CaseState,
}

/// A destination's case begins with the day of the first alert that was given up: the partitions of the outbox come to
/// one case for it, and a destination that takes some and refuses some is told of once a day. `now` orders the revisions.
pub(crate) fn delivery_given_up(given_up: &GivenUp<'_>, now: UnixMs, policy: &Policy) -> Alert {
    let GivenUp { destination, origin, since, kept, state } = *given_up;
    let day = &since.to_string()[..10];
    let trouble = Trouble {
        rule: RuleId::DeliveryGivenUp,
        tenant: PLATFORM_TENANT,
        key: &[destination, day],
        origin: (origin.log.as_str(), origin.topic.name(), origin.partition.0),
        revision: Offset::new(now.get()).unwrap_or_default(),
        state,
        severity: Severity::High,
        since,
        time: now,
        count: kept.max(1),
        title: "A destination was not told of alerts".to_owned(),
        summary: format!(
            "{destination} did not take alerts of {day} within 72 hours: they were given up, and so are those that \
             follow as they get as old; `jwtrail deliver --retry` tries them again"
        ),
        evidence: json!({ "destination": destination, "since": since }),
        query: format!(
            "SELECT finding_id, tenant, rule, severity, first_time, title FROM jwtrail.findings \
             WHERE is_alert AND last_time >= toDateTime64({}, 3, 'UTC') ORDER BY last_time",
            quoted(&moment(since)),
        ),
    };
    operations(trouble, Step::Opened, policy)
}

/// More cases at once than anyone can read.
#[derive(Clone, Debug)]
pub(crate) struct Storm {
    /// Whose cases they are: the storm is that tenant's, too.
    pub(crate) tenant: String,
    pub(crate) rule: RuleId,
    /// Where the far end of all of them lies, if that is what makes them a storm.
    pub(crate) network: Option<IpNet>,
    /// The case that made it a storm.
    pub(crate) begun_by: FindingId,
    /// Where that case's row came from.
    pub(crate) log: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// When the outbox took the first case.
    pub(crate) since: UnixMs,
    /// The earliest event of all cases.
    pub(crate) first_time: UnixMs,
    pub(crate) cases: u64,
    /// The first of them.
    pub(crate) first: Vec<FindingId>,
    pub(crate) severity: Severity,
}

/// A storm at `time`. No policy is asked: whoever mutes a rule's cases has no storm of them.
pub(crate) fn alert_storm(
    storm: &Storm,
    step: Step,
    state: CaseState,
    revision: Offset,
    time: UnixMs,
) -> Alert {
    let Storm { tenant, rule, network, cases, since, .. } = storm;
    let from = network.map_or(String::new(), |network| format!(", their far end in {network}"));
    let until = match state {
        CaseState::Open => "; those that follow are not told one by one while it lasts",
        CaseState::Withdrawn | CaseState::Closed => "; it is over",
    };
    let trouble = Trouble {
        rule: RuleId::AlertStorm,
        tenant,
        key: &[rule.as_str(), &storm.begun_by.to_string()],
        origin: (&storm.log, &storm.topic, storm.partition),
        revision,
        state,
        severity: storm.severity,
        since: *since,
        time,
        count: *cases,
        title: format!("A storm of {rule}"),
        summary: format!("{cases} cases of {rule} since {since}{from}{until}"),
        evidence: json!({
            "rule": rule, "network": network.map(|network| network.to_string()), "cases": cases, "since": since,
            "first": storm.first,
        }),
        query: format!(
            "SELECT finding_id, severity, sub, client_id, gateway, first_time, last_time, title FROM jwtrail.findings \
             WHERE tenant = {} AND rule = {} AND last_time >= toDateTime64({}, 3, 'UTC'){} ORDER BY first_time",
            quoted(tenant),
            quoted(rule.as_str()),
            quoted(&moment(storm.first_time)),
            network.map_or(String::new(), within),
        ),
    };
    operations(trouble, step, &Policy::default())
}

/// Holds of a case one of whose addresses lies in `network`. The column has IPv4 addresses mapped into IPv6.
fn within(network: IpNet) -> String {
    let (address, bits) = match network {
        IpNet::V4(network) => (network.network().to_ipv6_mapped(), network.prefix_len() + 96),
        IpNet::V6(network) => (network.network(), network.prefix_len()),
    };
    format!(" AND arrayExists(ip -> isIPAddressInRange(toString(ip), '{address}/{bits}'), ips)")
}
