//! What ClickHouse is asked: rows by id, and what a subject left before a moment.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::row::{COLUMNS, EventRow};
use super::{ExplainError, STATE_HOURS};
use crate::clickhouse::Client;
use crate::model::{Finding, UnixMs};

/// How far back a case of an event may have ended: two windows of a day.
const CASE_SPAN: Duration = Duration::from_secs(48 * 3_600);

/// What a subject left, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Whether there is a subject that could have left anything.
    pub(super) of_subject: bool,
    pub(super) rows: Vec<EventRow>,
    /// There were more than a rebuild walks.
    pub(super) cut: bool,
}

/// The place of a record among its subject's: log order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) received_at: UnixMs,
    pub(super) offset: u64,
}

/// The event's row: the first, if its record was sent twice.
pub(super) async fn event(client: &Client, id: Uuid) -> Result<Option<EventRow>, ExplainError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM events WHERE event_id = toUUID(?) ORDER BY received_at, `offset` LIMIT 1"
    );
    Ok(rows(client, client.query(&sql).bind(id.to_string())).await?.pop())
}

/// What the subject left in the [`STATE_HOURS`] before a moment: the newest `max_rows` of it.
pub(super) async fn history(
    client: &Client,
    tenant: &str,
    sub: &str,
    before: Moment,
    max_rows: usize,
) -> Result<History, ExplainError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM events WHERE tenant = ? AND sub = ? \
         AND received_at BETWEEN fromUnixTimestamp64Milli(?) AND fromUnixTimestamp64Milli(?) \
         AND (received_at < fromUnixTimestamp64Milli(?) OR `offset` < ?) \
         ORDER BY received_at DESC, `offset` DESC LIMIT {}",
        max_rows + 1
    );
    let until = before.received_at;
    let since = until - Duration::from_secs(STATE_HOURS * 3_600);
    let query = client.query(&sql).bind(tenant).bind(sub);
    let query = query.bind(since.get()).bind(until.get()).bind(until.get()).bind(before.offset);
    let mut rows: Vec<EventRow> = rows(client, query).await?;
    let cut = rows.len() > max_rows;
    rows.truncate(max_rows);
    rows.reverse();
    Ok(History { of_subject: true, rows, cut })
}

/// The case of that id, folded over the partitions that feed it.
pub(super) async fn finding(client: &Client, id: Uuid) -> Result<Option<Finding>, ExplainError> {
    let query = client.query("SELECT * FROM findings WHERE finding_id = toUUID(?)").bind(id.to_string());
    let found: Option<Value> = rows(client, query).await?.pop();
    Ok(found.map(Finding::of_row).transpose()?)
}

/// The cases that list the event.
pub(super) async fn findings_of(client: &Client, event: &EventRow) -> Result<Vec<Finding>, ExplainError> {
    let sql = "SELECT * FROM findings WHERE tenant = ? AND last_time >= fromUnixTimestamp64Milli(?) \
               AND has(event_ids, toUUID(?)) ORDER BY rule";
    let since = event.received_at - CASE_SPAN;
    let query = client.query(sql).bind(&event.tenant).bind(since.get()).bind(event.event_id.to_string());
    Ok(rows(client, query).await?.into_iter().map(Finding::of_row).collect::<Result<_, _>>()?)
}

/// The rows of a case's events, each with the members of one end of a pair (`detect`'s evidence).
pub(super) async fn ends(client: &Client, finding: &Finding) -> Result<Vec<Value>, ExplainError> {
    let ids: Vec<String> = finding.case.event_ids.iter().map(|id| format!("'{id}'")).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT event_id, time, kind, gateway, verdict, ip, city, country, accuracy_km, asn, as_org, network_kind, \
         device FROM events WHERE tenant = ? AND event_id IN ({}) ORDER BY time, event_id LIMIT 1 BY event_id",
        ids.join(", ")
    );
    let mut ends: Vec<Value> = rows(client, client.query(&sql).bind(&finding.case.tenant)).await?;
    for end in &mut ends {
        let ip = end["ip"].as_str().and_then(|ip| ip.parse::<std::net::IpAddr>().ok());
        end["ip"] = ip.map(|ip| ip.to_canonical().to_string()).into();
    }
    Ok(ends)
}

async fn rows<T: DeserializeOwned>(
    client: &Client,
    query: clickhouse::query::Query,
) -> Result<Vec<T>, ExplainError> {
    let answer = client.json_rows(query).await?;
    let lines = answer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
}
