//! Tenants: made, suspended, resumed and deleted by the platform; their policy is also their own.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::actor::{Actor, not_found};
use super::members::Members;
use super::versions::{Page, Precondition, answer};
use super::{Admin, refused};
use crate::api::problem::Problem;
use crate::issuer::{ControlError, EntryKey, Expected, Found, Policy, Tenant, TenantStatus};

/// So often a suspension is tried again whose tenant others change meanwhile.
const TRIES: usize = 8;

impl Admin {
    /// The tenant of a path, if the actor may see it and it is there.
    pub(super) fn tenant_for(
        &self,
        actor: &Actor,
        tenant: &str,
    ) -> Result<(crate::model::TenantId, Found<Tenant>), Problem> {
        let tenant = actor.reach(tenant)?;
        let found = self.control.tenant(tenant.as_str()).ok_or_else(not_found)?;
        Ok((tenant, found))
    }
}

fn show_one(name: &str, found: &Found<Tenant>) -> Value {
    let Tenant { status, policy, created_at } = &*found.entry;
    json!({
        "name": name, "status": status, "policy": policy, "created_at": created_at,
        "changed_at": found.written_at, "version": found.version,
    })
}

pub(super) async fn list(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let page = Page::of(query)?;
    Ok(match actor.only() {
        None => page.answer(|after, limit| admin.control.tenants(after, limit), show_one),
        Some(own) => {
            let found = admin.control.tenant(own.as_str());
            let items: Vec<Value> = found.iter().map(|found| show_one(own.as_str(), found)).collect();
            Json(json!({"items": items, "next": null})).into_response()
        }
    })
}

pub(super) async fn show(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path(tenant): Path<String>,
) -> Result<Response, Problem> {
    let (tenant, found) = admin.tenant_for(&actor, &tenant)?;
    Ok(answer(StatusCode::OK, found.version, show_one(tenant.as_str(), &found)))
}

/// Makes a tenant, or sets its policy: what the body does not say has its default.
pub(super) async fn put(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let tenant = actor.reach(&tenant)?;
    let precondition = Precondition::of(&headers)?;
    let mut members = Members::of(&body)?;
    let policy = match members.object("policy")? {
        Some(policy) => read_policy(policy)?,
        None => Policy::default(),
    };
    members.finish()?;
    let key = EntryKey::of_tenant(&tenant);
    let (expected, there) = precondition.check(&key, admin.control.tenant(tenant.as_str()))?;
    let (status, entry) = match there {
        None => {
            actor.must_be_platform()?;
            (StatusCode::CREATED, Tenant { policy, ..Tenant::new(admin.clock.now()) })
        }
        Some(found) if found.entry.status == TenantStatus::Deleted => {
            return Err(refused(ControlError::TenantDeleted(tenant)));
        }
        Some(found) => (StatusCode::OK, Tenant { policy, ..Tenant::clone(&found.entry) }),
    };
    let version = admin.put(&actor, &tenant, &key, expected, entry).await?;
    let found = admin.control.tenant(tenant.as_str()).ok_or_else(not_found)?;
    Ok(answer(status, version, show_one(tenant.as_str(), &found)))
}

fn read_policy(mut members: Members) -> Result<Policy, Problem> {
    const SECONDS: &str = "is a whole number of seconds";
    let default = Policy::default();
    let policy = Policy {
        access_token_s: members.take("access_token_s", SECONDS)?.unwrap_or(default.access_token_s),
        algs: members.take("algs", "is a list of ES256, RS256, PS256, EdDSA")?.unwrap_or(default.algs),
        refresh_leeway_s: members.take("refresh_leeway_s", SECONDS)?.unwrap_or(default.refresh_leeway_s),
        refresh_idle_s: members.take("refresh_idle_s", SECONDS)?.unwrap_or(default.refresh_idle_s),
        refresh_absolute_s: members
            .take("refresh_absolute_s", SECONDS)?
            .unwrap_or(default.refresh_absolute_s),
    };
    members.finish()?;
    Ok(policy)
}

pub(super) async fn delete(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (tenant, found) = admin.tenant_for(&actor, &tenant)?;
    actor.must_be_platform()?;
    let key = EntryKey::of_tenant(&tenant);
    let (expected, _) = Precondition::of(&headers)?.check(&key, Some(found))?;
    admin.delete(&actor, &tenant, &key, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn suspend(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path(tenant): Path<String>,
) -> Result<Response, Problem> {
    set_status(&actor, &admin, &tenant, TenantStatus::Suspended).await
}

pub(super) async fn resume(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path(tenant): Path<String>,
) -> Result<Response, Problem> {
    set_status(&actor, &admin, &tenant, TenantStatus::Active).await
}

/// Without a precondition: whoever has to stop a tenant shall not lose against who changes its policy.
async fn set_status(
    actor: &Actor,
    admin: &Admin,
    tenant: &str,
    status: TenantStatus,
) -> Result<Response, Problem> {
    let mut tries = 0;
    loop {
        let (tenant, found) = admin.tenant_for(actor, tenant)?;
        actor.must_be_platform()?;
        if found.entry.status == TenantStatus::Deleted {
            return Err(refused(ControlError::TenantDeleted(tenant)));
        }
        let key = EntryKey::of_tenant(&tenant);
        let entry = Tenant { status, ..Tenant::clone(&found.entry) };
        match admin.put(actor, &tenant, &key, Expected::Version(found.version), entry).await {
            Err(problem) if problem.status() == StatusCode::PRECONDITION_FAILED && tries < TRIES => {
                tries += 1
            }
            Err(problem) => return Err(problem),
            Ok(version) => {
                let found = admin.control.tenant(tenant.as_str()).ok_or_else(not_found)?;
                return Ok(answer(StatusCode::OK, version, show_one(tenant.as_str(), &found)));
            }
        }
    }
}
