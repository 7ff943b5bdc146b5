//! Calls to where somebody configured: webhooks, key sets. One guard for all of them: public addresses alone, unless the
//! configuration says otherwise. It looks when the connection is made, on the very addresses that it is made to, so that no
//! later answer of a name server gets around it; and no redirect is followed, so that no answer of a server does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Method, RequestBuilder, Url, redirect};

/// Makes guarded calls.
pub(crate) struct Outbound {
    client: Client,
    allow_private: bool,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    /// From then on, until the last byte of the answer.
    pub(crate) answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), answer: Duration::from_secs(15) }
    }
}

impl Outbound {
    /// # Errors
    /// If TLS cannot be set up, in words.
    pub(crate) fn new(allow_private: bool, timeouts: Timeouts) -> Result<Self, String> {
        // No proxy from the environment: it would make the connection in our place, to any address.
        let builder = Client::builder()
            .user_agent(concat!("jwtrail/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.connect + timeouts.answer);
        let builder = if allow_private { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) };
        let client = builder.build().map_err(|cause| innermost(&cause.without_url()))?;
        Ok(Self { client, allow_private })
    }

    /// A request to be sent.
    ///
    /// # Errors
    /// If the URL names an address that may not be reached. A name is judged when it is resolved.
    pub(crate) fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, NotPublic> {
        // A name goes through the resolver; an address does not, however it is written: the URL's parser has already
        // made 0x7f.1 and its like what they are.
        let literal = url.host_str().and_then(address_of);
        if !self.allow_private && literal.is_some_and(|address| !is_public(address)) {
            return Err(NotPublic);
        }
        Ok(self.client.request(method, url.clone()))
    }
}

/// A URL writes IPv6 in brackets.
fn address_of(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Why a call failed, without its URL: path and query may be a capability. The cause at the bottom says the most:
/// "connection refused", not "error sending request".
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

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
fn is_public(address: IpAddr) -> bool {
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
struct PublicOnly;

/// The name stands for no address that may be reached.
#[derive(Debug, thiserror::Error)]
#[error("it has no public address: set `allow_private = true` if that is meant")]
pub(crate) struct NotPublic;

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
