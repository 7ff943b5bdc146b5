//! **alert**: which cases someone must be told about, and when (DETECTION, first paragraph).
//!
//! An alert is a case of at least medium severity and confidence that no suppression mutes. A step (opened, raised) is
//! computed from how the case stood before and how it stands now, and from nothing else: a repeated walk makes it again.

mod policy;
mod tell;
mod text;

mod operations;

#[cfg(test)]
pub(crate) mod tests;

use super::detect::Assessed;
use super::enrich::Enriched;
use crate::log::{NewRecord, Origin};
use crate::model::{Alert, AlertData, CaseUpdate, Finding, NotAlerted, RuleId, Severity, Step};

pub(crate) use operations::{GivenUp, Storm, alert_storm, delivery_given_up, log_truncated};
pub(crate) use policy::Policy;
pub(crate) use tell::{Told, tell};
pub(crate) use text::{case_block, clean, end_line, text_block, why};

/// What `alert` leaves.
#[derive(Debug)]
pub(crate) struct Alerted<'r> {
    pub(crate) enriched: Enriched<'r>,
    pub(crate) found: Found,
}

/// What a record came to beside its row.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) findings: Vec<Finding>,
    /// The steps (opened, raised) that this record made.
    pub(crate) alerts: Vec<Alert>,
    /// The rules of the cases that this record opened.
    pub(crate) opened: Vec<RuleId>,
}

/// Decides about every case that an event touched.
pub(crate) fn alert<'r>(assessed: Assessed<'r>, policy: &Policy, origin: &Origin) -> Alerted<'r> {
    Alerted { enriched: assessed.enriched, found: judge(assessed.cases, policy, origin) }
}

/// Decides about cases, whatever touched them. An alert carries its whole row with its `origin`, so that `deliver` can
/// store it (PROMISE 5).
pub(crate) fn judge(cases: Vec<CaseUpdate>, policy: &Policy, origin: &Origin) -> Found {
    let mut findings = Vec::with_capacity(cases.len());
    let (mut alerts, mut opened) = (Vec::new(), Vec::new());
    for update in cases {
        let now = policy.judge(&update.case, &update.now);
        let step = step(&update, policy);
        if update.before.is_none() {
            opened.push(update.case.rule);
        }
        let finding = Finding {
            is_alert: now.is_alert(),
            not_alerted: now.not_alerted(),
            suppressed_by: now.suppressed_by().to_owned(),
            case: update.case,
        };
        if let Some(step) = step {
            let told = tell::tell(&finding.case);
            let data = AlertData {
                log: origin.log.to_string(),
                topic: origin.topic.name().to_owned(),
                partition: origin.partition.0,
                runbook_url: told.runbook_url,
                query: told.query,
                would_revoke: told.would_revoke,
                finding: finding.clone(),
            };
            alerts.push(Alert { step, timestamp: update.now.time, data });
        }
        findings.push(finding);
    }
    Found { findings, alerts, opened }
}

/// An alert as it lies in the outbox. By tenant and rule, so that whoever owns a partition of it sees all of a storm; the
/// steps of a case lie in order there, too.
pub(crate) fn outbox_record(alert: &Alert) -> NewRecord {
    let case = &alert.data.finding.case;
    NewRecord {
        key: Some(format!("{}\u{1f}{}", case.tenant, case.rule).into_bytes()),
        value: serde_json::to_vec(alert).unwrap_or_default(),
        ..NewRecord::default()
    }
}

/// `opened` when the case first meets the policy; `raised` when it first reaches high, and again critical, after that.
fn step(update: &CaseUpdate, policy: &Policy) -> Option<Step> {
    if !policy.judge(&update.case, &update.now).is_alert() {
        return None;
    }
    match update.before.filter(|before| policy.judge(&update.case, before).is_alert()) {
        None => Some(Step::Opened),
        Some(before) if update.now.severity > before.severity && update.now.severity >= Severity::High => {
            Some(Step::Raised)
        }
        Some(_) => None,
    }
}

/// What the policy says of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision<'p> {
    Alert,
    Weak(NotAlerted),
    /// By the suppression of that name.
    Suppressed(&'p str),
}

impl<'p> Decision<'p> {
    const fn is_alert(self) -> bool {
        matches!(self, Self::Alert)
    }

    const fn not_alerted(self) -> Option<NotAlerted> {
        match self {
            Self::Alert => None,
            Self::Weak(why) => Some(why),
            Self::Suppressed(_) => Some(NotAlerted::Suppressed),
        }
    }

    const fn suppressed_by(self) -> &'p str {
        match self {
            Self::Suppressed(name) => name,
            Self::Alert | Self::Weak(_) => "",
        }
    }
}
