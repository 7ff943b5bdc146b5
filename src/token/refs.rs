//! Refs: what names a token without being one (EVENT).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Parts `iss` and `jti` in the text that `jti_ref` hashes (ASCII "unit separator").
const UNIT_SEPARATOR: u8 = 0x1f;

/// The text is not a token in compact form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCompact {
    #[error("a compact JWS has three segments of A-Z, a-z, 0-9, `-`, `_`, with dots between")]
    Jws,
    #[error("a compact JWE has five segments of A-Z, a-z, 0-9, `-`, `_`, with dots between")]
    Jwe,
}

/// The ref of a compact JWS: base64url(SHA-256(ASCII up to the last dot)), 43 characters. That is the signing input
/// and not the whole token, because an ES256 signature (r, n−s) verifies too (EVENT).
pub(crate) fn token_ref(jws: &str) -> Result<String, NotCompact> {
    compact_ref(jws, 3).ok_or(NotCompact::Jws)
}

/// The ref of a compact JWE, over its text up to the last dot.
pub(crate) fn outer_ref(jwe: &str) -> Result<String, NotCompact> {
    compact_ref(jwe, 5).ok_or(NotCompact::Jwe)
}

/// base64url(SHA-256(iss ␟ jti)): for sources that cannot hash the token. A weaker proof than a ref.
pub(crate) fn jti_ref(iss: &str, jti: &str) -> String {
    let mut text = Vec::with_capacity(iss.len() + 1 + jti.len());
    text.extend_from_slice(iss.as_bytes());
    text.push(UNIT_SEPARATOR);
    text.extend_from_slice(jti.as_bytes());
    sha256_base64url(&text)
}

/// base64url(SHA-256(bytes)): what every ref is.
pub(crate) fn sha256_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

/// Whether the text has the shape of a ref: 43 characters of base64url.
pub(crate) fn is_ref(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(is_base64url)
}

/// One character of base64url (RFC 4648, section 5), without padding.
pub(crate) const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn compact_ref(token: &str, segments: usize) -> Option<String> {
    let plain = token.bytes().all(|byte| is_base64url(byte) || byte == b'.');
    let dots = token.bytes().filter(|&byte| byte == b'.').count();
    if !plain || dots + 1 != segments || token.starts_with('.') {
        return None;
    }
    let (hashed, _tag_or_signature) = token.rsplit_once('.')?;
    Some(sha256_base64url(hashed.as_bytes()))
}

#[cfg(test)]
mod tests;
