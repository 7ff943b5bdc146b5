//! Which addresses the Internet routes (no geo file says anything of the others), and how a CIDR is written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether `ip` is a globally reachable unicast address (IANA's special-purpose registries, RFC 6890). What an edge
/// gateway reports otherwise is its own side of a proxy, and no client.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || (a == 100 && b & 0xc0 == 64) // shared address space of carriers (RFC 6598)
        || (a == 192 && b == 0 && c == 0) // protocol assignments (RFC 6890)
        || (a == 198 && b & 0xfe == 18) // benchmarks (RFC 2544)
        || a >= 224; // multicast, reserved, broadcast
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, ..] = ip.segments();
    // Only 2000::/3 is handed out as global unicast.
    let special = a & 0xe000 != 0x2000
        || (a == 0x2001 && b == 0xdb8) // documentation (RFC 3849)
        || (a == 0x3fff && b < 0x1000) // documentation (RFC 9637)
        || (a == 0x2001 && b == 2 && c == 0) // benchmarks (RFC 5180)
        || (a == 0x2001 && b & 0xfff0 == 0x10) // ORCHID (RFC 4843)
        || (a == 0x2001 && b & 0xfff0 == 0x20); // ORCHIDv2 (RFC 7343)
    !special
}

/// A CIDR, or a bare address as one of its own (lists of exits are written so).
pub(super) fn parse_cidr(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_routed_is_public() {
        let public =
            ["1.1.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "223.255.255.255", "2606:4700::1"];
        let special = [
            "0.1.2.3",
            "10.0.0.4",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "2001:2::1",
            "64:ff9b::101:101",
        ];
        for (addresses, expected) in [(&public[..], true), (&special[..], false)] {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
