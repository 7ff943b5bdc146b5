//! Labelled, seeded traffic as gateways would report it: people with homes, offices, commutes, flights and VPNs,
//! server-side callers, fleets, relays; and attacks injected into it, each with a label. The same seed and start give
//! the same events, whatever the rate at which they are sent.

mod attacks;
mod people;
mod services;
mod world;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{Event, RuleId, UnixMs};
use attacks::Attacks;
use people::Person;
use services::Service;
pub(crate) use world::{DEMO_OVERLAY, World, demo_clients, demo_egress};

/// What traffic is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Event time of the first event.
    pub(crate) start: UnixMs,
    /// Benign events a second of event time, in the mean.
    pub(crate) rate: f64,
    pub(crate) tenants: usize,
    /// People a tenant.
    pub(crate) people: usize,
    /// One attack about every so often; `None` for benign traffic alone.
    pub(crate) attack_every: Option<Duration>,
}

/// What was done to whom: the truth that `evaluate` holds findings to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) rule: RuleId,
    pub(crate) tenant: String,
    /// The subject of the case; the gateway for `token_leak`, whose case knows no subject.
    pub(crate) who: String,
    pub(crate) from: UnixMs,
    pub(crate) to: UnixMs,
}

/// One event of the traffic.
#[derive(Clone, Debug)]
pub(crate) struct Simulated {
    pub(crate) event: Event<'static>,
    /// On the first event of an attack: what it is. A replay from far away is also a journey, so there may be two.
    pub(crate) labels: Vec<Label>,
}

/// The traffic, in order of event time.
pub(crate) struct Simulator {
    rng: StdRng,
    plan: Plan,
    people: Vec<Person>,
    services: Vec<Service>,
    attacks: Attacks,
    /// When the next benign event is due.
    next_benign: UnixMs,
    next_attack: Option<UnixMs>,
}

/// One event in ten is a service's, not a person's.
const SERVICE_SHARE: f64 = 0.1;

impl Simulator {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let world = World::demo();
        let mut people = Vec::new();
        let mut services = Vec::new();
        for tenant in 0..plan.tenants {
            let tenant = world::tenant_name(tenant);
            people.extend((0..plan.people).map(|number| Person::new(&tenant, number, &world, &mut rng)));
            services.extend(Service::of_tenant(&tenant, &world));
        }
        let next_attack = plan.attack_every.map(|every| plan.start + every / 2);
        Self {
            attacks: Attacks::new(world),
            next_benign: plan.start,
            next_attack,
            rng,
            people,
            services,
            plan,
        }
    }

    fn benign(&mut self, time: UnixMs) -> Simulated {
        let person = (!self.rng.random_bool(SERVICE_SHARE)).then(|| self.somebody_active(time)).flatten();
        let event = match person {
            Some(person) => self.people[person].use_at(time, &mut self.rng),
            None => {
                let service = self.rng.random_range(0..self.services.len());
                self.services[service].use_at(time, &mut self.rng)
            }
        };
        Simulated { event, labels: Vec::new() }
    }

    /// Who sleeps does not answer: after a few tries nobody is there.
    fn somebody_active(&mut self, time: UnixMs) -> Option<usize> {
        (0..8).find_map(|_| {
            let person = self.rng.random_range(0..self.people.len());
            self.people[person].is_active(time).then_some(person)
        })
    }

    /// An exponential pause, so that events come as they do in life: in clumps.
    fn pause(&mut self, mean_ms: f64) -> Duration {
        let uniform: f64 = self.rng.random_range(f64::MIN_POSITIVE..1.0);
        Duration::from_secs_f64((-uniform.ln() * mean_ms / 1_000.0).min(3_600.0))
    }
}

impl Iterator for Simulator {
    type Item = Simulated;

    fn next(&mut self) -> Option<Simulated> {
        if let Some(time) = self.next_attack.filter(|time| *time <= self.next_benign)
            && let Some(every) = self.plan.attack_every
        {
            self.attacks.begin(time, &self.people, &mut self.rng);
            let jitter = self.rng.random_range(0.7..1.3);
            self.next_attack = Some(time + every.mul_f64(jitter));
        }
        let mut simulated = match self.attacks.due(self.next_benign, &mut self.people, &mut self.rng) {
            Some(simulated) => simulated,
            None => {
                let time = self.next_benign;
                self.next_benign = time + self.pause(1_000.0 / self.plan.rate);
                self.benign(time)
            }
        };
        simulated.event.id = id_since(simulated.event.id, self.plan.start);
        Some(simulated)
    }
}

/// The id of an event of traffic that began at `start`. The same people at another time do other things: a demo that is
/// started again must not look like one that sends everything twice.
fn id_since(id: Uuid, start: UnixMs) -> Uuid {
    // The last 48 bits of a UUID say neither version nor variant.
    let start = start.get().unsigned_abs() & ((1 << 48) - 1);
    Uuid::from_u128(id.as_u128() ^ u128::from(start))
}

/// An id that the seed decides: the same traffic has the same events.
fn seeded_id(rng: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

/// 43 characters of base64url that look like a ref, decided by the seed.
fn seeded_ref(rng: &mut StdRng) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rng.random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::detect::JUDGES;

    fn plan(seed: u64) -> Plan {
        Plan {
            seed,
            start: "2026-11-23T08:00:00Z".parse().unwrap(),
            rate: 20.0,
            tenants: 2,
            people: 50,
            attack_every: Some(Duration::from_secs(20)),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_events_in_order() {
        let events = |seed| -> Vec<String> {
            Simulator::new(plan(seed))
                .take(2_000)
                .map(|simulated| serde_json::to_string(&simulated.event).unwrap())
                .collect()
        };
        assert_eq!(events(7), events(7));
        assert_ne!(events(7), events(8));
        let later = Plan { start: plan(7).start + Duration::from_secs(60), ..plan(7) };
        let ids = |plan| Simulator::new(plan).take(100).map(|simulated| simulated.event.id).collect();
        let (then, now): (Vec<_>, Vec<_>) = (ids(plan(7)), ids(later));
        assert!(then.iter().zip(&now).all(|(then, now)| then != now));
        let times: Vec<_> =
            Simulator::new(plan(7)).take(2_000).map(|simulated| simulated.event.time).collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn every_kind_of_attack_comes_and_is_labelled() {
        let labels: Vec<_> =
            Simulator::new(plan(7)).take(40_000).flat_map(|simulated| simulated.labels).collect();
        for rule in &RuleId::ALL[..JUDGES] {
            assert!(labels.iter().any(|label| label.rule == *rule), "no {rule}");
        }
    }
}
