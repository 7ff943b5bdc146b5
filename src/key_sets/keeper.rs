//! Keeps the key sets fresh: one task an issuer, one snapshot for all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use reqwest::Url;
use tokio::time::Instant;

use super::document::Document;
use super::fetch::fetch;
use super::{GOOD_FOR, KeySetError};
use crate::clock::{Clock, Random};
use crate::config::{Issuer, JwksSource};
use crate::lifecycle::Lifecycle;
use crate::model::UnixMs;
use crate::outbound::{Outbound, Timeouts};
use crate::pipeline::verify::{BadKey, FetchedKeys, IssuerId, Trust};
use crate::telemetry::{ByResult, Condition, Metrics, Readiness};
use crate::token::sha256_base64url;

/// How often things are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Whether a key was missed, and whether a set became too old.
    pub(crate) look: Duration,
    /// An issuer whose tokens name unknown keys is asked at most this often for them: anyone can make up a kid.
    pub(crate) after_a_miss: Duration,
    /// Waited after a failure, doubled each time up to the issuer's `refresh`.
    pub(crate) after_a_failure: Duration,
    pub(crate) timeouts: Timeouts,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(1),
            after_a_miss: Duration::from_secs(60),
            after_a_failure: Duration::from_secs(10),
            timeouts: Timeouts::default(),
        }
    }
}

/// The issuers whose keys are fetched, and the snapshot that knows of them.
pub(crate) struct Keeper {
    sources: Vec<Source>,
    board: Arc<Board>,
}

/// Where snapshots are published.
struct Board {
    /// Everything that does not change while we run.
    base: Trust,
    /// What is known of each issuer. The lock is held for as long as it takes to make a snapshot of it.
    known: Mutex<BTreeMap<IssuerId, FetchedKeys>>,
    published: Arc<ArcSwap<Trust>>,
}

/// One issuer.
struct Source {
    issuer: IssuerId,
    url: Url,
    refresh: Duration,
    outbound: Outbound,
    pace: Pace,
    /// Where its set is kept.
    file: PathBuf,
    held: Option<Document>,
    keys: FetchedKeys,
    clock: Clock,
}

/// What a fetch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetched {
    Swapped,
    Unchanged,
}

impl Keeper {
    /// Reads what lies in `folder` of the issuers that have a URL. Nothing is fetched yet. Blocks.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn open(
        base: Trust,
        issuers: &[Issuer],
        folder: &Path,
        pace: Pace,
        clock: &Clock,
    ) -> Result<Self, KeySetError> {
        let mut sources = Vec::new();
        for issuer in issuers {
            let Some(JwksSource::Url(jwks)) = &issuer.jwks else { continue };
            let id = IssuerId { tenant: issuer.tenant.clone(), iss: issuer.iss.clone() };
            // Another URL is another file: a set that was fetched from elsewhere is not this one.
            let name = format!("{}\x1f{}\x1f{}", id.tenant, id.iss, jwks.url);
            let file = folder.join(sha256_base64url(name.as_bytes())).with_extension("json");
            let held = Document::read(&file, &id.iss);
            let mut source = Source {
                outbound: Outbound::new(jwks.allow_private, pace.timeouts).map_err(KeySetError::Client)?,
                url: jwks.url.clone(),
                refresh: jwks.refresh,
                keys: FetchedKeys::default(),
                clock: clock.clone(),
                issuer: id,
                pace,
                file,
                held,
            };
            source.judge();
            sources.push(source);
        }
        let known: BTreeMap<_, _> =
            sources.iter().map(|source| (source.issuer.clone(), source.keys.clone())).collect();
        let published = Arc::new(ArcSwap::from_pointee(base.with_fetched(&known)));
        Ok(Self { sources, board: Arc::new(Board { base, known: Mutex::new(known), published }) })
    }

    /// Where the newest snapshot is to be found.
    pub(crate) fn published(&self) -> Arc<ArcSwap<Trust>> {
        Arc::clone(&self.board.published)
    }

    /// Fetches each set once and keeps nothing; says of each issuer why it failed. For `jwtrail check`.
    pub(crate) async fn try_each(self) -> Vec<(String, Result<(), KeySetError>)> {
        let mut tried = Vec::new();
        for source in self.sources {
            let asked = source.ask().await.map(|_| ());
            tried.push((source.issuer.iss, asked));
        }
        tried
    }

    /// Keeps the sets fresh until the process drains, each at once and then again and again. Resolves when every issuer of
    /// whom nothing is known has been asked once: what is walked before that would find every key unknown.
    pub(crate) async fn start(self, lifecycle: &Lifecycle, metrics: &Metrics, readiness: &Readiness) {
        let mut first_answers = Vec::new();
        for source in self.sources {
            let (asked, first_answer) = tokio::sync::oneshot::channel();
            if source.keys.keys.is_none() {
                first_answers.push(first_answer);
            }
            let keeping = Keeping {
                condition: readiness.condition(format!("keys of {}", source.issuer.iss)),
                board: Arc::clone(&self.board),
                metrics: metrics.clone(),
                was_known: None,
                source,
            };
            let name = format!("key set of {}", keeping.source.issuer.iss);
            lifecycle.spawn(name, keeping.run(lifecycle.clone(), asked));
        }
        for first_answer in first_answers {
            // An error is a task that ended because the process drains.
            let _ = first_answer.await;
        }
    }
}

impl Board {
    fn publish(&self, issuer: &IssuerId, keys: &FetchedKeys) {
        // A map of shared sets is whole whatever panicked beside it.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(issuer.clone(), keys.clone());
        self.published.store(Arc::new(self.base.with_fetched(&*known)));
    }

    /// How many issuers' keys count as unknown.
    fn unknown(&self) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|keys| keys.keys.is_none()).count()
    }
}

impl Source {
    /// Fetches the set. Also says which keys of it cannot be used.
    async fn ask(&self) -> Result<(Document, Vec<BadKey>), KeySetError> {
        let answer = fetch(&self.outbound, &self.url).await?;
        Document::of_answer(&self.issuer.iss, &answer, self.held.as_ref(), self.clock.now())
    }

    /// Fetches the set, and keeps it.
    async fn fetch(&mut self) -> Result<Fetched, KeySetError> {
        let (document, bad) = self.ask().await?;
        let same = self.held.as_ref().is_some_and(|held| held.has_the_keys_of(&document));
        if let Some(first) = bad.first().filter(|_| !same) {
            // Somebody else's text: as much of it as helps.
            let text = |text: &str| text.chars().take(80).collect::<String>();
            tracing::warn!(
                issuer = self.issuer.iss,
                keys = bad.len(),
                first.kid = ?text(&first.kid),
                first.cause = ?text(&first.cause),
                "keys of its set cannot be used and are left out"
            );
        }
        self.held = Some(document.clone());
        let file = self.file.clone();
        let kept = tokio::task::spawn_blocking(move || document.write(&file)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(issuer = self.issuer.iss, code = error.code(), %error, "a restart without a network will not know its keys");
        }
        // One that was too old is back even if it is the same.
        let swapped = !same || self.keys.keys.is_none();
        if swapped {
            self.keys.keys = self.held.as_ref().map(|held| Arc::new(held.key_set()));
        }
        Ok(if swapped { Fetched::Swapped } else { Fetched::Unchanged })
    }

    /// Looks at the age of what is held; whether that changed what is known.
    fn judge(&mut self) -> bool {
        let good = self.held.as_ref().filter(|held| held.is_good_at(self.clock.now()));
        let changed = good.is_some() != self.keys.keys.is_some();
        match good {
            Some(held) if changed => self.keys.keys = Some(Arc::new(held.key_set())),
            Some(_) => {}
            None => self.keys.keys = None,
        }
        changed
    }

    fn fetched_at(&self) -> Option<UnixMs> {
        self.held.as_ref().map(Document::fetched_at)
    }
}

/// One issuer's task.
struct Keeping {
    source: Source,
    board: Arc<Board>,
    metrics: Metrics,
    condition: Condition,
    /// What was told last; `None` before anything was.
    was_known: Option<bool>,
}

impl Keeping {
    async fn run(mut self, lifecycle: Lifecycle, asked: tokio::sync::oneshot::Sender<()>) {
        let (mut asked, mut failures, mut missed_at) = (Some(asked), 0, None);
        let mut due = Instant::now();
        self.tell();
        loop {
            if Instant::now() >= due || self.may_look_for_a_missed_key(&mut missed_at) {
                // Cleared before it is asked: what is missed meanwhile may be in no answer yet.
                self.source.keys.missed.store(false, Ordering::Relaxed);
                let fetched = tokio::select! {
                    fetched = self.source.fetch() => fetched,
                    () = lifecycle.draining() => return,
                };
                failures = if fetched.is_ok() { 0 } else { failures + 1 };
                due = Instant::now() + self.wait(failures);
                self.take(fetched);
                drop(asked.take());
            } else if self.source.judge() {
                self.board.publish(&self.source.issuer, &self.source.keys);
            }
            self.tell();
            tokio::select! {
                () = tokio::time::sleep(self.source.pace.look) => {}
                () = lifecycle.draining() => return,
            }
        }
    }

    /// Whether the walk met a key that the set lacks, and it is not too soon to ask for it.
    fn may_look_for_a_missed_key(&self, missed_at: &mut Option<Instant>) -> bool {
        let soon = missed_at.is_some_and(|at| at.elapsed() < self.source.pace.after_a_miss);
        let missed = !soon && self.source.keys.missed.load(Ordering::Relaxed);
        if missed {
            *missed_at = Some(Instant::now());
        }
        missed
    }

    /// Until the next fetch: a tenth more or less, so that not all that started together ask together.
    fn wait(&self, failures: u32) -> Duration {
        let refresh = self.source.refresh;
        let wait = match failures {
            0 => refresh,
            failures => (self.source.pace.after_a_failure * (1 << (failures - 1).min(16))).min(refresh),
        };
        let [random] = Random::bytes::<1>();
        wait * 9 / 10 + wait * u32::from(random) / 5 / 255
    }

    fn take(&mut self, fetched: Result<Fetched, KeySetError>) {
        let issuer = self.source.issuer.iss.clone();
        let result = match fetched {
            Ok(Fetched::Unchanged) => "unchanged",
            Ok(Fetched::Swapped) => {
                self.board.publish(&self.source.issuer, &self.source.keys);
                let keys = self.source.keys.keys.as_ref().map_or(0, |keys| keys.len());
                tracing::info!(issuer, keys, "its key set is a new one");
                "swapped"
            }
            Err(error) => {
                // It may have become too old meanwhile.
                if self.source.judge() {
                    self.board.publish(&self.source.issuer, &self.source.keys);
                }
                let since = self.source.fetched_at().map_or_else(|| "never".to_owned(), |at| at.to_string());
                tracing::warn!(issuer, code = error.code(), %error, fetched_at = since, "its key set was not fetched");
                "kept"
            }
        };
        self.metrics.key_sets_fetched.get_or_create(&ByResult { result }).inc();
    }

    /// Says in `/readyz`, in the metrics and once in the log whether its keys are known.
    fn tell(&mut self) {
        let known = self.source.keys.keys.is_some();
        if self.was_known == Some(known) {
            return;
        }
        self.metrics.key_sets_unknown.set(i64::try_from(self.board.unknown()).unwrap_or(i64::MAX));
        let issuer = &self.source.issuer.iss;
        if known {
            self.condition.met();
        } else {
            let why = match self.source.fetched_at() {
                Some(at) => {
                    format!("its key set was fetched at {at}, more than {} h ago", GOOD_FOR.as_secs() / 3_600)
                }
                None => "its key set has not been fetched yet".to_owned(),
            };
            self.condition.unmet(format!("{why}: every key of it counts as unknown"));
            if self.was_known.is_some() {
                tracing::error!(
                    issuer,
                    why,
                    "every key of this issuer counts as unknown until its set is fetched"
                );
            }
        }
        self.was_known = Some(known);
    }
}
