//! A model of ClickHouse, for tests: it keeps what is inserted, remembers tokens, and fails in the ways that the real one
//! was seen to (PROMISE, "tried").

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv6Addr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::block::BlockId;
use super::put::Store;
use super::statements::{Newest, Statements};
use super::stored_before::EventRow;
use super::tables::Table;
use crate::clickhouse::{ClickHouseError, InsertLabel};
use crate::log::{EventLog, Origin, Topic};
use crate::model::{PartitionId, UnixMs};

/// What goes wrong, once, at the next statement that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreFault {
    /// An insert never comes.
    InsertAway,
    /// An insert is stored, and nobody hears of it.
    AnswerLost,
    /// Killed between the log of tokens and the part's rename: the token is known, the rows are not.
    TokenWithoutRows,
    /// Killed between the part and the log of tokens: the rows are known, the token is not.
    RowsWithoutToken,
    /// An insert of two days: the first day's part is stored, the other's is not.
    HalfStored,
    /// The connection breaks, and the insert goes on.
    GoesOn,
    /// A question is not answered.
    AskAway,
}

impl StoreFault {
    pub(crate) const ALL: [Self; 7] = [
        Self::InsertAway,
        Self::AnswerLost,
        Self::TokenWithoutRows,
        Self::RowsWithoutToken,
        Self::HalfStored,
        Self::GoesOn,
        Self::AskAway,
    ];
}

/// How long an insert goes on without its connection.
const GOES_ON_FOR: Duration = Duration::from_millis(120);

/// A row, by the names of its columns.
pub(crate) type Row = BTreeMap<&'static str, Value>;

#[derive(Clone, Default)]
pub(crate) struct MemoryTables {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<&'static str, Vec<Row>>,
    tokens: HashSet<String>,
    /// How often each block, `L/topic/partition/a-b`, was inserted or asked for, whatever became of that.
    tries: HashMap<String, usize>,
    faults: Vec<StoreFault>,
    going_on: Vec<GoingOn>,
}

struct GoingOn {
    ends: Instant,
    insert: Insert,
}

struct Insert {
    table: &'static str,
    rows: Vec<Row>,
    token: Option<String>,
    comment: Option<String>,
}

impl MemoryTables {
    /// A store over these tables.
    pub(crate) fn store(&self, log: Arc<dyn EventLog>) -> Store {
        Store::over(Arc::new(self.clone()), log)
    }

    /// Arms a fault.
    pub(crate) fn fail(&self, fault: StoreFault) {
        self.lock().faults.push(fault);
    }

    /// No armed fault is left.
    pub(crate) fn heal(&self) {
        self.lock().faults.clear();
    }

    /// The rows of a table as they were inserted, in order.
    pub(crate) fn rows(&self, table: &'static str) -> Vec<Row> {
        self.lock().rows.get(table).cloned().unwrap_or_default()
    }

    /// What `FINAL` reads of a replacing table: the last row of each `key`.
    pub(crate) fn newest(&self, table: &'static str, key: &[&'static str]) -> Vec<Row> {
        let keyed = self.rows(table).into_iter().map(|row| {
            let key: Vec<String> = key.iter().map(|column| row[column].to_string()).collect();
            (key, row)
        });
        keyed.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Whether a block, `L/topic/partition/a-b`, may have been put more than once, or walked again.
    pub(crate) fn was_repeated(&self, block: &str) -> bool {
        self.lock().tries.get(block).is_some_and(|&tries| tries > 1)
    }

    /// As it is now: what went on until now has landed.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (ended, going_on) =
            std::mem::take(&mut state.going_on).into_iter().partition(|going| going.ends <= now);
        state.going_on = going_on;
        ended.into_iter().for_each(|going: GoingOn| state.land(going.insert));
        state
    }

    fn ask(&self) -> Result<MutexGuard<'_, State>, ClickHouseError> {
        let mut state = self.lock();
        if state.takes(StoreFault::AskAway) { Err(away()) } else { Ok(state) }
    }
}

fn away() -> ClickHouseError {
    ClickHouseError::Unavailable("the test says so".to_owned())
}

impl State {
    fn takes(&mut self, fault: StoreFault) -> bool {
        let armed = self.faults.iter().position(|armed| *armed == fault);
        armed.map(|place| self.faults.remove(place)).is_some()
    }

    fn land(&mut self, insert: Insert) {
        let is_new = insert.token.is_none_or(|token| self.tokens.insert(token));
        if is_new {
            self.rows.entry(insert.table).or_default().extend(insert.rows);
        }
    }

    fn insert(&mut self, mut insert: Insert) -> Result<(), ClickHouseError> {
        if let Some((block, _attempt)) = insert.token.as_deref().and_then(|token| token.rsplit_once('/')) {
            *self.tries.entry(block.to_owned()).or_default() += 1;
        }
        if self.takes(StoreFault::InsertAway) {
            return Err(away());
        }
        // The others are about tokens.
        if insert.token.is_some() {
            if self.takes(StoreFault::TokenWithoutRows) {
                insert.rows.clear();
                self.land(insert);
                return Err(away());
            }
            if self.takes(StoreFault::RowsWithoutToken) {
                let token = insert.token.clone().unwrap_or_default();
                self.land(insert);
                self.tokens.remove(&token);
                return Err(away());
            }
            if self.takes(StoreFault::HalfStored) {
                insert.rows.truncate(insert.rows.len() / 2);
                insert.token = None;
                self.land(insert);
                return Err(away());
            }
            if self.takes(StoreFault::GoesOn) {
                self.going_on.push(GoingOn { ends: Instant::now() + GOES_ON_FOR, insert });
                return Err(away());
            }
        }
        self.land(insert);
        if self.takes(StoreFault::AnswerLost) { Err(away()) } else { Ok(()) }
    }

    /// The rows of a partition, received at `since` or after.
    fn of<'s>(
        &'s self,
        table: &str,
        topic: Topic,
        partition: PartitionId,
        since: UnixMs,
    ) -> impl Iterator<Item = &'s Row> + use<'s> {
        self.rows.get(table).into_iter().flatten().filter(move |row| {
            row["topic"] == topic.name()
                && row["partition"] == partition.0
                && row["received_at"].as_i64() >= Some(since.get())
        })
    }
}

fn number(row: &Row, column: &str) -> u64 {
    row[column].as_u64().unwrap()
}

fn text(row: &Row, column: &str) -> String {
    text_of(&row[column])
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn newest<'s>(rows: impl Iterator<Item = &'s Row>, offset: &str) -> Option<Newest> {
    rows.map(|row| (row["received_at"].as_i64().unwrap(), number(row, offset), text(row, "log")))
        .max()
        .map(|(received_at, offset, log)| (log, offset, received_at))
}

#[async_trait]
impl Statements for MemoryTables {
    async fn ping(&self) -> Result<(), ClickHouseError> {
        Ok(())
    }

    async fn insert(
        &self,
        table: &Table,
        rows: Bytes,
        label: InsertLabel<'_>,
    ) -> Result<(), ClickHouseError> {
        // An insert takes its time: others come between.
        tokio::task::yield_now().await;
        let insert = Insert {
            table: table.name,
            rows: read_rows(table, &rows),
            token: label.token.map(str::to_owned),
            comment: label.log_comment.map(str::to_owned),
        };
        self.lock().insert(insert)
    }

    async fn check_columns(&self, _: &Table) -> Result<(), ClickHouseError> {
        self.ask().map(|_| ())
    }

    async fn running(&self, origin: &Origin) -> Result<u64, ClickHouseError> {
        let (state, comment) = (self.ask()?, origin.to_string());
        let runs = |going: &&GoingOn| going.insert.comment.as_ref() == Some(&comment);
        Ok(state.going_on.iter().filter(runs).count() as u64)
    }

    async fn held(&self, block: &BlockId, since: UnixMs) -> Result<HashSet<u64>, ClickHouseError> {
        let (mut state, origin) = (self.ask()?, &block.origin);
        *state.tries.entry(block.to_string()).or_default() += 1;
        let within = block.first.get().unsigned_abs()..=block.last.get().unsigned_abs();
        let rows = state.of("events", origin.topic, origin.partition, since);
        let ours = rows.filter(|row| row["log"] == origin.log.as_str()).map(|row| number(row, "offset"));
        Ok(ours.filter(|offset| within.contains(offset)).collect())
    }

    async fn newest_line(
        &self,
        topic: Topic,
        partition: PartitionId,
    ) -> Result<Option<Newest>, ClickHouseError> {
        Ok(newest(self.ask()?.of("blocks", topic, partition, UnixMs::default()), "last"))
    }

    async fn span(&self) -> Result<Option<(UnixMs, UnixMs)>, ClickHouseError> {
        let state = self.ask()?;
        let rows = state.rows.get("events").into_iter().flatten();
        let times: Vec<i64> = rows.map(|row| row["received_at"].as_i64().unwrap()).collect();
        let first = times.iter().min().copied().map(UnixMs::new);
        Ok(first.zip(times.into_iter().max().map(UnixMs::new)))
    }

    async fn newest_row(
        &self,
        topic: Topic,
        partition: PartitionId,
        log: &str,
        received: Range<UnixMs>,
    ) -> Result<Option<Newest>, ClickHouseError> {
        let state = self.ask()?;
        let rows = state.of("events", topic, partition, received.start);
        let rows = rows.filter(|row| row["received_at"].as_i64() < Some(received.end.get()));
        Ok(newest(rows.filter(|row| log.is_empty() || row["log"] == log), "offset"))
    }

    async fn rows_of(
        &self,
        origin: &Origin,
        ids: Vec<String>,
        since: UnixMs,
    ) -> Result<Vec<EventRow>, ClickHouseError> {
        let state = self.ask()?;
        let rows = state.of("events", origin.topic, origin.partition, since);
        let wanted = |row: &&Row| {
            row["log"] == origin.log.as_str() && ids.iter().any(|id| row["event_id"] == id.as_str())
        };
        let of_row = |row: &Row| {
            let received_at = row["received_at"].as_i64().unwrap();
            let (tenant, gateway, id) = (text(row, "tenant"), text(row, "gateway"), text(row, "event_id"));
            (tenant, gateway, id, row["proof"] != "none", number(row, "offset"), received_at)
        };
        Ok(rows.filter(wanted).map(of_row).collect())
    }
}

/// The rows of an insert.
fn read_rows(table: &Table, bytes: &[u8]) -> Vec<Row> {
    let (mut rest, mut rows) = (bytes, Vec::new());
    while !rest.is_empty() {
        rows.push(table.columns.0.iter().map(|(name, kind)| (*name, read(kind, &mut rest))).collect());
    }
    rows
}

/// One value of `RowBinary`. Times are milliseconds, words of an `Enum8` their numbers.
fn read(kind: &str, rest: &mut &[u8]) -> Value {
    let (outer, inner) = match kind.split_once('(') {
        Some((outer, inner)) => (outer, inner.strip_suffix(')').unwrap()),
        None => (kind, ""),
    };
    match outer {
        "LowCardinality" => read(inner, rest),
        "Nullable" => {
            if take::<1>(rest) == [1] {
                Value::Null
            } else {
                read(inner, rest)
            }
        }
        "Array" => {
            let values = length(rest);
            (0..values).map(|_| read(inner, rest)).collect()
        }
        "Map" => {
            let (key, value) = inner.split_once(", ").unwrap();
            let entries = length(rest);
            let mut entry = |_| (text_of(&read(key, rest)), read(value, rest));
            (0..entries).map(&mut entry).collect()
        }
        "String" => {
            let bytes = length(rest);
            let (text, after) = rest.split_at(bytes);
            *rest = after;
            json!(String::from_utf8(text.to_vec()).unwrap())
        }
        "UUID" => {
            let [high, low] = [take(rest), take(rest)].map(u64::from_le_bytes);
            json!(uuid::Uuid::from_u64_pair(high, low).to_string())
        }
        "IPv6" => json!(Ipv6Addr::from(take::<16>(rest)).to_string()),
        "Bool" => json!(take::<1>(rest) == [1]),
        "Enum8" => json!(take::<1>(rest)[0]),
        "UInt16" => json!(u16::from_le_bytes(take(rest))),
        "UInt32" => json!(u32::from_le_bytes(take(rest))),
        "UInt64" => json!(u64::from_le_bytes(take(rest))),
        "Int64" | "DateTime64" => json!(i64::from_le_bytes(take(rest))),
        "Float64" => json!(f64::from_le_bytes(take(rest))),
        other => panic!("no column has the type {other}"),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (bytes, after) = rest.split_first_chunk().unwrap();
    *rest = after;
    *bytes
}

/// Unsigned LEB128.
fn length(rest: &mut &[u8]) -> usize {
    let (mut length, mut shift) = (0, 0);
    loop {
        let [byte] = take(rest);
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return length;
        }
        shift += 7;
    }
}
