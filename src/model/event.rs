//! The event, version 1, as EVENT defines it. It borrows from the record's bytes where the JSON needs no unescaping.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;
use uuid::Uuid;

use super::verdict::words;
use super::{GatewayVerdict, PLATFORM_TENANT, UnixMs};

/// Text of an event: borrowed from the record wherever its JSON had nothing to unescape or to mask.
pub(crate) type Text<'a> = Cow<'a, str>;

words! {
    /// What happened.
    Kind {
        Accepted = "accepted",
        Rejected = "rejected",
        LoginSucceeded = "login_succeeded",
        LoginFailed = "login_failed",
        Issued = "issued",
        Refreshed = "refreshed",
        Exchanged = "exchanged",
        Revoked = "revoked",
        KeyStateChanged = "key_state_changed",
        AdminChanged = "admin_changed",
        LedgerMark = "ledger_mark",
        Heartbeat = "heartbeat",
    }
}

impl Kind {
    /// Issuer kinds count only with the ledger key's signature (ISSUER, "Who may write it").
    pub(crate) const fn is_issuer(self) -> bool {
        !matches!(self, Self::Accepted | Self::Rejected | Self::Heartbeat)
    }

    /// Kinds that mint a token.
    pub(crate) const fn mints(self) -> bool {
        matches!(self, Self::Issued | Self::Refreshed | Self::Exchanged)
    }

    /// Kinds that leave no row: they steer the walk (PROMISE: stored + dropped + dead-lettered + forwarded + control).
    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Heartbeat | Self::LedgerMark)
    }
}

words! {
    /// Where in the network the source stands.
    Zone {
        /// Clients connect here.
        Edge = "edge",
        /// Services relay tokens here.
        Internal = "internal",
    }
}

words! {
    /// Who a token's subject is.
    SubjectKind { User = "user", Client = "client", }
}

words! {
    /// How a token was obtained.
    Grant {
        Login = "login",
        ClientCredentials = "client_credentials",
        RefreshToken = "refresh_token",
        TokenExchange = "token_exchange",
    }
}

/// One event. Serialises as the canonical JSON of version 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Event<'a> {
    pub(crate) version: u8,
    pub(crate) id: Uuid,
    pub(crate) kind: Kind,
    /// When it happened, at the source. `decode` clamps what is out of bounds and keeps the claim in `claimed_time`.
    pub(crate) time: UnixMs,
    /// What the source said, where `time` was clamped to `received_at`.
    #[serde(skip)]
    pub(crate) claimed_time: Option<UnixMs>,
    pub(crate) tenant: Text<'a>,
    pub(crate) source: Source<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<ClaimedToken<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Request<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway_verdict: Option<GatewayVerdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<Grant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<Login<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) retry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heartbeat: Option<Heartbeat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ledger_mark: Option<LedgerMark<'a>>,
    /// Unknown members as one JSON object, masked; `None` if there were none.
    #[serde(flatten, serialize_with = "Extra::flatten", skip_serializing_if = "Option::is_none")]
    pub(crate) extra: Option<Extra>,
}

impl<'a> Event<'a> {
    /// The subject, where somebody vouches for it: the gateway verified the signature, or we minted the token.
    pub(crate) fn vouched_subject(&self) -> Option<&str> {
        let vouched =
            self.kind.mints() || self.gateway_verdict.is_some_and(GatewayVerdict::signature_verified);
        if vouched { self.token.as_ref()?.sub.as_deref() } else { None }
    }

    /// Whether this tenant name is the reserved one.
    pub(crate) fn is_platform(&self) -> bool {
        self.tenant == PLATFORM_TENANT
    }
}

/// Unknown members of an event, kept as the JSON object they were, masked.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Extra(pub(crate) serde_json::Map<String, serde_json::Value>);

impl Extra {
    fn flatten<S: serde::Serializer>(extra: &Option<Self>, serializer: S) -> Result<S::Ok, S::Error> {
        match extra {
            Some(Self(members)) => members.serialize(serializer),
            None => serde_json::Map::new().serialize(serializer),
        }
    }
}

/// Who saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Source<'a> {
    pub(crate) gateway: Text<'a>,
    pub(crate) zone: Zone,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<Text<'a>>,
    /// One start of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<Text<'a>>,
    /// Counts up within the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
}

/// What the source says of the token. Nobody has proved any of it by being here.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct ClaimedToken<'a> {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub(crate) token_ref: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jti_ref: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outer_ref: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iss: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sub: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject_kind: Option<SubjectKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant_id: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) aud: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) scope: Vec<Text<'a>>,
    /// NumericDates: seconds since the epoch (RFC 7519, section 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alg: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) typ: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) acr: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) amr: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    /// Outermost first: the current actor, …, the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) act: Vec<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent_ref: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin_ref: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) txn: Option<Text<'a>>,
    /// The key that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cnf: Option<Confirmation<'a>>,
}

/// One actor of a delegation chain (RFC 8693, section 4.1).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Actor<'a> {
    pub(crate) sub: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iss: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<Text<'a>>,
}

/// A key's thumbprint (RFC 7800; `jkt` RFC 9449, `x5t#S256` RFC 8705).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Confirmation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jkt: Option<Text<'a>>,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    pub(crate) x5t_s256: Option<Text<'a>>,
}

/// The request that carried the token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_agent: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ja4: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_bytes: Option<u64>,
    /// The key that the client showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presented_cnf: Option<Confirmation<'a>>,
}

/// An attempt to log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Login<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Text<'a>>,
}

/// What a source says of itself every 30 s; the counts are within its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Heartbeat {
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) closing: bool,
    /// What the door refused of a gateway: it was seen, though it is no event. Of the door's own heartbeats alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<u64>,
}

/// "All my issue events up to `complete_through` are in this log" (ISSUER, "Marks").
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LedgerMark<'a> {
    pub(crate) instance: Text<'a>,
    pub(crate) epoch: Text<'a>,
    pub(crate) complete_through: UnixMs,
}

words! {
    /// What the walk noted about an event: the words of the column `flags`.
    Flag {
        /// `time` was out of bounds and is `received_at`; the claim is in `claimed_time`.
        ClockSkewed = "clock_skewed",
        /// A token-shaped substring was replaced by its ref.
        Masked = "masked",
        /// Accepted although the gateway's own verdict is a refusal.
        VerdictConflict = "verdict_conflict",
        /// Older than stream time − 24 h: takes no part in rules with state.
        Late = "late",
        /// A client's text was longer than may be, and its end is gone.
        Cut = "cut",
        /// Walked here although another partition is its home (over two hops).
        Displaced = "displaced",
    }
}

/// A set of [`Flag`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u32);

impl Flags {
    pub(crate) const fn set(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u32;
    }

    pub(crate) const fn has(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u32) != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.iter().copied().filter(move |flag| self.has(*flag))
    }
}

/// A token-shaped substring that `decode` (or the door) masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leak {
    /// Where: a JSON pointer, `header:NAME`, or `key`. Itself free of tokens.
    pub(crate) field: String,
    pub(crate) owner: LeakOwner,
    /// The masked token's ref, as in its place in the text.
    pub(crate) token_ref: String,
}

/// Who put the token there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeakOwner {
    /// A client's field, or a claim of an unverified token: `token_in_request`.
    Client,
    /// `token.*` of a verified token: `token_leak`, high.
    Token,
    /// Another field of the gateway's: `token_leak`.
    Gateway,
}
