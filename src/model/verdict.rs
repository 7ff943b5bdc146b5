//! What is said of a token: by the gateway, and by our own `verify`.

use serde::{Deserialize, Serialize};

/// Declares a closed set of words: the enum, its text, and the way back.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub(crate) enum $name { $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every word, in order of declaration.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// `None` if `text` is none of the words.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        // A set of words is whole, whether or not each of these is asked for already.
        const _: (&[$name], fn(&str) -> Option<$name>) = ($name::ALL, $name::parse);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What the gateway found when it looked at the token.
    GatewayVerdict {
        Valid = "valid",
        Unspecified = "unspecified",
        Malformed = "malformed",
        MissingToken = "missing_token",
        BadSignature = "bad_signature",
        UnknownIssuer = "unknown_issuer",
        IssuerTenantMismatch = "issuer_tenant_mismatch",
        UnknownKey = "unknown_key",
        KeyRetired = "key_retired",
        KeyRevoked = "key_revoked",
        AlgNotAllowed = "alg_not_allowed",
        WrongType = "wrong_type",
        CritNotUnderstood = "crit_not_understood",
        NotEncrypted = "not_encrypted",
        Undecryptable = "undecryptable",
        /// Let through unread.
        Opaque = "opaque",
        Expired = "expired",
        NotYetValid = "not_yet_valid",
        LifetimeTooLong = "lifetime_too_long",
        WrongAudience = "wrong_audience",
        InsufficientScope = "insufficient_scope",
        SenderConstraint = "sender_constraint",
        Revoked = "revoked",
        TenantSuspended = "tenant_suspended",
    }
}

impl GatewayVerdict {
    /// Whether the gateway has checked the signature and found it good.
    pub(crate) const fn signature_verified(self) -> bool {
        matches!(
            self,
            Self::Valid
                | Self::Expired
                | Self::NotYetValid
                | Self::LifetimeTooLong
                | Self::WrongAudience
                | Self::InsufficientScope
                | Self::SenderConstraint
                | Self::Revoked
                | Self::TenantSuspended
        )
    }

    /// Whether the gateway says that the token must not be let through.
    pub(crate) const fn is_refusal(self) -> bool {
        !matches!(self, Self::Valid | Self::Unspecified | Self::Opaque)
    }
}

/// Our own verdict: the first of DESIGN's list that holds, else the gateway's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Verdict {
    /// Ours, or the gateway's word taken over.
    Token(GatewayVerdict),
    /// The tenant requires a record signature and it is missing or bad.
    Unattested(Unattested),
}

words! {
    /// The one verdict that a gateway cannot give.
    Unattested { Unattested = "unattested", }
}

impl Verdict {
    pub(crate) const UNATTESTED: Self = Self::Unattested(Unattested::Unattested);

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Token(verdict) => verdict.as_str(),
            Self::Unattested(word) => word.as_str(),
        }
    }
}

words! {
    /// What backs a verdict.
    Proof {
        None = "none",
        /// A valid record signature by that gateway or by the door.
        GatewayAttested = "gateway_attested",
        LedgerJtiMatched = "ledger_jti_matched",
        LedgerMatched = "ledger_matched",
    }
}
