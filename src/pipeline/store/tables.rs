//! The tables that are written to, with the columns of their rows.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use uuid::Uuid;

use super::block::{BlockId, Counts};
use super::dead_letter::Dead;
use super::rows::{Reject, block_row, event_row, finding_row, reject_row};
use crate::clickhouse::Columns;
use crate::log::{Batch, Origin, Topic};
use crate::model::*;
use crate::pipeline::decode::{Decoded, RejectReason};
use crate::pipeline::enrich::Enriched;
use crate::pipeline::verify::Checked;

/// A table, and the columns that its rows have.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: Columns,
    /// The INSERT's column list.
    pub(super) column_list: String,
}

impl Table {
    fn new(name: &'static str, describe: impl FnOnce(&mut Columns)) -> Self {
        let mut columns = Columns::default();
        describe(&mut columns);
        let column_list = columns.names();
        Self { name, columns, column_list }
    }
}

pub(super) static EVENTS: LazyLock<Table> = LazyLock::new(|| Table::new("events", describe_event));

pub(super) static FINDINGS: LazyLock<Table> =
    LazyLock::new(|| Table::new("finding_rows", |columns| finding_row(columns, ("", "", 0), &any_finding())));

pub(super) static REJECTS: LazyLock<Table> = LazyLock::new(|| {
    let dead = Dead {
        offset: Offset::ZERO,
        received_at: UnixMs::default(),
        reason: RejectReason::NotJson,
        field: "",
        value_bytes: 0,
    };
    Table::new("rejects", |columns| reject_row(columns, &any_origin(), &Reject::dead(&dead)))
});

pub(super) static BLOCKS: LazyLock<Table> = LazyLock::new(|| {
    let id = BlockId { origin: any_origin(), first: Offset::ZERO, last: Offset::ZERO };
    let counts = Counts { dead: BTreeMap::new(), ..Counts::default() };
    Table::new("blocks", |columns| block_row(columns, &id, UnixMs::default(), &counts, ""))
});

// The columns do not depend on the values: any row describes its table.

fn any_origin() -> Origin {
    Origin { log: LogId::draw(), topic: Topic::Events, partition: PartitionId::default() }
}

fn describe_event(columns: &mut Columns) {
    let mut batch = Batch::default();
    batch.push(Offset::ZERO, UnixMs::default(), None, b"", []);
    let event = Event {
        version: 1,
        id: Uuid::nil(),
        kind: Kind::Accepted,
        time: UnixMs::default(),
        claimed_time: None,
        tenant: "".into(),
        source: Source { gateway: "".into(), zone: Zone::Edge, region: None, epoch: None, seq: None },
        token: None,
        request: None,
        gateway_verdict: None,
        grant: None,
        login: None,
        retry: false,
        heartbeat: None,
        ledger_mark: None,
        extra: None,
    };
    let decoded = Decoded { event, flags: Flags::default(), leaks: Vec::new(), origin: None, retried: None };
    let verdict = Verdict::Token(GatewayVerdict::Valid);
    let checked = Checked { decoded, verdict, proof: Proof::None, attested_by: None };
    let enriched = Enriched { checked, location: None, device: None, geo_build: Arc::from("") };
    for record in batch.iter() {
        event_row(columns, &any_origin(), &record, &enriched, 1);
    }
}

fn any_finding() -> Finding {
    let case = Case {
        finding_id: FindingId::of(RuleId::TokenLeak, "", &[], UnixMs::default()),
        revision: Offset::ZERO,
        rule: RuleId::TokenLeak,
        rule_version: 0,
        tenant: String::new(),
        iss: String::new(),
        sub: String::new(),
        subject_kind: None,
        client_id: String::new(),
        gateway: String::new(),
        kid: String::new(),
        case_start: UnixMs::default(),
        first_time: UnixMs::default(),
        last_time: UnixMs::default(),
        state: CaseState::Open,
        severity: Severity::Info,
        confidence: Confidence::Low,
        class: FindingClass::Security,
        lowered_by: Vec::new(),
        title: String::new(),
        summary: String::new(),
        evidence: serde_json::Value::Null,
        token_refs: Vec::new(),
        ips: Vec::new(),
        event_ids: Vec::new(),
        event_count: 0,
        techniques: Vec::new(),
    };
    Finding { case, is_alert: false, not_alerted: None, suppressed_by: String::new() }
}
