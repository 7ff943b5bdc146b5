//! Whether an event has a row already: asked of those that were held back while the log was away (PROMISE, clause 7).

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::StoreError;
use super::put::{Store, earliest};
use crate::log::Origin;
use crate::model::{Offset, UnixMs};

/// A record that was held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldBack {
    pub(crate) offset: Offset,
    /// Its event: tenant, gateway, id.
    pub(crate) event: (String, String, Uuid),
    /// No copy of it is older.
    pub(crate) since: UnixMs,
}

/// A row of such an event: tenant, gateway, id, whether it is attested, offset, and append time in milliseconds.
pub(super) type EventRow = (String, String, String, bool, u64, i64);

impl Store {
    /// Those of the records, which lie in `origin`'s partition, whose event has a row there at a lower offset that is no
    /// older than its copies can be: with `true` if the row is attested, with `false` if it is not. Of each record it is
    /// decided alone: what is asked of others at the same time changes nothing. One attempt.
    pub(crate) async fn stored_before(
        &self,
        origin: &Origin,
        records: &[HeldBack],
    ) -> Result<HashSet<(Offset, bool)>, StoreError> {
        let Some(since) = records.iter().map(|record| record.since).min() else { return Ok(HashSet::new()) };
        // Ids alone, which have an index of their own; another gateway's are sorted out here.
        let ids = records.iter().map(|record| record.event.2.to_string()).collect();
        let mut rows = HashMap::<_, Vec<_>>::new();
        for row in self.clickhouse.rows_of(origin, ids, earliest(since)).await? {
            let (tenant, gateway, id, attested, offset, received_at) = row;
            let (Ok(id), Ok(offset)) = (id.parse(), i64::try_from(offset)) else { continue };
            let of_event = rows.entry((tenant, gateway, id)).or_default();
            of_event.push((attested, offset, UnixMs::new(received_at)));
        }
        let before = |record: &HeldBack| {
            let (at, since) = (record.offset, earliest(record.since));
            let rows = rows.get(&record.event).into_iter().flatten();
            let is_copy = move |(_, offset, received_at): &&(bool, i64, UnixMs)| {
                *offset < at.get() && *received_at >= since
            };
            rows.filter(is_copy).map(move |(attested, ..)| (at, *attested)).collect::<Vec<_>>()
        };
        Ok(records.iter().flat_map(before).collect())
    }
}
