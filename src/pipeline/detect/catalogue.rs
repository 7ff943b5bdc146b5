//! The rules as a table: what README, `explain` and every case say of them.

use crate::model::{FindingClass, RuleId, Severity};

/// What a rule is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleInfo {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "holds the table's order; README's table is made of it")
    )]
    pub(crate) id: RuleId,
    /// Rises with every change that could change a case: `rule_version` of its findings.
    pub(crate) version: u16,
    pub(crate) class: FindingClass,
    /// One line.
    pub(crate) says: &'static str,
    pub(crate) severity: Severity,
    /// README's section: what to do about one.
    pub(crate) runbook: &'static str,
    /// MITRE ATT&CK technique ids.
    pub(crate) techniques: &'static [&'static str],
}

/// Every rule, in the order of [`RuleId`].
pub(crate) const RULES: &[RuleInfo] = &[
    RuleInfo {
        id: RuleId::ImpossibleTravel,
        version: 2,
        class: FindingClass::Security,
        says: "one subject at two places that nobody can travel between in the time",
        severity: Severity::Medium,
        runbook: "impossible_travel",
        techniques: &["T1078", "T1550.001"],
    },
    RuleInfo {
        id: RuleId::TokenReplay,
        version: 1,
        class: FindingClass::Security,
        says: "one token from two origins that differ in device, country or kind of network",
        severity: Severity::Medium,
        runbook: "token_replay",
        techniques: &["T1528", "T1550.001"],
    },
    RuleInfo {
        id: RuleId::SharedToken,
        version: 1,
        class: FindingClass::Security,
        says: "one user's token from five or more independent origins",
        severity: Severity::Medium,
        runbook: "shared_token",
        techniques: &["T1550.001"],
    },
    RuleInfo {
        id: RuleId::TokenLeak,
        version: 1,
        class: FindingClass::Security,
        says: "a gateway published a token in a field that must not hold one",
        severity: Severity::High,
        runbook: "token_leak",
        techniques: &["T1528", "T1552"],
    },
    RuleInfo {
        id: RuleId::TokenInRequest,
        version: 1,
        class: FindingClass::Security,
        says: "a client put a token where logs will keep it: a URL, a header, a claim",
        severity: Severity::Low,
        runbook: "token_in_request",
        techniques: &["T1552"],
    },
    RuleInfo {
        id: RuleId::AuditGap,
        version: 1,
        class: FindingClass::Operations,
        says: "events that a gateway counted are not in the log",
        severity: Severity::Medium,
        runbook: "audit_gap",
        techniques: &[],
    },
    RuleInfo {
        id: RuleId::GatewaySilent,
        version: 1,
        class: FindingClass::Operations,
        says: "a gateway stopped saying that it is there",
        severity: Severity::Medium,
        runbook: "gateway_silent",
        techniques: &[],
    },
    RuleInfo {
        id: RuleId::GatewayMissesClientIp,
        version: 1,
        class: FindingClass::Operations,
        says: "a gateway at the edge gives a proxy's address for its clients'",
        severity: Severity::Low,
        runbook: "gateway_misses_client_ip",
        techniques: &[],
    },
    RuleInfo {
        id: RuleId::GatewayClockSkew,
        version: 1,
        class: FindingClass::Operations,
        says: "a gateway's clock is off by more than a minute",
        severity: Severity::Low,
        runbook: "gateway_clock_skew",
        techniques: &[],
    },
    RuleInfo {
        id: RuleId::AlertStorm,
        version: 1,
        class: FindingClass::Operations,
        says: "so many cases of one rule that they are told as one",
        severity: Severity::Medium,
        runbook: "alert_storm",
        techniques: &[],
    },
    RuleInfo {
        id: RuleId::LogTruncated,
        version: 1,
        class: FindingClass::Operations,
        says: "records left the log before they were walked",
        severity: Severity::High,
        runbook: "log_truncated",
        techniques: &[],
    },
    RuleInfo {
        id: RuleId::DeliveryGivenUp,
        version: 1,
        class: FindingClass::Operations,
        says: "alerts that a destination did not take within 72 hours",
        severity: Severity::High,
        runbook: "delivery_given_up",
        techniques: &[],
    },
];

/// So many of the first rules judge every event. What the others watch is no single event.
pub(crate) const JUDGES: usize = 5;

pub(crate) fn info(rule: RuleId) -> &'static RuleInfo {
    &RULES[rule as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lies_in_the_order_of_the_ids() {
        let ids: Vec<RuleId> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids, RuleId::ALL);
    }
}
