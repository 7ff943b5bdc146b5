//! What clients, users, audiences, scopes and keys may be called.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// A checked text: made by `parse` alone, and by serde through it.
macro_rules! names {
    ($($(#[$meta:meta])* $name:ident($field:literal, $is:expr, $rule:literal);)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub(crate) struct $name(Box<str>);

        impl $name {
            pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
                let is: fn(&str) -> bool = $is;
                if is(text) { Ok(Self(text.into())) } else { Err(Invalid::new($field, concat!("is ", $rule))) }
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+};
}

fn is_visible(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

names! {
    /// A `client_id` (RFC 6749, appendix A.1), without spaces.
    ClientId("client_id", |text| is_visible(text, 128), "1 to 128 visible ASCII characters");

    /// Whom a token is for (`aud`): a resource server's absolute URI or a logical name (RFC 8707, RFC 8693), compared as
    /// one exact string. A fragment is no part of it.
    AudienceName(
        "audience",
        |text| is_visible(text, 512) && !text.contains('#'),
        "1 to 512 visible ASCII characters without `#`"
    );

    /// One scope (RFC 6749, section 3.3).
    ScopeName(
        "scope",
        |text| is_visible(text, 128) && !text.contains(['"', '\\']),
        "1 to 128 visible ASCII characters without `\"` and `\\`"
    );

    /// What a user types to log in.
    Username(
        "username",
        |text| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control),
        "1 to 256 bytes without control characters"
    );

    /// `sub`. Users and clients of a tenant share one namespace; a client's is its id.
    Subject(
        "subject",
        |text| (1..=255).contains(&text.len()) && !text.chars().any(char::is_control),
        "1 to 255 bytes without control characters"
    );

    /// `kid`: the key's thumbprint (RFC 7638, SHA-256, base64url).
    KeyId("kid", crate::token::is_ref, "43 characters of base64url: the key's SHA-256 thumbprint");

    /// A gateway's name (`source.gateway` of its events), or that of an administrator's key.
    PlainName("name", crate::model::is_name, "1 to 63 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit");
}
