//! The members of an event, version 1: names, types and forms. What must be there depends on the kind: `required`.

use std::net::IpAddr;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::RejectReason::{BadValue, DuplicateMember, TooLong, UnknownKind, UnknownVersion};
use super::reader::{Fault, MAX_STRING_BYTES, Read, Reader, insert_once};
use super::{mask, time};
use crate::model::{
    Actor, ClaimedToken, Confirmation, GatewayVerdict, Grant, Heartbeat, Kind, LedgerMark, Login,
    PLATFORM_TENANT, Request, SubjectKind, Text, UnixMs, Zone, is_name,
};
use crate::token::is_ref;

pub(super) const VERSION: u8 = 1;
/// The members that are objects.
pub(super) const OBJECTS: [&str; 6] = ["source", "token", "request", "login", "heartbeat", "ledger_mark"];
/// The unknown member that tells of what the door was given as `id`, if that held a token. Like the members of inner
/// objects it is called by its path, and `id` itself is taken.
pub(super) const GIVEN_ID: &str = "/id";
pub(super) const GIVEN_ID_POINTER: &str = "/~1id";
const MAX_USER_AGENT_BYTES: usize = 512;
/// The members of `request` that a client writes, and the bytes of each that are kept. If length could keep an event
/// out, every thief would be long-winded.
pub(super) const OF_CLIENT: [(&str, usize); 5] = [
    ("user_agent", MAX_USER_AGENT_BYTES),
    ("route", MAX_STRING_BYTES),
    ("host", MAX_STRING_BYTES),
    ("method", MAX_STRING_BYTES),
    ("id", MAX_STRING_BYTES),
];

/// An event of which nothing is known to be there yet.
#[derive(Default)]
pub(super) struct Draft<'r> {
    pub(super) version: Option<u8>,
    pub(super) id: Option<Uuid>,
    pub(super) kind: Option<Kind>,
    pub(super) time: Option<UnixMs>,
    pub(super) tenant: Option<Text<'r>>,
    pub(super) source: Option<DraftSource<'r>>,
    pub(super) token: Option<ClaimedToken<'r>>,
    pub(super) request: Option<Request<'r>>,
    pub(super) gateway_verdict: Option<GatewayVerdict>,
    pub(super) grant: Option<Grant>,
    pub(super) login: Option<Login<'r>>,
    pub(super) retry: Option<bool>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) ledger_mark: Option<LedgerMark<'r>>,
    pub(super) extra: Map<String, Value>,
}

#[derive(Default)]
pub(super) struct DraftSource<'r> {
    pub(super) gateway: Option<Text<'r>>,
    pub(super) zone: Option<Zone>,
    pub(super) region: Option<Text<'r>>,
    pub(super) epoch: Option<Text<'r>>,
    pub(super) seq: Option<u64>,
}

/// Reads an event's object.
pub(super) fn draft<'r>(reader: &mut Reader<'r>, draft: &mut Draft<'r>) -> Read<()> {
    let mut extra = Map::new();
    reader.object(|reader, name| match name.as_ref() {
        "version" => once(&mut draft.version, version(reader)?),
        "id" => once(&mut draft.id, id(reader)?),
        "kind" => once(&mut draft.kind, word(reader, Kind::parse, UnknownKind)?),
        "time" => once(&mut draft.time, rfc3339(reader)?),
        "tenant" => once(&mut draft.tenant, tenant(reader)?),
        "source" => source(reader, fresh(&mut draft.source)?, &mut extra),
        "token" => token(reader, fresh(&mut draft.token)?, &mut extra),
        "request" => request(reader, fresh(&mut draft.request)?, &mut extra),
        "gateway_verdict" => once(&mut draft.gateway_verdict, word(reader, GatewayVerdict::parse, BadValue)?),
        "grant" => once(&mut draft.grant, word(reader, Grant::parse, BadValue)?),
        "login" => login(reader, fresh(&mut draft.login)?, &mut extra),
        "retry" => once(&mut draft.retry, reader.boolean()?),
        "heartbeat" => once(&mut draft.heartbeat, heartbeat(reader, &mut extra)?),
        "ledger_mark" => once(&mut draft.ledger_mark, ledger_mark(reader, &mut extra)?),
        _ => {
            let name = reader.masked_name(name)?;
            let value = reader.value()?;
            insert_once(&mut extra, name, value)
        }
    })?;
    draft.extra = extra;
    Ok(())
}

fn source<'r>(
    reader: &mut Reader<'r>,
    source: &mut DraftSource<'r>,
    extra: &mut Map<String, Value>,
) -> Read<()> {
    reader.object(|reader, name| match name.as_ref() {
        "gateway" => once(&mut source.gateway, plain_name(reader)?),
        "zone" => once(&mut source.zone, word(reader, Zone::parse, BadValue)?),
        "region" => once(&mut source.region, plain_name(reader)?),
        "epoch" => once(&mut source.epoch, reader.text()?),
        "seq" => once(&mut source.seq, reader.integer()?),
        _ => nested_unknown(reader, name, extra),
    })
}

fn token<'r>(
    reader: &mut Reader<'r>,
    token: &mut ClaimedToken<'r>,
    extra: &mut Map<String, Value>,
) -> Read<()> {
    let (mut aud, mut scope, mut amr, mut act, mut jti) = (None, None, None, None, None);
    reader.object(|reader, name| match name.as_ref() {
        "ref" => once(&mut token.token_ref, reference(reader)?),
        "jti_ref" => once(&mut token.jti_ref, reference(reader)?),
        "outer_ref" => once(&mut token.outer_ref, reference(reader)?),
        "iss" => once(&mut token.iss, claim(reader)?),
        "sub" => once(&mut token.sub, claim(reader)?),
        "subject_kind" => once(&mut token.subject_kind, word(reader, SubjectKind::parse, BadValue)?),
        "tenant_id" => once(&mut token.tenant_id, claim(reader)?),
        "aud" => once(&mut aud, claims(reader)?),
        "client_id" => once(&mut token.client_id, claim(reader)?),
        "scope" => once(&mut scope, claims(reader)?),
        "iat" => once(&mut token.iat, reader.integer()?),
        "nbf" => once(&mut token.nbf, reader.integer()?),
        "exp" => once(&mut token.exp, reader.integer()?),
        "alg" => once(&mut token.alg, claim(reader)?),
        "kid" => once(&mut token.kid, claim(reader)?),
        "typ" => once(&mut token.typ, claim(reader)?),
        "sid" => once(&mut token.sid, claim(reader)?),
        "auth_time" => once(&mut token.auth_time, reader.integer()?),
        "acr" => once(&mut token.acr, claim(reader)?),
        "amr" => once(&mut amr, claims(reader)?),
        "family" => once(&mut token.family, claim(reader)?),
        "generation" => once(&mut token.generation, reader.integer()?),
        "act" => once(&mut act, actors(reader, extra)?),
        "parent_ref" => once(&mut token.parent_ref, reference(reader)?),
        "origin_ref" => once(&mut token.origin_ref, reference(reader)?),
        "txn" => once(&mut token.txn, claim(reader)?),
        "cnf" => once(&mut token.cnf, confirmation(reader, extra)?),
        "jti" => once(&mut jti, never_published(reader, extra)?),
        _ => nested_unknown(reader, name, extra),
    })?;
    token.aud = aud.unwrap_or_default();
    token.scope = scope.unwrap_or_default();
    token.amr = amr.unwrap_or_default();
    token.act = act.unwrap_or_default();
    Ok(())
}

fn actors<'r>(reader: &mut Reader<'r>, extra: &mut Map<String, Value>) -> Read<Vec<Actor<'r>>> {
    let mut actors = Vec::new();
    reader.list(|reader| {
        let (mut sub, mut iss, mut client_id) = (None, None, None);
        reader.object(|reader, name| match name.as_ref() {
            "sub" => once(&mut sub, claim(reader)?),
            "iss" => once(&mut iss, claim(reader)?),
            "client_id" => once(&mut client_id, claim(reader)?),
            _ => nested_unknown(reader, name, extra),
        })?;
        actors.push(Actor { sub: required(sub, "/sub")?, iss, client_id });
        Ok(())
    })?;
    Ok(actors)
}

fn confirmation<'r>(reader: &mut Reader<'r>, extra: &mut Map<String, Value>) -> Read<Confirmation<'r>> {
    let mut cnf = Confirmation::default();
    reader.object(|reader, name| match name.as_ref() {
        "jkt" => once(&mut cnf.jkt, claim(reader)?),
        "x5t#S256" => once(&mut cnf.x5t_s256, claim(reader)?),
        _ => nested_unknown(reader, name, extra),
    })?;
    Ok(cnf)
}

fn request<'r>(
    reader: &mut Reader<'r>,
    request: &mut Request<'r>,
    extra: &mut Map<String, Value>,
) -> Read<()> {
    reader.object(|reader, name| match name.as_ref() {
        "id" => once(&mut request.id, claim(reader)?),
        "ip" => once(&mut request.ip, address(reader)?),
        "peer_ip" => once(&mut request.peer_ip, address(reader)?),
        "user_agent" => once(&mut request.user_agent, reader.text_or_cut(MAX_USER_AGENT_BYTES)?),
        "ja4" => once(&mut request.ja4, reader.text()?),
        "method" => once(&mut request.method, claim(reader)?),
        "host" => once(&mut request.host, claim(reader)?),
        "route" => once(&mut request.route, claim(reader)?),
        "status" => once(&mut request.status, status(reader)?),
        "duration_ms" => once(&mut request.duration_ms, reader.integer()?),
        "response_bytes" => once(&mut request.response_bytes, reader.integer()?),
        "presented_cnf" => once(&mut request.presented_cnf, confirmation(reader, extra)?),
        _ => nested_unknown(reader, name, extra),
    })
}

fn login<'r>(reader: &mut Reader<'r>, login: &mut Login<'r>, extra: &mut Map<String, Value>) -> Read<()> {
    reader.object(|reader, name| match name.as_ref() {
        "username" => once(&mut login.username, claim(reader)?),
        "client_id" => once(&mut login.client_id, claim(reader)?),
        "reason" => once(&mut login.reason, claim(reader)?),
        _ => nested_unknown(reader, name, extra),
    })
}

fn heartbeat(reader: &mut Reader<'_>, extra: &mut Map<String, Value>) -> Read<Heartbeat> {
    let (mut sent, mut dropped, mut closing, mut refused) = (None, None, None, None);
    reader.object(|reader, name| match name.as_ref() {
        "sent" => once(&mut sent, reader.integer()?),
        "dropped" => once(&mut dropped, reader.integer()?),
        "closing" => once(&mut closing, reader.boolean()?),
        "refused" => once(&mut refused, reader.integer()?),
        _ => nested_unknown(reader, name, extra),
    })?;
    Ok(Heartbeat {
        sent: required(sent, "/sent")?,
        dropped: required(dropped, "/dropped")?,
        closing: required(closing, "/closing")?,
        refused,
    })
}

fn ledger_mark<'r>(reader: &mut Reader<'r>, extra: &mut Map<String, Value>) -> Read<LedgerMark<'r>> {
    let (mut instance, mut epoch, mut complete_through) = (None, None, None);
    reader.object(|reader, name| match name.as_ref() {
        "instance" => once(&mut instance, reader.text()?),
        "epoch" => once(&mut epoch, reader.text()?),
        "complete_through" => once(&mut complete_through, rfc3339(reader)?),
        _ => nested_unknown(reader, name, extra),
    })?;
    Ok(LedgerMark {
        instance: required(instance, "/instance")?,
        epoch: required(epoch, "/epoch")?,
        complete_through: required(complete_through, "/complete_through")?,
    })
}

/// Fills a member that may be there once.
fn once<T>(slot: &mut Option<T>, value: T) -> Read<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::new(DuplicateMember)),
    }
}

/// The place of an inner object that may be there once: it is read where it will lie, for it is large to move.
fn fresh<T: Default>(slot: &mut Option<T>) -> Read<&mut T> {
    match slot {
        None => Ok(slot.insert(T::default())),
        Some(_) => Err(Fault::new(DuplicateMember)),
    }
}

pub(super) fn required<T>(value: Option<T>, pointer: &'static str) -> Read<T> {
    value.ok_or(Fault::at(super::RejectReason::MissingField, pointer))
}

/// Keeps an unknown member of an inner object under its path, `request/colour`, so that an event written again and
/// read again keeps it the same way.
fn nested_unknown<'r>(reader: &mut Reader<'r>, name: Text<'r>, extra: &mut Map<String, Value>) -> Read<()> {
    reader.masked_name(name)?;
    let path = reader.pointer().split_off(1);
    let value = reader.value()?;
    insert_once(extra, path, value)
}

/// What is never published in the clear: it is read, so that it is well formed, and goes no further. Of a token in it the
/// marker stays, where an unknown member would be.
fn never_published(reader: &mut Reader<'_>, extra: &mut Map<String, Value>) -> Read<()> {
    let masked_before = reader.masks.len();
    claim(reader)?;
    let refs = reader.masks[masked_before..].iter().map(|mask| mask.token_ref.as_str());
    match mask::markers(refs) {
        None => Ok(()),
        Some(markers) => insert_once(extra, reader.pointer().split_off(1), Value::String(markers)),
    }
}

fn version(reader: &mut Reader<'_>) -> Read<u8> {
    match reader.integer() {
        Ok(VERSION) => Ok(VERSION),
        Ok(_) | Err(Fault { reason: BadValue, .. }) => Err(Fault::new(UnknownVersion)),
        Err(fault) => Err(fault),
    }
}

/// A UUID in its usual form of 36 characters.
fn id(reader: &mut Reader<'_>) -> Read<Uuid> {
    let text = reader.text()?;
    if text.len() != 36 {
        return Err(Fault::new(BadValue));
    }
    Uuid::try_parse(&text).map_err(|_| Fault::new(BadValue))
}

fn rfc3339(reader: &mut Reader<'_>) -> Read<UnixMs> {
    time::rfc3339(&reader.text()?).ok_or(Fault::new(BadValue))
}

/// One of a closed set of words.
fn word<T>(reader: &mut Reader<'_>, parse: fn(&str) -> Option<T>, unknown: super::RejectReason) -> Read<T> {
    match reader.text() {
        Ok(text) => parse(&text).ok_or(Fault::new(unknown)),
        Err(Fault { reason: TooLong, .. }) => Err(Fault::new(unknown)),
        Err(fault) => Err(fault),
    }
}

fn plain_name<'r>(reader: &mut Reader<'r>) -> Read<Text<'r>> {
    let text = reader.text()?;
    if is_name(&text) { Ok(text) } else { Err(Fault::new(BadValue)) }
}

fn tenant<'r>(reader: &mut Reader<'r>) -> Read<Text<'r>> {
    let text = reader.text()?;
    if is_name(&text) || text == PLATFORM_TENANT { Ok(text) } else { Err(Fault::new(BadValue)) }
}

/// A ref, or what is left of a token that was sent in its place: that event goes on, masked.
fn reference<'r>(reader: &mut Reader<'r>) -> Read<Text<'r>> {
    let masked_before = reader.masks.len();
    let text = reader.text()?;
    if is_ref(&text) || reader.masks.len() > masked_before { Ok(text) } else { Err(Fault::new(BadValue)) }
}

/// An address; IPv4 written as IPv6 (`::ffff:192.0.2.1`) is IPv4.
fn address(reader: &mut Reader<'_>) -> Read<IpAddr> {
    let text = reader.text()?;
    text.parse().map(|ip: IpAddr| ip.to_canonical()).map_err(|_| Fault::new(BadValue))
}

/// Three digits (RFC 9110, section 15).
fn status(reader: &mut Reader<'_>) -> Read<u16> {
    let status = reader.integer()?;
    if (100..=999).contains(&status) { Ok(status) } else { Err(Fault::new(BadValue)) }
}

/// What a client may have written, as it stands or cut: a request's texts, claims, a login's names.
fn claim<'r>(reader: &mut Reader<'r>) -> Read<Text<'r>> {
    reader.text_or_cut(MAX_STRING_BYTES)
}

fn claims<'r>(reader: &mut Reader<'r>) -> Read<Vec<Text<'r>>> {
    let mut claims = Vec::new();
    reader.list(|reader| {
        claims.push(claim(reader)?);
        Ok(())
    })?;
    Ok(claims)
}
