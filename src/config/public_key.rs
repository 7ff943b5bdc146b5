//! Public keys as people have them: PEM, or the bare bytes in base64.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use super::leaf::{Leaf, quoted, text};
use super::written::Written;

/// An Ed25519 public key (RFC 8032, section 5.1.5).
pub(super) struct Ed25519Key(pub(super) [u8; 32]);

/// What stands before the key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The `y` of all points of small order, also in encodings above the field's prime: such a key "signs" whatever anyone
/// likes (the list is libsodium's, `ge25519_has_small_order`).
const SMALL_ORDER: [[u8; 32]; 7] = [
    small(0x00, 0x00, 0x00),
    small(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    small(0xec, 0xff, 0x7f),
    small(0xed, 0xff, 0x7f),
    small(0xee, 0xff, 0x7f),
];

/// The first byte, all between, the last.
const fn small(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut y = [between; 32];
    (y[0], y[31]) = (first, last);
    y
}

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

    /// Whether the bytes stand for one of the eight points that a signature proves nothing with.
    fn is_of_small_order(&self) -> bool {
        let mut y = self.0;
        // The sign of `x`.
        y[31] &= 0x7f;
        SMALL_ORDER.contains(&y)
    }
}

impl Leaf for Ed25519Key {
    fn read(written: &Written) -> Result<Self, String> {
        let key = Self::parse(text(written)?).ok_or(
            "is an Ed25519 public key: what `openssl pkey -in KEY.pem -pubout` prints, or its 32 bytes in base64",
        )?;
        if key.is_of_small_order() {
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
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

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
            assert!(!key.is_of_small_order());
        }
        for text in ["", "key", "AQAB", "-----BEGIN PUBLIC KEY-----\nMCow", &format!("{X}A"), &X[1..]] {
            assert!(Ed25519Key::parse(text).is_none(), "{text}");
        }
    }

    /// Why they are refused: the signature of all zeros but R = the neutral point holds for any message.
    #[test]
    fn a_point_of_small_order_is_no_key() {
        let mut neutral_point = [0; 64];
        neutral_point[0] = 1;
        let signs_anything = UnparsedPublicKey::new(&ED25519, SMALL_ORDER[1]);
        assert!(signs_anything.verify(b"whatever anyone likes", &neutral_point).is_ok());
        for y in SMALL_ORDER {
            let mut mirrored = y;
            mirrored[31] |= 0x80;
            assert!(Ed25519Key(y).is_of_small_order() && Ed25519Key(mirrored).is_of_small_order(), "{y:?}");
        }
    }
}
