//! How good the rules are on labelled traffic: which attacks were found, and which alerts nobody had earned.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Finding, RuleId, UnixMs};
use crate::simulate::Label;

/// A label is found by a case that overlaps its time, give or take this much.
const SLACK_MS: i64 = 10 * 60_000;

/// A case, as far as labels care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) rule: RuleId,
    pub(crate) tenant: String,
    /// Whom it names: subject, client, gateway. Empty texts match nobody.
    pub(crate) who: [String; 3],
    pub(crate) from: UnixMs,
    pub(crate) to: UnixMs,
    pub(crate) is_alert: bool,
}

impl From<&Finding> for Found {
    fn from(finding: &Finding) -> Self {
        let case = &finding.case;
        Self {
            rule: case.rule,
            tenant: case.tenant.clone(),
            who: [case.sub.clone(), case.client_id.clone(), case.gateway.clone()],
            from: case.first_time,
            to: case.last_time,
            is_alert: finding.is_alert,
        }
    }
}

impl Found {
    fn explains(&self, label: &Label) -> bool {
        self.rule == label.rule
            && self.tenant == label.tenant
            && self.who.contains(&label.who)
            && self.from.get() - SLACK_MS <= label.to.get()
            && label.from.get() <= self.to.get() + SLACK_MS
    }
}

/// One rule's score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Score {
    pub(crate) labels: u64,
    pub(crate) found: u64,
    pub(crate) cases: u64,
    pub(crate) alerts: u64,
    /// Alerts that no label explains.
    pub(crate) false_alerts: u64,
}

/// Every rule's score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scores {
    benign_events: u64,
    by_rule: BTreeMap<RuleId, Score>,
}

impl Scores {
    /// Holds cases against labels.
    pub(crate) fn of(labels: &[Label], cases: &[Found], benign_events: u64) -> Self {
        let mut by_rule: BTreeMap<RuleId, Score> =
            RuleId::ALL.iter().map(|rule| (*rule, Score::default())).collect();
        for label in labels {
            let score = by_rule.entry(label.rule).or_default();
            score.labels += 1;
            score.found += u64::from(cases.iter().any(|case| case.explains(label)));
        }
        for case in cases {
            let score = by_rule.entry(case.rule).or_default();
            score.cases += 1;
            if case.is_alert {
                score.alerts += 1;
                score.false_alerts += u64::from(!labels.iter().any(|label| case.explains(label)));
            }
        }
        Self { benign_events, by_rule }
    }

    #[cfg(test)]
    fn rule(&self, rule: RuleId) -> Score {
        self.by_rule.get(&rule).copied().unwrap_or_default()
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>8} {:>7} {:>7} {:>7} {:>8} {:>7} {:>10} {:>18}",
            "rule",
            "labelled",
            "found",
            "missed",
            "cases",
            "alerts",
            "recall",
            "precision",
            "false per 100 k"
        )?;
        for (rule, score) in &self.by_rule {
            let share = |part: u64, of: u64| match of {
                0 => "–".to_owned(),
                _ => format!("{:.1} %", 100.0 * part as f64 / of as f64),
            };
            let per_100_k = 100_000.0 * score.false_alerts as f64 / self.benign_events.max(1) as f64;
            writeln!(
                f,
                "{:<20} {:>8} {:>7} {:>7} {:>7} {:>8} {:>7} {:>10} {:>18.2}",
                rule,
                score.labels,
                score.found,
                score.labels - score.found,
                score.cases,
                score.alerts,
                share(score.found, score.labels),
                share(score.alerts - score.false_alerts, score.alerts),
                per_100_k,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(rule: RuleId, who: &str, minute: i64) -> Label {
        let at = UnixMs::new(minute * 60_000);
        Label { rule, tenant: "acme".into(), who: who.into(), from: at, to: at }
    }

    fn case(rule: RuleId, sub: &str, minute: i64, is_alert: bool) -> Found {
        let at = UnixMs::new(minute * 60_000);
        let who = [sub.to_owned(), String::new(), "edge-1".to_owned()];
        Found { rule, tenant: "acme".into(), who, from: at, to: at, is_alert }
    }

    #[test]
    fn a_label_is_found_within_ten_minutes_by_its_rule_and_subject_alone() {
        let labels = [
            label(RuleId::TokenReplay, "alice", 100),
            label(RuleId::TokenReplay, "bob", 100),
            label(RuleId::TokenReplay, "carol", 100),
            label(RuleId::TokenLeak, "edge-1", 100),
        ];
        let cases = [
            case(RuleId::TokenReplay, "alice", 110, true),
            case(RuleId::TokenReplay, "bob", 111, true),
            case(RuleId::ImpossibleTravel, "carol", 100, true),
            case(RuleId::TokenLeak, "", 95, true),
            case(RuleId::TokenReplay, "dave", 100, false),
        ];
        let scores = Scores::of(&labels, &cases, 200_000);
        let replay = Score { labels: 3, found: 1, cases: 3, alerts: 2, false_alerts: 1 };
        assert_eq!(scores.rule(RuleId::TokenReplay), replay);
        let travel = Score { labels: 0, found: 0, cases: 1, alerts: 1, false_alerts: 1 };
        assert_eq!(scores.rule(RuleId::ImpossibleTravel), travel);
        assert_eq!(scores.rule(RuleId::TokenLeak).found, 1);
        assert!(scores.to_string().contains("0.50"), "{scores}");
    }
}
