//! Changing an entry: the store arbitrates, the topic is the record.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use tokio::sync::{Mutex, MutexGuard};

use super::record::{Record, Signed};
use super::{
    AnyEntry, Control, ControlError, Entry, EntryKey, EntryKind, Invalid, PARTITION, Scope, Tenant,
    TenantStatus,
};
use crate::log::{Batch, LogError, NewRecord, Topic};
use crate::model::{Offset, TenantId};

/// What a writer believes to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Absent,
    Version(u64),
    /// Whatever there is.
    Any,
}

/// So often a write is tried again whose entry others change meanwhile.
const TRIES: usize = 16;

/// So many questions to the store at once, when the record is opened.
const ASKED_AT_ONCE: usize = 64;

/// Turns by entry; two entries may share one.
pub(super) struct Turns {
    hasher: RandomState,
    turns: Box<[Mutex<()>]>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { hasher: RandomState::new(), turns: (0..64).map(|_| Mutex::default()).collect() }
    }
}

impl Turns {
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    async fn take(&self, key: &EntryKey) -> MutexGuard<'_, ()> {
        self.turns[self.hasher.hash_one(key) as usize % self.turns.len()].lock().await
    }
}

impl Control {
    /// Writes an entry; answers its new version. When it returns, the entry is durable and in force here; everywhere
    /// else within a second.
    ///
    /// # Errors
    /// After `Arbiter` and `Log` the write may stand all the same.
    pub(crate) async fn put<E: Entry>(
        &self,
        key: &EntryKey,
        expected: Expected,
        entry: E,
    ) -> Result<u64, ControlError> {
        entry.check()?;
        key.check()?;
        if key.kind() != E::KIND {
            return Err(Invalid::new("key", format!("is of kind `{}`, not `{}`", key.kind(), E::KIND)).into());
        }
        if let Scope::Tenant(tenant) = key.scope()
            && key.kind() != EntryKind::Tenant
        {
            self.must_stand(tenant)?;
        }
        self.change(key, expected, Some(Arc::new(entry).any())).await
    }

    /// Deletes an entry; answers the version of its deletion. A deleted tenant's name is taken for ever, and what belongs
    /// to it can be changed no more.
    pub(crate) async fn delete(&self, key: &EntryKey, expected: Expected) -> Result<u64, ControlError> {
        let tombstone = match key.scope() {
            Scope::Tenant(tenant) if key.kind() == EntryKind::Tenant => {
                let there = self.must_stand(tenant)?;
                let deleted = Tenant { status: TenantStatus::Deleted, ..Tenant::new(there.created_at) };
                Some(Arc::new(deleted).any())
            }
            _ => None,
        };
        self.change(key, expected, tombstone).await
    }

    fn must_stand(&self, tenant: &TenantId) -> Result<Arc<Tenant>, ControlError> {
        match self.tenant(tenant.as_str()) {
            None => Err(ControlError::NoTenant(tenant.clone())),
            Some(found) if found.entry.status == TenantStatus::Deleted => {
                Err(ControlError::TenantDeleted(tenant.clone()))
            }
            Some(found) => Ok(found.entry),
        }
    }

    async fn change(
        &self,
        key: &EntryKey,
        expected: Expected,
        entry: Option<AnyEntry>,
    ) -> Result<u64, ControlError> {
        let _turn = self.turns.take(key).await;
        let text = key.to_string();
        for _ in 0..TRIES {
            let stored = self.arbiter.current(&text).await?;
            let from = stored.as_ref().map_or(0, |(version, _)| *version);
            self.agree(key, stored).await?;
            let newest = self.registry.newest(key);
            self.check(key, expected, newest.as_ref(), entry.as_ref())?;
            let version = newest.map_or(0, |record| record.version) + 1;
            let record =
                Record { key: key.clone(), version, written_at: self.clock.now(), entry: entry.clone() };
            let (value, signed) = self.records.seal(record);
            match self.arbiter.advance(&text, from, &value).await? {
                super::Advance::Done(_) => {
                    // Whatever happens from here on: it stands, and must reach the topic.
                    self.owe(key.clone());
                    self.append(signed, value).await?;
                    self.owed.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
                    return Ok(version);
                }
                super::Advance::Conflict { .. } => {}
            }
        }
        let version = self.registry.newest(key).map_or(0, |record| record.version);
        Err(ControlError::Conflict { key: key.clone(), version })
    }

    /// Brings store and topic to agree on an entry before it is changed.
    async fn agree(&self, key: &EntryKey, stored: Option<(u64, Vec<u8>)>) -> Result<(), ControlError> {
        let known = self.registry.newest(key).map_or(0, |record| record.version);
        let stored = stored.and_then(|(_, value)| Some((self.opened(key, &value)?, value)));
        match stored {
            // Whoever wrote it died before the topic had it, or it is on its way to us: once more does no harm.
            Some((signed, value)) if signed.record.version > known => self.append(signed, value).await?,
            Some((signed, _)) if signed.record.version == known => {}
            None if known == 0 => {}
            // The store has lost what it knew. What others wrote just now may not have reached us yet.
            _ => self.read_on().await?,
        }
        Ok(())
    }

    /// The store's record of that key, if it is one of ours.
    fn opened(&self, key: &EntryKey, value: &[u8]) -> Option<Signed> {
        match self.records.open(value) {
            Ok(signed) if signed.record.key == *key => Some(signed),
            Ok(_) => {
                self.refuse("foreign", Offset::ZERO);
                None
            }
            Err(reason) => {
                self.refuse(reason, Offset::ZERO);
                None
            }
        }
    }

    fn check(
        &self,
        key: &EntryKey,
        expected: Expected,
        newest: Option<&Record>,
        next: Option<&AnyEntry>,
    ) -> Result<(), ControlError> {
        let there = newest.filter(|record| record.entry.is_some());
        match (there.and_then(|record| record.entry.as_ref()), next) {
            (Some(AnyEntry::Tenant(tenant)), _) if tenant.status == TenantStatus::Deleted => {
                if let Scope::Tenant(tenant) = key.scope() {
                    return Err(ControlError::TenantDeleted(tenant.clone()));
                }
            }
            // Moved back, it would bring to life what it has killed.
            (Some(AnyEntry::Epoch(there)), Some(AnyEntry::Epoch(next)))
                if next.not_before < there.not_before =>
            {
                return Err(Invalid::new("not_before", "only moves on").into());
            }
            _ => {}
        }
        let version = there.map_or(0, |record| record.version);
        let as_expected = match expected {
            // There is something to be deleted, whatever it is.
            Expected::Any => version > 0 || next.is_some(),
            Expected::Absent => version == 0,
            Expected::Version(wanted) => version == wanted && wanted > 0,
        };
        if as_expected { Ok(()) } else { Err(ControlError::Conflict { key: key.clone(), version }) }
    }

    /// Appends a record and takes it in.
    async fn append(&self, signed: Signed, value: Vec<u8>) -> Result<(), LogError> {
        let key = Some(signed.record.key.to_string().into_bytes());
        let record = NewRecord { key, value, ..NewRecord::default() };
        let placed = self.log.append(Topic::Control, vec![record]).await?;
        let offset = placed.first().map_or(Offset::ZERO, |placed| placed.offset);
        self.apply(signed, offset, self.clock.now());
        Ok(())
    }

    /// Reads what the topic has by now.
    pub(super) async fn read_on(&self) -> Result<(), LogError> {
        let from = Offset::new(self.position.load(std::sync::atomic::Ordering::Relaxed));
        let mut scan = self.log.scan(Topic::Control, PARTITION, from).await?;
        let mut batch = Batch::default();
        while scan.next(&mut batch, super::follow::BATCH_RECORDS).await? {
            self.take_in(&batch);
        }
        Ok(())
    }

    /// Asks the store for each entry whether it has a newer one: whoever wrote that died before the topic had it, or
    /// somebody has put an older record in its place.
    pub(super) async fn look_for_newer(&self) -> Result<(), ControlError> {
        for keys in self.registry.keys().chunks(ASKED_AT_ONCE) {
            together(keys.iter().map(|key| Box::pin(self.look_for_newer_of(key))).collect()).await?;
        }
        Ok(())
    }

    async fn look_for_newer_of(&self, key: &EntryKey) -> Result<(), ControlError> {
        let Some((_, value)) = self.arbiter.current(&key.to_string()).await? else { return Ok(()) };
        let known = self.registry.newest(key).map_or(0, |record| record.version);
        if self.opened(key, &value).is_some_and(|signed| signed.record.version > known) {
            self.owe(key.clone());
        }
        Ok(())
    }

    /// Appends what the topic should have last: the newer of what the store and we know.
    pub(super) async fn pay_what_is_owed(&self) -> Result<(), ControlError> {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for key in owed {
            let _turn = self.turns.take(&key).await;
            let stored = self.arbiter.current(&key.to_string()).await?;
            let stored = stored.and_then(|(_, value)| Some((self.opened(&key, &value)?, value)));
            let known = self.registry.newest(&key);
            let version = known.as_ref().map_or(0, |known| known.version);
            match (stored, known) {
                (Some((signed, value)), _) if signed.record.version > version => {
                    self.append(signed, value).await?
                }
                (_, Some(known)) => {
                    let (value, signed) = self.records.seal(known);
                    self.append(signed, value).await?;
                }
                (_, None) => {}
            }
            self.owed.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
        Ok(())
    }
}

/// Awaits all at once; the first error, if there is one.
async fn together<F: Future<Output = Result<(), ControlError>>>(
    mut futures: Vec<Pin<Box<F>>>,
) -> Result<(), ControlError> {
    let mut result = Ok(());
    poll_fn(|context| {
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                if result.is_ok() {
                    result = ended;
                }
                false
            }
        });
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    result
}
