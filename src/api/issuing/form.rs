//! What stands in a form, each parameter once, and who sent it.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::issuer::{GrantError, Presented};

/// A form's parameters (RFC 6749, appendix B). Empty ones count as absent (section 3.2).
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

/// A client's name and secret, as they were sent.
pub(super) struct Credentials {
    id: String,
    secret: Zeroizing<String>,
}

impl Credentials {
    pub(super) fn as_presented(&self) -> Presented<'_> {
        Presented { id: &self.id, secret: &self.secret }
    }
}

impl Form {
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, GrantError> {
        let media =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if media.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
            return Err(GrantError::InvalidRequest(
                "send the parameters as application/x-www-form-urlencoded",
            ));
        }
        let pairs = form_urlencoded::parse(body);
        Ok(Self(pairs.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect()))
    }

    /// A parameter that may stand there once.
    pub(super) fn maybe(&self, name: &str) -> Result<Option<&str>, GrantError> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let (first, second) = (values.next(), values.next());
        match second {
            Some(_) => Err(GrantError::InvalidRequest("a parameter stands there more than once")),
            None => Ok(first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())),
        }
    }

    pub(super) fn needed(&self, name: &str, missing: &'static str) -> Result<&str, GrantError> {
        self.maybe(name)?.ok_or(GrantError::InvalidRequest(missing))
    }

    /// Who sends it: in the header (`client_secret_basic`) or in the form (`client_secret_post`), never both.
    pub(super) fn client(&self, headers: &HeaderMap) -> Result<Credentials, GrantError> {
        let (id, secret) = (self.maybe("client_id")?, self.maybe("client_secret")?);
        match headers.get(header::AUTHORIZATION) {
            None => Ok(Credentials {
                id: id.ok_or(GrantError::InvalidClient)?.to_owned(),
                secret: Zeroizing::new(secret.ok_or(GrantError::InvalidClient)?.to_owned()),
            }),
            Some(_) if secret.is_some() => Err(GrantError::InvalidRequest(
                "the client presents itself both in the header and in the form",
            )),
            Some(value) => {
                let client = basic(value.as_bytes()).ok_or(GrantError::InvalidClient)?;
                if id.is_some_and(|id| id != client.id) {
                    return Err(GrantError::InvalidRequest("`client_id` is not the one in the header"));
                }
                Ok(client)
            }
        }
    }
}

/// The two parts of Basic credentials, each form-encoded (RFC 6749, section 2.3.1).
fn basic(value: &[u8]) -> Option<Credentials> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let colon = bytes.iter().position(|&byte| byte == b':')?;
    let (id, secret) = (decoded(&bytes[..colon])?, decoded(&bytes[colon + 1..])?);
    Some(Credentials { id: id.to_string(), secret })
}

/// A text that was form-encoded. `=` and `&` never stand in one unencoded, so it reads as a form of one name.
fn decoded(text: &[u8]) -> Option<Zeroizing<String>> {
    if text.contains(&b'=') || text.contains(&b'&') {
        return None;
    }
    let mut names = form_urlencoded::parse(text).map(|(name, _)| Zeroizing::new(name.into_owned()));
    Some(names.next().unwrap_or_default())
}
