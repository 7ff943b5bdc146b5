//! People: where they are at any time, on which network and device, and with which token.

use std::borrow::Cow;
use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::world::{City, Line, World};
use super::{seeded_id, seeded_ref};
use crate::model::{
    ClaimedToken, Event, GatewayVerdict, Kind, NetworkKind, Request, Source, SubjectKind, UnixMs, Zone,
};

/// How somebody uses the net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Home, office, and the mobile network on the way.
    Commuter,
    /// Between Wi-Fi and the mobile network every few minutes.
    Hopper,
    /// Through a VPN's exit in another country for an hour or two a day.
    VpnUser,
    /// IPv4 and IPv6 in turn, from one device.
    DualStack,
    /// All traffic leaves through the company's egress, in whatever city the person is.
    Employee,
    /// The geo file places the provider's addresses far apart.
    Misplaced,
    /// A flight to another city in some weeks, and back.
    Traveller,
    /// Behind the app's own backend: the edge sees the backend's address.
    AppUser,
}

/// Each habit and its share of people, in hundredths.
const HABITS: [(Habit, u32); 8] = [
    (Habit::Commuter, 40),
    (Habit::Hopper, 14),
    (Habit::VpnUser, 8),
    (Habit::DualStack, 12),
    (Habit::Employee, 10),
    (Habit::Misplaced, 4),
    (Habit::Traveller, 6),
    (Habit::AppUser, 6),
];

const USER_AGENTS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
];

const ROUTES: [(&str, &str); 5] = [
    ("GET", "/orders"),
    ("GET", "/orders/{id}"),
    ("POST", "/orders"),
    ("GET", "/profile"),
    ("GET", "/search"),
];

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A token in somebody's hands.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) sid: String,
    pub(super) token_ref: String,
    issued: UnixMs,
    pub(super) expires: UnixMs,
    began: UnixMs,
}

/// One user of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) tenant: String,
    pub(super) sub: String,
    habit: Habit,
    home: City,
    /// Where a VPN exit, a misplaced address or a journey is.
    elsewhere: City,
    /// Which address of each network is this person's.
    slot: u32,
    user_agent: &'static str,
    seed: u64,
    session: Option<Session>,
}

impl Person {
    pub(super) fn new(tenant: &str, number: usize, world: &World, rng: &mut StdRng) -> Self {
        let mut share = rng.random_range(0..100);
        let habit = HABITS.iter().find(|(_, of)| {
            let found = share < *of;
            share = share.saturating_sub(*of);
            found
        });
        let home = world.any_city(rng);
        Self {
            tenant: tenant.to_owned(),
            sub: format!("user-{number:04}"),
            habit: habit.map_or(Habit::Commuter, |(habit, _)| *habit),
            elsewhere: world.city_far_from(&home, rng),
            home,
            slot: rng.next_u32(),
            user_agent: USER_AGENTS[rng.random_range(0..USER_AGENTS.len())],
            seed: rng.next_u64(),
            session: None,
        }
    }

    /// Whether it is daytime where the person lives, and the person is not on a plane.
    pub(super) fn is_active(&self, time: UnixMs) -> bool {
        (7..23).contains(&self.local_hour(time)) && !self.is_flying(time)
    }

    fn local_hour(&self, time: UnixMs) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "longitudes are within 180 degrees")]
        let ahead_ms = (self.home.lon / 15.0 * HOUR_MS as f64) as i64;
        (time.get() + ahead_ms).rem_euclid(DAY_MS) / HOUR_MS
    }

    /// Where the person's requests come from: decided by the time and the person's own seed alone.
    fn address_at(&self, time: UnixMs) -> IpAddr {
        let (hour, minutes) = (self.local_hour(time), time.get() / 60_000);
        let home = self.home.address(Line::Fixed(NetworkKind::Access), self.slot);
        let office = self.home.address(Line::Fixed(NetworkKind::Access), self.slot.wrapping_add(7));
        let mobile = self.home.address(Line::Fixed(NetworkKind::Mobile), self.slot);
        match self.habit {
            Habit::Commuter if matches!(hour, 8 | 17) => mobile,
            Habit::Commuter if (9..17).contains(&hour) => office,
            Habit::Hopper if (minutes / 7) % 2 == 0 => mobile,
            // The hour in which the VPN is on moves from day to day.
            Habit::VpnUser if (hour + self.slot as i64 % 24 + time.get() / DAY_MS) % 24 < 2 => {
                self.elsewhere.address(Line::Fixed(NetworkKind::Vpn), self.slot)
            }
            Habit::DualStack if minutes % 2 == 0 => self.home.address(Line::V6, self.slot),
            Habit::Employee if (9..17).contains(&hour) => World::egress_address(self.slot),
            Habit::Misplaced if (minutes / 30) % 2 == 0 => self.home.address(Line::Misplaced, self.slot),
            Habit::Traveller if self.is_abroad(time) => {
                self.elsewhere.address(Line::Fixed(NetworkKind::Access), self.slot)
            }
            Habit::AppUser => World::backend_address(self.slot),
            _ => home,
        }
    }

    /// A journey of two days in one week of three. Nobody sends anything on the way: see [`Person::is_flying`].
    fn is_abroad(&self, time: UnixMs) -> bool {
        let hours = self.hours_into_journey(time);
        hours.is_some_and(|hours| (FLIGHT_HOURS..48).contains(&hours))
    }

    fn is_flying(&self, time: UnixMs) -> bool {
        let hours = self.hours_into_journey(time);
        hours.is_some_and(|hours| {
            (0..FLIGHT_HOURS).contains(&hours) || (48..48 + FLIGHT_HOURS).contains(&hours)
        })
    }

    /// Hours since the departure of the journey that this week holds, if it holds one.
    fn hours_into_journey(&self, time: UnixMs) -> Option<i64> {
        if self.habit != Habit::Traveller {
            return None;
        }
        let week = time.get().div_euclid(7 * DAY_MS);
        let mut rng = StdRng::seed_from_u64(self.seed ^ week.unsigned_abs());
        if !rng.random_ratio(1, 3) {
            return None;
        }
        let departure = week * 7 * DAY_MS + rng.random_range(24..72) * HOUR_MS;
        Some((time.get() - departure).div_euclid(HOUR_MS)).filter(|hours| (0..96).contains(hours))
    }

    /// One request at `time`, with a fresh token if the old one has expired.
    pub(super) fn use_at(&mut self, time: UnixMs, rng: &mut StdRng) -> Event<'static> {
        let ip = self.address_at(time);
        self.renew(time, rng);
        self.event(time, ip, self.user_agent, rng)
    }

    /// The person's present token, as a thief would hold it.
    pub(super) fn renew(&mut self, time: UnixMs, rng: &mut StdRng) -> Session {
        let session = match self.session.take() {
            Some(live) if time < live.expires => live,
            last => {
                // A refresh keeps the session for a working day; then one logs in again.
                let kept = last.filter(|session| time.since_ms(session.began) < 8 * HOUR_MS);
                Session {
                    token_ref: seeded_ref(rng),
                    issued: time,
                    expires: UnixMs::new(time.get() + 30 * 60_000),
                    began: kept.as_ref().map_or(time, |session| session.began),
                    sid: kept.map_or_else(|| seeded_ref(rng), |session| session.sid),
                }
            }
        };
        self.session = Some(session.clone());
        session
    }

    pub(super) const fn user_agent(&self) -> &'static str {
        self.user_agent
    }

    /// A user agent of another family than the person's own.
    pub(super) fn other_user_agent(&self) -> &'static str {
        if self.user_agent.contains("Firefox/") && self.user_agent.contains("Linux") {
            USER_AGENTS[0]
        } else {
            USER_AGENTS[2]
        }
    }

    /// Whether this person's own habits leave an attack on them unmistakable.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.habit, Habit::Commuter)
    }

    pub(super) const fn home(&self) -> &City {
        &self.home
    }

    /// The address that the person has at home.
    pub(super) fn home_address(&self) -> IpAddr {
        self.home.address(Line::Fixed(NetworkKind::Access), self.slot)
    }

    /// A request with the person's token from any address and device.
    pub(super) fn event(
        &self,
        time: UnixMs,
        ip: IpAddr,
        user_agent: &str,
        rng: &mut StdRng,
    ) -> Event<'static> {
        let (method, route) = ROUTES[rng.random_range(0..ROUTES.len())];
        let token = self.session.as_ref().map(|session| ClaimedToken {
            token_ref: Some(session.token_ref.clone().into()),
            iss: Some(issuer(&self.tenant).into()),
            sub: Some(self.sub.clone().into()),
            subject_kind: Some(SubjectKind::User),
            tenant_id: Some(self.tenant.clone().into()),
            aud: vec![Cow::Borrowed("https://api.example")],
            client_id: Some(Cow::Borrowed(if self.habit == Habit::AppUser { "app" } else { "web" })),
            scope: vec![Cow::Borrowed("orders:read")],
            iat: Some(session.issued.get() / 1_000),
            exp: Some(session.expires.get() / 1_000),
            alg: Some(Cow::Borrowed("ES256")),
            typ: Some(Cow::Borrowed("at+jwt")),
            sid: Some(session.sid.clone().into()),
            ..ClaimedToken::default()
        });
        Event {
            token,
            request: Some(Request {
                ip: Some(ip),
                user_agent: Some(user_agent.to_owned().into()),
                method: Some(Cow::Borrowed(method)),
                host: Some(Cow::Borrowed("api.example")),
                route: Some(Cow::Borrowed(route)),
                status: Some(200),
                duration_ms: Some(rng.random_range(1..40)),
                response_bytes: Some(rng.random_range(200..20_000)),
                ..Request::default()
            }),
            ..accepted(&self.tenant, "edge-1", Zone::Edge, time, rng)
        }
    }
}

/// Longer than any flight here takes at 900 km/h.
const FLIGHT_HOURS: i64 = 23;

/// The issuer that a tenant's name stands in.
pub(super) fn issuer(tenant: &str) -> String {
    format!("https://id.example/t/{tenant}")
}

/// An accepted use without token and request.
pub(super) fn accepted(
    tenant: &str,
    gateway: &str,
    zone: Zone,
    time: UnixMs,
    rng: &mut StdRng,
) -> Event<'static> {
    Event {
        version: 1,
        id: seeded_id(rng),
        kind: Kind::Accepted,
        time,
        claimed_time: None,
        tenant: tenant.to_owned().into(),
        source: Source {
            gateway: gateway.to_owned().into(),
            zone,
            region: Some(Cow::Borrowed("eu-central")),
            epoch: None,
            seq: None,
        },
        token: None,
        request: None,
        gateway_verdict: Some(GatewayVerdict::Valid),
        grant: None,
        login: None,
        retry: false,
        heartbeat: None,
        ledger_mark: None,
        extra: None,
    }
}
