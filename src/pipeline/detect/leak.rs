//! `token_leak` and `token_in_request`: token-shaped text where none may be. Class: lasting, each event for itself.

use serde_json::json;

use super::cases::{Cases, Facts, Match, Phase, Witness};
use super::nets::{mapped, neighbourhood};
use super::rulebook::Rulebook;
use super::terms::attributable;
use super::why::Why;
use crate::model::{
    ClaimedToken, Confidence, Event, GatewayVerdict, Leak, LeakOwner, RuleId, Severity, UnixMs, Verdict,
};
use crate::pipeline::enrich::Enriched;

/// Judges every masked token of an event: the answers of `token_leak` and `token_in_request`.
pub(super) fn judge(enriched: &Enriched<'_>, rules: &Rulebook, cases: &mut Cases) -> (Why, Why) {
    let (mut leak, mut in_request) = (Why::NoLeak, Why::NoLeak);
    for masked in &enriched.checked.decoded.leaks {
        match masked.owner {
            LeakOwner::Client => in_request = judge_client(enriched, masked, rules, cases),
            LeakOwner::Token | LeakOwner::Gateway => {
                let why = judge_gateway(enriched, masked, cases);
                leak = stronger(leak, why);
            }
        }
    }
    (leak, in_request)
}

fn stronger(a: Why, b: Why) -> Why {
    match (a, b) {
        (Why::Fired { severity: known, .. }, Why::Fired { severity, .. }) if known >= severity => a,
        _ => b,
    }
}

/// A gateway's own field. The case is the gateway's, whoever's token it was.
fn judge_gateway(enriched: &Enriched<'_>, leak: &Leak, cases: &mut Cases) -> Why {
    let event = &enriched.checked.decoded.event;
    let gateway = event.source.gateway.as_ref();
    let expired = is_expired(event, enriched.checked.verdict);
    let severity = match leak.owner {
        LeakOwner::Token if !expired => Severity::High,
        _ => Severity::Medium,
    };
    let key = [gateway, leak.field.as_str()];
    let who = Whom { gateway, ..Whom::default() };
    touch(RuleId::TokenLeak, event, leak, &key, &who, severity, cases, || Facts {
        title: format!("{gateway} published a token in {}", leak.field),
        summary: format!(
            "The field {} of an event from gateway {gateway} held a whole token{}. It was masked here; if \
             the gateway writes to Kafka itself, it lies there until retention.",
            leak.field,
            if expired { ", expired" } else { "" },
        ),
        evidence: json!({
            "gateway": gateway,
            "field": leak.field,
            "token_ref": leak.token_ref,
            "expired": expired,
            "event_id": event.id,
        }),
        lowered_by: if expired { vec!["expired".to_owned()] } else { Vec::new() },
    })
}

/// A client's field, or a claim that nobody vouches for. Unvouched claims name nobody: then the case is the source
/// network's, so that nobody can write findings about others.
fn judge_client(enriched: &Enriched<'_>, leak: &Leak, rules: &Rulebook, cases: &mut Cases) -> Why {
    let event = &enriched.checked.decoded.event;
    let gateway = event.source.gateway.as_ref();
    let vouched = attributable(enriched).ok();
    let request = event.request.as_ref();
    let network = request
        .and_then(|request| request.ip)
        .map_or_else(String::new, |ip| neighbourhood(mapped(ip)).to_string());
    let claim = |token: &'_ ClaimedToken<'_>| token.client_id.clone().unwrap_or_default().into_owned();
    let client_id = vouched.map_or_else(String::new, |(_, token, _)| claim(token));
    let sub = vouched.map_or("", |(_, _, sub)| sub);
    let key = match (client_id.as_str(), sub) {
        ("", "") => ["network", network.as_str()],
        ("", sub) => ["sub", sub],
        (client_id, _) => ["client_id", client_id],
    };
    let iss = vouched.and_then(|(_, token, _)| token.iss.as_deref()).unwrap_or_default();
    let subject_kind = vouched.and_then(|(event, token, _)| rules.subject_kind(event, token));
    let who = Whom { gateway, iss, sub, client_id: &client_id, subject_kind };
    touch(RuleId::TokenInRequest, event, leak, &key, &who, Severity::Low, cases, || Facts {
        title: format!("A token in {}", leak.field),
        summary: format!(
            "A request through gateway {gateway} carried a token in {}, where logs and proxies keep it.",
            leak.field
        ),
        evidence: json!({
            "field": leak.field,
            "token_ref": leak.token_ref,
            "gateway": gateway,
            "event_id": event.id,
            "ip": request.and_then(|request| request.ip),
            "route": request.and_then(|request| request.route.as_deref()),
        }),
        lowered_by: Vec::new(),
    })
}

#[derive(Default)]
struct Whom<'w> {
    gateway: &'w str,
    iss: &'w str,
    sub: &'w str,
    client_id: &'w str,
    subject_kind: Option<crate::model::SubjectKind>,
}

#[expect(clippy::too_many_arguments, reason = "the parts of a match that the two rules do not share")]
fn touch(
    rule: RuleId,
    event: &Event<'_>,
    leak: &Leak,
    key: &[&str],
    who: &Whom<'_>,
    severity: Severity,
    cases: &mut Cases,
    facts: impl FnOnce() -> Facts,
) -> Why {
    let phase = Phase::of(&event.tenant, key);
    let ip = event.request.as_ref().and_then(|request| request.ip);
    let witnesses = [Witness { id: event.id, time: event.time, ip }];
    let confidence = Confidence::High;
    let matched = Match {
        rule,
        tenant: &event.tenant,
        key,
        window_start: phase.start(phase.window(event.time)),
        severity,
        confidence,
        iss: who.iss,
        sub: who.sub,
        subject_kind: who.subject_kind,
        client_id: who.client_id,
        gateway: who.gateway,
        kid: "",
        time: event.time,
        token_ref: Some(&leak.token_ref),
        witnesses: &witnesses,
        is_count: false,
    };
    cases.touch(&matched, facts);
    Why::Fired { severity, confidence }
}

fn is_expired(event: &Event<'_>, verdict: Verdict) -> bool {
    let past = |exp: i64| UnixMs::new(exp.saturating_mul(1_000)) <= event.time;
    verdict == Verdict::Token(GatewayVerdict::Expired)
        || event.token.as_ref().and_then(|token| token.exp).is_some_and(past)
}
