//! Checkpoints: the detector's state as records, from which a later owner builds it again (PROMISE, clause 3).
//!
//! A record's key is the log's id, a letter for the store and the entry's own key; an empty value says that the entry is
//! gone. Everything else is a version byte, the entry's place (the number of its last use, the minute in which it expires,
//! whose list it is in; postcard), and the entry: postcard for plain structs, JSON for cases. Nothing of it depends on the
//! machine that wrote it.

use hashbrown::HashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Detector, Limits, cases, repeats, replay, travel, usual};
use crate::log::NewRecord;
use crate::model::{LogId, PartitionId, UnixMs};

/// The first byte of every value. Raised whenever what follows it changes its form or its meaning: what another version
/// wrote is not read.
const VERSION: u8 = 2;

/// The bytes of a log id at the beginning of a key.
const LOG_BYTES: usize = 16;

/// What a checkpoint holds.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// For the partition of `jwtrail.state` that has the events partition's number, in this order.
    pub(crate) records: Vec<NewRecord>,
    /// Nothing was left out: together with what was written before, this is the whole state.
    pub(crate) complete: bool,
}

impl Checkpoint {
    /// Keys and values.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |record: &NewRecord| record.key.as_ref().map_or(0, Vec::len) + record.value.len();
        self.records.iter().map(bytes).sum()
    }
}

/// The letters of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Site,
    Subject,
    /// The days of a subject's origins.
    Usual,
    Token,
    Case,
    /// Ids of events, by which repeats are known: some of a minute's.
    Id,
    /// One record: the tenants of which something was refused lately.
    SetAside,
    /// One record: stream time, and what the walk keeps beside the detector.
    Clock,
}

impl Store {
    const fn letter(self) -> u8 {
        match self {
            Self::Site => b'p',
            Self::Subject => b's',
            Self::Usual => b'u',
            Self::Token => b't',
            Self::Case => b'c',
            Self::Id => b'i',
            Self::SetAside => b'a',
            Self::Clock => b'x',
        }
    }

    /// In messages.
    const fn name(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Subject => "subject",
            Self::Usual => "subject's habits",
            Self::Token => "token",
            Self::Case => "case",
            Self::Id => "run of ids",
            Self::SetAside => "table of refusals",
            Self::Clock => "stream time",
        }
    }
}

/// A key of a store.
pub(super) trait StoreKey: Sized {
    type Bytes: AsRef<[u8]>;
    fn to_bytes(&self) -> Self::Bytes;
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// A store of one entry.
impl StoreKey for () {
    type Bytes = [u8; 0];
    fn to_bytes(&self) -> [u8; 0] {
        []
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

/// Where an entry stands among the others of its store.
#[derive(Clone, Copy, Debug, Default, Serialize, serde::Deserialize)]
pub(super) struct Place<'t> {
    /// The number of its last use.
    pub(super) used: u64,
    /// Minutes since the epoch.
    pub(super) expires: u32,
    /// The list that it is in, and whose that is: nobody's, if it is the rest's.
    pub(super) share: u8,
    pub(super) tenant: &'t str,
}

/// The records of one checkpoint, as they are written.
pub(super) struct Changes {
    log: [u8; LOG_BYTES],
    partition: PartitionId,
    records: Vec<NewRecord>,
    bytes_left: usize,
    /// Values are written here first: a record then takes one allocation of the right size.
    scratch: Vec<u8>,
}

impl Changes {
    pub(super) const fn is_full(&self) -> bool {
        self.bytes_left == 0
    }

    /// An entry as it is now.
    pub(super) fn put(
        &mut self,
        store: Store,
        key: &[u8],
        place: Place<'_>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.push(VERSION);
        plain(&place, &mut scratch);
        encode(&mut scratch);
        self.push(self.key(store, key), scratch.as_slice().to_vec());
        self.scratch = scratch;
    }

    /// The entry is gone.
    pub(super) fn remove(&mut self, store: Store, key: &[u8]) {
        self.push(self.key(store, key), Vec::new());
    }

    fn key(&self, store: Store, key: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LOG_BYTES + 1 + key.len());
        bytes.extend_from_slice(&self.log);
        bytes.push(store.letter());
        bytes.extend_from_slice(key);
        bytes
    }

    fn push(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.bytes_left = self.bytes_left.saturating_sub(key.len() + value.len());
        let (key, partition, headers) = (Some(key), Some(self.partition), Vec::new());
        self.records.push(NewRecord { key, partition, value, headers });
    }
}

/// Appends a plain struct.
pub(super) fn plain(value: &impl Serialize, out: &mut Vec<u8>) {
    // What cannot be written is cut short: it is not usable, and whoever reads it walks the log instead. No struct of
    // ours is such.
    *out = postcard::to_extend(value, std::mem::take(out)).unwrap_or_default();
}

/// Reads what [`plain`] wrote, all of it.
pub(super) fn read_plain<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// One entry of a store, read again.
pub(super) struct Restored<'t, K, V> {
    pub(super) key: K,
    pub(super) place: Place<'t>,
    pub(super) value: V,
}

/// Why the state cannot be built from what was written: the log is walked instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotUsable {
    #[error("the checkpoint is of version {found}, and this program reads version {VERSION}")]
    Version { found: u8 },
    #[error("the checkpoint holds a {store} that cannot be read")]
    Broken { store: &'static str },
    /// The topic was emptied, or is not the one that the commit was made with.
    #[error("the checkpoint that the commit names is not there")]
    Missing,
}

impl NotUsable {
    /// The closed word for log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Version { .. } => "state_version",
            Self::Broken { .. } => "state_broken",
            Self::Missing => "state_missing",
        }
    }
}

/// The records of a partition of `jwtrail.state`, collected: the newest value of each key.
pub(crate) struct Restoring {
    log: [u8; LOG_BYTES],
    values: HashMap<Box<[u8]>, Box<[u8]>>,
}

impl Restoring {
    pub(crate) fn new(log: &LogId) -> Self {
        Self { log: log_bytes(log), values: HashMap::new() }
    }

    /// Takes the next record: any order of keys, but the newest value of each key last.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) {
        if value.is_empty() {
            self.values.remove(key);
            return;
        }
        // Of another log's entry only the key is wanted.
        let value = if key.starts_with(&self.log) { value } else { &[] };
        self.values.insert(Box::from(key), Box::from(value));
    }

    /// The detector as it was when the last checkpoint was made, and what the walk kept beside it.
    pub(crate) fn restore<T: DeserializeOwned>(&self, limits: Limits) -> Result<(Detector, T), NotUsable> {
        let mut detector = Detector::with_limits(limits);
        detector.stale = self.values.keys().filter(|key| !key.starts_with(&self.log)).cloned().collect();
        let sites = self.entries(Store::Site, read_plain)?.into_iter().map(|site| (site.key, site.value));
        let sites = detector.sites.restore(sites);
        detector.travel.restore(self.entries(Store::Subject, |bytes| travel::read(bytes, &sites))?);
        detector.usual.restore(self.entries(Store::Usual, usual::read)?);
        detector.replay.restore(self.entries(Store::Token, |bytes| replay::read(bytes, &sites))?);
        detector.cases.restore(self.entries(Store::Case, cases::read)?);
        detector.repeats.restore(self.entries(Store::Id, repeats::read)?);
        for aside in self.entries::<(), _>(Store::SetAside, read_plain)? {
            detector.set_aside = aside.value;
        }
        // The last record of every checkpoint.
        let clock = self.entries::<(), _>(Store::Clock, read_plain)?.pop().ok_or(NotUsable::Missing)?;
        let (stream_time, beside) = clock.value;
        detector.stream_time = UnixMs::new(stream_time);
        Ok((detector, beside))
    }

    /// A detector without any state: its first checkpoints say that every key found here is gone.
    pub(crate) fn start_anew(&self, limits: Limits) -> Detector {
        Detector { stale: self.values.keys().cloned().collect(), ..Detector::with_limits(limits) }
    }

    fn entries<K: StoreKey, V>(
        &self,
        store: Store,
        read: impl Fn(&[u8]) -> Option<V>,
    ) -> Result<Vec<Restored<'_, K, V>>, NotUsable> {
        let broken = NotUsable::Broken { store: store.name() };
        let mut entries = Vec::new();
        for (key, value) in &self.values {
            let Some((&letter, key)) = key.strip_prefix(&self.log).and_then(<[u8]>::split_first) else {
                continue;
            };
            if letter != store.letter() {
                continue;
            }
            let entry = match value.split_first() {
                Some((&VERSION, rest)) => entry(key, rest, &read),
                Some((&found, _)) => return Err(NotUsable::Version { found }),
                None => None,
            };
            match entry {
                Some(entry) => entries.push(entry),
                None => return Err(broken),
            }
        }
        Ok(entries)
    }
}

fn entry<'v, K: StoreKey, V>(
    key: &[u8],
    value: &'v [u8],
    read: impl Fn(&[u8]) -> Option<V>,
) -> Option<Restored<'v, K, V>> {
    let (place, rest) = postcard::take_from_bytes(value).ok()?;
    Some(Restored { key: K::from_bytes(key)?, place, value: read(rest)? })
}

fn log_bytes(log: &LogId) -> [u8; LOG_BYTES] {
    u128::from_str_radix(log.as_str(), 16).unwrap_or_default().to_be_bytes()
}

impl Detector {
    /// What changed since the last checkpoint, as records of `log`'s `partition`: at most `max_bytes` of them and one
    /// more. What does not fit is left for the next time. `beside`: what the walk keeps of its own, small.
    pub(crate) fn checkpoint(
        &mut self,
        log: &LogId,
        partition: PartitionId,
        max_bytes: usize,
        beside: &impl Serialize,
    ) -> Checkpoint {
        let mut changes = Changes {
            log: log_bytes(log),
            partition,
            records: Vec::with_capacity(self.changed().min(max_bytes / 64)),
            bytes_left: max_bytes,
            scratch: Vec::new(),
        };
        // Keys that lay in the topic before us: one that is ours by now is written after them.
        while !changes.is_full()
            && let Some(key) = self.stale.pop()
        {
            changes.push(key.into_vec(), Vec::new());
        }
        self.sites.write_changes(&mut changes);
        self.travel.write_changes(&mut changes);
        self.usual.write_changes(&mut changes);
        self.replay.write_changes(&mut changes);
        self.cases.write_changes(&mut changes);
        self.repeats.write_changes(&mut changes);
        let complete = self.changed() == 0;
        if complete {
            if self.set_aside.is_changed() {
                changes.put(Store::SetAside, &[], Place::default(), |out| plain(&self.set_aside, out));
                self.set_aside.written();
            }
            let clock = (self.stream_time.get(), beside);
            changes.put(Store::Clock, &[], Place::default(), |out| plain(&clock, out));
        }
        Checkpoint { records: changes.records, complete }
    }

    /// How many records a checkpoint would have, at most.
    pub(crate) fn changed(&self) -> usize {
        self.stale.len()
            + self.sites.changed()
            + self.travel.changed()
            + self.usual.changed()
            + self.replay.changed()
            + self.cases.changed()
            + self.repeats.changed()
    }
}
