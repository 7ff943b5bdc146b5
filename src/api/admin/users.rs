//! A tenant's users. A password comes in, and only its hash is kept.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::actor::{Actor, not_found};
use super::members::Members;
use super::versions::{Page, Precondition, answer};
use super::{Admin, RETRY_AFTER};
use crate::api::problem::Problem;
use crate::issuer::{EntryKey, Found, PasswordError, Subject, User, Username};

fn show_one(name: &str, found: &Found<User>) -> Value {
    let User { password: _, subject, disabled, created_at } = &*found.entry;
    json!({
        "username": name, "subject": subject, "disabled": disabled, "created_at": created_at,
        "changed_at": found.written_at, "version": found.version,
    })
}

pub(super) async fn list(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path(tenant): Path<String>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let (tenant, _) = admin.tenant_for(&actor, &tenant)?;
    let page = Page::of(query)?;
    Ok(page.answer(|after, limit| admin.control.list(tenant.as_str(), after, limit), show_one))
}

pub(super) async fn show(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path((tenant, user)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (tenant, _) = admin.tenant_for(&actor, &tenant)?;
    let found = admin.control.get::<User>(tenant.as_str(), &user).ok_or_else(not_found)?;
    Ok(answer(StatusCode::OK, found.version, show_one(&user, &found)))
}

/// Makes a user, or sets what the body says of it: its password, and whether it is disabled. A subject stays.
pub(super) async fn put(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path((tenant, user)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let (tenant, _) = admin.tenant_for(&actor, &tenant)?;
    let precondition = Precondition::of(&headers)?;
    let name = Username::parse(&user).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
    let key = EntryKey::of::<User>(&tenant, name.as_str());
    let (expected, there) = precondition.check(&key, admin.control.get::<User>(tenant.as_str(), &user))?;

    let mut members = Members::of(&body)?;
    let password = members.take::<String>("password", "is a text")?.map(zeroize::Zeroizing::new);
    let disabled = members.take("disabled", "is true or false")?;
    let subject: Option<Subject> = members.take("subject", "is 1 to 255 bytes without control characters")?;
    if there.is_none() && password.is_none() {
        return Err(members.wrong("password", "is missing"));
    }
    if let (Some(found), Some(subject)) = (&there, &subject)
        && found.entry.subject != *subject
    {
        return Err(members.wrong("subject", "stays as it was made: tokens and the trail name it"));
    }
    members.finish()?;

    let hash = match password {
        Some(password) => {
            let hashed = admin.passwords.hash(password).await;
            Some(hashed.map_err(not_hashed)?)
        }
        None => None,
    };
    let (status, entry) = match (there, hash) {
        (Some(found), hash) => {
            let mut entry = User::clone(&found.entry);
            entry.disabled = disabled.unwrap_or(entry.disabled);
            entry.password = hash.unwrap_or(entry.password);
            (StatusCode::OK, entry)
        }
        (None, Some(password)) => {
            let subject = match subject {
                Some(subject) => subject,
                None => Subject::parse(&format!("user-{}", admin.clock.new_id()))
                    .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?,
            };
            let disabled = disabled.unwrap_or_default();
            (StatusCode::CREATED, User { password, subject, disabled, created_at: admin.clock.now() })
        }
        (None, None) => return Err(Problem::new(StatusCode::BAD_REQUEST, "`/password` is missing")),
    };
    let version = admin.put(&actor, &tenant, &key, expected, entry).await?;
    let found = admin.control.get::<User>(tenant.as_str(), &user).ok_or_else(not_found)?;
    Ok(answer(status, version, show_one(&user, &found)))
}

pub(super) async fn delete(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path((tenant, user)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (tenant, _) = admin.tenant_for(&actor, &tenant)?;
    let key = EntryKey::of::<User>(&tenant, &user);
    let found = admin.control.get::<User>(tenant.as_str(), &user).ok_or_else(not_found)?;
    let (expected, _) = Precondition::of(&headers)?.check(&key, Some(found))?;
    admin.delete(&actor, &tenant, &key, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn not_hashed(error: PasswordError) -> Problem {
    match error {
        PasswordError::Length => Problem::new(StatusCode::BAD_REQUEST, error),
        PasswordError::NotHashed => Problem::later(StatusCode::SERVICE_UNAVAILABLE, error, RETRY_AFTER),
    }
}
