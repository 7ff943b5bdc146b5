//! Keys of the state: short, of one size, and of no text that anybody could choose to collide.

use super::checkpoint::StoreKey;

/// The first 16 bytes of SHA-256 over length-prefixed parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StateKey([u8; 16]);

impl StateKey {
    pub(super) fn of(parts: &[&str]) -> Self {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in parts {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&digest.finish().as_ref()[..16]);
        Self(key)
    }

    pub(super) fn low_bits(self) -> u64 {
        u64::from_be_bytes(self.0[8..].try_into().unwrap_or_default())
    }
}

impl StoreKey for StateKey {
    type Bytes = [u8; 16];
    fn to_bytes(&self) -> [u8; 16] {
        self.0
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}
