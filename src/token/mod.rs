//! Pure JOSE: strict compact JWS and JWE, keys, claims, and one [`decide`](fn@decide) behind every verifier. No I/O, no clock, no
//! async; randomness comes from its owner, or lies in the cryptography itself.
//!
//! What a token merely says is [`ClaimedToken`]; only a signature that held makes it a [`VerifiedToken`].
//!
//! - Issue: [`Claims::to_json`] → [`SigningInput::new`] → any signer, awaited or not → [`SigningInput::append`].
//! - Encrypt: [`EncryptionKey::new`] → [`EncryptionKey::encrypt`]; [`DecryptionKey`] is an audience's managed one.
//! - Verify: [`decide`](fn@decide) with an [`Expectation`]; a token from a cache of verified ones: [`VerifiedToken::recheck`].
//! - Keys: [`Pkcs8::generate`] → [`SigningKey::new`] → [`SigningKey::public_jwk`]; [`PublicJwk::read`] →
//!   [`VerifyingKey::new`].
//! - Other JWTs than access tokens (client assertions): [`ClaimedJws::read`], then [`ClaimedJws::verify`].

mod refs;
mod strict;

mod alg;
mod jwk;
mod keys;
mod small_order;

mod claims;
mod fault;
mod jwe;
mod jws;

mod decide;

pub(crate) use alg::SigningAlg;
pub(crate) use claims::{Actor, Claims, Confirmation, MAX_ACTORS, MayAct, Scope};
pub(crate) use decide::{
    Audience, Audiences, ClaimedToken, Expectation, KeyAsOfNow, KeyState, Outer, REVOKED, Refusal, Revocable,
    SKEW_MS, VerifiedToken, decide,
};
pub(crate) use fault::{Fault, Part};
pub(crate) use jwe::{ClaimedJwe, DecryptionKey, EncryptionAlg, EncryptionKey};
pub(crate) use jwk::{Material, PublicJwk};
pub(crate) use jws::{ClaimedJws, IssueError, JwsHeader, SigningInput, Typ};
pub(crate) use keys::{KeyError, KeyKind, Pkcs8, SigningKey, VerifyingKey};
pub(crate) use refs::{is_base64url, is_ref, jti_ref, outer_ref, sha256_base64url, token_ref};
pub(crate) use small_order::is_of_small_order;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(any(test, fuzzing))]
mod testing;
#[cfg(test)]
mod tests;

/// The `typ` of an access token (RFC 9068, section 2.1).
pub(crate) const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// Bytes a JWS that we issue may have.
pub(crate) const MAX_ISSUED_JWS_BYTES: usize = 4 * 1024;
/// Bytes a JWE that we issue may have.
pub(crate) const MAX_ISSUED_JWE_BYTES: usize = 6 * 1024;
/// Bytes a token may have that is read: asked before anything is decoded.
pub(crate) const MAX_READ_BYTES: usize = 8 * 1024;
