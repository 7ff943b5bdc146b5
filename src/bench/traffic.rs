//! Seeded traffic, as records of one partition: what the simulator makes, unsigned or signed as the door signs it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use aws_lc_rs::hmac;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::log::{Batch, NewRecord};
use crate::model::{Event, Offset, PartitionId, UnixMs};
use crate::pipeline::{decode, verify};
use crate::simulate::{Plan, Simulator};

/// Records a batch: what a lane fetches at most.
pub(super) const BATCH_RECORDS: usize = 4_096;

/// Tenants of the traffic, each with `PEOPLE`.
pub(super) const TENANTS: usize = 2;
pub(super) const PEOPLE: usize = 5_000;

/// Records in batches.
pub(super) struct Traffic {
    pub(super) batches: Vec<Batch>,
    pub(super) events: usize,
}

impl Traffic {
    /// So many events of the simulator, `batch` of them a batch, signed with `key`.
    pub(super) fn simulated(events: usize, batch: usize, key: Option<&hmac::Key>) -> Self {
        let records =
            simulator(1).take(events).map(|simulated| (simulated.event.time, record(&simulated.event, key)));
        Self::of(records, batch)
    }

    /// The same events, each from another public address: nothing that is remembered of places helps.
    pub(super) fn from_anywhere(events: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let records = simulator(1).take(events).map(|mut simulated| {
            if let Some(request) = &mut simulated.event.request {
                request.ip = Some(public_address(&mut rng));
            }
            (simulated.event.time, record(&simulated.event, None))
        });
        Self::of(records, BATCH_RECORDS)
    }

    fn of(records: impl Iterator<Item = (UnixMs, NewRecord)>, batch_records: usize) -> Self {
        let mut traffic = Self { batches: Vec::new(), events: 0 };
        let mut records = records.peekable();
        while records.peek().is_some() {
            let mut batch = Batch::default();
            batch.clear(PartitionId(0));
            for (time, record) in records.by_ref().take(batch_records) {
                push(&mut batch, traffic.events, time, &record);
                traffic.events += 1;
            }
            traffic.batches.push(batch);
        }
        traffic
    }

    /// Bytes of a record's value, in the mean.
    pub(super) fn value_bytes(&self) -> f64 {
        let records = self.batches.iter().flat_map(Batch::iter);
        records.map(|record| record.value.len()).sum::<usize>() as f64 / self.events.max(1) as f64
    }
}

/// Puts a record into a batch as the log would, stamped at the event's own time.
pub(super) fn push(batch: &mut Batch, number: usize, time: UnixMs, record: &NewRecord) {
    let offset = i64::try_from(number).ok().and_then(Offset::new).unwrap_or_default();
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    batch.push(offset, time, record.key.as_deref(), &record.value, headers);
}

/// Busy traffic with attacks.
fn simulator(seed: u64) -> Simulator {
    Simulator::new(plan(seed, START, BUSY, Some(ATTACK_EVERY)))
}

/// Traffic of [`PEOPLE`] in each tenant.
pub(super) const fn plan(seed: u64, start: UnixMs, rate: f64, attack_every: Option<Duration>) -> Plan {
    Plan { seed, start, rate, tenants: TENANTS, people: PEOPLE, attack_every }
}

/// Events a second of event time, where nothing else is wanted.
pub(super) const BUSY: f64 = 200.0;
pub(super) const ATTACK_EVERY: Duration = Duration::from_secs(20);

/// 2026-11-23T08:00:00Z: the day begins when people do.
pub(super) const START: UnixMs = UnixMs::new(1_795_420_800_000);

/// An event as our own producers write it.
pub(super) fn record(event: &Event<'_>, key: Option<&hmac::Key>) -> NewRecord {
    let mut record = decode::to_record(event);
    if let Some(key) = key {
        let signature = verify::sign_record(verify::DOOR_KEY_ID, key, &record.value);
        record.headers.push((verify::SIGNATURE_HEADER.to_owned(), signature.into_bytes()));
    }
    record
}

/// Some address that may be anybody's: not private, shared, multicast or for documentation.
fn public_address(rng: &mut StdRng) -> IpAddr {
    loop {
        let address = Ipv4Addr::from_bits(rng.random());
        let first = address.octets()[0];
        if (1..224).contains(&first) && ![10, 100, 127, 169, 172, 192, 198, 203].contains(&first) {
            return address.into();
        }
    }
}
