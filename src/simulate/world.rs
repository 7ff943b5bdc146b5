//! The world of the demo: cities and their networks, read from the overlay that also places them for `enrich`, so that
//! the two cannot disagree. All addresses are documentation addresses (RFC 5737, RFC 3849).

use std::net::IpAddr;

use ipnet::IpNet;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::config::{Backend, ClientBackends, Egress};
use crate::model::{NetworkKind, TenantId};

/// The overlay file's text: `[geo] overlay` of the demo, and what `--overlay demo` means.
pub(crate) const DEMO_OVERLAY: &str = include_str!("../../schemas/overlay-demo.csv");

/// The company's egress and the app's backends, as the overlay has them.
const EGRESS: &str = "2001:db8:ff06::/48";
const BACKENDS: &str = "2001:db8:ff04::/48";

/// Tenants of the simulation.
const TENANTS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];

pub(super) fn tenant_name(number: usize) -> String {
    TENANTS.get(number).map_or_else(|| format!("tenant-{number:03}"), |name| (*name).to_owned())
}

/// What kind of line somebody is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The city's network of that kind; IPv4 where it has some.
    Fixed(NetworkKind),
    /// The access network over IPv6.
    V6,
    /// An address of the city's access network that the geo file places in another city of the country.
    Misplaced,
}

/// A city and the networks in it.
#[derive(Clone, Debug)]
pub(super) struct City {
    pub(super) lat: f64,
    pub(super) lon: f64,
    name: String,
    /// AS numbers of the city's networks.
    providers: Vec<u32>,
    networks: Vec<(Line, IpNet)>,
}

/// The columns of the overlay that matter here.
#[derive(serde::Deserialize)]
struct Row {
    cidr: IpNet,
    city: String,
    lat: Option<f64>,
    lon: Option<f64>,
    kind: NetworkKind,
    asn: u32,
}

impl City {
    fn add(&mut self, row: &Row) {
        let line = match (row.kind, row.cidr) {
            (NetworkKind::Access, IpNet::V6(_)) => Line::V6,
            (kind, _) => Line::Fixed(kind),
        };
        self.providers.push(row.asn);
        self.networks.push((line, row.cidr));
    }

    /// The `slot`-th address of the line's network. A city without IPv4 access has only IPv6; one without misplaced
    /// addresses has all of them in place.
    pub(super) fn address(&self, line: Line, slot: u32) -> IpAddr {
        let fallbacks = [line, Line::V6, Line::Fixed(NetworkKind::Access)];
        let found = fallbacks.iter().find_map(|line| self.networks.iter().find(|(has, _)| has == line));
        nth_address(found.map_or_else(|| net(EGRESS), |(_, net)| *net), slot)
    }

    fn distance_km(&self, other: &Self) -> f64 {
        let (lat, other_lat) = (self.lat.to_radians(), other.lat.to_radians());
        let across = ((other_lat - lat) / 2.0).sin().powi(2)
            + lat.cos() * other_lat.cos() * ((other.lon - self.lon).to_radians() / 2.0).sin().powi(2);
        2.0 * 6_371.0 * across.sqrt().asin()
    }
}

/// The `slot`-th host of a network, never its first address.
fn nth_address(net: IpNet, slot: u32) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let hosts = u32::MAX >> net.prefix_len();
            IpAddr::from((u32::from(net.network()) + 1 + slot % hosts.saturating_sub(1).max(1)).to_be_bytes())
        }
        // Each subscriber has a /64 of their own.
        IpNet::V6(net) => {
            let subscriber = u128::from(slot % 0xffff) << 64;
            IpAddr::from((u128::from(net.network()) | subscriber | 0x17).to_be_bytes())
        }
    }
}

#[expect(clippy::expect_used, reason = "two constants of this file, parsed in its tests")]
fn net(cidr: &str) -> IpNet {
    cidr.parse().expect("a constant CIDR")
}

/// All cities.
#[derive(Clone, Debug)]
pub(crate) struct World {
    cities: Vec<City>,
}

/// Farther than any flight of two hours.
const FAR_KM: f64 = 5_000.0;

impl World {
    /// The overlay's world.
    pub(crate) fn demo() -> Self {
        let mut cities: Vec<City> = Vec::new();
        let mut rows = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(DEMO_OVERLAY.as_bytes());
        for row in rows.deserialize::<Row>().flatten() {
            // Networks of no city, and those that stand for one company, belong to nobody's home.
            let (Some(lat), Some(lon)) = (row.lat, row.lon) else { continue };
            if [EGRESS, BACKENDS].contains(&row.cidr.to_string().as_str()) {
                continue;
            }
            // The overlay lists a provider's own city before the places where its addresses are misplaced.
            if let Some(city) = cities.iter_mut().find(|city| city.name == row.city) {
                city.add(&row);
            } else if let Some(city) = cities.iter_mut().find(|city| city.providers.contains(&row.asn)) {
                city.networks.push((Line::Misplaced, row.cidr));
            } else {
                let mut city =
                    City { lat, lon, name: row.city.clone(), providers: Vec::new(), networks: Vec::new() };
                city.add(&row);
                cities.push(city);
            }
        }
        Self { cities }
    }

    pub(super) fn any_city(&self, rng: &mut StdRng) -> City {
        self.cities[rng.random_range(0..self.cities.len())].clone()
    }

    pub(super) fn nth_city(&self, number: usize) -> &City {
        &self.cities[number % self.cities.len()]
    }

    /// Some city that nobody reaches within a few hours from `home`.
    pub(super) fn city_far_from(&self, home: &City, rng: &mut StdRng) -> City {
        let far: Vec<&City> = self.cities.iter().filter(|city| city.distance_km(home) > FAR_KM).collect();
        far.get(rng.random_range(0..far.len().max(1))).map_or_else(|| home.clone(), |city| (*city).clone())
    }

    /// An address of some city's cloud.
    pub(super) fn hosting_address(&self, number: u32) -> IpAddr {
        self.nth_city(number as usize).address(Line::Fixed(NetworkKind::Hosting), number)
    }

    pub(super) fn egress_address(slot: u32) -> IpAddr {
        nth_address(net(EGRESS), slot % 4)
    }

    pub(super) fn backend_address(slot: u32) -> IpAddr {
        nth_address(net(BACKENDS), slot % 16)
    }
}

/// The declarations that make the demo's server-side callers known: without them they would alert.
pub(crate) fn demo_clients(tenants: usize) -> Vec<ClientBackends> {
    let backends = |tenant| ClientBackends {
        id: "app".to_owned(),
        tenant,
        backends: vec![Backend::Cidr(net(BACKENDS))],
    };
    demo_tenants(tenants).map(backends).collect()
}

/// The company's egress, declared for every tenant of the demo.
pub(crate) fn demo_egress(tenants: usize) -> Vec<Egress> {
    let egress = |tenant| Egress { tenant, label: "company".to_owned(), cidrs: vec![net(EGRESS)] };
    demo_tenants(tenants).map(egress).collect()
}

fn demo_tenants(tenants: usize) -> impl Iterator<Item = TenantId> {
    (0..tenants).filter_map(|number| tenant_name(number).parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlay_gives_twelve_cities_with_all_networks() {
        let world = World::demo();
        assert_eq!(world.cities.len(), 12);
        for city in &world.cities {
            for kind in [NetworkKind::Mobile, NetworkKind::Hosting, NetworkKind::Vpn] {
                assert!(
                    city.networks.iter().any(|(line, _)| *line == Line::Fixed(kind)),
                    "{} {kind}",
                    city.name
                );
            }
        }
        let paris = world.nth_city(0);
        assert_eq!(paris.address(Line::Fixed(NetworkKind::Access), 5).to_string(), "203.0.113.6");
        assert_eq!(paris.address(Line::V6, 5).to_string(), "2001:db8:1:5::17");
        assert_eq!(paris.address(Line::Misplaced, 5).to_string(), "2001:db8:8:5::17");
        assert!((paris.distance_km(world.nth_city(1)) - 9_712.0).abs() < 10.0);
    }
}
