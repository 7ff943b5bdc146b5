//! Users' passwords: hashed with argon2id (RFC 9106), few at a time, off the threads that serve.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::control::{Invalid, PasswordHash};
use crate::clock::Random;

/// OWASP's first choice (Password Storage): what logins cost, too.
const MEMORY_KIB: u32 = 19 << 10;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// So many at once: each takes its 19 MiB and a core for as long as it lasts.
const AT_ONCE: usize = 2;

/// Bytes of a password. The upper bound keeps it from being work of its own.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=1_024;

/// Why a password was not hashed. Nothing of it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("a password has 8 to 1024 bytes")]
    Length,
    #[error("the password could not be hashed: the machine is out of memory or going down; try again")]
    NotHashed,
}

/// Hashes passwords.
#[derive(Clone)]
pub(crate) struct Passwords(Arc<Semaphore>);

impl Default for Passwords {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Passwords {
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<PasswordHash, PasswordError> {
        if !LENGTH.contains(&password.len()) {
            return Err(PasswordError::Length);
        }
        let _turn = self.0.acquire().await.map_err(|_| PasswordError::NotHashed)?;
        let hashed = tokio::task::spawn_blocking(move || hash(&password, &Random::bytes::<16>()));
        hashed.await.map_err(|_| PasswordError::NotHashed)?
    }
}

/// In PHC string format.
fn hash(password: &str, salt: &[u8]) -> Result<PasswordHash, PasswordError> {
    let mut output = Zeroizing::new([0; 32]);
    let hashed = Params::new(MEMORY_KIB, PASSES, LANES, Some(output.len())).and_then(|params| {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
            password.as_bytes(),
            salt,
            &mut output[..],
        )
    });
    hashed.map_err(|_| PasswordError::NotHashed)?;
    let text = format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(&output[..])
    );
    PasswordHash::try_from(text).map_err(|_: Invalid| PasswordError::NotHashed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_hashed_with_a_salt_of_its_own() {
        let passwords = Passwords::default();
        let hashed = async |password: &str| passwords.hash(Zeroizing::new(password.to_owned())).await;
        let (one, two) = (hashed("correct horse").await.unwrap(), hashed("correct horse").await.unwrap());
        assert_ne!(one, two);
        let text = one.as_str();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && !text.contains("horse"), "{text}");
        let salt = STANDARD_NO_PAD.decode(text.split('$').nth(4).unwrap()).unwrap();
        assert_eq!(hash("correct horse", &salt), Ok(one));
        assert_eq!(hashed("short").await, Err(PasswordError::Length));
        assert_eq!(hashed(&"x".repeat(1_025)).await, Err(PasswordError::Length));
    }
}
