//! How long a login has to wait after others have failed.

use std::time::Duration;

use crate::model::TenantId;

/// Whose failures are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Login {
    /// A user of a tenant, by the HMAC of its name: there need be no such user.
    User { tenant: TenantId, name: [u8; 32] },
    /// Where the login comes from, over all tenants: `198.51.100.0/24`, `2001:db8::/56`.
    Network(String),
}

impl Login {
    /// Its key in the store.
    pub(super) fn key(&self) -> String {
        match self {
            Self::User { tenant, name } => format!("u:{tenant}:{}", hex(name)),
            Self::Network(network) => format!("n:{network}"),
        }
    }

    /// Whether a success forgives everything, or one try.
    pub(super) const fn is_user(&self) -> bool {
        matches!(self, Self::User { .. })
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first `free` tries go on at once; after each one more the wait is twice as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) free: u32,
    pub(crate) first: Duration,
    /// It grows to this: a user whom somebody else is being guessed at is not locked out for long.
    pub(crate) longest: Duration,
    /// After so long without a try all is forgotten.
    pub(crate) forget: Duration,
}

impl Pace {
    /// At most some 300 guesses a day.
    pub(crate) const USER: Self = Self {
        free: 5,
        first: Duration::from_secs(1),
        longest: Duration::from_secs(5 * 60),
        forget: Duration::from_secs(60 * 60),
    };

    /// A whole office may come from one address.
    pub(crate) const NETWORK: Self = Self {
        free: 100,
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        forget: Duration::from_secs(15 * 60),
    };

    /// The wait after try number `tries`, in milliseconds.
    pub(super) fn wait_ms(self, tries: u32) -> u64 {
        match tries.checked_sub(self.free.max(1)) {
            None => 0,
            Some(over) => ms(self.first).saturating_mul(1 << over.min(30)).min(ms(self.longest)),
        }
    }
}

/// Whole milliseconds.
pub(super) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_end() {
        let waits: Vec<_> = (4..=15).map(|tries| Pace::USER.wait_ms(tries) / 1_000).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(Pace::USER.wait_ms(u32::MAX), 300_000);
        assert_eq!([99, 100, 200].map(|tries| Pace::NETWORK.wait_ms(tries)), [0, 1_000, 60_000]);
    }
}
