//! Who owns a partition: fenced, stopped and killed owners.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use rdkafka::consumer::DefaultConsumerContext;

use super::*;
use crate::log::broker::signal;

const PLACE: &str = "JWTRAIL_TEST_KAFKA";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_lane_ends_and_comes_back_if_the_partition_is_still_ours() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let group = new_group();
        let mut membership = subject.log.join(&group, Topic::Events).await.unwrap();
        let old = assigned_0(&mut *membership).await;
        old.lane.commit(at(0), "ours", vec![]).await.unwrap();
        let id = format!("jwtrail/{group}/{}/0", subject.events());
        tokio::task::block_in_place(|| drop(subject.stranger(&id, 10_000)));

        let carried = vec![(Topic::Alerts, to(0, "of a fenced owner"))];
        let refused = old.lane.commit(at(0), "fenced", carried).await;
        assert!(matches!(refused, Err(CommitError::NotOwner(_))), "{refused:?}");
        assert!(matches!(next_of_0(&mut *membership).await, MemberEvent::Lost { .. }));
        subject.log.append(Topic::Events, vec![to(0, "new")]).await.unwrap();
        let new = assigned_0(&mut *membership).await;
        assert_eq!(new.commit.unwrap().metadata, "ours");
        assert_eq!(texts(&read_all(&*new.lane).await), ["new"]);
        new.lane.commit(at(1), "ours again", vec![]).await.unwrap();
        let refused = old.lane.commit(at(0), "still dead", vec![]).await;
        assert!(matches!(refused, Err(CommitError::NotOwner(_))), "{refused:?}");

        let mut outbox = Member::join(&*subject.log, &new_group(), Topic::Alerts).await;
        assert_eq!(texts(&read_all(&*outbox.lane(0).await).await), [""; 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_is_not_answered_is_answered_for_the_lane() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let group = new_group();
        let mut first = Member::join(&*subject.log, &group, Topic::Events).await;
        first.until_held(2).await;
        let lanes: Vec<_> = first.held.values().map(|assigned| assigned.lane.clone()).collect();
        first.answers = false;
        let mut second = Member::join(&*subject.log, &group, Topic::Events).await;
        while second.held.is_empty() {
            tokio::select! { () = first.step() => {} () = second.step() => {} }
        }
        let partition = *second.held.keys().next().unwrap();
        let refused = lanes[partition.0 as usize].commit(at(0), "too late", vec![]).await;
        assert!(matches!(refused, Err(CommitError::NotOwner(_))), "{refused:?}");
        second.held[&partition].lane.commit(at(0), "the second's", vec![]).await.unwrap();
    })
    .await;
}

// ---- other processes ----------------------------------------------------------------------------------------------

/// This test binary again, as another member of the group. Ended with its handle.
struct Other {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn start(role: &str, place: &[&str]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([&format!("log::kafka::tests::owners::{role}"), "--exact", "--ignored", "--nocapture"])
            .env(PLACE, place.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Waits until it has said a line with this beginning.
    fn until_says(&mut self, wanted: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find(|line| line.starts_with(wanted)).unwrap_or_else(|| panic!("it ended without `{wanted}`"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the parent said; `None` where somebody runs ignored tests by hand.
fn place() -> Option<Vec<String>> {
    #[expect(clippy::disallowed_methods, reason = "how the test speaks to itself")]
    let place = std::env::var(PLACE).ok()?;
    Some(place.split(' ').map(str::to_owned).collect())
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_owners_commit_stays_and_its_open_transaction_ends_with_the_next_owner() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let group = new_group();
        let brokers = shared_broker().await;
        let prefix = subject.prefix.clone();
        let place = [brokers, prefix, group.clone()];
        tokio::task::spawn_blocking(move || {
            let place: Vec<_> = place.iter().map(String::as_str).collect();
            let mut other = Other::start("dies_with_a_transaction_open", &place);
            other.until_says("open");
            signal(other.process.id(), "KILL");
        })
        .await
        .unwrap();

        // The dead one's transaction would stay open for a quarter of an hour, and hide its commit as long.
        let mut member = Member::join(&*subject.log, &group, Topic::Events).await;
        let lane = member.lane(0).await;
        let commit = member.held[&PartitionId(0)].commit.clone().unwrap();
        assert_eq!((commit.resume_at, &*commit.metadata), (at(1), "kept"));
        lane.seek(Offset::ZERO).await.unwrap();
        assert_eq!(texts(&read_all(&*lane).await), ["committed"]);
        lane.commit(at(2), "the next owner's", vec![]).await.unwrap();
    })
    .await;
}

/// As a transaction in the commits that nobody ends: without its end the broker does not tell where to resume.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_that_waits_for_a_transaction_says_so_and_goes_on_after_it() {
    const WAIT: Duration = Duration::from_secs(30);
    in_time(async {
        let subject = OnKafka::fresh().await;
        let group = new_group();
        let consumer: BaseConsumer<DefaultConsumerContext> =
            subject.log.settings.group_member(&group).create().unwrap();
        let stranger = subject.stranger(&group, 300_000);
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&subject.events(), 0, KafkaOffset::Offset(0)).unwrap();
        stranger.send_offsets_to_transaction(&offsets, &consumer.group_metadata().unwrap(), WAIT).unwrap();
        let mut membership = subject.log.join(&group, Topic::Events).await.unwrap();
        let MemberEvent::Delayed { partitions, why } = membership.next().await.unwrap() else {
            panic!("not delayed");
        };
        assert_eq!(partitions, [PartitionId(0), PartitionId(1)]);
        assert!(why.to_string().contains("find-hanging --topic __consumer_offsets"), "{why}");
        stranger.abort_transaction(WAIT).unwrap();
        while matches!(next_of_0(&mut *membership).await, MemberEvent::Delayed { .. }) {}
    })
    .await;
}

#[test]
#[ignore = "a child of the test above"]
fn dies_with_a_transaction_open() {
    const WAIT: Duration = Duration::from_secs(30);
    let Some([brokers, prefix, group]) = place().and_then(|place| <[String; 3]>::try_from(place).ok()) else {
        return;
    };
    let subject = OnKafka { log: connect(&brokers, &prefix), prefix };
    let topic = subject.events();
    let consumer: BaseConsumer<DefaultConsumerContext> =
        subject.log.settings.group_member(&group).create().unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    while consumer.assignment().unwrap().count() == 0 {
        let _ = consumer.poll(Duration::from_millis(100));
    }
    let group_metadata = consumer.group_metadata().unwrap();
    let producer = subject.stranger(&format!("jwtrail/{group}/{topic}/0"), 900_000);
    for (value, resume_at, metadata) in [("committed", 1, "kept"), ("open", 2, "never")] {
        subject.send(&producer, 0, value);
        let mut offsets = TopicPartitionList::new();
        let mut element = offsets.add_partition(&topic, 0);
        element.set_offset(KafkaOffset::Offset(resume_at)).unwrap();
        element.set_metadata(metadata);
        producer.send_offsets_to_transaction(&offsets, &group_metadata, WAIT).unwrap();
        if value == "committed" {
            producer.commit_transaction(WAIT).unwrap();
            producer.begin_transaction().unwrap();
        }
    }
    say("open");
    // Until it is killed.
    loop {
        let _ = consumer.poll(Duration::from_secs(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_stopped_harms_nobody_when_it_wakes() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let group = new_group();
        let place = [shared_broker().await, subject.prefix.clone(), group.clone()];
        let other = tokio::task::spawn_blocking(move || {
            let place: Vec<_> = place.iter().map(String::as_str).collect();
            let mut other = Other::start("commits_until_refused", &place);
            other.until_says("committed");
            signal(other.process.id(), "STOP");
            other
        })
        .await
        .unwrap();

        // The group misses it, and gives its partitions to us.
        let mut member = Member::join(&*subject.log, &group, Topic::Events).await;
        member.until_held(2).await;
        let lane = member.lane(0).await;
        lane.commit(at(7), "the new owner's", vec![]).await.unwrap();
        tokio::task::spawn_blocking(move || {
            let mut other = other;
            signal(other.process.id(), "CONT");
            other.until_says("refused");
        })
        .await
        .unwrap();
        lane.commit(at(8), "the new owner's again", vec![]).await.unwrap();
        drop((lane, member));

        let mut member = Member::join(&*subject.log, &group, Topic::Events).await;
        member.lane(0).await;
        let commit = member.held[&PartitionId(0)].commit.clone().unwrap();
        assert_eq!((commit.resume_at, &*commit.metadata), (at(8), "the new owner's again"));
        let mut outbox = Member::join(&*subject.log, &new_group(), Topic::Alerts).await;
        let carried = texts(&read_all(&*outbox.lane(0).await).await);
        assert!(carried.is_sorted_by_key(|number| number.parse::<u32>().unwrap()), "each once: {carried:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a child of the test above"]
async fn commits_until_refused() {
    let Some([brokers, prefix, group]) = place().and_then(|place| <[String; 3]>::try_from(place).ok()) else {
        return;
    };
    let log = connect(&brokers, &prefix);
    let mut membership = log.join(&group, Topic::Events).await.unwrap();
    let lane = assigned_0(&mut *membership).await.lane;
    for number in 0.. {
        let carried = vec![(Topic::Alerts, to(0, &format!("{number}")))];
        match lane.commit(at(0), &format!("the old owner's {number}"), carried).await {
            Ok(()) => say("committed"),
            Err(CommitError::Retry(_)) => {}
            Err(error) => return say(&format!("refused {error}")),
        }
    }
}
