//! How patient deliveries are.

use std::time::Duration;

/// Pauses and bounds; tests have shorter ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The pause after a first failure; it doubles with each further one.
    pub(crate) first: Duration,
    /// The longest pause of a destination that is away: how soon it is found to be back.
    pub(crate) away_cap: Duration,
    /// The longest pause of an alert that the destination refuses.
    pub(crate) refused_cap: Duration,
    /// After so long an alert is given up.
    pub(crate) give_up_after: Duration,
    /// Deliveries under way at the same time, a partition.
    pub(crate) at_once: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            away_cap: Duration::from_secs(60),
            refused_cap: Duration::from_secs(60 * 60),
            give_up_after: Duration::from_secs(72 * 60 * 60),
            at_once: 8,
        }
    }
}

/// A destination may ask for a longer pause than ours, up to this.
const RETRY_AFTER_CAP: Duration = Duration::from_secs(60 * 60);

impl Pace {
    /// The pause after the `failures`-th failure in a row: between half of it and all of it, by `random`; longer if the
    /// destination asked for that.
    pub(super) fn pause(
        &self,
        failures: u32,
        cap: Duration,
        random: u64,
        retry_after: Option<Duration>,
    ) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(cap);
        let part = u32::try_from(random % 1_000).unwrap_or_default();
        let pause = doubled / 2 + doubled / 2 * part / 1_000;
        retry_after.map_or(pause, |asked| pause.max(asked.min(RETRY_AFTER_CAP)))
    }
}
