//! Keys that sign and keys that verify, parsed once. What is private is wiped when it goes and never shown.

use std::fmt;

use aws_lc_rs::agreement;
use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, RsaEncoding, RsaKeyPair,
};
use zeroize::Zeroizing;

use super::alg::{SigningAlg, Verification};
use super::fault::Fault;
use super::jwe::EncryptionAlg;
use super::jwk::{EcCurve, Material, OkpCurve, PublicJwk, Purpose};
use super::small_order;

/// Why a key cannot be had or used. Names members, never what stands in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("it is not a JSON object in UTF-8 with each member once")]
    NotAnObject,
    #[error("it holds a private or shared key: a key set is for public keys alone")]
    Private,
    #[error("it has no `{0}`")]
    NoMember(&'static str),
    #[error("its `{0}` cannot be read")]
    BadMember(&'static str),
    #[error("its curve is unknown")]
    UnknownCurve,
    #[error("its type has no default algorithm: give it an `alg`")]
    NoDefaultAlg,
    #[error("a key of its type and curve cannot sign with \"{0}\"")]
    OtherAlg(SigningAlg),
    #[error("{0:?} is not a signature algorithm of a public key")]
    UnknownAlg(String),
    #[error("it is not for signatures that we verify: its type, `use`, `key_ops` or `alg` says so")]
    NotForVerifying,
    #[error("it is not for \"{0}\": its type, curve, `use`, `key_ops` or `alg` says so")]
    NotForEncrypting(EncryptionAlg),
    #[error("it is too weak: {0}")]
    Weak(&'static str),
    #[error("its numbers make no key: they lie on no curve, or are no modulus and exponent")]
    NoKey,
    #[error("it is not a PKCS#8 private key of the kind that \"{0}\" needs")]
    NotPkcs8(&'static str),
    #[error("we do not sign with \"{0}\"")]
    NotForSigning(SigningAlg),
    #[error("the cryptographic library made no key")]
    NotGenerated,
    #[error("the cryptographic library made no signature")]
    NotSigned,
}

impl KeyError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NotAnObject | Self::NoMember(_) | Self::BadMember(_) | Self::UnknownCurve => {
                "jwk_malformed"
            }
            Self::Private => "jwk_private",
            Self::NoDefaultAlg | Self::OtherAlg(_) | Self::UnknownAlg(_) => "jwk_alg",
            Self::NotForVerifying | Self::NotForEncrypting(_) => "jwk_use",
            Self::Weak(_) => "jwk_weak",
            Self::NoKey => "jwk_no_key",
            Self::NotPkcs8(_) => "private_key_malformed",
            Self::NotForSigning(_) => "alg_not_signed",
            Self::NotGenerated => "key_not_generated",
            Self::NotSigned => "not_signed",
        }
    }
}

crate::model::words! {
    /// The private keys that we make.
    KeyKind {
        P256 = "P-256",
        P384 = "P-384",
        Rsa2048 = "RSA-2048",
        Rsa3072 = "RSA-3072",
        Ed25519 = "Ed25519",
        X25519 = "X25519",
    }
}

/// What stands before the 32 bytes in the PKCS#8 of an X25519 key (RFC 8410, section 7).
const X25519_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20];

/// A private key as PKCS#8 (RFC 5208, RFC 8410; version 1): what is sealed and stored.
#[derive(Clone)]
pub(crate) struct Pkcs8(Zeroizing<Vec<u8>>);

impl Pkcs8 {
    /// Draws a new key.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub(crate) fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let rng = SystemRandom::new();
        let rsa_pair = |size| {
            let pair = RsaKeyPair::generate(size)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map(|der| der.as_ref().to_vec())
        };
        let ec = |alg| EcdsaKeyPair::generate_pkcs8(alg, &rng).map(|der| der.as_ref().to_vec());
        let der = match kind {
            KeyKind::P256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            KeyKind::P384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            KeyKind::Rsa2048 => rsa_pair(KeySize::Rsa2048),
            KeyKind::Rsa3072 => rsa_pair(KeySize::Rsa3072),
            KeyKind::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&rng).map(|der| der.as_ref().to_vec()),
            KeyKind::X25519 => agreement::PrivateKey::generate(&agreement::X25519).and_then(|key| {
                let seed: Curve25519SeedBin<'_> = key.as_be_bytes()?;
                Ok([X25519_PREFIX.as_slice(), seed.as_ref()].concat())
            }),
        };
        der.map(|der| Self(Zeroizing::new(der))).map_err(|_| KeyError::NotGenerated)
    }

    /// One that was stored; whether it is one shows when a key is made of it.
    pub(crate) fn from_der(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The 32 bytes of an X25519 key.
    pub(super) fn x25519_seed(&self) -> Option<&[u8]> {
        self.0.strip_prefix(&X25519_PREFIX).filter(|seed| seed.len() == 32)
    }

    /// The DER, for whoever seals it.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Pkcs8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pkcs8(…)")
    }
}

/// A private key in memory, for one algorithm.
pub(crate) struct SigningKey {
    alg: SigningAlg,
    pair: Pair,
    public: PublicJwk,
    /// [`PublicJwk::thumbprint`].
    kid: String,
}

/// `aws-lc` wipes what it frees.
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// The key in `pkcs8`, for `alg`: ES256, ES384, RS256, PS256 or EdDSA.
    ///
    /// # Errors
    /// If it is no key for `alg`, or a weak one.
    pub(crate) fn new(alg: SigningAlg, pkcs8: &Pkcs8) -> Result<Self, KeyError> {
        let der = pkcs8.expose();
        let no_key = |_| KeyError::NotPkcs8(alg.as_str());
        let ecdsa = |curve: EcCurve, signing| {
            let pair = EcdsaKeyPair::from_pkcs8(signing, der).map_err(no_key)?;
            let material = Material::of_point(curve, pair.public_key().as_ref()).ok_or(KeyError::NoKey)?;
            Ok((Pair::Ecdsa(pair), material))
        };
        let with_rsa = |encoding| {
            let pair = RsaKeyPair::from_pkcs8(der).map_err(no_key)?;
            let material = rsa_material(pair.public_key());
            Ok((Pair::Rsa(pair, encoding), material))
        };
        let (pair, material) = match alg {
            SigningAlg::Es256 => ecdsa(EcCurve::P256, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            SigningAlg::Es384 => ecdsa(EcCurve::P384, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            SigningAlg::Rs256 => with_rsa(&signature::RSA_PKCS1_SHA256),
            SigningAlg::Ps256 => with_rsa(&signature::RSA_PSS_SHA256),
            SigningAlg::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(der).map_err(no_key)?;
                let x = pair.public_key().as_ref().to_vec();
                Ok((Pair::Ed25519(pair), Material::Okp { curve: OkpCurve::Ed25519, x }))
            }
            _ => Err(KeyError::NotForSigning(alg)),
        }?;
        material.check_strength()?;
        let public = PublicJwk::ours(material, Purpose::Signatures, alg.as_str());
        let kid = public.kid.clone().ok_or(KeyError::NoKey)?;
        Ok(Self { alg, pair, public, kid })
    }

    pub(crate) const fn alg(&self) -> SigningAlg {
        self.alg
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// Its public half with `kid`, `use` and `alg`, as it stands in the JWK set.
    pub(crate) const fn public_jwk(&self) -> &PublicJwk {
        &self.public
    }

    /// Signs: r‖s for ECDSA (RFC 7518, section 3.4), as the algorithms have it otherwise.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let rng = SystemRandom::new();
        let signed = match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&rng, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &rng, message, &mut signature).map(|()| signature)
            }
        };
        signed.map_err(|_| KeyError::NotSigned)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("alg", &self.alg).field("kid", &self.kid).finish_non_exhaustive()
    }
}

pub(super) fn rsa_material(public: &rsa::PublicKey) -> Material {
    let n = public.modulus().big_endian_without_leading_zero().to_vec();
    let e = public.exponent().big_endian_without_leading_zero().to_vec();
    Material::Rsa { n, e }
}

/// A public key, parsed, for each algorithm that it may verify.
pub(crate) struct VerifyingKey {
    /// By algorithm: the key decides which it is for, never the token.
    parsed: Vec<(SigningAlg, ParsedPublicKey)>,
    thumbprint: String,
}

impl VerifyingKey {
    /// # Errors
    /// If the key is not for signatures, not for any algorithm that we verify, weak, or no key at all.
    pub(crate) fn new(jwk: &PublicJwk) -> Result<Self, KeyError> {
        let algs = jwk.signing_algs()?;
        jwk.material.check_strength()?;
        let mut parsed = Vec::with_capacity(algs.len());
        for alg in algs {
            let key = match (alg.verification(), &jwk.material) {
                (Some(Verification::Point(how)), Material::Ec { x, y, .. }) => {
                    ParsedPublicKey::new(how, Material::point(x, y))
                }
                (Some(Verification::Point(how)), Material::Okp { curve: OkpCurve::Ed25519, x }) => {
                    ParsedPublicKey::new(how, x)
                }
                (Some(Verification::Rsa(how)), Material::Rsa { n, e }) => {
                    PublicKeyComponents { n, e }.to_parsed_public_key(how)
                }
                _ => continue,
            };
            parsed.push((alg, key.map_err(|_| KeyError::NoKey)?));
        }
        match jwk.thumbprint() {
            Some(thumbprint) if !parsed.is_empty() => Ok(Self { parsed, thumbprint }),
            _ => Err(KeyError::NotForVerifying),
        }
    }

    /// Names the key itself, whatever `kid` it goes by.
    pub(crate) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    pub(crate) fn allows(&self, alg: SigningAlg) -> bool {
        self.parsed.iter().any(|(known, _)| *known == alg)
    }

    /// # Errors
    /// [`Fault::AlgNotOfKey`] if the key is not for `alg`, [`Fault::Signature`] if it does not hold.
    pub(crate) fn verify(&self, alg: SigningAlg, message: &[u8], signature: &[u8]) -> Result<(), Fault> {
        let (_, key) = self.parsed.iter().find(|(known, _)| *known == alg).ok_or(Fault::AlgNotOfKey)?;
        key.verify_sig(message, signature).map_err(|_| Fault::Signature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algs: Vec<_> = self.parsed.iter().map(|(alg, _)| alg).collect();
        f.debug_struct("VerifyingKey").field("algs", &algs).field("thumbprint", &self.thumbprint).finish()
    }
}

impl Material {
    /// Refuses keys whose signatures prove nothing: RSA below 2048 bits (RFC 7518, section 3.3) or above 8192 (a
    /// verification would take as long as whoever made the key likes), exponents outside FIPS 186-5 (section 5.1) and
    /// what the library reads, points of small order.
    pub(super) fn check_strength(&self) -> Result<(), KeyError> {
        match self {
            Self::Rsa { n, e } => {
                let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
                if bits < 2048 {
                    return Err(KeyError::Weak("an RSA modulus has 2048 bits or more"));
                }
                if bits > 8192 {
                    return Err(KeyError::Weak("an RSA modulus has 8192 bits or less"));
                }
                if n.last().is_none_or(|last| last % 2 == 0) {
                    return Err(KeyError::Weak("an RSA modulus is odd"));
                }
                let exponent =
                    e.iter().try_fold(0_u64, |sum, byte| Some(sum.checked_mul(256)? + u64::from(*byte)));
                match exponent {
                    Some(e) if e % 2 == 1 && e > 1 << 16 && e < 1 << 33 => Ok(()),
                    _ => Err(KeyError::Weak("an RSA exponent is odd, above 65536 and below 2^33")),
                }
            }
            Self::Okp { curve: OkpCurve::Ed25519, x } if small_order::is_of_small_order(x) => {
                Err(KeyError::Weak("with a point of small order every signature holds"))
            }
            _ => Ok(()),
        }
    }
}
