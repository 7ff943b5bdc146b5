//! Whether an event has a row already: asked of those that were held back while the log was away (PROMISE, clause 7).

use std::collections::HashMap;

use uuid::Uuid;

use super::StoreError;
use super::put::{Store, earliest};
use crate::log::Origin;
use crate::model::{Offset, UnixMs};

/// An event's name: tenant, gateway, id.
pub(crate) type EventName = (String, String, Uuid);

/// Tenant, gateway, id, and the lowest offset of its rows that are attested (`true`), or of those that are not.
pub(super) type EventRow = (String, String, String, bool, u64);

impl Store {
    /// The lowest offset in `origin`'s partition at which each of the events has a row that is attested (`true`), and one
    /// that is not; those without one are left out. `since`: no row of theirs is older. One attempt.
    pub(crate) async fn stored_at(
        &self,
        origin: &Origin,
        events: &[EventName],
        since: UnixMs,
    ) -> Result<HashMap<(EventName, bool), Offset>, StoreError> {
        let ids: Vec<String> = events.iter().map(|(_, _, id)| id.to_string()).collect();
        // Ids alone, which have an index of their own; another gateway's are sorted out here.
        let rows = self.clickhouse.stored_at(origin, ids, earliest(since)).await?;
        let stored = rows.into_iter().filter_map(|(tenant, gateway, id, attested, offset)| {
            let offset = i64::try_from(offset).ok().and_then(Offset::new)?;
            Some((((tenant, gateway, id.parse().ok()?), attested), offset))
        });
        Ok(stored.collect())
    }
}
