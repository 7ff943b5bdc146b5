//! Records with an end: what a key holds until its time has passed, in fjall, and an index by that time.

use std::io;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::issuer::store::StoreError;
use crate::model::UnixMs;

/// The store's own journal files are replayed at a start.
const WAL_BYTES: u64 = 64 << 20;
const MEMTABLE_BYTES: u64 = 8 << 20;
const CACHE_BYTES: u64 = 16 << 20;
/// So many records whose time has passed are removed at once.
const SWEEP: usize = 64;

/// For what never ends.
pub(super) const FOREVER: UnixMs = UnixMs::new(i64::MAX);

pub(super) struct Records {
    db: Database,
    /// Key → end (8 bytes, big-endian) ‖ value.
    values: Keyspace,
    /// End ‖ key, of what has one.
    ends: Keyspace,
    clock: Clock,
}

pub(super) fn broken(doing: &'static str, cause: impl std::fmt::Display) -> StoreError {
    StoreError::Broken { doing, cause: cause.to_string() }
}

impl Records {
    pub(super) fn open(dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        const DOING: &str = "opening the sessions";
        let failed =
            |cause: &dyn std::fmt::Display| broken(DOING, format_args!("{}: {cause}", dir.display()));
        let opened = Database::builder(dir)
            // Once for all that came in meanwhile, before any of it is answered.
            .manual_journal_persist(true)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(WAL_BYTES)
            .open();
        let db = match opened {
            Ok(db) => db,
            Err(fjall::Error::Locked) => {
                let cause = format!("{} is in use by another process: stop that one", dir.display());
                return Err(StoreError::Unavailable { doing: DOING, cause });
            }
            Err(error) => return Err(failed(&error)),
        };
        let options = || {
            KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(MEMTABLE_BYTES)
        };
        let values = db.keyspace("values", options).map_err(|error| failed(&error))?;
        let ends = db.keyspace("ends", options).map_err(|error| failed(&error))?;
        sync_folder(&values).map_err(|error| failed(&error))?;
        Ok(Self { db, values, ends, clock })
    }

    /// One change that is made whole, or not at all.
    pub(super) fn change(&self, doing: &'static str) -> Change<'_> {
        Change { records: self, batch: self.db.batch(), is_empty: true, now: self.clock.now(), doing }
    }

    /// Makes every change so far durable.
    pub(super) fn persist(&self) -> Result<(), fjall::Error> {
        self.db.persist(PersistMode::SyncAll)
    }

    /// Removes some of what has ended; the next [`Records::persist`] takes it along.
    pub(super) fn sweep(&self) -> Result<(), fjall::Error> {
        let now = self.clock.now().get().max(0).to_be_bytes();
        let mut batch = self.db.batch();
        for entry in self.ends.range(..=[&now[..], &[0xff]].concat()).take(SWEEP) {
            let end = entry.key()?;
            batch.remove(&self.values, end.get(8..).unwrap_or_default());
            batch.remove(&self.ends, end);
        }
        if batch.is_empty() { Ok(()) } else { batch.commit() }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        (self.values.len().unwrap(), self.ends.len().unwrap())
    }
}

/// As in the journal: fjall 3.1 syncs a new keyspace's own folder, but not the entry in the folder above it.
fn sync_folder(keyspace: &Keyspace) -> io::Result<()> {
    match keyspace.path().parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads see what was before it: no change reads what it has written itself.
pub(super) struct Change<'r> {
    records: &'r Records,
    batch: OwnedWriteBatch,
    is_empty: bool,
    /// The store's time, the same for the whole change.
    pub(super) now: UnixMs,
    doing: &'static str,
}

impl Change<'_> {
    fn broken(&self, cause: impl std::fmt::Display) -> StoreError {
        broken(self.doing, cause)
    }

    /// The value and its end, if that lies ahead.
    fn find(&self, key: &str) -> Result<Option<(UnixMs, Vec<u8>)>, StoreError> {
        let found = self.records.values.get(key).map_err(|error| self.broken(error))?;
        let Some(found) = found else { return Ok(None) };
        let (end, value) =
            found.split_first_chunk::<8>().ok_or_else(|| self.broken("a record has no end"))?;
        Ok(Some((UnixMs::new(i64::from_be_bytes(*end)), value.to_vec())))
    }

    /// What the key holds, unless its time has passed.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let Some((end, value)) = self.find(key)? else { return Ok(None) };
        if end <= self.now {
            return Ok(None);
        }
        postcard::from_bytes(&value).map(Some).map_err(|error| self.broken(error))
    }

    pub(super) fn end_of(&self, key: &str) -> Result<Option<UnixMs>, StoreError> {
        Ok(self.find(key)?.map(|(end, _)| end))
    }

    pub(super) fn put<T: Serialize>(&mut self, key: &str, value: &T, end: UnixMs) -> Result<(), StoreError> {
        let value = postcard::to_allocvec(value).map_err(|error| self.broken(error))?;
        self.forget_end(key)?;
        let at = end.get().max(0).to_be_bytes();
        if end != FOREVER {
            self.batch.insert(&self.records.ends, [&at[..], key.as_bytes()].concat(), b"".as_slice());
        }
        self.batch.insert(&self.records.values, key, [&at[..], &value].concat());
        self.is_empty = false;
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &str) -> Result<(), StoreError> {
        self.forget_end(key)?;
        self.batch.remove(&self.records.values, key);
        self.is_empty = false;
        Ok(())
    }

    /// Takes the key out of the index, where it stands by the end that it has had.
    fn forget_end(&mut self, key: &str) -> Result<(), StoreError> {
        if let Some((end, _)) = self.find(key)?
            && end != FOREVER
        {
            let at = end.get().to_be_bytes();
            self.batch.remove(&self.records.ends, [&at[..], key.as_bytes()].concat());
        }
        Ok(())
    }

    /// The keys that begin with `prefix` and come after `after`, with their values: at most `max`.
    pub(super) fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> Result<Vec<(UnixMs, T)>, StoreError> {
        let mut found = Vec::new();
        let from = (std::ops::Bound::Excluded(after.as_bytes()), std::ops::Bound::Unbounded);
        for entry in self.records.values.range::<&[u8], _>(from) {
            let (key, value) = entry.into_inner().map_err(|error| self.broken(error))?;
            if !key.starts_with(prefix.as_bytes()) || found.len() == max {
                break;
            }
            let (end, value) =
                value.split_first_chunk::<8>().ok_or_else(|| self.broken("a record has no end"))?;
            let end = UnixMs::new(i64::from_be_bytes(*end));
            if end > self.now {
                found.push((end, postcard::from_bytes(value).map_err(|error| self.broken(error))?));
            }
        }
        Ok(found)
    }

    /// Makes the change, for the next [`Records::persist`] to make durable; false if there is nothing of it.
    pub(super) fn commit(self) -> Result<bool, StoreError> {
        if self.is_empty {
            return Ok(false);
        }
        let doing = self.doing;
        self.batch.commit().map(|()| true).map_err(|error| broken(doing, error))
    }
}
