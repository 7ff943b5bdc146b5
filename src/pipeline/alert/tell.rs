//! What helps whoever is told: the runbook, one ready query, and what a revocation would take with it.

use serde_json::Value;

use crate::model::{Case, FindingClass, RuleId};
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

/// The events around the case: the subject's, the gateway's, or where it concerns neither the case's own.
fn query(case: &Case) -> String {
    if case.class == FindingClass::Operations {
        return gateway_query(case);
    }
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

/// What a gateway sent around the case.
fn gateway_query(case: &Case) -> String {
    let (columns, which, order) = match case.rule {
        RuleId::AuditGap => {
            let epoch = case.evidence.get("epoch").and_then(Value::as_str).unwrap_or_default();
            (
                "toStartOfMinute(time) AS minute, count() AS events, min(source_seq) AS first_seq, \
                 max(source_seq) AS last_seq",
                format!(" AND source_epoch = {}", quoted(epoch)),
                "GROUP BY minute ORDER BY minute",
            )
        }
        RuleId::GatewayMissesClientIp => (
            "received_at, ip, peer_ip, network_kind, as_org, route",
            String::new(),
            "ORDER BY received_at LIMIT 100",
        ),
        RuleId::GatewayClockSkew => (
            "received_at, time, claimed_time, dateDiff('second', ifNull(claimed_time, time), received_at) AS behind_s",
            String::new(),
            "ORDER BY abs(behind_s) DESC LIMIT 100",
        ),
        _ => (
            "received_at, time, kind, tenant, source_epoch, source_seq, status",
            String::new(),
            "ORDER BY received_at DESC LIMIT 100",
        ),
    };
    format!(
        "SELECT {columns} FROM jwtrail.events WHERE gateway = {}{which} \
         AND received_at BETWEEN toDateTime64({}, 3, 'UTC') - INTERVAL 1 HOUR \
         AND toDateTime64({}, 3, 'UTC') + INTERVAL 1 HOUR {order}",
        quoted(&case.gateway),
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
    if case.class == FindingClass::Operations {
        return "nothing".to_owned();
    }
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
