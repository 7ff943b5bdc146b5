//! Which addresses a webhook may reach: public ones, unless the destination says otherwise. Looked at when the
//! connection is made, on the very addresses that it is made to, so that no later answer of a name server gets around it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// IPv4 networks that are not public (IANA's special-purpose registry), and one public address inside every virtual
/// machine of Azure, which is its metadata service.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];

/// Whether anyone on the internet could reach it.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|&(network, length)| {
        let mask = u32::MAX << (32 - u32::from(length));
        address.to_bits() & mask == network.to_bits()
    })
}

/// Of IPv6 only 2000::/3 is handed out. Addresses that carry an IPv4 address are what that one is.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let low = |bits: u128| Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32);
    match address.segments() {
        // Mapped, and the translators' well-known prefix (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(low(address.to_bits())),
        // 6to4.
        [0x2002, ..] => is_public_v4(low(address.to_bits() >> 80)),
        // Teredo, benchmarking, ORCHID, documentation: IETF protocol assignments and 2001:db8::/32, 3fff::/20.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names to public addresses alone.
pub(super) struct PublicOnly;

/// The name stands for no address that may be reached.
#[derive(Debug, thiserror::Error)]
#[error("the receiver has no public address: set `allow_private = true` if that is meant")]
pub(super) struct NotPublic;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let all = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = all.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(Box::from(NotPublic));
            }
            let addresses: Addrs = Box::new(public.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_internet_reaches_is_public() {
        let check = |public: bool, addresses: &str| {
            for address in addresses.split_whitespace() {
                assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
            }
        };
        check(true, "1.1.1.1 8.8.8.8 100.63.0.1 172.32.0.1 192.169.0.1 2606:4700:4700::1111 2400:cb00::1");
        check(true, "::ffff:1.1.1.1 64:ff9b::101:101 2002:101:101::1 2001:4860:4860::8888");
        check(false, "127.0.0.1 127.1.2.3 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1");
        check(false, "169.254.169.254 100.100.100.200 168.63.129.16 224.0.0.1 255.255.255.255 192.0.2.1");
        check(false, ":: ::1 fe80::1 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 2001::1 3fff::1");
        check(false, "::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 2002:7f00:1::1 ::7f00:1");
    }
}
