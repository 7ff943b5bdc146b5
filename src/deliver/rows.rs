//! The rows of findings that are being told. An alert carries its whole case row; `deliver` stores it itself, because
//! the block that would store it may find other cases when it is walked again (PROMISE 5).

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{Alert, FindingId, Offset};
use crate::telemetry::{ByCode, Metrics};

/// Where rows of findings go.
#[async_trait]
pub(crate) trait FindingRows: Send + Sync {
    /// Stores the alerts' case rows, together. Repeating it changes nothing.
    async fn put(&self, alerts: &[Alert]) -> Result<(), RowTrouble>;
}

/// Why a row is not stored yet.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct RowTrouble {
    /// The closed word for metrics.
    pub(crate) code: &'static str,
    pub(crate) text: String,
}

#[async_trait]
impl FindingRows for crate::clickhouse::Client {
    async fn put(&self, alerts: &[Alert]) -> Result<(), RowTrouble> {
        let put = crate::pipeline::store::put_findings(self, alerts).await;
        put.map_err(|error| RowTrouble { code: error.code(), text: error.to_string() })
    }
}

/// How long telling waits for a row.
const WAIT: Duration = Duration::from_secs(5);
/// How long a store that did not answer is left alone, so that no alert waits for it in vain.
const LEFT_ALONE: Duration = Duration::from_secs(5);
/// Rows remembered as stored: several destinations are told the same alert at about the same time.
const REMEMBERED: usize = 4_096;

/// The rows' store, shared by all destinations.
pub(super) struct Rows {
    store: std::sync::Arc<dyn FindingRows>,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stored: HashSet<(FindingId, Offset)>,
    away_until: Option<Instant>,
}

impl Rows {
    pub(super) fn new(store: std::sync::Arc<dyn FindingRows>, metrics: Metrics) -> Self {
        Self { store, metrics, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the rows of alerts, in five seconds or not at all. False: try again later.
    pub(super) async fn put(&self, bodies: &[Bytes]) -> bool {
        // What is no alert has no row; none of these was read as such.
        let alerts = bodies.iter().filter_map(|body| serde_json::from_slice::<Alert>(body).ok());
        let alerts: Vec<Alert> = {
            let state = self.state();
            let away = state.away_until.is_some_and(|until| Instant::now() < until);
            let wanted = alerts.filter(|alert| !state.stored.contains(&row_of(alert))).collect::<Vec<_>>();
            if away && !wanted.is_empty() {
                return false;
            }
            wanted
        };
        if alerts.is_empty() {
            return true;
        }
        let put = tokio::time::timeout(WAIT, self.store.put(&alerts)).await;
        let trouble = match put {
            Ok(Ok(())) => None,
            Ok(Err(trouble)) => Some(trouble),
            Err(_) => Some(RowTrouble { code: "no_answer", text: "no answer in 5 s".to_owned() }),
        };
        let mut state = self.state();
        if let Some(trouble) = trouble {
            state.away_until = Some(Instant::now() + LEFT_ALONE);
            drop(state);
            self.metrics.clickhouse_calls_failed.get_or_create(&ByCode { code: trouble.code }).inc();
            tracing::warn!(rows = alerts.len(), error = %trouble, "rows of findings wait for ClickHouse");
            return false;
        }
        if state.stored.len() >= REMEMBERED {
            state.stored.clear();
        }
        state.stored.extend(alerts.iter().map(row_of));
        true
    }
}

/// What tells a row from others, and from its other revisions.
fn row_of(alert: &Alert) -> (FindingId, Offset) {
    let case = &alert.data.finding.case;
    (case.finding_id, case.revision)
}
