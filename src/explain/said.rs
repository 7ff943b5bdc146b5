//! What is said of one event: the document that the door answers with and `jwtrail explain` prints.

use serde::Serialize;
use serde_json::Value;

use super::STATE_HOURS;
use super::row::EventRow;
use super::trail::History;
use crate::model::{
    Case, CaseState, Confidence, Finding, FindingId, Flag, Location, NetworkKind, NotAlerted, Proof, RuleId,
    Severity, Step, UnixMs, Verdict,
};
use crate::pipeline::alert::Alerted;
use crate::pipeline::detect::{DropReason, Dropped, Ruling};
use crate::pipeline::verify::Checked;

/// What the rooms left of one record.
pub(super) enum Judged<'j, 'r> {
    Alerted {
        received_at: UnixMs,
        alerted: &'j Alerted<'r>,
        rulings: &'j [Ruling],
        /// The cases that it matched, as they stand.
        touched: Vec<Finding>,
    },
    /// No rule saw it.
    Dropped { received_at: UnixMs, dropped: &'j Dropped<'r> },
}

/// One event, explained.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Explained {
    /// As decoded: canonical JSON of version 1, masked, its time clamped.
    pub(super) event: Value,
    pub(super) received_at: UnixMs,
    /// What the source said, where the time was out of bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claimed_time: Option<UnixMs>,
    pub(super) flags: Vec<Flag>,
    /// Why the walk would drop it: it would leave no row, and no rule would see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dropped: Option<DropReason>,
    /// The tokens that lay where none may be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) masked: Vec<Masked>,
    pub(super) verdict: Verdict,
    pub(super) proof: Proof,
    /// `null` where no file and no overlay places the address.
    pub(super) place: Option<Place>,
    /// `null` where there is no address.
    pub(super) network: Option<Network>,
    /// `null` for a library and for what no pattern knows.
    pub(super) device: Option<String>,
    pub(super) geo_build: String,
    /// Every rule, in the order of the README's table.
    pub(super) rules: Vec<Ruled>,
    /// The cases that the event touches in the rebuilt state.
    pub(super) cases: Vec<Touched>,
    /// The cases in ClickHouse that list it; only for a stored event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stored_cases: Vec<Stored>,
    /// Where its row says otherwise than the walk does now; only for a stored event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) differs: Vec<String>,
    pub(super) state: State,
    /// What `state` means, in a sentence.
    pub(super) note: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Masked {
    /// A JSON pointer, `header:NAME` or `key`.
    pub(super) field: String,
    pub(super) token_ref: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Place {
    pub(super) city: String,
    pub(super) country: String,
    /// Whether the second source names the same country; `null` if it does not know.
    pub(super) country_confirmed: Option<bool>,
    /// Degrees.
    pub(super) lat: f64,
    pub(super) lon: f64,
    /// The radius within which the address is thought to be.
    pub(super) accuracy_km: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Network {
    /// 0 if unknown.
    pub(super) asn: u32,
    pub(super) as_org: String,
    pub(super) kind: NetworkKind,
    /// The overlay's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Ruled {
    pub(super) rule: RuleId,
    pub(super) fired: bool,
    pub(super) why: String,
}

/// A case with this event in it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Touched {
    pub(super) finding_id: FindingId,
    pub(super) rule: RuleId,
    pub(super) state: CaseState,
    pub(super) severity: Severity,
    pub(super) confidence: Confidence,
    /// What lowered the deciding pair, each by name.
    pub(super) lowered_by: Vec<String>,
    pub(super) title: String,
    pub(super) summary: String,
    /// In the rebuilt state: other subjects' matches are not in it.
    pub(super) event_count: u64,
    pub(super) is_alert: bool,
    pub(super) not_alerted: Option<NotAlerted>,
    pub(super) suppressed_by: String,
    /// The step that this very event makes; `null` if nobody would be told because of it.
    pub(super) alert: Option<Step>,
    /// Whether someone is told, and why not, in a sentence.
    pub(super) told: String,
}

/// A case as it stands in ClickHouse.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stored {
    pub(super) finding_id: FindingId,
    pub(super) rule: RuleId,
    pub(super) severity: Severity,
    pub(super) told: String,
}

/// What the state was rebuilt from.
#[derive(Clone, Debug, Serialize)]
pub(super) struct State {
    #[serde(skip)]
    of_subject: bool,
    hours: u64,
    rows: u64,
    /// There were more rows; only the newest were walked.
    cut: bool,
    /// Rows that this version cannot read as events.
    pub(super) unreadable: u64,
    /// Events of the same body and subject that were walked before.
    pub(super) posted_before: u64,
}

impl State {
    pub(super) const fn new(history: &History) -> Self {
        let History { of_subject, rows, cut } = history;
        let (rows, cut) = (rows.len() as u64, *cut);
        Self { of_subject: *of_subject, hours: STATE_HOURS, rows, cut, unreadable: 0, posted_before: 0 }
    }

    fn note(&self) -> String {
        let Self { of_subject, hours, rows, cut, unreadable, posted_before } = self;
        let mut note = if *of_subject {
            format!(
                "state was rebuilt from the last {hours} h of the subject, {}",
                counted(*rows, "row", "rows")
            )
        } else {
            "the event names no subject whose state could be rebuilt".to_owned()
        };
        if *posted_before > 0 {
            note.push_str(&format!(
                ", and {} of this body before it",
                counted(*posted_before, "event", "events")
            ));
        }
        if *cut {
            note.push_str("; it left more, only the newest were walked");
        }
        if *of_subject {
            note.push_str("; origins that took longer to become usual are not known to it");
        }
        if *unreadable > 0 {
            note.push_str(&format!("; {} could not be read as events", counted(*unreadable, "row", "rows")));
        }
        note
    }
}

pub(super) fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

impl Explained {
    pub(super) fn new(judged: Judged<'_, '_>, state: State) -> Self {
        let (received_at, alerted, rulings, touched) = match judged {
            Judged::Alerted { received_at, alerted, rulings, touched } => {
                (received_at, alerted, rulings, touched)
            }
            Judged::Dropped { received_at, dropped } => {
                let dropped_as = Some(dropped.reason);
                return Self { dropped: dropped_as, ..Self::bare(&dropped.checked, received_at, state) };
            }
        };
        let enriched = &alerted.enriched;
        let location = enriched.location.as_ref();
        let ruled =
            |ruling: &Ruling| Ruled { rule: ruling.rule, fired: ruling.fired(), why: ruling.why.to_string() };
        Self {
            place: location.and_then(Place::of),
            network: location.map(Network::of),
            device: enriched.device.as_ref().map(|device| device.name.to_string()),
            geo_build: enriched.geo_build.to_string(),
            rules: rulings.iter().map(ruled).collect(),
            cases: touched.iter().map(|finding| Touched::of(finding, alerted)).collect(),
            ..Self::bare(&enriched.checked, received_at, state)
        }
    }

    /// What is known of it before it is placed and judged.
    fn bare(checked: &Checked<'_>, received_at: UnixMs, state: State) -> Self {
        let decoded = &checked.decoded;
        let masked = decoded.leaks.iter();
        Self {
            // Names are strings and numbers finite: an event can always be written.
            event: serde_json::to_value(&decoded.event).unwrap_or_default(),
            received_at,
            claimed_time: decoded.event.claimed_time,
            flags: decoded.flags.iter().collect(),
            dropped: None,
            masked: masked
                .map(|leak| Masked { field: leak.field.clone(), token_ref: leak.token_ref.clone() })
                .collect(),
            verdict: checked.verdict,
            proof: checked.proof,
            place: None,
            network: None,
            device: None,
            geo_build: String::new(),
            rules: Vec::new(),
            cases: Vec::new(),
            stored_cases: Vec::new(),
            differs: Vec::new(),
            note: state.note(),
            state,
        }
    }

    /// Notes where the row says otherwise: configuration or geo files are not those that it was walked with, or the
    /// token lay beside the event's value, which no row keeps.
    pub(super) fn compare(&mut self, row: &EventRow) {
        let place = self.place.as_ref();
        let now = [
            ("verdict", self.verdict.as_str().to_owned()),
            ("proof", self.proof.to_string()),
            ("country", place.map_or_else(String::new, |place| place.country.clone())),
            ("city", place.map_or_else(String::new, |place| place.city.clone())),
            ("device", self.device.clone().unwrap_or_default()),
            ("flags", self.flags.iter().map(|flag| flag.as_str()).collect::<Vec<_>>().join(", ")),
        ];
        let then = [
            row.verdict.clone(),
            row.proof.to_string(),
            row.country.clone(),
            row.city.clone(),
            row.device.clone(),
            row.flags.join(", "),
        ];
        let word = |text: &str| if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") };
        for ((what, now), then) in now.iter().zip(&then) {
            if now != then {
                self.differs.push(format!("{what}: its row says {}, now it is {}", word(then), word(now)));
            }
        }
        if !self.differs.is_empty() && self.geo_build != row.geo_build {
            self.differs.push(format!("geo files: then {}, now {}", row.geo_build, self.geo_build));
        }
    }

    pub(super) fn stored_cases(&mut self, findings: &[Finding]) {
        let stored = |finding: &Finding| Stored {
            finding_id: finding.case.finding_id,
            rule: finding.case.rule,
            severity: finding.case.severity,
            told: told(finding),
        };
        self.stored_cases = findings.iter().map(stored).collect();
    }
}

impl Place {
    fn of(location: &Location) -> Option<Self> {
        let place = location.place.as_deref()?;
        Some(Self {
            city: place.city.to_string(),
            country: place.country.to_string(),
            country_confirmed: location.country_confirmed,
            lat: place.lat,
            lon: place.lon,
            accuracy_km: place.accuracy_km,
        })
    }
}

impl Network {
    fn of(location: &Location) -> Self {
        let network = &location.network;
        Self {
            asn: network.asn,
            as_org: network.as_org.to_string(),
            kind: network.kind,
            label: network.label.as_ref().map(ToString::to_string),
        }
    }
}

impl Touched {
    fn of(finding: &Finding, alerted: &Alerted<'_>) -> Self {
        let Finding { case, is_alert, not_alerted, suppressed_by } = finding;
        let Case { finding_id, rule, .. } = *case;
        let made = alerted.found.alerts.iter().find(|alert| alert.data.finding.case.finding_id == finding_id);
        let step = made.map(|alert| alert.step);
        let told = match step {
            Some(Step::Opened) => "this event makes it an alert".to_owned(),
            Some(Step::Raised) => "this event raises the alert".to_owned(),
            None if *is_alert => "an alert already: nobody is told again".to_owned(),
            None => told(finding),
        };
        Self {
            finding_id,
            rule,
            state: case.state,
            severity: case.severity,
            confidence: case.confidence,
            lowered_by: case.lowered_by.clone(),
            title: case.title.clone(),
            summary: case.summary.clone(),
            event_count: case.event_count,
            is_alert: *is_alert,
            not_alerted: *not_alerted,
            suppressed_by: suppressed_by.clone(),
            alert: step,
            told,
        }
    }
}

/// Whether someone was told of a finding, and why not.
pub(super) fn told(finding: &Finding) -> String {
    let case = &finding.case;
    match finding.not_alerted {
        _ if finding.is_alert => "an alert".to_owned(),
        Some(NotAlerted::Severity) => format!("no alert: severity {} is below medium", case.severity),
        Some(NotAlerted::Confidence) => format!("no alert: confidence {} is below medium", case.confidence),
        Some(NotAlerted::Suppressed) => format!("no alert: suppressed by {}", finding.suppressed_by),
        Some(NotAlerted::Learning) => "no alert: its rule is still learning".to_owned(),
        None => "no alert".to_owned(),
    }
}
