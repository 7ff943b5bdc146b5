//! Explanations as text for a terminal. Every line is cleaned: names come from tokens, and no control character of
//! theirs may reach it.

use std::fmt;

use serde_json::Value;

use super::Found;
use super::said::{Explained, Network, Place, Ruled, Touched, counted};
use super::story::Story;
use crate::pipeline::alert::{clean, end_line};
use crate::pipeline::detect::info;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(explained) => explained.fmt(f),
            Self::Case(story) => story.fmt(f),
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = |pointer: &str| self.event.pointer(pointer).and_then(Value::as_str).unwrap_or("–");
        let mut page = Page(f);
        page.line(&format!("event {}  {}/{}", event("/id"), event("/tenant"), event("/token/sub")))?;
        let claimed =
            self.claimed_time.map_or_else(String::new, |claimed| format!(", the source said {claimed}"));
        page.line(&format!(
            "  what     {} at gateway {} ({}), {}{claimed}",
            event("/kind"),
            event("/source/gateway"),
            event("/source/zone"),
            event("/time")
        ))?;
        page.line(&format!("  verdict  {}, proof {}", self.verdict.as_str(), self.proof))?;
        if let Some(reason) = self.dropped {
            page.line(&format!(
                "  dropped  {reason}: an event of this gateway and id was walked within the last ten minutes; no rule sees it"
            ))?;
            page.line(&format!("note  {}", self.note))?;
            return page.json("as decoded", &self.event);
        }
        page.line(&format!("  place    {}", place(self.place.as_ref())))?;
        page.line(&format!(
            "  network  {}  {}",
            event("/request/ip"),
            self.network.as_ref().map_or_else(|| "no address".to_owned(), network)
        ))?;
        page.line(&format!("  device   {}", self.device.as_deref().unwrap_or("unknown, or a library")))?;
        if !self.flags.is_empty() {
            let flags: Vec<&str> = self.flags.iter().map(|flag| flag.as_str()).collect();
            page.line(&format!("  flags    {}", flags.join(", ")))?;
        }
        for masked in &self.masked {
            page.line(&format!("  masked   token {} at {}", masked.token_ref, masked.field))?;
        }
        page.line("rules")?;
        for Ruled { rule, why, .. } in &self.rules {
            page.line(&format!("  {rule:<18} {why}"))?;
        }
        for case in &self.cases {
            page.touched(case)?;
        }
        for case in &self.stored_cases {
            let (id, rule, severity, told) = (case.finding_id, case.rule, case.severity, &case.told);
            page.line(&format!("in ClickHouse  {rule} {severity}, {told}; jwtrail explain {id}"))?;
        }
        for difference in &self.differs {
            page.line(&format!("differs  {difference}"))?;
        }
        if !self.differs.is_empty() {
            page.line("         the walk had other geo files or another configuration (the demo's: --demo)")?;
        }
        page.line(&format!("note  {}", self.note))?;
        page.json("as decoded", &self.event)
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = &self.finding.case;
        let mut page = Page(f);
        let severity = case.severity.as_str().to_uppercase();
        let whom = if case.sub.is_empty() { &case.gateway } else { &case.sub };
        page.line(&format!("case {}  {severity}  {}  {}/{whom}", case.finding_id, case.rule, case.tenant))?;
        page.line(&format!("  {}", case.title))?;
        let rule = info(case.rule);
        page.line(&format!("  rule     {} (by default {})", rule.says, rule.severity))?;
        page.line(&format!("  what     {}", case.summary))?;
        for (label, end) in [("from", case.evidence.get("from")), ("to  ", case.evidence.get("to"))] {
            if let Some(end) = end {
                page.line(&format!("  {label}     {}", end_line(end)))?;
            }
        }
        page.line(&format!("  why      {}", self.why))?;
        if !case.lowered_by.is_empty() {
            page.line(&format!("  lowered  by {}", case.lowered_by.join(", ")))?;
        }
        let until = self.suppressed_until.map_or_else(String::new, |until| format!(", until {until}"));
        page.line(&format!("  told     {}{until}", self.told))?;
        page.line(&format!(
            "  when     {} to {}, {}, {}",
            case.first_time,
            case.last_time,
            case.state,
            counted(case.event_count, "match", "matches")
        ))?;
        page.line(&format!("  revoke   {}", self.help.would_revoke))?;
        page.line(&format!("  runbook  {}", self.help.runbook_url))?;
        page.line("events")?;
        for event in &self.events {
            let id = event["event_id"].as_str().unwrap_or_default();
            page.line(&format!("  {id}  {}", end_line(event)))?;
        }
        page.line("more")?;
        page.line("  jwtrail explain EVENT says of each what every rule made of it")?;
        page.line(&format!("  {}", self.help.query))?;
        page.json("evidence", &case.evidence)
    }
}

/// Lines of text.
struct Page<'f, 'o>(&'f mut fmt::Formatter<'o>);

impl Page<'_, '_> {
    fn line(&mut self, line: &str) -> fmt::Result {
        writeln!(self.0, "{}", clean(line))
    }

    fn touched(&mut self, case: &Touched) -> fmt::Result {
        let Touched { finding_id, rule, severity, confidence, told, .. } = case;
        self.line(&format!("case {finding_id}  {rule}, severity {severity}, confidence {confidence}"))?;
        self.line(&format!("  what     {}", case.summary))?;
        if !case.lowered_by.is_empty() {
            self.line(&format!("  lowered  by {}", case.lowered_by.join(", ")))?;
        }
        self.line(&format!("  told     {told}"))
    }

    fn json(&mut self, label: &str, value: &Value) -> fmt::Result {
        self.line(label)?;
        // A JSON value can always be written.
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        text.lines().try_for_each(|line| self.line(&format!("  {line}")))
    }
}

fn place(place: Option<&Place>) -> String {
    let Some(place) = place else { return "unknown".to_owned() };
    let name = match (place.city.as_str(), place.country.as_str()) {
        ("", "") => "unnamed".to_owned(),
        ("", name) | (name, "") => name.to_owned(),
        (city, country) => format!("{city}, {country}"),
    };
    let confirmed = match place.country_confirmed {
        Some(true) => ", country confirmed by a second source",
        Some(false) => ", a second source names another country",
        None => "",
    };
    format!("{name} ±{:.0} km{confirmed}", place.accuracy_km)
}

fn network(network: &Network) -> String {
    let label = network.label.as_ref().map_or_else(String::new, |label| format!(", {label}"));
    match network.asn {
        0 => format!("no known AS ({}{label})", network.kind),
        asn => format!("AS{asn} {} ({}{label})", network.as_org, network.kind),
    }
}
