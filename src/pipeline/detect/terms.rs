//! The common terms of the rules of place (DETECTION): which uses are eligible, origin, kin, device, class.

use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cases::{Match, Witness};
use super::keys::StateKey;
use super::nets::{is_v4, mapped, neighbourhood};
use super::rulebook::{Realm, Rulebook};
use super::sites::{SharedSite, Sites};
use super::why::Why;
use crate::model::{
    ClaimedToken, Confidence, Event, Flag, Kind, Location, NetworkClass, NetworkKind, Place, Request, RuleId,
    Severity, SubjectKind, UnixMs, Verdict, Zone,
};
use crate::pipeline::enrich::Enriched;

/// One use of a token by its subject, as the rules of place see it.
pub(super) struct Use<'e> {
    pub(super) tenant: &'e str,
    pub(super) realm: Realm<'e>,
    pub(super) sub: &'e str,
    pub(super) token: &'e ClaimedToken<'e>,
    pub(super) gateway: &'e str,
    /// The key that the token is bound to was shown.
    pub(super) proved: bool,
    /// The gateway let it pass.
    pub(super) accepted: bool,
    pub(super) seen: Seen,
    pub(super) site: SharedSite,
}

impl Use<'_> {
    /// The start of a match: whom it concerns.
    pub(super) fn matched<'m>(
        &'m self,
        rule: RuleId,
        key: &'m [&'m str],
        witnesses: &'m [Witness],
    ) -> Match<'m> {
        let token = self.token;
        Match {
            rule,
            tenant: self.tenant,
            key,
            window_start: UnixMs::default(),
            severity: Severity::Info,
            confidence: Confidence::Low,
            iss: token.iss.as_deref().unwrap_or_default(),
            sub: self.sub,
            subject_kind: Some(SubjectKind::User),
            client_id: token.client_id.as_deref().unwrap_or_default(),
            gateway: self.gateway,
            kid: token.kid.as_deref().unwrap_or_default(),
            time: self.seen.time,
            token_ref: best_ref(token),
            witnesses,
            is_count: false,
        }
    }
}

/// The strongest name that the event has for its token.
pub(super) fn best_ref<'t>(token: &'t ClaimedToken<'_>) -> Option<&'t str> {
    refs(token).next().map(|(_, text)| text)
}

/// Every name that the event has for its token, each with its kind, the strongest first. Where a gateway sent the token
/// itself, what is left of it names it just as well: a masked use is judged like any other.
pub(super) fn refs<'t>(token: &'t ClaimedToken<'_>) -> impl Iterator<Item = (&'static str, &'t str)> {
    [("ref", &token.token_ref), ("jti_ref", &token.jti_ref), ("outer_ref", &token.outer_ref)]
        .into_iter()
        .filter_map(|(kind, text)| {
            let text = text.as_deref()?;
            let masked = text.strip_prefix("[masked:").and_then(|text| text.strip_suffix(']'));
            Some((kind, masked.unwrap_or(text)))
        })
}

/// When and as what event a use was seen, and from which address (IPv4 as v4-mapped).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    #[serde(with = "as_ms")]
    pub(super) time: UnixMs,
    pub(super) id: Uuid,
    pub(super) ip: Ipv6Addr,
}

impl Seen {
    pub(super) fn neighbourhood(&self) -> u128 {
        neighbourhood(self.ip)
    }
}

/// Times in checkpoints: milliseconds since the epoch.
pub(super) mod as_ms {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::UnixMs;

    pub(in crate::pipeline::detect) fn serialize<S: Serializer>(
        time: &UnixMs,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.get().serialize(serializer)
    }

    pub(in crate::pipeline::detect) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<UnixMs, D::Error> {
        i64::deserialize(deserializer).map(UnixMs::new)
    }
}

/// Where uses come from: equal sites are one object, shared by all subjects of the partition.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Site {
    pub(super) location: Location,
    pub(super) origin: Origin,
    pub(super) device: Option<Device>,
    /// IPv4 and IPv6 are two sites: whether two stacks are one user is a question about a pair.
    v4: bool,
    /// The declared egress group that the address is in.
    egress: Option<Arc<str>>,
}

/// A network as the user's: what stays the same while a user stays (DETECTION, "Origin").
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Origin {
    /// The overlay's label.
    Label(Arc<str>),
    /// Access, mobile and satellite networks renumber their users within a country.
    Carrier { country: Arc<str>, asn: u32 },
    /// The /24 or /48.
    Neighbourhood(u128),
}

impl Origin {
    /// A name of one size. Nobody can look for an origin that is named like another: it is half of a [`StateKey`].
    pub(super) fn key(&self) -> OriginKey {
        let key = match self {
            Self::Label(label) => StateKey::of(&["label", label]),
            Self::Carrier { country, asn } => StateKey::of(&["carrier", country, &asn.to_string()]),
            Self::Neighbourhood(net) => StateKey::of(&["net", &net.to_string()]),
        };
        OriginKey(key.low_bits())
    }
}

/// Names an origin where it is remembered for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OriginKey(u64);

#[cfg(test)]
impl OriginKey {
    pub(super) const fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// A device as far as requests tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Device {
    /// User-agent family and operating system.
    pub(super) name: Arc<str>,
    /// Transport letter and the cipher part of JA4; `None` if the gateway does not compute it.
    ja4: Option<Ja4>,
}

/// The parts of a JA4 fingerprint that a device keeps: `t13d1516h2_8daaf6152771_…` has transport `t` and ciphers
/// `8daaf6152771`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Ja4 {
    transport: u8,
    ciphers: u64,
}

impl Ja4 {
    fn parse(text: &str) -> Option<Self> {
        let ciphers = text.split('_').nth(1)?;
        Some(Self { transport: *text.as_bytes().first()?, ciphers: u64::from_str_radix(ciphers, 16).ok()? })
    }
}

impl Device {
    fn differs(&self, other: &Self) -> bool {
        let ja4_differs = match (self.ja4, other.ja4) {
            (Some(a), Some(b)) => a.transport == b.transport && a.ciphers != b.ciphers,
            _ => false,
        };
        self.name != other.name || ja4_differs
    }
}

impl Site {
    pub(super) fn place(&self) -> Option<&Place> {
        self.location.place.as_deref()
    }

    /// ISO code; empty if unknown.
    pub(super) fn country(&self) -> &str {
        self.place().map_or("", |place| &place.country)
    }

    pub(super) const fn kind(&self) -> NetworkKind {
        self.location.network.kind
    }

    pub(super) const fn class(&self) -> Option<NetworkClass> {
        self.kind().class()
    }

    pub(super) fn company_egress(&self) -> bool {
        self.egress.is_some() || self.kind() == NetworkKind::Company
    }

    /// Both devices are known and are two.
    pub(super) fn device_differs(&self, other: &Self) -> bool {
        matches!((&self.device, &other.device), (Some(a), Some(b)) if a.differs(b))
    }

    /// Both devices are known and may be one.
    pub(super) fn same_device(&self, other: &Self) -> bool {
        matches!((&self.device, &other.device), (Some(a), Some(b)) if !a.differs(b))
    }

    /// Both countries are known and are two.
    pub(super) fn country_differs(&self, other: &Self) -> bool {
        let (a, b) = (self.country(), other.country());
        !a.is_empty() && !b.is_empty() && a != b
    }

    /// Feeds what tells most sites apart.
    pub(super) fn hash_roughly(&self, state: &mut impl Hasher) {
        let network = &self.location.network;
        (&self.origin, &self.device, self.v4, network.asn, network.kind).hash(state);
        state.write_u64(self.place().map_or(0, |place| place.entry));
    }

    fn same_country(&self, other: &Self) -> bool {
        !self.country().is_empty() && self.country() == other.country()
    }

    pub(super) const fn same_asn(&self, other: &Self) -> bool {
        let asn = self.location.network.asn;
        asn != 0 && asn == other.location.network.asn
    }

    /// One caller as far as token rules tell: the place within a country does not matter to them.
    pub(super) fn same_caller(&self, other: &Self) -> bool {
        self.origin == other.origin
            && self.device == other.device
            && self.v4 == other.v4
            && self.class() == other.class()
            && self.country() == other.country()
            && self.egress == other.egress
    }

    /// One origin, whatever the addresses: the same, one declared egress group, two stacks of one device, or one
    /// device that hops between the mobile networks of a country. (The same /24 or /48 is a question about addresses.)
    pub(super) fn is_kin(&self, other: &Self) -> bool {
        let two_stacks = self.v4 != other.v4 && (self.same_asn(other) || self.same_country(other));
        let mobile = self.kind() == NetworkKind::Mobile
            && other.kind() == NetworkKind::Mobile
            && self.same_country(other);
        self.origin == other.origin
            || (self.egress.is_some() && self.egress == other.egress)
            || ((two_stacks || mobile) && self.same_device(other))
    }
}

/// Whether the rules of place look at this event, and as what.
pub(super) fn eligible<'e>(
    enriched: &'e Enriched<'_>,
    rules: &'e Rulebook,
    sites: &mut Sites,
) -> Result<Use<'e>, Why> {
    let (event, token, sub) = attributable(enriched)?;
    if event.source.zone == Zone::Internal {
        return Err(Why::Internal);
    }
    if rules.subject_kind(event, token) != Some(SubjectKind::User) {
        return Err(Why::Client);
    }
    if enriched.checked.decoded.flags.has(Flag::ClockSkewed) {
        return Err(Why::Clamped);
    }
    let request = event.request.as_ref();
    let (Some(ip), Some(location)) = (request.and_then(|request| request.ip), &enriched.location) else {
        return Err(Why::NoAddress);
    };
    let tenant = event.tenant.as_ref();
    let client_id = token.client_id.as_deref().unwrap_or_default();
    if rules.is_backend(tenant, client_id, ip, location.network.asn) {
        return Err(Why::Backend);
    }
    let ip = mapped(ip);
    let Some(origin) = origin(location, ip) else { return Err(Why::NoOrigin(location.network.kind)) };
    let ja4 = request.and_then(|request| request.ja4.as_deref()).and_then(Ja4::parse);
    let device = enriched.device.as_ref().map(|device| Device { name: Arc::clone(&device.name), ja4 });
    let egress = rules.egress(tenant, ip.to_canonical()).cloned();
    let site = sites.share(Site { location: location.clone(), origin, device, v4: is_v4(ip), egress });
    let realm = rules.realm(tenant, token.iss.as_deref().unwrap_or_default());
    let proved = request.is_some_and(|request| proves(token, request));
    let (gateway, seen) = (event.source.gateway.as_ref(), Seen { time: event.time, id: event.id, ip });
    let accepted = event.kind == Kind::Accepted;
    Ok(Use { tenant, realm, sub, token, gateway, proved, accepted, seen, site })
}

/// Whether the request showed the key that the token is bound to.
fn proves(token: &ClaimedToken<'_>, request: &Request<'_>) -> bool {
    let (Some(bound), Some(shown)) = (&token.cnf, &request.presented_cnf) else { return false };
    (bound.jkt.is_some() && bound.jkt == shown.jkt)
        || (bound.x5t_s256.is_some() && bound.x5t_s256 == shown.x5t_s256)
}

/// The event as a use whose claims somebody vouches for.
pub(super) fn attributable<'e>(
    enriched: &'e Enriched<'_>,
) -> Result<(&'e Event<'e>, &'e ClaimedToken<'e>, &'e str), Why> {
    let event = &enriched.checked.decoded.event;
    if !matches!(event.kind, Kind::Accepted | Kind::Rejected) {
        return Err(Why::NotAUse(event.kind));
    }
    if enriched.checked.verdict == Verdict::UNATTESTED {
        return Err(Why::Unattested);
    }
    if !event.gateway_verdict.is_some_and(|verdict| verdict.signature_verified()) {
        return Err(Why::Unverified);
    }
    let token = event.token.as_ref().ok_or(Why::NoSubject)?;
    let sub = token.sub.as_deref().ok_or(Why::NoSubject)?;
    Ok((event, token, sub))
}

fn origin(location: &Location, ip: Ipv6Addr) -> Option<Origin> {
    let network = &location.network;
    network.kind.class()?;
    if let Some(label) = &network.label {
        return Some(Origin::Label(Arc::clone(label)));
    }
    Some(match network.kind {
        NetworkKind::Access | NetworkKind::Mobile | NetworkKind::Satellite => Origin::Carrier {
            country: location
                .place
                .as_ref()
                .map_or_else(|| Arc::from(""), |place| Arc::clone(&place.country)),
            asn: network.asn,
        },
        _ => Origin::Neighbourhood(neighbourhood(ip)),
    })
}
