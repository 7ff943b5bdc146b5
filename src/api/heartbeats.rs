//! What the door counts for gateways that only post to it, and the heartbeats that it sends for them.
//!
//! An event whose source names no epoch gets the door's: one start of this process. So what the door took of a gateway is
//! told from what lies in the log of it, also when this process is killed. A gateway that names its own epochs sends its
//! own heartbeats; of such a one the door says only what it refused, for that was seen, though it is no event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::door::Door;
use crate::clock::Clock;
use crate::config::Gateway;
use crate::lifecycle::Lifecycle;
use crate::model::{Event, Heartbeat, Kind, PLATFORM_TENANT, Source, Zone};
use crate::pipeline::decode::lenient::to_record;
use crate::telemetry::ByCode;

/// Whoever has the ingest key may name any gateway: those beyond so many are not counted.
const MAX_GATEWAYS: usize = 4_096;

/// The counts of this process.
pub(crate) struct Heartbeats {
    epoch: Uuid,
    /// As events have it.
    epoch_text: String,
    gateways: Mutex<BTreeMap<String, Counted>>,
}

#[derive(Clone, Copy)]
struct Counted {
    zone: Zone,
    accepted: u64,
    refused: u64,
}

impl Heartbeats {
    /// `epoch`: of this start of the process.
    pub(crate) fn new(epoch: Uuid) -> Self {
        Self { epoch, epoch_text: epoch.to_string(), gateways: Mutex::default() }
    }

    pub(super) const fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// Events that are durable.
    pub(super) fn accepted<'e>(&self, events: impl Iterator<Item = &'e Event<'static>>) {
        let mut gateways = self.lock();
        for event in events.filter(|event| event.source.epoch.as_deref() == Some(&self.epoch_text)) {
            count(&mut gateways, &event.source.gateway, event.source.zone, |counted| counted.accepted += 1);
        }
    }

    /// Events that the door did not take. Without a gateway's own key nobody knows whose they are.
    pub(super) fn refused(&self, gateway: &Gateway, events: u64) {
        count(&mut self.lock(), &gateway.name, gateway.zone, |counted| counted.refused += events);
    }

    /// One heartbeat a gateway, with what was counted until now.
    fn events(&self, clock: &Clock, closing: bool) -> Vec<Event<'static>> {
        let gateways = self.lock().clone();
        let heartbeat = |(gateway, counted): (String, Counted)| Event {
            version: 1,
            id: clock.new_id(),
            kind: Kind::Heartbeat,
            // Later than what is counted.
            time: clock.now(),
            claimed_time: None,
            tenant: PLATFORM_TENANT.into(),
            source: Source {
                gateway: gateway.into(),
                zone: counted.zone,
                region: None,
                epoch: Some(self.epoch_text.clone().into()),
                seq: None,
            },
            token: None,
            request: None,
            gateway_verdict: None,
            grant: None,
            login: None,
            retry: false,
            heartbeat: Some(Heartbeat {
                sent: counted.accepted,
                dropped: 0,
                closing,
                refused: Some(counted.refused),
            }),
            ledger_mark: None,
            extra: None,
        };
        gateways.into_iter().map(heartbeat).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Counted>> {
        // A map of numbers is whole whatever panicked beside it.
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(
    gateways: &mut BTreeMap<String, Counted>,
    gateway: &str,
    zone: Zone,
    add: impl FnOnce(&mut Counted),
) {
    if let Some(counted) = gateways.get_mut(gateway) {
        add(counted);
    } else if gateways.len() < MAX_GATEWAYS {
        add(gateways.entry(gateway.to_owned()).or_insert(Counted { zone, accepted: 0, refused: 0 }));
    }
}

/// Sends the door's heartbeats every so often, and the last ones when the process drains.
pub(crate) async fn beat(door: Arc<Door>, every: Duration, lifecycle: Lifecycle) {
    loop {
        let closing = tokio::select! {
            () = tokio::time::sleep(every) => false,
            () = lifecycle.draining() => true,
        };
        let heartbeats = door.heartbeats.events(&door.clock, closing);
        let records: Vec<_> = heartbeats.iter().map(|event| door.sign(to_record(event))).collect();
        if !records.is_empty()
            && let Err(error) = door.intake.append(&heartbeats, records, door.clock.now()).await
        {
            // The next ones say the same and more.
            door.metrics.log_calls_failed.get_or_create(&ByCode { code: error.code() }).inc();
            tracing::warn!(code = error.code(), %error, "heartbeats could not be appended");
        }
        if closing {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::pipeline::decode::lenient::{Arrival, Credential, admit};

    /// The counts of each gateway: sent, refused.
    fn told(heartbeats: &Heartbeats) -> String {
        let lines = heartbeats.events(&Clock::System, false).into_iter().map(|event| {
            let said = event.heartbeat.unwrap();
            format!("{} {} {:?}", event.source.gateway, said.sent, said.refused)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn event(heartbeats: &Heartbeats, source: &str) -> Event<'static> {
        let text = format!(
            r#"{{"source":{source},"token":{{"iss":"https://id.example","sub":"alice","jti":"1"}},"request":{{"ip":"203.0.113.7"}}}}"#
        );
        let arrival = Arrival {
            now: Clock::System.now(),
            fresh_id: Clock::System.new_id(),
            door_epoch: Some(heartbeats.epoch()),
        };
        admit(text.as_bytes(), &Credential::Ingest, arrival).unwrap().event
    }

    #[test]
    fn the_door_counts_for_who_does_not_count() {
        let heartbeats = Heartbeats::new(Uuid::from_u128(7));
        let sources = [
            r#"{"gateway":"edge-1"}"#,
            r#"{"gateway":"edge-1","epoch":"own","seq":1}"#,
            r#"{"gateway":"edge-2"}"#,
        ];
        let events = sources.map(|source| event(&heartbeats, source));
        heartbeats.accepted(events.iter());
        heartbeats.accepted(events.iter().take(2));
        let gateway = Gateway {
            name: "edge-3".to_owned(),
            zone: Zone::Internal,
            tenants: Vec::new(),
            key_sha256: None,
            signing: Vec::new(),
        };
        heartbeats.refused(&gateway, 5);
        expect![[r#"
            edge-1 2 Some(0)
            edge-2 1 Some(0)
            edge-3 0 Some(5)"#]]
        .assert_eq(&told(&heartbeats));
    }

    #[test]
    fn made_up_gateways_take_a_bounded_room() {
        let heartbeats = Heartbeats::new(Uuid::from_u128(7));
        let known = event(&heartbeats, r#"{"gateway":"known"}"#);
        heartbeats.accepted(std::iter::once(&known));
        let mut made_up = known.clone();
        for number in 0..2 * MAX_GATEWAYS {
            made_up.source.gateway = format!("made-up-{number}").into();
            heartbeats.accepted(std::iter::once(&made_up));
        }
        heartbeats.accepted(std::iter::once(&known));
        assert_eq!(heartbeats.lock().len(), MAX_GATEWAYS);
        assert_eq!(heartbeats.lock()["known"].accepted, 2);
    }
}
