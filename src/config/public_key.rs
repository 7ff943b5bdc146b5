//! Public keys as people have them: PEM, or the bare bytes in base64.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use super::leaf::{Leaf, quoted, text};
use super::written::Written;
use crate::token::is_of_small_order;

/// An Ed25519 public key (RFC 8032, section 5.1.5).
pub(super) struct Ed25519Key(pub(super) [u8; 32]);

/// What stands before the key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl Ed25519Key {
    fn parse(text: &str) -> Option<Self> {
        let body = text.trim();
        let body = match body.strip_prefix("-----BEGIN PUBLIC KEY-----") {
            Some(pem) => pem.strip_suffix("-----END PUBLIC KEY-----")?,
            None => body,
        };
        let body: String = body.split_ascii_whitespace().collect();
        let bytes = BASE64_STANDARD
            .decode(&body)
            .or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')))
            .ok()?;
        bytes.strip_prefix(&SPKI_PREFIX).unwrap_or(&bytes).try_into().ok().map(Self)
    }
}

impl Leaf for Ed25519Key {
    fn read(written: &Written) -> Result<Self, String> {
        let key = Self::parse(text(written)?).ok_or(
            "is an Ed25519 public key: what `openssl pkey -in KEY.pem -pubout` prints, or its 32 bytes in base64",
        )?;
        if is_of_small_order(&key.0) {
            return Err("is no key that anybody made: every signature would hold with it".to_owned());
        }
        Ok(key)
    }
    fn show(&self) -> String {
        quoted(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `x` of RFC 8037's example (appendix A.2).
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn a_key_is_read_in_each_form_that_people_have() {
        for text in [
            X,
            "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n",
        ] {
            let key = Ed25519Key::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(key.0), X);
        }
        for text in ["", "key", "AQAB", "-----BEGIN PUBLIC KEY-----\nMCow", &format!("{X}A"), &X[1..]] {
            assert!(Ed25519Key::parse(text).is_none(), "{text}");
        }
    }
}
