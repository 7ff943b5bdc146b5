//! The ledger: everything that happens to a tenant's tokens, keys and accounts, as events on the one event topic.
//!
//! An event is durable before whoever caused it is answered, and those of one subject lie in the order in which their
//! causes were answered. Each is signed by the ledger key: the walk believes nobody else's word for an issuer's. No
//! token, handle, `jti` or password is in any of it: what a client sent is cleaned of tokens, and a name that nobody
//! has, which may be a password, is published as its HMAC.

use std::net::IpAddr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::control::{EntryKind, KeyId, KeyState, Username};
use super::master::MasterKey;
use crate::clock::{Clock, Random};
use crate::log::LogError;
use crate::model::{ClaimedToken, Event, Extra, Grant, Kind, Login, Request, Source, TenantId, Text, Zone};
use crate::pipeline::decode::{clean_text, sign_ledger, to_record};
use crate::spool::Intake;

/// EVENT's limits for texts of a client's.
const USER_AGENT_BYTES: usize = 512;
const TEXT_BYTES: usize = 2 * 1024;

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) ip: IpAddr,
    /// Who stood before us, if that is not the client itself.
    pub(crate) peer_ip: Option<IpAddr>,
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
}

/// A token that was made.
#[derive(Clone, Debug)]
pub(crate) struct Minted<'a> {
    /// Of the inner JWS ([`crate::token::token_ref`]).
    pub(crate) token_ref: &'a str,
    pub(crate) sub: &'a str,
    /// The rest of what it says.
    pub(crate) claims: ClaimedToken<'a>,
}

/// What somebody typed to log in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoginName<'a> {
    Known(&'a Username),
    /// Nobody is called so.
    Unknown(&'a str),
}

/// Why a login failed: told to the tenant's operators alone, never to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginFailure {
    UnknownUser,
    BadPassword,
    Disabled,
    /// Too many tries before: the password was not looked at.
    Delayed,
}

impl LoginFailure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::BadPassword => "bad_password",
            Self::Disabled => "disabled",
            Self::Delayed => "delayed",
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Happened<'a> {
    Issued {
        token: Minted<'a>,
        grant: Grant,
        caller: Caller<'a>,
    },
    /// `retry`: the same successor again, within the leeway.
    Refreshed {
        token: Minted<'a>,
        retry: bool,
        caller: Caller<'a>,
    },
    Exchanged {
        token: Minted<'a>,
        caller: Caller<'a>,
    },
    LoginSucceeded {
        username: &'a Username,
        client_id: &'a str,
        sub: &'a str,
        caller: Caller<'a>,
    },
    LoginFailed {
        username: LoginName<'a>,
        client_id: &'a str,
        failure: LoginFailure,
        caller: Caller<'a>,
    },
    /// `token` names what is revoked: `ref`, `family`, `sub`, `client_id`, `sid` or `kid`.
    Revoked {
        token: ClaimedToken<'a>,
        reason: &'a str,
        caller: Option<Caller<'a>>,
    },
    KeyStateChanged {
        kid: &'a KeyId,
        state: KeyState,
    },
    /// `by`: the administrator's key, by its name.
    AdminChanged {
        kind: EntryKind,
        name: &'a str,
        version: u64,
        by: &'a str,
    },
}

/// Writes what happened.
pub(crate) struct Ledger {
    intake: Intake,
    key: hmac::Key,
    login_names: hmac::Key,
    /// `source.gateway` of its events: this instance's name.
    instance: String,
    region: Option<String>,
    /// This start of the instance.
    epoch: String,
    clock: Clock,
}

impl Ledger {
    pub(crate) fn new(
        intake: Intake,
        master: &MasterKey,
        instance: String,
        region: Option<String>,
        clock: Clock,
    ) -> Self {
        let (key, login_names) = (master.ledger(), master.login_names());
        Self { intake, key, login_names, instance, region, epoch: Random::hex::<16>(), clock }
    }

    /// Writes what happened, in this order; it is durable when it returns. Answers the events' ids.
    ///
    /// # Errors
    /// Neither log nor spool takes it: then nothing may be answered as done. Some may have been written all the same.
    pub(crate) async fn write(
        &self,
        tenant: &TenantId,
        happened: &[Happened<'_>],
    ) -> Result<Vec<Uuid>, LogError> {
        let events: Vec<Event<'_>> = happened.iter().map(|happened| self.event(tenant, happened)).collect();
        let records = events.iter().map(|event| {
            let mut record = to_record(event);
            sign_ledger(&mut record, &self.key);
            record
        });
        self.intake.append(&events, records.collect(), self.clock.now()).await?;
        Ok(events.iter().map(|event| event.id).collect())
    }

    fn event<'a>(&'a self, tenant: &'a TenantId, happened: &Happened<'a>) -> Event<'a> {
        let event = |kind| Event {
            version: 1,
            id: self.clock.new_id(),
            kind,
            time: self.clock.now(),
            claimed_time: None,
            tenant: tenant.as_str().into(),
            source: Source {
                gateway: self.instance.as_str().into(),
                zone: Zone::Edge,
                region: self.region.as_deref().map(Text::from),
                epoch: Some(self.epoch.as_str().into()),
                seq: None,
            },
            token: None,
            request: None,
            gateway_verdict: None,
            grant: None,
            login: None,
            retry: false,
            heartbeat: None,
            ledger_mark: None,
            extra: None,
        };
        let minted = |kind, token: &Minted<'a>, grant, caller: &Caller<'a>| Event {
            token: Some(ClaimedToken {
                token_ref: Some(token.token_ref.into()),
                sub: Some(token.sub.into()),
                tenant_id: Some(tenant.as_str().into()),
                ..token.claims.clone()
            }),
            grant: Some(grant),
            request: Some(request(caller)),
            ..event(kind)
        };
        match happened {
            Happened::Issued { token, grant, caller } => minted(Kind::Issued, token, *grant, caller),
            Happened::Refreshed { token, retry, caller } => {
                Event { retry: *retry, ..minted(Kind::Refreshed, token, Grant::RefreshToken, caller) }
            }
            Happened::Exchanged { token, caller } => {
                minted(Kind::Exchanged, token, Grant::TokenExchange, caller)
            }
            Happened::LoginSucceeded { username, client_id, sub, caller } => Event {
                token: Some(ClaimedToken {
                    sub: Some((*sub).into()),
                    client_id: Some((*client_id).into()),
                    ..ClaimedToken::default()
                }),
                login: Some(Login {
                    username: Some(username.as_str().into()),
                    client_id: Some((*client_id).into()),
                    reason: None,
                }),
                request: Some(request(caller)),
                ..event(Kind::LoginSucceeded)
            },
            Happened::LoginFailed { username, client_id, failure, caller } => Event {
                login: Some(Login {
                    username: Some(self.login_name(tenant, *username)),
                    client_id: Some(clean_text(client_id, TEXT_BYTES)),
                    reason: Some(failure.as_str().into()),
                }),
                request: Some(request(caller)),
                ..event(Kind::LoginFailed)
            },
            Happened::Revoked { token, reason, caller } => Event {
                token: Some(token.clone()),
                request: caller.as_ref().map(request),
                extra: extra("reason", json!(clean_text(reason, TEXT_BYTES))),
                ..event(Kind::Revoked)
            },
            Happened::KeyStateChanged { kid, state } => Event {
                token: Some(ClaimedToken { kid: Some(kid.as_str().into()), ..ClaimedToken::default() }),
                extra: extra("key", json!({"state": state})),
                ..event(Kind::KeyStateChanged)
            },
            Happened::AdminChanged { kind, name, version, by } => Event {
                extra: extra("change", json!({"what": kind, "name": name, "version": version, "by": by})),
                ..event(Kind::AdminChanged)
            },
        }
    }

    /// `hmac:` and 43 characters where nobody is called so.
    fn login_name<'a>(&self, tenant: &TenantId, name: LoginName<'a>) -> Text<'a> {
        match name {
            LoginName::Known(username) => Text::Owned(username.as_str().to_owned()),
            LoginName::Unknown(name) => {
                let mut context = hmac::Context::with_key(&self.login_names);
                context.update(tenant.as_str().as_bytes());
                context.update(&[0]);
                context.update(name.as_bytes());
                Text::Owned(format!("hmac:{}", URL_SAFE_NO_PAD.encode(context.sign())))
            }
        }
    }
}

fn request<'a>(caller: &Caller<'a>) -> Request<'a> {
    Request {
        id: caller.request_id.map(|id| clean_text(id, TEXT_BYTES)),
        ip: Some(caller.ip),
        peer_ip: caller.peer_ip,
        user_agent: caller.user_agent.map(|agent| clean_text(agent, USER_AGENT_BYTES)),
        ..Request::default()
    }
}

fn extra(name: &str, value: Value) -> Option<Extra> {
    Some(Extra(std::iter::once((name.to_owned(), value)).collect()))
}

#[cfg(test)]
mod tests;
