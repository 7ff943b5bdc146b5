//! Any bytes as a JWK set: what is read can be asked, and says of itself what it is.

use super::jwks::{KeySet, jwks_of};

/// A JWK set as a file or an issuer's answer.
pub(crate) fn key_set(data: &[u8]) {
    let Ok(jwks) = jwks_of(data) else { return };
    let (keys, bad) = KeySet::of(&jwks);
    for key in &bad {
        assert!(!key.kid.is_empty() && !key.cause.is_empty() && key.place < jwks.len());
    }
    for line in keys.lines() {
        assert!(!line.contains('\n'), "one line a key");
    }
}
