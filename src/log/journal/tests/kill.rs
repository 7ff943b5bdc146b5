//! kill -9 under load: the test starts itself as a child that appends and commits, kills it, and looks at what is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

/// Tell the child where its journal is, and whether it syncs at all before the kill.
const DIRECTORY: &str = "JWTRAIL_TEST_JOURNAL";
const NO_SYNC: &str = "JWTRAIL_TEST_JOURNAL_NO_SYNC";
const CHILD: &str = "log::journal::tests::kill::child";
const ROUNDS: usize = 5;
const LINES_A_ROUND: usize = 400;
/// So many keys are written in turn, round and round; even.
const KEYS: i64 = 10;

/// Small segments and no limit: it rolls all the time and drops nothing.
const OPTIONS: JournalOptions = JournalOptions { limit_bytes: u64::MAX, segment_bytes: 128 << 10, ..SMALL };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    // What the child was told is durable: values by partition and offset, and the last commit.
    let (mut acknowledged, mut committed) = (BTreeMap::new(), 0);
    for round in 0..ROUNDS {
        let mut command = Command::new(std::env::current_exe().unwrap());
        if round % 2 == 1 {
            command.env(NO_SYNC, "");
        }
        let mut child = command
            .args([CHILD, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = 0;
        // After the kill, what the child had written before it is still in the pipe.
        for line in lines {
            let line = line.unwrap();
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["appended", partition, offset, value] => {
                    let place: (u32, i64) = (partition.parse().unwrap(), offset.parse().unwrap());
                    let before = acknowledged.insert(place, value.to_owned());
                    assert_eq!(before, None, "an offset is given once");
                }
                ["committed", number] => committed = number.parse().unwrap(),
                _ => continue,
            }
            told += 1;
            if told == LINES_A_ROUND {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(told >= LINES_A_ROUND, "the child ended by itself");
        check(&dir, &acknowledged, committed, round).await;
    }
}

async fn check(dir: &TempDir, acknowledged: &BTreeMap<(u32, i64), String>, committed: i64, round: usize) {
    let journal = Journal::open(dir.path(), OPTIONS, Clock::System).unwrap();
    let mut member = journal.join("group", Topic::Events).await.unwrap();
    let mut lanes = BTreeMap::new();
    while lanes.len() < 4 {
        if let MemberEvent::Assigned(assigned) = member.next().await.unwrap() {
            lanes.insert(assigned.partition.0, assigned);
        }
    }
    let mut found = 0;
    for (&partition, assigned) in &lanes {
        assert_eq!(assigned.start, Offset::ZERO);
        assigned.lane.seek(Offset::ZERO).await.unwrap();
        let read = read_all(assigned, assigned.end).await;
        assert!((0..).zip(&read).all(|(wanted, (offset, ..))| wanted == *offset), "no holes");
        for ((_, offset), value) in acknowledged.range((partition, 0)..(partition + 1, 0)) {
            let stored = String::from_utf8(read[*offset as usize].2.clone()).unwrap();
            assert_eq!(stored.trim_end_matches('.'), value, "round {round}, {partition}/{offset}");
            found += 1;
        }
    }
    assert_eq!(found, acknowledged.len());

    // The commit's number, its metadata and the record it carried went together, or not at all.
    let commit = lanes[&0].commit.clone().unwrap();
    let number = commit.resume_at.offset().get();
    assert!(number >= committed, "round {round}: told {committed}, found {number}");
    assert_eq!(commit.metadata, number.to_string());
    let (_outbox, assigned) = join(&journal, Topic::Alerts).await;
    let carried: Vec<_> =
        read_all(&assigned, assigned.end).await.into_iter().map(|(.., value)| value).collect();
    assert_eq!(carried, (1..=number).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());

    // Of the checkpoints, what is newest and not removed: the second half of the circle of keys, each once.
    let mut scan = journal.scan(Topic::State, PartitionId(0), None).await.unwrap();
    let (mut batch, mut alive) = (Batch::default(), Vec::new());
    while scan.next(&mut batch, 3).await.unwrap() {
        alive.extend(batch.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()));
    }
    let wanted: Vec<_> = ((number - KEYS / 2).max(0) + 1..=number).map(|number| number.to_string()).collect();
    assert_eq!(alive, wanted, "round {round}");
}

/// Appends and commits until it is killed, and says what is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the test above"]
async fn child() {
    #[expect(clippy::disallowed_methods, reason = "how the test speaks to itself")]
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    #[expect(clippy::disallowed_methods, reason = "as above")]
    let fsync = match std::env::var_os(NO_SYNC) {
        None => FsyncPolicy::Always,
        Some(_) => FsyncPolicy::Interval(Duration::from_secs(3600)),
    };
    let options = JournalOptions { fsync, ..OPTIONS };
    let journal = Journal::open(Path::new(&dir), options, Clock::System).unwrap();
    journal.migrate(&specs()).await.unwrap();
    let lifecycle = Lifecycle::new(Duration::from_secs(60));
    for partition in 0..4 {
        let journal = journal.clone();
        lifecycle.spawn("appender", async move {
            for number in 0_u64.. {
                // One to nine records of up to 6 KB.
                let records: Vec<_> = (0..=number % 9)
                    .map(|n| (format!("{}-{partition}-{number}-{n}", std::process::id()), (n * 700) as usize))
                    .collect();
                let appended = records
                    .iter()
                    .map(|(text, pad)| to(partition, format!("{text}{}", ".".repeat(*pad)).as_bytes()));
                let placed = journal.append(Topic::Events, appended.collect()).await.unwrap();
                for (placed, (text, _)) in placed.iter().zip(&records) {
                    say(&format!("appended {} {} {text}", placed.partition, placed.offset));
                }
            }
        });
    }
    let (_member, assigned) = join(&journal, Topic::Events).await;
    let last = assigned.commit.map_or(0, |commit| commit.resume_at.offset().get());
    for number in last + 1.. {
        // A checkpoint: the key of this number is written again, the one before it is removed.
        let state = |number: i64, value: String| {
            let key = (number % KEYS).to_string().into_bytes();
            (Topic::State, NewRecord { key: Some(key), ..to(0, value.as_bytes()) })
        };
        let carried = vec![
            (Topic::Alerts, to(0, number.to_string().as_bytes())),
            state(number, number.to_string()),
            state(number + KEYS / 2, String::new()),
        ];
        let metadata = number.to_string();
        assigned.lane.commit(ResumeAt::at(offset(number)), &metadata, carried).await.unwrap();
        say(&format!("committed {number}"));
    }
}

/// A line in one write, so that lines of several threads never mix.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}
