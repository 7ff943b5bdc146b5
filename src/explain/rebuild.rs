//! A subject's state, rebuilt: its rows walked again, then the events in question, each put into words.

use std::collections::HashMap;

use uuid::Uuid;

use super::ExplainError;
use super::row::{EventRow, Signing};
use super::said::{Explained, Judged, State};
use super::trail::History;
use crate::log::{Batch, NewRecord};
use crate::model::{Finding, FindingId, Offset, PartitionId, UnixMs};
use crate::pipeline::decode::Rejected;
use crate::pipeline::{Walk, WayOut};

/// A record to walk, in the place that the log gave it.
pub(super) struct Entry {
    event_id: Uuid,
    offset: Offset,
    append_time: UnixMs,
    record: NewRecord,
}

impl Entry {
    pub(super) fn new(event_id: Uuid, offset: u64, append_time: UnixMs, record: NewRecord) -> Self {
        // No log counts beyond 63 bits.
        let offset = i64::try_from(offset).ok().and_then(Offset::new).unwrap_or_default();
        Self { event_id, offset, append_time, record }
    }

    pub(super) fn of_row(row: &EventRow, signing: &Signing) -> Self {
        Self::new(row.event_id, row.offset, row.received_at, row.to_record(signing))
    }

    fn fill(&self, batch: &mut Batch) {
        batch.clear(PartitionId(0));
        let headers = self.record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        batch.push(self.offset, self.append_time, self.record.key.as_deref(), &self.record.value, headers);
    }
}

/// A walk that remembers what one subject left.
pub(super) struct Rebuild {
    walk: Walk,
    state: State,
    /// The newest revision of every case so far.
    known: HashMap<FindingId, Finding>,
    batch: Batch,
}

impl Rebuild {
    /// Walks the history, the oldest first.
    pub(super) fn over(walk: Walk, history: &History, signing: &Signing) -> Self {
        let state = State::new(history);
        let mut rebuild = Self { walk, state, known: HashMap::new(), batch: Batch::default() };
        for row in &history.rows {
            if rebuild.step(&Entry::of_row(row, signing), |_| ()).is_err() {
                rebuild.state.unreadable += 1;
            }
        }
        rebuild
    }

    /// Walks one event more, and says what was made of it.
    pub(super) fn explain(&mut self, entry: &Entry) -> Result<Explained, ExplainError> {
        let state = self.state.clone();
        let explained = self.step(entry, |judged| Explained::new(judged, state));
        self.state.posted_before += 1;
        explained.map_err(|rejected| ExplainError::NotAnEvent {
            id: entry.event_id,
            reason: rejected.reason.as_str(),
            field: rejected.field,
        })
    }

    /// One record's walk; `say` sees what came of it.
    fn step<T>(&mut self, entry: &Entry, say: impl FnOnce(Judged<'_, '_>) -> T) -> Result<T, Rejected> {
        entry.fill(&mut self.batch);
        let Some(record) = self.batch.iter().next() else { unreachable!("one record was pushed") };
        let mut rulings = Vec::new();
        let way_out = self.walk.step_watched(&record, |assessed| rulings.extend(assessed.rulings));
        let alerted = match way_out {
            WayOut::Alerted(alerted) => alerted,
            WayOut::Rejected(rejected) => return Err(rejected),
            WayOut::Dropped(dropped) => {
                return Ok(say(Judged::Dropped { received_at: record.append_time, dropped: &dropped }));
            }
            WayOut::Forwarded(_) => unreachable!("the only partition is every record's home"),
            WayOut::Control(_) => unreachable!("an event is no tick"),
        };
        for finding in &alerted.found.findings {
            self.known.insert(finding.case.finding_id, finding.clone());
        }
        let touched = self.walk.detector().touched().filter_map(|case| {
            let finding = self.known.get(&case.finding_id)?;
            // The revision that was written last, with what the matches since have added.
            Some(Finding { case: case.clone(), ..finding.clone() })
        });
        let touched = touched.collect();
        let received_at = record.append_time;
        Ok(say(Judged::Alerted { received_at, alerted: &alerted, rulings: &rulings, touched }))
    }
}
