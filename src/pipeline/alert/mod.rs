//! **alert**: which cases someone must be told about, and when (DETECTION, first paragraph).

use super::detect::Assessed;
use super::enrich::Enriched;
use crate::log::Topic;
use crate::model::{Alert, Finding, LogId, PartitionId};

/// Suppressions and what goes into an alert's text.
pub(crate) struct Policy {}

/// Where the walked rows lie: an alert carries its whole row, so that `deliver` can store it (PROMISE 5).
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) log: LogId,
    pub(crate) topic: Topic,
    pub(crate) partition: PartitionId,
}

/// What `alert` leaves.
#[derive(Debug)]
pub(crate) struct Alerted<'r> {
    pub(crate) enriched: Enriched<'r>,
    pub(crate) findings: Vec<Finding>,
    /// The steps (opened, raised) that this record made.
    pub(crate) alerts: Vec<Alert>,
}

/// Decides about every case that was touched.
pub(crate) fn alert<'r>(_assessed: Assessed<'r>, _policy: &Policy, _source: &Source) -> Alerted<'r> {
    unimplemented!("filled by the alert room")
}
