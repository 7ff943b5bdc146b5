//! The admin API: tenants, their clients and their users, as JSON under `/admin/v1`.
//!
//! An entry's `ETag` is its version, and a change names the version that it changes: `If-None-Match: *` makes one,
//! `If-Match: "N"` changes or deletes. Every change is an event, durable before the answer. Secrets are drawn here and
//! shown once.

mod actor;
mod members;
mod versions;

mod clients;
mod tenants;
mod users;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::Region;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::Problem;
use crate::clock::{Clock, Random};
use crate::config::Secret;
use crate::issuer::{
    Control, ControlError, Entry, EntryKey, Expected, Happened, Ledger, Passwords, SecretHash,
};
use crate::model::TenantId;
use actor::Actor;

/// No entry needs more.
const MAX_BODY_BYTES: usize = 64 << 10;

/// When to come back where log or store do not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the admin API works with.
pub(crate) struct Admin {
    control: Arc<Control>,
    ledger: Arc<Ledger>,
    /// Of the installation's own key, which opens everything.
    admin_key: Option<SecretHash>,
    passwords: Passwords,
    clock: Clock,
}

impl Admin {
    pub(crate) fn new(
        control: Arc<Control>,
        ledger: Arc<Ledger>,
        admin_key: Option<&Secret>,
        clock: Clock,
    ) -> Arc<Self> {
        let admin_key = admin_key.map(|key| SecretHash::of(key.expose()));
        Arc::new(Self { control, ledger, admin_key, passwords: Passwords::default(), clock })
    }

    /// Writes an entry, and that it was written.
    async fn put<E: Entry>(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        key: &EntryKey,
        expected: Expected,
        entry: E,
    ) -> Result<u64, Problem> {
        let version = self.control.put(key, expected, entry).await.map_err(refused)?;
        self.tell(actor, tenant, key, version).await?;
        Ok(version)
    }

    /// Deletes an entry, and writes that it was deleted.
    async fn delete(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        key: &EntryKey,
        expected: Expected,
    ) -> Result<(), Problem> {
        let version = self.control.delete(key, expected).await.map_err(refused)?;
        self.tell(actor, tenant, key, version).await
    }

    async fn tell(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        key: &EntryKey,
        version: u64,
    ) -> Result<(), Problem> {
        let changed =
            Happened::AdminChanged { kind: key.kind(), name: key.name(), version, by: actor.name() };
        match self.ledger.write(tenant, &[changed]).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(code = error.code(), %error, %key, version, "a change stands whose event was not written");
                Err(Problem::later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the change stands, but its event could not be written: read the entry, then change it again",
                    RETRY_AFTER,
                ))
            }
        }
    }
}

/// Its routes.
pub(crate) fn routes(admin: Arc<Admin>) -> Router {
    let tenant = get(tenants::show).put(tenants::put).delete(tenants::delete);
    let client = get(clients::show).put(clients::put).delete(clients::delete);
    let user = get(users::show).put(users::put).delete(users::delete);
    Router::new()
        .route("/admin/v1/tenants", get(tenants::list))
        .route("/admin/v1/tenants/{tenant}", tenant)
        .route("/admin/v1/tenants/{tenant}/suspend", post(tenants::suspend))
        .route("/admin/v1/tenants/{tenant}/resume", post(tenants::resume))
        .route("/admin/v1/tenants/{tenant}/clients", get(clients::list))
        .route("/admin/v1/tenants/{tenant}/clients/{client}", client)
        .route("/admin/v1/tenants/{tenant}/clients/{client}/rotate", post(clients::rotate))
        .route("/admin/v1/tenants/{tenant}/clients/{client}/retire", post(clients::retire))
        .route("/admin/v1/tenants/{tenant}/users", get(users::list))
        .route("/admin/v1/tenants/{tenant}/users/{user}", user)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(admin)
}

/// A new secret: 256 bits, with a prefix by which scanners and people tell what they found.
fn draw_secret() -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(format!("jwtrail_client_{}", URL_SAFE_NO_PAD.encode(Random::bytes::<32>())))
}

fn refused(error: ControlError) -> Problem {
    let status = match &error {
        ControlError::Conflict { .. } => StatusCode::PRECONDITION_FAILED,
        ControlError::NoTenant(_) => return actor::not_found(),
        ControlError::TenantDeleted(_) => StatusCode::CONFLICT,
        ControlError::Invalid(_) => StatusCode::BAD_REQUEST,
        ControlError::WrongMasterKey { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        ControlError::Arbiter(_) | ControlError::Log(_) => {
            return Problem::later(StatusCode::SERVICE_UNAVAILABLE, error, RETRY_AFTER);
        }
    };
    Problem::new(status, error)
}
