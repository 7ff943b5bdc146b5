//! Points of Ed25519 that a signature proves nothing with.

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

/// Whether 32 bytes (RFC 8032, section 5.1.5) stand for one of the eight points of small order. Other lengths are no
/// point at all.
pub(crate) fn is_of_small_order(point: &[u8]) -> bool {
    let Ok(mut y) = <[u8; 32]>::try_from(point) else { return false };
    // The sign of `x`.
    y[31] &= 0x7f;
    SMALL_ORDER.contains(&y)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

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
            assert!(is_of_small_order(&y) && is_of_small_order(&mirrored), "{y:?}");
        }
    }
}
