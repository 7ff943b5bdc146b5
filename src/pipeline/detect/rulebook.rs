//! The rules as configured: declared backends and egress groups, issuers that share subjects, subjects that are clients.
//! With them the key under which ids of events are remembered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use hashbrown::{HashMap, HashSet};

use super::nets::NetMap;
use crate::config::{Backend, ClientBackends, Egress, Issuer, IssuerPreset};
use crate::model::{ClaimedToken, Event, Grant, SubjectKind, TenantId};

/// An immutable snapshot; every look-up is by tenant first, so one tenant's length is no other's cost.
#[derive(Debug)]
pub(crate) struct Rulebook {
    tenants: HashMap<TenantId, TenantRules>,
    heartbeat_every: Duration,
    /// The same for the whole installation, however often rules change.
    event_ids: hmac::Key,
}

/// How late an event may come and still be counted in time (PROMISE, "Order and time").
pub(super) const LATENESS: Duration = Duration::from_secs(10 * 60);

/// A source that misses so many heartbeats is silent.
pub(super) const MISSED_HEARTBEATS: u32 = 3;

impl Default for Rulebook {
    fn default() -> Self {
        let event_ids = hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]);
        Self { tenants: HashMap::new(), heartbeat_every: Duration::from_secs(30), event_ids }
    }
}

#[derive(Debug, Default)]
struct TenantRules {
    backends: HashMap<String, Backends>,
    /// Labels of the egress groups by network.
    egress: NetMap<Arc<str>>,
    issuers: HashMap<String, IssuerRules>,
}

#[derive(Debug, Default)]
struct Backends {
    nets: NetMap<()>,
    asns: HashSet<u32>,
}

#[derive(Debug)]
struct IssuerRules {
    subject_space: Option<String>,
    preset: Option<IssuerPreset>,
    clients_match: Option<String>,
}

/// Where a subject's name is unique: one issuer, or a declared space that several issuers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Realm<'a> {
    Issuer(&'a str),
    Space(&'a str),
}

impl<'a> Realm<'a> {
    /// Two key parts, so that no issuer can be named like a space.
    pub(super) const fn key(self) -> [&'a str; 2] {
        match self {
            Self::Issuer(iss) => ["iss", iss],
            Self::Space(space) => ["space", space],
        }
    }
}

impl Rulebook {
    pub(crate) fn new(clients: &[ClientBackends], egress: &[Egress], issuers: &[Issuer]) -> Self {
        let mut tenants: HashMap<TenantId, TenantRules> = HashMap::new();
        for client in clients {
            let rules = tenants.entry(client.tenant.clone()).or_default();
            let backends = rules.backends.entry(client.id.clone()).or_default();
            for backend in &client.backends {
                match backend {
                    Backend::Cidr(net) => backends.nets.insert(*net, ()),
                    Backend::Asn(asn) => {
                        backends.asns.insert(*asn);
                    }
                }
            }
        }
        for group in egress {
            let label: Arc<str> = Arc::from(group.label.as_str());
            let rules = tenants.entry(group.tenant.clone()).or_default();
            for net in &group.cidrs {
                rules.egress.insert(*net, Arc::clone(&label));
            }
        }
        for issuer in issuers {
            let rules = tenants.entry(issuer.tenant.clone()).or_default();
            let issuer_rules = IssuerRules {
                subject_space: issuer.subject_space.clone(),
                preset: issuer.preset,
                clients_match: issuer.clients_match.clone(),
            };
            rules.issuers.insert(issuer.iss.clone(), issuer_rules);
        }
        Self { tenants, ..Self::default() }
    }

    /// With sources that send a heartbeat every so often.
    pub(crate) fn with_heartbeats(self, every: Duration) -> Self {
        Self { heartbeat_every: every, ..self }
    }

    /// With the key that hashes the ids by which repeats are known, [`crate::keys::event_ids`], in place of one that
    /// everybody knows.
    pub(crate) fn with_event_ids(self, event_ids: hmac::Key) -> Self {
        Self { event_ids, ..self }
    }

    pub(super) const fn event_ids(&self) -> &hmac::Key {
        &self.event_ids
    }

    /// How often a source says that it is there.
    pub(crate) const fn heartbeat_every(&self) -> Duration {
        self.heartbeat_every
    }

    /// How long a source may say nothing before it is silent.
    pub(super) fn silent_after(&self) -> Duration {
        self.heartbeat_every * MISSED_HEARTBEATS
    }

    /// After so long without any record, everything is decided that the last one of a partition could decide.
    pub(crate) fn rest_after(&self) -> Duration {
        LATENESS + self.heartbeat_every * (MISSED_HEARTBEATS + 1)
    }

    pub(super) fn realm<'a>(&'a self, tenant: &str, iss: &'a str) -> Realm<'a> {
        match self.issuer(tenant, iss).and_then(|issuer| issuer.subject_space.as_deref()) {
            Some(space) => Realm::Space(space),
            None => Realm::Issuer(iss),
        }
    }

    /// Whether the address is a declared backend of that client: an origin there is the client's.
    pub(super) fn is_backend(&self, tenant: &str, client_id: &str, ip: IpAddr, asn: u32) -> bool {
        self.tenants
            .get(tenant)
            .and_then(|rules| rules.backends.get(client_id))
            .is_some_and(|backends| backends.asns.contains(&asn) || backends.nets.get(ip).is_some())
    }

    pub(super) fn egress(&self, tenant: &str, ip: IpAddr) -> Option<&Arc<str>> {
        self.tenants.get(tenant)?.egress.get(ip)
    }

    /// Who the token's subject is; `None` if it has none.
    pub(super) fn subject_kind(&self, event: &Event<'_>, token: &ClaimedToken<'_>) -> Option<SubjectKind> {
        let sub = token.sub.as_deref()?;
        let is_client = token.subject_kind == Some(SubjectKind::Client)
            || token.client_id.as_deref() == Some(sub)
            || event.grant == Some(Grant::ClientCredentials)
            || token
                .iss
                .as_deref()
                .and_then(|iss| self.issuer(&event.tenant, iss))
                .is_some_and(|issuer| issuer.says_client(event, sub));
        Some(if is_client { SubjectKind::Client } else { SubjectKind::User })
    }

    fn issuer(&self, tenant: &str, iss: &str) -> Option<&IssuerRules> {
        self.tenants.get(tenant)?.issuers.get(iss)
    }
}

impl IssuerRules {
    fn says_client(&self, event: &Event<'_>, sub: &str) -> bool {
        let by_preset = match self.preset {
            Some(IssuerPreset::Keycloak) => {
                sub.starts_with("service-account-")
                    || unknown_claim(event, "token/preferred_username")
                        .is_some_and(|name| name.starts_with("service-account-"))
            }
            Some(IssuerPreset::Auth0) => sub.ends_with("@clients"),
            Some(IssuerPreset::Entra) => unknown_claim(event, "token/idtyp") == Some("app"),
            Some(IssuerPreset::Okta) => unknown_claim(event, "token/cid") == Some(sub),
            None => false,
        };
        by_preset || self.clients_match.as_deref().is_some_and(|pattern| matches(pattern, sub))
    }
}

/// A claim that the event's schema does not know but the gateway sent: kept among the unknown members under its path.
fn unknown_claim<'e>(event: &'e Event<'_>, path: &str) -> Option<&'e str> {
    event.extra.as_ref()?.0.get(path)?.as_str()
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    // The first place that fits is as good as any later one, except for the last part, which must end the text.
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, fits) in [
            ("svc-*", "svc-billing", true),
            ("svc-*", "alice", false),
            ("*@clients", "x@clients", true),
            ("*@clients", "x@clients2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("alice", "alice", true),
            ("alice", "alice2", false),
            ("*", "", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
