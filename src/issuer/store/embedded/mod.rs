//! The store in the data directory of one process. One thread makes the changes, in order; what came in meanwhile is made
//! durable by one fsync, and answered after it.

mod records;
mod rules;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{Family, FamilyId, Login, Pace, Refreshed, Revocations, Revoked, Store, StoreError, SubjectTag};
use crate::clock::Clock;
use crate::issuer::control::{Advance, Arbiter, ArbiterError};
use crate::lifecycle::Lifecycle;
use crate::model::{TenantId, UnixMs};
use records::{Change, Records, broken};

/// So many changes wait at most; who comes then waits before.
const QUEUE: usize = 1_024;
/// So many share one fsync at most.
const GROUP: usize = 256;

/// Answers, once what it answers is durable.
type Answer = Box<dyn FnOnce() + Send>;
/// Makes one change: whether it wrote, and its answer.
type Job = Box<dyn FnOnce(&Records) -> (bool, Answer) + Send>;

/// See the module.
pub(crate) struct Embedded {
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the store in `dir`, which is made if it is not there.
    pub(crate) fn open(dir: &Path, clock: Clock) -> Result<Arc<Self>, StoreError> {
        let records = Records::open(dir, clock)?;
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let worker = Lifecycle::thread("sessions", move || work(&records, inbox))
            .map_err(|error| broken("starting the sessions' thread", error))?;
        Ok(Arc::new(Self { jobs: Some(jobs), worker: Mutex::new(Some(worker)) }))
    }

    /// Makes a change and answers once it is durable.
    async fn change<T: Send + 'static>(
        &self,
        doing: &'static str,
        make: impl FnOnce(&mut Change<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |records| {
            let mut change = records.change(doing);
            let made = make(&mut change).and_then(|value| Ok((value, change.commit()?)));
            let wrote = matches!(made, Ok((_, true)));
            // Whoever asked may have gone away meanwhile.
            (wrote, Box::new(move || drop(answer.send(made.map(|(value, _)| value)))))
        });
        let gone = || broken(doing, "the store could not be written; its disk may be full or failing");
        let Some(jobs) = &self.jobs else { return Err(gone()) };
        jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The thread: a group of changes, one fsync, their answers.
fn work(records: &Records, mut inbox: mpsc::Receiver<Job>) {
    while let Some(first) = inbox.blocking_recv() {
        let (mut answers, mut dirty) = (Vec::new(), false);
        let more = std::iter::from_fn(|| inbox.try_recv().ok());
        for job in std::iter::once(first).chain(more.take(GROUP - 1)) {
            let (wrote, answer) = job(records);
            dirty |= wrote;
            answers.push(answer);
        }
        if dirty && let Err(error) = records.sweep().and_then(|()| records.persist()) {
            // What was not made durable is not answered; nobody can say what the disk holds, so nothing goes on.
            tracing::error!(%error, "the sessions could not be written");
            return;
        }
        answers.into_iter().for_each(|answer| answer());
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.jobs = None;
        let worker = self.worker.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            tracing::error!("the sessions' thread panicked");
        }
    }
}

#[async_trait]
impl Arbiter for Embedded {
    async fn advance(&self, key: &str, from: u64, value: &[u8]) -> Result<Advance, ArbiterError> {
        let (key, value) = (rules::entry_key(key), value.to_vec());
        let made = self.change("writing an entry", move |change| rules::advance(change, &key, from, value));
        Ok(made.await?)
    }

    async fn current(&self, key: &str) -> Result<Option<(u64, Vec<u8>)>, ArbiterError> {
        let key = rules::entry_key(key);
        Ok(self.change("reading an entry", move |change| change.get(&key)).await?)
    }
}

#[async_trait]
impl Store for Embedded {
    async fn begin(&self, id: &FamilyId, family: &Family) -> Result<(), StoreError> {
        let (id, family) = (id.clone(), family.clone());
        self.change("beginning a refresh family", move |change| rules::begin(change, &id, family)).await
    }

    async fn refresh(
        &self,
        id: &FamilyId,
        generation: u64,
        client: &str,
        leeway: Duration,
    ) -> Result<Refreshed, StoreError> {
        let (id, client) = (id.clone(), client.to_owned());
        let make = move |change: &mut Change<'_>| rules::refresh(change, &id, generation, &client, leeway);
        self.change("refreshing", make).await
    }

    async fn revoke_family(&self, id: &FamilyId, client: Option<&str>) -> Result<Revoked, StoreError> {
        let (id, client) = (id.clone(), client.map(str::to_owned));
        let make = move |change: &mut Change<'_>| rules::revoke_family(change, &id, client.as_deref());
        self.change("revoking a refresh family", make).await
    }

    async fn revoke_subject(&self, tenant: &TenantId, tag: SubjectTag) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.change("revoking a subject", move |change| rules::revoke_subject(change, &tenant, tag)).await
    }

    async fn first_use(
        &self,
        tenant: &TenantId,
        digest: &[u8; 32],
        until: UnixMs,
    ) -> Result<bool, StoreError> {
        let key = format!("j:{tenant}:{}", super::pace::hex(digest));
        let make = move |change: &mut Change<'_>| rules::first_use(change, &key, until);
        self.change("looking for a first use", make).await
    }

    async fn try_login(&self, login: &Login, pace: Pace) -> Result<Duration, StoreError> {
        let key = format!("l:{}", login.key());
        self.change("counting a login", move |change| rules::try_login(change, &key, pace)).await
    }

    async fn login_succeeded(&self, login: &Login) -> Result<(), StoreError> {
        let (key, forget_all) = (format!("l:{}", login.key()), login.is_user());
        let make = move |change: &mut Change<'_>| rules::login_succeeded(change, &key, forget_all);
        self.change("forgiving logins", make).await
    }

    async fn revoke(&self, entry: &str, until: UnixMs) -> Result<(), StoreError> {
        let entry = entry.to_owned();
        self.change("keeping a revocation", move |change| rules::revoke(change, entry, until)).await
    }

    async fn revoked_since(&self, cursor: u64) -> Result<Revocations, StoreError> {
        self.change("reading revocations", move |change| rules::revoked_since(change, cursor)).await
    }

    async fn public_keys(&self, iss: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = format!("k:{iss}");
        self.change("reading a key set", move |change| change.get(&key)).await
    }

    async fn cache_public_keys(&self, iss: &str, jwks: &[u8], ttl: Duration) -> Result<(), StoreError> {
        let (key, jwks) = (format!("k:{iss}"), jwks.to_vec());
        let make = move |change: &mut Change<'_>| change.put(&key, &jwks, change.now + ttl);
        self.change("keeping a key set", make).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.change("asking for the store", |_| Ok(())).await
    }
}
