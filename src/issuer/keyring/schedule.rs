//! When a tenant's keys change their state: a function of their history and the time, the same on every instance.
//!
//! A rotation is written once, with the times of all that follows from it: the successor is prepared now and active
//! later, its predecessor retained from then on and expired after that. Nobody has to be awake when a time comes.

use crate::issuer::control::{IssueAlg, KeyChange, KeyPair, KeySet, KeyState, Policy, PrivateHalf};
use crate::model::UnixMs;
use crate::token::SKEW_MS;

const MINUTE_MS: i64 = 60 * 1_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// A key signs for so long (ISSUER, "Keys").
const ROTATE_EVERY_MS: i64 = 30 * DAY_MS;

/// A successor is published so long before it signs: longer than any verifier keeps a JWK set.
const PREPARED_FOR_MS: i64 = DAY_MS;

/// `max-age` of the JWK set, in seconds.
pub(crate) const JWKS_MAX_AGE_S: u32 = 300;

/// A key verifies for so long after it signed last: the longest life of a token, what clocks may be apart, and what
/// verifiers keep.
const RETAINED_FOR_MS: i64 =
    Policy::ACCESS_TOKEN_S_MAX as i64 * 1_000 + SKEW_MS + JWKS_MAX_AGE_S as i64 * 1_000;

/// What is to be done about a tenant's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// There is none that signs: one has to, at once.
    First,
    /// The one that signs is to be followed.
    Successor,
    /// One signs with an algorithm that the policy has no more.
    Retirement,
    /// A private half is there that is of no more use.
    Destruction,
}

/// What is due at `now` and for which algorithm, the most urgent first. `algs` are the policy's.
pub(super) fn due(set: &KeySet, algs: &[IssueAlg], now: UnixMs) -> Option<(IssueAlg, Due)> {
    let wanted = algs.iter().find_map(|&alg| Some((alg, due_of(set, alg, now)?)));
    let dropped = || {
        let key = set
            .keys
            .iter()
            .find(|key| !algs.contains(&key.alg) && key.last_state() == Some(KeyState::Active));
        key.map(|key| (key.alg, Due::Retirement))
    };
    let spent = || set.keys.iter().find(|key| is_spent(key, now)).map(|key| (key.alg, Due::Destruction));
    wanted.or_else(dropped).or_else(spent)
}

fn due_of(set: &KeySet, alg: IssueAlg, now: UnixMs) -> Option<Due> {
    let Some(active) = active(set, alg, now) else { return Some(Due::First) };
    let is_followed = of_alg(set, alg).any(|key| key.state_at(now) == Some(KeyState::Prepared));
    let active_since = active.history.iter().rev().find(|change| change.state == KeyState::Active);
    let until_ms = active_since.map_or(i64::MIN, |change| change.at.get().saturating_add(ROTATE_EVERY_MS));
    (!is_followed && now.get() >= until_ms.saturating_sub(PREPARED_FOR_MS)).then_some(Due::Successor)
}

/// The key that signs at `now`: of several the one that became active last.
pub(super) fn active(set: &KeySet, alg: IssueAlg, now: UnixMs) -> Option<&KeyPair> {
    of_alg(set, alg)
        .filter(|key| key.state_at(now) == Some(KeyState::Active))
        .max_by_key(|key| key.history.last().map(|change| change.at))
}

fn of_alg(set: &KeySet, alg: IssueAlg) -> impl Iterator<Item = &KeyPair> {
    set.keys.iter().filter(move |key| key.alg == alg)
}

fn is_spent(key: &KeyPair, now: UnixMs) -> bool {
    let is_over = matches!(key.state_at(now), Some(KeyState::Expired | KeyState::Revoked));
    is_over && matches!(key.private, PrivateHalf::Sealed(_))
}

/// The states of a key that signs at once.
pub(super) fn begun(now: UnixMs) -> Vec<KeyChange> {
    vec![KeyChange { state: KeyState::Active, at: now }]
}

/// The states of a successor; writes into `set` what follows for those that sign at `now`.
pub(super) fn succeed(set: &mut KeySet, alg: IssueAlg, now: UnixMs) -> Vec<KeyChange> {
    let takes_over = UnixMs::new(now.get().saturating_add(PREPARED_FOR_MS));
    retire(set, alg, takes_over);
    vec![
        KeyChange { state: KeyState::Prepared, at: now },
        KeyChange { state: KeyState::Active, at: takes_over },
    ]
}

/// Has nobody of that algorithm sign from `from` on, or from when it would have begun to, if that is later.
pub(super) fn retire(set: &mut KeySet, alg: IssueAlg, from: UnixMs) {
    for key in set.keys.iter_mut().filter(|key| key.alg == alg) {
        if let Some(KeyChange { state: KeyState::Active, at }) = key.history.last().copied() {
            let from = from.max(at);
            let over = UnixMs::new(from.get().saturating_add(RETAINED_FOR_MS));
            key.history.push(KeyChange { state: KeyState::Retained, at: from });
            key.history.push(KeyChange { state: KeyState::Expired, at: over });
        }
    }
}

/// Leaves nothing of the private halves that are of no more use. The keys stay: events are judged by them.
pub(super) fn destroy(set: &mut KeySet, now: UnixMs) {
    for key in set.keys.iter_mut().filter(|key| is_spent(key, now)) {
        key.private = PrivateHalf::Destroyed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::control::{KeyId, Sealed};

    const ALG: IssueAlg = IssueAlg::Es256;

    fn pair(name: char, history: Vec<KeyChange>) -> KeyPair {
        KeyPair {
            kid: KeyId::parse(&name.to_string().repeat(43)).unwrap(),
            alg: ALG,
            public: serde_json::json!({}),
            private: PrivateHalf::Sealed(Sealed::new(vec![1])),
            history,
        }
    }

    fn due_alone(set: &KeySet, now: UnixMs) -> Option<Due> {
        due(set, &[ALG], now).map(|(_, due)| due)
    }

    fn day(day: i64) -> UnixMs {
        UnixMs::new(day * DAY_MS)
    }

    /// The states at a time, key by key.
    fn states(set: &KeySet, at: UnixMs) -> String {
        let state = |key: &KeyPair| key.state_at(at).map_or("-", |state| state.as_str()).to_owned();
        set.keys.iter().map(state).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_tenants_keys_follow_each_other_and_nothing_falls_between() {
        let mut set = KeySet::default();
        assert_eq!(due_alone(&set, day(0)), Some(Due::First));
        set.keys.push(pair('a', begun(day(0))));
        assert_eq!(due_alone(&set, day(28)), None);
        assert_eq!(due_alone(&set, day(29)), Some(Due::Successor));

        let history = succeed(&mut set, ALG, day(29));
        set.keys.push(pair('b', history));
        assert_eq!(due_alone(&set, day(29)), None);
        assert_eq!(states(&set, day(29)), "active prepared");
        assert_eq!(states(&set, UnixMs::new(day(30).get() - 1)), "active prepared");
        assert_eq!(states(&set, day(30)), "retained active");
        let over = UnixMs::new(day(30).get() + RETAINED_FOR_MS);
        assert_eq!(states(&set, UnixMs::new(over.get() - 1)), "retained active");
        assert_eq!(states(&set, over), "expired active");
        assert_eq!(due_alone(&set, over), Some(Due::Destruction));
        destroy(&mut set, over);
        assert_eq!(due_alone(&set, over), None);
        assert_eq!(set.keys[0].private, PrivateHalf::Destroyed);
        assert_eq!(due_alone(&set, day(59)), Some(Due::Successor));
    }

    /// Nobody asked for a token for months: the key signs on until somebody does, and is followed then.
    #[test]
    fn a_tenant_that_slept_goes_on_with_the_key_it_had() {
        let mut set = KeySet { keys: vec![pair('a', begun(day(0)))], ..KeySet::default() };
        assert_eq!(due_alone(&set, day(400)), Some(Due::Successor));
        let history = succeed(&mut set, ALG, day(400));
        set.keys.push(pair('b', history));
        assert_eq!(states(&set, day(400)), "active prepared");
        assert_eq!(states(&set, day(401)), "retained active");
    }

    #[test]
    fn a_revoked_key_is_replaced_at_once() {
        let mut history = begun(day(0));
        history.push(KeyChange { state: KeyState::Revoked, at: day(3) });
        let set = KeySet { keys: vec![pair('a', history)], ..KeySet::default() };
        assert_eq!(due_alone(&set, UnixMs::new(day(3).get() - 1)), None);
        assert_eq!(due_alone(&set, day(3)), Some(Due::First));
    }

    #[test]
    fn a_key_whose_algorithm_the_policy_drops_signs_no_more() {
        let mut set = KeySet { keys: vec![pair('a', begun(day(0)))], ..KeySet::default() };
        let algs = [IssueAlg::EdDsa];
        assert_eq!(due(&set, &algs, day(3)), Some((IssueAlg::EdDsa, Due::First)));
        set.keys.push(KeyPair { alg: IssueAlg::EdDsa, ..pair('b', begun(day(3))) });
        assert_eq!(due(&set, &algs, day(3)), Some((ALG, Due::Retirement)));
        retire(&mut set, ALG, day(3));
        assert_eq!(
            (states(&set, day(3)), states(&set, day(4))),
            ("retained active".into(), "expired active".into())
        );
        assert_eq!(due(&set, &algs, day(4)), Some((ALG, Due::Destruction)));
    }
}
