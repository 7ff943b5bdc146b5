//! What kind of network an address belongs to: curated lines by CIDR, AS number or name of the organisation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;

use super::address::parse_cidr;
use super::atlas::AtlasError;
use super::ranges::{RangeMap, RangeMapBuilder};
use crate::model::NetworkKind;

/// The lines that ship, inside the binary.
pub(super) const SHIPPED: &str = include_str!("../../../schemas/networks.csv");

/// One file's lines. Within it a CIDR is surer than an AS number, and that surer than a name.
pub(super) struct Networks {
    cidrs: RangeMap,
    cidr_kinds: Vec<NetworkKind>,
    asns: HashMap<u32, NetworkKind>,
    organisations: Vec<(Pattern, NetworkKind)>,
}

/// One line of the file, by its header's names; other columns (name, source, date) are for people.
#[derive(Deserialize)]
struct Line {
    /// `AS64496`, a CIDR or an address, or `org:PATTERN`.
    network: String,
    kind: String,
}

/// What a line is about.
enum Selector {
    Cidr(IpNet),
    Asn(u32),
    Organisation(Pattern),
}

impl Networks {
    /// Reads a CSV file with a header line that names `network` and `kind`.
    pub(super) fn parse(path: &Path, csv: &[u8]) -> Result<Self, AtlasError> {
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(csv);
        let mut builder = RangeMapBuilder::default();
        let (mut cidr_kinds, mut asns, mut organisations) = (Vec::new(), HashMap::new(), Vec::new());
        for line in reader.deserialize::<Line>() {
            let Line { network, kind } = line.map_err(|error| AtlasError::csv(path, &error))?;
            let fault =
                |fault| AtlasError::Network { path: path.to_owned(), network: network.clone(), fault };
            let kind = NetworkKind::parse(&kind)
                .filter(|kind| *kind != NetworkKind::Private)
                .ok_or_else(|| fault("its kind is none of access, mobile, satellite, company, hosting, vpn, relay, tor, cdn"))?;
            match Selector::parse(&network).ok_or_else(|| fault("it is no CIDR, no `AS…` and no `org:…`"))?
            {
                Selector::Cidr(cidr) => {
                    builder.insert_cidr(cidr, cidr_kinds.len());
                    cidr_kinds.push(kind);
                }
                Selector::Asn(asn) => {
                    if asns.insert(asn, kind).is_some() {
                        return Err(fault("the AS number has two lines"));
                    }
                }
                Selector::Organisation(pattern) => organisations.push((pattern, kind)),
            }
        }
        Ok(Self { cidrs: builder.build(), cidr_kinds, asns, organisations })
    }

    /// By the longest CIDR around `ip`.
    pub(super) fn by_address(&self, ip: IpAddr) -> Option<NetworkKind> {
        self.cidrs.get(ip).map(|index| self.cidr_kinds[index])
    }

    /// By the AS number, else by the first pattern that its organisation's name matches.
    pub(super) fn by_system(&self, asn: u32, organisation: &str) -> Option<NetworkKind> {
        let by_name = || self.organisations.iter().find(|(pattern, _)| pattern.matches(organisation));
        self.asns.get(&asn).copied().or_else(|| by_name().map(|(_, kind)| *kind))
    }
}

impl Selector {
    fn parse(text: &str) -> Option<Self> {
        if let Some(pattern) = text.strip_prefix("org:") {
            (!pattern.is_empty()).then(|| Self::Organisation(Pattern::new(pattern)))
        } else if let Some(number) = text.strip_prefix("AS") {
            number.parse().ok().map(Self::Asn)
        } else {
            parse_cidr(text).map(Self::Cidr)
        }
    }
}

/// A name with `*` for any run of characters; upper and lower case are the same (in ASCII).
struct Pattern {
    /// What lies between the stars, in lower case.
    parts: Vec<String>,
}

impl Pattern {
    fn new(pattern: &str) -> Self {
        Self { parts: pattern.to_ascii_lowercase().split('*').map(str::to_owned).collect() }
    }

    fn matches(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let [first, middle @ .., last] = &self.parts[..] else {
            return self.parts.first().is_some_and(|whole| *whole == name);
        };
        let Some(mut rest) = name.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            match rest.find(part.as_str()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_names_with_stars_for_any_run() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} on {name}");
        };
        check("Example", "EXAMPLE", true);
        check("Example", "Example Ltd", false);
        check("Example*", "Example Ltd", true);
        check("*VPN*", "Nordvpn S.A.", true);
        check("*VPN*", "Northern Vipers", false);
        check("a*b*c", "a-b-b-c", true);
        check("ab*ba", "aba", false);
        check("*", "", true);
    }

    #[test]
    fn a_cidr_is_surer_than_a_number_and_that_than_a_name() {
        let csv = "network,kind,name\n\
                   AS64496,mobile,a carrier\n\
                   org:*cloud*,hosting,by name\n\
                   198.51.100.0/24,vpn,its exits\n\
                   198.51.100.128/25,access,and its customers\n";
        let networks = Networks::parse(Path::new("networks.csv"), csv.as_bytes()).unwrap();
        assert_eq!(networks.by_address("198.51.100.1".parse().unwrap()), Some(NetworkKind::Vpn));
        assert_eq!(networks.by_address("198.51.100.129".parse().unwrap()), Some(NetworkKind::Access));
        assert_eq!(networks.by_address("198.51.101.1".parse().unwrap()), None);
        assert_eq!(networks.by_system(64496, "Example Cloud"), Some(NetworkKind::Mobile));
        assert_eq!(networks.by_system(64497, "Example Cloud"), Some(NetworkKind::Hosting));
        assert_eq!(networks.by_system(64497, "Example Ltd"), None);
    }

    #[test]
    fn a_bad_line_is_named() {
        let check = |line: &str, expected: &str| {
            let csv = format!("network,kind\n{line}\n");
            let Err(error) = Networks::parse(Path::new("n.csv"), csv.as_bytes()) else {
                panic!("{line} was taken")
            };
            assert_eq!(error.to_string(), expected);
        };
        check(
            "AS64496,secret",
            "n.csv: network AS64496: its kind is none of access, mobile, satellite, company, hosting, vpn, relay, tor, cdn",
        );
        check("64496,vpn", "n.csv: network 64496: it is no CIDR, no `AS…` and no `org:…`");
        check("AS64496,vpn\nAS64496,tor", "n.csv: network AS64496: the AS number has two lines");
        check(
            "AS64496",
            "n.csv: CSV error: record 1 (line: 2, byte: 13): found record with 1 fields, but the previous record has 2 fields",
        );
    }

    #[test]
    fn the_shipped_lines_say_where_they_are_from() {
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(SHIPPED.as_bytes());
        let header = reader.headers().unwrap().clone();
        assert_eq!(header, vec!["network", "kind", "name", "source", "date"]);
        for line in reader.records() {
            let line = line.unwrap();
            assert!(line.iter().all(|field| !field.trim().is_empty()), "{line:?}");
        }
        Networks::parse(Path::new("schemas/networks.csv"), SHIPPED.as_bytes()).unwrap();
    }
}
