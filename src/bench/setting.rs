//! What the walk is measured with: the demo's places and declarations, the geo files that are there, keys of this run.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use aws_lc_rs::hmac;

use super::traffic::TENANTS;
use crate::clock::Random;
use crate::config::{Config, Secret};
use crate::keys;
use crate::log::{Origin, Topic};
use crate::model::{LogId, Offset, PartitionId};
use crate::pipeline::store::{Block, Retention};
use crate::pipeline::{Snapshots, Walk, alert, decode, detect, enrich, verify};
use crate::simulate::{DEMO_OVERLAY, demo_clients, demo_egress};

/// Everything that a walk is made of.
pub(super) struct Setting {
    pub(super) snapshots: Snapshots,
    /// Of a topic with one partition: every record is at home.
    pub(super) bounds: decode::Bounds,
    pub(super) retention: Arc<Retention>,
    /// Signs as the door does.
    pub(super) door: hmac::Key,
}

impl Setting {
    /// Reads the geo files of `config`, or the overlay alone.
    pub(super) fn read(config: &Config, folder: &Path, overlay_only: bool) -> anyhow::Result<Self> {
        let overlay = folder.join("overlay.csv");
        std::fs::write(&overlay, DEMO_OVERLAY).with_context(|| format!("writing {}", overlay.display()))?;
        let mut geo = if overlay_only { Default::default() } else { config.geo.clone() };
        geo.overlay = Some(overlay);
        let ingest_key = Secret::new(Random::hex::<32>());
        let door = keys::door(&ingest_key);
        let trust = verify::Trust::build(&[], &config.tenants, &[], door.clone())?;
        let rules = detect::Rulebook::new(&demo_clients(TENANTS), &demo_egress(TENANTS), &[]);
        let snapshots = Snapshots {
            name: "bench".into(),
            verify: Arc::new(trust),
            enrich: Arc::new(enrich::Atlas::load(&geo)?),
            detect: Arc::new(rules),
            alert: Arc::new(alert::Policy::new(&[])),
        };
        let bounds = decode::Bounds {
            max_event_age: config.max_event_age,
            partitions: 1,
            seals: Arc::new(keys::Seals::new(&ingest_key)),
            ledger_key: None,
            forwarded_through: None,
            log: LogId::draw(),
        };
        Ok(Self { snapshots, bounds, retention: Arc::new(Retention::new(config)), door })
    }

    /// A new walk, its state empty.
    pub(super) fn walk(&self) -> Walk {
        self.walk_of(1, PartitionId(0))
    }

    /// A new walk of one of so many partitions.
    pub(super) fn walk_of(&self, partitions: u32, partition: PartitionId) -> Walk {
        let bounds = decode::Bounds { partitions, ..self.bounds.clone() };
        Walk::new(bounds, self.snapshots.clone(), partition)
    }

    pub(super) fn origin(&self) -> Origin {
        Origin { log: self.bounds.log.clone(), topic: Topic::Events, partition: PartitionId(0) }
    }

    pub(super) fn block(&self, origin: Origin, first: Offset) -> Block {
        let (retention, seals) = (Arc::clone(&self.retention), Arc::clone(&self.bounds.seals));
        Block::new(origin, first, retention, Arc::clone(&self.snapshots.name), seals)
    }
}
