//! Signature algorithms: all that a public key can have, and those that we verify.

use aws_lc_rs::signature::{self, RsaParameters, VerificationAlgorithm};

use crate::model::words;

words! {
    /// The signature algorithms that a public key can have (IANA, "JSON Web Signature and Encryption Algorithms").
    SigningAlg {
        Es256 = "ES256",
        Es384 = "ES384",
        Es512 = "ES512",
        Es256k = "ES256K",
        Rs256 = "RS256",
        Rs384 = "RS384",
        Rs512 = "RS512",
        Ps256 = "PS256",
        Ps384 = "PS384",
        Ps512 = "PS512",
        EdDsa = "EdDSA",
        /// EdDSA with its curve in the name (RFC 9864).
        Ed25519 = "Ed25519",
        Ed448 = "Ed448",
        MlDsa44 = "ML-DSA-44",
        MlDsa65 = "ML-DSA-65",
        MlDsa87 = "ML-DSA-87",
    }
}

/// How an algorithm is verified, by what its keys are made of.
pub(super) enum Verification {
    Rsa(&'static RsaParameters),
    /// A point: X9.62 uncompressed, or RFC 8032's 32 bytes.
    Point(&'static dyn VerificationAlgorithm),
}

impl SigningAlg {
    /// `None` for what we do not verify. RSA below 2048 and above 8192 bits never verifies.
    pub(super) fn verification(self) -> Option<Verification> {
        use Verification::{Point, Rsa};
        Some(match self {
            Self::Es256 => Point(&signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Point(&signature::ECDSA_P384_SHA384_FIXED),
            Self::Rs256 => Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::EdDsa | Self::Ed25519 => Point(&signature::ED25519),
            Self::Es512 | Self::Es256k | Self::Ed448 | Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => {
                return None;
            }
        })
    }
}
