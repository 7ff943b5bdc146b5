//! The store of a region: Redis 7, single or Cluster. Each decision is one script on Redis' own time, over keys of one slot.
//!
//! A call whose connection is cut may have been made or not: that is `Unavailable`, and asking again gives the answer that
//! was lost. Values there are derived copies, or sealed by who wrote them; no secret is among them.

mod connection;
mod reply;
mod script;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::family::{Family, FamilyId, Refreshed, Revoked, SubjectTag};
use super::pace::{Login, Pace, hex, ms};
use super::{REMEMBERED, REVOCATIONS_MAX, Revocations, Store, StoreError};
use crate::clock::Random;
use crate::config::RedisConfig;
use crate::issuer::control::{Advance, Arbiter, ArbiterError};
use crate::model::{TenantId, UnixMs};
use connection::{Connection, failed};
use reply::Reply;
use script::Script;

/// See the module.
pub(crate) struct Redis {
    connection: Connection,
}

/// A script's answer of another shape than its script gives.
fn odd(doing: &'static str) -> StoreError {
    StoreError::Broken { doing, cause: "Redis gave an answer that no script of ours gives".to_owned() }
}

/// Names one call, so that it is made once however often it is sent.
fn new_call() -> String {
    Random::hex::<8>()
}

/// A subject's slot: `{tenant:tag}` alone decides it.
fn subject_key(tenant: &TenantId, tag: SubjectTag) -> String {
    format!("jwtrail:{{{tenant}:{}}}:s", tag.text())
}

fn family_keys(id: &FamilyId) -> [String; 2] {
    let family = format!("jwtrail:{{{}:{}}}:f:{}", id.tenant, id.tag.text(), hex(&id.random));
    [family, subject_key(&id.tenant, id.tag)]
}

fn entry_key(key: &str) -> String {
    format!("jwtrail:c:{key}")
}

fn login_key(login: &Login) -> String {
    format!("jwtrail:l:{}", login.key())
}

fn revocation_keys() -> [String; 2] {
    ["order", "until"].map(|by| format!("jwtrail:{{revoked}}:{by}"))
}

impl Redis {
    /// Connects, and checks that Redis may be relied on.
    pub(crate) async fn connect(config: &RedisConfig) -> Result<Arc<Self>, StoreError> {
        let connection = Connection::open(config).await?;
        connection.check().await?;
        Ok(Arc::new(Self { connection }))
    }

    async fn run(
        &self,
        doing: &'static str,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Reply, StoreError> {
        let answer = self.connection.run(script, keys, args).await;
        answer.map(Reply::of).map_err(|error| failed(doing, &error))
    }
}

#[async_trait]
impl Arbiter for Redis {
    async fn advance(&self, key: &str, from: u64, value: &[u8]) -> Result<Advance, ArbiterError> {
        const DOING: &str = "writing an entry";
        let args = [from.to_string().as_bytes(), value].map(<[u8]>::to_vec);
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let reply = self.run(DOING, &script::ADVANCE, &[entry_key(key)], &args).await?;
        match (reply.number(0), reply.number(1), reply.bytes(2)) {
            (Some(1), Some(version), _) => Ok(Advance::Done(version)),
            (Some(0), Some(version), Some(value)) => {
                Ok(Advance::Conflict { version, value: value.to_owned() })
            }
            _ => Err(odd(DOING).into()),
        }
    }

    async fn current(&self, key: &str) -> Result<Option<(u64, Vec<u8>)>, ArbiterError> {
        const DOING: &str = "reading an entry";
        let mut command = redis::cmd("HMGET");
        command.arg(entry_key(key)).arg(&["version", "value"]);
        let answer = self.connection.send(&command).await.map_err(|error| failed(DOING, &error))?;
        let reply = Reply::of(answer);
        Ok(reply.number(0).zip(reply.bytes(1).map(<[u8]>::to_vec)))
    }
}

#[async_trait]
impl Store for Redis {
    async fn begin(&self, id: &FamilyId, family: &Family) -> Result<(), StoreError> {
        const DOING: &str = "beginning a refresh family";
        let args = [
            new_call().into_bytes(),
            family.client.clone().into_bytes(),
            ms(family.idle).to_string().into_bytes(),
            family.absolute_until.get().to_string().into_bytes(),
            family.encode(),
            ms(REMEMBERED).to_string().into_bytes(),
        ];
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        match self.run(DOING, &script::BEGIN, &family_keys(id), &args).await?.number(0) {
            Some(1) => Ok(()),
            Some(_) => {
                Err(StoreError::Broken { doing: DOING, cause: "there is one of this name".to_owned() })
            }
            None => Err(odd(DOING)),
        }
    }

    async fn refresh(
        &self,
        id: &FamilyId,
        generation: u64,
        client: &str,
        leeway: Duration,
    ) -> Result<Refreshed, StoreError> {
        const DOING: &str = "refreshing";
        let (call, generation) = (new_call(), generation.to_string());
        let (leeway, remembered) = (ms(leeway).to_string(), ms(REMEMBERED).to_string());
        let args = [&call, &generation, client, &leeway, &remembered].map(str::as_bytes);
        let reply = self.run(DOING, &script::REFRESH, &family_keys(id), &args).await?;
        let what = reply.text(0).ok_or_else(|| odd(DOING))?;
        match what {
            "unknown" => return Ok(Refreshed::Unknown),
            "wrong_client" => return Ok(Refreshed::WrongClient),
            "revoked" => return Ok(Refreshed::Revoked),
            "expired" => return Ok(Refreshed::Expired),
            _ => {}
        }
        let (Some(generation), Some(body)) = (reply.number(1), reply.bytes(2)) else {
            return Err(odd(DOING));
        };
        let family = Family::decode(body).map_err(|cause| StoreError::Broken { doing: DOING, cause })?;
        match what {
            "advanced" => Ok(Refreshed::Advanced { generation, family }),
            "again" => Ok(Refreshed::Again { generation, family }),
            "reused" => Ok(Refreshed::Reused { family }),
            "ahead" => Ok(Refreshed::Ahead { family }),
            _ => Err(odd(DOING)),
        }
    }

    async fn revoke_family(&self, id: &FamilyId, client: Option<&str>) -> Result<Revoked, StoreError> {
        const DOING: &str = "revoking a refresh family";
        // No client is called nothing.
        let args = [&new_call(), client.unwrap_or_default()].map(str::as_bytes).map(<[u8]>::to_vec);
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let reply = self.run(DOING, &script::REVOKE_FAMILY, &family_keys(id), &args).await?;
        match (reply.text(0), reply.bytes(1)) {
            (Some("now"), Some(body)) => Family::decode(body)
                .map(Revoked::Now)
                .map_err(|cause| StoreError::Broken { doing: DOING, cause }),
            (Some("before"), _) => Ok(Revoked::Before),
            (Some("unknown"), _) => Ok(Revoked::Unknown),
            (Some("wrong_client"), _) => Ok(Revoked::WrongClient),
            _ => Err(odd(DOING)),
        }
    }

    async fn revoke_subject(&self, tenant: &TenantId, tag: SubjectTag) -> Result<bool, StoreError> {
        const DOING: &str = "revoking a subject";
        let reply = self.run(DOING, &script::REVOKE_SUBJECT, &[subject_key(tenant, tag)], &[]).await?;
        reply.number(0).map(|had| had == 1).ok_or_else(|| odd(DOING))
    }

    async fn first_use(
        &self,
        tenant: &TenantId,
        digest: &[u8; 32],
        until: UnixMs,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "looking for a first use";
        let (call, until) = (new_call(), until.get().max(0).to_string());
        let key = format!("jwtrail:j:{tenant}:{}", hex(digest));
        let args = [call.as_bytes(), until.as_bytes()];
        let reply = self.run(DOING, &script::FIRST_USE, &[key], &args).await?;
        reply.number(0).map(|first| first == 1).ok_or_else(|| odd(DOING))
    }

    async fn try_login(&self, login: &Login, pace: Pace) -> Result<Duration, StoreError> {
        const DOING: &str = "counting a login";
        let numbers = [u64::from(pace.free), ms(pace.first), ms(pace.longest), ms(pace.forget)];
        let args = numbers.map(|number| number.to_string().into_bytes());
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let reply = self.run(DOING, &script::TRY_LOGIN, &[login_key(login)], &args).await?;
        reply.number(0).map(Duration::from_millis).ok_or_else(|| odd(DOING))
    }

    async fn login_succeeded(&self, login: &Login) -> Result<(), StoreError> {
        let what: &[u8] = if login.is_user() { b"all" } else { b"one" };
        let keys = [login_key(login)];
        self.run("forgiving logins", &script::LOGIN_SUCCEEDED, &keys, &[what]).await.map(|_| ())
    }

    async fn revoke(&self, entry: &str, until: UnixMs) -> Result<(), StoreError> {
        let until = until.get().max(0).to_string();
        let args = [entry.as_bytes(), until.as_bytes()];
        self.run("keeping a revocation", &script::REVOKE, &revocation_keys(), &args).await.map(|_| ())
    }

    async fn revoked_since(&self, cursor: u64) -> Result<Revocations, StoreError> {
        const DOING: &str = "reading revocations";
        let (cursor, most) = (cursor.to_string(), REVOCATIONS_MAX.to_string());
        let args = [cursor.as_bytes(), most.as_bytes()];
        let reply = self.run(DOING, &script::REVOKED_SINCE, &revocation_keys(), &args).await?;
        let entry = |at: usize| {
            let until = UnixMs::new(i64::try_from(reply.number(at + 1)?).ok()?);
            Some((reply.text(at)?.to_owned(), until))
        };
        let entries: Option<Vec<_>> = (1..reply.len()).step_by(2).map(entry).collect();
        let page = reply.number(0).zip(entries);
        page.map(|(cursor, entries)| Revocations { entries, cursor }).ok_or_else(|| odd(DOING))
    }

    async fn public_keys(&self, iss: &str) -> Result<Option<Vec<u8>>, StoreError> {
        const DOING: &str = "reading a key set";
        let mut command = redis::cmd("GET");
        command.arg(format!("jwtrail:k:{iss}"));
        let answer = self.connection.send(&command).await.map_err(|error| failed(DOING, &error))?;
        Ok(Reply::of(answer).bytes(0).map(<[u8]>::to_vec))
    }

    async fn cache_public_keys(&self, iss: &str, jwks: &[u8], ttl: Duration) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(format!("jwtrail:k:{iss}")).arg(jwks).arg("PX").arg(ms(ttl).max(1));
        let kept = self.connection.send(&command).await;
        kept.map(|_| ()).map_err(|error| failed("keeping a key set", &error))
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.connection.check().await
    }
}
