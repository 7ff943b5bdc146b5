//! Scans among transactions of others, and topics that the broker compacts.

use rdkafka::admin::{AlterConfig, ResourceSpecifier};

use super::super::scan::KafkaScan;
use super::*;
use crate::log::contract::{rest_of, scan_all, state};
use crate::log::{Batch, NewRecord, Scan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_waits_for_an_open_transaction_and_gives_up_in_time() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let stranger = subject.stranger(&new_group(), 60_000);
        subject.send(&stranger, 0, "hidden");
        subject.log.append(Topic::Events, vec![to(0, "behind it")]).await.unwrap();

        let (settings, name) = (subject.log.settings.clone(), subject.events());
        let begin = move || {
            let patience = Duration::from_secs(5);
            KafkaScan::begin(&settings, Topic::Events, name, PartitionId(0), None, patience)
        };
        let mut impatient = tokio::task::spawn_blocking(begin).await.unwrap().unwrap();
        let failed = impatient.next(&mut Batch::default(), 10).await.unwrap_err();
        assert_eq!(failed.code(), "log_unavailable", "{failed}");
        let wanted = format!("abort --topic {} --partition 0 --start-offset 0`", subject.events());
        assert!(failed.to_string().contains(&wanted), "{failed}");

        let mut scan = subject.log.scan(Topic::Events, PartitionId(0), None).await.unwrap();
        let decided = tokio::task::spawn_blocking(move || {
            stranger.commit_transaction(Duration::from_secs(30)).unwrap();
        });
        assert_eq!(texts(&rest_of(&mut *scan, 10).await), ["hidden", "behind it"]);
        decided.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_passes_what_the_broker_compacted_away() {
    in_time(async {
        let subject = OnKafka::fresh().await;
        let name = subject.log.names.of(Topic::State).into_owned();
        let admin: AdminClient<LogContext> = create_plain(&subject.log.settings.asker()).unwrap();
        let described =
            admin.describe_configs(&[ResourceSpecifier::Topic(&name)], &AdminOptions::new()).await.unwrap();
        let described = described[0].as_ref().unwrap();
        for (setting, wanted) in
            [("cleanup.policy", "compact"), ("segment.bytes", "67108864"), ("segment.ms", "3600000")]
        {
            assert_eq!(described.get(setting).unwrap().value.as_deref(), Some(wanted), "{setting}");
        }
        // The least that a broker takes, so that some segments close.
        let small = AlterConfig::new(ResourceSpecifier::Topic(&name))
            .set("cleanup.policy", "compact")
            .set("message.timestamp.type", "LogAppendTime")
            .set("min.cleanable.dirty.ratio", "0.01")
            .set("segment.bytes", "1048576");
        admin.alter_configs(&[small], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();

        const ROUNDS: usize = 8;
        for round in 0..ROUNDS {
            // Compression must not make it small.
            let value = || (0..20_000).map(|_| Random::hex::<8>()).collect::<String>();
            let big = |key: &str| NewRecord { value: value().into(), ..state(0, key, "") };
            let last = state(0, "last", &round.to_string());
            let removed = state(0, "removed", if round == 0 { "there" } else { "" });
            let records = vec![big("a"), big("b"), removed, last];
            subject.log.append(Topic::State, records).await.unwrap();
        }
        loop {
            let read = scan_all(&*subject.log, Topic::State, 0).await;
            assert_eq!(texts(&read).last().unwrap(), &(ROUNDS - 1).to_string());
            if read.len() < 4 * ROUNDS / 2 {
                break;
            }
        }
    })
    .await;
}
