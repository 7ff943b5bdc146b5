//! Findings as the walk leaves them, folded as the view `findings` folds them.

use std::collections::{BTreeMap, btree_map};

use crate::log::Topic;
use crate::model::{CaseState, Finding, FindingId, PartitionId};

/// A case in one of the partitions that feed it.
pub(super) type Key = (FindingId, Topic, PartitionId);

/// The newest revision of every case in each partition that feeds it: what `finding_rows` keeps of one log.
#[derive(Debug, Default)]
pub(crate) struct FindingRows(BTreeMap<Key, Finding>);

impl FindingRows {
    /// Later revisions replace earlier ones.
    pub(super) fn extend(
        &mut self,
        (topic, partition): (Topic, PartitionId),
        findings: impl IntoIterator<Item = Finding>,
    ) {
        let keyed = |finding: Finding| ((finding.case.finding_id, topic, partition), finding);
        self.0.extend(findings.into_iter().map(keyed));
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, Key, Finding> {
        self.0.iter()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Finding> {
        self.0.get(key)
    }

    /// One finding a case, by their ids.
    pub(crate) fn folded(self) -> Vec<Finding> {
        let mut folded: Vec<Finding> = Vec::new();
        for finding in self.0.into_values() {
            match folded.last_mut() {
                Some(case) if case.case.finding_id == finding.case.finding_id => fold(case, finding),
                _ => folded.push(finding),
            }
        }
        folded.iter_mut().for_each(sort);
        folded
    }
}

/// Takes a higher partition's row into a case: sums, extremes, and what the strongest of them says; of two that are as
/// strong, the higher partition's.
fn fold(case: &mut Finding, mut other: Finding) {
    let rank = |finding: &Finding| (finding.case.severity, finding.case.confidence, finding.case.last_time);
    if rank(&other) >= rank(case) {
        std::mem::swap(case, &mut other);
    }
    case.is_alert |= other.is_alert;
    if case.is_alert {
        case.not_alerted = None;
        case.suppressed_by.clear();
    }
    let (case, other) = (&mut case.case, other.case);
    case.revision = case.revision.max(other.revision);
    case.rule_version = case.rule_version.max(other.rule_version);
    case.case_start = case.case_start.min(other.case_start);
    case.first_time = case.first_time.min(other.first_time);
    case.last_time = case.last_time.max(other.last_time);
    case.state = match (case.state, other.state) {
        (CaseState::Open, _) | (_, CaseState::Open) => CaseState::Open,
        (CaseState::Closed, _) | (_, CaseState::Closed) => CaseState::Closed,
        (CaseState::Withdrawn, CaseState::Withdrawn) => CaseState::Withdrawn,
    };
    case.event_count += other.event_count;
    case.token_refs.extend(other.token_refs);
    case.ips.extend(other.ips);
    case.event_ids.extend(other.event_ids);
    case.techniques.extend(other.techniques);
}

/// The view's lists are sets: sorted, each member once.
fn sort(finding: &mut Finding) {
    fn set<T: Ord>(list: &mut Vec<T>) {
        list.sort();
        list.dedup();
    }
    let case = &mut finding.case;
    set(&mut case.token_refs);
    set(&mut case.ips);
    set(&mut case.event_ids);
    set(&mut case.techniques);
}
