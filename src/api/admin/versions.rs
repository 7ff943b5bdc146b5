//! Versions and pages: which version a change is of, and how entries are answered.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::refused;
use crate::api::problem::Problem;
use crate::issuer::{ControlError, EntryKey, Expected, Found};

/// Entries a page.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 200;

/// What a change says to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// `If-None-Match: *`: nothing.
    Absent,
    /// `If-Match: "N"`.
    Version(u64),
}

impl Precondition {
    /// # Errors
    /// 428 if there is none (RFC 6585), 400 if there are two or another one.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
            (None, None) => Err(Problem::new(
                StatusCode::PRECONDITION_REQUIRED,
                "say what is there: `If-None-Match: *` to make it, `If-Match` with its ETag to change or delete it",
            )),
            (None, Some("*")) => Ok(Self::Absent),
            (Some(tag), None) => version(tag).map(Self::Version).ok_or_else(malformed),
            _ => Err(malformed()),
        }
    }

    /// What is changed, or `None` where something is made.
    ///
    /// # Errors
    /// 412 if something else is there.
    pub(super) fn check<E>(
        self,
        key: &EntryKey,
        there: Option<Found<E>>,
    ) -> Result<(Expected, Option<Found<E>>), Problem> {
        match (self, there) {
            (Self::Absent, None) => Ok((Expected::Absent, None)),
            (Self::Version(version), Some(found)) if found.version == version => {
                Ok((Expected::Version(version), Some(found)))
            }
            (_, there) => {
                let version = there.map_or(0, |found| found.version);
                Err(refused(ControlError::Conflict { key: key.clone(), version }))
            }
        }
    }
}

fn version(tag: &str) -> Option<u64> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

fn malformed() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "send either `If-None-Match: *` or one ETag such as `If-Match: \"7\"`",
    )
}

/// An entry as an answer.
pub(super) fn answer(status: StatusCode, version: u64, entry: Value) -> Response {
    let mut response = (status, Json(entry)).into_response();
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        headers.insert(header::ETAG, tag);
    }
    // It may show a secret, once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `?limit=…&after=…`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    after: Option<String>,
}

impl Page {
    pub(super) fn of(query: Result<Query<Self>, QueryRejection>) -> Result<Self, Problem> {
        let wrong = || {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "a page is asked for with `limit` (1 to 200) and `after` (a name)",
            )
        };
        let Query(page) = query.map_err(|_| wrong())?;
        if page.limit.is_some_and(|limit| !(1..=LIMIT_MAX).contains(&limit)) {
            Err(wrong())
        } else {
            Ok(page)
        }
    }

    /// The entries that `list` gives by name, after a name and as many as it is told; `next` is where to go on.
    pub(super) fn answer<E>(
        &self,
        list: impl FnOnce(Option<&str>, usize) -> Vec<(String, Found<E>)>,
        show: impl Fn(&str, &Found<E>) -> Value,
    ) -> Response {
        let limit = self.limit.unwrap_or(LIMIT);
        let mut found = list(self.after.as_deref(), limit + 1);
        let goes_on = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| goes_on).map(|(name, _)| name.clone());
        let items: Vec<Value> = found.iter().map(|(name, found)| show(name, found)).collect();
        Json(json!({"items": items, "next": next})).into_response()
    }
}
