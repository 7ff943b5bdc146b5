//! The rows: for every table one description, column by column, in the table's own order.

use super::block::{BlockId, Counts};
use super::dead_letter::Dead;
use crate::clickhouse::RowSink;
use crate::log::{Origin, Record};
use crate::model::{
    ClaimedToken, Confidence, Event, Finding, Login, Offset, Request, Severity, SubjectKind, Text, UnixMs,
};
use crate::pipeline::detect::DropReason;
use crate::pipeline::enrich::Enriched;

/// A row of `events`. Every column is a function of the log and of the snapshots: walked again, the same bytes.
pub(super) fn event_row(
    row: &mut impl RowSink,
    origin: &Origin,
    record: &Record<'_>,
    enriched: &Enriched<'_>,
    retention_days: u16,
) {
    let checked = &enriched.checked;
    let decoded = &checked.decoded;
    let event = &decoded.event;
    row.uuid("event_id", event.id);
    row.word("kind", event.kind.as_str());
    row.time("time", event.time);
    row.time("received_at", record.append_time);
    row.maybe_time("claimed_time", event.claimed_time);
    row.word("tenant", &event.tenant);
    row.word("gateway", &event.source.gateway);
    row.word("zone", event.source.zone.as_str());
    row.word("region", maybe(&event.source.region));
    row.text("source_epoch", maybe(&event.source.epoch));
    row.maybe_u64("source_seq", event.source.seq);
    token_columns(row, event);
    request_columns(row, enriched);
    place_columns(row, enriched);
    row.word("gateway_verdict", event.gateway_verdict.map_or("", |verdict| verdict.as_str()));
    row.word("verdict", checked.verdict.as_str());
    row.word("proof", checked.proof.as_str());
    let flags = || decoded.flags.iter().map(|flag| flag.as_str());
    row.words("flags", flags().count(), flags());
    match &event.extra {
        Some(extra) => row.text("extra", &serde_json::to_string(&extra.0).unwrap_or_default()),
        None => row.text("extra", ""),
    }
    row.u16("retention_days", retention_days);
    origin_columns(row, origin_text(origin));
    row.u64("offset", record.offset.get().unsigned_abs());
    let from = decoded.origin.as_ref();
    row.word("origin_log", from.map_or("", |from| from.log.as_str()));
    row.maybe_u32("origin_partition", from.map(|from| from.partition.0));
    row.maybe_u64("origin_offset", from.map(|from| from.offset.get().unsigned_abs()));
}

fn token_columns(row: &mut impl RowSink, event: &Event<'_>) {
    let (no_token, no_login) = (ClaimedToken::default(), Login::default());
    let token = event.token.as_ref().unwrap_or(&no_token);
    let login = event.login.as_ref().unwrap_or(&no_login);
    row.text("token_ref", maybe(&token.token_ref));
    row.text("jti_ref", maybe(&token.jti_ref));
    row.text("outer_ref", maybe(&token.outer_ref));
    row.text("iss", maybe(&token.iss));
    row.text("sub", maybe(&token.sub));
    row.word("subject_kind", token.subject_kind.map_or("", SubjectKind::as_str));
    row.text("token_tenant_id", maybe(&token.tenant_id));
    row.text("client_id", maybe(token.client_id.as_ref().map_or(&login.client_id, |_| &token.client_id)));
    row.texts("aud", token.aud.iter().map(AsRef::as_ref));
    row.texts("scope", token.scope.iter().map(AsRef::as_ref));
    row.text("sid", maybe(&token.sid));
    row.text("acr", maybe(&token.acr));
    row.texts("amr", token.amr.iter().map(AsRef::as_ref));
    row.maybe_i64("auth_time", token.auth_time);
    row.maybe_i64("iat", token.iat);
    row.maybe_i64("nbf", token.nbf);
    row.maybe_i64("exp", token.exp);
    row.text("alg", maybe(&token.alg));
    row.text("kid", maybe(&token.kid));
    row.text("typ", maybe(&token.typ));
    row.text("family", maybe(&token.family));
    row.maybe_u64("generation", token.generation);
    row.texts("act_sub", token.act.iter().map(|actor| actor.sub.as_ref()));
    if token.act.is_empty() {
        row.text("act", "");
    } else {
        row.text("act", &serde_json::to_string(&token.act).unwrap_or_default());
    }
    row.text("parent_ref", maybe(&token.parent_ref));
    row.text("origin_ref", maybe(&token.origin_ref));
    row.text("txn", maybe(&token.txn));
    row.word("grant", event.grant.map_or("", |grant| grant.as_str()));
    let bound = token.cnf.as_ref();
    row.text("cnf_jkt", bound.map_or("", |cnf| maybe(&cnf.jkt)));
    row.text("cnf_x5t", bound.map_or("", |cnf| maybe(&cnf.x5t_s256)));
    let presented = event.request.as_ref().and_then(|request| request.presented_cnf.as_ref());
    row.text("presented_jkt", presented.map_or("", |cnf| maybe(&cnf.jkt)));
    row.text("presented_x5t", presented.map_or("", |cnf| maybe(&cnf.x5t_s256)));
    row.text("login_username", maybe(&login.username));
    row.text("login_reason", maybe(&login.reason));
}

fn request_columns(row: &mut impl RowSink, enriched: &Enriched<'_>) {
    let no_request = Request::default();
    let request = enriched.checked.decoded.event.request.as_ref().unwrap_or(&no_request);
    row.ip("ip", request.ip);
    row.ip("peer_ip", request.peer_ip);
    row.text("user_agent", maybe(&request.user_agent));
    row.text("device", enriched.device.as_ref().map_or("", |device| &device.name));
    row.text("ja4", maybe(&request.ja4));
    row.text("method", maybe(&request.method));
    row.text("host", maybe(&request.host));
    row.text("route", maybe(&request.route));
    row.maybe_u16("status", request.status);
    row.maybe_u32("duration_ms", request.duration_ms);
    row.maybe_u64("response_bytes", request.response_bytes);
    row.text("request_id", maybe(&request.id));
}

fn place_columns(row: &mut impl RowSink, enriched: &Enriched<'_>) {
    let location = enriched.location.as_ref();
    let place = location.and_then(|location| location.place.as_deref());
    let network = location.map(|location| &location.network);
    row.word("country", place.map_or("", |place| &place.country));
    row.maybe_bool("country_confirmed", location.and_then(|location| location.country_confirmed));
    row.word("subdivision", place.map_or("", |place| &place.subdivision));
    row.word("city", place.map_or("", |place| &place.city));
    row.maybe_f64("lat", place.map(|place| place.lat));
    row.maybe_f64("lon", place.map(|place| place.lon));
    row.maybe_f64("accuracy_km", place.map(|place| place.accuracy_km));
    row.u32("asn", network.map_or(0, |network| network.asn));
    row.word("as_org", network.map_or("", |network| &network.as_org));
    row.word("network_kind", network.map_or("", |network| network.kind.as_str()));
    row.word("geo_build", &enriched.geo_build);
}

/// A row of `finding_rows`. `origin`: log, topic and partition, as [`origin_text`] gives them.
pub(super) fn finding_row(row: &mut impl RowSink, origin: (&str, &str, u32), finding: &Finding) {
    let case = &finding.case;
    row.uuid("finding_id", case.finding_id.uuid());
    row.u64("revision", case.revision.get().unsigned_abs());
    row.word("rule", case.rule.as_str());
    row.u16("rule_version", case.rule_version);
    row.word("tenant", &case.tenant);
    row.text("iss", &case.iss);
    row.text("sub", &case.sub);
    row.word("subject_kind", case.subject_kind.map_or("", SubjectKind::as_str));
    row.text("client_id", &case.client_id);
    row.text("gateway", &case.gateway);
    row.text("kid", &case.kid);
    row.time("case_start", case.case_start);
    row.time("first_time", case.first_time);
    row.time("last_time", case.last_time);
    row.word("state", case.state.as_str());
    row.ranked("severity", Severity::ALL.iter().map(|word| word.as_str()), case.severity as u8 + 1);
    row.ranked("confidence", Confidence::ALL.iter().map(|word| word.as_str()), case.confidence as u8 + 1);
    row.word("class", case.class.as_str());
    row.bool("is_alert", finding.is_alert);
    row.word("not_alerted", finding.not_alerted.map_or("", |reason| reason.as_str()));
    row.text("suppressed_by", &finding.suppressed_by);
    row.words("lowered_by", case.lowered_by.len(), case.lowered_by.iter().map(String::as_str));
    row.text("title", &case.title);
    row.text("summary", &case.summary);
    row.text("evidence", &case.evidence.to_string());
    row.texts("token_refs", case.token_refs.iter().map(String::as_str));
    row.ips("ips", &case.ips);
    row.uuids("event_ids", &case.event_ids);
    row.u64("event_count", case.event_count);
    row.words("techniques", case.techniques.len(), case.techniques.iter().map(String::as_str));
    origin_columns(row, origin);
}

/// A record that left no row of `events`: a row of `rejects`.
pub(super) struct Reject<'a> {
    pub(super) offset: Offset,
    pub(super) received_at: UnixMs,
    /// The word of `outcome`.
    outcome: &'static str,
    reason: &'static str,
    /// A JSON pointer to what was at fault; empty where nothing was.
    field: &'a str,
    value_bytes: usize,
}

impl<'a> Reject<'a> {
    pub(super) const fn dead(dead: &Dead<'a>) -> Self {
        let Dead { offset, received_at, reason, field, value_bytes } = *dead;
        Self { offset, received_at, outcome: "dead", reason: reason.as_str(), field, value_bytes }
    }

    pub(super) const fn dropped(record: &Record<'a>, reason: DropReason) -> Self {
        let (offset, received_at, value_bytes) = (record.offset, record.append_time, record.value.len());
        Self { offset, received_at, outcome: "dropped", reason: reason.as_str(), field: "", value_bytes }
    }
}

/// A row of `rejects`.
pub(super) fn reject_row(row: &mut impl RowSink, origin: &Origin, reject: &Reject<'_>) {
    origin_columns(row, origin_text(origin));
    row.u64("offset", reject.offset.get().unsigned_abs());
    row.time("received_at", reject.received_at);
    row.word("outcome", reject.outcome);
    row.word("reason", reject.reason);
    row.text("field", reject.field);
    row.u64("value_bytes", reject.value_bytes as u64);
}

/// A row of `blocks`. `received_at` is the append time of the block's last record.
pub(super) fn block_row(
    row: &mut impl RowSink,
    id: &BlockId,
    received_at: UnixMs,
    counts: &Counts,
    snapshots: &str,
) {
    origin_columns(row, origin_text(&id.origin));
    row.u64("first", id.first.get().unsigned_abs());
    row.u64("last", id.last.get().unsigned_abs());
    row.time("received_at", received_at);
    row.u64("records", counts.records());
    row.u64("rows", counts.stored);
    row.counts("dropped", counts.dropped.iter().map(|(reason, &count)| (reason.as_str(), count)));
    row.counts("dead", counts.dead.iter().map(|(reason, &count)| (reason.as_str(), count)));
    row.u64("forwarded", counts.forwarded);
    row.u64("control", counts.control);
    row.word("snapshots", snapshots);
}

/// Log, topic and partition.
pub(super) fn origin_text(origin: &Origin) -> (&str, &str, u32) {
    (origin.log.as_str(), origin.topic.name(), origin.partition.0)
}

fn origin_columns(row: &mut impl RowSink, (log, topic, partition): (&str, &str, u32)) {
    row.word("log", log);
    row.word("topic", topic);
    row.u32("partition", partition);
}

fn maybe<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_deref().unwrap_or_default()
}
