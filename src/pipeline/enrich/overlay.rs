//! The operator's overlay: CIDR → place, kind, label. It wins over every file.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::address::parse_cidr;
use super::atlas::AtlasError;
use super::ranges::{RangeMap, RangeMapBuilder};
use super::{place, radius};
use crate::model::{NetworkKind, Place};

/// The overlay's entries. An address has the entry of its longest CIDR, whole: shorter ones add nothing to it.
pub(super) struct Overlay {
    ranges: RangeMap,
    entries: Vec<Entry>,
}

/// What the operator says of a CIDR; what he leaves empty is left to the files.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) place: Option<Arc<Place>>,
    pub(super) kind: Option<NetworkKind>,
    /// Names the origin.
    pub(super) label: Option<Arc<str>>,
    pub(super) asn: Option<u32>,
    pub(super) as_org: Option<Arc<str>>,
}

/// One line of the file, by its header's names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    cidr: String,
    #[serde(default)]
    country: String,
    #[serde(default)]
    subdivision: String,
    #[serde(default)]
    city: String,
    #[serde(default)]
    lat: Option<f64>,
    #[serde(default)]
    lon: Option<f64>,
    /// 20 km if empty; it counts as the place's own.
    #[serde(default)]
    radius_km: Option<f64>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    asn: Option<u32>,
    #[serde(default)]
    organisation: String,
}

impl Overlay {
    /// Reads a CSV file with a header line; of its columns only `cidr` must be there.
    pub(super) fn parse(path: &Path, csv: &[u8]) -> Result<Self, AtlasError> {
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(csv);
        let (mut builder, mut entries) = (RangeMapBuilder::default(), Vec::new());
        let mut labels: HashMap<String, Arc<str>> = HashMap::new();
        for line in reader.deserialize::<Line>() {
            let line = line.map_err(|error| AtlasError::csv(path, &error))?;
            let mut intern = |text: String| {
                (!text.is_empty())
                    .then(|| labels.entry(text).or_insert_with_key(|text| text.as_str().into()).clone())
            };
            let label = intern(line.label.clone());
            let as_org = intern(line.organisation.clone());
            let cidr_text = line.cidr.clone();
            let fault =
                |fault| AtlasError::Network { path: path.to_owned(), network: cidr_text.clone(), fault };
            let cidr = parse_cidr(&cidr_text).ok_or_else(|| fault("it is no CIDR and no address"))?;
            let entry = line.entry(label, as_org).map_err(fault)?;
            builder.insert_cidr(cidr, entries.len());
            entries.push(entry);
        }
        Ok(Self { ranges: builder.build(), entries })
    }

    pub(super) fn get(&self, ip: IpAddr) -> Option<&Entry> {
        self.ranges.get(ip).map(|index| &self.entries[index])
    }
}

impl Line {
    fn entry(self, label: Option<Arc<str>>, as_org: Option<Arc<str>>) -> Result<Entry, &'static str> {
        let country_code =
            self.country.len() == 2 && self.country.bytes().all(|byte| byte.is_ascii_uppercase());
        if !self.country.is_empty() && !country_code {
            return Err("`country` is an ISO 3166-1 code of two capital letters");
        }
        let place = match (self.lat, self.lon) {
            (Some(lat), Some(lon)) if place::on_earth((lat, lon)) => {
                let radius_km = self.radius_km.unwrap_or(0.0);
                if !(0.0..=20_000.0).contains(&radius_km) {
                    return Err("`radius_km` lies between 0 and 20000");
                }
                let own_km = radius::own_km(radius_km);
                Some(place::new(&self.country, &self.subdivision, &self.city, (lat, lon), own_km, true))
            }
            (Some(_), Some(_)) => return Err("`lat` lies between -90 and 90, `lon` between -180 and 180"),
            (None, None) if self.country.is_empty() && self.city.is_empty() => None,
            // A cdn has no place: its country is for whoever reads the file.
            (None, None) if self.kind == NetworkKind::Cdn.as_str() => None,
            _ => return Err("a place needs both `lat` and `lon`"),
        };
        let kind = match self.kind.as_str() {
            "" => None,
            word => match NetworkKind::parse(word) {
                None | Some(NetworkKind::Private) => {
                    return Err(
                        "`kind` is one of access, mobile, satellite, company, hosting, vpn, relay, tor, cdn",
                    );
                }
                kind => kind,
            },
        };
        Ok(Entry { place, kind, label, asn: self.asn, as_org })
    }
}
