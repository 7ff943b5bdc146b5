//! What must be there, kind by kind (EVENT, "Required").

use super::RejectReason::{BadValue, MissingField};
use super::reader::{Fault, Read};
use super::schema::{Draft, required};
use crate::model::{ClaimedToken, Event, Extra, GatewayVerdict, Kind, Source};

/// Turns a draft into the event that it is, or names the first member that is missing.
pub(super) fn event(draft: Draft<'_>) -> Read<Event<'_>> {
    let version = required(draft.version, "/version")?;
    let id = required(draft.id, "/id")?;
    let kind = required(draft.kind, "/kind")?;
    let time = required(draft.time, "/time")?;
    let tenant = required(draft.tenant, "/tenant")?;
    let source = required(draft.source, "/source")?;
    let source = Source {
        gateway: required(source.gateway, "/source/gateway")?,
        zone: required(source.zone, "/source/zone")?,
        region: source.region,
        epoch: source.epoch,
        seq: source.seq,
    };
    let event = Event {
        version,
        id,
        kind,
        time,
        claimed_time: None,
        tenant,
        source,
        token: draft.token,
        request: draft.request,
        gateway_verdict: draft.gateway_verdict,
        grant: draft.grant,
        login: draft.login,
        retry: draft.retry.unwrap_or(false),
        heartbeat: draft.heartbeat,
        ledger_mark: draft.ledger_mark,
        extra: if draft.extra.is_empty() { None } else { Some(Extra(draft.extra)) },
    };
    // Heartbeats and marks belong to no tenant, and nothing else belongs to the reserved one.
    if event.is_platform() != kind.is_control() {
        return Err(Fault::at(BadValue, "/tenant"));
    }
    of_kind(&event)?;
    Ok(event)
}

fn of_kind(event: &Event<'_>) -> Read<()> {
    let token = event.token.as_ref();
    let has = |member: bool, pointer| if member { Ok(()) } else { Err(Fault::at(MissingField, pointer)) };
    let ip = || has(event.request.as_ref().is_some_and(|request| request.ip.is_some()), "/request/ip");
    let sub = || has(token.is_some_and(|token| token.sub.is_some()), "/token/sub");
    match event.kind {
        Kind::Accepted => {
            ip()?;
            let verdict = required(event.gateway_verdict, "/gateway_verdict")?;
            // What was let through unread has a ref and no claims.
            if verdict != GatewayVerdict::Opaque {
                has(token.is_some_and(|token| token.iss.is_some()), "/token/iss")?;
                sub()?;
            }
            has(token.is_some_and(has_a_ref), "/token/ref")
        }
        Kind::Rejected => {
            ip()?;
            has(event.gateway_verdict.is_some(), "/gateway_verdict")
        }
        Kind::Issued | Kind::Refreshed | Kind::Exchanged => {
            has(token.is_some_and(|token| token.token_ref.is_some()), "/token/ref")?;
            sub()?;
            has(event.grant.is_some(), "/grant")?;
            ip()
        }
        Kind::LoginSucceeded | Kind::LoginFailed => {
            let username = event.login.as_ref().is_some_and(|login| login.username.is_some());
            has(username, "/login/username")?;
            ip()?;
            if event.kind == Kind::LoginSucceeded { sub() } else { Ok(()) }
        }
        Kind::Heartbeat => has(event.heartbeat.is_some(), "/heartbeat"),
        Kind::LedgerMark => has(event.ledger_mark.is_some(), "/ledger_mark"),
        Kind::Revoked | Kind::KeyStateChanged | Kind::AdminChanged => Ok(()),
    }
}

fn has_a_ref(token: &ClaimedToken<'_>) -> bool {
    token.token_ref.is_some() || token.jti_ref.is_some() || token.outer_ref.is_some()
}
