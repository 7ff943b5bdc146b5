//! Who a client is (RFC 6749, section 2.3.1), by a secret of ours.

use super::GrantError;
use crate::issuer::control::{Client, is_one_of};

/// What a client says of itself: read from one place of the request alone.
#[derive(Clone, Copy)]
pub(crate) struct Presented<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: &'a str,
}

/// Whether the secret is one of the client's. A public client has none and can prove nothing.
pub(super) fn check(client: &Client, presented: &Presented<'_>) -> Result<(), GrantError> {
    if !client.disabled && is_one_of(&client.secrets, presented.secret) {
        Ok(())
    } else {
        Err(GrantError::InvalidClient)
    }
}
