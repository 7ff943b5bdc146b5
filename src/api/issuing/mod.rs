//! Every tenant's own issuer, below `/t/{tenant}`: metadata, keys, tokens, and what a token is worth.
//!
//! OAuth's errors where its RFCs define them ([`oauth`]), RFC 9457 problems elsewhere. Nothing is taken from a request's
//! `Host`: where the issuer is, the configuration says.

mod form;
mod oauth;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::problem::Problem;
use crate::issuer::{Caller, GrantError, Grants, JWKS_MAX_AGE_S, Request, Tenant};
use crate::model::TenantId;
use crate::token::sha256_base64url;
use form::Form;
use oauth::Refused;

/// No request of ours needs more: a token has 8 KiB at most.
const MAX_BODY_BYTES: usize = 64 << 10;

/// The routes of all tenants.
pub(crate) fn routes(grants: Arc<Grants>) -> Router {
    Router::new()
        .route("/.well-known/oauth-authorization-server/t/{tenant}", get(metadata))
        .route("/t/{tenant}/.well-known/oauth-authorization-server", get(metadata))
        .route("/t/{tenant}/.well-known/openid-configuration", get(metadata))
        .route("/t/{tenant}/jwks.json", get(jwks))
        .route("/t/{tenant}/token", post(token))
        .route("/t/{tenant}/introspect", post(introspect))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(grants)
}

/// Authorization server metadata (RFC 8414): what is served, and nothing else.
async fn metadata(
    State(grants): State<Arc<Grants>>,
    Path(tenant): Path<String>,
) -> Result<Response, Problem> {
    let (tenant, _) = known(&grants, &tenant)?;
    let issuer = grants.issuer(&tenant);
    let methods = ["client_secret_basic", "client_secret_post"];
    Ok(Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks.json"),
        "token_endpoint": format!("{issuer}/token"),
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint": format!("{issuer}/introspect"),
        "introspection_endpoint_auth_methods_supported": methods,
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
    }))
    .into_response())
}

/// The tenant's public keys (RFC 7517). They stay while the tenant is suspended: what was signed stays provable.
async fn jwks(
    State(grants): State<Arc<Grants>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (tenant, entry) = known(&grants, &tenant)?;
    let keys = grants.jwks(&tenant, &entry.policy).await.map_err(|error| {
        tracing::error!(%tenant, code = error.code(), %error, "a tenant's keys cannot be had");
        Problem::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "the keys cannot be had right now",
            oauth::RETRY_AFTER,
        )
    })?;
    let body = keys.to_string();
    let etag = format!("\"{}\"", sha256_base64url(body.as_bytes()));
    let is_known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let headers = [
        (header::CACHE_CONTROL, format!("public, max-age={JWKS_MAX_AGE_S}, stale-if-error=3600")),
        (header::ETAG, etag),
        (header::CONTENT_TYPE, "application/jwk-set+json".to_owned()),
    ];
    Ok(if is_known {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, body).into_response()
    })
}

/// The token endpoint (RFC 6749, section 3.2).
async fn token(
    State(grants): State<Arc<Grants>>,
    Path(tenant): Path<String>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let (tenant, _) = known(&grants, &tenant).map_err(IntoResponse::into_response)?;
    let issued = async {
        let form = Form::read(&headers, &body)?;
        let presented = form.client(&headers)?;
        let request = Request {
            grant_type: form.needed("grant_type", "`grant_type` is missing")?,
            resource: form.maybe("resource")?,
            scope: form.maybe("scope")?,
        };
        let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let caller = Caller { ip: peer.ip(), peer_ip: None, user_agent, request_id: None };
        grants.token(&tenant, &presented.as_presented(), request, caller).await
    };
    let issued = issued.await.map_err(|error| Refused::new(&tenant, &error).into_response())?;
    Ok(unstored(json!({
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in_s,
        "scope": issued.scope,
    })))
}

/// Token introspection (RFC 7662): for clients that own an audience of the token; to all others no token is active.
async fn introspect(
    State(grants): State<Arc<Grants>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let (tenant, _) = known(&grants, &tenant).map_err(IntoResponse::into_response)?;
    let judged = async {
        let form = Form::read(&headers, &body)?;
        let presented = form.client(&headers)?;
        let token = form.needed("token", "`token` is missing")?;
        grants.introspect(&tenant, &presented.as_presented(), token).await
    };
    let judged = judged.await.map_err(|error: GrantError| Refused::new(&tenant, &error).into_response())?;
    Ok(unstored(match judged {
        None => json!({ "active": false }),
        Some(token) => {
            let claims = token.claims();
            json!({
                "active": true, "token_type": "Bearer", "iss": claims.iss, "sub": claims.sub, "aud": claims.aud,
                "client_id": claims.client_id, "scope": claims.scope, "iat": claims.iat, "exp": claims.exp,
                "jti": claims.jti, "tenant_id": claims.tenant_id,
            })
        }
    }))
}

/// The tenant of the path.
fn known(grants: &Grants, tenant: &str) -> Result<(TenantId, Arc<Tenant>), Problem> {
    let nobody = || Problem::new(StatusCode::NOT_FOUND, "there is no such tenant here");
    let tenant: TenantId = tenant.parse().map_err(|_| nobody())?;
    let entry = grants.tenant(&tenant).ok_or_else(nobody)?;
    Ok((tenant, entry))
}

/// An answer that no cache may keep (RFC 6749, section 5.1).
fn unstored(body: serde_json::Value) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response()
}
