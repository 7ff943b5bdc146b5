//! What an event need not say, because the door knows it: from the credential, from the status, from the clock.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::RejectReason::{BadType, MissingField, TooLong};
use super::super::mask;
use super::super::schema::{GIVEN_ID, VERSION};
use super::{Arrival, Credential, Refused};
use crate::model::{GatewayVerdict, Kind, PLATFORM_TENANT, TenantId, Zone};

type Members = Map<String, Value>;

/// What the ingest key's events are called, if they do not say.
const DEFAULT_NAME: &str = "default";
const MAX_ID_CHARS: usize = 128;

/// The namespace of ids made from a gateway's own (RFC 9562, UUIDv5). Changing it would make old events new.
const IDS: Uuid = Uuid::from_u128(0x5f0d_9c1e_7a1b_4c52_9a57_6a77_7472_6169);

/// Fills in; gives the pointers of what it filled.
pub(super) fn fill(
    event: &mut Members,
    credential: &Credential,
    arrival: Arrival,
) -> Result<Vec<&'static str>, Refused> {
    let mut filled = Vec::new();
    if absent(event, "version", || Value::from(VERSION)) {
        filled.push("/version");
    }
    if absent(event, "time", || Value::from(arrival.now.to_string())) {
        filled.push("/time");
    }
    kind_and_verdict(event, &mut filled);
    let gateway = source(event, credential, arrival.door_epoch, &mut filled)?;
    tenant(event, credential, &mut filled)?;
    id(event, &gateway, arrival.fresh_id, &mut filled)?;
    Ok(filled)
}

fn absent(members: &mut Members, name: &str, value: impl FnOnce() -> Value) -> bool {
    let absent = !members.contains_key(name);
    if absent {
        members.insert(name.to_owned(), value());
    }
    absent
}

/// An event without a kind is a use of a token: refused if the status says so, or, without a status, the verdict. One
/// that is accepted without a verdict is `valid`: to send it is to say that the token was checked.
fn kind_and_verdict(event: &mut Members, filled: &mut Vec<&'static str>) {
    let status = event.get("request").and_then(|request| request.get("status")).and_then(Value::as_u64);
    let verdict = event.get("gateway_verdict").and_then(Value::as_str).and_then(GatewayVerdict::parse);
    let is_heartbeat = event.contains_key("heartbeat");
    let kind = || match (status, verdict) {
        _ if is_heartbeat => Kind::Heartbeat,
        (Some(401 | 403), _) => Kind::Rejected,
        (None, Some(verdict)) if verdict.is_refusal() => Kind::Rejected,
        _ => Kind::Accepted,
    };
    if absent(event, "kind", || Value::from(kind().as_str())) {
        filled.push("/kind");
    }
    let verdict = match event.get("kind").and_then(Value::as_str).and_then(Kind::parse) {
        Some(Kind::Accepted) => GatewayVerdict::Valid,
        Some(Kind::Rejected) => GatewayVerdict::Unspecified,
        Some(Kind::Heartbeat) => {
            if let Some(Value::Object(heartbeat)) = event.get_mut("heartbeat") {
                absent(heartbeat, "closing", || Value::from(false));
            }
            return;
        }
        _ => return,
    };
    if absent(event, "gateway_verdict", || Value::from(verdict.as_str())) {
        filled.push("/gateway_verdict");
    }
}

/// Fills in who saw it; gives the gateway's name.
fn source(
    event: &mut Members,
    credential: &Credential,
    door_epoch: Option<Uuid>,
    filled: &mut Vec<&'static str>,
) -> Result<String, Refused> {
    // A heartbeat counts within its own epoch, or within none.
    let door_epoch =
        door_epoch.filter(|_| event.get("kind").is_none_or(|kind| kind != Kind::Heartbeat.as_str()));
    let source = event.entry("source").or_insert_with(|| json!({}));
    let Some(source) = source.as_object_mut() else { return Err(Refused::rejected(BadType, "/source")) };
    let (gateway, zone) = match credential {
        Credential::Gateway { gateway, zone, .. } => (gateway.as_str(), *zone),
        Credential::Ingest => (DEFAULT_NAME, Zone::Edge),
    };
    let fixed = matches!(credential, Credential::Gateway { .. });
    for (name, pointer, value) in
        [("gateway", "/source/gateway", gateway), ("zone", "/source/zone", zone.as_str())]
    {
        if absent(source, name, || Value::from(value)) {
            filled.push(pointer);
        } else if fixed && source[name] != value {
            return Err(Refused::conflict(pointer));
        }
    }
    if let Some(epoch) = door_epoch {
        // Nothing that a gateway's author has left out: it is not told.
        absent(source, "epoch", || Value::from(epoch.to_string()));
    }
    Ok(source["gateway"].as_str().unwrap_or(gateway).to_owned())
}

fn tenant(
    event: &mut Members,
    credential: &Credential,
    filled: &mut Vec<&'static str>,
) -> Result<(), Refused> {
    if let (Credential::Gateway { tenants, .. }, Some(named)) = (credential, event.get("tenant")) {
        let is_own = named.as_str().is_some_and(|named| tenants.iter().any(|own| own.as_str() == named));
        let is_platforms = event.get("kind").is_some_and(|kind| kind == Kind::Heartbeat.as_str())
            && *named == PLATFORM_TENANT;
        if !is_own && !is_platforms {
            return Err(Refused::conflict("/tenant"));
        }
    }
    // A heartbeat speaks for the gateway, not for a tenant, whatever its sender puts on everything.
    if event.get("kind").is_some_and(|kind| kind == Kind::Heartbeat.as_str()) {
        if event.insert("tenant".to_owned(), Value::from(PLATFORM_TENANT)).is_none() {
            filled.push("/tenant");
        }
        return Ok(());
    }
    let only = match credential {
        Credential::Gateway { tenants, .. } => match tenants.as_slice() {
            [only] => Some(TenantId::as_str(only)),
            _ => None,
        },
        Credential::Ingest => Some(DEFAULT_NAME),
    };
    match (event.contains_key("tenant"), only) {
        (true, _) => Ok(()),
        (false, Some(only)) => {
            event.insert("tenant".to_owned(), Value::from(only));
            filled.push("/tenant");
            Ok(())
        }
        (false, None) => Err(Refused::rejected(MissingField, "/tenant")),
    }
}

/// A UUID stays; anything else becomes one, always the same for the same gateway and id; nothing becomes a fresh one.
fn id(
    event: &mut Members,
    gateway: &str,
    fresh: Uuid,
    filled: &mut Vec<&'static str>,
) -> Result<(), Refused> {
    let id = match event.get("id") {
        None => {
            filled.push("/id");
            fresh
        }
        Some(Value::String(id)) if id.chars().count() > MAX_ID_CHARS => {
            return Err(Refused::rejected(TooLong, "/id"));
        }
        Some(Value::String(id)) => Uuid::try_parse(id).unwrap_or_else(|_| derived_id(gateway, id)),
        Some(Value::Number(id)) => derived_id(gateway, &id.to_string()),
        Some(_) => return Err(Refused::rejected(BadType, "/id")),
    };
    let given = event.insert("id".to_owned(), Value::from(id.to_string()));
    // Of a token that was sent as an id only its name is left, beside the id that was made of it.
    if let Some(Value::String(given)) = given
        && let Some(markers) = mask::markers(mask::refs(given.as_bytes()).iter().map(String::as_str))
    {
        event.insert(GIVEN_ID.to_owned(), Value::from(markers));
    }
    Ok(())
}

fn derived_id(gateway: &str, id: &str) -> Uuid {
    Uuid::new_v5(&IDS, format!("{gateway}\u{1f}{id}").as_bytes())
}
