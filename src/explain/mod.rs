//! Why an event or a case did or did not fire, rule by rule: a dry run of the walk over what ClickHouse remembers.
//!
//! The subject's state is rebuilt from its rows of the last [`STATE_HOURS`]: each is made a record again and walked
//! through the same rooms, one after the other, then the event in question. Nothing is appended, stored or told.

mod row;
mod trail;

mod rebuild;

mod said;
mod story;
mod text;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::clickhouse::{ClickHouseError, Client};
use crate::config::{Secret, Suppression};
use crate::keys;
use crate::log::NewRecord;
use crate::model::{PartitionId, UnixMs};
use crate::pipeline::decode::Bounds;
use crate::pipeline::{SnapshotSource, Walk};
use rebuild::{Entry, Rebuild};
use row::Signing;
use trail::{History, Moment};

pub(crate) use said::Explained;
pub(crate) use story::Story;

/// How far back state reaches: no rule remembers for longer (PROMISE 3).
const STATE_HOURS: u64 = 50;

/// Rows that a rebuild walks at most, the newest: some ten megabytes, and well under a second of walking.
const MAX_ROWS: usize = 10_000;

/// Why nothing can be explained. None of it is the event's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    /// Another version wrote the tables.
    #[error("ClickHouse answers what this version does not write: {0}; run `jwtrail migrate`")]
    Unreadable(#[from] serde_json::Error),
    /// The event's row is not an event any more: the bounds of decode have changed since.
    #[error("the row of event {id} cannot be walked again: {reason} at `{field}`")]
    NotAnEvent { id: Uuid, reason: &'static str, field: String },
    #[error("the walk was ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl ExplainError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::ClickHouse(error) => error.code(),
            Self::Unreadable(_) => "clickhouse_unreadable",
            Self::NotAnEvent { .. } => "not_an_event",
            Self::Ended(_) => "walk_ended",
        }
    }
}

/// Explains events and cases with the configuration of now.
pub(crate) struct Explainer {
    client: Client,
    bounds: Bounds,
    snapshots: SnapshotSource,
    suppressions: Vec<Suppression>,
    /// Signs again what was well signed.
    signing: Signing,
    /// One explanation at a time: whoever asks for many must take neither memory nor more than a core from the walk.
    turns: Semaphore,
}

/// An event that was posted to be explained.
pub(crate) struct Posted {
    pub(crate) id: Uuid,
    pub(crate) tenant: String,
    /// Empty if it names no subject.
    pub(crate) sub: String,
    /// As the door would append it.
    pub(crate) record: NewRecord,
}

/// Whether posted events are judged on top of what their subjects left, whose places and devices the answer then names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    Known,
    LeftOut,
}

/// What an id names.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Found {
    Event(Box<Explained>),
    Case(Box<Story>),
}

/// A posted event by its place in the body.
type Placed = (usize, Uuid, NewRecord);

impl Explainer {
    /// `bounds` of a log of one partition: every record is at home there.
    pub(crate) fn new(
        client: Client,
        bounds: Bounds,
        snapshots: SnapshotSource,
        suppressions: Vec<Suppression>,
        ingest_key: &Secret,
    ) -> Self {
        let signing = Signing { door: keys::door(ingest_key), ledger: bounds.ledger_key.clone() };
        Self { client, bounds, snapshots, suppressions, signing, turns: Semaphore::new(1) }
    }

    /// The event of that id, or else the case; `None` if ClickHouse knows neither.
    pub(crate) async fn find(&self, id: Uuid) -> Result<Option<Found>, ExplainError> {
        let _turn = self.turns.acquire().await;
        if let Some(row) = trail::event(&self.client, id).await? {
            let before = Moment { received_at: row.received_at, offset: row.offset };
            let history = self.history(&row.tenant, &row.sub, before).await?;
            let entry = Entry::of_row(&row, &self.signing);
            let mut explained = self.walk(history, vec![entry]).await?.remove(0);
            explained.compare(&row);
            explained.stored_cases(&trail::findings_of(&self.client, &row).await?);
            return Ok(Some(Found::Event(Box::new(explained))));
        }
        let Some(finding) = trail::finding(&self.client, id).await? else { return Ok(None) };
        let ends = trail::ends(&self.client, &finding).await?;
        Ok(Some(Found::Case(Box::new(Story::new(finding, ends, &self.suppressions)))))
    }

    /// What would become of events that arrived `now`, in their order: each is judged after those before it of the
    /// same subject, on top of what the subject left in ClickHouse, if that is to be known.
    pub(crate) async fn posted(
        &self,
        events: Vec<Posted>,
        past: Past,
        now: UnixMs,
    ) -> Result<Vec<Explained>, ExplainError> {
        let _turn = self.turns.acquire().await;
        // By tenant and subject: each with its place in the body.
        let mut subjects: HashMap<(String, String), Vec<Placed>> = HashMap::new();
        for (index, Posted { id, tenant, sub, record }) in events.into_iter().enumerate() {
            subjects.entry((tenant, sub)).or_default().push((index, id, record));
        }
        let mut explained = Vec::new();
        for ((tenant, sub), events) in subjects {
            let history = match past {
                Past::Known => {
                    self.history(&tenant, &sub, Moment { received_at: now, offset: u64::MAX }).await?
                }
                Past::LeftOut => History::default(),
            };
            let next = history.rows.iter().map(|row| row.offset + 1).max().unwrap_or(0);
            let (indices, entries): (Vec<_>, Vec<_>) = (next..)
                .zip(events)
                .map(|(offset, (index, id, record))| (index, Entry::new(id, offset, now, record)))
                .unzip();
            explained.extend(indices.into_iter().zip(self.walk(history, entries).await?));
        }
        explained.sort_by_key(|(index, _)| *index);
        Ok(explained.into_iter().map(|(_, explained)| explained).collect())
    }

    /// Without a subject there is nothing to rebuild.
    async fn history(&self, tenant: &str, sub: &str, before: Moment) -> Result<History, ExplainError> {
        if sub.is_empty() {
            return Ok(History::default());
        }
        trail::history(&self.client, tenant, sub, before, MAX_ROWS).await
    }

    /// Walks on a thread of its own: ten thousand rows are too long for one that carries I/O.
    async fn walk(&self, history: History, entries: Vec<Entry>) -> Result<Vec<Explained>, ExplainError> {
        let walk = Walk::new(self.bounds.clone(), (self.snapshots)(), PartitionId(0));
        let signing = self.signing.clone();
        tokio::task::spawn_blocking(move || {
            let mut rebuild = Rebuild::over(walk, &history, &signing);
            entries.iter().map(|entry| rebuild.explain(entry)).collect()
        })
        .await?
    }
}
