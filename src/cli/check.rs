//! `jwtrail check`: the effective configuration, and a try of every connection.

use std::future::Future;

use anyhow::bail;
use clap::Args;

use super::Common;
use super::node::{Node, block_on, keeper, offline_key, offline_walk};
use crate::clickhouse::Client;
use crate::config::{Config, DestinationKind, MissingCredentials};
use crate::deliver;
use crate::issuer::Redis;
use crate::key_sets::KeySetError;
use crate::log::{EventLog, Topic};

/// Print the effective configuration, secrets redacted, and try every connection.
#[derive(Debug, Args)]
pub(super) struct Check {}

impl Check {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let config = common.load(MissingCredentials::Accept)?;
        print!("{}", config.effective());
        block_on(async {
            let node = Node::brief(config)?;
            println!("\n# connections and files");
            let mut failed = 0;
            failed +=
                say("rules, issuers and geo files", async { offline_walk(&node.config).map(|_| ()) }).await;
            for (iss, tried) in key_sets(&node.config).await {
                failed += say(&format!("key set of {iss}"), async { Ok(tried?) }).await;
            }
            let client = Client::new(&node.config.clickhouse);
            failed += say("ClickHouse", async { Ok(client.ping().await?) }).await;
            if node.config.kafka.is_some() {
                failed += say("Kafka", async { topics(node.open_kafka()?.as_ref()).await }).await;
                removed_destinations(&node).await;
            } else {
                println!("log: the journal in {}", node.config.data_dir.join("journal").display());
            }
            if let Some(redis) = &node.config.redis {
                failed += say("Redis", async { Ok(Redis::connect(redis).await.map(|_| ())?) }).await;
            }
            for destination in &node.config.destinations {
                // A webhook is not called: a receiver must not see what is no alert.
                if let DestinationKind::File { path } = &destination.kind {
                    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                    let there = folder.is_none_or(std::path::Path::is_dir);
                    let found = async { if there { Ok(()) } else { bail!("its folder is not there") } };
                    failed += say(&format!("destination {}", destination.name), found).await;
                }
            }
            if failed > 0 { bail!("{failed} of them failed") } else { Ok(()) }
        })
    }
}

/// What came of fetching each key set that is fetched. What else is wrong has been said.
async fn key_sets(config: &Config) -> Vec<(String, Result<(), KeySetError>)> {
    match keeper(config, &offline_key(config)) {
        Ok(keeper) => keeper.try_each().await,
        Err(_) => Vec::new(),
    }
}

/// Prints what came of one try; returns how many failed, 0 or 1.
async fn say(what: &str, tried: impl Future<Output = anyhow::Result<()>>) -> usize {
    match tried.await {
        Ok(()) => {
            println!("{what}: ok");
            0
        }
        Err(error) => {
            println!("{what}: {error:#}");
            1
        }
    }
}

/// Names destinations that were told once and are not any more. What keeps Kafka from answering has been said.
async fn removed_destinations(node: &Node) {
    let Ok(log) = node.open_kafka() else { return };
    for name in deliver::removed(log.as_ref(), &node.config.destinations).await.unwrap_or_default() {
        println!("destination {name}: not configured any more; Kafka forgets its group by itself");
    }
}

/// Whether the topics are there, with as many partitions as they were made with.
async fn topics(log: &dyn EventLog) -> anyhow::Result<()> {
    log.health().await?;
    for topic in Topic::ALL {
        let (wanted, there) = (topic.spec(false).partitions, log.partitions(topic).await?);
        if topic == Topic::Events && there != wanted {
            println!(
                "{}: {there} partitions, made with another number than {wanted}: kept as it is",
                topic.name()
            );
        }
    }
    Ok(())
}
