//! What each change does: the same rules as Redis' scripts, word for word.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::records::{Change, FOREVER, broken};
use crate::issuer::control::Advance;
use crate::issuer::store::family::{Family, FamilyId, Refreshed, Revoked, SubjectTag};
use crate::issuer::store::pace::{Pace, ms};
use crate::issuer::store::{REMEMBERED, REVOCATIONS_MAX, Revocations, StoreError};
use crate::model::{TenantId, UnixMs};

/// A family as it lies in the store.
#[derive(Serialize, Deserialize)]
struct State {
    generation: u64,
    rotated_ms: i64,
    until_ms: i64,
    /// Its subject's when it began: with another one it is revoked.
    epoch: u64,
    is_revoked: bool,
    /// [`Family::encode`].
    body: Vec<u8>,
}

/// Where a revocation stands in the order, by its entry.
#[derive(Serialize, Deserialize)]
struct Revocation {
    sequence: u64,
    entry: String,
}

pub(super) fn entry_key(key: &str) -> String {
    format!("c:{key}")
}

fn family_key(id: &FamilyId) -> String {
    format!("f:{}:{}", id.tenant, id.text())
}

fn subject_key(tenant: &TenantId, tag: SubjectTag) -> String {
    format!("s:{tenant}:{}", tag.text())
}

pub(super) fn advance(
    change: &mut Change<'_>,
    key: &str,
    from: u64,
    value: Vec<u8>,
) -> Result<Advance, StoreError> {
    let (version, stands) = change.get::<(u64, Vec<u8>)>(key)?.unwrap_or_default();
    if version == from {
        change.put(key, &(from + 1, value), FOREVER)?;
        return Ok(Advance::Done(from + 1));
    }
    // The same write again: its answer was lost.
    if version == from + 1 && stands == value {
        return Ok(Advance::Done(version));
    }
    Ok(Advance::Conflict { version, value: stands })
}

/// A number that no epoch or sequence before had: microseconds, or one more than the last.
fn newer(change: &Change<'_>, last: u64) -> u64 {
    (change.now.get().unsigned_abs() * 1_000).max(last + 1)
}

pub(super) fn begin(change: &mut Change<'_>, id: &FamilyId, family: Family) -> Result<(), StoreError> {
    let (key, subject) = (family_key(id), subject_key(&id.tenant, id.tag));
    let body = family.encode();
    if change.get::<State>(&key)?.is_some() {
        return Err(broken("beginning a refresh family", "there is one of this name"));
    }
    // The subject's epoch outlives all of its families.
    let end = family.absolute_until + REMEMBERED;
    let epoch = match change.get(&subject)? {
        Some(epoch) => epoch,
        None => newer(change, 0),
    };
    let end = change.end_of(&subject)?.map_or(end, |before| before.max(end));
    change.put(&subject, &epoch, end)?;
    let until = (change.now + family.idle).min(family.absolute_until);
    let (rotated_ms, until_ms) = (change.now.get(), until.get());
    let state = State { generation: 1, rotated_ms, until_ms, epoch, is_revoked: false, body };
    change.put(&key, &state, until + REMEMBERED)
}

/// The family and its body; the epoch says whether its subject was revoked since.
fn find(change: &Change<'_>, id: &FamilyId) -> Result<Option<(State, Family)>, StoreError> {
    let Some(mut state) = change.get::<State>(&family_key(id))? else { return Ok(None) };
    let epoch: Option<u64> = change.get(&subject_key(&id.tenant, id.tag))?;
    state.is_revoked |= epoch != Some(state.epoch);
    let family = Family::decode(&state.body).map_err(|cause| broken("reading a refresh family", cause))?;
    Ok(Some((state, family)))
}

pub(super) fn refresh(
    change: &mut Change<'_>,
    id: &FamilyId,
    asked: u64,
    client: &str,
    leeway: Duration,
) -> Result<Refreshed, StoreError> {
    let Some((mut state, family)) = find(change, id)? else { return Ok(Refreshed::Unknown) };
    let since_ms = change.now.since_ms(UnixMs::new(state.rotated_ms));
    if family.client != client {
        return Ok(Refreshed::WrongClient);
    }
    if state.is_revoked {
        return Ok(Refreshed::Revoked);
    }
    if change.now.get() >= state.until_ms {
        return Ok(Refreshed::Expired);
    }
    let answer = if asked == state.generation {
        state.generation += 1;
        state.rotated_ms = change.now.get();
        state.until_ms = (change.now + family.idle).min(family.absolute_until).get();
        Refreshed::Advanced { generation: state.generation, family }
    } else if asked + 1 == state.generation && since_ms < i64::try_from(ms(leeway)).unwrap_or(i64::MAX) {
        return Ok(Refreshed::Again { generation: state.generation, family });
    } else {
        state.is_revoked = true;
        if asked > state.generation { Refreshed::Ahead { family } } else { Refreshed::Reused { family } }
    };
    change.put(&family_key(id), &state, UnixMs::new(state.until_ms) + REMEMBERED)?;
    Ok(answer)
}

pub(super) fn revoke_family(
    change: &mut Change<'_>,
    id: &FamilyId,
    client: Option<&str>,
) -> Result<Revoked, StoreError> {
    let Some((mut state, family)) = find(change, id)? else { return Ok(Revoked::Unknown) };
    if client.is_some_and(|client| client != family.client) {
        return Ok(Revoked::WrongClient);
    }
    if state.is_revoked {
        return Ok(Revoked::Before);
    }
    if change.now.get() >= state.until_ms {
        return Ok(Revoked::Unknown);
    }
    state.is_revoked = true;
    change.put(&family_key(id), &state, UnixMs::new(state.until_ms) + REMEMBERED)?;
    Ok(Revoked::Now(family))
}

pub(super) fn revoke_subject(
    change: &mut Change<'_>,
    tenant: &TenantId,
    tag: SubjectTag,
) -> Result<bool, StoreError> {
    let key = subject_key(tenant, tag);
    // Without an epoch there is no family: it outlives them.
    let (Some(epoch), Some(end)) = (change.get::<u64>(&key)?, change.end_of(&key)?) else {
        return Ok(false);
    };
    let epoch = newer(change, epoch);
    change.put(&key, &epoch, end)?;
    Ok(true)
}

pub(super) fn first_use(change: &mut Change<'_>, key: &str, until: UnixMs) -> Result<bool, StoreError> {
    if until <= change.now || change.get::<()>(key)?.is_some() {
        return Ok(false);
    }
    change.put(key, &(), until)?;
    Ok(true)
}

pub(super) fn try_login(change: &mut Change<'_>, key: &str, pace: Pace) -> Result<Duration, StoreError> {
    let (tries, next_ms): (u32, i64) = change.get(key)?.unwrap_or_default();
    if let Ok(wait @ 1..) = u64::try_from(next_ms.saturating_sub(change.now.get())) {
        return Ok(Duration::from_millis(wait));
    }
    let tries = tries.saturating_add(1);
    let wait = Duration::from_millis(pace.wait_ms(tries));
    let next = change.now + wait;
    change.put(key, &(tries, next.get()), next + pace.forget)?;
    Ok(Duration::ZERO)
}

pub(super) fn login_succeeded(
    change: &mut Change<'_>,
    key: &str,
    forget_all: bool,
) -> Result<(), StoreError> {
    let (Some((tries, next_ms)), Some(end)) = (change.get::<(u32, i64)>(key)?, change.end_of(key)?) else {
        return Ok(());
    };
    match tries {
        2.. if !forget_all => change.put(key, &(tries - 1, next_ms), end),
        _ => change.remove(key),
    }
}

/// Revocations in their order; the number is padded so that text sorts as numbers do.
fn sequence_key(sequence: u64) -> String {
    format!("r:o:{sequence:020}")
}

pub(super) fn revoke(change: &mut Change<'_>, entry: String, until: UnixMs) -> Result<(), StoreError> {
    const LAST: &str = "r:last";
    let key = format!("r:e:{entry}");
    let before = change.get::<u64>(&key)?;
    if until <= change.now || (before.is_some() && change.end_of(&key)?.is_some_and(|end| end >= until)) {
        return Ok(());
    }
    if let Some(sequence) = before {
        change.remove(&sequence_key(sequence))?;
    }
    let last: u64 = change.get(LAST)?.unwrap_or_default();
    let sequence = newer(change, last);
    change.put(LAST, &sequence, FOREVER)?;
    change.put(&key, &sequence, until)?;
    change.put(&sequence_key(sequence), &Revocation { sequence, entry }, until)
}

pub(super) fn revoked_since(change: &Change<'_>, cursor: u64) -> Result<Revocations, StoreError> {
    let found: Vec<(UnixMs, Revocation)> = change.list("r:o:", &sequence_key(cursor), REVOCATIONS_MAX)?;
    let cursor = found.last().map_or(cursor, |(_, last)| last.sequence);
    let entries = found.into_iter().map(|(until, revocation)| (revocation.entry, until)).collect();
    Ok(Revocations { entries, cursor })
}
