//! An alert as a block of text for a terminal.

use std::fmt::Write;

use serde_json::Value;

use crate::model::{Alert, Case, RuleId, Severity, Step};

/// Who, what, from where to where, why it is as severe as it is, and the command that explains it. Ends with a newline.
pub(crate) fn text_block(alert: &Alert) -> String {
    let case = &alert.data.finding.case;
    let step = match alert.step {
        Step::Opened => "",
        Step::Raised => " (raised)",
    };
    let mut text = case_block(case, step);
    line(&mut text, &format!("  more jwtrail explain {}", case.finding_id));
    text
}

/// The same of a case, with a `note` behind its severity, and no command.
pub(crate) fn case_block(case: &Case, note: &str) -> String {
    let mut text = String::new();
    let severity = case.severity.as_str().to_uppercase();
    line(&mut text, &format!("{severity}{}  {}  {}", clean(note), case.rule, clean(&whom(case))));
    for (label, end) in [("from", case.evidence.get("from")), ("to  ", case.evidence.get("to"))] {
        if let Some(end) = end {
            line(&mut text, &format!("  {label} {}", clean(&end_line(end))));
        }
    }
    line(&mut text, &format!("  what {}", clean(&case.summary)));
    line(&mut text, &format!("  why {}", why(case)));
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// `TENANT/SUBJECT`, or `TENANT/GATEWAY`; of a case that concerns neither its tenant alone.
fn whom(case: &Case) -> String {
    match (case.sub.as_str(), case.gateway.as_str()) {
        ("", "") => case.tenant.clone(),
        ("", whom) | (whom, _) => format!("{}/{whom}", case.tenant),
    }
}

/// `10:15:00 Paris, FR ±20 km  198.51.100.7  AS64500 Orange (access)  Firefox on Windows`.
pub(crate) fn end_line(end: &Value) -> String {
    let text = |name: &str| end.get(name).and_then(Value::as_str).unwrap_or_default();
    let time = text("time").get(11..19).unwrap_or_default();
    let place = match (text("city"), text("country")) {
        ("", "") => "unknown place".to_owned(),
        ("", country) => country.to_owned(),
        (city, country) => format!("{city}, {country}"),
    };
    let radius = end
        .get("accuracy_km")
        .and_then(Value::as_f64)
        .map_or_else(String::new, |radius| format!(" ±{radius:.0} km"));
    let asn = end.get("asn").and_then(Value::as_u64).unwrap_or_default();
    let device = if text("device").is_empty() { "unknown device" } else { text("device") };
    format!(
        "{time} {place}{radius}  {}  AS{asn} {} ({})  {device}",
        text("ip"),
        text("as_org"),
        text("network_kind")
    )
}

/// Why this severity, in the rule's own facts.
pub(crate) fn why(case: &Case) -> String {
    let fact = |name: &str| case.evidence.get(name).and_then(Value::as_bool).unwrap_or(false);
    let reason = match (case.rule, case.severity) {
        (RuleId::ImpossibleTravel, Severity::High) => "one session at both ends, on two devices",
        (RuleId::ImpossibleTravel, _) if fact("same_session") => {
            "one session at both ends, no second device seen"
        }
        (RuleId::ImpossibleTravel, _) => "two sessions of one subject",
        (RuleId::TokenReplay, Severity::High) if fact("overlap") => {
            "another device elsewhere, in turns with the first"
        }
        (RuleId::TokenReplay, Severity::High) => "another device elsewhere",
        (RuleId::TokenReplay, _) => "two origins in turns, no second device seen",
        (RuleId::SharedToken, _) => "five or more origins that cannot be one user's",
        (RuleId::TokenLeak, Severity::High) => "a live token lay in a field of token.*",
        (RuleId::TokenLeak, _) => "the token had expired, or lay outside token.*",
        (RuleId::TokenInRequest, _) => "a client's own doing",
        (RuleId::AuditGap, Severity::High) => {
            "a hundredth of what it counted, or 1,000 events, within an hour"
        }
        (RuleId::AuditGap, Severity::Low) => "at most ten events, which a crash may have taken with it",
        (RuleId::AuditGap, _) => "what the gateway counted and what arrived differ",
        (RuleId::GatewaySilent, Severity::High) => "a whole zone is silent",
        (RuleId::GatewaySilent, Severity::Info) => "it said that it stops",
        (RuleId::GatewaySilent, _) => "three of its heartbeats are missing",
        (RuleId::GatewayMissesClientIp | RuleId::GatewayClockSkew, Severity::Low) => {
            "at least 5 % of an hour"
        }
        (RuleId::GatewayMissesClientIp | RuleId::GatewayClockSkew, _) => "at least half of an hour",
        (RuleId::AlertStorm, _) => "more cases at once than anyone can read",
        (RuleId::LogTruncated, _) => "what was not walked is not audited",
        (RuleId::DeliveryGivenUp, _) => "somebody was not told",
    };
    format!("{}, confidence {}: {reason}", case.severity, case.confidence)
}

/// Names come from tokens: nothing that steers the terminal may reach it, nor what shows a text in another order than it
/// is read, or not at all.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|character| if steers(character) { '\u{fffd}' } else { character }).collect()
}

/// Controls, separators of lines, bidirectional controls (UAX 9), and what has no width and joins nothing.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn what_steers_a_terminal_or_hides_is_shown_as_such() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text), expected, "{text:?}");
        check("alice\u{1b}[2J\n\u{9b}\u{7f}", "alice\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}");
        check(
            "\u{202e}ecila\u{202c} \u{2066}a\u{2069}\u{200f}\u{61c}",
            "\u{fffd}ecila\u{fffd} \u{fffd}a\u{fffd}\u{fffd}\u{fffd}",
        );
        check("a\u{2028}b\u{feff}c\u{200b}d\u{e0041}", "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}");
        // Names of people: joiners, marks and scripts from right to left stay.
        for name in ["Zoë", "नी\u{200d}", "می\u{200c}خواهم", "שרה", "日本"] {
            check(name, name);
        }
    }
}
