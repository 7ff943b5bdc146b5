//! The plain values that a key may hold: how each is read, what is said if it is wrong, and how it is shown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::written::{Source, Value, Written};
use super::{Backend, DestinationWord, Fsync, IssuerPreset, LogFormat, Signatures, SigningAlg};
use crate::model::{RuleId, TenantId, UnixMs, Zone, is_name};

/// A plain value.
pub(super) trait Leaf: Sized {
    /// The error says what to write instead.
    fn read(written: &Written) -> Result<Self, String>;
    /// As TOML.
    fn show(&self) -> String;
}

pub(super) fn text(written: &Written) -> Result<&str, String> {
    match &written.value {
        Value::Text(text) => Ok(text),
        _ => Err("is a text: write it in quotes".to_owned()),
    }
}

/// A number's digits: unquoted in the file; the environment and flags have only texts.
fn digits(written: &Written) -> Result<&str, String> {
    match (&written.value, &written.source) {
        (Value::Number(digits), _) => Ok(digits),
        (Value::Text(digits), Source::Env(_) | Source::Flag(_)) => Ok(digits),
        _ => Err("is a number: write it without quotes".to_owned()),
    }
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Leaf for String {
    fn read(written: &Written) -> Result<Self, String> {
        match text(written)? {
            "" => Err("is empty: leave the key out instead".to_owned()),
            text => Ok(text.to_owned()),
        }
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

impl Leaf for bool {
    fn read(written: &Written) -> Result<Self, String> {
        match (&written.value, &written.source) {
            (Value::Bool(flag), _) => Ok(*flag),
            (Value::Text(text), Source::Env(_) | Source::Flag(_)) if text == "true" => Ok(true),
            (Value::Text(text), Source::Env(_) | Source::Flag(_)) if text == "false" => Ok(false),
            _ => Err("is true or false, without quotes".to_owned()),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Leaf for u16 {
    fn read(written: &Written) -> Result<Self, String> {
        digits(written)?.parse().map_err(|_| format!("is a whole number from 0 to {}", Self::MAX))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Leaf for PathBuf {
    fn read(written: &Written) -> Result<Self, String> {
        String::read(written).map(Self::from)
    }
    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Leaf for SocketAddr {
    fn read(written: &Written) -> Result<Self, String> {
        text(written)?
            .parse()
            .map_err(|_| "is an address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned())
    }
    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Leaf for IpNet {
    fn read(written: &Written) -> Result<Self, String> {
        let text = text(written)?;
        text.parse::<Self>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(Self::from))
            .map(|net| net.trunc())
            .map_err(|_| {
                "is a network or an address, such as \"192.0.2.0/24\" or \"2001:db8::/32\"".to_owned()
            })
    }
    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Leaf for TenantId {
    fn read(written: &Written) -> Result<Self, String> {
        text(written)?.parse().map_err(|error: crate::model::NotAName| error.to_string())
    }
    fn show(&self) -> String {
        quoted(self.as_str())
    }
}

impl Leaf for UnixMs {
    fn read(written: &Written) -> Result<Self, String> {
        text(written)?.parse().map_err(|error: crate::model::NotATime| error.to_string())
    }
    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

/// A gateway's or destination's name.
pub(super) struct Name(pub(super) String);

impl Leaf for Name {
    fn read(written: &Written) -> Result<Self, String> {
        let text = text(written)?;
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err("is a name: 1 to 63 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit".to_owned())
    }
    fn show(&self) -> String {
        quoted(&self.0)
    }
}

/// SHA-256 in hexadecimal.
pub(super) struct Sha256Hex(pub(super) [u8; 32]);

impl Leaf for Sha256Hex {
    fn read(written: &Written) -> Result<Self, String> {
        let text = text(written)?;
        let mut bytes = [0; 32];
        let nibble = |at: usize| text.as_bytes().get(at).and_then(|&digit| char::from(digit).to_digit(16));
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = nibble(2 * at).zip(nibble(2 * at + 1)).filter(|_| text.len() == 64);
            let Some((high, low)) = pair else {
                return Err("is 64 hexadecimal digits: `printf %s KEY | sha256sum`".to_owned());
            };
            *byte = u8::try_from(high << 4 | low).unwrap_or_default();
        }
        Ok(Self(bytes))
    }
    fn show(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        quoted(&hex)
    }
}

/// A URL of http or https, without user information: secrets have keys of their own.
pub(super) struct HttpUrl(pub(super) reqwest::Url);

impl Leaf for HttpUrl {
    fn read(written: &Written) -> Result<Self, String> {
        let url = reqwest::Url::parse(text(written)?)
            .map_err(|_| "is a URL, such as \"https://siem.example/hook\"".to_owned())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("is a URL of http or https".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or a password: they have keys of their own".to_owned());
        }
        Ok(Self(url))
    }
    /// Path and query may be a capability (many webhooks are), so they are not shown.
    fn show(&self) -> String {
        let rest = if self.0.path() == "/" && self.0.query().is_none() { "" } else { "/[redacted]" };
        quoted(&format!("{}{rest}", self.0.origin().ascii_serialization()))
    }
}

/// Where a JWK set is. It is public (RFC 8414 publishes it), so it is shown, but for its query.
pub(super) struct JwksAddress(pub(super) reqwest::Url);

impl Leaf for JwksAddress {
    fn read(written: &Written) -> Result<Self, String> {
        HttpUrl::read(written).map(|url| Self(url.0))
    }
    fn show(&self) -> String {
        let query = if self.0.query().is_some() { "?[redacted]" } else { "" };
        quoted(&format!("{}{}{query}", self.0.origin().ascii_serialization(), self.0.path()))
    }
}

/// A single Redis. Who enters has keys of its own.
pub(super) struct RedisUrl {
    /// `HOST:PORT`.
    pub(super) node: String,
    pub(super) is_tls: bool,
}

impl Leaf for RedisUrl {
    fn read(written: &Written) -> Result<Self, String> {
        const FORM: &str = "is a URL, such as \"redis://127.0.0.1:6379\", or of \"rediss\" for TLS";
        let url = reqwest::Url::parse(text(written)?).map_err(|_| FORM)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or a password: they have keys of their own".to_owned());
        }
        let bare = matches!(url.path(), "" | "/") && url.query().is_none();
        let is_tls = url.scheme() == "rediss";
        match url.host_str() {
            Some(host) if bare && (is_tls || url.scheme() == "redis") => {
                Ok(Self { node: format!("{host}:{}", url.port().unwrap_or(6379)), is_tls })
            }
            _ => Err(FORM.to_owned()),
        }
    }
    fn show(&self) -> String {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        quoted(&format!("{scheme}://{}", self.node))
    }
}

/// Kafka's bootstrap list, or some nodes of a Redis Cluster.
pub(super) struct Brokers(pub(super) String);

impl Leaf for Brokers {
    fn read(written: &Written) -> Result<Self, String> {
        let text = text(written)?;
        let fine = |broker: &str| {
            broker.trim().rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        if text.split(',').all(fine) { Ok(Self(text.to_owned())) } else { Err(BROKERS.to_owned()) }
    }
    fn show(&self) -> String {
        quoted(&self.0)
    }
}

const BROKERS: &str = "is a list of hosts and ports, such as \"broker-1:9092,broker-2:9092\"";

/// What is logged.
pub(super) struct LogFilter(pub(super) String);

impl Leaf for LogFilter {
    fn read(written: &Written) -> Result<Self, String> {
        let text = text(written)?;
        match crate::telemetry::filter(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err("is a level (error, warn, info, debug, trace) or \"TARGET=LEVEL,…\"".to_owned()),
        }
    }
    fn show(&self) -> String {
        quoted(&self.0)
    }
}

/// A span of time: `30s`, `40d`.
pub(super) struct Span(pub(super) Duration);

/// Longest first: a span is shown in the largest unit that it is a whole number of.
const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Leaf for Span {
    fn read(written: &Written) -> Result<Self, String> {
        let parsed = text(written).ok().and_then(|text| with_unit(text, &SPAN_UNITS));
        let ms = parsed.ok_or("is a span of time, such as \"500ms\", \"30s\", \"5m\", \"12h\" or \"40d\"")?;
        Ok(Self(Duration::from_millis(ms)))
    }
    fn show(&self) -> String {
        show_with_unit(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &SPAN_UNITS)
    }
}

/// A number of bytes: `10GiB`.
pub(super) struct Size(pub(super) u64);

const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Leaf for Size {
    fn read(written: &Written) -> Result<Self, String> {
        let parsed = text(written).ok().and_then(|text| with_unit(text, &SIZE_UNITS));
        parsed.map(Self).ok_or_else(|| "is a size, such as \"512MiB\" or \"10GiB\"".to_owned())
    }
    fn show(&self) -> String {
        show_with_unit(self.0, &SIZE_UNITS)
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show_with_unit(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| amount > 0 && amount.is_multiple_of(*factor);
    let (unit, factor) = units.iter().find(fits).or(units.last()).copied().unwrap_or(("", 1));
    quoted(&format!("{}{unit}", amount / factor))
}

impl Leaf for Backend {
    fn read(written: &Written) -> Result<Self, String> {
        let asn = |text: &str| text.strip_prefix("AS").or_else(|| text.strip_prefix("as"))?.parse().ok();
        match text(written) {
            Ok(text) if asn(text).is_some() => Ok(Self::Asn(asn(text).unwrap_or_default())),
            _ => IpNet::read(written).map(Self::Cidr).map_err(|_| {
                "is a network or an autonomous system, such as \"192.0.2.0/24\" or \"AS64500\"".to_owned()
            }),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Cidr(net) => net.show(),
            Self::Asn(asn) => quoted(&format!("AS{asn}")),
        }
    }
}

/// Closed sets of words.
macro_rules! word_leaves {
    ($($name:ty),+) => { $(
        impl Leaf for $name {
            fn read(written: &Written) -> Result<Self, String> {
                let words: Vec<&str> = Self::ALL.iter().map(|word| word.as_str()).collect();
                text(written)
                    .ok()
                    .and_then(Self::parse)
                    .ok_or_else(|| format!("is one of {}", words.join(", ")))
            }
            fn show(&self) -> String {
                quoted(self.as_str())
            }
        }
    )+ };
}
word_leaves!(Signatures, IssuerPreset, Zone, RuleId, LogFormat, DestinationWord, Fsync, SigningAlg);
