//! Waiting out what fails (PROMISE, clause 10): longer each time, for as long as it takes, and saying meanwhile what is
//! wrong. Whatever waits holds what it has and takes nothing more, so that memory stays bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::log::LogError;

/// What may be hoped for after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// It passes by itself: something is away, busy or full.
    Passes,
    /// A person has to mend it: rights, a schema, a topic. What waited then goes on by itself.
    IsMended,
    /// None: to wait is no use.
    Never,
}

impl Hope {
    /// How long to wait before the next repetition: twice as long as the last time, within bounds.
    fn wait(self, last: Option<Duration>) -> Option<Duration> {
        let (first, most) = match self {
            Self::Passes => (Duration::from_millis(100), Duration::from_secs(10)),
            Self::IsMended => (Duration::from_secs(1), Duration::from_secs(60)),
            Self::Never => return None,
        };
        Some(last.map_or(first, |last| last * 2).clamp(first, most))
    }
}

/// Whose failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Log,
    ClickHouse,
}

/// An error that says what may be hoped for.
pub(crate) trait Failure: std::error::Error {
    fn hope(&self) -> Hope;
    fn part(&self) -> Part;
    /// The closed word for metrics and log fields.
    fn word(&self) -> &'static str;
}

impl Failure for LogError {
    fn hope(&self) -> Hope {
        match self {
            Self::Unavailable { .. } => Hope::Passes,
            Self::NotHeld { .. } => Hope::Never,
            // A broken log does not mend itself while it is open, but to end would not mend it either.
            Self::TooLarge { .. } | Self::Topic { .. } | Self::Settings { .. } | Self::Broken { .. } => {
                Hope::IsMended
            }
        }
    }

    fn part(&self) -> Part {
        Part::Log
    }

    fn word(&self) -> &'static str {
        self.code()
    }
}

/// Why something is being waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) part: Part,
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) text: String,
    /// Failures so far, one after the other.
    pub(crate) failures: u64,
}

/// What is being waited for, each by its own number: several things go on at the same time.
pub(crate) type Troubles = BTreeMap<u64, Trouble>;

/// What one partition waits for.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    troubles: watch::Sender<Troubles>,
    next: AtomicU64,
}

impl Patience {
    /// Marked as changed at every failure, and when what failed has succeeded.
    pub(crate) fn troubles(&self) -> watch::Receiver<Troubles> {
        self.troubles.subscribe()
    }

    /// One thing that may fail again and again.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        Waiting { patience: self, number: self.next.fetch_add(1, Ordering::Relaxed), failures: 0, last: None }
    }

    /// Repeats `attempt` until it succeeds, or fails without hope. Dropping the call is as safe as dropping the attempt.
    pub(crate) async fn wait_out<T, E: Failure, F: Future<Output = Result<T, E>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E> {
        let mut waiting = self.waiting();
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => waiting.failed(error).await?,
            }
        }
    }
}

/// The repetitions of one thing. Dropped, it waits no more.
#[derive(Debug)]
pub(crate) struct Waiting<'p> {
    patience: &'p Patience,
    number: u64,
    failures: u64,
    last: Option<Duration>,
}

impl Waiting<'_> {
    /// Waits, longer than the last time; hands the error back if there is no hope.
    pub(crate) async fn failed<E: Failure>(&mut self, error: E) -> Result<(), E> {
        let Some(wait) = error.hope().wait(self.last) else { return Err(error) };
        self.last = Some(wait);
        self.failures += 1;
        let trouble = Trouble {
            part: error.part(),
            code: error.word(),
            text: error.to_string(),
            failures: self.failures,
        };
        self.patience.troubles.send_modify(|troubles| drop(troubles.insert(self.number, trouble)));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// The next failure is a new one.
    pub(crate) fn succeeded(&mut self) {
        (self.failures, self.last) = (0, None);
        self.patience.troubles.send_if_modified(|troubles| troubles.remove(&self.number).is_some());
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.succeeded();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn away() -> LogError {
        LogError::Unavailable { doing: "testing", cause: "the broker is away".to_owned() }
    }

    fn wrong() -> LogError {
        LogError::Topic { topic: "jwtrail.events", cause: "is not there".to_owned() }
    }

    fn lost() -> LogError {
        LogError::NotHeld { doing: "testing" }
    }

    #[test]
    fn a_wait_grows_up_to_its_bound() {
        let waits = |hope: Hope| {
            let next = move |last: &Option<Duration>| hope.wait(*last).map(Some);
            std::iter::successors(next(&None), next).flatten().take(9).map(|wait| wait.as_millis())
        };
        let of = |hope| waits(hope).collect::<Vec<_>>();
        assert_eq!(of(Hope::Passes), [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(of(Hope::IsMended), [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        assert_eq!(of(Hope::Never), Vec::<u128>::new());
        // Whoever has waited long for what passes waits no shorter for what does not.
        assert_eq!(Hope::IsMended.wait(Some(Duration::from_secs(10))), Some(Duration::from_secs(20)));
        assert_eq!(Hope::Passes.wait(Some(Duration::from_secs(60))), Some(Duration::from_secs(10)));
    }

    /// A failure, without its wait.
    async fn fail(waiting: &mut Waiting<'_>, error: LogError) {
        let waited = tokio::time::timeout(Duration::ZERO, waiting.failed(error)).await;
        assert!(waited.is_err(), "it waits");
    }

    #[tokio::test]
    async fn what_is_waited_for_is_told_until_it_is_over() {
        let patience = Patience::default();
        let troubles = patience.troubles();
        let told = || troubles.borrow().values().map(|it| (it.code, it.failures)).collect::<Vec<_>>();
        let (mut first, mut second) = (patience.waiting(), patience.waiting());
        fail(&mut first, away()).await;
        fail(&mut second, wrong()).await;
        fail(&mut first, away()).await;
        assert_eq!(told(), [("log_unavailable", 2), ("topic_wrong", 1)]);
        first.succeeded();
        assert_eq!(told(), [("topic_wrong", 1)]);
        fail(&mut first, away()).await;
        assert_eq!(told(), [("log_unavailable", 1), ("topic_wrong", 1)]);
        // As when whoever waits is dropped.
        drop((first, second));
        assert_eq!(told(), []);
    }

    #[tokio::test]
    async fn an_attempt_is_repeated_while_there_is_hope() {
        let patience = Patience::default();
        let attempts = Cell::new(0);
        let attempt = |last: fn() -> Result<(), LogError>| {
            attempts.set(attempts.get() + 1);
            let outcome = if attempts.get() % 3 == 0 { last() } else { Err(away()) };
            std::future::ready(outcome)
        };
        patience.wait_out(|| attempt(|| Ok(()))).await.unwrap();
        assert_eq!(attempts.get(), 3);
        assert_eq!(patience.wait_out(|| attempt(|| Err(lost()))).await.unwrap_err().code(), "not_held");
        assert_eq!(attempts.get(), 6);
        assert!(patience.troubles().borrow().is_empty());
    }
}
