//! Whether this process can do its work right now, and if not, why: each part that can fail keeps one named condition.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All conditions of the process. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    conditions: Arc<Mutex<Conditions>>,
}

#[derive(Debug, Default)]
struct Conditions {
    /// Names the next [`Condition`].
    next: u64,
    by_name: BTreeMap<String, State>,
}

#[derive(Debug)]
struct State {
    /// Whose word counts: a later condition of the same name takes over.
    owner: u64,
    /// Met, and what is to be said of it, or why not.
    state: Result<String, String>,
}

/// What there is to say of a condition that is met, as a rule.
const MET: &str = "ok";

impl Readiness {
    /// A new condition, not met until its owner says so. It takes the place of another of the same name.
    pub(crate) fn condition(&self, name: impl Into<String>) -> Condition {
        let name = name.into();
        let mut conditions = self.lock();
        let owner = conditions.next;
        conditions.next += 1;
        let state = State { owner, state: Err("starting".to_owned()) };
        conditions.by_name.insert(name.clone(), state);
        Condition { readiness: self.clone(), name, owner }
    }

    /// Every condition, by name: met, and what is to be said of it, or why not.
    pub(crate) fn now(&self) -> BTreeMap<String, Result<String, String>> {
        self.lock().by_name.iter().map(|(name, state)| (name.clone(), state.state.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Conditions> {
        // A map of texts is whole whatever panicked beside it.
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part's condition. Dropping it says that the part has ended: a process that lost a part is not ready.
#[derive(Debug)]
pub(crate) struct Condition {
    readiness: Readiness,
    name: String,
    owner: u64,
}

impl Condition {
    pub(crate) fn met(&self) {
        self.met_with(MET);
    }

    /// Met, but there is something to say: a way around a trouble is in use.
    pub(crate) fn met_with(&self, note: impl Into<String>) {
        self.set(Ok(note.into()));
    }

    /// `reason` is for people, and names what is away, not what secret it was asked with.
    pub(crate) fn unmet(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    /// The part is somebody else's now, and its condition no concern of this process.
    pub(crate) fn withdraw(self) {
        self.readiness.lock().by_name.retain(|name, there| *name != self.name || there.owner != self.owner);
    }

    fn set(&self, state: Result<String, String>) {
        let mut conditions = self.readiness.lock();
        if let Some(mine) = conditions.by_name.get_mut(&self.name).filter(|there| there.owner == self.owner) {
            mine.state = state;
        }
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.set(Err("ended".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_owner_does_not_speak_for_the_next() {
        let readiness = Readiness::default();
        let first = readiness.condition("partition 0");
        let second = readiness.condition("partition 0");
        second.met();
        first.unmet("lost");
        drop(first);
        assert_eq!(readiness.now(), BTreeMap::from([("partition 0".to_owned(), Ok(MET.to_owned()))]));
        drop(second);
        assert_eq!(readiness.now(), BTreeMap::from([("partition 0".to_owned(), Err("ended".to_owned()))]));
    }

    #[test]
    fn what_is_withdrawn_is_not_waited_for() {
        let readiness = Readiness::default();
        let (former, lasting) = (readiness.condition("partition 0"), readiness.condition("partition 1"));
        lasting.met();
        readiness.condition("partition 0").withdraw();
        former.withdraw();
        assert_eq!(readiness.now(), BTreeMap::from([("partition 1".to_owned(), Ok(MET.to_owned()))]));
    }
}
