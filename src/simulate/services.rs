//! Callers that are no people: fleets of pods on one client token, and relays that pass users' tokens on inside.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use rand::RngExt;
use rand::rngs::StdRng;

use super::people::{accepted, issuer};
use super::seeded_ref;
use super::world::World;
use crate::model::{ClaimedToken, Event, Request, SubjectKind, UnixMs, Zone};

/// One service of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Service {
    tenant: String,
    role: Role,
    token: Option<(String, UnixMs)>,
}

#[derive(Clone, Debug)]
enum Role {
    /// Many pods in clouds on two continents share one client token: normal.
    Fleet { addresses: Vec<IpAddr> },
    /// An internal gateway sees a user's token from a service's private address.
    Relay { sub: String },
}

/// Pods of a fleet.
const PODS: u32 = 40;

const TOKEN_MS: i64 = 30 * 60_000;

impl Service {
    pub(super) fn of_tenant(tenant: &str, world: &World) -> Vec<Self> {
        let of = |role| Self { tenant: tenant.to_owned(), role, token: None };
        let addresses = (0..PODS).map(|pod| world.hosting_address(pod)).collect();
        vec![of(Role::Fleet { addresses }), of(Role::Relay { sub: "user-0000".to_owned() })]
    }

    /// One request at `time`.
    pub(super) fn use_at(&mut self, time: UnixMs, rng: &mut StdRng) -> Event<'static> {
        let (token_ref, issued) = match self.token.take() {
            Some(live) if time.since_ms(live.1) < TOKEN_MS => live,
            _ => (seeded_ref(rng), time),
        };
        self.token = Some((token_ref.clone(), issued));
        let (zone, gateway, sub, kind, ip) = match &self.role {
            Role::Fleet { addresses } => {
                let pod = addresses[rng.random_range(0..addresses.len())];
                (Zone::Edge, "edge-1", "reporting", SubjectKind::Client, pod)
            }
            Role::Relay { sub } => {
                let service = Ipv4Addr::new(10, 0, 7, rng.random_range(1..250));
                (Zone::Internal, "mesh-1", sub.as_str(), SubjectKind::User, IpAddr::V4(service))
            }
        };
        let client_id = if kind == SubjectKind::Client { sub } else { "web" };
        Event {
            token: Some(ClaimedToken {
                token_ref: Some(token_ref.into()),
                iss: Some(issuer(&self.tenant).into()),
                sub: Some(sub.to_owned().into()),
                subject_kind: Some(kind),
                tenant_id: Some(self.tenant.clone().into()),
                aud: vec![Cow::Borrowed("https://api.example")],
                client_id: Some(client_id.to_owned().into()),
                iat: Some(issued.get() / 1_000),
                exp: Some((issued.get() + TOKEN_MS) / 1_000),
                alg: Some(Cow::Borrowed("ES256")),
                ..ClaimedToken::default()
            }),
            request: Some(Request {
                ip: Some(ip),
                user_agent: Some(Cow::Borrowed("Go-http-client/2.0")),
                method: Some(Cow::Borrowed("GET")),
                host: Some(Cow::Borrowed("api.example")),
                route: Some(Cow::Borrowed("/reports")),
                status: Some(200),
                ..Request::default()
            }),
            ..accepted(&self.tenant, gateway, zone, time, rng)
        }
    }
}
