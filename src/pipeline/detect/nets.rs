//! Networks: look-up of an address among many CIDRs, and the /24 or /48 that counts as one place.

use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;
use ipnet::IpNet;

/// Values by CIDR; the longest that contains an address wins. A look-up costs one probe per distinct length, however
/// many networks there are.
#[derive(Debug)]
pub(super) struct NetMap<T> {
    /// Distinct prefix lengths over the 128-bit form, longest first.
    lengths: Vec<u8>,
    nets: HashMap<(u8, u128), T>,
}

impl<T> Default for NetMap<T> {
    fn default() -> Self {
        Self { lengths: Vec::new(), nets: HashMap::new() }
    }
}

impl<T> NetMap<T> {
    pub(super) fn insert(&mut self, net: IpNet, value: T) {
        let length = match net {
            IpNet::V4(net) => net.prefix_len() + 96,
            IpNet::V6(net) => net.prefix_len(),
        };
        if let Err(place) = self.lengths.binary_search_by(|known| length.cmp(known)) {
            self.lengths.insert(place, length);
        }
        self.nets.insert((length, cut(mapped(net.addr()), length)), value);
    }

    pub(super) fn get(&self, ip: IpAddr) -> Option<&T> {
        let ip = mapped(ip);
        self.lengths.iter().find_map(|&length| self.nets.get(&(length, cut(ip, length))))
    }
}

/// The neighbourhood of an address: its /24, or its /48, in the 128-bit form.
pub(super) fn neighbourhood(ip: Ipv6Addr) -> u128 {
    cut(ip, if is_v4(ip) { 96 + 24 } else { 48 })
}

pub(super) fn is_v4(ip: Ipv6Addr) -> bool {
    ip.to_ipv4_mapped().is_some()
}

/// The one form of an address: IPv4 as v4-mapped IPv6.
pub(super) fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn cut(ip: Ipv6Addr, length: u8) -> u128 {
    u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_network_that_contains_an_address_wins() {
        let mut map = NetMap::default();
        for (net, name) in [
            ("198.51.100.0/24", "wide"),
            ("198.51.100.128/25", "narrow"),
            ("2001:db8::/32", "six"),
            ("::/0", "all"),
        ] {
            map.insert(net.parse().unwrap(), name);
        }
        for (ip, name) in [
            ("198.51.100.5", "wide"),
            ("198.51.100.200", "narrow"),
            ("2001:db8:1::1", "six"),
            ("::ffff:198.51.100.5", "wide"),
            ("203.0.113.1", "all"),
        ] {
            assert_eq!(map.get(ip.parse().unwrap()), Some(&name), "{ip}");
        }
    }

    #[test]
    fn neighbours_share_a_slash_24_or_a_slash_48() {
        let near = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|ip| neighbourhood(mapped(ip.parse().unwrap())));
            a == b
        };
        assert!(near("192.0.2.1", "192.0.2.255"));
        assert!(!near("192.0.2.1", "192.0.3.1"));
        assert!(near("2001:db8:1::1", "2001:db8:1:ffff::1"));
        assert!(!near("2001:db8:1::1", "2001:db8:2::1"));
    }
}
