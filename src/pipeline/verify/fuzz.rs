//! Any bytes as a JWK set: what is read can be asked, and says of itself what it is.

use super::jwks::KeySet;

/// A JWK set as a file or an issuer's answer.
pub(crate) fn key_set(data: &[u8]) {
    let Ok((keys, bad)) = KeySet::parse(data) else { return };
    for (place, cause) in &bad {
        assert!(!place.is_empty() && !cause.is_empty());
    }
    for line in keys.lines() {
        assert!(!line.contains('\n'), "one line a key");
    }
}
