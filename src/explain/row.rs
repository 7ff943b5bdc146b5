//! A row of `events` read back: the event that it was, and a record that is walked as the first one was.

use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::hmac;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::log::NewRecord;
use crate::model::{
    Actor, ClaimedToken, Confirmation, Event, Extra, GatewayVerdict, Grant, Kind, Login, Proof, Request,
    Source, SubjectKind, Text, UnixMs, Zone,
};
use crate::pipeline::decode::{sign_ledger, to_record};
use crate::pipeline::verify::{DOOR_KEY_ID, SIGNATURE_HEADER, sign_record};

/// The columns of [`EventRow`]: what the source claimed, where the record lay, and what the walk said then.
pub(super) const COLUMNS: &str = "event_id, kind, time, received_at, claimed_time, tenant, gateway, zone, region, \
    source_epoch, source_seq, token_ref, jti_ref, outer_ref, iss, sub, subject_kind, token_tenant_id, client_id, aud, \
    scope, sid, acr, amr, auth_time, iat, nbf, exp, alg, kid, typ, family, generation, act, parent_ref, origin_ref, \
    txn, `grant`, cnf_jkt, cnf_x5t, presented_jkt, presented_x5t, login_username, login_reason, ip, peer_ip, \
    user_agent, ja4, method, host, route, status, duration_ms, response_bytes, request_id, country, city, device, \
    geo_build, gateway_verdict, verdict, proof, flags, extra, `offset`";

/// A row of `events`. Absent texts are empty, an absent address is `::`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct EventRow {
    pub(super) event_id: Uuid,
    kind: Kind,
    time: UnixMs,
    pub(super) received_at: UnixMs,
    claimed_time: Option<UnixMs>,
    pub(super) tenant: String,
    gateway: String,
    zone: Zone,
    region: String,
    source_epoch: String,
    source_seq: Option<u64>,
    token_ref: String,
    jti_ref: String,
    outer_ref: String,
    iss: String,
    pub(super) sub: String,
    subject_kind: String,
    token_tenant_id: String,
    client_id: String,
    aud: Vec<String>,
    scope: Vec<String>,
    sid: String,
    acr: String,
    amr: Vec<String>,
    auth_time: Option<i64>,
    iat: Option<i64>,
    nbf: Option<i64>,
    exp: Option<i64>,
    alg: String,
    kid: String,
    typ: String,
    family: String,
    generation: Option<u64>,
    act: String,
    parent_ref: String,
    origin_ref: String,
    txn: String,
    grant: String,
    cnf_jkt: String,
    cnf_x5t: String,
    presented_jkt: String,
    presented_x5t: String,
    login_username: String,
    login_reason: String,
    ip: Ipv6Addr,
    peer_ip: Ipv6Addr,
    user_agent: String,
    ja4: String,
    method: String,
    host: String,
    route: String,
    status: Option<u16>,
    duration_ms: Option<u32>,
    response_bytes: Option<u64>,
    request_id: String,
    pub(super) country: String,
    pub(super) city: String,
    pub(super) device: String,
    pub(super) geo_build: String,
    gateway_verdict: String,
    pub(super) verdict: String,
    pub(super) proof: Proof,
    pub(super) flags: Vec<String>,
    extra: String,
    pub(super) offset: u64,
}

impl EventRow {
    /// The event as its source claimed it.
    ///
    /// A row does not tell an empty text from none: where the kind demands the member it is there, else it is not.
    pub(super) fn event(&self) -> Event<'_> {
        let gateway_verdict = GatewayVerdict::parse(&self.gateway_verdict);
        let token = self.token(gateway_verdict);
        let request = self.request();
        let login = self.login();
        Event {
            version: 1,
            id: self.event_id,
            kind: self.kind,
            time: self.claimed_time.unwrap_or(self.time),
            claimed_time: None,
            tenant: self.tenant.as_str().into(),
            source: Source {
                gateway: self.gateway.as_str().into(),
                zone: self.zone,
                region: maybe(&self.region),
                epoch: maybe(&self.source_epoch),
                seq: self.source_seq,
            },
            token: (token != ClaimedToken::default()).then_some(token),
            request: (request != Request::default()).then_some(request),
            gateway_verdict,
            grant: Grant::parse(&self.grant),
            login: (login != Login::default()).then_some(login),
            retry: false,
            heartbeat: None,
            ledger_mark: None,
            extra: serde_json::from_str::<Map<String, Value>>(&self.extra).ok().map(Extra),
        }
    }

    fn token(&self, gateway_verdict: Option<GatewayVerdict>) -> ClaimedToken<'_> {
        let vouched = self.kind == Kind::Accepted && gateway_verdict != Some(GatewayVerdict::Opaque);
        let claim = |text| if vouched { Some(Text::Borrowed(text)) } else { maybe(text) };
        ClaimedToken {
            token_ref: maybe(&self.token_ref),
            jti_ref: maybe(&self.jti_ref),
            outer_ref: maybe(&self.outer_ref),
            iss: claim(&self.iss),
            sub: claim(&self.sub),
            subject_kind: SubjectKind::parse(&self.subject_kind),
            tenant_id: maybe(&self.token_tenant_id),
            aud: texts(&self.aud),
            client_id: if self.is_login() { None } else { maybe(&self.client_id) },
            scope: texts(&self.scope),
            iat: self.iat,
            nbf: self.nbf,
            exp: self.exp,
            alg: maybe(&self.alg),
            kid: maybe(&self.kid),
            typ: maybe(&self.typ),
            sid: maybe(&self.sid),
            auth_time: self.auth_time,
            acr: maybe(&self.acr),
            amr: texts(&self.amr),
            family: maybe(&self.family),
            generation: self.generation,
            act: actors(&self.act),
            parent_ref: maybe(&self.parent_ref),
            origin_ref: maybe(&self.origin_ref),
            txn: maybe(&self.txn),
            cnf: confirmation(&self.cnf_jkt, &self.cnf_x5t),
        }
    }

    fn request(&self) -> Request<'_> {
        // Both kinds of use have an address, be it `::`.
        let is_use = matches!(self.kind, Kind::Accepted | Kind::Rejected);
        Request {
            id: maybe(&self.request_id),
            ip: address(self.ip, is_use),
            peer_ip: address(self.peer_ip, false),
            user_agent: maybe(&self.user_agent),
            ja4: maybe(&self.ja4),
            method: maybe(&self.method),
            host: maybe(&self.host),
            route: maybe(&self.route),
            status: self.status,
            duration_ms: self.duration_ms,
            response_bytes: self.response_bytes,
            presented_cnf: confirmation(&self.presented_jkt, &self.presented_x5t),
        }
    }

    fn login(&self) -> Login<'_> {
        Login {
            username: maybe(&self.login_username),
            client_id: if self.is_login() { maybe(&self.client_id) } else { None },
            reason: maybe(&self.login_reason),
        }
    }

    const fn is_login(&self) -> bool {
        matches!(self.kind, Kind::LoginSucceeded | Kind::LoginFailed)
    }

    /// The record to walk. It is signed again if it was well signed when it was walked: whoever signed it then, what
    /// counts is that the walk believed it.
    pub(super) fn to_record(&self, signing: &Signing) -> NewRecord {
        let mut record = to_record(&self.event());
        if self.kind.is_issuer() {
            if let Some(key) = &signing.ledger {
                sign_ledger(&mut record, key);
            }
        } else if self.proof != Proof::None {
            let signature = sign_record(DOOR_KEY_ID, &signing.door, &record.value);
            record.headers.push((SIGNATURE_HEADER.to_owned(), signature.into_bytes()));
        }
        record
    }
}

/// What signs again.
#[derive(Clone)]
pub(super) struct Signing {
    pub(super) door: hmac::Key,
    /// As the walk's own: without it no issuer's event is walked.
    pub(super) ledger: Option<std::sync::Arc<hmac::Key>>,
}

fn maybe(text: &str) -> Option<Text<'_>> {
    (!text.is_empty()).then_some(Text::Borrowed(text))
}

fn texts(texts: &[String]) -> Vec<Text<'_>> {
    texts.iter().map(|text| Text::Borrowed(text.as_str())).collect()
}

fn address(ip: Ipv6Addr, always: bool) -> Option<IpAddr> {
    (always || !ip.is_unspecified()).then(|| IpAddr::V6(ip).to_canonical())
}

fn confirmation<'r>(jkt: &'r str, x5t: &'r str) -> Option<Confirmation<'r>> {
    let cnf = Confirmation { jkt: maybe(jkt), x5t_s256: maybe(x5t) };
    (cnf != Confirmation::default()).then_some(cnf)
}

fn actors(json: &str) -> Vec<Actor<'_>> {
    #[derive(Deserialize)]
    struct Written {
        sub: String,
        iss: Option<String>,
        client_id: Option<String>,
    }
    let written: Vec<Written> = serde_json::from_str(json).unwrap_or_default();
    let actor = |Written { sub, iss, client_id }| Actor {
        sub: Text::Owned(sub),
        iss: iss.map(Text::Owned),
        client_id: client_id.map(Text::Owned),
    };
    written.into_iter().map(actor).collect()
}
