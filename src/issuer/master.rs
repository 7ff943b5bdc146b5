//! The master key, and what is derived from it: one key a purpose, so that none can do another's work.
//!
//! Whoever has it can read every sealed key and write the system of record. It lies in `DATA_DIR/keys/master.key`, made
//! once. Where something was already signed or sealed under it, a missing one is never made anew: everything would be
//! lost silently.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::control::Sealed;
use crate::clock::Random;
use crate::config::make_private;
use crate::model::TenantId;

/// Lets secret scanners and people tell what they found.
const PREFIX: &str = "jwtrail_master_";

/// 256 bits from which all else is derived.
pub(crate) struct MasterKey(Zeroizing<[u8; 32]>);

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MasterKeyError {
    #[error(
        "the system of record is signed under a master key, and {path} is not there: put that key back (from the backup, \
         or from an instance that runs), or name it in `[keys] master`; without it nothing sealed can be opened",
        path = path.display()
    )]
    Lost { path: PathBuf },
    #[error(
        "{path} is readable by others (mode {mode:04o}): run `chmod 600 {path}`, and rotate every key if it may have been \
         seen",
        path = path.display()
    )]
    LooseMode { path: PathBuf, mode: u32 },
    #[error("{path} is no master key: it is one line, `jwtrail_master_` and 43 characters of base64url", path = path.display())]
    Malformed { path: PathBuf },
    #[error("{path} cannot be {doing}: {cause}", path = path.display())]
    Io { path: PathBuf, doing: &'static str, cause: std::io::Error },
}

impl MasterKeyError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "master_key_lost",
            Self::LooseMode { .. } => "master_key_exposed",
            Self::Malformed { .. } => "master_key_malformed",
            Self::Io { .. } => "master_key_unreadable",
        }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl MasterKey {
    /// Reads the key at `path`. If it is not there it is made, but only where nothing depends on one yet (`is_fresh`).
    pub(crate) fn open(path: &Path, is_fresh: bool) -> Result<Self, MasterKeyError> {
        if let Some(found) = Self::find(path)? {
            return Ok(found);
        }
        if !is_fresh {
            return Err(MasterKeyError::Lost { path: path.to_owned() });
        }
        let drawn = Zeroizing::new(Random::bytes::<32>());
        let line = Zeroizing::new(format!("{PREFIX}{}\n", URL_SAFE_NO_PAD.encode(*drawn)));
        let made = make_private(path, &line);
        made.map_err(|cause| MasterKeyError::Io { path: path.to_owned(), doing: "made", cause })?;
        tracing::info!(path = %path.display(), "made the master key: keep a copy of it in a safe place");
        // Of two that made it at the same time both have the first's.
        Self::read(path, 0o600)
    }

    /// Reads the key at `path`, if it is there: without one this process neither issues nor believes who does.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>, MasterKeyError> {
        match std::fs::metadata(path) {
            Ok(metadata) => Self::read(path, metadata.permissions().mode() & 0o7777).map(Some),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(MasterKeyError::Io { path: path.to_owned(), doing: "read", cause }),
        }
    }

    fn read(path: &Path, mode: u32) -> Result<Self, MasterKeyError> {
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::LooseMode { path: path.to_owned(), mode });
        }
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        let text =
            text.map_err(|cause| MasterKeyError::Io { path: path.to_owned(), doing: "read", cause })?;
        let key = text.trim_end().strip_prefix(PREFIX).and_then(|encoded| {
            let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
            Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
        });
        key.ok_or_else(|| MasterKeyError::Malformed { path: path.to_owned() })
    }

    /// Of tests.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Signs the records of the system of record.
    pub(crate) fn control(&self) -> hmac::Key {
        self.hmac(&["jwtrail control v1"])
    }

    /// Makes a tenant's refresh handles.
    pub(crate) fn refresh(&self, tenant: &TenantId) -> hmac::Key {
        self.hmac(&["jwtrail refresh v1 ", tenant.as_str()])
    }

    /// Signs lifecycle events.
    pub(crate) fn ledger(&self) -> hmac::Key {
        self.hmac(&["jwtrail ledger v1"])
    }

    /// Hashes usernames that nobody has, which may be passwords.
    pub(crate) fn login_names(&self) -> hmac::Key {
        self.hmac(&["jwtrail login names v1"])
    }

    /// Wraps tenants' data keys.
    pub(crate) fn wrapping(&self) -> SealingKey {
        SealingKey::new(&self.derive(&["jwtrail wrapping v1"]))
    }

    fn hmac(&self, purpose: &[&str]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*self.derive(purpose))
    }

    /// HKDF-SHA256 (RFC 5869) without salt; `purpose` is its info.
    fn derive(&self, purpose: &[&str]) -> Zeroizing<[u8; 32]> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&*self.0);
        let info: Vec<&[u8]> = purpose.iter().map(|part| part.as_bytes()).collect();
        let mut derived = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes; this asks for 32")]
        extracted.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *derived)).expect("32 bytes");
        derived
    }
}

/// What sealed bytes are bound to: opened as anything else they do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binding<'a> {
    /// What they are, such as `private key`.
    pub(crate) purpose: &'a str,
    pub(crate) tenant: &'a str,
    /// Empty where there is none, as below.
    pub(crate) kid: &'a str,
    pub(crate) state: &'a str,
}

impl Binding<'_> {
    /// Each part with its length before it, so that no two bindings read alike.
    fn aad(&self) -> Aad<Vec<u8>> {
        let mut aad = b"jwtrail sealed v1".to_vec();
        for part in [self.purpose, self.tenant, self.kid, self.state] {
            aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
            aad.extend_from_slice(part.as_bytes());
        }
        Aad::from(aad)
    }
}

/// The bytes were sealed as something else, under another key, or were changed. Which of it nobody can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes do not open: they belong elsewhere, or were changed")]
pub(crate) struct Unsealable;

/// A key that seals: AES-256-GCM with drawn nonces, good for 2^32 seals (NIST SP 800-38D, section 8.3).
pub(crate) struct SealingKey(RandomizedNonceKey);

/// Of the nonce, before the ciphertext.
const NONCE_BYTES: usize = 12;

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl SealingKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        #[expect(clippy::expect_used, reason = "AES-256 takes every 32 bytes")]
        Self(RandomizedNonceKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
    }

    /// Nonce, ciphertext and tag.
    pub(crate) fn seal(&self, binding: &Binding<'_>, plain: &[u8]) -> Sealed {
        let mut sealed = plain.to_vec();
        #[expect(clippy::expect_used, reason = "AES-GCM seals up to 64 GiB; without a nonce nothing is safe")]
        let nonce = self.0.seal_in_place_append_tag(binding.aad(), &mut sealed).expect("short bytes");
        Sealed::new([nonce.as_ref().as_slice(), &sealed].concat())
    }

    pub(crate) fn open(
        &self,
        binding: &Binding<'_>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (nonce, text) = sealed.as_bytes().split_first_chunk::<NONCE_BYTES>().ok_or(Unsealable)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, binding.aad(), &mut text).map_err(|_| Unsealable)?.len();
        text.truncate(opened);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(path: &Path, is_fresh: bool) -> MasterKeyError {
        MasterKey::open(path, is_fresh).unwrap_err()
    }

    #[test]
    fn it_is_made_once_and_never_instead_of_a_lost_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/master.key");
        assert!(matches!(failed(&path, false), MasterKeyError::Lost { .. }));
        let made = MasterKey::open(&path, true).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(*MasterKey::open(&path, true).unwrap().0, *made.0);
        assert_eq!(*MasterKey::open(&path, false).unwrap().0, *made.0);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        assert_eq!(format!("{made:?}"), "[redacted]");
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_and_no_byte_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let secret = "c3dvcmRmaXNo";
        std::fs::write(&path, format!("{PREFIX}{secret}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = failed(&path, true);
        assert_eq!(error.code(), "master_key_exposed");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = failed(&path, true);
        assert_eq!(error.code(), "master_key_malformed");
        assert!(!error.to_string().contains(secret), "{error}");
        assert!(failed(&dir.path().join("none"), false).to_string().contains("put that key back"));
    }

    #[test]
    fn each_purpose_has_a_key_of_its_own() {
        let key = MasterKey::of_bytes([7; 32]);
        let (acme, globex): (TenantId, TenantId) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let keys = [
            key.control(),
            key.refresh(&acme),
            key.refresh(&globex),
            key.ledger(),
            key.login_names(),
            MasterKey::of_bytes([8; 32]).control(),
        ];
        let tags: std::collections::BTreeSet<Vec<u8>> =
            keys.iter().map(|key| hmac::sign(key, b"x").as_ref().to_vec()).collect();
        assert_eq!(tags.len(), keys.len());
    }

    #[test]
    fn what_is_sealed_opens_only_as_what_it_is() {
        let key = MasterKey::of_bytes([7; 32]).wrapping();
        let binding = Binding { purpose: "private key", tenant: "acme", kid: "k1", state: "active" };
        let sealed = key.seal(&binding, b"secret");
        assert_eq!(key.open(&binding, &sealed).unwrap().as_slice(), b"secret");
        assert_ne!(sealed, key.seal(&binding, b"secret"), "a nonce is drawn for each");
        for other in [
            Binding { purpose: "data key", ..binding },
            Binding { tenant: "globex", ..binding },
            Binding { kid: "k2", ..binding },
            Binding { state: "retained", ..binding },
            Binding { kid: "k1active", state: "", ..binding },
        ] {
            assert_eq!(key.open(&other, &sealed).unwrap_err(), Unsealable, "{other:?}");
        }
        for at in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert_eq!(key.open(&binding, &Sealed::new(bytes)).unwrap_err(), Unsealable, "byte {at}");
        }
        assert_eq!(key.open(&binding, &Sealed::new(vec![1; 11])).unwrap_err(), Unsealable);
        assert!(MasterKey::of_bytes([8; 32]).wrapping().open(&binding, &sealed).is_err());
    }
}
