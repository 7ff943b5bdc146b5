//! Alerts: findings that someone must be told about, as they lie in the outbox and go to destinations.

use serde::{Deserialize, Serialize};

use super::verdict::words;
use super::{Finding, UnixMs};

words! {
    /// Why an alert goes out now.
    Step {
        /// The case first met the policy.
        Opened = "jwtrail.alert.opened",
        /// The case first reached high or critical later.
        Raised = "jwtrail.alert.raised",
    }
}

/// One alert: the value of a record on `jwtrail.alerts`, and the body of a webhook (`schemas/alerts/`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    #[serde(rename = "type")]
    pub(crate) step: Step,
    /// The event time of the record that made the step: a function of the log, so that a repeated walk says the same.
    pub(crate) timestamp: UnixMs,
    pub(crate) data: AlertData,
}

/// The columns of `findings`, and what helps whoever is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AlertData {
    #[serde(flatten)]
    pub(crate) finding: Finding,
    /// Where the row came from: with it `deliver` can store the row itself (PROMISE 5).
    pub(crate) log: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) runbook_url: String,
    /// One ready ClickHouse query.
    pub(crate) query: String,
    /// What a revocation would take with it.
    pub(crate) would_revoke: String,
}
