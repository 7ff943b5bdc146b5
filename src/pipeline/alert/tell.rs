//! What helps whoever is told: the runbook, one ready query, and what a revocation would take with it.

use serde_json::Value;

use crate::model::{Case, RuleId};
use crate::pipeline::detect::info;

/// The parts of an alert that are no columns of its row.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Told {
    pub(crate) runbook_url: String,
    pub(crate) query: String,
    pub(crate) would_revoke: String,
}

/// Where the runbooks are: sections of README.
const RUNBOOKS: &str = "README.md#";

pub(crate) fn tell(case: &Case) -> Told {
    Told { runbook_url: runbook(case.rule), query: query(case), would_revoke: would_revoke(case) }
}

pub(super) fn runbook(rule: RuleId) -> String {
    format!("{RUNBOOKS}{}", info(rule).runbook)
}

/// The events around the case: the subject's, or where it concerns no subject the case's own.
fn query(case: &Case) -> String {
    let which = if case.sub.is_empty() {
        let ids: Vec<String> = case.event_ids.iter().map(|id| format!("'{id}'")).collect();
        format!("event_id IN ({})", ids.join(", "))
    } else {
        format!("sub = {}", quoted(&case.sub))
    };
    format!(
        "SELECT time, kind, gateway, ip, city, country, as_org, device, route, status, verdict, token_ref \
         FROM jwtrail.events WHERE tenant = {} AND {which} \
         AND time BETWEEN toDateTime64({}, 3, 'UTC') - INTERVAL 1 HOUR AND toDateTime64({}, 3, 'UTC') + INTERVAL 1 HOUR \
         ORDER BY time",
        quoted(&case.tenant),
        quoted(&moment(case.first_time)),
        quoted(&moment(case.last_time)),
    )
}

/// A time as ClickHouse reads it: `2026-11-23 10:15:00.123`.
pub(super) fn moment(time: crate::model::UnixMs) -> String {
    time.to_string().replacen('T', " ", 1).trim_end_matches('Z').to_owned()
}

/// A ClickHouse string literal. A subject's name is the client's choice: it must not end the literal.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for character in text.chars() {
        match character {
            '\'' | '\\' => literal.extend(['\\', character]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\0' => literal.push_str("\\0"),
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

fn would_revoke(case: &Case) -> String {
    let named = |what: &str| case.evidence.get("session")?.get(what).and_then(Value::as_str);
    let user = if case.sub.is_empty() { "its subject".to_owned() } else { case.sub.clone() };
    match (case.rule, named("family"), named("sid"), case.token_refs.as_slice()) {
        (RuleId::TokenLeak | RuleId::TokenInRequest, .., refs) => {
            format!("the {} that lay open", tokens(refs))
        }
        (_, Some(family), ..) => {
            format!("token family {family}: {user} signs in again at {}", client(case))
        }
        (_, None, Some(sid), _) => format!("session {sid}: {user} signs in again at {}", client(case)),
        (.., refs) => format!("the {} of {user}", tokens(refs)),
    }
}

fn client(case: &Case) -> &str {
    if case.client_id.is_empty() { "its client" } else { &case.client_id }
}

fn tokens(refs: &[String]) -> String {
    match refs {
        [] => "token".to_owned(),
        [one] => format!("token {one}"),
        [first, rest @ ..] => format!("token {first} and {} more", rest.len()),
    }
}
