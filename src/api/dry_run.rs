//! `POST /v1/events?explain=true`: what would become of the events, rule by rule. Nothing is appended.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::door::{Answer, Door, RefusedEvent};
use super::problem::Problem;
use crate::explain::{ExplainError, Explained, Past, Posted};
use crate::log::NewRecord;
use crate::model::Event;

/// Each subject costs a question to ClickHouse and a walk over what it left.
const MAX_EXPLAINED: usize = 100;

/// How long a caller is told to wait while ClickHouse is away.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct DryRun {
    note: &'static str,
    /// In the order of the body, without those that were refused.
    explained: Vec<Explained>,
    /// JSON pointers of what any of the events did not say and the door filled in.
    filled: Vec<&'static str>,
    refused: Vec<RefusedEvent>,
}

impl Door {
    /// Explains what was admitted.
    pub(super) async fn explain(
        &self,
        admitted: Vec<(Event<'static>, NewRecord)>,
        answer: Answer,
        past: Past,
    ) -> Result<Response, Problem> {
        if admitted.len() > MAX_EXPLAINED {
            let detail = format!("more than {MAX_EXPLAINED} events to explain; send fewer at once");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        let posted = admitted.into_iter().map(|(event, record)| Posted {
            id: event.id,
            tenant: event.tenant.into_owned(),
            sub: event.token.and_then(|token| token.sub).unwrap_or_default().into_owned(),
            record,
        });
        let explained = self.explainer.posted(posted.collect(), past, self.clock.now()).await;
        let explained = explained.map_err(|error| self.not_explained(&error))?;
        let Answer { filled, refused, .. } = answer;
        let note = match past {
            Past::Known => "a dry run: nothing was kept, nobody was told",
            Past::LeftOut => {
                "a dry run: nothing was kept, nobody was told; the events are judged by each other alone, because what \
                 the subject did before is shown to the ingest key only"
            }
        };
        Ok((StatusCode::OK, Json(DryRun { note, explained, filled, refused })).into_response())
    }

    fn not_explained(&self, error: &ExplainError) -> Problem {
        tracing::warn!(code = error.code(), %error, "events at the door could not be explained");
        let detail =
            "the subject's state cannot be rebuilt right now: ClickHouse does not answer as it should";
        Problem::later(StatusCode::SERVICE_UNAVAILABLE, detail, RETRY_AFTER)
    }
}
