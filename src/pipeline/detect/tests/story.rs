//! The language of the stories.
//!
//! ```text
//! t+40m alice tokyo device=curl token=t1 kind=hosting
//! ```
//!
//! Times are of the event; it arrives a second later, or at `arrives+30h`, and never before the line above it. Words:
//! `device=NAME` (`-`: unknown), `token= family= sid= client= tenant= iss= gateway= zone= verdict= ip= asn= kind= label=
//! radius= ja4= exp= idtyp= cid=
//! preferred_username= leak=OWNER:FIELD`, and the bare `rejected`, `clamped`, `unconfirmed`, `proved`, `guessed` (the place's radius is not
//! its own), `nowhere` (no place).

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::config::{Backend, ClientBackends, Egress, Issuer, IssuerPreset};
use crate::log::Batch;
use crate::model::{
    Case, CaseUpdate, ClaimedToken, Confirmation, Event, Extra, Flag, Flags, GatewayVerdict, Kind, Leak,
    LeakOwner, Location, Network, NetworkKind, Offset, PartitionId, Place, Proof, Request, RuleId, Source,
    UnixMs, Verdict, Zone,
};
use crate::pipeline::decode::Decoded;
use crate::pipeline::detect::{Assessed, Detector, Rulebook};
use crate::pipeline::enrich::{Device, Enriched};
use crate::pipeline::verify::Checked;

/// 2026-11-23T00:00:00Z.
pub(in crate::pipeline) const T0: i64 = 1_795_392_000_000;

/// One use, as an owner of all its parts.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct Line {
    pub(in crate::pipeline) time_ms: i64,
    pub(in crate::pipeline) arrives_ms: i64,
    pub(in crate::pipeline) sub: String,
    pub(in crate::pipeline) tenant: String,
    pub(in crate::pipeline) iss: String,
    pub(in crate::pipeline) gateway: String,
    pub(in crate::pipeline) client_id: String,
    pub(in crate::pipeline) token: Option<String>,
    pub(in crate::pipeline) family: Option<String>,
    pub(in crate::pipeline) sid: Option<String>,
    pub(in crate::pipeline) exp: Option<i64>,
    pub(in crate::pipeline) zone: Zone,
    pub(in crate::pipeline) kind: Kind,
    pub(in crate::pipeline) verdict: GatewayVerdict,
    pub(in crate::pipeline) ip: IpAddr,
    pub(in crate::pipeline) location: Location,
    pub(in crate::pipeline) device: Option<String>,
    pub(in crate::pipeline) ja4: Option<String>,
    pub(in crate::pipeline) proved: bool,
    pub(in crate::pipeline) flags: Flags,
    pub(in crate::pipeline) leaks: Vec<Leak>,
    /// Claims that the schema does not know.
    pub(in crate::pipeline) claims: Vec<(String, String)>,
    pub(in crate::pipeline) id: Uuid,
}

/// Where the stories play: city, country, latitude, longitude, address, ASN.
const PLACES: &[(&str, &str, f64, f64, &str, u32)] = &[
    ("Paris", "FR", 48.8566, 2.3522, "192.0.2.7", 64496),
    ("Tokyo", "JP", 35.6762, 139.6503, "198.51.100.7", 64497),
    ("Newyork", "US", 40.7128, -74.0060, "203.0.113.7", 64498),
    ("Lyon", "FR", 45.7640, 4.8357, "2001:db8:1::7", 64499),
    ("Berlin", "DE", 52.5200, 13.4050, "2001:db8:2::7", 64500),
    ("Madrid", "ES", 40.4168, -3.7038, "2001:db8:3::7", 64501),
    ("Nice", "FR", 43.7102, 7.2620, "2001:db8:4::7", 64502),
    ("Sydney", "AU", -33.8688, 151.2093, "2001:db8:5::7", 64503),
    ("Lille", "FR", 50.6292, 3.0573, "2001:db8:6::7", 64504),
];

/// The location of a city of the stories, and the address there.
pub(in crate::pipeline) fn city(name: &str) -> (Location, IpAddr) {
    let known = PLACES.iter().enumerate().find(|(_, place)| place.0.eq_ignore_ascii_case(name));
    let (index, &(city, country, lat, lon, ip, asn)) = known.unwrap_or_else(|| panic!("no city {name}"));
    let place = Place {
        country: Arc::from(country),
        subdivision: Arc::from(""),
        city: Arc::from(city),
        lat,
        lon,
        accuracy_km: 20.0,
        own_radius: true,
        entry: index as u64,
    };
    let network =
        Network { asn, as_org: Arc::from(format!("{city} Net")), kind: NetworkKind::Access, label: None };
    let location = Location { place: Some(Arc::new(place)), network, country_confirmed: Some(true) };
    (location, ip.parse().unwrap())
}

impl Line {
    /// A use of alice's by default: Chrome on Windows, one token, one gateway.
    pub(in crate::pipeline) fn new(time_ms: i64, sub: &str, place: &str) -> Self {
        let (location, ip) = city(place);
        Self {
            time_ms,
            arrives_ms: time_ms + 1_000,
            sub: sub.to_owned(),
            tenant: "acme".to_owned(),
            iss: "https://id.example".to_owned(),
            gateway: "edge-1".to_owned(),
            client_id: "web".to_owned(),
            token: Some(format!("{sub}-token")),
            family: None,
            sid: None,
            exp: Some(T0 / 1_000 + 7 * 24 * 3_600),
            zone: Zone::Edge,
            kind: Kind::Accepted,
            verdict: GatewayVerdict::Valid,
            ip,
            location,
            device: Some("Chrome on Windows".to_owned()),
            ja4: None,
            proved: false,
            flags: Flags::default(),
            leaks: Vec::new(),
            claims: Vec::new(),
            id: Uuid::nil(),
        }
    }

    fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut next = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
        let (time, sub, place) = (T0 + span_ms(next().strip_prefix("t+").unwrap()), next(), next());
        let mut line = Self::new(time, sub, place);
        for word in words {
            line.set(word);
        }
        line
    }

    fn set(&mut self, word: &str) {
        if let Some(span) = word.strip_prefix("arrives+") {
            self.arrives_ms = T0 + span_ms(span);
            return;
        }
        let place = |change: &dyn Fn(&mut Place), location: &mut Location| {
            change(Arc::make_mut(location.place.as_mut().unwrap()));
        };
        let Some((name, value)) = word.split_once('=') else {
            match word {
                "rejected" => self.kind = Kind::Rejected,
                "clamped" => self.flags.set(Flag::ClockSkewed),
                "unconfirmed" => self.location.country_confirmed = Some(false),
                "proved" => self.proved = true,
                "guessed" => place(&|place| place.own_radius = false, &mut self.location),
                "nowhere" => self.location.place = None,
                _ => panic!("no word {word}"),
            }
            return;
        };
        let text = value.to_owned();
        match name {
            "device" => self.device = (value != "-").then_some(text),
            "token" => self.token = (value != "-").then_some(text),
            "family" => self.family = Some(text),
            "sid" => self.sid = Some(text),
            "client" => self.client_id = text,
            "tenant" => self.tenant = text,
            "iss" => self.iss = text,
            "gateway" => self.gateway = text,
            "ja4" => self.ja4 = Some(text),
            "zone" => self.zone = Zone::parse(value).unwrap(),
            "verdict" => self.verdict = GatewayVerdict::parse(value).unwrap(),
            "ip" => self.ip = value.parse().unwrap(),
            "asn" => self.location.network.asn = value.parse().unwrap(),
            "kind" => self.location.network.kind = NetworkKind::parse(value).unwrap(),
            "label" => self.location.network.label = Some(Arc::from(value)),
            "radius" => place(&|place| place.accuracy_km = value.parse().unwrap(), &mut self.location),
            "leak" => {
                let (owner, field) = value.split_once(':').unwrap();
                let owner = match owner {
                    "client" => LeakOwner::Client,
                    "token" => LeakOwner::Token,
                    "gateway" => LeakOwner::Gateway,
                    _ => panic!("no owner {owner}"),
                };
                self.leaks.push(Leak { field: field.to_owned(), owner, token_ref: "leaked-ref".to_owned() });
            }
            "idtyp" | "cid" | "preferred_username" => self.claims.push((format!("token/{name}"), text)),
            "exp" => self.exp = Some((T0 + span_ms(value)) / 1_000),
            _ => panic!("no word {word}"),
        }
    }

    pub(in crate::pipeline) fn enriched(&self) -> Enriched<'_> {
        let text = |text: &'_ str| Cow::Owned(text.to_owned());
        let key = self.proved.then_some(Confirmation { jkt: Some(Cow::Borrowed("key")), x5t_s256: None });
        let event = Event {
            version: 1,
            id: self.id,
            kind: self.kind,
            time: UnixMs::new(self.time_ms),
            claimed_time: None,
            tenant: text(&self.tenant),
            source: Source {
                gateway: text(&self.gateway),
                zone: self.zone,
                region: None,
                epoch: None,
                seq: None,
            },
            token: Some(ClaimedToken {
                token_ref: self.token.as_deref().map(text),
                iss: Some(text(&self.iss)),
                sub: Some(text(&self.sub)),
                client_id: Some(text(&self.client_id)),
                family: self.family.as_deref().map(text),
                sid: self.sid.as_deref().map(text),
                exp: self.exp,
                cnf: key.clone(),
                ..ClaimedToken::default()
            }),
            request: Some(Request {
                ip: Some(self.ip),
                ja4: self.ja4.as_deref().map(text),
                presented_cnf: key,
                ..Request::default()
            }),
            gateway_verdict: Some(self.verdict),
            grant: None,
            login: None,
            retry: false,
            heartbeat: None,
            ledger_mark: None,
            extra: (!self.claims.is_empty()).then(|| {
                Extra(self.claims.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect())
            }),
        };
        let decoded =
            Decoded { event, flags: self.flags, leaks: self.leaks.clone(), origin: None, retried: None };
        let (verdict, proof) = (Verdict::Token(self.verdict), Proof::None);
        let checked = Checked { decoded, verdict, proof, attested_by: None };
        Enriched {
            checked,
            location: Some(self.location.clone()),
            device: self.device.as_deref().map(|name| Device { name: Arc::from(name) }),
            geo_build: Arc::from("test"),
        }
    }
}

fn span_ms(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => panic!("no span {text}"),
    };
    number.parse::<i64>().unwrap_or_else(|_| panic!("no span {text}")) * unit
}

/// The lines of a story, each with an id by its place.
pub(in crate::pipeline) fn lines(story: &str) -> Vec<Line> {
    let mut arrived = i64::MIN;
    story
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .enumerate()
        .map(|(index, line)| {
            let mut line = Line::parse(line);
            line.id = Uuid::from_u128(index as u128 + 1);
            line.arrives_ms = line.arrives_ms.max(arrived);
            arrived = line.arrives_ms;
            line
        })
        .collect()
}

/// Walks lines through a detector as they lie, in batches of `cut`.
pub(in crate::pipeline) fn walk(
    detector: &mut Detector,
    rules: &Rulebook,
    lines: &[Line],
    cut: usize,
    mut each: impl FnMut(&Assessed<'_>),
) {
    let mut offset = 0;
    for lines in lines.chunks(cut) {
        offset = walk_batch(detector, rules, lines, offset, |assessed| each(&assessed));
    }
}

/// Walks lines as one batch, and gives away what each leaves.
pub(in crate::pipeline) fn walk_into(
    detector: &mut Detector,
    rules: &Rulebook,
    lines: &[Line],
    each: impl FnMut(Assessed<'_>),
) {
    walk_batch(detector, rules, lines, 0, each);
}

/// Walks lines as one batch that begins at `offset`; returns the offset after it.
pub(super) fn walk_batch(
    detector: &mut Detector,
    rules: &Rulebook,
    lines: &[Line],
    mut offset: i64,
    mut each: impl FnMut(Assessed<'_>),
) -> i64 {
    let mut batch = Batch::default();
    batch.clear(PartitionId(0));
    for line in lines {
        batch.push(Offset::new(offset).unwrap(), UnixMs::new(line.arrives_ms), None, b"", []);
        offset += 1;
    }
    for (line, record) in lines.iter().zip(batch.iter()) {
        each(detector.detect(line.enriched(), &record, rules));
    }
    offset
}

/// Every revision, in order.
pub(in crate::pipeline) fn revisions(lines: &[Line], rules: &Rulebook) -> Vec<CaseUpdate> {
    let mut updates = Vec::new();
    walk(&mut Detector::default(), rules, lines, 16, |assessed| {
        updates.extend(assessed.cases.iter().cloned())
    });
    updates
}

/// The cases as they stood at last, in the order in which they opened.
pub(in crate::pipeline) fn cases(lines: &[Line], rules: &Rulebook) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for CaseUpdate { case, .. } in revisions(lines, rules) {
        match cases.iter_mut().find(|known| known.finding_id == case.finding_id) {
            Some(known) => *known = case,
            None => cases.push(case),
        }
    }
    cases
}

/// One line a case: `impossible_travel alice medium/high 9712 km in 40 min, needs 8.9 h`.
pub(in crate::pipeline) fn tell(case: &Case) -> String {
    let number = |name: &str| case.evidence[name].as_f64().unwrap_or_default();
    let yes = |name: &str| case.evidence[name] == true;
    let detail = match case.rule {
        RuleId::ImpossibleTravel => {
            let gap = if yes("concurrent") {
                "at once".to_owned()
            } else {
                format!("in {:.0} min", number("gap_s") / 60.0 - 1.0)
            };
            format!("{:.0} km {gap}, needs {:.1} h", number("distance_km"), number("needed_s") / 3_600.0)
        }
        RuleId::TokenReplay => {
            let facts: Vec<&str> =
                ["dev", "class", "country", "overlap"].into_iter().filter(|name| yes(name)).collect();
            facts.join("+")
        }
        RuleId::SharedToken => format!("{} origins", number("origins")),
        RuleId::TokenLeak | RuleId::TokenInRequest => {
            format!("{} {}", case.gateway, case.evidence["field"].as_str().unwrap_or_default())
        }
        _ => case.title.clone(),
    };
    let lowered = if case.lowered_by.is_empty() {
        String::new()
    } else {
        format!(" lowered by {}", case.lowered_by.join(", "))
    };
    let closed = if case.state == crate::model::CaseState::Closed { " closed" } else { "" };
    format!("{} {} {}/{} {detail}{lowered}{closed}", case.rule, case.sub, case.severity, case.confidence)
}

/// What a story comes to, for rules of which the name begins with `rule`: its cases, or why the last line is silent.
pub(in crate::pipeline) fn outcome(story: &str, rule: &str, rules: &Rulebook) -> String {
    let lines = lines(story);
    let told: Vec<String> =
        cases(&lines, rules).iter().filter(|case| case.rule.as_str().starts_with(rule)).map(tell).collect();
    if !told.is_empty() {
        return told.join("\n");
    }
    let mut last = Vec::new();
    walk(&mut Detector::default(), rules, &lines, 16, |assessed| last = assessed.rulings.to_vec());
    let silent: Vec<String> = last
        .iter()
        .filter(|ruling| ruling.rule.as_str().starts_with(rule))
        .map(|ruling| ruling.why.to_string())
        .collect();
    silent.join("\n")
}

/// What the stories with declarations declare, for tenant `acme`.
pub(in crate::pipeline) fn rulebook() -> Rulebook {
    let tenant = || "acme".parse().unwrap();
    let issuer = |iss: &str, space: Option<&str>, preset, clients_match: Option<&str>| Issuer {
        iss: iss.to_owned(),
        tenant: tenant(),
        jwks: None,
        subject_space: space.map(str::to_owned),
        preset,
        clients_match: clients_match.map(str::to_owned),
        max_lifetime: None,
    };
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    Rulebook::new(
        &[ClientBackends {
            id: "shop".to_owned(),
            tenant: tenant(),
            backends: vec![Backend::Cidr("203.0.113.0/25".parse().unwrap()), Backend::Asn(64510)],
        }],
        &[Egress {
            tenant: tenant(),
            label: "head office".to_owned(),
            cidrs: nets(&["198.51.100.128/25", "203.0.113.128/25"]),
        }],
        &[
            issuer("https://keycloak.example", None, Some(IssuerPreset::Keycloak), None),
            issuer("https://auth0.example", None, Some(IssuerPreset::Auth0), None),
            issuer("https://entra.example", None, Some(IssuerPreset::Entra), None),
            issuer("https://okta.example", None, Some(IssuerPreset::Okta), None),
            issuer("https://own.example", None, None, Some("svc-*")),
            issuer("https://eu.example", Some("staff"), None, None),
            issuer("https://us.example", Some("staff"), None, None),
        ],
    )
}
