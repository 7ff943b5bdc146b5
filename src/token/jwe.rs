//! Compact nested JWE (RFC 7516): a signed token, encrypted for the one audience that may read it.
//!
//! RSA-OAEP-256, ECDH-ES and ECDH-ES+A256KW with A256GCM; no RSA1_5, no passwords, no compression. Whatever fails after
//! the header was read is one fault: an answer that told where it failed would be an oracle. What comes out is a JWS
//! that is still to be verified.

mod keys;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::fault::{Fault, Part};
use super::jws::{IssueError, header_members, needed_text, text};
use super::{MAX_ISSUED_JWE_BYTES, MAX_READ_BYTES, sha256_base64url, strict};
use crate::clock::Random;
use keys::{CEK_BYTES, Cek};

pub(crate) use keys::{DecryptionKey, EncryptionKey};

crate::model::words! {
    /// How a content encryption key reaches the audience (RFC 7518, section 4.1).
    EncryptionAlg {
        RsaOaep256 = "RSA-OAEP-256",
        EcdhEs = "ECDH-ES",
        EcdhEsA256kw = "ECDH-ES+A256KW",
    }
}

/// The one content encryption (RFC 7518, section 5.3).
const ENC: &str = "A256GCM";
const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

impl EncryptionKey {
    /// The JWE around a compact JWS, with a fresh content encryption key and initialization vector.
    ///
    /// # Errors
    /// If it would be longer than any token of ours may be, or if the cryptographic library fails.
    pub(crate) fn encrypt(&self, jws: &str) -> Result<String, IssueError> {
        let mut header = json!({ "alg": self.alg().as_str(), "enc": ENC, "cty": "JWT" });
        if let Some(kid) = self.kid() {
            header["kid"] = json!(kid);
        }
        let wrapped = self.wrap().map_err(|_| IssueError::NotEncrypted)?;
        if let Some(epk) = wrapped.epk {
            header["epk"] = epk;
        }
        let header = strict::encode(header.to_string().as_bytes());
        let iv = Random::bytes::<IV_BYTES>();
        let mut content = jws.as_bytes().to_vec();
        let tag = cipher(&wrapped.cek)
            .and_then(|cipher| {
                cipher
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key(iv),
                        Aad::from(header.as_bytes()),
                        &mut content,
                    )
                    .ok()
            })
            .ok_or(IssueError::NotEncrypted)?;
        let encoded = [&wrapped.encrypted_key, iv.as_slice(), &content, tag.as_ref()].map(strict::encode);
        let token = format!("{header}.{}", encoded.join("."));
        if token.len() > MAX_ISSUED_JWE_BYTES {
            return Err(IssueError::TooLarge { bytes: token.len(), cap: MAX_ISSUED_JWE_BYTES });
        }
        Ok(token)
    }
}

/// A JWE as it stands there.
#[derive(Debug)]
pub(crate) struct ClaimedJwe<'t> {
    pub(crate) alg: EncryptionAlg,
    pub(crate) kid: Option<String>,
    header: Map<String, Value>,
    /// The header's segment: what the tag covers beside the content.
    protected: &'t str,
    hashed: &'t str,
    encrypted_key: Vec<u8>,
    iv: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
}

impl<'t> ClaimedJwe<'t> {
    /// # Errors
    /// If it is malformed, or if its header demands what we do not give. What is in it is not looked at.
    pub(crate) fn read(token: &'t str) -> Result<Self, Fault> {
        if token.len() > MAX_READ_BYTES {
            return Err(Fault::TooLarge(MAX_READ_BYTES));
        }
        let segments: Vec<_> = token.splitn(6, '.').collect();
        let &[protected, encrypted_key, iv, ciphertext, tag] = segments.as_slice() else {
            return Err(Fault::NotCompact);
        };
        let header = header_members(protected)?;
        let decoded = |segment, part| strict::decode(segment).ok_or(Fault::NotBase64Url(part));
        let alg = EncryptionAlg::parse(needed_text(&header, "alg")?).ok_or(Fault::Alg)?;
        // Compression before encryption tells lengths, and unpacks to any size.
        if needed_text(&header, "enc")? != ENC || header.contains_key("zip") {
            return Err(Fault::Alg);
        }
        if text(&header, "cty")? != Some("JWT") {
            return Err(Fault::Type);
        }
        Ok(Self {
            alg,
            kid: text(&header, "kid")?.map(str::to_owned),
            protected,
            hashed: &token[..token.len() - tag.len() - 1],
            encrypted_key: decoded(encrypted_key, Part::EncryptedKey)?,
            iv: decoded(iv, Part::InitializationVector)?,
            ciphertext: decoded(ciphertext, Part::Ciphertext)?,
            tag: decoded(tag, Part::Tag)?,
            header,
        })
    }

    /// EVENT's `token.outer_ref`.
    pub(crate) fn outer_ref(&self) -> String {
        sha256_base64url(self.hashed.as_bytes())
    }

    /// What is in it: to be read as a JWS, and to be verified. That it could be decrypted proves nothing of who wrote it.
    ///
    /// # Errors
    /// [`Fault::Undecryptable`], whatever the cause. If the content encryption key cannot be had, a random one goes on in
    /// its place, so that time does not tell either (RFC 7516, section 11.5).
    pub(crate) fn decrypt(&self, key: &DecryptionKey) -> Result<Zeroizing<String>, Fault> {
        let cek = key.unwrap(self.alg, &self.header, &self.encrypted_key);
        let cek = cek.unwrap_or_else(|_| Cek::new(Random::bytes::<CEK_BYTES>()));
        let mut content = Zeroizing::new(self.ciphertext.clone());
        self.open(&cek, &mut content).ok_or(Fault::Undecryptable)?;
        String::from_utf8(std::mem::take(&mut *content)).map(Zeroizing::new).map_err(|_| Fault::Undecryptable)
    }

    fn open(&self, cek: &Cek, content: &mut [u8]) -> Option<()> {
        let iv = <[u8; IV_BYTES]>::try_from(self.iv.as_slice()).ok()?;
        let tag = <[u8; TAG_BYTES]>::try_from(self.tag.as_slice()).ok()?;
        let aad = Aad::from(self.protected.as_bytes());
        cipher(cek)?
            .open_in_place_separate_tag(Nonce::assume_unique_for_key(iv), aad, &tag, content)
            .ok()
            .map(|_| ())
    }
}

fn cipher(cek: &Cek) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, cek.as_slice()).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests;
