//! Cases and findings. A case is one rule, one key, one window; a finding is a case with what was decided about it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::verdict::words;
use super::{FindingId, Offset, SubjectKind, UnixMs};

words! {
    /// The rules, each the `rule` of its findings: first those that judge every event, then those of operations.
    RuleId {
        ImpossibleTravel = "impossible_travel",
        TokenReplay = "token_replay",
        SharedToken = "shared_token",
        TokenLeak = "token_leak",
        TokenInRequest = "token_in_request",
        AuditGap = "audit_gap",
        GatewaySilent = "gateway_silent",
        GatewayMissesClientIp = "gateway_misses_client_ip",
        GatewayClockSkew = "gateway_clock_skew",
        AlertStorm = "alert_storm",
        LogTruncated = "log_truncated",
        DeliveryGivenUp = "delivery_given_up",
    }
}

words! {
    /// Impact.
    Severity { Info = "info", Low = "low", Medium = "medium", High = "high", Critical = "critical", }
}

words! {
    /// Certainty.
    Confidence { Low = "low", Medium = "medium", High = "high", }
}

words! {
    /// Whom a finding concerns.
    FindingClass { Security = "security", Operations = "operations", }
}

words! {
    /// How far a case is.
    CaseState {
        Open = "open",
        /// Late proof took it back.
        Withdrawn = "withdrawn",
        /// Its window and ten minutes have passed in stream time.
        Closed = "closed",
    }
}

words! {
    /// Why a finding is no alert: the column `not_alerted`.
    NotAlerted { Severity = "severity", Confidence = "confidence", Suppressed = "suppressed", Learning = "learning", }
}

/// A case as the detector leaves it after one more match: one row, replaced by later revisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) finding_id: FindingId,
    /// The log offset of the record that made this revision.
    pub(crate) revision: Offset,
    pub(crate) rule: RuleId,
    pub(crate) rule_version: u16,
    pub(crate) tenant: String,
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) subject_kind: Option<SubjectKind>,
    pub(crate) client_id: String,
    pub(crate) gateway: String,
    pub(crate) kid: String,
    /// Start of the case's window in event time.
    pub(crate) case_start: UnixMs,
    pub(crate) first_time: UnixMs,
    pub(crate) last_time: UnixMs,
    pub(crate) state: CaseState,
    /// (severity, confidence) is the lexicographic maximum over the case's pairs: it never falls.
    pub(crate) severity: Severity,
    pub(crate) confidence: Confidence,
    pub(crate) class: FindingClass,
    /// What lowered the deciding pair, each by name.
    pub(crate) lowered_by: Vec<String>,
    pub(crate) title: String,
    pub(crate) summary: String,
    /// The facts of the deciding pair: a JSON object whose members each rule documents.
    pub(crate) evidence: serde_json::Value,
    pub(crate) token_refs: Vec<String>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) event_ids: Vec<Uuid>,
    pub(crate) event_count: u64,
    /// MITRE ATT&CK technique ids.
    pub(crate) techniques: Vec<String>,
}

/// How strong a case stands after one of its matches: what `alert` compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) severity: Severity,
    pub(crate) confidence: Confidence,
    /// Event time of the match: suppressions expire by it.
    pub(crate) time: UnixMs,
    /// The addresses of the deciding pair, earlier use first: suppressions by network look at them.
    pub(crate) ips: [Option<IpAddr>; 2],
}

/// One revision of a case, and how it stood before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CaseUpdate {
    pub(crate) case: Case,
    /// After the case's latest match. Closing a case is no match: `now` is then what it was.
    pub(crate) now: Standing,
    /// `None` if this record opened the case, or nobody may have been told of it as it stood.
    pub(crate) before: Option<Standing>,
}

/// A case and what was decided: the row of `finding_rows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finding {
    #[serde(flatten)]
    pub(crate) case: Case,
    pub(crate) is_alert: bool,
    /// `None` if it is an alert.
    pub(crate) not_alerted: Option<NotAlerted>,
    /// The suppression's name; empty if none.
    pub(crate) suppressed_by: String,
}

impl Finding {
    /// From a row of `findings` or `finding_rows` as ClickHouse writes it in JSON: what has no word is empty there, an
    /// IPv4 address is mapped into IPv6, and the table keeps evidence as text.
    pub(crate) fn of_row(mut row: serde_json::Value) -> Result<Self, serde_json::Error> {
        for column in ["subject_kind", "not_alerted"] {
            if row[column] == "" {
                row[column] = serde_json::Value::Null;
            }
        }
        if let Some(evidence) = row["evidence"].as_str() {
            row["evidence"] = serde_json::from_str(evidence)?;
        }
        let mut finding: Self = serde_json::from_value(row)?;
        for ip in &mut finding.case.ips {
            *ip = ip.to_canonical();
        }
        Ok(finding)
    }
}
