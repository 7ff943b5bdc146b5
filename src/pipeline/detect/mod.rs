//! **detect**: the rules (DETECTION). The only room with state: bounded, keyed by subject or token, event time only. Pure.

use super::enrich::Enriched;
use crate::log::Record;
use crate::model::CaseUpdate;

/// The rules as configured: declared backends and egress groups, issuers that share subjects.
pub(crate) struct Rulebook {}

/// One partition's state.
#[derive(Default)]
pub(crate) struct Detector {}

/// What `detect` leaves.
#[derive(Debug)]
pub(crate) struct Assessed<'r> {
    pub(crate) enriched: Enriched<'r>,
    /// The cases that this record opened or touched.
    pub(crate) cases: Vec<CaseUpdate>,
}

impl Detector {
    /// Runs every rule over one event.
    pub(crate) fn detect<'r>(
        &mut self,
        _enriched: Enriched<'r>,
        _record: &Record<'r>,
        _rules: &Rulebook,
    ) -> Assessed<'r> {
        unimplemented!("filled by the detect room")
    }
}
