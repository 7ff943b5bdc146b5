//! Events that outlive their record's bytes.

use std::borrow::Cow;

use super::{Actor, ClaimedToken, Confirmation, Event, LedgerMark, Login, Request, Source, Text};

fn owned(text: Text<'_>) -> Text<'static> {
    Cow::Owned(text.into_owned())
}

fn maybe(text: Option<Text<'_>>) -> Option<Text<'static>> {
    text.map(owned)
}

fn all(texts: Vec<Text<'_>>) -> Vec<Text<'static>> {
    texts.into_iter().map(owned).collect()
}

impl Event<'_> {
    /// The same event, borrowing nothing.
    pub(crate) fn into_owned(self) -> Event<'static> {
        Event {
            version: self.version,
            id: self.id,
            kind: self.kind,
            time: self.time,
            claimed_time: self.claimed_time,
            tenant: owned(self.tenant),
            source: self.source.into_owned(),
            token: self.token.map(ClaimedToken::into_owned),
            request: self.request.map(Request::into_owned),
            gateway_verdict: self.gateway_verdict,
            grant: self.grant,
            login: self.login.map(Login::into_owned),
            retry: self.retry,
            heartbeat: self.heartbeat,
            ledger_mark: self.ledger_mark.map(LedgerMark::into_owned),
            extra: self.extra,
        }
    }
}

impl Source<'_> {
    fn into_owned(self) -> Source<'static> {
        Source {
            gateway: owned(self.gateway),
            zone: self.zone,
            region: maybe(self.region),
            epoch: maybe(self.epoch),
            seq: self.seq,
        }
    }
}

impl ClaimedToken<'_> {
    fn into_owned(self) -> ClaimedToken<'static> {
        ClaimedToken {
            token_ref: maybe(self.token_ref),
            jti_ref: maybe(self.jti_ref),
            outer_ref: maybe(self.outer_ref),
            iss: maybe(self.iss),
            sub: maybe(self.sub),
            subject_kind: self.subject_kind,
            tenant_id: maybe(self.tenant_id),
            aud: all(self.aud),
            client_id: maybe(self.client_id),
            scope: all(self.scope),
            iat: self.iat,
            nbf: self.nbf,
            exp: self.exp,
            alg: maybe(self.alg),
            kid: maybe(self.kid),
            typ: maybe(self.typ),
            sid: maybe(self.sid),
            auth_time: self.auth_time,
            acr: maybe(self.acr),
            amr: all(self.amr),
            family: maybe(self.family),
            generation: self.generation,
            act: self.act.into_iter().map(Actor::into_owned).collect(),
            parent_ref: maybe(self.parent_ref),
            origin_ref: maybe(self.origin_ref),
            txn: maybe(self.txn),
            cnf: self.cnf.map(Confirmation::into_owned),
        }
    }
}

impl Actor<'_> {
    fn into_owned(self) -> Actor<'static> {
        Actor { sub: owned(self.sub), iss: maybe(self.iss), client_id: maybe(self.client_id) }
    }
}

impl Confirmation<'_> {
    fn into_owned(self) -> Confirmation<'static> {
        Confirmation { jkt: maybe(self.jkt), x5t_s256: maybe(self.x5t_s256) }
    }
}

impl Request<'_> {
    fn into_owned(self) -> Request<'static> {
        Request {
            id: maybe(self.id),
            ip: self.ip,
            peer_ip: self.peer_ip,
            user_agent: maybe(self.user_agent),
            ja4: maybe(self.ja4),
            method: maybe(self.method),
            host: maybe(self.host),
            route: maybe(self.route),
            status: self.status,
            duration_ms: self.duration_ms,
            response_bytes: self.response_bytes,
            presented_cnf: self.presented_cnf.map(Confirmation::into_owned),
        }
    }
}

impl Login<'_> {
    fn into_owned(self) -> Login<'static> {
        Login { username: maybe(self.username), client_id: maybe(self.client_id), reason: maybe(self.reason) }
    }
}

impl LedgerMark<'_> {
    fn into_owned(self) -> LedgerMark<'static> {
        LedgerMark {
            instance: owned(self.instance),
            epoch: owned(self.epoch),
            complete_through: self.complete_through,
        }
    }
}
