//! Where an address is and what network it belongs to, as far as the geo files know.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::verdict::words;

words! {
    /// What kind of network an address belongs to (DETECTION, "Common terms").
    NetworkKind {
        Access = "access",
        Mobile = "mobile",
        Satellite = "satellite",
        Company = "company",
        Hosting = "hosting",
        Vpn = "vpn",
        Relay = "relay",
        Tor = "tor",
        Cdn = "cdn",
        /// Not a public address, and no overlay places it.
        Private = "private",
    }
}

words! {
    /// How well a network tells who its user is.
    NetworkClass {
        /// People sit behind it.
        Eyeball = "eyeball",
        Hosting = "hosting",
        /// It hides where its users are.
        Hidden = "hidden",
    }
}

impl NetworkKind {
    /// `None` for networks that are no origin at all (cdn, private).
    pub(crate) const fn class(self) -> Option<NetworkClass> {
        match self {
            Self::Access | Self::Mobile | Self::Satellite | Self::Company => Some(NetworkClass::Eyeball),
            Self::Hosting => Some(NetworkClass::Hosting),
            Self::Vpn | Self::Relay | Self::Tor => Some(NetworkClass::Hidden),
            Self::Cdn | Self::Private => None,
        }
    }
}

/// One entry of a geo file: shared by all addresses that it covers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// ISO 3166-1 alpha-2; empty if unknown.
    pub(crate) country: Arc<str>,
    pub(crate) subdivision: Arc<str>,
    pub(crate) city: Arc<str>,
    /// Degrees.
    pub(crate) lat: f64,
    pub(crate) lon: f64,
    /// The radius within which the address is thought to be, in kilometres: never 0.
    pub(crate) accuracy_km: f64,
    /// Whether the file gave the radius itself.
    pub(crate) own_radius: bool,
    /// Names the entry within its snapshot: equal entries are one place.
    pub(crate) entry: u64,
}

/// The network of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// 0 if unknown.
    pub(crate) asn: u32,
    pub(crate) as_org: Arc<str>,
    pub(crate) kind: NetworkKind,
    /// The overlay's name for it: wins as origin over everything else.
    pub(crate) label: Option<Arc<str>>,
}

/// Everything `enrich` knows of one address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Location {
    /// `None` for cdn addresses and for what no file and no overlay places.
    pub(crate) place: Option<Arc<Place>>,
    pub(crate) network: Network,
    /// Whether the second source names the same country; `None` if it does not know the address.
    pub(crate) country_confirmed: Option<bool>,
}
