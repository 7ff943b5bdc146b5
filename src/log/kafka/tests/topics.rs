//! Topics that are not as they should be, and records that nobody of ours would write.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use rdkafka::admin::{NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::*;
use crate::log::home_partition;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_the_producers_time_is_refused_until_it_is_set_right() {
    in_time(async {
        let prefix = format!("{}.", Random::hex::<6>());
        let log = connect(&shared_broker().await, &prefix);
        let name = log.names.of(Topic::Events).into_owned();
        let admin: AdminClient<LogContext> = create_plain(&log.settings.asker()).unwrap();
        let topic = NewTopic::new(&name, 2, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "CreateTime")
            .set("max.message.bytes", "2000000");
        admin.create_topics(&[topic], &AdminOptions::new()).await.unwrap();

        let Err(refused) = log.join(&new_group(), Topic::Events).await else { panic!("joined") };
        assert_eq!(
            refused.to_string(),
            "topic jwtrail.events: has message.timestamp.type CreateTime and must have LogAppendTime; \
             run `jwtrail migrate`"
        );
        assert_eq!(
            log.migrate(&specs()[..1]).await.unwrap(),
            [format!("{name}: set message.timestamp.type=LogAppendTime")]
        );
        log.join(&new_group(), Topic::Events).await.unwrap();
        // What the operator had set is kept.
        let described =
            admin.describe_configs(&[ResourceSpecifier::Topic(&name)], &AdminOptions::new()).await.unwrap();
        let kept = described[0].as_ref().unwrap().get("max.message.bytes").unwrap().value.clone();
        assert_eq!(kept.as_deref(), Some("2000000"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_must_be_there() {
    in_time(async {
        let log = connect(&shared_broker().await, "absent.");
        let Err(refused) = log.join(&new_group(), Topic::Events).await else { panic!("joined") };
        assert_eq!(refused.to_string(), "topic jwtrail.events: is not there; run `jwtrail migrate`");
        let refused = log.partitions(Topic::Events).await.unwrap_err();
        assert_eq!(refused.code(), "topic_wrong");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_must_be_there() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let refused = subject.log.append(Topic::Events, vec![to(2, "nowhere")]).await.unwrap_err();
        assert_eq!(refused.code(), "topic_wrong", "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_other_programs_are_read_as_they_are() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let (brokers, topic) = (shared_broker().await, subject.events());
        let odd_header = OsStr::from_bytes(b"\xff\xfe=lost with its name");
        let headers = [OsStr::new("-H"), odd_header, OsStr::new("-H"), OsStr::new("good=kept")];
        // -Z: without a value, as compaction's tombstones are.
        for (arguments, line) in [(&headers[..], "key:value\n"), (&[OsStr::new("-Z")], "key:\n")] {
            let mut kcat = Command::new("kcat")
                .args(["-P", "-q", "-b", &brokers, "-t", &topic, "-p", "0", "-K", ":"])
                .args(arguments)
                .stdin(Stdio::piped())
                .spawn()
                .expect("kcat runs: on Debian, apt-get install kcat");
            let mut input = kcat.stdin.take().unwrap();
            std::io::Write::write_all(&mut input, line.as_bytes()).unwrap();
            drop(input);
            assert!(kcat.wait().unwrap().success());
        }

        let mut member = Member::join(&*subject.log, &new_group(), Topic::Events).await;
        let read = read_all(&*member.lane(0).await).await;
        let headers = vec![("\u{fffd}".to_owned(), vec![]), ("good".to_owned(), b"kept".to_vec())];
        assert_eq!(read[0].record.headers, headers);
        assert_eq!(texts(&read), ["value", ""]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_transactions_are_holes_and_open_ones_are_the_end() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        subject.log.append(Topic::Events, vec![to(0, "a")]).await.unwrap();
        let stranger = subject.stranger("stranger", 60_000);
        subject.send(&stranger, 0, "never");
        subject.send(&stranger, 0, "ever");
        stranger.abort_transaction(Duration::from_secs(30)).unwrap();
        let mut member = Member::join(&*subject.log, &new_group(), Topic::Events).await;
        let lane = member.lane(0).await;
        // a, never, ever, the marker.
        assert_eq!(lane.end().await.unwrap(), offset(4));
        assert_eq!(texts(&read_all(&*lane).await), ["a"]);

        stranger.begin_transaction().unwrap();
        subject.send(&stranger, 0, "hidden");
        subject.log.append(Topic::Events, vec![to(0, "behind it")]).await.unwrap();
        assert_eq!(lane.end().await.unwrap(), offset(4), "as far as it is decided");
        stranger.commit_transaction(Duration::from_secs(30)).unwrap();
        let mut batch = crate::log::Batch::default();
        let mut read = Vec::new();
        while read.len() < 2 {
            lane.next(&mut batch, 10).await.unwrap();
            read.extend(batch.iter().map(|record| String::from_utf8_lossy(record.value).into_owned()));
        }
        assert_eq!(read, ["hidden", "behind it"]);
    })
    .await;
}

/// Which is why a record's key and its partition cannot be trusted, and the walk brings it home.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librdkafkas_own_partitioner_is_not_kafkas() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let keys: Vec<String> = (0..8).map(|number| format!("acme\u{1f}user-{number}")).collect();
        let record = |key: &String| NewRecord { key: Some(key.clone().into_bytes()), ..NewRecord::default() };
        let ours = subject.log.append(Topic::Events, keys.iter().map(record).collect()).await.unwrap();
        let partitions = subject.log.partitions(Topic::Events).await.unwrap();

        let mut client = subject.log.settings.asker();
        client.set("partitioner", "consistent_random");
        let other: FutureProducer<LogContext> = create_plain(&client).unwrap();
        let mut displaced = 0;
        for (key, ours) in keys.iter().zip(&ours) {
            assert_eq!(ours.partition, home_partition(key.as_bytes(), partitions), "{key}");
            let topic = subject.events();
            let record = FutureRecord::to(&topic).key(key).payload("");
            let delivery = other.send(record, Duration::from_secs(30)).await.unwrap();
            displaced += u32::from(delivery.partition != raw(ours.partition));
        }
        assert!(displaced > 0, "librdkafka's default has become Kafka's");
    })
    .await;
}
