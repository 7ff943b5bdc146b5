//! Any bytes as a geo file: refused with a reason, or answered from without a panic.

use std::net::IpAddr;
use std::path::Path;

use super::asn::SystemsBuilder;
use super::mmdb::Databases;
use super::networks::Networks;
use super::overlay::Overlay;
use super::place;
use crate::fuzz::parts;

/// The edges of both families, and two addresses (of root name servers) that the corpus's databases know.
fn addresses() -> impl Iterator<Item = IpAddr> {
    ["198.41.0.4", "2001:500:2f::f", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::", "::ffff:198.51.100.7"]
        .into_iter()
        .filter_map(|text| text.parse().ok())
}

/// A city, country or ASN database.
pub(crate) fn mmdb(data: &[u8]) {
    let path = Path::new("fuzz.mmdb");
    if let Ok(databases) = Databases::open(vec![(path, data.to_vec())]) {
        for ip in addresses() {
            databases.confirms(ip, "DE");
            if let Some(key) = databases.entry(ip)
                && let Some(place) = databases.place(ip, key)
            {
                assert!(place::on_earth((place.lat, place.lon)));
                assert!(place.accuracy_km.is_finite() && place.accuracy_km >= 0.0);
            }
        }
    }
    // Walking a tree that a few bytes describe may take long: small files alone.
    if data.len() <= 4_096 {
        let _ = SystemsBuilder::default().read_mmdb(path, data);
    }
}

/// The operator's files: networks, then an overlay, then ranges of autonomous systems.
pub(crate) fn csv(data: &[u8]) {
    let path = Path::new("fuzz.csv");
    let mut parts = parts(data);
    let mut next = || parts.next().unwrap_or_default();
    let networks = Networks::parse(path, next());
    let overlay = Overlay::parse(path, next());
    let mut systems = SystemsBuilder::default();
    let read = systems.read_csv(path, next());
    for ip in addresses() {
        if let Ok(networks) = &networks {
            networks.by_address(ip);
        }
        if let Ok(overlay) = &overlay {
            overlay.get(ip);
        }
    }
    if let (Ok(networks), Ok(())) = (&networks, read) {
        let systems = systems.build(None, networks);
        for ip in addresses() {
            systems.get(ip);
        }
    }
}
