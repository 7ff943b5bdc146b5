//! Who there is: tenants and their policy, clients, users, gateways, and those who administer them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    AudienceName, Invalid, IssueAlg, PasswordHash, SECRETS_MAX, ScopeName, SecretHash, StoredSecret, Subject,
};
use crate::model::{Grant, TenantId, UnixMs, Zone, words};

words! {
    /// Whether a tenant's tokens are issued and believed.
    TenantStatus {
        Active = "active",
        /// Nothing is issued and nothing verifies (`tenant_suspended`); its JWKS stays.
        Suspended = "suspended",
        /// For ever: nobody else can take the name.
        Deleted = "deleted",
    }
}

/// A tenant: an issuer of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tenant {
    pub(crate) status: TenantStatus,
    #[serde(default)]
    pub(crate) policy: Policy,
    pub(crate) created_at: UnixMs,
}

/// What a tenant decides about its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Policy {
    /// Seconds that an access token lives: 60 to 3,600.
    pub(crate) access_token_s: u32,
    /// The algorithms of its keys; the first signs. Not empty, none twice.
    pub(crate) algs: Vec<IssueAlg>,
    /// Seconds in which the last refresh handle still gives the same successor: 0 to 60.
    pub(crate) refresh_leeway_s: u32,
    /// Seconds without a refresh after which a family ends, and how long it lives at most.
    pub(crate) refresh_idle_s: u32,
    pub(crate) refresh_absolute_s: u32,
}

impl Policy {
    /// No tenant's access tokens live longer (ISSUER).
    pub(crate) const ACCESS_TOKEN_S_MAX: u32 = 3_600;
}

impl Default for Policy {
    fn default() -> Self {
        const DAY_S: u32 = 24 * 60 * 60;
        Self {
            access_token_s: 600,
            algs: vec![IssueAlg::Es256],
            refresh_leeway_s: 10,
            refresh_idle_s: 14 * DAY_S,
            refresh_absolute_s: 90 * DAY_S,
        }
    }
}

impl Tenant {
    pub(crate) fn new(created_at: UnixMs) -> Self {
        Self { status: TenantStatus::Active, policy: Policy::default(), created_at }
    }

    pub(super) fn check_policy(&self) -> Result<(), Invalid> {
        let Policy { access_token_s, algs, refresh_leeway_s, refresh_idle_s, refresh_absolute_s } =
            &self.policy;
        let distinct: BTreeSet<_> = algs.iter().collect();
        let rules = [
            (
                (60..=Policy::ACCESS_TOKEN_S_MAX).contains(access_token_s),
                "policy.access_token_s",
                "is 60 to 3600 seconds",
            ),
            (
                !algs.is_empty() && distinct.len() == algs.len(),
                "policy.algs",
                "names each algorithm once, one at least",
            ),
            (*refresh_leeway_s <= 60, "policy.refresh_leeway_s", "is 0 to 60 seconds"),
            (*refresh_idle_s >= 60, "policy.refresh_idle_s", "is 60 seconds or more"),
            (
                refresh_absolute_s >= refresh_idle_s,
                "policy.refresh_absolute_s",
                "is not below `refresh_idle_s`",
            ),
        ];
        first_broken(rules)
    }
}

words! {
    /// Whether a client can keep a secret (RFC 6749, section 2.1).
    ClientKind { Confidential = "confidential", Public = "public", }
}

/// A client. Its key's name is its `client_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) kind: ClientKind,
    /// At most two; a public client has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<StoredSecret>,
    /// Public keys for `private_key_jwt`, each a JWK: it may have these besides secrets, or instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) jwks: Vec<serde_json::Value>,
    #[serde(default)]
    pub(crate) grants: BTreeSet<Grant>,
    /// Whom it may get tokens for; the first is meant where it names none.
    #[serde(default)]
    pub(crate) audiences: Vec<AudienceName>,
    /// The audiences that are its own: it may introspect what is for them, and exchange it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) owns: BTreeSet<AudienceName>,
    /// What it may ask for; all of it where it asks for none.
    #[serde(default)]
    pub(crate) scopes: BTreeSet<ScopeName>,
    #[serde(default)]
    pub(crate) disabled: bool,
    pub(crate) created_at: UnixMs,
}

/// So many keys a client may register.
pub(crate) const CLIENT_KEYS_MAX: usize = 8;

impl Client {
    pub(super) fn check_client(&self) -> Result<(), Invalid> {
        let keeps_secrets = self.kind == ClientKind::Confidential;
        let distinct: BTreeSet<_> = self.audiences.iter().collect();
        first_broken([
            (self.secrets.len() <= SECRETS_MAX, "secrets", "are two at most: retire one first"),
            (keeps_secrets || self.secrets.is_empty(), "secrets", "are not for a public client"),
            (self.jwks.len() <= CLIENT_KEYS_MAX, "jwks", "are 8 keys at most"),
            (keeps_secrets || self.jwks.is_empty(), "jwks", "are not for a public client"),
            (
                keeps_secrets || !self.grants.contains(&Grant::ClientCredentials),
                "grants",
                "cannot hold `client_credentials` for a public client",
            ),
            (
                keeps_secrets || !self.grants.contains(&Grant::TokenExchange),
                "grants",
                "cannot hold `token_exchange` for a public client",
            ),
            (distinct.len() == self.audiences.len(), "audiences", "names one twice"),
        ])
    }
}

/// A user. Its key's name is what it types to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) password: PasswordHash,
    pub(crate) subject: Subject,
    #[serde(default)]
    pub(crate) disabled: bool,
    pub(crate) created_at: UnixMs,
}

impl User {
    /// Its members' types say all.
    pub(super) const fn check_user(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// A gateway that asks us to verify tokens: what it may ask is fixed here, never by its request. The platform's, for it
/// may serve several tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gateway {
    pub(crate) zone: Zone,
    /// At least one.
    pub(crate) tenants: BTreeSet<TenantId>,
    /// Of its API keys; at most two.
    #[serde(default)]
    pub(crate) keys: Vec<StoredSecret>,
    /// What `aud` has to be; `None` lets any through.
    #[serde(default)]
    pub(crate) audience: Option<AudienceName>,
    /// All of these a token must have.
    #[serde(default)]
    pub(crate) scopes: BTreeSet<ScopeName>,
    #[serde(default)]
    pub(crate) disabled: bool,
    pub(crate) created_at: UnixMs,
}

impl Gateway {
    pub(super) fn check_gateway(&self) -> Result<(), Invalid> {
        first_broken([
            (!self.tenants.is_empty(), "tenants", "names at least one"),
            (self.keys.len() <= SECRETS_MAX, "keys", "are two at most: retire one first"),
        ])
    }
}

/// What an administrator's key opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Everything.
    Platform,
    /// What belongs to this tenant.
    Tenant(TenantId),
}

/// A named key to the admin API. The platform's, whatever its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdminKey {
    pub(crate) sha256: SecretHash,
    pub(crate) role: Role,
    /// From then on it opens nothing.
    pub(crate) expires_at: UnixMs,
    pub(crate) created_at: UnixMs,
}

impl AdminKey {
    pub(super) fn check_admin_key(&self) -> Result<(), Invalid> {
        first_broken([(self.expires_at > self.created_at, "expires_at", "is after `created_at`")])
    }
}

/// The first rule that does not hold.
pub(super) fn first_broken(
    rules: impl IntoIterator<Item = (bool, &'static str, &'static str)>,
) -> Result<(), Invalid> {
    match rules.into_iter().find(|(holds, ..)| !holds) {
        Some((_, field, cause)) => Err(Invalid::new(field, cause)),
        None => Ok(()),
    }
}
