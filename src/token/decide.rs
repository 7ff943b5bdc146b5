//! The one decision over an access token of ours: behind verify, introspect, exchange, gateway authorization.
//!
//! Its answer is the first fault in the order of [`Fault`]'s verdicts: what can be told without a key, then the key, then
//! the signature, and only then what the claims are worth. Nothing that a token says is believed before its signature
//! held, but to refuse it.

use zeroize::Zeroizing;

use super::claims::{Claims, Confirmation};
use super::fault::Fault;
use super::jwe::{ClaimedJwe, DecryptionKey};
use super::jws::{ClaimedJws, Typ};
use super::keys::VerifyingKey;
use super::{ACCESS_TOKEN_TYPE, SigningAlg};
use crate::model::{UnixMs, words};

/// How far the clocks of issuer and verifier may be apart: for `nbf` and `iat`; `exp` has none (ISSUER, "Tokens").
pub(crate) const SKEW_MS: i64 = 30_000;

words! {
    /// What a signing key is at one time (ISSUER, "Keys"). From top to bottom; `revoked` is reached from everywhere.
    KeyState {
        /// In the JWKS already, signs nothing yet.
        Prepared = "prepared",
        /// Signs.
        Active = "active",
        /// Signs no more; what it signed still verifies.
        Retained = "retained",
        /// Out of the JWKS; its private half is destroyed.
        Expired = "expired",
        /// Nothing that it ever signed is believed.
        Revoked = "revoked",
    }
}

/// What a verifier expects of a token: all from its own records, nothing from the request.
pub(crate) struct Expectation<'e> {
    /// The issuer's `iss`, compared as one exact string.
    pub(crate) issuer: &'e str,
    /// The issuer's tenant, with which `tenant_id` must agree.
    pub(crate) tenant: &'e str,
    /// Whether an `iss` that is not [`Expectation::issuer`] is another issuer of ours: then the token is at the wrong
    /// tenant, else its issuer is unknown.
    pub(crate) is_ours: &'e dyn Fn(&str) -> bool,
    /// This issuer's key of that kid, with its state as of [`Expectation::now`].
    pub(crate) key: &'e dyn Fn(&str) -> Option<KeyAsOfNow<'e>>,
    pub(crate) audiences: Audiences<'e>,
    /// Scope tokens that the token must have, all of them.
    pub(crate) scopes: &'e [&'e str],
    /// What the caller proved to hold, for tokens that are bound to it.
    pub(crate) presented: Option<&'e Confirmation>,
    pub(crate) now: UnixMs,
    /// The longest `exp` − `iat`, in seconds.
    pub(crate) max_lifetime_s: i64,
    /// What is revoked: tokens whose `iat` lies before the time that it answers are, for what is revoked for good
    /// [`REVOKED`].
    pub(crate) revoked: &'e dyn Fn(Revocable<'_>) -> Option<UnixMs>,
    pub(crate) suspended: bool,
}

/// A verifying key and what it is now.
#[derive(Clone, Copy)]
pub(crate) struct KeyAsOfNow<'e> {
    pub(crate) key: &'e VerifyingKey,
    pub(crate) state: KeyState,
}

/// For whom a token may be.
#[derive(Clone, Copy)]
pub(crate) enum Audiences<'e> {
    /// One of these must be in its `aud`.
    OneOf(&'e [Audience<'e>]),
    /// Any; these are the ones that are known. For callers that go by the audiences of the verified token.
    Any(&'e [Audience<'e>]),
}

/// An audience of a tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audience<'e> {
    pub(crate) name: &'e str,
    /// It takes encrypted tokens alone: a bare JWS is refused. False where its holder, which has the key, sends the inner
    /// JWS by right.
    pub(crate) encrypted: bool,
    /// Its managed keys, two while one replaces the other.
    pub(crate) keys: &'e [&'e DecryptionKey],
}

/// What revocations are looked up by. All are of the expected issuer's tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Revocable<'t> {
    /// The token itself, or the one that its delegation began with.
    Ref(&'t str),
    Sid(&'t str),
    /// The subject, or one who acts for it: users and clients share their names.
    Subject(&'t str),
    Client(&'t str),
    Kid(&'t str),
    /// All of the tenant's tokens.
    Tenant,
}

/// Later than any token.
pub(crate) const REVOKED: UnixMs = UnixMs::new(i64::MAX);

/// A token as it stands there: nobody vouches for what it says.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedToken {
    pub(crate) alg: SigningAlg,
    pub(crate) kid: Option<String>,
    /// EVENT's `token.ref`.
    pub(crate) token_ref: String,
    /// What it was wrapped in.
    pub(crate) outer: Option<Outer>,
    pub(crate) claims: Claims,
}

/// The JWE around a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    /// EVENT's `token.outer_ref`.
    pub(crate) outer_ref: String,
    /// Whose key decrypted it: the token must be for that audience alone, or somebody passed it on.
    pub(crate) audience: String,
}

/// A token whose signature held. Only [`decide`] makes one. Whether it is good *now* is [`VerifiedToken::recheck`]'s word.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedToken {
    claimed: ClaimedToken,
    kid: String,
    /// The key that verified it, whatever its kid stands for later.
    thumbprint: String,
}

/// Why a token is refused, and what it claims, as far as it could be read.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    pub(crate) claimed: Option<Box<ClaimedToken>>,
}

/// Verifies a compact access token and judges it.
///
/// # Errors
/// The first fault. [`Fault::verdict`] is the word for it.
pub(crate) fn decide(token: &str, expectation: &Expectation<'_>) -> Result<VerifiedToken, Refusal> {
    let unread = |fault| Refusal { fault, claimed: None };
    if token.is_empty() {
        return Err(unread(Fault::Missing));
    }
    let opened = open(token, expectation).map_err(unread)?;
    let (jws, outer) = match &opened {
        Some((jws, outer)) => (jws.as_str(), Some(outer.clone())),
        None => (token, None),
    };
    let jws = ClaimedJws::read(jws, Typ::Is(ACCESS_TOKEN_TYPE)).map_err(unread)?;
    let claimed = ClaimedToken::of(&jws, outer).map_err(unread)?;
    let verified = match claimed.verify(&jws, expectation) {
        Ok(verified) => verified,
        Err((fault, claimed)) => return Err(Refusal { fault, claimed: Some(claimed) }),
    };
    match verified.worth(expectation) {
        Ok(()) => Ok(verified),
        Err(fault) => Err(Refusal { fault, claimed: Some(Box::new(verified.claimed)) }),
    }
}

/// The JWS in a JWE, decrypted with the key of the audience that has one of its kid; `None` for a bare JWS.
fn open(token: &str, expectation: &Expectation<'_>) -> Result<Option<(Zeroizing<String>, Outer)>, Fault> {
    if token.bytes().filter(|&byte| byte == b'.').count() != 4 {
        return Ok(None);
    }
    let jwe = ClaimedJwe::read(token)?;
    for audience in expectation.audiences.known() {
        let of_kid = |key: &&&DecryptionKey| jwe.kid.is_some() && key.public_jwk().kid == jwe.kid;
        if let Some(key) = audience.keys.iter().find(of_kid) {
            let outer = Outer { outer_ref: jwe.outer_ref(), audience: audience.name.to_owned() };
            return Ok(Some((jwe.decrypt(key)?, outer)));
        }
    }
    Err(Fault::Undecryptable)
}

impl<'e> Audiences<'e> {
    const fn known(self) -> &'e [Audience<'e>] {
        match self {
            Self::OneOf(known) | Self::Any(known) => known,
        }
    }
}

impl ClaimedToken {
    fn of(jws: &ClaimedJws<'_>, outer: Option<Outer>) -> Result<Self, Fault> {
        Ok(Self {
            alg: jws.alg,
            kid: jws.kid.clone(),
            token_ref: jws.token_ref(),
            outer,
            claims: Claims::read(jws.claimed_payload())?,
        })
    }

    /// The one place where a [`VerifiedToken`] is made.
    fn verify(
        self,
        jws: &ClaimedJws<'_>,
        expectation: &Expectation<'_>,
    ) -> Result<VerifiedToken, (Fault, Box<Self>)> {
        let checked = self.check_origin(expectation).and_then(|()| {
            let kid = self.kid.as_deref().ok_or(Fault::UnknownKey)?;
            let key = usable_key(kid, expectation)?;
            jws.verify(key)?;
            Ok((kid.to_owned(), key.thumbprint().to_owned()))
        });
        match checked {
            Ok((kid, thumbprint)) => Ok(VerifiedToken { claimed: self, kid, thumbprint }),
            Err(fault) => Err((fault, Box::new(self))),
        }
    }

    /// What is refused on the token's own word: no signature would make it better.
    fn check_origin(&self, expectation: &Expectation<'_>) -> Result<(), Fault> {
        let claims = &self.claims;
        if claims.iss != expectation.issuer {
            let ours = (expectation.is_ours)(&claims.iss);
            return Err(if ours { Fault::OtherTenant } else { Fault::UnknownIssuer });
        }
        if claims.tenant_id != expectation.tenant {
            return Err(Fault::OtherTenant);
        }
        let wants_encryption =
            |audience: &Audience<'_>| audience.encrypted && claims.aud.iter().any(|aud| aud == audience.name);
        if self.outer.is_none() && expectation.audiences.known().iter().any(wants_encryption) {
            return Err(Fault::NotEncrypted);
        }
        Ok(())
    }
}

/// The key of that kid, if it is good now.
fn usable_key<'e>(kid: &str, expectation: &Expectation<'e>) -> Result<&'e VerifyingKey, Fault> {
    let KeyAsOfNow { key, state } = (expectation.key)(kid).ok_or(Fault::UnknownKey)?;
    match state {
        KeyState::Active | KeyState::Retained => Ok(key),
        KeyState::Revoked => Err(Fault::KeyRevoked),
        KeyState::Prepared | KeyState::Expired => Err(Fault::KeyRetired),
    }
}

impl VerifiedToken {
    pub(crate) const fn claims(&self) -> &Claims {
        &self.claimed.claims
    }

    pub(crate) const fn alg(&self) -> SigningAlg {
        self.claimed.alg
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// EVENT's `token.ref`.
    pub(crate) fn token_ref(&self) -> &str {
        &self.claimed.token_ref
    }

    /// EVENT's `token.outer_ref`, of one that was encrypted.
    pub(crate) fn outer_ref(&self) -> Option<&str> {
        self.claimed.outer.as_ref().map(|outer| outer.outer_ref.as_str())
    }

    /// Judges it again, by what holds now: for a token that comes out of a cache, keyed by the whole token's hash. All but
    /// the signature is checked, and that its key is still the one that verified it.
    ///
    /// # Errors
    /// As [`decide`].
    pub(crate) fn recheck(&self, expectation: &Expectation<'_>) -> Result<(), Fault> {
        self.claimed.check_origin(expectation)?;
        let key = usable_key(&self.kid, expectation)?;
        if !key.allows(self.claimed.alg) {
            return Err(Fault::AlgNotOfKey);
        }
        if key.thumbprint() != self.thumbprint {
            return Err(Fault::Signature);
        }
        self.worth(expectation)
    }

    /// What the claims are worth, now that they are the issuer's.
    fn worth(&self, expectation: &Expectation<'_>) -> Result<(), Fault> {
        let claims = self.claims();
        let ahead = |seconds: i64| UnixMs::new(seconds * 1000).since_ms(expectation.now) > SKEW_MS;
        if ahead(claims.iat) || claims.nbf.is_some_and(ahead) {
            return Err(Fault::NotYetValid);
        }
        if UnixMs::new(claims.exp * 1000) <= expectation.now {
            return Err(Fault::Expired);
        }
        if claims.exp - claims.iat > expectation.max_lifetime_s {
            return Err(Fault::LifetimeTooLong);
        }
        if self.claimed.outer.as_ref().is_some_and(|outer| claims.aud != [outer.audience.as_str()]) {
            return Err(Fault::Audience);
        }
        if let Audiences::OneOf(expected) = expectation.audiences
            && !expected.iter().any(|audience| claims.aud.iter().any(|aud| aud == audience.name))
        {
            return Err(Fault::Audience);
        }
        if !expectation.scopes.iter().all(|scope| claims.scope.contains(scope)) {
            return Err(Fault::Scope);
        }
        if claims.cnf.is_some() && claims.cnf.as_ref() != expectation.presented {
            return Err(Fault::SenderConstraint);
        }
        if self.is_revoked(expectation) {
            return Err(Fault::Revoked);
        }
        if expectation.suspended {
            return Err(Fault::TenantSuspended);
        }
        Ok(())
    }

    /// Whether anything that it hangs on was revoked after it was issued. An `iat` has whole seconds: a token from the
    /// revocation's own second counts as older.
    fn is_revoked(&self, expectation: &Expectation<'_>) -> bool {
        let claims = self.claims();
        let issued = UnixMs::new(claims.iat * 1000);
        let revoked = |what| (expectation.revoked)(what).is_some_and(|at| issued < at);
        revoked(Revocable::Ref(self.token_ref()))
            || claims.org.as_deref().is_some_and(|origin| revoked(Revocable::Ref(origin)))
            || claims.sid.as_deref().is_some_and(|sid| revoked(Revocable::Sid(sid)))
            || revoked(Revocable::Subject(&claims.sub))
            || claims.actors().any(|actor| revoked(Revocable::Subject(&actor.sub)))
            || revoked(Revocable::Client(&claims.client_id))
            || revoked(Revocable::Kid(&self.kid))
            || revoked(Revocable::Tenant)
    }
}

#[cfg(test)]
mod tests;
