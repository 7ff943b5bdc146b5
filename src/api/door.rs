//! The door, `POST /v1/events` (EVENT): gateway dialect in, canonical signed records out, and an answer only when they
//! are durable.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body::{self, BodyError, NotRead, Room};
use super::credential::{Caller, Credentials};
use super::heartbeats::Heartbeats;
use super::problem::Problem;
use crate::clock::Clock;
use crate::explain::{Explainer, Past};
use crate::log::{LogError, NewRecord};
use crate::model::{Event, Leak};
use crate::pipeline::decode::lenient::{Admitted, Arrival, Credential, RefusalCode, admit};
use crate::pipeline::verify::{DOOR_KEY_ID, SIGNATURE_HEADER, sign_record};
use crate::spool::Intake;
use crate::telemetry::{ByCode, Metrics};

/// What the door needs.
pub(crate) struct Door {
    pub(crate) credentials: Credentials,
    /// Signs what the door writes.
    pub(crate) key: hmac::Key,
    pub(crate) intake: Intake,
    /// For the bodies that are under way.
    pub(crate) room: Room,
    pub(crate) heartbeats: Heartbeats,
    /// Answers `?explain=true`.
    pub(crate) explainer: Explainer,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

/// How long a caller is told to wait while the log is away.
const LOG_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What may stand behind the `?`.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// Only say what would become of the events.
    #[serde(default)]
    explain: bool,
}

/// The answer: what was taken is durable.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    accepted: usize,
    ids: Vec<Uuid>,
    /// JSON pointers of what any of the events did not say and the door filled in.
    pub(super) filled: Vec<&'static str>,
    /// JSON pointers of where a token stood: nothing of it was kept, and it must not be sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    masked: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    pub(super) refused: Vec<RefusedEvent>,
}

#[derive(Debug, Serialize)]
pub(super) struct RefusedEvent {
    /// Which event of the body, from 0.
    index: usize,
    field: String,
    code: RefusalCode,
    message: String,
}

/// An id that the door minted is another one at the next try.
const MINTED: &str = "an event without `id` got one here: sent again, it counts twice";

pub(super) async fn post_events(
    State(door): State<Arc<Door>>,
    asked: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Response {
    let response = match door.take(asked, request).await {
        Ok(response) => response,
        Err(problem) => {
            tracing::debug!(http.status = problem.status().as_u16(), "events were not taken");
            problem.into_response()
        }
    };
    let code = status_label(response.status());
    door.metrics.door_requests_answered.get_or_create(&ByCode { code }).inc();
    response
}

impl Door {
    async fn take(
        &self,
        asked: Result<Query<Asked>, QueryRejection>,
        request: Request,
    ) -> Result<Response, Problem> {
        let headers = &request.headers().clone();
        let caller = self
            .credentials
            .authenticate(headers)
            .map_err(|error| Problem::new(StatusCode::UNAUTHORIZED, error))?;
        // Only now is the body read: strangers take neither room nor time.
        let (sent, _room) = self.room.read(request).await.map_err(not_read)?;
        // Before anything is taken: whoever asks in other words for a dry run must not have it kept.
        let Query(asked) = asked.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "the query takes `explain=true` or `explain=false`")
        })?;
        let text = body::unpack(headers, &sent).map_err(|error| self.not_events(&error))?;
        let events = body::events(headers, &text).map_err(|error| self.not_events(&error))?;
        caller.take(events.len()).map_err(|wait| {
            Problem::later(
                StatusCode::TOO_MANY_REQUESTS,
                "more than 2,000 events a second with this key",
                wait,
            )
        })?;

        let credential = caller.credential();
        let (mut admitted, mut answer) = (Vec::with_capacity(events.len()), Answer::default());
        for (index, event) in events.iter().enumerate() {
            let arrival = Arrival {
                now: self.clock.now(),
                fresh_id: self.clock.new_id(),
                door_epoch: Some(self.heartbeats.epoch()),
            };
            match admit(event.as_bytes(), &credential, arrival) {
                Ok(one) => {
                    let (event, record) = answer.admit(one);
                    admitted.push((event, self.sign(record)));
                }
                Err(refused) => {
                    self.metrics
                        .door_events_refused
                        .get_or_create(&ByCode { code: refused.code.as_str() })
                        .inc();
                    let crate::pipeline::decode::lenient::Refused { field, code, message } = refused;
                    answer.refused.push(RefusedEvent { index, field, code, message });
                }
            }
        }
        if let Caller::Gateway(key) = &caller
            && !answer.refused.is_empty()
            && !asked.explain
        {
            self.heartbeats.refused(&key.gateway, answer.refused.len() as u64);
        }
        if admitted.is_empty() {
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(answer)).into_response());
        }
        if asked.explain {
            // A gateway writes what happens at it; where its tenants' subjects were before is not its to read.
            let past = if matches!(caller, Caller::Ingest) { Past::Known } else { Past::LeftOut };
            return self.explain(admitted, answer, past).await;
        }
        let (events, records): (Vec<_>, Vec<_>) = admitted.into_iter().unzip();
        let appended = self.intake.append(&events, records, self.clock.now()).await;
        appended.map_err(|error| self.log_failed(&error))?;
        self.heartbeats.accepted(events.iter());
        self.metrics.door_events_accepted.inc_by(answer.accepted as u64);
        Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
    }

    /// Signs a record, so that the walk can tell it from what anyone wrote.
    pub(super) fn sign(&self, mut record: NewRecord) -> NewRecord {
        let signature = sign_record(DOOR_KEY_ID, &self.key, &record.value);
        record.headers.push((SIGNATURE_HEADER.to_owned(), signature.into_bytes()));
        record
    }

    fn not_events(&self, error: &BodyError) -> Problem {
        let status = match error {
            BodyError::ContentType(_) | BodyError::ContentEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            BodyError::TooLarge | BodyError::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, error)
    }

    fn log_failed(&self, error: &LogError) -> Problem {
        self.metrics.log_calls_failed.get_or_create(&ByCode { code: error.code() }).inc();
        tracing::warn!(code = error.code(), %error, "events at the door could not be appended");
        let detail = "the log does not take events right now; none of these was kept for certain, send them again with their ids";
        Problem::later(StatusCode::SERVICE_UNAVAILABLE, detail, LOG_RETRY_AFTER)
    }
}

impl Answer {
    /// Notes what was filled in.
    fn admit(&mut self, admitted: Admitted) -> (Event<'static>, NewRecord) {
        let Admitted { event, record, filled, leaks } = admitted;
        for Leak { field, .. } in leaks {
            if !self.masked.contains(&field) {
                self.masked.push(field);
            }
        }
        self.accepted += 1;
        self.ids.push(event.id);
        for field in filled {
            if field == "/id" {
                self.note = Some(MINTED);
            }
            if !self.filled.contains(&field) {
                self.filled.push(field);
            }
        }
        (event, record)
    }
}

impl Caller {
    fn credential(&self) -> Credential {
        match self {
            Self::Ingest => Credential::Ingest,
            Self::Gateway(key) => Credential::Gateway {
                gateway: key.gateway.name.clone(),
                zone: key.gateway.zone,
                tenants: key.gateway.tenants.clone(),
            },
        }
    }
}

fn not_read(error: NotRead) -> Problem {
    match error {
        NotRead::Full => Problem::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "more is being sent right now than there is room for; send it again",
            LOG_RETRY_AFTER,
        ),
        NotRead::Slow => Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took more than 30 seconds"),
        NotRead::Broken(error) => match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body has more than 1 MiB; send fewer events at once, or gzip or zstd",
            ),
            status => Problem::new(status, "the body could not be read to its end"),
        },
    }
}

/// The label of a status: a closed set.
const fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        202 => "202",
        400 => "400",
        401 => "401",
        408 => "408",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        503 => "503",
        _ => "other",
    }
}
