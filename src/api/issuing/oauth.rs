//! OAuth's error answers (RFC 6749, section 5.2).

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::issuer::GrantError;
use crate::model::TenantId;

/// When to come back where something of ours does not answer.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A refusal, as the client may hear it.
pub(super) struct Refused {
    status: StatusCode,
    error: &'static str,
    description: String,
}

impl Refused {
    /// What is ours to mend is logged, and told without its cause.
    pub(super) fn new(tenant: &TenantId, error: &GrantError) -> Self {
        let (status, description) = match error {
            GrantError::InvalidClient => (StatusCode::UNAUTHORIZED, error.to_string()),
            GrantError::Keys(_) | GrantError::Ledger(_) => {
                tracing::error!(%tenant, code = error.code(), %error, "no token can be issued");
                (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment".to_owned())
            }
            GrantError::Issue(_) | GrantError::Sign(_) => {
                tracing::error!(%tenant, code = error.code(), %error, "a token could not be made");
                (StatusCode::INTERNAL_SERVER_ERROR, "the token could not be made".to_owned())
            }
            _ => (StatusCode::BAD_REQUEST, error.to_string()),
        };
        Self { status, error: error.code(), description }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\""));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
        }
        response
    }
}
