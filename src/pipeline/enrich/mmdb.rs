//! City and country files (MMDB), of two layouts: flat (`country_code`, `city`, `latitude` …, as DB-IP's is packed for
//! npm) and nested (`country.iso_code`, `city.names.en`, `location.latitude` …: GeoLite2, GeoIP2, DB-IP's own).
//!
//! Read into memory, never mapped: a mapped file that somebody truncates kills the process.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use maxminddb::{Reader, WithinOptions, geoip2};
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use super::atlas::AtlasError;
use super::{place, radius};
use crate::model::Place;

/// From this length on an IPv4 record is narrow (DETECTION, "Places, as measured").
const NARROW_V4: u8 = 20;

/// A /44 holds as many customers' /56 as a /20 holds addresses.
const NARROW_V6: u8 = 44;

/// Files that together cover IPv4 and IPv6.
pub(super) struct Databases(Vec<Database>);

struct Database {
    reader: Reader<Vec<u8>>,
    layout: Layout,
}

#[derive(Clone, Copy)]
enum Layout {
    Flat,
    Nested,
}

/// Names one entry of one of the files, and how it is read: equal keys decode to equal places.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EntryKey {
    database: u8,
    offset: usize,
    narrow: bool,
}

/// A flat entry.
#[derive(Deserialize)]
struct FlatCity<'a> {
    #[serde(default)]
    country_code: &'a str,
    #[serde(default)]
    state1: &'a str,
    #[serde(default)]
    city: &'a str,
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

/// A coordinate, in whichever of MMDB's two widths the file has it.
struct Degrees(f64);

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyWidth;
        impl Visitor<'_> for AnyWidth {
            type Value = Degrees;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("degrees as a float or a double")
            }
            fn visit_f32<E>(self, degrees: f32) -> Result<Degrees, E> {
                // A float is good for five decimals, a metre; what widening adds to them is noise.
                Ok(Degrees((f64::from(degrees) * 1e5).round() / 1e5))
            }
            fn visit_f64<E>(self, degrees: f64) -> Result<Degrees, E> {
                Ok(Degrees(degrees))
            }
        }
        deserializer.deserialize_any(AnyWidth)
    }
}

impl Databases {
    /// `files` are paths with contents; the first one that knows an address answers for it.
    pub(super) fn open(files: Vec<(&Path, Vec<u8>)>) -> Result<Self, AtlasError> {
        files.into_iter().map(|(path, bytes)| Database::open(path, bytes)).collect::<Result<_, _>>().map(Self)
    }

    /// When the newest of the files was built, in seconds since the epoch.
    pub(super) fn built_s(&self) -> Option<u64> {
        self.0.iter().map(|database| database.reader.metadata().build_epoch).max()
    }

    /// The entry around `ip`. A file that turns out to be broken there knows nothing of it.
    pub(super) fn entry(&self, ip: IpAddr) -> Option<EntryKey> {
        self.0.iter().zip(0..).find_map(|(database, number)| {
            let found = database.lookup(ip)?;
            let offset = found.offset()?;
            let network = found.network().ok()?;
            let narrow = network.prefix() >= if network.is_ipv4() { NARROW_V4 } else { NARROW_V6 };
            Some(EntryKey { database: number, offset, narrow })
        })
    }

    /// The place of `ip`, whose entry `key` is. `None` if the entry names no point or no country.
    pub(super) fn place(&self, ip: IpAddr, key: EntryKey) -> Option<Arc<Place>> {
        let database = &self.0[usize::from(key.database)];
        let found = database.lookup(ip)?;
        match database.layout {
            Layout::Flat => {
                let entry: FlatCity<'_> = found.decode().ok()??;
                let point = (entry.latitude?.0, entry.longitude?.0);
                make_place(entry.country_code, entry.state1, entry.city, point, None, key.narrow)
            }
            Layout::Nested => {
                let entry: geoip2::City<'_> = found.decode().ok()??;
                let point = (entry.location.latitude?, entry.location.longitude?);
                let subdivision = entry.subdivisions.first().and_then(|it| it.names.english.or(it.iso_code));
                make_place(
                    entry.country.iso_code.unwrap_or(""),
                    subdivision.unwrap_or(""),
                    entry.city.names.english.unwrap_or(""),
                    point,
                    entry.location.accuracy_radius.map(f64::from),
                    key.narrow,
                )
            }
        }
    }

    /// Whether the files put `ip` into `country`; `None` if they do not know it.
    pub(super) fn confirms(&self, ip: IpAddr, country: &str) -> Option<bool> {
        let code = self.0.iter().find_map(|database| {
            let found = database.lookup(ip)?;
            match database.layout {
                Layout::Flat => found.decode::<FlatCountry<'_>>().ok()?.map(|entry| entry.country_code),
                Layout::Nested => found.decode_path::<&str>(&maxminddb::path!["country", "iso_code"]).ok()?,
            }
        })?;
        Some(code == country)
    }
}

/// A flat entry of a country file.
#[derive(Deserialize)]
struct FlatCountry<'a> {
    country_code: &'a str,
}

impl Database {
    fn open(path: &Path, bytes: Vec<u8>) -> Result<Self, AtlasError> {
        let fail = |cause| AtlasError::Mmdb { path: path.to_owned(), cause };
        let reader = Reader::from_source(bytes).map_err(fail)?;
        let mut networks = reader.networks(WithinOptions::default()).map_err(fail)?;
        let first = networks.next().transpose().map_err(fail)?;
        let members = match &first {
            Some(first) => first.decode::<HashMap<&str, IgnoredAny>>().map_err(fail)?.unwrap_or_default(),
            None => HashMap::new(),
        };
        let nested = ["country", "location", "city", "continent", "registered_country"];
        let layout = if members.contains_key("country_code") {
            Layout::Flat
        } else if nested.iter().any(|member| members.contains_key(member)) {
            Layout::Nested
        } else {
            return Err(AtlasError::Layout {
                path: path.to_owned(),
                database_type: reader.metadata().database_type.clone(),
            });
        };
        // A sample: a file whose fields have other types must not be taken and then know nothing.
        if let Some(first) = &first {
            match layout {
                Layout::Flat => first.decode::<FlatCity<'_>>().map(|_| ()),
                Layout::Nested => first.decode::<geoip2::City<'_>>().map(|_| ()),
            }
            .map_err(fail)?;
        }
        drop(networks);
        Ok(Self { reader, layout })
    }

    /// `None` too where the file holds no addresses of `ip`'s family.
    fn lookup(&self, ip: IpAddr) -> Option<maxminddb::LookupResult<'_, Vec<u8>>> {
        if ip.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return None;
        }
        self.reader.lookup(ip).ok().filter(maxminddb::LookupResult::has_data)
    }
}

/// `None` without a country or without a point on the earth: what is nowhere can be no journey's end.
fn make_place(
    country: &str,
    subdivision: &str,
    city: &str,
    point: (f64, f64),
    own_radius_km: Option<f64>,
    narrow: bool,
) -> Option<Arc<Place>> {
    let known = country.len() == 2 && country != "ZZ" && place::on_earth(point);
    let accuracy_km = own_radius_km.map_or_else(|| radius::guessed_km(country, narrow), radius::own_km);
    known.then(|| place::new(country, subdivision, city, point, accuracy_km, own_radius_km.is_some()))
}
