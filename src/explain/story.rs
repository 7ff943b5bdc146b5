//! The story of a case: what decided it, why it is as severe as it is, whether someone was told, and what to do.

use serde::Serialize;
use serde_json::Value;

use super::said::told;
use crate::config::Suppression;
use crate::model::{Finding, UnixMs};
use crate::pipeline::alert::{Told, tell, why};

/// One case, explained from its row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Story {
    pub(super) finding: Finding,
    /// Why this severity and confidence, in the rule's own facts.
    pub(super) why: String,
    /// Whether someone was told, and why not.
    pub(super) told: String,
    /// When the suppression that mutes it ends, by event time; `None` if it is not configured any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) suppressed_until: Option<UnixMs>,
    /// The runbook, one ready query, and what a revocation would take with it.
    #[serde(flatten)]
    pub(super) help: Told,
    /// The rows of its events, as far as it lists them and they are still there.
    pub(super) events: Vec<Value>,
}

impl Story {
    pub(super) fn new(finding: Finding, events: Vec<Value>, suppressions: &[Suppression]) -> Self {
        let muting = suppressions.iter().find(|suppression| suppression.name == finding.suppressed_by);
        let suppressed_until = muting.map(|suppression| suppression.expires);
        let case = &finding.case;
        Self { why: why(case), told: told(&finding), suppressed_until, help: tell(case), events, finding }
    }
}
