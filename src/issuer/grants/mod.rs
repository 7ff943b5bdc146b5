//! Grants: who may have a token for whom, and the token. HTTP is the caller's matter.
//!
//! Each refusal is one of OAuth's own words (RFC 6749, section 5.2; RFC 8707, section 2); none says more than the client
//! may know. A token leaves only after its `issued` event is durable.

mod client;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::control::{Client, ClientId, Control, Epoch, EpochOf, Policy, Tenant, TenantStatus};
use super::keyring::{Keyring, KeyringError, TenantKeys};
use super::ledger::{Caller, Happened, Ledger, Minted};
use crate::clock::{Clock, Random};
use crate::log::LogError;
use crate::model::{ClaimedToken, Grant, SubjectKind, TenantId, Text, UnixMs};
use crate::token::{
    ACCESS_TOKEN_TYPE, Audiences, Claims, Expectation, IssueError, KeyError, Revocable, Scope, SigningInput,
    VerifiedToken, decide,
};

pub(crate) use client::Presented;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// One text for an unknown client, a wrong secret and a disabled client.
    #[error("the client is not known, or did not prove who it is")]
    InvalidClient,
    #[error("this client may not use this grant")]
    UnauthorizedClient,
    #[error("`grant_type` is `client_credentials`")]
    UnsupportedGrantType,
    #[error("the client may not have a scope that it asks for")]
    InvalidScope,
    #[error("the client may get no token for this `resource`")]
    InvalidTarget,
    #[error("the tenant is suspended")]
    Suspended,
    #[error("no key signs right now: {0}")]
    Keys(#[from] KeyringError),
    #[error("the token could not be written down: {0}")]
    Ledger(#[from] LogError),
    #[error("the token could not be made: {0}")]
    Issue(#[from] IssueError),
    #[error("the token could not be signed: {0}")]
    Sign(#[from] KeyError),
}

impl GrantError {
    /// OAuth's word for it.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient | Self::Suspended => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::Keys(_) | Self::Ledger(_) => "temporarily_unavailable",
            Self::Issue(_) | Self::Sign(_) => "server_error",
        }
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) grant_type: &'a str,
    pub(crate) resource: Option<&'a str>,
    pub(crate) scope: Option<&'a str>,
}

/// A token as it is answered.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) access_token: String,
    pub(crate) expires_in_s: i64,
    pub(crate) scope: String,
}

/// Issues and judges all tenants' tokens.
pub(crate) struct Grants {
    /// Before `/t/{tenant}`, without a slash at its end.
    base: String,
    control: Arc<Control>,
    keyring: Keyring,
    ledger: Arc<Ledger>,
    clock: Clock,
}

impl Grants {
    /// `base` is `ISSUER_BASE`: from the configuration, never from a request.
    pub(crate) fn new(
        base: &str,
        control: Arc<Control>,
        keyring: Keyring,
        ledger: Arc<Ledger>,
        clock: Clock,
    ) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), control, keyring, ledger, clock }
    }

    /// The tenant's `iss`.
    pub(crate) fn issuer(&self, tenant: &TenantId) -> String {
        format!("{}/t/{tenant}", self.base)
    }

    /// The tenant, unless there is none (any more).
    pub(crate) fn tenant(&self, tenant: &TenantId) -> Option<Arc<Tenant>> {
        let found = self.control.tenant(tenant.as_str())?;
        (found.entry.status != TenantStatus::Deleted).then_some(found.entry)
    }

    /// The tenant's JWK set.
    ///
    /// # Errors
    /// If the tenant's keys cannot be had.
    pub(crate) async fn jwks(
        &self,
        tenant: &TenantId,
        policy: &Policy,
    ) -> Result<serde_json::Value, KeyringError> {
        Ok(self.keyring.keys(tenant, policy).await?.jwks(self.clock.now()))
    }

    /// A token for the client that presents itself.
    ///
    /// # Errors
    /// The first thing that is wrong, the client's own identity before what it asks for.
    pub(crate) async fn token(
        &self,
        tenant: &TenantId,
        presented: &Presented<'_>,
        request: Request<'_>,
        caller: Caller<'_>,
    ) -> Result<Issued, GrantError> {
        let entry = self.standing(tenant)?;
        let (client_id, client) = self.authenticate(tenant, presented)?;
        if Grant::parse(request.grant_type) != Some(Grant::ClientCredentials) {
            return Err(GrantError::UnsupportedGrantType);
        }
        if !client.grants.contains(&Grant::ClientCredentials) {
            return Err(GrantError::UnauthorizedClient);
        }
        let audience = audience(&client, request.resource)?;
        let scope = scope(&client, request.scope)?;
        let keys = self.keyring.keys(tenant, &entry.policy).await?;
        let now = self.clock.now();
        let claims = Claims {
            iss: self.issuer(tenant),
            sub: client_id.to_string(),
            aud: vec![audience],
            client_id: client_id.to_string(),
            iat: now.get().div_euclid(1_000),
            nbf: None,
            exp: now.get().div_euclid(1_000) + i64::from(entry.policy.access_token_s),
            jti: URL_SAFE_NO_PAD.encode(Random::bytes::<16>()),
            scope,
            tenant_id: tenant.to_string(),
            auth_time: None,
            sid: None,
            generation: None,
            act: None,
            may_act: None,
            txn: None,
            org: None,
            cnf: None,
        };
        self.issue(tenant, &entry.policy, &keys, &claims, Grant::ClientCredentials, caller).await
    }

    /// Signs; the token is written down before anybody has it.
    async fn issue(
        &self,
        tenant: &TenantId,
        policy: &Policy,
        keys: &TenantKeys,
        claims: &Claims,
        grant: Grant,
        caller: Caller<'_>,
    ) -> Result<Issued, GrantError> {
        let signer = keys
            .signer(policy, self.clock.now())
            .ok_or_else(|| GrantError::Keys(KeyringError::Busy(tenant.clone())))?;
        let input = SigningInput::new(&signer.header, &claims.to_json());
        let (token_ref, signature) = (input.token_ref(), signer.key.sign(input.as_bytes())?);
        let access_token = input.append(&signature)?;
        let said = ClaimedToken {
            iss: Some(claims.iss.as_str().into()),
            subject_kind: Some(SubjectKind::Client),
            aud: claims.aud.iter().map(|aud| Text::from(aud.as_str())).collect(),
            client_id: Some(claims.client_id.as_str().into()),
            scope: claims.scope.iter().map(Text::from).collect(),
            iat: Some(claims.iat),
            exp: Some(claims.exp),
            alg: Some(signer.key.alg().as_str().into()),
            kid: Some(signer.key.kid().into()),
            typ: Some(ACCESS_TOKEN_TYPE.into()),
            ..ClaimedToken::default()
        };
        let token = Minted { token_ref: &token_ref, sub: &claims.sub, claims: said };
        self.ledger.write(tenant, &[Happened::Issued { token, grant, caller }]).await?;
        Ok(Issued { access_token, expires_in_s: claims.exp - claims.iat, scope: claims.scope.to_string() })
    }

    /// What a token is worth to the client that asks (RFC 7662): `None` unless the token is good and the client owns an
    /// audience of it.
    ///
    /// # Errors
    /// If the client is not who it says, or the keys cannot be had.
    pub(crate) async fn introspect(
        &self,
        tenant: &TenantId,
        presented: &Presented<'_>,
        token: &str,
    ) -> Result<Option<VerifiedToken>, GrantError> {
        let (_, client) = self.authenticate(tenant, presented)?;
        let Some(entry) = self.tenant(tenant) else { return Ok(None) };
        let keys = self.keyring.keys(tenant, &entry.policy).await?;
        let now = self.clock.now();
        let verified = self.decide(tenant, &entry, &keys, token, now);
        Ok(verified.filter(|token| token.claims().aud.iter().any(|aud| client.owns.contains(aud.as_str()))))
    }

    fn decide(
        &self,
        tenant: &TenantId,
        entry: &Tenant,
        keys: &TenantKeys,
        token: &str,
        now: UnixMs,
    ) -> Option<VerifiedToken> {
        let expectation = Expectation {
            issuer: &self.issuer(tenant),
            tenant: tenant.as_str(),
            is_ours: &|iss| self.is_ours(iss),
            key: &|kid| keys.verifying(kid, now),
            audiences: Audiences::Any(&[]),
            scopes: &[],
            presented: None,
            now,
            max_lifetime_s: i64::from(Policy::ACCESS_TOKEN_S_MAX),
            revoked: &|what| self.revoked(tenant, what),
            suspended: entry.status == TenantStatus::Suspended,
        };
        decide(token, &expectation).ok()
    }

    fn is_ours(&self, iss: &str) -> bool {
        let tenant = iss.strip_prefix(&self.base).and_then(|path| path.strip_prefix("/t/"));
        tenant.is_some_and(|tenant| self.control.tenant(tenant).is_some())
    }

    /// The line in time that the system of record draws for it.
    fn revoked(&self, tenant: &TenantId, what: Revocable<'_>) -> Option<UnixMs> {
        let of = match what {
            Revocable::Tenant => EpochOf::Tenant,
            Revocable::Client(client) => EpochOf::Client(client),
            Revocable::Kid(kid) => EpochOf::Kid(kid),
            Revocable::Subject(sub) => EpochOf::Subject(sub),
            Revocable::Ref(_) | Revocable::Sid(_) => return None,
        };
        Some(self.control.get::<Epoch>(tenant.as_str(), &of.name())?.entry.not_before)
    }

    fn standing(&self, tenant: &TenantId) -> Result<Arc<Tenant>, GrantError> {
        let entry = self.tenant(tenant).ok_or(GrantError::InvalidClient)?;
        if entry.status == TenantStatus::Suspended { Err(GrantError::Suspended) } else { Ok(entry) }
    }

    fn authenticate(
        &self,
        tenant: &TenantId,
        presented: &Presented<'_>,
    ) -> Result<(ClientId, Arc<Client>), GrantError> {
        let id = ClientId::parse(presented.id).map_err(|_| GrantError::InvalidClient)?;
        let found = self.control.get::<Client>(tenant.as_str(), id.as_str());
        let client = found.ok_or(GrantError::InvalidClient)?.entry;
        client::check(&client, presented)?;
        Ok((id, client))
    }
}

/// The one audience of the token: what is asked for if the client may, else the client's first.
fn audience(client: &Client, resource: Option<&str>) -> Result<String, GrantError> {
    let found = match resource {
        Some(resource) => client.audiences.iter().find(|audience| audience.as_str() == resource),
        None => client.audiences.first(),
    };
    found.map(ToString::to_string).ok_or(GrantError::InvalidTarget)
}

/// What is asked for, or all that the client may have.
fn scope(client: &Client, asked: Option<&str>) -> Result<Scope, GrantError> {
    let text = match asked {
        Some(asked) => asked.to_owned(),
        None => client.scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let scope = Scope::parse(&text).ok_or(GrantError::InvalidScope)?;
    if scope.iter().all(|token| client.scopes.contains(token)) {
        Ok(scope)
    } else {
        Err(GrantError::InvalidScope)
    }
}
