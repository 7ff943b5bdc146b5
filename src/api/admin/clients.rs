//! A tenant's clients, and the secrets of those that can keep one.

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
use super::{Admin, draw_secret};
use crate::api::problem::Problem;
use crate::issuer::{Client, ClientId, ClientKind, EntryKey, Expected, Found, SecretHash, StoredSecret};
use crate::model::{TenantId, UnixMs};

fn show_one(name: &str, found: &Found<Client>) -> Value {
    let client = &*found.entry;
    let secrets: Vec<Value> =
        client.secrets.iter().map(|secret| json!({"created_at": secret.created_at})).collect();
    json!({
        "client_id": name, "kind": client.kind, "grants": client.grants, "audiences": client.audiences,
        "owns": client.owns, "scopes": client.scopes, "jwks": client.jwks, "disabled": client.disabled,
        "secrets": secrets, "created_at": client.created_at, "changed_at": found.written_at,
        "version": found.version,
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
    Path((tenant, client)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (tenant, _) = admin.tenant_for(&actor, &tenant)?;
    answer_one(&admin, StatusCode::OK, &tenant, &client, None)
}

/// `secret`: drawn just now, and shown this once.
fn answer_one(
    admin: &Admin,
    status: StatusCode,
    tenant: &TenantId,
    client: &str,
    secret: Option<&str>,
) -> Result<Response, Problem> {
    let found = admin.control.get::<Client>(tenant.as_str(), client).ok_or_else(not_found)?;
    let mut shown = show_one(client, &found);
    if let (Some(secret), Some(members)) = (secret, shown.as_object_mut()) {
        members.insert("client_secret".to_owned(), secret.into());
    }
    Ok(answer(status, found.version, shown))
}

/// Makes a client, or sets all of it but its kind and its secrets. A confidential one that brings no keys gets a secret.
pub(super) async fn put(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path((tenant, client)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let (tenant, _) = admin.tenant_for(&actor, &tenant)?;
    let precondition = Precondition::of(&headers)?;
    let id = ClientId::parse(&client).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
    let key = EntryKey::of::<Client>(&tenant, id.as_str());
    let (expected, there) =
        precondition.check(&key, admin.control.get::<Client>(tenant.as_str(), &client))?;
    let mut meant = read(&body, admin.clock.now())?;
    let mut secret = None;
    match &there {
        None if meant.kind == ClientKind::Confidential && meant.jwks.is_empty() => {
            secret = Some(add_secret(&mut meant, admin.clock.now()));
        }
        None => {}
        Some(found) if found.entry.kind != meant.kind => {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "`/kind` stays as it was made: make another client, and delete this one",
            ));
        }
        Some(found) => {
            meant.secrets.clone_from(&found.entry.secrets);
            meant.created_at = found.entry.created_at;
        }
    }
    admin.put(&actor, &tenant, &key, expected, meant).await?;
    let status = if there.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    answer_one(&admin, status, &tenant, &client, secret.as_deref().map(String::as_str))
}

fn read(body: &[u8], now: UnixMs) -> Result<Client, Problem> {
    let mut members = Members::of(body)?;
    let client = Client {
        kind: members.take("kind", "is `confidential` or `public`")?.unwrap_or(ClientKind::Confidential),
        secrets: Vec::new(),
        jwks: members.take("jwks", "is a list of public keys, each a JWK")?.unwrap_or_default(),
        grants: members
            .take("grants", "is a list of grants, such as `client_credentials`")?
            .unwrap_or_default(),
        audiences: members
            .take("audiences", "is a list of URIs or names of 1 to 512 visible ASCII characters without `#`")?
            .unwrap_or_default(),
        owns: members.take("owns", "is a list of audiences")?.unwrap_or_default(),
        scopes: members
            .take("scopes", "is a list of scopes of 1 to 128 visible ASCII characters without `\"` and `\\`")?
            .unwrap_or_default(),
        disabled: members.take("disabled", "is true or false")?.unwrap_or_default(),
        created_at: now,
    };
    members.finish()?;
    if let Some(at) = client.jwks.iter().position(|jwk| jwk.get("d").is_some() || jwk.get("k").is_some()) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("`/jwks/{at}` holds a private key: send its public half, and take that pair out of use"),
        ));
    }
    Ok(client)
}

fn add_secret(client: &mut Client, now: UnixMs) -> zeroize::Zeroizing<String> {
    let secret = draw_secret();
    client.secrets.push(StoredSecret { sha256: SecretHash::of(&secret), created_at: now });
    secret
}

/// Draws another secret beside the newest one, which lives on until it is retired.
pub(super) async fn rotate(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path((tenant, client)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let now = admin.clock.now();
    let mut secret = None;
    let change = |client: &mut Client| {
        keep_newest(client);
        secret = Some(add_secret(client, now));
    };
    let tenant = change_secrets(&actor, &admin, &tenant, &client, &headers, change).await?;
    answer_one(&admin, StatusCode::OK, &tenant, &client, secret.as_deref().map(String::as_str))
}

/// Ends every secret but the newest.
pub(super) async fn retire(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path((tenant, client)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let tenant = change_secrets(&actor, &admin, &tenant, &client, &headers, keep_newest).await?;
    answer_one(&admin, StatusCode::OK, &tenant, &client, None)
}

fn keep_newest(client: &mut Client) {
    client.secrets.drain(..client.secrets.len().saturating_sub(1));
}

async fn change_secrets(
    actor: &Actor,
    admin: &Admin,
    tenant: &str,
    client: &str,
    headers: &HeaderMap,
    change: impl FnOnce(&mut Client),
) -> Result<TenantId, Problem> {
    let (tenant, _) = admin.tenant_for(actor, tenant)?;
    let (key, expected, found) = find(admin, &tenant, client, headers)?;
    let mut entry = Client::clone(&found.entry);
    change(&mut entry);
    admin.put(actor, &tenant, &key, expected, entry).await?;
    Ok(tenant)
}

pub(super) async fn delete(
    actor: Actor,
    State(admin): State<Arc<Admin>>,
    Path((tenant, client)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (tenant, _) = admin.tenant_for(&actor, &tenant)?;
    let (key, expected, _) = find(&admin, &tenant, &client, &headers)?;
    admin.delete(&actor, &tenant, &key, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A client that is there, in the version that the request names.
fn find(
    admin: &Admin,
    tenant: &TenantId,
    client: &str,
    headers: &HeaderMap,
) -> Result<(EntryKey, Expected, Found<Client>), Problem> {
    let key = EntryKey::of::<Client>(tenant, client);
    let found = admin.control.get::<Client>(tenant.as_str(), client).ok_or_else(not_found)?;
    let (expected, _) = Precondition::of(headers)?.check(&key, Some(found.clone()))?;
    Ok((key, expected, found))
}
