//! Keys that tokens are encrypted to, and how a content encryption key travels (RFC 7518, sections 4.3, 4.6).

use std::fmt;

use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey, PublicKeyComponents,
};
use aws_lc_rs::signature::KeyPair;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{ENC, EncryptionAlg};
use crate::clock::Random;
use crate::token::jwk::{EcCurve, Material, OkpCurve, PublicJwk, Purpose};
use crate::token::keys::{KeyError, Pkcs8, rsa_material};
use crate::token::strict;

/// Bytes of a key of A256GCM and of A256KW.
pub(super) const CEK_BYTES: usize = 32;
/// A content encryption key, wiped when it goes.
pub(super) type Cek = Zeroizing<[u8; CEK_BYTES]>;
/// Bytes that A256KW adds.
const WRAP_BYTES: usize = 8;

/// A public key that tokens are encrypted to.
pub(crate) struct EncryptionKey {
    alg: EncryptionAlg,
    kid: Option<String>,
    recipient: Recipient,
}

enum Recipient {
    Rsa(OaepPublicEncryptingKey),
    Ecdh(Material),
}

/// A private key that decrypts, for one algorithm.
pub(crate) struct DecryptionKey {
    alg: EncryptionAlg,
    private: Private,
    public: PublicJwk,
}

enum Private {
    Rsa(OaepPrivateDecryptingKey),
    Ecdh(agreement::PrivateKey),
}

/// A fresh content encryption key and what carries it.
pub(super) struct Wrapped {
    pub(super) cek: Cek,
    /// Empty where the agreement is the key.
    pub(super) encrypted_key: Vec<u8>,
    pub(super) epk: Option<Value>,
}

impl EncryptionKey {
    /// The public key, for `alg`.
    ///
    /// # Errors
    /// If it is no key for `alg`, not for encryption by its own word, weak, or no key at all.
    pub(crate) fn new(alg: EncryptionAlg, jwk: &PublicJwk) -> Result<Self, KeyError> {
        if !jwk.encrypts_with(alg.as_str()) {
            return Err(KeyError::NotForEncrypting(alg));
        }
        jwk.material.check_strength()?;
        let recipient = match (alg, &jwk.material) {
            (EncryptionAlg::RsaOaep256, Material::Rsa { n, e }) => {
                let key: Result<PublicEncryptingKey, _> = PublicKeyComponents { n, e }.try_into();
                Recipient::Rsa(key.and_then(OaepPublicEncryptingKey::new).map_err(|_| KeyError::NoKey)?)
            }
            (EncryptionAlg::EcdhEs | EncryptionAlg::EcdhEsA256kw, material) => {
                let (how, point) = agreement_of(material).ok_or(KeyError::NotForEncrypting(alg))?;
                // Off the curve is found here, once, and not when the first token is to be encrypted.
                let parsed: Result<agreement::ParsedPublicKey, _> =
                    UnparsedPublicKey::new(how, point).try_into();
                parsed.map_err(|_| KeyError::NoKey)?;
                Recipient::Ecdh(material.clone())
            }
            _ => return Err(KeyError::NotForEncrypting(alg)),
        };
        Ok(Self { alg, kid: jwk.kid.clone(), recipient })
    }

    pub(crate) const fn alg(&self) -> EncryptionAlg {
        self.alg
    }

    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(super) fn wrap(&self) -> Result<Wrapped, Unspecified> {
        match &self.recipient {
            Recipient::Rsa(key) => {
                let cek = Cek::new(Random::bytes());
                let mut encrypted_key = vec![0; key.ciphertext_size()];
                key.encrypt(&OAEP_SHA256_MGF1SHA256, cek.as_slice(), &mut encrypted_key, None)?;
                Ok(Wrapped { cek, encrypted_key, epk: None })
            }
            Recipient::Ecdh(material) => {
                let (how, point) = agreement_of(material).ok_or(Unspecified)?;
                let ephemeral = agreement::PrivateKey::generate(how)?;
                let epk = Value::Object(material_of(&ephemeral)?.members());
                let agreed = agree(&ephemeral, &point, self.alg, [&[], &[]])?;
                if self.alg == EncryptionAlg::EcdhEs {
                    return Ok(Wrapped { cek: agreed, encrypted_key: Vec::new(), epk: Some(epk) });
                }
                let cek = Cek::new(Random::bytes());
                let mut encrypted_key = vec![0; CEK_BYTES + WRAP_BYTES];
                AesKek::new(&AES_256, agreed.as_slice())?.wrap(cek.as_slice(), &mut encrypted_key)?;
                Ok(Wrapped { cek, encrypted_key, epk: Some(epk) })
            }
        }
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey")
            .field("alg", &self.alg)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl DecryptionKey {
    /// The key in `pkcs8`, for `alg`.
    ///
    /// # Errors
    /// If it is no key for `alg`, or a weak one.
    pub(crate) fn new(alg: EncryptionAlg, pkcs8: &Pkcs8) -> Result<Self, KeyError> {
        let der = pkcs8.expose();
        let no_key = || KeyError::NotPkcs8(alg.as_str());
        let (private, material) = match alg {
            EncryptionAlg::RsaOaep256 => {
                let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(der).map_err(|_| no_key())?;
                let key = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| no_key())?;
                let key = OaepPrivateDecryptingKey::new(key).map_err(|_| no_key())?;
                (Private::Rsa(key), rsa_material(pair.public_key()))
            }
            EncryptionAlg::EcdhEs | EncryptionAlg::EcdhEsA256kw => {
                let curves = [&agreement::ECDH_P256, &agreement::ECDH_P384];
                let nist = curves
                    .into_iter()
                    .find_map(|how| agreement::PrivateKey::from_private_key_der(how, der).ok());
                let key = match (nist, pkcs8.x25519_seed()) {
                    (Some(key), _) => key,
                    (None, Some(seed)) => agreement::PrivateKey::from_private_key(&agreement::X25519, seed)
                        .map_err(|_| no_key())?,
                    (None, None) => return Err(no_key()),
                };
                let material = material_of(&key).map_err(|_| no_key())?;
                (Private::Ecdh(key), material)
            }
        };
        material.check_strength()?;
        Ok(Self { alg, private, public: PublicJwk::ours(material, Purpose::Encryption, alg.as_str()) })
    }

    /// Its public half with `kid`, `use` and `alg`.
    pub(crate) const fn public_jwk(&self) -> &PublicJwk {
        &self.public
    }

    /// The content encryption key of a JWE with this header.
    pub(super) fn unwrap(
        &self,
        alg: EncryptionAlg,
        header: &Map<String, Value>,
        encrypted_key: &[u8],
    ) -> Result<Cek, Unspecified> {
        if alg != self.alg {
            return Err(Unspecified);
        }
        let whole = |bytes: &[u8]| bytes.try_into().map(Cek::new).map_err(|_| Unspecified);
        match &self.private {
            Private::Rsa(key) => {
                let mut plain = Zeroizing::new(vec![0; key.min_output_size()]);
                whole(key.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted_key, &mut plain, None)?)
            }
            Private::Ecdh(key) => {
                let epk = PublicJwk::read(header.get("epk").ok_or(Unspecified)?).map_err(|_| Unspecified)?;
                let (how, point) = agreement_of(&epk.material).ok_or(Unspecified)?;
                // On another curve it would be an invalid-curve attack; off the curve the library refuses it.
                if how != key.algorithm() {
                    return Err(Unspecified);
                }
                let party = |member| match header.get(member) {
                    None => Ok(Vec::new()),
                    Some(value) => value.as_str().and_then(strict::decode).ok_or(Unspecified),
                };
                let agreed = agree(key, &point, alg, [&party("apu")?, &party("apv")?])?;
                match alg {
                    EncryptionAlg::EcdhEs if encrypted_key.is_empty() => Ok(agreed),
                    EncryptionAlg::EcdhEsA256kw if encrypted_key.len() == CEK_BYTES + WRAP_BYTES => {
                        let mut plain = Zeroizing::new([0; CEK_BYTES + WRAP_BYTES]);
                        whole(
                            AesKek::new(&AES_256, agreed.as_slice())?
                                .unwrap(encrypted_key, plain.as_mut_slice())?,
                        )
                    }
                    _ => Err(Unspecified),
                }
            }
        }
    }
}

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kid = &self.public.kid;
        f.debug_struct("DecryptionKey").field("alg", &self.alg).field("kid", kid).finish_non_exhaustive()
    }
}

/// How a public key agrees, and its bytes; `None` for one that does not.
fn agreement_of(material: &Material) -> Option<(&'static agreement::Algorithm, Vec<u8>)> {
    match material {
        Material::Ec { curve: EcCurve::P256, x, y } => Some((&agreement::ECDH_P256, Material::point(x, y))),
        Material::Ec { curve: EcCurve::P384, x, y } => Some((&agreement::ECDH_P384, Material::point(x, y))),
        Material::Okp { curve: OkpCurve::X25519, x } => Some((&agreement::X25519, x.clone())),
        _ => None,
    }
}

/// The public half.
fn material_of(key: &agreement::PrivateKey) -> Result<Material, Unspecified> {
    let public = key.compute_public_key()?;
    let bytes = public.as_ref();
    let how = key.algorithm();
    if how == &agreement::X25519 {
        return Ok(Material::Okp { curve: OkpCurve::X25519, x: bytes.to_vec() });
    }
    let curve = if how == &agreement::ECDH_P256 { EcCurve::P256 } else { EcCurve::P384 };
    Material::of_point(curve, bytes).ok_or(Unspecified)
}

/// The key that an agreement gives: the content encryption key itself, or what wraps it. `parties` are `apu` and `apv`.
fn agree(
    private: &agreement::PrivateKey,
    public: &[u8],
    alg: EncryptionAlg,
    parties: [&[u8]; 2],
) -> Result<Cek, Unspecified> {
    let purpose = if alg == EncryptionAlg::EcdhEs { ENC } else { alg.as_str() };
    let mut key = Cek::new([0; CEK_BYTES]);
    derive(private, public, purpose, parties, key.as_mut_slice())?;
    Ok(key)
}

/// ECDH and the Concat KDF (RFC 7518, section 4.6.2).
fn derive(
    private: &agreement::PrivateKey,
    public: &[u8],
    purpose: &str,
    [apu, apv]: [&[u8]; 2],
    key: &mut [u8],
) -> Result<(), Unspecified> {
    let mut info = Vec::new();
    for field in [purpose.as_bytes(), apu, apv] {
        info.extend(u32::try_from(field.len()).map_err(|_| Unspecified)?.to_be_bytes());
        info.extend(field);
    }
    info.extend(u32::try_from(key.len() * 8).map_err(|_| Unspecified)?.to_be_bytes());
    let sha256 = get_sskdf_digest_algorithm(SskdfDigestAlgorithmId::Sha256).ok_or(Unspecified)?;
    agreement::agree(private, UnparsedPublicKey::new(private.algorithm(), public), Unspecified, |secret| {
        sskdf_digest(sha256, secret, &info, key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7518, appendix C: what Alice's ephemeral key and Bob's give, from both sides.
    #[test]
    fn an_agreement_gives_the_key_of_the_rfc() {
        let bytes = |text| strict::decode(text).unwrap();
        let key = |d| agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, &bytes(d)).unwrap();
        let point = |x, y| Material::point(&bytes(x), &bytes(y));
        let alice = key("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo");
        let alices = point(
            "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
            "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
        );
        let bob = key("VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw");
        let bobs = point(
            "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
            "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
        );
        for (private, public) in [(&alice, &bobs), (&bob, &alices)] {
            let mut derived = [0; 16];
            derive(private, public, "A128GCM", [b"Alice", b"Bob"], &mut derived).unwrap();
            assert_eq!(strict::encode(&derived), "VqqN6vgjbSBcIijNcacQGg");
        }
    }
}
