//! Scans, and what compacted topics keep.

use super::sharing::hand_over;
use super::*;

pub(crate) async fn a_scan_reads_what_was_there_and_ends<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let records: Vec<_> = (0..100).map(|n| to(0, &format!("{n}"))).collect();
    let placed = log.append(Topic::Events, records).await.unwrap();
    log.append(Topic::Events, vec![to(1, "elsewhere")]).await.unwrap();

    for from in [None, Some(0), Some(1), Some(99)] {
        let from = from.map(|n: usize| (n, placed[n].offset));
        let mut scan = log.scan(Topic::Events, PartitionId(0), from.map(|(_, offset)| offset)).await.unwrap();
        assert_eq!((scan.start(), scan.end()), (from.map_or(offset(0), |(_, offset)| offset), offset(100)));
        let wanted: Vec<_> = (from.map_or(0, |(n, _)| n)..100).map(|n| n.to_string()).collect();
        assert_eq!(texts(&rest_of(&mut *scan, 7).await), wanted);
        let mut batch = Batch::default();
        assert!(!scan.next(&mut batch, 7).await.unwrap() && batch.is_empty(), "it stays at its end");
    }
    for beyond in [offset(100), offset(1000)] {
        let mut scan = log.scan(Topic::Events, PartitionId(0), Some(beyond)).await.unwrap();
        assert_eq!(texts(&rest_of(&mut *scan, 7).await), [""; 0], "from {beyond}");
    }
    let mut scan = log.scan(Topic::Alerts, PartitionId(0), None).await.unwrap();
    assert_eq!(texts(&rest_of(&mut *scan, 7).await), [""; 0], "an empty partition");
    let nowhere = log.scan(Topic::Events, PartitionId(100), None).await;
    assert!(matches!(nowhere, Err(LogError::Topic { .. })), "{:?}", nowhere.err());
}

pub(crate) async fn a_scan_passes_holes<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    for n in 0..5 {
        // Each commit may leave a marker of its transaction, also behind the last record.
        lane.commit(at(0), "", vec![(Topic::Events, to(1, &format!("{n}")))]).await.unwrap();
        let read = scan_all(&*log, Topic::Events, 1).await;
        assert_eq!(texts(&read), (0..=n).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

pub(crate) async fn a_scan_of_a_truncated_start_begins_where_the_log_does<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let placed = log.append(Topic::Events, (0..20).map(|n| to(0, &format!("{n}"))).collect()).await.unwrap();
    subject.truncate(Topic::Events, PartitionId(0), placed[10].offset).await;
    let last = log.append(Topic::Events, vec![to(0, "last")]).await.unwrap();
    for from in [None, Some(placed[5].offset)] {
        let mut scan = log.scan(Topic::Events, PartitionId(0), from).await.unwrap();
        let start = scan.start();
        assert!(start >= placed[10].offset, "starts at {start}");
        let read = rest_of(&mut *scan, 7).await;
        assert!(read[0].offset >= start);
        assert_eq!(read.last().unwrap().offset, last[0].offset);
    }
}

pub(crate) async fn a_compacted_topic_keeps_the_newest_of_each_key<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(1).await;
    let checkpoints: [&[(&str, &str)]; 4] = [
        &[("alice", "1"), ("bob", "1"), ("carol", "1"), ("dave", "1")],
        &[("alice", "2"), ("bob", ""), ("alice", "3")],
        &[("erin", "3"), ("erin", ""), ("dave", ""), ("dave", "3")],
        &[("bob", ""), ("frank", ""), ("carol", "4")],
    ];
    for (number, checkpoint) in (1..).zip(checkpoints) {
        let records = checkpoint.iter().map(|(key, value)| (Topic::State, state(1, key, value)));
        lane.commit(at(0), &number.to_string(), records.collect()).await.unwrap();
    }
    let wanted = ["alice 3", "carol 4", "dave 3"];
    assert_eq!(alive(&*log, 1).await, wanted);
    assert_eq!(alive(&*log, 0).await, [""; 0], "each partition has its own");

    drop((member, lane, log));
    let subject = subject.reopen().await;
    let log = subject.log();
    assert_eq!(alive(&*log, 1).await, wanted);
    let next = scan_all(&*log, Topic::State, 1).await.last().unwrap().offset;
    let placed = log.append(Topic::State, vec![state(1, "grace", "5"), state(1, "alice", "")]).await.unwrap();
    assert!(placed[0].offset > next && placed[1].offset > placed[0].offset);
    assert_eq!(alive(&*log, 1).await, ["carol 4", "dave 3", "grace 5"]);
}

pub(crate) async fn a_former_owners_checkpoint_leaves_nothing<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let (_first, second, partition, zombie) = hand_over(&*log, &new_group()).await;
    let new = second.held[&partition].lane.clone();
    let checkpoint = |value: &str| vec![(Topic::State, state(partition.0, "alice", value))];
    new.commit(at(0), "the new owner's", checkpoint("new")).await.unwrap();
    let refused = zombie.commit(at(0), "a zombie's", checkpoint("a zombie's")).await;
    assert!(matches!(refused, Err(CommitError::NotOwner(of)) if of == partition), "{refused:?}");
    let read = scan_all(&*log, Topic::State, partition.0).await;
    assert_eq!(texts(&read), ["new"]);
}

pub(crate) async fn a_new_owners_scan_sees_every_checkpoint_of_the_former<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let group = new_group();
    for round in 1..=3 {
        let mut member = Member::join(&*log, &group, Topic::Events).await;
        let lane = member.lane(0).await;
        let before = member.held[&PartitionId(0)]
            .commit
            .as_ref()
            .map_or(0, |commit| commit.metadata.parse::<usize>().unwrap());
        assert_eq!(before, (round - 1) * 3);
        assert_eq!(alive(&*log, 0).await.len(), before, "a key a checkpoint");
        for number in before + 1..=before + 3 {
            let records = vec![(Topic::State, state(0, &format!("{number:02}"), "kept"))];
            lane.commit(at(0), &number.to_string(), records).await.unwrap();
        }
    }
}

pub(crate) fn state(partition: u32, key: &str, value: &str) -> NewRecord {
    NewRecord { key: Some(key.into()), ..to(partition, value) }
}

pub(crate) async fn scan_all(log: &dyn EventLog, topic: Topic, partition: u32) -> Vec<Read> {
    rest_of(&mut *log.scan(topic, PartitionId(partition), None).await.unwrap(), 1000).await
}

/// What a reader makes of the state topic: the last value of each key, without those that were removed.
async fn alive(log: &dyn EventLog, partition: u32) -> Vec<String> {
    let mut alive = BTreeMap::new();
    for read in scan_all(log, Topic::State, partition).await {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (key, value) = (text(read.record.key.unwrap()), text(read.record.value));
        if value.is_empty() {
            alive.remove(&key);
        } else {
            alive.insert(key, value);
        }
    }
    alive.into_iter().map(|(key, value)| format!("{key} {value}")).collect()
}

pub(crate) async fn rest_of(scan: &mut dyn Scan, max: usize) -> Vec<Read> {
    let (mut batch, mut read) = (Batch::default(), Vec::new());
    while scan.next(&mut batch, max).await.unwrap() {
        assert!((1..=max).contains(&batch.len()));
        read.extend(reads(&batch));
    }
    assert!(read.is_sorted_by(|a, b| a.offset < b.offset));
    read
}
