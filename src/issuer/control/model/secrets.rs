//! Secrets as the record holds them: hashed, or sealed. None of it is printed.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Invalid;
use crate::model::UnixMs;

/// SHA-256 of a secret that we drew: 256 bits, so that nobody finds it by trying. In JSON base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SecretHash([u8; 32]);

impl SecretHash {
    pub(crate) fn of(secret: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        Self(hash)
    }

    /// In constant time.
    pub(crate) fn is_of(&self, secret: &str) -> bool {
        verify_slices_are_equal(&self.0, &Self::of(secret).0).is_ok()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl TryFrom<String> for SecretHash {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        let hash = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        hash.map(Self).ok_or_else(|| Invalid::new("sha256", "is 32 bytes in base64url"))
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        URL_SAFE_NO_PAD.encode(hash.0)
    }
}

/// A secret of a client, a gateway or an administrator. Two live while one replaces the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredSecret {
    pub(crate) sha256: SecretHash,
    pub(crate) created_at: UnixMs,
}

/// So many secrets a holder may have at once.
pub(crate) const SECRETS_MAX: usize = 2;

/// Whether `secret` is one of `stored`. Looks at all of them, whichever it is.
pub(crate) fn is_one_of(stored: &[StoredSecret], secret: &str) -> bool {
    stored.iter().fold(false, |found, stored| stored.sha256.is_of(secret) | found)
}

/// A user's password in PHC string format, argon2id (RFC 9106).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PasswordHash(Box<str>);

impl PasswordHash {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        if text.starts_with("$argon2id$") && text.len() <= 512 {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new("password", "is an argon2id hash in PHC string format"))
        }
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> Self {
        hash.0.into()
    }
}

/// Something that only the holder of a key under the master key can open (AES-256-GCM). In JSON base64url.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Sealed(Box<[u8]>);

impl Sealed {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} sealed bytes]", self.0.len())
    }
}

impl TryFrom<String> for Sealed {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        let bytes = URL_SAFE_NO_PAD.decode(text);
        bytes.map(Self::new).map_err(|_| Invalid::new("sealed", "is base64url without padding"))
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> Self {
        URL_SAFE_NO_PAD.encode(sealed.0)
    }
}
