//! The one owner of wall time and of randomness. The pure rooms never see either: they use the event's own time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;

use crate::model::UnixMs;

/// Wall time: the system's, or one that a test sets by hand.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests set the time by hand"))]
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// Milliseconds since the epoch, now.
    pub(crate) fn now(&self) -> UnixMs {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the owner of wall time")]
            Self::System => UnixMs::from(std::time::SystemTime::now()),
            Self::Manual(ms) => UnixMs::new(ms.load(Ordering::Relaxed)),
        }
    }

    /// A new time-ordered id (RFC 9562, UUIDv7).
    pub(crate) fn new_id(&self) -> Uuid {
        let random = Random::bytes::<10>();
        uuid::Builder::from_unix_timestamp_millis(self.now().get().unsigned_abs(), &random).into_uuid()
    }
}

/// Randomness for ids and secrets, from the operating system.
pub(crate) struct Random;

impl Random {
    /// `N` unguessable bytes.
    pub(crate) fn bytes<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        #[expect(
            clippy::expect_used,
            reason = "without the system's randomness nothing here is safe to go on"
        )]
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system's random source answers");
        bytes
    }

    /// `N` unguessable bytes in hexadecimal: log ids, request ids.
    pub(crate) fn hex<const N: usize>() -> String {
        Self::bytes::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
