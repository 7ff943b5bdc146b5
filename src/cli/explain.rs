//! `jwtrail explain`: why an event or a case did or did not fire.

use anyhow::{Context as _, bail};
use clap::Args;
use uuid::Uuid;

use super::Common;
use super::demo;
use super::node::{block_on, offline_explainer};
use crate::config::MissingCredentials;

/// Why an event or a case did or did not fire, rule by rule.
///
/// An event is walked again after the last 50 hours of its subject, as ClickHouse has them, with the configuration of
/// now; nothing is stored. A case is told from its row.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The id of an event (the door answers with it) or of a case (an alert's finding_id)
    #[arg(value_name = "EVENT_ID|CASE_ID", value_parser = id)]
    id: Uuid,
    /// One JSON document in place of text
    #[arg(long)]
    json: bool,
    /// Judge with the places and declarations of the demo
    #[arg(long)]
    demo: bool,
}

impl Explain {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let mut config = common.load(MissingCredentials::Accept)?;
        if self.demo {
            demo::declare(&mut config)?;
        }
        let clickhouse = &config.clickhouse;
        let place = clickhouse.url.clone().unwrap_or_else(|| format!("http://{}", clickhouse.listen));
        let explainer = offline_explainer(&config)?;
        let found = block_on(async {
            explainer
                .find(self.id)
                .await
                .with_context(|| format!("asking ClickHouse at {place}; is `jwtrail up` running?"))
        })?;
        let Some(found) = found else {
            bail!(
                "ClickHouse at {place} knows no event and no case {}: an event is there a moment after it was sent, \
                 until its retention ends",
                self.id
            );
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&found)?);
        } else {
            print!("{found}");
        }
        Ok(())
    }
}

fn id(text: &str) -> Result<Uuid, &'static str> {
    // The door names an event by a UUID whatever its gateway called it.
    Uuid::try_parse(text)
        .map_err(|_| "an id is a UUID: one of `ids` in the door's answer, or an alert's `finding_id`")
}
