//! The contract, and what is the journal's own.

mod kill;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::log::contract::{UnderTest, assigned_0, contract_suite, next_of_0};
use crate::log::{Assigned, Batch, CommitError, MemberEvent};
use crate::model::ResumeAt;

/// A journal with small segments, so that every case crosses some.
struct JournalUnderTest {
    journal: Arc<Journal>,
    dir: TempDir,
}

const SMALL: JournalOptions = JournalOptions {
    fsync: FsyncPolicy::Always,
    limit_bytes: 256 << 10,
    when_full: WhenFull::Truncate,
    segment_bytes: 1 << 10,
    reserve_bytes: 1 << 20,
};

fn specs() -> Vec<TopicSpec> {
    Topic::ALL.map(|topic| topic.spec(true)).to_vec()
}

fn open(dir: &TempDir) -> Arc<Journal> {
    Journal::open(dir.path(), SMALL, Clock::System).unwrap()
}

#[async_trait]
impl UnderTest for JournalUnderTest {
    async fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(&dir);
        journal.migrate(&specs()).await.unwrap();
        Self { journal, dir }
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.journal.clone()
    }

    async fn reopen(self) -> Self {
        let Self { journal, dir } = self;
        drop(journal);
        Self { journal: open(&dir), dir }
    }

    async fn truncate(&self, topic: Topic, partition: PartitionId, offset: Offset) {
        let filler =
            NewRecord { partition: Some(partition), value: vec![0; 64 << 10], ..NewRecord::default() };
        while self.journal.offset_at(topic, partition, UnixMs::new(0)).await.unwrap() < offset {
            self.journal.append(topic, vec![filler.clone()]).await.unwrap();
        }
    }
}

mod contract {
    use super::*;
    contract_suite!(JournalUnderTest);
}

// ---- the directory ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_directory_has_one_journal_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(&dir);
    let Err(second) = Journal::open(dir.path(), SMALL, Clock::System) else { panic!("opened twice") };
    assert_eq!(second.code(), "log_unavailable");
    assert!(second.to_string().contains("is in use by another process"), "{second}");
    drop(journal);
    open(&dir);
}

#[tokio::test]
async fn a_wiped_directory_is_a_new_log() {
    let subject = JournalUnderTest::fresh().await;
    subject.journal.append(Topic::Events, vec![to(0, b"a"); 9]).await.unwrap();
    let (_member, assigned) = join(&subject.journal, Topic::Events).await;
    assigned.lane.commit(ResumeAt::at(offset(9)), "old", vec![]).await.unwrap();
    let JournalUnderTest { journal, dir } = subject;
    drop((journal, assigned));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }

    let journal = open(&dir);
    assert_eq!(journal.partitions(Topic::Events).await.unwrap_err().code(), "topic_wrong");
    journal.migrate(&specs()).await.unwrap();
    let (_member, assigned) = join(&journal, Topic::Events).await;
    assert_eq!((assigned.start, assigned.end, assigned.commit), (offset(0), offset(0), None));
    let placed = journal.append(Topic::Events, vec![to(0, b"b")]).await.unwrap();
    assert_eq!(placed[0].offset, offset(0));
}

#[tokio::test]
async fn what_is_left_over_of_a_closed_journal_is_dead_and_holds_nothing() {
    let JournalUnderTest { journal, dir } = JournalUnderTest::fresh().await;
    let (mut member, assigned) = join(&journal, Topic::Events).await;
    drop(journal);
    let error = assigned.lane.next(&mut Batch::default(), 1).await.unwrap_err();
    assert_eq!(error.code(), "not_held");
    let refused = assigned.lane.commit(ResumeAt::at(offset(0)), "", vec![]).await;
    assert!(matches!(refused, Err(CommitError::Retry(_))), "{refused:?}");
    while let Ok(event) = member.next().await {
        drop(event);
    }
    open(&dir);
}

#[tokio::test]
async fn a_topic_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(&dir);
    let refused = journal.append(Topic::Events, vec![to(0, b"a")]).await.unwrap_err();
    assert!(refused.to_string().contains("run `jwtrail migrate`"), "{refused}");
    assert!(journal.join("group", Topic::Events).await.is_err());
    assert_eq!(journal.migrate(&specs()).await.unwrap().len(), Topic::ALL.len());
    let refused = journal.append(Topic::Events, vec![to(4, b"a")]).await.unwrap_err();
    assert!(refused.to_string().contains("has no partition 4"), "{refused}");
}

// ---- time and retention -------------------------------------------------------------------------------------------

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[tokio::test]
async fn append_time_is_the_clocks_and_never_runs_back() {
    let (clock, now) = manual(1000);
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), SMALL, clock.clone()).unwrap();
    journal.migrate(&specs()).await.unwrap();
    for time in [1000, 3000, 2000] {
        now.store(time, Ordering::Relaxed);
        journal.append(Topic::Events, vec![to(0, b"a")]).await.unwrap();
    }
    drop(journal);
    let journal = Journal::open(dir.path(), SMALL, clock).unwrap();
    journal.append(Topic::Events, vec![to(0, b"a")]).await.unwrap();
    let (_member, assigned) = join(&journal, Topic::Events).await;
    let times: Vec<_> =
        read_all(&assigned, assigned.end).await.into_iter().map(|(_, time, _)| time).collect();
    assert_eq!(times, [1000, 3000, 3000, 3000]);
}

/// Ten records a day for ten days; `commit` is the group's, if there is one. Events are kept for seven days.
async fn start_after_ten_days(commit: Option<i64>) -> i64 {
    let (clock, now) = manual(0);
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), SMALL, clock).unwrap();
    journal.migrate(&specs()).await.unwrap();
    for day in 0..10 {
        now.store(day * DAY_MS, Ordering::Relaxed);
        journal.append(Topic::Events, vec![to(0, b"a"); 10]).await.unwrap();
        if let (0, Some(commit)) = (day, commit) {
            let (_member, assigned) = join(&journal, Topic::Events).await;
            assigned.lane.commit(ResumeAt::at(offset(commit)), "", vec![]).await.unwrap();
        }
    }
    // A write anywhere makes the writer look.
    now.fetch_add(DAY_MS / 2, Ordering::Relaxed);
    journal.append(Topic::Alerts, vec![to(0, b"a")]).await.unwrap();
    join(&journal, Topic::Events).await.1.start.get()
}

#[tokio::test]
async fn retention_takes_whole_segments_by_age_but_not_what_a_group_has_not_committed() {
    // Now is noon of day 9: the records of days 0, 1 and 2 are over seven days old.
    assert_eq!(start_after_ten_days(None).await, 30);
    assert_eq!(start_after_ten_days(Some(10)).await, 10);
    assert_eq!(start_after_ten_days(Some(9)).await, 0);
}

#[tokio::test]
async fn a_partition_that_nobody_writes_to_is_emptied_too() {
    let (clock, now) = manual(0);
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), SMALL, clock.clone()).unwrap();
    journal.migrate(&specs()).await.unwrap();
    journal.append(Topic::Events, vec![to(0, b"a"); 10]).await.unwrap();
    now.store(8 * DAY_MS, Ordering::Relaxed);
    journal.append(Topic::Alerts, vec![to(0, b"a")]).await.unwrap();
    let (_member, assigned) = join(&journal, Topic::Events).await;
    assert_eq!((assigned.start, assigned.end), (offset(10), offset(10)));
    drop((journal, assigned));
    let journal = Journal::open(dir.path(), SMALL, clock).unwrap();
    let placed = journal.append(Topic::Events, vec![to(0, b"b")]).await.unwrap();
    assert_eq!(placed[0].offset, offset(10), "offsets go on after an emptied partition");
}

#[tokio::test]
async fn nothing_is_kept_for_a_group_that_reads_no_more() {
    let (clock, now) = manual(0);
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), SMALL, clock).unwrap();
    journal.migrate(&specs()).await.unwrap();
    journal.append(Topic::Events, vec![to(0, b"a"); 10]).await.unwrap();
    for (group, committed) in [("there", 10), ("removed", 0)] {
        let mut member = journal.join(group, Topic::Events).await.unwrap();
        let Ok(MemberEvent::Assigned(assigned)) = member.next().await else { panic!("no partition") };
        assigned.lane.commit(ResumeAt::at(offset(committed)), "", vec![]).await.unwrap();
    }
    let start = async || journal.offset_at(Topic::Events, PartitionId(0), UnixMs::new(0)).await.unwrap();
    let pass = async |days: i64| {
        now.store(days * DAY_MS, Ordering::Relaxed);
        // The writer drops what is old with the next command.
        journal.append(Topic::Alerts, vec![to(0, b"a")]).await.unwrap();
        journal.migrate(&[]).await.unwrap();
    };
    pass(8).await;
    assert_eq!(start().await, offset(0), "the removed one's");
    let others = journal.set_readers(Topic::Events, &["there".to_owned()]).await.unwrap();
    assert_eq!(others, ["removed"]);
    pass(9).await;
    assert_eq!(start().await, offset(10), "what the other has not read is older than anything is kept");
}

#[tokio::test]
async fn the_disk_limit_bounds_the_journal_and_a_lane_never_passes_over_what_it_took() {
    let subject = JournalUnderTest::fresh().await;
    let journal = &subject.journal;
    let (mut member, lagging) = join(journal, Topic::Events).await;
    lagging.lane.commit(ResumeAt::at(offset(0)), "", vec![]).await.unwrap();
    const RECORD_BYTES: i64 = 16 << 10;
    for _ in 0..60 {
        journal.append(Topic::Events, vec![to(0, &[7; RECORD_BYTES as usize])]).await.unwrap();
    }
    // The writer takes commands in order: it is done with what the last append let go.
    journal.migrate(&[]).await.unwrap();
    let start = journal.offset_at(Topic::Events, PartitionId(0), UnixMs::new(0)).await.unwrap();
    let kept_bytes = (60 - start.get()) * RECORD_BYTES;
    assert!(kept_bytes <= SMALL.limit_bytes as i64, "{kept_bytes}");
    assert!(kept_bytes > SMALL.limit_bytes as i64 / 2, "{kept_bytes}");

    let lost = lagging.lane.next(&mut Batch::default(), 100).await;
    assert!(matches!(lost, Err(LogError::NotHeld { .. })), "{lost:?}");
    assert!(matches!(next_of_0(&mut *member).await, MemberEvent::Lost { .. }));
    let assigned = assigned_0(&mut *member).await;
    assert_eq!(assigned.start, start);
    let read = read_all(&assigned, offset(60)).await;
    let read: Vec<_> = read.iter().map(|(offset, ..)| *offset).collect();
    assert_eq!(read, (start.get()..60).collect::<Vec<_>>());
    assert!(assigned.lane.seek(offset(61)).await.is_err(), "beyond the end");
    assert!(assigned.lane.seek(offset(0)).await.is_err(), "truncated away");
    let folders = std::fs::read_dir(subject.dir.path().join("keyspaces")).unwrap().count();
    assert!(folders < 40, "the files of dropped segments are gone: {folders}");
}

// ---- compacted topics ---------------------------------------------------------------------------------------------

fn keyed(key: &str, value: &[u8]) -> NewRecord {
    NewRecord { key: Some(key.into()), ..to(0, value) }
}

#[tokio::test]
async fn a_compacted_partition_takes_the_space_of_what_is_alive() {
    const KEYS: usize = 500;
    const RECORD_BYTES: usize = 4 << 10;
    let dir = tempfile::tempdir().unwrap();
    // Nobody's limit applies: nothing of it may go.
    let options = JournalOptions { segment_bytes: 64 << 20, ..SMALL };
    let journal = Journal::open(dir.path(), options, Clock::System).unwrap();
    journal.migrate(&specs()).await.unwrap();
    // Noise, so that the store's own compression makes nothing of it.
    let mut noise: u64 = 1;
    let mut value = || {
        (0..RECORD_BYTES / 8)
            .flat_map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                noise.to_be_bytes()
            })
            .collect::<Vec<_>>()
    };
    for _ in 0..100 {
        let round = (0..KEYS).map(|key| keyed(&key.to_string(), &value())).collect();
        journal.append(Topic::State, round).await.unwrap();
    }
    let (alive, written) = (KEYS * RECORD_BYTES, 100 * KEYS * RECORD_BYTES);
    drop(journal);
    let tables: u64 = tables_of(&dir.path().join("keyspaces"));
    assert!(
        tables < 16 * alive as u64,
        "{written} bytes were written, {alive} are alive, {tables} on the disk"
    );

    let journal = Journal::open(dir.path(), options, Clock::System).unwrap();
    let mut scan = journal.scan(Topic::State, PartitionId(0), None).await.unwrap();
    let (mut batch, mut read) = (Batch::default(), 0);
    while scan.next(&mut batch, 100).await.unwrap() {
        read += batch.len();
    }
    assert_eq!(read, KEYS);
}

/// The bytes of all files below a folder.
fn tables_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        folder if folder.is_dir() => tables_of(&entry.path()),
        file => file.len(),
    });
    bytes.sum()
}

#[tokio::test]
async fn a_scan_of_keys_is_not_disturbed_by_what_is_written_meanwhile() {
    let subject = JournalUnderTest::fresh().await;
    let journal = &subject.journal;
    let round = |value: &[u8]| ["a", "b", "c"].map(|key| keyed(key, value)).to_vec();
    journal.append(Topic::State, round(b"1")).await.unwrap();
    let mut scan = journal.scan(Topic::State, PartitionId(0), None).await.unwrap();
    let mut batch = Batch::default();
    let mut read = Vec::new();
    while scan.next(&mut batch, 1).await.unwrap() {
        read.extend(batch.iter().map(|record| (record.key.unwrap().to_vec(), record.value.to_vec())));
        journal.append(Topic::State, round(b"2")).await.unwrap();
    }
    assert_eq!(read, ["a", "b", "c"].map(|key| (key.as_bytes().to_vec(), b"1".to_vec())));
}

#[tokio::test]
async fn a_lane_reads_a_compacted_partition_to_its_end_and_its_offsets_go_on() {
    let subject = JournalUnderTest::fresh().await;
    let journal = &subject.journal;
    let (_member, assigned) = join(journal, Topic::State).await;
    let removed = vec![keyed("a", b"1"), keyed("b", b"1"), keyed("a", b""), keyed("b", b"")];
    journal.append(Topic::State, removed).await.unwrap();
    assert_eq!(read_all(&assigned, offset(4)).await, []);
    let refused = journal.append(Topic::State, vec![to(0, b"without a key")]).await.unwrap_err();
    assert!(refused.to_string().contains("takes no record without a key"), "{refused}");

    let subject = subject.reopen().await;
    let placed = subject.journal.append(Topic::State, vec![keyed("a", b"2")]).await.unwrap();
    assert_eq!(placed[0].offset, offset(4), "although nothing was there");
    let (_member, assigned) = join(&subject.journal, Topic::State).await;
    let (read_offset, time, value) = read_all(&assigned, offset(5)).await.remove(0);
    assert_eq!((read_offset, value), (4, b"2".to_vec()));
    for (at, wanted) in [(0, 4), (time, 4), (time + 1, 5)] {
        let found = subject.journal.offset_at(Topic::State, PartitionId(0), UnixMs::new(at)).await.unwrap();
        assert_eq!(found, offset(wanted));
    }
}

// ---- the disk -----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_full_disk_refuses_appends_until_there_is_room_and_lets_bare_commits_through() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let journal = Journal::open_with(dir.path(), SMALL, Clock::System, Space::Manual(free.clone())).unwrap();
    journal.migrate(&specs()).await.unwrap();
    let (_member, assigned) = join(&journal, Topic::Events).await;
    journal.append(Topic::Events, vec![to(0, b"a")]).await.unwrap();
    journal.health().await.unwrap();

    free.store(SMALL.reserve_bytes / 2, Ordering::Relaxed);
    let refused = journal.append(Topic::Events, vec![to(0, b"b")]).await.unwrap_err();
    assert_eq!(refused.code(), "log_unavailable");
    assert!(refused.to_string().contains("the journal's disk is full"), "{refused}");
    assert_eq!(journal.health().await.unwrap_err().code(), "log_unavailable");
    let carrying =
        assigned.lane.commit(ResumeAt::at(offset(1)), "", vec![(Topic::Alerts, to(0, b"x"))]).await;
    assert!(matches!(carrying, Err(CommitError::Retry(_))), "{carrying:?}");
    assigned.lane.commit(ResumeAt::at(offset(1)), "lets retention make room", vec![]).await.unwrap();

    free.store(u64::MAX, Ordering::Relaxed);
    let placed = journal.append(Topic::Events, vec![to(0, b"c")]).await.unwrap();
    assert_eq!(placed[0].offset, offset(1), "what was refused left nothing behind");
    journal.health().await.unwrap();
}

#[tokio::test]
async fn a_failed_write_ends_the_journal_and_is_never_tried_again() {
    let subject = JournalUnderTest::fresh().await;
    let journal = &subject.journal;
    let (_member, assigned) = join(journal, Topic::Events).await;
    let full = vec![to(0, &[0; 2 << 10])];
    journal.append(Topic::Events, full.clone()).await.unwrap();
    // The next segment cannot be made where the store's folder is none.
    let folder = subject.dir.path().join("keyspaces");
    std::fs::rename(&folder, subject.dir.path().join("elsewhere")).unwrap();
    std::fs::write(&folder, b"").unwrap();
    assert_eq!(journal.append(Topic::Events, full.clone()).await.unwrap_err().code(), "log_broken");

    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(subject.dir.path().join("elsewhere"), &folder).unwrap();
    assert_eq!(journal.append(Topic::Events, full.clone()).await.unwrap_err().code(), "log_broken");
    assert_eq!(journal.health().await.unwrap_err().code(), "log_broken");
    assert_eq!(assigned.lane.next(&mut Batch::default(), 1).await.unwrap_err().code(), "log_broken");
    assert!(assigned.lane.commit(ResumeAt::at(offset(0)), "", vec![]).await.is_err());
    assert!(journal.join("group", Topic::Events).await.is_err());

    // What was acknowledged before is there, and the next process goes on after it.
    let subject = subject.reopen().await;
    let placed = subject.journal.append(Topic::Events, full).await.unwrap();
    assert_eq!(placed[0].offset, offset(1));
}

#[tokio::test]
async fn a_segment_that_is_missing_is_told_at_the_start() {
    let JournalUnderTest { journal, dir } = JournalUnderTest::fresh().await;
    for _ in 0..4 {
        journal.append(Topic::Events, vec![to(0, &[0; 2 << 10])]).await.unwrap();
    }
    drop(journal);
    let db = fjall::Database::builder(dir.path()).open().unwrap();
    let middle = db.keyspace("jwtrail.events/0/2", fjall::KeyspaceCreateOptions::default).unwrap();
    assert!(!middle.is_empty().unwrap());
    db.delete_keyspace(middle).unwrap();
    drop(db);
    let Err(error) = Journal::open(dir.path(), SMALL, Clock::System) else { panic!("opened with a gap") };
    assert_eq!(error.code(), "log_broken");
    assert!(error.to_string().contains("jwtrail.events/0: the records from 2 to 3 are gone"), "{error}");
}

/// A power loss may tear what was being written. The store's own file is cut at ever earlier places; what is found is
/// always the beginning of what was there, and never half of a commit.
#[tokio::test]
async fn a_torn_end_is_cut_and_no_commit_is_half_there() {
    const COMMITS: i64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { segment_bytes: 64 << 20, ..SMALL };
    let reopen = || Journal::open(dir.path(), options, Clock::System).unwrap();
    let journal = reopen();
    journal.migrate(&specs()).await.unwrap();
    let (member, assigned) = join(&journal, Topic::Events).await;
    for number in 1..=COMMITS {
        let value = [&number.to_be_bytes()[..], &[0xa5; 500]].concat();
        let carried = vec![(Topic::Alerts, to(0, &value))];
        assigned.lane.commit(ResumeAt::at(offset(number)), &number.to_string(), carried).await.unwrap();
    }
    drop((journal, member, assigned));

    let file = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let file =
        file.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).max().unwrap();
    // The file is made larger than what is in it.
    let mut length = std::fs::read(&file).unwrap().iter().rposition(|&byte| byte != 0).unwrap() as u64;
    let mut before = COMMITS;
    let mut lost = 0;
    for cut in [0, 1, 7, 100, 400, 555, 601, 3000] {
        length -= cut;
        std::fs::File::options().write(true).open(&file).unwrap().set_len(length).unwrap();
        let journal = reopen();
        let (_member, assigned) = join(&journal, Topic::Events).await;
        let commit = assigned.commit.unwrap();
        let number = commit.resume_at.offset().get();
        assert_eq!(commit.metadata, number.to_string());
        assert!(number <= before, "{number} after {before}");
        lost += i64::from(number < before);
        before = number;
        let (_outbox, assigned) = join(&journal, Topic::Alerts).await;
        let read = read_all(&assigned, assigned.end).await;
        let numbers: Vec<_> =
            read.iter().map(|(.., value)| i64::from_be_bytes(value[..8].try_into().unwrap())).collect();
        assert_eq!(numbers, (1..=number).collect::<Vec<_>>());
    }
    assert!(lost > 3 && before > 0, "the cuts reached commits: {lost}, {before}");
}

#[tokio::test]
async fn an_interval_answers_before_the_sync_and_closing_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { fsync: FsyncPolicy::Interval(Duration::from_secs(3600)), ..SMALL };
    let journal = Journal::open(dir.path(), options, Clock::System).unwrap();
    journal.migrate(&specs()).await.unwrap();
    for _ in 0..20 {
        journal.append(Topic::Events, vec![to(0, &[1; 300])]).await.unwrap();
    }
    drop(journal);
    let journal = Journal::open(dir.path(), options, Clock::System).unwrap();
    assert_eq!(join(&journal, Topic::Events).await.1.end, offset(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_append_at_once_is_complete_and_in_each_ones_order() {
    let subject = JournalUnderTest::fresh().await;
    let lifecycle = Lifecycle::new(Duration::from_secs(60));
    let (sender, mut placed) = tokio::sync::mpsc::unbounded_channel();
    for caller in 0_u8..16 {
        let (journal, sender) = (subject.journal.clone(), sender.clone());
        lifecycle.spawn("appender", async move {
            for number in 0_u8..50 {
                let placed = journal.append(Topic::Events, vec![to(0, &[caller, number]); 2]).await.unwrap();
                sender.send((placed[0].offset.get(), placed[1].offset.get(), [caller, number])).unwrap();
            }
        });
    }
    drop(sender);
    let (_member, assigned) = join(&subject.journal, Topic::Events).await;
    let read = read_all(&assigned, offset(1600)).await;
    let mut count = 0;
    while let Some((first, second, value)) = placed.recv().await {
        assert_eq!(second, first + 1, "an append's records lie side by side");
        for at in [first, second] {
            assert_eq!((read[at as usize].0, &*read[at as usize].2), (at, &value[..]));
        }
        count += 2;
    }
    assert_eq!((count, read.len()), (1600, 1600));
    for caller in 0..16 {
        assert!(
            read.iter().filter(|(.., value)| value[0] == caller).is_sorted_by_key(|(.., value)| value[1])
        );
    }
}

// ---- what the tests are told with ---------------------------------------------------------------------------------

fn to(partition: u32, value: &[u8]) -> NewRecord {
    NewRecord { partition: Some(PartitionId(partition)), value: value.to_vec(), ..NewRecord::default() }
}

fn offset(offset: i64) -> Offset {
    Offset::new(offset).unwrap()
}

fn manual(ms: i64) -> (Clock, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(ms));
    (Clock::Manual(now.clone()), now)
}

/// Joins the one group of these tests, and waits for partition 0.
async fn join(journal: &Journal, topic: Topic) -> (Box<dyn Membership>, Assigned) {
    let mut member = journal.join("group", topic).await.unwrap();
    loop {
        match member.next().await.unwrap() {
            MemberEvent::Assigned(assigned) if assigned.partition == PartitionId(0) => {
                return (member, assigned);
            }
            MemberEvent::Assigned(_) | MemberEvent::Delayed { .. } => {}
            MemberEvent::Revoked { partition, .. } | MemberEvent::Lost { partition } => {
                panic!("{partition} goes")
            }
        }
    }
}

/// Offset, append time and value of each record from the lane's position to `end`.
async fn read_all(assigned: &Assigned, end: Offset) -> Vec<(i64, i64, Vec<u8>)> {
    let (mut batch, mut read) = (Batch::default(), Vec::new());
    while batch.position().is_none_or(|position| position < end) {
        assigned.lane.next(&mut batch, 100).await.unwrap();
        read.extend(
            batch.iter().map(|record| (record.offset.get(), record.append_time.get(), record.value.to_vec())),
        );
    }
    read
}
