//! Walking again: a past span of the log or a file, which stores nothing, and dead letters, which go back into the log.
//!
//! All three go through the walk's own pure rooms. A span that is walked again with the configuration it had says what
//! was said then, so it is also the proof that nothing was missed: [`compare`] holds it against ClickHouse.

mod findings;

mod file;
mod span;

mod stored;

mod letters;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub(crate) use file::file;
pub(crate) use findings::FindingRows;
pub(crate) use letters::{Letters, Survey, Wanted};
pub(crate) use span::{Piece, Span, span};
#[cfg(test)]
use stored::Comparison;
pub(crate) use stored::compare;

use crate::clickhouse::ClickHouseError;
use crate::log::{LogError, Record, Topic};
use crate::model::PartitionId;
use crate::pipeline::decode::{RejectReason, Rejected};
use crate::pipeline::{LaneWalk, WayOut};

/// Why a replay cannot go on. None of it is the data's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    /// Another version wrote the tables.
    #[error("ClickHouse answers what this version does not write: {0}; run `jwtrail migrate`")]
    Unreadable(#[from] serde_json::Error),
    #[error("the file cannot be read: {0}")]
    File(#[from] std::io::Error),
    #[error("the walk was ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// What became of the records that were walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    /// Ticks, marks, heartbeats.
    pub(crate) control: u64,
    /// Their copies are walked at their home.
    pub(crate) forwarded: u64,
    /// Walked before: their source sent them twice.
    pub(crate) repeated: u64,
    pub(crate) rejected: BTreeMap<RejectReason, u64>,
    /// Of the second walk: what blocks said of their sources, and its ticks.
    pub(crate) summaries: u64,
}

/// What a walk came to.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) counts: Counts,
    pub(crate) findings: FindingRows,
}

impl Walked {
    /// Walks one record; `rejected` sees what cannot be an event.
    fn step(
        &mut self,
        walk: &mut dyn LaneWalk,
        record: &Record<'_>,
        (topic, partition): (Topic, PartitionId),
        rejected: impl FnOnce(&Rejected),
    ) {
        let counts = &mut self.counts;
        let found = match walk.step(record) {
            WayOut::Alerted(alerted) if alerted.enriched.checked.decoded.event.kind.is_control() => {
                counts.control += 1;
                alerted.found
            }
            WayOut::Alerted(alerted) => {
                counts.events += 1;
                alerted.found
            }
            WayOut::Control(found) if topic == Topic::Summaries => {
                counts.summaries += 1;
                found
            }
            WayOut::Control(found) => {
                counts.control += 1;
                found
            }
            WayOut::Forwarded(_) => {
                counts.forwarded += 1;
                return;
            }
            WayOut::Dropped(_) => {
                counts.repeated += 1;
                return;
            }
            WayOut::Rejected(why) => {
                *counts.rejected.entry(why.reason).or_default() += 1;
                rejected(&why);
                return;
            }
        };
        self.findings.extend((topic, partition), found.findings);
    }
}

/// `1204 events, 3 control, 17 forwarded, 5 repeated, 2 rejected (bad_value 1, not_json 1)`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rejected: u64 = self.rejected.values().sum();
        write!(
            f,
            "{} events, {} control, {} forwarded, {} repeated, {rejected} rejected",
            self.events, self.control, self.forwarded, self.repeated
        )?;
        let reasons: Vec<_> =
            self.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        if !reasons.is_empty() {
            write!(f, " ({})", reasons.join(", "))?;
        }
        if self.summaries > 0 { write!(f, "; {} summaries", self.summaries) } else { Ok(()) }
    }
}
