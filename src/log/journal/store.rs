//! The layout on disk: one fjall keyspace a segment, named `TOPIC/PARTITION/FIRST_OFFSET`, dropped whole at retention
//! (a partition of a compacted topic is one segment for ever, see [`keyed`]), and the keyspace `meta` with the topics and
//! the groups' commits.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::frame::Frame;
use super::keyed;
use super::partition::Segment;
use crate::log::{Commit, LogError, Topic};
use crate::model::{Offset, PartitionId, ResumeAt, UnixMs};

/// A group's commits are kept by topic, partition and group.
pub(super) type CommitKey = (Topic, PartitionId, String);

/// Written into the store's own journal file before they reach a segment's table.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// At most so much of the store's own journal files; replayed at a start.
const WAL_BYTES: u64 = 64 << 20;
const CACHE_BYTES: u64 = 16 << 20;
/// A frame is larger under load; small ones share a block.
const BLOCK_BYTES: u32 = 32 << 10;

pub(super) struct Store {
    pub(super) db: Database,
    pub(super) meta: Keyspace,
}

/// What an opened store holds.
pub(super) struct Contents {
    /// The partitions of every topic, each with its segments, oldest first and never none.
    pub(super) topics: BTreeMap<Topic, TopicContents>,
    pub(super) commits: BTreeMap<CommitKey, Commit>,
}

pub(super) struct TopicContents {
    pub(super) retention_ms: u64,
    pub(super) partitions: Vec<Vec<Segment>>,
}

pub(super) fn broken(doing: &'static str, cause: impl std::fmt::Display) -> LogError {
    LogError::Broken { doing, cause: cause.to_string() }
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<(Self, Contents), LogError> {
        const DOING: &str = "opening the journal";
        let opened = Database::builder(dir)
            // The writer thread says when: once for all that it gathered.
            .manual_journal_persist(true)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(WAL_BYTES)
            .open();
        let db = match opened {
            Ok(db) => db,
            Err(fjall::Error::Locked) => {
                return Err(LogError::Unavailable {
                    doing: DOING,
                    cause: format!(
                        "{} is in use by another process: stop that one, or choose another directory",
                        dir.display()
                    ),
                });
            }
            Err(error) => return Err(broken(DOING, format_args!("{}: {}", dir.display(), text(&error)))),
        };
        let meta = db
            .keyspace("meta", KeyspaceCreateOptions::default)
            .map_err(|error| broken(DOING, text(&error)))?;
        let store = Self { db, meta };
        store.sync_keyspace_folder().map_err(|error| broken(DOING, error))?;
        let contents = store.contents().map_err(|cause| broken(DOING, cause))?;
        Ok((store, contents))
    }

    fn contents(&self) -> Result<Contents, String> {
        let mut segments = BTreeMap::<(Topic, PartitionId), Vec<Segment>>::new();
        for name in self.db.list_keyspace_names() {
            let Some((topic, partition, base)) = parse_segment_name(&name) else { continue };
            let keyspace = self.db.keyspace(&name, options_of(topic)).map_err(|error| text(&error))?;
            let opened = if topic.is_compacted() {
                Segment::open_keyed(keyspace)
            } else {
                Segment::open(base, keyspace)
            };
            let segment = opened.map_err(|error| format!("{name}: {error}"))?;
            segments.entry((topic, partition)).or_default().push(segment);
        }
        let mut topics = BTreeMap::new();
        for topic in Topic::ALL {
            let Some(value) = self.meta.get(topic_key(topic)).map_err(|error| text(&error))? else {
                continue;
            };
            let Some((count, retention_ms)) = parse_topic(&value) else {
                return Err(format!("what is kept about topic {} cannot be read", topic.name()));
            };
            let partitions = (0..count)
                .map(|partition| {
                    let mut segments = segments.remove(&(topic, PartitionId(partition))).unwrap_or_default();
                    segments.sort_by_key(|segment| segment.base);
                    check_whole(&segments)
                        .map_err(|cause| format!("{}/{partition}: {cause}", topic.name()))?;
                    Ok(segments)
                })
                .collect::<Result<_, String>>()?;
            topics.insert(topic, TopicContents { retention_ms, partitions });
        }
        let mut commits = BTreeMap::new();
        for entry in self.meta.prefix(b"c") {
            let (key, value) = entry.into_inner().map_err(|error| text(&error))?;
            let (Some(key), Some(commit)) = (parse_commit_key(&key), parse_commit(&value)) else {
                return Err("a group's commit cannot be read".to_owned());
            };
            commits.insert(key, commit);
        }
        Ok(Contents { topics, commits })
    }

    /// A new, empty segment whose first record will have the offset `base`.
    pub(super) fn create_segment(
        &self,
        topic: Topic,
        partition: PartitionId,
        base: i64,
    ) -> Result<Segment, fjall::Error> {
        let keyspace = self.db.keyspace(&segment_name(topic, partition, base), options_of(topic))?;
        self.sync_keyspace_folder()?;
        Ok(Segment { base, end: base, bytes: 0, first_time: None, last_time: None, keyspace })
    }

    /// fjall 3.1 syncs a new keyspace's own folder, but not the entry in the folder above it. If a power loss took that
    /// entry, a later start would skip what its own journal holds for the keyspace.
    fn sync_keyspace_folder(&self) -> std::io::Result<()> {
        match self.meta.path().parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// fjall prints its own errors as they are declared; what lies within says more.
pub(super) fn text(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) => error.to_string(),
        fjall::Error::Storage(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Nothing may be missing between the segments of a partition: it was acknowledged once.
fn check_whole(segments: &[Segment]) -> Result<(), String> {
    if segments.is_empty() {
        return Err("its records are gone".to_owned());
    }
    for pair in segments.windows(2) {
        if pair[0].end != pair[1].base {
            return Err(format!("the records from {} to {} are gone", pair[0].end, pair[1].base));
        }
    }
    Ok(())
}

fn options_of(topic: Topic) -> fn() -> KeyspaceCreateOptions {
    if topic.is_compacted() { keyed_options } else { segment_options }
}

/// Keys are looked up one by one, and most are there or new: the store's own defaults suit that.
fn keyed_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(MEMTABLE_BYTES)
}

fn segment_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .data_block_compression_policy(CompressionPolicy::all(fjall::CompressionType::Lz4))
        // Frames are found by range, never by an exact key that may be absent.
        .filter_policy(FilterPolicy::disabled())
}

fn segment_name(topic: Topic, partition: PartitionId, base: i64) -> String {
    format!("{}/{partition}/{base}", topic.name())
}

fn parse_segment_name(name: &str) -> Option<(Topic, PartitionId, i64)> {
    let mut parts = name.split('/');
    let (topic, partition, base) = (parts.next()?, parts.next()?, parts.next()?);
    let topic = Topic::ALL.into_iter().find(|known| known.name() == topic)?;
    Some((topic, PartitionId(partition.parse().ok()?), base.parse().ok()?))
}

pub(super) fn topic_key(topic: Topic) -> Vec<u8> {
    [b"t", topic.name().as_bytes()].concat()
}

pub(super) fn topic_value(partitions: u32, retention_ms: u64) -> Vec<u8> {
    [&partitions.to_be_bytes()[..], &retention_ms.to_be_bytes()].concat()
}

fn parse_topic(value: &[u8]) -> Option<(u32, u64)> {
    let (partitions, retention_ms) = value.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*partitions), u64::from_be_bytes(retention_ms.try_into().ok()?)))
}

pub(super) fn commit_key((topic, partition, group): &CommitKey) -> Vec<u8> {
    [b"c", topic.name().as_bytes(), b"\0", &partition.0.to_be_bytes(), group.as_bytes()].concat()
}

fn parse_commit_key(key: &[u8]) -> Option<CommitKey> {
    let key = key.strip_prefix(b"c")?;
    let end = key.iter().position(|&byte| byte == 0)?;
    let (topic, rest) = (&key[..end], &key[end + 1..]);
    let topic = Topic::ALL.into_iter().find(|known| known.name().as_bytes() == topic)?;
    let (partition, group) = rest.split_first_chunk::<4>()?;
    Some((topic, PartitionId(u32::from_be_bytes(*partition)), String::from_utf8(group.to_vec()).ok()?))
}

pub(super) fn commit_value(commit: &Commit) -> Vec<u8> {
    [&commit.resume_at.offset().get().to_be_bytes()[..], commit.metadata.as_bytes()].concat()
}

fn parse_commit(value: &[u8]) -> Option<Commit> {
    let (resume_at, metadata) = value.split_first_chunk::<8>()?;
    Some(Commit {
        resume_at: ResumeAt::at(Offset::new(i64::from_be_bytes(*resume_at))?),
        metadata: String::from_utf8(metadata.to_vec()).ok()?,
    })
}

impl Segment {
    fn open(base: i64, keyspace: Keyspace) -> Result<Self, String> {
        let mut segment = Self { base, end: base, bytes: 0, first_time: None, last_time: None, keyspace };
        if let Some(entry) = segment.keyspace.first_key_value() {
            let (key, value) = entry.into_inner().map_err(|error| text(&error))?;
            let frame = Frame::parse(&key, &value).map_err(|error| error.to_string())?;
            segment.first_time = Some(frame.append_time);
        }
        if let Some(entry) = segment.keyspace.last_key_value() {
            let (key, value) = entry.into_inner().map_err(|error| text(&error))?;
            let frame = Frame::parse(&key, &value).map_err(|error| error.to_string())?;
            segment.last_time = Some(frame.append_time);
            segment.end = frame.end();
            segment.bytes = frame.segment_bytes;
        }
        Ok(segment)
    }

    fn open_keyed(keyspace: Keyspace) -> Result<Self, String> {
        let next = keyed::next(&keyspace)?;
        let (end, last_time) = (next.map_or(0, |(end, _)| end), next.map(|(_, time)| time));
        Ok(Self { base: 0, end, bytes: 0, first_time: None, last_time, keyspace })
    }
}

/// Whether the last record is older than `retention_ms`; what has no record never is.
pub(super) fn expired(last_time: Option<UnixMs>, retention_ms: u64, now: UnixMs) -> bool {
    last_time.is_some_and(|last| now.since_ms(last) > i64::try_from(retention_ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_read_as_they_were_written() {
        for topic in Topic::ALL {
            let name = segment_name(topic, PartitionId(3), 1 << 40);
            assert_eq!(parse_segment_name(&name), Some((topic, PartitionId(3), 1 << 40)));
            let key = (topic, PartitionId(7), "jwtrail-deliver-a/b".to_owned());
            assert_eq!(parse_commit_key(&commit_key(&key)), Some(key));
        }
        assert_eq!(parse_segment_name("meta"), None);
        assert_eq!(parse_topic(&topic_value(4, 5)), Some((4, 5)));
        let commit = Commit { resume_at: ResumeAt::at(Offset::ZERO), metadata: "{}".to_owned() };
        assert_eq!(parse_commit(&commit_value(&commit)), Some(commit));
    }
}
