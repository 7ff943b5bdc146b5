//! One member alone: appending, committing, reading.

use super::*;

// ---- appending ----------------------------------------------------------------------------------------------------

pub(crate) async fn append_places_by_partition_and_by_key<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let partitions = log.partitions(Topic::Events).await.unwrap();
    let keyed = |key: &str| NewRecord { key: Some(key.into()), value: b"k".to_vec(), ..NewRecord::default() };
    let both = NewRecord { partition: Some(PartitionId(1)), ..keyed("alice") };
    let records = vec![to(0, "a"), to(1, "b"), to(0, "c"), keyed("alice"), keyed("bob"), both];
    let placed = log.append(Topic::Events, records).await.unwrap();

    let by_key = |key: &str| home_partition(key.as_bytes(), partitions);
    let wanted =
        [PartitionId(0), PartitionId(1), PartitionId(0), by_key("alice"), by_key("bob"), PartitionId(1)];
    assert_eq!(placed.iter().map(|placed| placed.partition).collect::<Vec<_>>(), wanted);
    for partition in (0..partitions).map(PartitionId) {
        let offsets: Vec<_> = placed
            .iter()
            .filter(|placed| placed.partition == partition)
            .map(|placed| placed.offset)
            .collect();
        assert!(offsets.is_sorted_by(|a, b| a < b), "in the order of the records: {offsets:?}");
    }
}

pub(crate) async fn append_keeps_the_order_and_every_byte<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let odd = NewRecord {
        key: Some(vec![0, 255, 31]),
        partition: Some(PartitionId(0)),
        value: vec![0, 200, 10],
        headers: vec![
            ("again".into(), b"1".to_vec()),
            ("again".into(), Vec::new()),
            ("other".into(), vec![255, 0]),
        ],
    };
    let empty = NewRecord { partition: Some(PartitionId(0)), ..NewRecord::default() };
    let empty_key = NewRecord { key: Some(Vec::new()), ..empty.clone() };
    let wanted = vec![odd, empty, empty_key];
    log.append(Topic::Events, wanted.clone()).await.unwrap();
    let many: Vec<_> = (0..500).map(|n| to(0, &format!("{n}"))).collect();
    for part in many.chunks(70) {
        log.append(Topic::Events, part.to_vec()).await.unwrap();
    }

    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let read = read_all(&*member.lane(0).await).await;
    let read: Vec<_> = read.into_iter().map(|read| read.record).collect();
    assert_eq!(read, [wanted, many].concat());
}

pub(crate) async fn a_record_over_the_limit_is_refused<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let huge = NewRecord { value: vec![b'x'; 64 << 20], ..to(0, "") };
    let refused = log.append(Topic::Events, vec![huge]).await;
    assert!(matches!(refused, Err(LogError::TooLarge { .. })), "{refused:?}");
    let large = NewRecord { value: vec![b'x'; 900_000], ..to(0, "") };
    log.append(Topic::Events, vec![large]).await.unwrap();
}

pub(crate) async fn appended_records_survive_reopening<L: UnderTest>() {
    let subject = L::fresh().await;
    let placed = subject.log().append(Topic::Events, vec![to(0, "a"), to(0, "b")]).await.unwrap();
    let subject = subject.reopen().await;
    let log = subject.log();
    let later = log.append(Topic::Events, vec![to(0, "c")]).await.unwrap();
    assert!(later[0].offset > placed[1].offset);

    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    assert_eq!(texts(&read_all(&*member.lane(0).await).await), ["a", "b", "c"]);
}

pub(crate) async fn append_time_never_runs_back<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    for n in 0..20 {
        log.append(Topic::Events, vec![to(0, &format!("{n}"))]).await.unwrap();
    }
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let read = read_all(&*member.lane(0).await).await;
    assert_eq!(read.len(), 20);
    assert!(read.is_sorted_by_key(|read| read.append_time));
    assert!(read[0].append_time > UnixMs::new(1_600_000_000_000), "the log's own time, not none");
}

pub(crate) async fn migrate_is_idempotent<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut specs = Vec::new();
    for topic in Topic::ALL {
        let partitions = log.partitions(topic).await.unwrap();
        specs.push(TopicSpec { partitions, ..topic.spec(true) });
    }
    log.migrate(&specs).await.unwrap();
    assert_eq!(log.migrate(&specs).await.unwrap(), Vec::<String>::new(), "there is nothing left to do");
    let wider = TopicSpec { partitions: specs[0].partitions + 1, ..specs[0] };
    let refused = log.migrate(&[wider]).await;
    assert!(matches!(refused, Err(LogError::Topic { .. })), "partitions never change in place: {refused:?}");
    assert_eq!(log.partitions(specs[0].topic).await.unwrap(), specs[0].partitions);
    log.health().await.unwrap();
}

// ---- committing ---------------------------------------------------------------------------------------------------

pub(crate) async fn join_gives_each_partition_once<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(1, "a"), to(1, "b")]).await.unwrap();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    member.until_held(log.partitions(Topic::Events).await.unwrap()).await;
    for (partition, assigned) in &member.held {
        assert_eq!(assigned.commit, None);
        assert_eq!(assigned.start, Offset::ZERO);
        let end = if *partition == PartitionId(1) { 2 } else { 0 };
        assert_eq!(assigned.end, offset(end), "{partition}");
        assert_eq!(assigned.lane.end().await.unwrap(), offset(end), "{partition}");
    }
}

pub(crate) async fn a_commit_survives_reopening<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(0, "a"), to(0, "b")]).await.unwrap();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    lane.commit(at(0), "first", vec![]).await.unwrap();
    let metadata = "m".repeat(METADATA_BYTES_MAX);
    lane.commit(at(1), &metadata, vec![]).await.unwrap();
    drop((member, lane, log));

    let subject = subject.reopen().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    member.lane(0).await;
    assert_eq!(member.held[&PartitionId(0)].commit, Some(Commit { resume_at: at(1), metadata }));
}

pub(crate) async fn metadata_over_the_limit_is_refused<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    lane.commit(at(0), "kept", vec![]).await.unwrap();
    let refused =
        lane.commit(at(0), &"m".repeat(METADATA_BYTES_MAX + 1), vec![(Topic::Alerts, to(0, "x"))]).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    lane.commit(at(0), "and the lane lives on", vec![]).await.unwrap();

    let mut reader = Member::join(&*log, &new_group(), Topic::Alerts).await;
    assert_eq!(texts(&read_all(&*reader.lane(0).await).await), [""; 0]);
}

pub(crate) async fn a_refused_commit_leaves_nothing_and_the_next_goes_through<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let carried = |texts: &[&str]| texts.iter().map(|text| (Topic::Alerts, to(0, text))).collect::<Vec<_>>();
    for round in 0..3 {
        let huge = NewRecord { value: vec![b'x'; 64 << 20], ..to(0, "") };
        let mut some = carried(&["refused"; 200]);
        some.push((Topic::Alerts, huge));
        let refused = lane.commit(at(0), "refused", some).await;
        assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
        lane.commit(at(0), "taken", carried(&["taken"])).await.unwrap();
        let mut outbox = Member::join(&*log, &new_group(), Topic::Alerts).await;
        let read = read_all(&*outbox.lane(0).await).await;
        assert_eq!(texts(&read), vec!["taken"; round + 1]);
    }
}

pub(crate) async fn groups_commit_apart<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(0, "a"), to(0, "b")]).await.unwrap();
    let (one, other) = (new_group(), new_group());
    let mut first = Member::join(&*log, &one, Topic::Events).await;
    first.lane(0).await.commit(at(2), "one", vec![]).await.unwrap();
    let mut second = Member::join(&*log, &other, Topic::Events).await;
    let lane = second.lane(0).await;
    assert_eq!(second.held[&PartitionId(0)].commit, None);
    assert_eq!(texts(&read_all(&*lane).await), ["a", "b"]);
}

pub(crate) async fn a_commit_and_its_records_are_one<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(0, "a")]).await.unwrap();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    let carried = vec![(Topic::Events, to(1, "forwarded")), (Topic::Alerts, to(0, "told"))];
    lane.commit(at(1), "with records", carried).await.unwrap();

    let forwards = member.lane(1).await;
    assert_eq!(texts(&read_all(&*forwards).await), ["forwarded"]);
    let mut outbox = Member::join(&*log, &new_group(), Topic::Alerts).await;
    assert_eq!(texts(&read_all(&*outbox.lane(0).await).await), ["told"]);
    drop((member, lane, forwards, outbox, log));

    let subject = subject.reopen().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let forwards = member.lane(1).await;
    assert_eq!(texts(&read_all(&*forwards).await), ["forwarded"]);
    member.lane(0).await;
    let commit = member.held[&PartitionId(0)].commit.clone();
    assert_eq!(commit, Some(Commit { resume_at: at(1), metadata: "with records".into() }));
}

// ---- reading ------------------------------------------------------------------------------------------------------

pub(crate) async fn a_lane_starts_at_its_commit<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(0, "a"), to(0, "b"), to(0, "c")]).await.unwrap();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    assert_eq!(texts(&read_all(&*lane).await), ["a", "b", "c"], "without a commit: at the start");
    lane.commit(at(1), "", vec![]).await.unwrap();
    drop((member, lane));
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    assert_eq!(member.held[&PartitionId(0)].commit.as_ref().map(|commit| commit.resume_at), Some(at(1)));
    assert_eq!(texts(&read_all(&*lane).await), ["b", "c"]);
}

pub(crate) async fn seek_goes_back_and_forth<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let records: Vec<_> = (0..100).map(|n| to(0, &format!("{n}"))).collect();
    let placed = log.append(Topic::Events, records).await.unwrap();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let mut batch = Batch::default();
    for wanted in [0, 99, 3, 50, 50, 0, 98] {
        lane.seek(placed[wanted].offset).await.unwrap();
        lane.next(&mut batch, 10).await.unwrap();
        let first = batch.iter().next().unwrap();
        assert_eq!((first.offset, first.value), (placed[wanted].offset, wanted.to_string().as_bytes()));
    }
    lane.seek(lane.end().await.unwrap()).await.unwrap();
    log.append(Topic::Events, vec![to(0, "new")]).await.unwrap();
    assert_eq!(texts(&read_all(&*lane).await), ["new"]);
}

pub(crate) async fn next_takes_no_more_than_asked<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, (0..50).map(|n| to(0, &format!("{n}"))).collect()).await.unwrap();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let (mut batch, mut read) = (Batch::default(), Vec::new());
    while read.len() < 50 {
        lane.next(&mut batch, 7).await.unwrap();
        assert!(batch.len() <= 7);
        assert_eq!(batch.partition(), PartitionId(0));
        read.extend(batch.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()));
    }
    assert_eq!(read, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub(crate) async fn next_waits_for_a_record<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let mut batch = Batch::default();
    let append = async {
        // The reader waits by now, or will find the record: both must end.
        tokio::task::yield_now().await;
        log.append(Topic::Events, vec![to(0, "a")]).await.unwrap();
    };
    let (read, ()) = tokio::join!(lane.next(&mut batch, 10), append);
    read.unwrap();
    assert_eq!(batch.iter().map(|record| record.value).collect::<Vec<_>>(), [b"a"]);
}

pub(crate) async fn a_dropped_next_loses_nothing<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let (mut batch, mut read) = (Batch::default(), Vec::new());
    for n in 0..100 {
        log.append(Topic::Events, vec![to(0, &format!("{n}"))]).await.unwrap();
        tokio::select! {
            biased;
            done = lane.next(&mut batch, 10) => {
                done.unwrap();
                read.extend(batch.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()));
            }
            // Polled once, then dropped, wherever it had got to.
            () = tokio::task::yield_now() => {}
        }
    }
    log.append(Topic::Events, vec![to(0, "100")]).await.unwrap();
    read.extend(texts(&read_all(&*lane).await));
    assert_eq!(read, (0..=100).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub(crate) async fn the_position_passes_holes<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    for n in 0..5 {
        // Each commit may leave a marker of its transaction in the partition that it appends to.
        let carried = vec![(Topic::Events, to(0, &format!("{n}")))];
        lane.commit(at(0), "", carried).await.unwrap();
    }
    assert_eq!(texts(&read_all(&*lane).await), ["0", "1", "2", "3", "4"]);
}

pub(crate) async fn truncation_below_the_commit_shows<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let placed = log.append(Topic::Events, (0..20).map(|n| to(0, &format!("{n}"))).collect()).await.unwrap();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    lane.commit(ResumeAt::at(placed[5].offset), "kept", vec![]).await.unwrap();
    drop((member, lane));
    subject.truncate(Topic::Events, PartitionId(0), placed[10].offset).await;

    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    let assigned = &member.held[&PartitionId(0)];
    let commit = Commit { resume_at: ResumeAt::at(placed[5].offset), metadata: "kept".into() };
    assert_eq!(assigned.commit, Some(commit));
    assert!(assigned.start >= placed[10].offset, "starts at {}", assigned.start);
    lane.seek(assigned.start).await.unwrap();
    lane.commit(ResumeAt::at(assigned.start), "on at the start", vec![]).await.unwrap();
    let last = log.append(Topic::Events, vec![to(0, "last")]).await.unwrap();
    let read = read_all(&*lane).await;
    assert!(read[0].offset >= assigned.start);
    assert_eq!(read.last().unwrap().offset, last[0].offset);
}

pub(crate) async fn a_lane_below_the_start_of_the_log_begins_again_knowing_it<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let placed = log.append(Topic::Events, (0..20).map(|n| to(0, &format!("{n}"))).collect()).await.unwrap();
    let mut membership = log.join(&new_group(), Topic::Events).await.unwrap();
    let old = assigned_0(&mut *membership).await;
    old.lane.commit(at(2), "below", vec![]).await.unwrap();
    subject.truncate(Topic::Events, PartitionId(0), placed[5].offset).await;
    // What was fetched before is wanted no more. A log that knows already says so here.
    let _ = old.lane.seek(offset(2)).await;
    let mut batch = Batch::default();
    let failed = old.lane.next(&mut batch, 10).await;
    assert!(failed.is_err() && batch.is_empty(), "nothing is skipped in silence");

    assert!(matches!(next_of_0(&mut *membership).await, MemberEvent::Lost { .. }));
    let new = assigned_0(&mut *membership).await;
    assert!(new.start >= placed[5].offset, "starts at {}", new.start);
    assert_eq!(new.commit.unwrap().resume_at, at(2));
    new.lane.seek(new.start).await.unwrap();
    let last = log.append(Topic::Events, vec![to(0, "last")]).await.unwrap();
    let read = read_all(&*new.lane).await;
    assert_eq!((read[0].offset, read.last().unwrap().offset), (new.start, last[0].offset));
    new.lane.commit(at(10), "on again", vec![]).await.unwrap();
}

pub(crate) async fn offset_at_finds_the_first_record_of_a_time<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let partition = PartitionId(0);
    assert_eq!(log.offset_at(Topic::Events, partition, UnixMs::new(0)).await.unwrap(), Offset::ZERO);
    for n in 0..30 {
        log.append(Topic::Events, (0..3).map(|_| to(0, &format!("{n}"))).collect()).await.unwrap();
    }
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let read = read_all(&*member.lane(0).await).await;
    for time in read.iter().map(|read| read.append_time) {
        let first = read.iter().find(|read| read.append_time >= time).unwrap();
        assert_eq!(log.offset_at(Topic::Events, partition, time).await.unwrap(), first.offset);
    }
    assert_eq!(log.offset_at(Topic::Events, partition, UnixMs::new(0)).await.unwrap(), read[0].offset);
    let after = read.last().unwrap().append_time + Duration::from_secs(3600);
    assert_eq!(log.offset_at(Topic::Events, partition, after).await.unwrap(), offset(90));
}
