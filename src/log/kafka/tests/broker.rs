//! The broker dies, hangs and comes back.

use super::*;
use crate::log::Lane;

/// A broker for one test alone, and a log on it.
async fn own_broker() -> (Broker, Arc<KafkaLog>) {
    let broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    // The default session: a shorter one would end while the broker is away.
    let config = KafkaConfig { brokers: broker.address(), properties: vec![] };
    let log = Arc::new(KafkaLog::connect(&config).unwrap());
    log.migrate(&specs()).await.unwrap();
    (broker, log)
}

/// Commits 100, and again for as long as the log asks for that.
async fn commit(
    lane: &dyn Lane,
    metadata: &str,
    records: Vec<(Topic, NewRecord)>,
) -> Result<(), CommitError> {
    loop {
        match lane.commit(at(100), metadata, records.clone()).await {
            Err(CommitError::Retry(_)) => {}
            done => return done,
        }
    }
}

async fn restart(mut broker: Broker) -> Broker {
    tokio::task::spawn_blocking(move || {
        broker.restart();
        broker
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_in_mid_stream_loses_nothing() {
    in_time(async {
        let (mut broker, log) = own_broker().await;
        let number = |n: u32| to(0, &n.to_string());
        log.append(Topic::Events, (0..100).map(number).collect()).await.unwrap();
        let group = new_group();
        let mut member = Member::join(&*log, &group, Topic::Events).await;
        let lane = member.lane(0).await;
        assert_eq!(read_all(&*lane).await.len(), 100);
        lane.commit(at(100), "before", vec![]).await.unwrap();

        broker.kill();
        assert_eq!(log.health().await.unwrap_err().code(), "log_unavailable");
        // What was begun while the broker was away ends well when it is back.
        let carried = vec![(Topic::Alerts, to(0, "carried"))];
        let (broker, appended, committed) = tokio::join!(
            restart(broker),
            log.append(Topic::Events, (100..200).map(number).collect()),
            commit(&*lane, "while it was away", carried),
        );
        appended.unwrap();
        committed.unwrap();
        log.health().await.unwrap();
        let rest: Vec<_> = (100..200).map(|n| n.to_string()).collect();
        assert_eq!(texts(&read_all(&*lane).await), rest);
        lane.commit(at(200), "after", vec![]).await.unwrap();
        drop((member, lane));

        let mut member = Member::join(&*log, &group, Topic::Events).await;
        member.lane(0).await;
        assert_eq!(member.held[&PartitionId(0)].commit.as_ref().unwrap().metadata, "after");
        let mut outbox = Member::join(&*log, &new_group(), Topic::Alerts).await;
        assert_eq!(texts(&read_all(&*outbox.lane(0).await).await), ["carried"], "once");
        drop((member, outbox, broker));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_only_delays() {
    in_time(async {
        let (broker, log) = own_broker().await;
        let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
        let lane = member.lane(0).await;
        broker.freeze();
        let health = log.health();
        assert_eq!(health.await.unwrap_err().code(), "log_unavailable");
        let thawed = async {
            // The commit has been asked for by then, and cannot have been made.
            tokio::task::yield_now().await;
            broker.thaw();
        };
        let (committed, ()) = tokio::join!(lane.commit(at(0), "late", vec![]), thawed);
        // Frozen for longer than the session: the member may have been expelled meanwhile, and then says so.
        assert!(matches!(committed, Ok(()) | Err(CommitError::NotOwner(_) | CommitError::Retry(_))));
        log.append(Topic::Events, vec![to(0, "lives")]).await.unwrap();
    })
    .await;
}

#[test]
fn a_broker_comes_back_where_it_was_killed() {
    let mut broker = Broker::start();
    let address = broker.address();
    std::net::TcpStream::connect(&address).unwrap();
    broker.kill();
    std::net::TcpStream::connect(&address).unwrap_err();
    broker.restart();
    std::net::TcpStream::connect(&address).unwrap();
}
