//! The geo files, as read at one time: one immutable snapshot.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;

use super::address::is_public;
use super::asn::{Systems, SystemsBuilder};
use super::device;
use super::mmdb::{Databases, EntryKey};
use super::networks::{Networks, SHIPPED};
use super::overlay::Overlay;
use crate::config::GeoFiles;
use crate::model::{Location, Network, NetworkKind, Place, UnixMs};

/// The geo files, networks.csv and the overlay, as read at one time.
pub(crate) struct Atlas {
    build: Arc<str>,
    city: Databases,
    country: Databases,
    systems: Systems,
    operators: Option<Networks>,
    shipped: Networks,
    overlay: Option<Overlay>,
    /// The organisation of what belongs to none.
    nobody: Arc<str>,
}

/// Why a set of geo files cannot be used. The one in use is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AtlasError {
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{} is no sound MMDB file: {cause}", path.display())]
    Mmdb { path: PathBuf, cause: maxminddb::MaxMindDbError },
    #[error("{} ({database_type}) is neither a city nor a country file of DB-IP's or GeoLite2's layout", path.display())]
    Layout { path: PathBuf, database_type: String },
    #[error("{}: {fault}", path.display())]
    Csv { path: PathBuf, fault: String },
    #[error("{} is cut short: its last line does not end", path.display())]
    Truncated { path: PathBuf },
    #[error("{}: network {network}: {fault}", path.display())]
    Network { path: PathBuf, network: String, fault: &'static str },
}

impl AtlasError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "geo_unreadable",
            Self::Mmdb { .. } | Self::Truncated { .. } => "geo_broken",
            Self::Layout { .. } => "geo_layout_unknown",
            Self::Csv { .. } | Self::Network { .. } => "geo_line_bad",
        }
    }

    pub(super) fn csv(path: &Path, error: &csv::Error) -> Self {
        Self::Csv { path: path.to_owned(), fault: error.to_string() }
    }
}

impl Atlas {
    /// Reads all files into memory, and compiles the user-agent patterns, so that no event waits for either.
    pub(crate) fn load(files: &GeoFiles) -> Result<Self, AtlasError> {
        device::warm_up();
        let mut content = digest::Context::new(&digest::SHA256);
        content.update(SHIPPED.as_bytes());
        let mut read = |path: &Path| {
            let bytes = std::fs::read(path)
                .map_err(|cause| AtlasError::Unreadable { path: path.to_owned(), cause })?;
            content.update(&(bytes.len() as u64).to_be_bytes());
            content.update(&bytes);
            Ok(bytes)
        };
        let shipped = Networks::parse(Path::new("schemas/networks.csv"), SHIPPED.as_bytes())?;
        let operators = match &files.networks {
            Some(path) => Some(Networks::parse(path, &read(path)?)?),
            None => None,
        };
        let overlay = match &files.overlay {
            Some(path) => Some(Overlay::parse(path, &read(path)?)?),
            None => None,
        };
        let mut systems = SystemsBuilder::default();
        for path in &files.asn {
            let bytes = read(path)?;
            if path.extension().is_some_and(|extension| extension == "mmdb") {
                systems.read_mmdb(path, &bytes)?;
            } else {
                systems.read_csv(path, &bytes)?;
            }
        }
        let systems = systems.build(operators.as_ref(), &shipped);
        let mut databases = |paths: &[PathBuf]| {
            let files = paths.iter().map(|path| Ok((path.as_path(), read(path)?)));
            Databases::open(files.collect::<Result<_, AtlasError>>()?)
        };
        let (city, country) = (databases(&files.city)?, databases(&files.country)?);
        let build = name_build(city.built_s(), content.finish().as_ref()).into();
        Ok(Self { build, city, country, systems, operators, shipped, overlay, nobody: "".into() })
    }

    /// Names the contents of the files: the city file's date and a hash over all.
    pub(crate) const fn build(&self) -> &Arc<str> {
        &self.build
    }

    /// Everything that the files know of `ip`. `remember` may answer for a place that was decoded before.
    pub(super) fn locate(
        &self,
        ip: IpAddr,
        remember: impl FnOnce(EntryKey, &dyn Fn() -> Option<Arc<Place>>) -> Option<Arc<Place>>,
    ) -> Location {
        // ::ffff:192.0.2.1 is an IPv4 address in another dress.
        let ip = ip.to_canonical();
        let overlaid = self.overlay.as_ref().and_then(|overlay| overlay.get(ip));
        let placed = overlaid.is_some_and(|entry| entry.place.is_some() || entry.kind.is_some());
        let public = is_public(ip);
        let system = if public { self.systems.get(ip) } else { None };
        let kind = match overlaid.and_then(|entry| entry.kind) {
            Some(kind) => kind,
            None if !public && !placed => NetworkKind::Private,
            None => {
                let operators = self.operators.as_ref().and_then(|networks| networks.by_address(ip));
                operators
                    .or_else(|| system?.operators_kind)
                    .or_else(|| self.shipped.by_address(ip))
                    .or_else(|| system?.shipped_kind)
                    .unwrap_or(NetworkKind::Access)
            }
        };
        let nowhere = matches!(kind, NetworkKind::Cdn | NetworkKind::Private);
        let (mut place, mut country_confirmed) = (None, None);
        if let Some(overlaid) = overlaid.and_then(|entry| entry.place.as_ref()) {
            // The operator's word: no second source is asked about it.
            place = (!nowhere).then(|| overlaid.clone());
        } else if public && !nowhere {
            place = self.city.entry(ip).and_then(|key| remember(key, &|| self.city.place(ip, key)));
            country_confirmed = place.as_ref().and_then(|place| self.country.confirms(ip, &place.country));
        }
        let asn = overlaid.and_then(|entry| entry.asn).or(system.map(|system| system.asn)).unwrap_or(0);
        let as_org = overlaid.and_then(|entry| entry.as_org.as_ref()).or(system.map(|system| &system.as_org));
        let network = Network {
            asn,
            as_org: as_org.unwrap_or(&self.nobody).clone(),
            kind,
            label: overlaid.and_then(|entry| entry.label.clone()),
        };
        Location { place, network, country_confirmed }
    }
}

/// `2026-06-05-1a2b3c4d`, or the hash alone where no city file says when it was built.
fn name_build(built_s: Option<u64>, content: &[u8]) -> String {
    let hash: String = content[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let date = built_s.and_then(|seconds| i64::try_from(seconds).ok()).map(|seconds| {
        let time = UnixMs::new(seconds.saturating_mul(1000)).to_string();
        time.chars().take(10).collect::<String>()
    });
    date.map_or_else(|| hash.clone(), |date| format!("{date}-{hash}"))
}
