//! What is wrong with a token. Data, not an error of ours: it becomes a verdict, and its text says which rule was broken
//! without a word of the token.

use super::strict::NotAnObject;
use crate::model::GatewayVerdict;

/// A part of a compact token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Header,
    Claims,
    Signature,
    EncryptedKey,
    InitializationVector,
    Ciphertext,
    Tag,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
            Self::EncryptedKey => "encrypted key",
            Self::InitializationVector => "initialization vector",
            Self::Ciphertext => "ciphertext",
            Self::Tag => "authentication tag",
        })
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("there is no token")]
    Missing,
    #[error("it is longer than {0} bytes")]
    TooLarge(usize),
    #[error("it is not in compact form: three segments (JWS) or five (JWE) with dots between")]
    NotCompact,
    #[error("its {0} is not base64url in its one form: no padding, no white space, no stray bits")]
    NotBase64Url(Part),
    #[error("its {0}: {1}")]
    NotAnObject(Part, NotAnObject),
    #[error("its header's `{0}` is missing or cannot be read")]
    HeaderMember(&'static str),
    #[error("its claim `{0}` is missing")]
    NoClaim(&'static str),
    #[error("its claim `{0}` cannot be read")]
    BadClaim(&'static str),
    #[error("its header demands what is not understood (`crit` or `b64`)")]
    Critical,
    #[error("its `typ` or `cty` is not the one expected")]
    Type,
    #[error("its audience takes encrypted tokens alone, and it is a bare JWS")]
    NotEncrypted,
    #[error("it cannot be decrypted")]
    Undecryptable,
    #[error("its issuer is unknown")]
    UnknownIssuer,
    #[error("its issuer is another tenant's, or its `tenant_id` is not its issuer's tenant")]
    OtherTenant,
    #[error("its algorithm is none that is allowed")]
    Alg,
    #[error("its algorithm is not its key's")]
    AlgNotOfKey,
    #[error("it names no key (`kid`), or one that its issuer does not have")]
    UnknownKey,
    #[error("its key has been revoked")]
    KeyRevoked,
    #[error("its key is not in use yet, or no more")]
    KeyRetired,
    #[error("its signature does not hold")]
    Signature,
    #[error("it is not valid yet: its `nbf` or `iat` lies ahead")]
    NotYetValid,
    #[error("it has expired")]
    Expired,
    #[error("it lives longer (`exp` − `iat`) than its tenant allows")]
    LifetimeTooLong,
    #[error("it is for another audience")]
    Audience,
    #[error("it lacks a scope that is needed")]
    Scope,
    #[error("it is bound to a key (`cnf`) that was not shown")]
    SenderConstraint,
    #[error("it, its session, its subject, its client, its key or what it was made from has been revoked")]
    Revoked,
    #[error("its tenant is suspended")]
    TenantSuspended,
}

impl Fault {
    /// The closed word for events, metrics and log fields.
    pub(crate) const fn verdict(self) -> GatewayVerdict {
        match self {
            Self::Missing => GatewayVerdict::MissingToken,
            Self::TooLarge(_)
            | Self::NotCompact
            | Self::NotBase64Url(_)
            | Self::NotAnObject(..)
            | Self::HeaderMember(_)
            | Self::NoClaim(_)
            | Self::BadClaim(_) => GatewayVerdict::Malformed,
            Self::Critical => GatewayVerdict::CritNotUnderstood,
            Self::Type => GatewayVerdict::WrongType,
            Self::NotEncrypted => GatewayVerdict::NotEncrypted,
            Self::Undecryptable => GatewayVerdict::Undecryptable,
            Self::UnknownIssuer => GatewayVerdict::UnknownIssuer,
            Self::OtherTenant => GatewayVerdict::IssuerTenantMismatch,
            Self::Alg | Self::AlgNotOfKey => GatewayVerdict::AlgNotAllowed,
            Self::UnknownKey => GatewayVerdict::UnknownKey,
            Self::KeyRevoked => GatewayVerdict::KeyRevoked,
            Self::KeyRetired => GatewayVerdict::KeyRetired,
            Self::Signature => GatewayVerdict::BadSignature,
            Self::NotYetValid => GatewayVerdict::NotYetValid,
            Self::Expired => GatewayVerdict::Expired,
            Self::LifetimeTooLong => GatewayVerdict::LifetimeTooLong,
            Self::Audience => GatewayVerdict::WrongAudience,
            Self::Scope => GatewayVerdict::InsufficientScope,
            Self::SenderConstraint => GatewayVerdict::SenderConstraint,
            Self::Revoked => GatewayVerdict::Revoked,
            Self::TenantSuspended => GatewayVerdict::TenantSuspended,
        }
    }
}
