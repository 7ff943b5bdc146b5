//! TLS and SASL/SCRAM, as a production cluster has them.

use super::*;
use crate::log::broker::{PASSWORD, USER};

/// What an operator writes for such a cluster, with these changes.
fn secured(broker: &Broker, port: u16, changes: &[(&str, &str)]) -> KafkaConfig {
    let ca = broker.ca().display().to_string();
    let mut properties = vec![
        ("security.protocol", "SASL_SSL"),
        ("ssl.ca.location", ca.as_str()),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", USER),
        ("sasl.password", PASSWORD),
    ];
    for (key, value) in changes {
        properties.retain(|(known, _)| known != key);
        if !value.is_empty() {
            properties.push((key, value));
        }
    }
    let property = |(key, value): (&str, &str)| (key.to_owned(), Secret::new(value.to_owned()));
    KafkaConfig {
        brokers: format!("127.0.0.1:{port}"),
        properties: properties.into_iter().map(property).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_the_log_does_goes_through_tls_and_scram() {
    in_time(async {
        let (broker, port) = tokio::task::spawn_blocking(Broker::start_secured).await.unwrap();
        let log = Arc::new(KafkaLog::connect(&secured(&broker, port, &[])).unwrap());
        log.migrate(&specs()).await.unwrap();
        log.health().await.unwrap();
        log.append(Topic::Events, vec![to(0, "one"), to(0, "two")]).await.unwrap();
        let group = new_group();
        let mut member = Member::join(&*log, &group, Topic::Events).await;
        let lane = member.lane(0).await;
        assert_eq!(texts(&read_all(&*lane).await), ["one", "two"]);
        lane.commit(at(2), "whole", vec![(Topic::Alerts, to(0, "carried"))]).await.unwrap();
        drop((member, lane));
        let mut member = Member::join(&*log, &group, Topic::Events).await;
        member.lane(0).await;
        assert_eq!(member.held[&PartitionId(0)].commit.as_ref().unwrap().metadata, "whole");

        // Who is not let in is told what to do, and by no text the password.
        let elsewhere = broker.ca().with_file_name("broker.crt").display().to_string();
        for (changes, expected) in [
            (
                &[("sasl.password", "not-the-password")][..],
                "check sasl.username, sasl.password and sasl.mechanism",
            ),
            (&[("sasl.username", "nobody")], "check sasl.username, sasl.password and sasl.mechanism"),
            (
                &[("ssl.ca.location", "")],
                "let ssl.ca.location in [kafka.properties] name the PEM file of the CA",
            ),
            (
                &[("ssl.ca.location", &elsewhere)],
                "let ssl.ca.location in [kafka.properties] name the PEM file",
            ),
        ] {
            let log = KafkaLog::connect(&secured(&broker, port, changes)).unwrap();
            let mut error = log.health().await.unwrap_err().to_string();
            // The first call may have waited for no longer than it takes to be refused.
            while !error.contains("[kafka.properties]") {
                error = log.health().await.unwrap_err().to_string();
            }
            assert!(error.contains(expected), "{changes:?}: {error}");
            assert!(
                !error.contains("password-of-the-tests") && !error.contains("not-the-password"),
                "{error}"
            );
        }
        drop(member);
        drop(broker);
    })
    .await;
}
