//! What our tokens claim (ISSUER, "Tokens"; RFC 9068, RFC 8693): read strictly, written in one form.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::fault::{Fault, Part};
use super::strict;

/// Bytes a claim's text may have: what an event may carry (EVENT, "Limits").
const MAX_TEXT_BYTES: usize = 2 * 1024;
/// Audiences a token may have that is read; ours have one.
const MAX_AUDIENCES: usize = 16;
/// Actors a token may name.
pub(crate) const MAX_ACTORS: usize = 8;

/// The claims of an access token. Times are NumericDates: seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Claims {
    /// One string, compared exactly.
    pub(crate) iss: String,
    pub(crate) sub: String,
    /// One or more; written as one string where it is one.
    #[serde(serialize_with = "one_or_many")]
    pub(crate) aud: Vec<String>,
    pub(crate) client_id: String,
    pub(crate) iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<i64>,
    pub(crate) exp: i64,
    pub(crate) jti: String,
    pub(crate) scope: Scope,
    pub(crate) tenant_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<String>,
    /// The generation of the refresh family that it came from.
    #[serde(skip_serializing_if = "Option::is_none", rename = "gen")]
    pub(crate) generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) act: Option<Actor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) may_act: Option<MayAct>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) txn: Option<String>,
    /// The ref of the token at the beginning of a delegation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) org: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cnf: Option<Confirmation>,
}

/// Who acts, around whoever acted before (RFC 8693, section 4.1): the outermost is the current actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Actor {
    pub(crate) sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) act: Option<Box<Actor>>,
}

/// Who may act (RFC 8693, section 4.4). A member that is not one of these would be a condition that nobody checks: such a
/// claim cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MayAct {
    pub(crate) sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
}

/// What a token is bound to (RFC 7800): a DPoP key's thumbprint (RFC 9449) or a certificate's (RFC 8705).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Confirmation {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jkt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "x5t#S256")]
    pub(crate) x5t_s256: Option<String>,
}

/// Scope tokens (RFC 6749, section 3.3), each once, in their order. May be none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope(Vec<String>);

impl Claims {
    /// Reads a JSON object; claims that we do not know are passed over.
    ///
    /// # Errors
    /// The first fault, by the claim's name.
    pub(super) fn read(json: &[u8]) -> Result<Self, Fault> {
        let members = strict::object(json).map_err(|fault| Fault::NotAnObject(Part::Claims, fault))?;
        let claims = Members(&members);
        Ok(Self {
            iss: claims.needed("iss", Members::text)?,
            sub: claims.needed("sub", Members::text)?,
            aud: claims.needed("aud", Members::audience)?,
            client_id: claims.needed("client_id", Members::text)?,
            iat: claims.needed("iat", Members::seconds)?,
            nbf: claims.maybe("nbf", Members::seconds)?,
            exp: claims.needed("exp", Members::seconds)?,
            jti: claims.needed("jti", Members::text)?,
            scope: claims.needed("scope", Members::scope)?,
            tenant_id: claims.needed("tenant_id", Members::text)?,
            auth_time: claims.maybe("auth_time", Members::seconds)?,
            sid: claims.maybe("sid", Members::text)?,
            generation: claims.maybe("gen", Value::as_u64)?,
            act: claims.maybe("act", |act| Members::actor(act, MAX_ACTORS))?,
            may_act: claims.maybe("may_act", Members::may_act)?,
            txn: claims.maybe("txn", Members::text)?,
            org: claims.maybe("org", |org| Members::text(org).filter(|org| super::is_ref(org)))?,
            cnf: claims.maybe("cnf", Members::confirmation)?,
        })
    }

    /// As JSON, to be signed.
    ///
    /// # Panics
    /// Never: these types have a JSON form for every value.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "texts, numbers and lists alone, none of them a map's key")]
        serde_json::to_vec(self).expect("claims have a JSON form")
    }

    /// The actors, the current one first.
    pub(crate) fn actors(&self) -> impl Iterator<Item = &Actor> {
        std::iter::successors(self.act.as_ref(), |actor| actor.act.as_deref())
    }
}

/// Reads members by what they may be.
struct Members<'m>(&'m Map<String, Value>);

impl Members<'_> {
    fn maybe<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        self.0.get(name).map(|value| read(value).ok_or(Fault::BadClaim(name))).transpose()
    }

    fn needed<T>(&self, name: &'static str, read: impl FnOnce(&Value) -> Option<T>) -> Result<T, Fault> {
        self.maybe(name, read)?.ok_or(Fault::NoClaim(name))
    }

    /// Neither empty nor longer than an event's text may be, and without control characters.
    fn text(value: &Value) -> Option<String> {
        let text = value.as_str()?;
        let plain = !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control);
        plain.then(|| text.to_owned())
    }

    /// A whole number of seconds, not before 1970 and within what milliseconds in 64 bits can say.
    fn seconds(value: &Value) -> Option<i64> {
        value.as_i64().filter(|seconds| (0..=i64::MAX / 1000).contains(seconds))
    }

    fn audience(value: &Value) -> Option<Vec<String>> {
        match value {
            Value::Array(list) if (1..=MAX_AUDIENCES).contains(&list.len()) => {
                list.iter().map(Self::text).collect()
            }
            value => Some(vec![Self::text(value)?]),
        }
    }

    fn scope(value: &Value) -> Option<Scope> {
        Scope::parse(value.as_str().filter(|text| text.len() <= MAX_TEXT_BYTES)?)
    }

    fn actor(value: &Value, most: usize) -> Option<Actor> {
        let members = Self::of(value, &["sub", "iss", "client_id", "act"])?;
        let deeper = most.checked_sub(1)?;
        Some(Actor {
            sub: Self::text(members.0.get("sub")?)?,
            iss: members.maybe("iss", Self::text).ok()?,
            client_id: members.maybe("client_id", Self::text).ok()?,
            act: members.maybe("act", |act| Self::actor(act, deeper)).ok()?.map(Box::new),
        })
    }

    fn may_act(value: &Value) -> Option<MayAct> {
        let members = Self::of(value, &["sub", "iss", "client_id"])?;
        Some(MayAct {
            sub: Self::text(members.0.get("sub")?)?,
            iss: members.maybe("iss", Self::text).ok()?,
            client_id: members.maybe("client_id", Self::text).ok()?,
        })
    }

    /// At least one binding, and none that we do not check.
    fn confirmation(value: &Value) -> Option<Confirmation> {
        let members = Self::of(value, &["jkt", "x5t#S256"])?;
        let thumbprint = |value: &Value| Self::text(value).filter(|text| super::is_ref(text));
        let cnf = Confirmation {
            jkt: members.maybe("jkt", thumbprint).ok()?,
            x5t_s256: members.maybe("x5t#S256", thumbprint).ok()?,
        };
        (cnf != Confirmation::default()).then_some(cnf)
    }

    /// An object that has no other members than these.
    fn of<'v>(value: &'v Value, known: &[&str]) -> Option<Members<'v>> {
        let members = value.as_object()?;
        members.keys().all(|name| known.contains(&name.as_str())).then_some(Members(members))
    }
}

impl Scope {
    /// `None` unless it is tokens of RFC 6749's characters with one space between, or nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let plain = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let mut tokens: Vec<String> = Vec::new();
        for token in text.split(' ') {
            if token.is_empty() || !token.bytes().all(plain) {
                return None;
            }
            if !tokens.iter().any(|known| known == token) {
                tokens.push(token.to_owned());
            }
        }
        Some(Self(tokens))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, token: &str) -> bool {
        self.iter().any(|known| known == token)
    }

    /// What stands in both, in this one's order.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self(self.iter().filter(|token| other.contains(token)).map(str::to_owned).collect())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn one_or_many<S: serde::Serializer>(audiences: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match audiences {
        [one] => one.serialize(serializer),
        many => many.serialize(serializer),
    }
}

#[cfg(test)]
mod tests;
