//! The dialect undone: every member that is there gets the type and form of version 1, where its meaning is plain.
//! What is not plain stays as it is, and strict reading says what is wrong with it.

use serde_json::{Map, Value};

use super::super::RejectReason::{BadValue, MissingField, TooLong};
use super::super::mask::{self, MARKER_CHARS};
use super::super::reader::MAX_STRING_BYTES;
use super::super::schema::OF_CLIENT;
use super::super::time;
use super::Refused;
use crate::model::UnixMs;
use crate::token::jti_ref;

type Members = Map<String, Value>;

/// Below this a number is seconds since 1970, else milliseconds: the year 5138 in the one, March 1973 in the other.
const FIRST_MILLISECONDS: f64 = 1e11;

/// Of the tokens in what is cut away from one text: enough to tell of them, and no room for a flood.
const MAX_MARKERS_KEPT: usize = 2;

/// More than any chain has (ISSUER: 8), so that strict reading can say what is too many.
const MAX_ACTORS_LIFTED: usize = 16;

pub(super) fn dialect(event: &mut Members) -> Result<(), Refused> {
    drop_absent(event);
    integer(event, "version");
    if let Some(value) = event.get_mut("time") {
        *value = time_of(value).ok_or_else(|| Refused::rejected(BadValue, "/time"))?;
    }
    for name in ["source", "token", "request", "login", "heartbeat"] {
        if let Some(Value::Object(members)) = event.get_mut(name) {
            drop_absent(members);
        }
    }
    if let Some(source) = object(event, "source") {
        integer(source, "seq");
    }
    if let Some(heartbeat) = object(event, "heartbeat") {
        integer(heartbeat, "sent");
        integer(heartbeat, "dropped");
    }
    if let Some(request) = object(event, "request") {
        request_of(request);
    }
    let Some(token) = object(event, "token") else { return Ok(()) };
    token_of(token);
    let Some(jti) = hash_jti(token)? else { return Ok(()) };
    // Nothing of it is kept but the name of a token that it held: under its path, as strict reading has it.
    let refs = mask::refs(jti.as_bytes());
    if let Some(markers) = mask::markers(refs.iter().map(String::as_str)) {
        event.insert("token/jti".to_owned(), Value::from(markers));
    }
    Ok(())
}

fn object<'m>(members: &'m mut Members, name: &str) -> Option<&'m mut Members> {
    members.get_mut(name)?.as_object_mut()
}

/// `null`, `""` and `"-"` are how logs say that there is nothing.
fn drop_absent(members: &mut Members) {
    members.retain(|_, value| !is_absent(value));
}

fn is_absent(value: &Value) -> bool {
    matches!(value, Value::Null) || matches!(value.as_str(), Some("" | "-"))
}

/// Numbers as strings, and with a fraction, which is cut.
fn integer(members: &mut Members, name: &str) {
    let Some(value) = members.get_mut(name) else { return };
    let text = match &*value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if number.is_f64() => number.to_string(),
        _ => return,
    };
    let exact = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from));
    // Within ±2^53 the integer part of a number is exact.
    let cut =
        || text.parse::<f64>().ok().map(f64::trunc).filter(|number| number.abs() <= 9_007_199_254_740_992.0);
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within ±2^53")]
    if let Some(number) = exact.ok().or_else(|| cut().map(|number| Value::from(number as i64))) {
        *value = number;
    }
}

/// RFC 3339, or seconds (with a fraction) or milliseconds since 1970, as a number or a string.
fn time_of(value: &Value) -> Option<Value> {
    if let Some(text) = value.as_str().filter(|text| time::rfc3339(text).is_some()) {
        return Some(Value::from(text));
    }
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse::<f64>().ok()?,
        _ => return None,
    };
    if !number.is_finite() {
        return None;
    }
    let ms = if number.abs() < FIRST_MILLISECONDS { number * 1000.0 } else { number };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of a float saturates, and what is far off is no time"
    )]
    let text = UnixMs::new(ms.round() as i64).to_string();
    time::rfc3339(&text).map(|_| Value::from(text))
}

fn request_of(request: &mut Members) {
    for name in ["status", "duration_ms", "response_bytes"] {
        integer(request, name);
    }
    for name in ["ip", "peer_ip"] {
        if let Some(value) = request.get_mut(name)
            && let Some(ip) = value.as_str().and_then(address)
        {
            *value = Value::from(ip);
        }
    }
    if let Some(Value::String(route)) = request.get_mut("route")
        && let Some(end) = route.find(['?', '#'])
    {
        cut(route, end);
    }
    // Strict reading would cut these too, but may find the whole too large first.
    for (name, limit) in OF_CLIENT {
        if let Some(Value::String(text)) = request.get_mut(name)
            && text.len() > limit
        {
            let room = mask::refs(text.as_bytes()).len().min(MAX_MARKERS_KEPT) * MARKER_CHARS;
            cut(text, text.floor_char_boundary(limit - room));
        }
    }
    drop_absent(request);
}

/// Cuts `text` at `end`, and keeps the first markers behind it: a token in a query is what `token_in_request` is about,
/// and padding before a token must not hide it.
fn cut(text: &mut String, end: usize) {
    let refs = mask::refs(text.as_bytes());
    text.truncate(end);
    // A marker that stood across `end` is none any more.
    let whole = mask::refs(text.as_bytes()).len();
    for token_ref in refs.iter().skip(whole).take(MAX_MARKERS_KEPT) {
        mask::push_marker(text, token_ref);
    }
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`, `[2001:db8::1]`.
fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let ip: std::net::IpAddr = text.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(ip.to_canonical().to_string())
}

fn token_of(token: &mut Members) {
    for name in ["iat", "nbf", "exp", "auth_time", "generation"] {
        integer(token, name);
    }
    for (name, is_words) in [("aud", false), ("scope", true), ("amr", true)] {
        if let Some(value) = token.get_mut(name) {
            list(value, is_words);
        }
    }
    if let Some(value) = token.get_mut("act") {
        lift_actors(value);
    }
}

/// A string becomes a list: of its words (`scope`, RFC 6749, section 3.3), or of itself.
fn list(value: &mut Value, is_words: bool) {
    match value {
        Value::String(text) if is_words => *value = text.split_ascii_whitespace().collect(),
        Value::String(text) => *value = [std::mem::take(text)].into_iter().collect(),
        Value::Array(elements) => elements.retain(|element| !is_absent(element)),
        _ => {}
    }
}

/// `act` as tokens carry it, each actor inside the next (RFC 8693, section 4.1), becomes a list, outermost first.
fn lift_actors(value: &mut Value) {
    let mut actors = Vec::new();
    let mut outermost = match value {
        Value::Object(actor) => Some(std::mem::take(actor)),
        _ => return,
    };
    while let Some(mut actor) = outermost.take().filter(|_| actors.len() < MAX_ACTORS_LIFTED) {
        drop_absent(&mut actor);
        match actor.remove("act") {
            Some(Value::Object(inner)) => outermost = Some(inner),
            Some(other) => drop(actor.insert("act".to_owned(), other)),
            None => {}
        }
        actors.push(Value::Object(actor));
    }
    *value = Value::Array(actors);
}

/// A clear `jti` is never published: it becomes `jti_ref`, which needs the issuer. Gives what it was.
fn hash_jti(token: &mut Members) -> Result<Option<String>, Refused> {
    let jti = match token.remove("jti") {
        None => return Ok(None),
        Some(Value::String(jti)) => jti,
        Some(_) => return Err(Refused::rejected(BadValue, "/token/jti")),
    };
    if jti.len() > MAX_STRING_BYTES {
        return Err(Refused::rejected(TooLong, "/token/jti"));
    }
    let Some(iss) = token.get("iss").and_then(Value::as_str) else {
        return Err(Refused::rejected(MissingField, "/token/iss"));
    };
    let hashed = Value::from(jti_ref(iss, &jti));
    match token.insert("jti_ref".to_owned(), hashed.clone()) {
        Some(given) if given != hashed => Err(Refused::rejected(BadValue, "/token/jti_ref")),
        _ => Ok(Some(jti)),
    }
}
