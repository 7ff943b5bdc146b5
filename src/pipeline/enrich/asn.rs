//! Autonomous systems: CSV ranges with the organisation's name, or an MMDB of GeoLite2 ASN's layout.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use maxminddb::{Reader, geoip2};

use super::atlas::AtlasError;
use super::networks::Networks;
use super::ranges::{RangeMap, RangeMapBuilder};
use crate::model::NetworkKind;

/// Every routed range with its autonomous system.
pub(super) struct Systems {
    ranges: RangeMap,
    systems: Vec<System>,
}

/// One autonomous system, with what the network files say of it: decided here, once, and not for every event.
pub(super) struct System {
    pub(super) asn: u32,
    pub(super) as_org: Arc<str>,
    /// By the operator's file.
    pub(super) operators_kind: Option<NetworkKind>,
    /// By the shipped lines.
    pub(super) shipped_kind: Option<NetworkKind>,
}

/// Systems as they are read.
#[derive(Default)]
pub(super) struct SystemsBuilder {
    ranges: RangeMapBuilder,
    systems: Vec<(u32, Arc<str>)>,
    index: HashMap<(u32, Arc<str>), usize>,
}

impl SystemsBuilder {
    /// Reads CSV lines `first,last,asn,organisation` without a header.
    pub(super) fn read_csv(&mut self, path: &Path, csv: &[u8]) -> Result<(), AtlasError> {
        // A line that was cut in the middle of a name looks whole otherwise.
        if csv.last() != Some(&b'\n') {
            return Err(AtlasError::Truncated { path: path.to_owned() });
        }
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv);
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| AtlasError::csv(path, &error))? {
            let line = record.position().map_or(0, csv::Position::line);
            let bad = |fault: String| AtlasError::Csv {
                path: path.to_owned(),
                fault: format!("line {line}: {fault}"),
            };
            let [first, last, asn, organisation] = record.iter().collect::<Vec<_>>()[..] else {
                return Err(bad("it has not the four fields first, last, asn, organisation".to_owned()));
            };
            let address =
                |text: &str| text.parse::<IpAddr>().map_err(|_| bad(format!("{text:?} is no address")));
            let asn = asn.parse().map_err(|_| bad(format!("{asn:?} is no AS number")))?;
            let system = self.system(asn, organisation);
            self.ranges
                .insert(address(first)?, address(last)?, system)
                .map_err(|error| bad(error.to_string()))?;
        }
        Ok(())
    }

    /// Reads an MMDB with `autonomous_system_number` and `autonomous_system_organization`.
    pub(super) fn read_mmdb(&mut self, path: &Path, mmdb: &[u8]) -> Result<(), AtlasError> {
        let fail = |error| AtlasError::Mmdb { path: path.to_owned(), cause: error };
        let reader = Reader::from_source(mmdb).map_err(fail)?;
        // Many networks share an entry.
        let mut known: HashMap<usize, Option<usize>> = HashMap::new();
        for network in reader.networks(maxminddb::WithinOptions::default()).map_err(fail)? {
            let network = network.map_err(fail)?;
            let Some(offset) = network.offset() else { continue };
            let system = match known.get(&offset) {
                Some(system) => *system,
                None => {
                    let entry: Option<geoip2::Asn<'_>> = network.decode().map_err(fail)?;
                    let asn = entry.as_ref().and_then(|entry| entry.autonomous_system_number);
                    let name = entry.and_then(|entry| entry.autonomous_system_organization).unwrap_or("");
                    let system = asn.map(|asn| self.system(asn, name));
                    known.insert(offset, system);
                    system
                }
            };
            let Some(system) = system else { continue };
            let cidr = network.network().map_err(fail)?;
            // Both sides hold a checked prefix: only the crates differ.
            if let Ok(cidr) = IpNet::new(cidr.network(), cidr.prefix()) {
                self.ranges.insert_cidr(cidr, system);
            }
        }
        Ok(())
    }

    fn system(&mut self, asn: u32, organisation: &str) -> usize {
        let key = (asn, Arc::from(organisation));
        *self.index.entry(key).or_insert_with_key(|(asn, name)| {
            self.systems.push((*asn, name.clone()));
            self.systems.len() - 1
        })
    }

    /// Asks the network files about each system.
    pub(super) fn build(self, operators: Option<&Networks>, shipped: &Networks) -> Systems {
        let system = |(asn, as_org): (u32, Arc<str>)| System {
            operators_kind: operators.and_then(|networks| networks.by_system(asn, &as_org)),
            shipped_kind: shipped.by_system(asn, &as_org),
            asn,
            as_org,
        };
        Systems { ranges: self.ranges.build(), systems: self.systems.into_iter().map(system).collect() }
    }
}

impl Systems {
    pub(super) fn get(&self, ip: IpAddr) -> Option<&System> {
        self.ranges.get(ip).map(|index| &self.systems[index])
    }
}
