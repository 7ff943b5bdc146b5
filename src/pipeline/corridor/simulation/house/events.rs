//! What the sources send, and what the installation knows of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::retried_key;
use crate::config::{Gateway, GeoFiles, Secret, SigningKey, SigningMaterial};
use crate::log::{Batch, NewRecord};
use crate::model::{Offset, UnixMs, Zone};
use crate::pipeline::corridor::simulation::op::PARTITIONS;
use crate::pipeline::store::testing::{bounds, event_at, heartbeat, jws};
use crate::pipeline::{Snapshots, decode, enrich, testing, verify};

/// One gateway, its people, and strangers.
#[derive(Default)]
pub(super) struct Sources {
    /// The events that may come again, as they were sent, and when.
    sent: Vec<(UnixMs, Vec<u8>)>,
    /// Numbers events, heartbeats and strangers.
    ids: u128,
    /// As the gateway numbers its events.
    seq: u64,
}

impl Sources {
    pub(super) fn event(&mut self, who: u8, place: u8, time: UnixMs) -> NewRecord {
        let event = self.used(&format!("person-{who}"), place, time);
        self.send(event, time)
    }

    /// Not sent again: whether its repeat is one depends on whether the key is known by then.
    pub(super) fn signed(&mut self, who: u8, place: u8, time: UnixMs) -> NewRecord {
        let value = self.used(&format!("person-{who}"), place, time).to_string().into_bytes();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(pair().sign(&value));
        let header = format!("{};ed25519;{signature}", KEYS[0]);
        let headers = vec![(verify::SIGNATURE_HEADER.to_owned(), header.into_bytes())];
        NewRecord { value, headers, ..NewRecord::default() }
    }

    pub(super) fn leak(&mut self, who: u8, time: UnixMs) -> NewRecord {
        let mut event = self.used(&format!("person-{who}"), 0, time);
        event["request"]["user_agent"] = jws().0.into();
        self.send(event, time)
    }

    pub(super) fn stranger(&mut self, time: UnixMs) -> NewRecord {
        let event = self.used(&format!("stranger-{}", self.ids), 0, time);
        NewRecord { value: event.to_string().into_bytes(), ..NewRecord::default() }
    }

    /// One of the last events, as it was sent.
    pub(super) fn again(&self, back: usize) -> Option<NewRecord> {
        let (_, value) = self.sent.iter().rev().nth(back)?;
        Some(NewRecord { value: value.clone(), ..NewRecord::default() })
    }

    /// An event that comes from the spool alone.
    pub(super) fn held_back(&mut self, who: u8, place: u8, time: UnixMs) -> NewRecord {
        let record = self.event(who, place, time);
        sealed(record.value, time)
    }

    /// One of the last events from the spool: held back since it was sent first, or since it was `resent`.
    pub(super) fn drained(&self, back: usize, resent: Option<UnixMs>) -> Option<NewRecord> {
        let (sent, value) = self.sent.iter().rev().nth(back)?;
        Some(sealed(value.clone(), resent.unwrap_or(*sent)))
    }

    pub(super) fn heartbeat(&mut self, closing: bool, time: UnixMs) -> NewRecord {
        let mut event: Value = serde_json::from_slice(&heartbeat()).unwrap();
        event["id"] = self.id().into();
        event["time"] = time.to_string().into();
        event["source"]["epoch"] = EPOCH.into();
        event["heartbeat"] = json!({"sent": self.seq, "dropped": 0, "closing": closing});
        NewRecord { value: event.to_string().into_bytes(), ..NewRecord::default() }
    }

    pub(super) fn skip(&mut self) {
        self.seq += 1;
    }

    fn send(&mut self, event: Value, time: UnixMs) -> NewRecord {
        let value = event.to_string().into_bytes();
        self.sent.push((time, value.clone()));
        NewRecord { value, ..NewRecord::default() }
    }

    /// Somebody uses a token somewhere.
    fn used(&mut self, sub: &str, place: u8, time: UnixMs) -> Value {
        let event = event_at("accepted", sub, &time.to_string());
        let mut event: Value = serde_json::from_slice(&event).unwrap();
        event["id"] = self.id().into();
        self.seq += 1;
        event["source"]["epoch"] = EPOCH.into();
        event["source"]["seq"] = self.seq.into();
        let token_ref = crate::token::sha256_base64url(sub.as_bytes());
        event["token"]["ref"] = token_ref.into();
        let (_, ip, agent) = PLACES[usize::from(place)];
        event["request"]["ip"] = json!(ip);
        event["request"]["user_agent"] = json!(agent);
        event
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        uuid::Uuid::from_u128(self.ids).to_string()
    }
}

/// The record as the spool lets it follow.
fn sealed(value: Vec<u8>, since: UnixMs) -> NewRecord {
    let mut batch = Batch::default();
    batch.push(Offset::ZERO, since, None, &value, []);
    let seal = {
        let record = batch.iter().next().unwrap();
        let decoded = decode::decode(&record, &bounds()).unwrap();
        decode::seal_retried(&decoded.event, &value, since, &retried_key())
    };
    let headers = vec![(decode::RETRIED_HEADER.to_owned(), seal.into_bytes())];
    NewRecord { value, headers, ..NewRecord::default() }
}

const GATEWAY: &str = "edge-fra-1";
const EPOCH: &str = "epoch-1";

/// The ids of the gateway's keys: it signs with the first, and either the one or the other is known.
const KEYS: [&str; 2] = ["2026", "2027"];

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                      Chrome/131.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";

/// Lines of an overlay, with an address of each and what is used there.
const PLACES: [(&str, &str, &str); 3] = [
    ("203.0.113.0/24,FR,Paris,48.8566,2.3522,5,access,paris,64500,Example Fibre", "203.0.113.7", CHROME),
    ("198.51.100.0/24,JP,Tokyo,35.6762,139.6503,5,access,tokyo,64501,Example Cable", "198.51.100.7", FIREFOX),
    ("192.0.2.0/24,US,New York,40.7128,-74.006,5,hosting,new-york,64502,Example Cloud", "192.0.2.7", CHROME),
];

pub(in super::super) fn walk_bounds() -> decode::Bounds {
    decode::Bounds { partitions: PARTITIONS, ..bounds() }
}

/// The snapshots of that number: the even ones know the key that the gateway signs with, the odd ones another.
pub(in super::super) fn snapshots(number: u32) -> Snapshots {
    static SNAPSHOTS: LazyLock<[Snapshots; 2]> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let overlay = directory.path().join("overlay.csv");
        let lines = PLACES.map(|(line, ..)| line).join("\n");
        let head = "cidr,country,city,lat,lon,radius_km,kind,label,asn,organisation";
        std::fs::write(&overlay, format!("{head}\n{lines}\n")).unwrap();
        let geo = GeoFiles { overlay: Some(overlay), ..GeoFiles::default() };
        let atlas = Arc::new(enrich::Atlas::load(&geo).unwrap());
        KEYS.map(|id| {
            let gateway = Gateway {
                name: GATEWAY.to_owned(),
                zone: Zone::Edge,
                tenants: vec!["acme".parse().unwrap()],
                key_sha256: None,
                signing: vec![SigningKey {
                    id: id.to_owned(),
                    material: SigningMaterial::Ed25519(pair().public_key().as_ref().try_into().unwrap()),
                }],
            };
            let door = crate::keys::door(&Secret::new("of the tests".to_owned()));
            let trust = verify::Trust::build(&[], &HashMap::new(), &[gateway], door).unwrap();
            Snapshots { verify: Arc::new(trust), enrich: Arc::clone(&atlas), ..testing::snapshots() }
        })
    });
    Snapshots { name: number.to_string().into(), ..SNAPSHOTS[number as usize % KEYS.len()].clone() }
}
