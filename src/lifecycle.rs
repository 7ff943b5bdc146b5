//! The one owner of tasks and threads, and of the two-step shutdown: the first signal drains, flushes, commits and
//! exits 0; the second, or the grace period's end, aborts without committing (safe, because ids are deterministic).

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// Finish what is in flight, commit, and return.
    Draining,
    /// Return now, commit nothing.
    Aborting,
}

/// A spawned task, by name.
type Task = (String, JoinHandle<()>);

/// Spawns every task and thread of the process, tells them when to stop, and waits for them.
#[derive(Clone)]
pub(crate) struct Lifecycle {
    phase: watch::Sender<Phase>,
    tasks: Arc<Mutex<Vec<Task>>>,
    /// Why the process ends although nobody asked for it.
    failure: Arc<OnceLock<String>>,
    grace: Duration,
}

impl Lifecycle {
    /// `grace` is how long draining may take before it turns into aborting.
    pub(crate) fn new(grace: Duration) -> Self {
        let phase = watch::Sender::new(Phase::Running);
        Self { phase, tasks: Arc::default(), failure: Arc::default(), grace }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Resolves once the process is draining (or aborting).
    pub(crate) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves once the process is aborting.
    pub(crate) async fn aborting(&self) {
        self.reached(Phase::Aborting).await;
    }

    async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Moves on to `phase`; never back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Drains because a part of the process is broken for good: half a pipeline must not look healthy.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!(why, "shutting down");
        // The first failure is what the others come from.
        let _ = self.failure.set(why);
        self.advance(Phase::Draining);
    }

    /// Why the process ends, if it failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Spawns a task that [`Lifecycle::finish`] waits for. A task that panics is a [failure](Self::fail).
    pub(crate) fn spawn(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let name = name.into();
        let panicked = PanicGuard { lifecycle: self.clone(), name: name.clone() };
        #[expect(clippy::disallowed_methods, reason = "this is the owner of task spawning")]
        let handle = tokio::spawn(async move {
            task.await;
            drop(panicked);
        });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Lanes come and go for as long as the process lives: what has ended need not be waited for.
        tasks.retain(|(_, handle)| !handle.is_finished());
        tasks.push((name, handle));
    }

    /// Spawns a named plain thread: the pure rooms and blocking clients run on these.
    pub(crate) fn thread<T: Send + 'static>(
        name: impl Into<String>,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<T>> {
        // Deep queries of the embedded engine need 8 MiB; the pages are only touched when used.
        std::thread::Builder::new().name(name.into()).stack_size(8 << 20).spawn(body)
    }

    /// Listens for SIGINT and SIGTERM: the first drains, the second (or the grace period) aborts.
    pub(crate) fn watch_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let lifecycle = self.clone();
        #[expect(clippy::disallowed_methods, reason = "this is the owner of task spawning; not waited for")]
        tokio::spawn(async move {
            loop {
                tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
                match lifecycle.phase() {
                    Phase::Running => lifecycle.advance(Phase::Draining),
                    Phase::Draining | Phase::Aborting => lifecycle.advance(Phase::Aborting),
                }
            }
        });
        Ok(())
    }

    /// Waits until draining begins, then for every task: at most the grace period for an orderly end, then five
    /// seconds for an abort. Returns the names of the tasks that had to be left behind.
    pub(crate) async fn finish(&self) -> Vec<String> {
        self.draining().await;
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let abort_after_grace = async {
            tokio::select! { () = tokio::time::sleep(self.grace) => {} () = self.aborting() => {} }
            self.advance(Phase::Aborting);
            tokio::time::sleep(Duration::from_secs(5)).await;
        };
        tokio::pin!(abort_after_grace);
        let (mut left, mut expired) = (Vec::new(), false);
        for (name, mut handle) in tasks {
            tokio::select! {
                biased;
                _ = &mut handle => continue,
                () = &mut abort_after_grace, if !expired => expired = true,
                // The time is up: what has not ended by now is left behind.
                () = std::future::ready(()), if expired => {}
            }
            handle.abort();
            left.push(name);
        }
        left
    }
}

struct PanicGuard {
    lifecycle: Lifecycle,
    name: String,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lifecycle.fail(format!("{} panicked", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_drains_and_is_a_failure() {
        let lifecycle = Lifecycle::new(Duration::from_secs(60));
        let sees = lifecycle.clone();
        lifecycle.spawn("other", async move { sees.draining().await });
        assert_eq!(lifecycle.failure(), None);
        lifecycle.spawn("first", async { panic!("of the test") });
        assert_eq!(lifecycle.finish().await, Vec::<String>::new());
        assert_eq!(lifecycle.failure(), Some("first panicked"));
        lifecycle.fail("what comes of it".to_owned());
        assert_eq!(lifecycle.failure(), Some("first panicked"));
    }

    #[tokio::test]
    async fn an_end_that_was_asked_for_is_no_failure() {
        let lifecycle = Lifecycle::new(Duration::from_secs(60));
        for _ in 0..100 {
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            lifecycle.spawn("short", async { drop(end) });
            assert!(ended.await.is_err());
            tokio::task::yield_now().await;
        }
        let waiting = lifecycle.tasks.lock().unwrap().len();
        assert!(waiting < 10, "{waiting} tasks are kept");
        lifecycle.advance(Phase::Draining);
        assert_eq!(lifecycle.finish().await, Vec::<String>::new());
        assert_eq!(lifecycle.failure(), None);
    }
}
