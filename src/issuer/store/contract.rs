//! What every store must keep: one suite, run against each.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Family, FamilyId, Login, Pace, Refreshed, Revoked, Store, SubjectTag};
use crate::clock::Random;
use crate::issuer::control::Advance;
use crate::model::{TenantId, UnixMs};

/// A store under test.
#[async_trait]
pub(super) trait UnderTest: Send + Sync + Sized + 'static {
    /// A span that can be waited for, and that no step of a case takes a quarter of.
    const SPAN: Duration;

    async fn open() -> Self;

    /// An instance's way to the store.
    fn store(&self) -> Arc<dyn Store>;

    /// Another instance's.
    async fn other(&self) -> Arc<dyn Store>;

    fn now(&self) -> UnixMs;

    /// Lets the store's time pass.
    async fn pass(&self, span: Duration);
}

/// One `#[tokio::test]` a case.
macro_rules! contract_suite {
    ($store:ty) => {
        $crate::issuer::store::contract::contract_suite! { @each $store:
            a_family_advances_one_by_one,
            the_generation_before_gets_the_same_successor_within_the_leeway,
            after_the_leeway_it_is_reuse,
            without_a_leeway_nothing_is_given_twice,
            an_older_generation_revokes_the_family,
            a_generation_that_was_never_given_revokes_the_family,
            another_clients_family_is_not_touched,
            an_idle_family_expires,
            a_family_ends_at_its_absolute_time,
            what_never_began_is_unknown,
            a_subject_is_revoked_with_all_its_families,
            parallel_refreshes_advance_by_exactly_one,
            after_revoke_has_answered_nothing_lives,
            the_first_of_many_writers_wins,
            a_write_that_is_repeated_stands_once,
            the_first_use_is_one,
            delays_grow_and_a_success_forgives,
            guesses_in_parallel_get_no_more_tries,
            a_networks_failures_are_taken_back_one_by_one,
            revocations_come_in_their_order,
            key_sets_are_kept_for_a_while,
        }
    };
    (@each $store:ty: $($case:ident,)+) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::issuer::store::contract::in_time($crate::issuer::store::contract::$case::<$store>()).await;
        }
    )+ };
}
pub(super) use contract_suite;

/// A case that hangs fails.
pub(super) async fn in_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(120), case).await.expect("the case hangs");
}

pub(super) const LEEWAY: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A tenant of its own for each case: stores outlive them.
pub(super) fn new_tenant() -> TenantId {
    format!("tenant-{}", Random::hex::<8>()).parse().unwrap()
}

fn family(now: UnixMs) -> Family {
    Family {
        sub: "alice".to_owned(),
        client: "shop".to_owned(),
        scope: "orders offline_access".to_owned(),
        audience: "https://api.example".to_owned(),
        auth_time: now,
        sid: "sid-1".to_owned(),
        idle: 14 * DAY,
        absolute_until: now + 90 * DAY,
    }
}

pub(super) fn family_id(tenant: &TenantId, sub: &str) -> FamilyId {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"the tenant's refresh key");
    FamilyId::draw(tenant.clone(), SubjectTag::of(&key, tenant, sub))
}

/// A family of a subject of its own.
pub(super) async fn begun(store: &dyn Store, now: UnixMs) -> (FamilyId, Family) {
    let (id, family) = (family_id(&new_tenant(), "alice"), family(now));
    store.begin(&id, &family).await.unwrap();
    (id, family)
}

pub(super) async fn refresh(store: &dyn Store, id: &FamilyId, generation: u64) -> Refreshed {
    store.refresh(id, generation, "shop", LEEWAY).await.unwrap()
}

fn advanced(generation: u64, family: &Family) -> Refreshed {
    Refreshed::Advanced { generation, family: family.clone() }
}

pub(super) async fn a_family_advances_one_by_one<T: UnderTest>() {
    let under = T::open().await;
    let (store, other) = (under.store(), under.other().await);
    let (id, family) = begun(&*store, under.now()).await;
    for generation in 1..20 {
        let store = if generation % 2 == 0 { &store } else { &other };
        assert_eq!(refresh(&**store, &id, generation).await, advanced(generation + 1, &family));
    }
    store.begin(&id, &family).await.unwrap_err();
    store.health().await.unwrap();
}

pub(super) async fn the_generation_before_gets_the_same_successor_within_the_leeway<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    let (id, family) = begun(&*store, under.now()).await;
    assert_eq!(refresh(&*store, &id, 1).await, advanced(2, &family));
    for _ in 0..3 {
        let again = Refreshed::Again { generation: 2, family: family.clone() };
        assert_eq!(refresh(&*under.other().await, &id, 1).await, again);
    }
    assert_eq!(refresh(&*store, &id, 2).await, advanced(3, &family), "the successor is good");
}

/// Presents a spent generation, and sees that nothing of the family lives on.
async fn assert_reused(store: &dyn Store, id: &FamilyId, spent: u64, leeway: Duration, family: &Family) {
    let reused = store.refresh(id, spent, "shop", leeway).await.unwrap();
    assert_eq!(reused, Refreshed::Reused { family: family.clone() });
    for generation in 1..=spent + 3 {
        assert_eq!(refresh(store, id, generation).await, Refreshed::Revoked, "{generation}");
    }
    assert_eq!(store.revoke_family(id, None).await.unwrap(), Revoked::Before);
}

pub(super) async fn after_the_leeway_it_is_reuse<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    let (id, family) = begun(&*store, under.now()).await;
    assert_eq!(refresh(&*store, &id, 1).await, advanced(2, &family));
    under.pass(T::SPAN).await;
    assert_reused(&*store, &id, 1, T::SPAN, &family).await;
}

pub(super) async fn without_a_leeway_nothing_is_given_twice<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    let (id, family) = begun(&*store, under.now()).await;
    assert_eq!(refresh(&*store, &id, 1).await, advanced(2, &family));
    assert_reused(&*store, &id, 1, Duration::ZERO, &family).await;
}

pub(super) async fn an_older_generation_revokes_the_family<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    for spent in [1, 2] {
        let (id, family) = begun(&*store, under.now()).await;
        for generation in 1..4 {
            assert_eq!(refresh(&*store, &id, generation).await, advanced(generation + 1, &family));
        }
        assert_reused(&*store, &id, spent, LEEWAY, &family).await;
    }
}

pub(super) async fn a_generation_that_was_never_given_revokes_the_family<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    for generation in [2, 3, u64::from(u32::MAX)] {
        let (id, family) = begun(&*store, under.now()).await;
        assert_eq!(refresh(&*store, &id, generation).await, Refreshed::Ahead { family });
        assert_eq!(refresh(&*store, &id, 1).await, Refreshed::Revoked);
    }
}

pub(super) async fn another_clients_family_is_not_touched<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    let (id, family) = begun(&*store, under.now()).await;
    assert_eq!(refresh(&*store, &id, 1).await, advanced(2, &family));
    for generation in [1, 2, 3] {
        let refreshed = store.refresh(&id, generation, "other", LEEWAY).await.unwrap();
        assert_eq!(refreshed, Refreshed::WrongClient);
    }
    assert_eq!(store.revoke_family(&id, Some("other")).await.unwrap(), Revoked::WrongClient);
    assert_eq!(refresh(&*store, &id, 2).await, advanced(3, &family));
    assert_eq!(store.revoke_family(&id, Some("shop")).await.unwrap(), Revoked::Now(family));
}

pub(super) async fn an_idle_family_expires<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    let id = family_id(&new_tenant(), "alice");
    let family = Family { idle: T::SPAN, ..family(under.now()) };
    store.begin(&id, &family).await.unwrap();
    for generation in 1..4 {
        assert_eq!(refresh(&*store, &id, generation).await, advanced(generation + 1, &family));
        under.pass(T::SPAN / 2).await;
    }
    assert_eq!(refresh(&*store, &id, 4).await, advanced(5, &family));
    under.pass(T::SPAN).await;
    for generation in [1, 4, 5, 6] {
        assert_eq!(refresh(&*store, &id, generation).await, Refreshed::Expired, "{generation}");
    }
    assert_eq!(store.revoke_family(&id, None).await.unwrap(), Revoked::Unknown);
}

pub(super) async fn a_family_ends_at_its_absolute_time<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    let id = family_id(&new_tenant(), "alice");
    let family = Family { absolute_until: under.now() + T::SPAN, ..family(under.now()) };
    store.begin(&id, &family).await.unwrap();
    assert_eq!(refresh(&*store, &id, 1).await, advanced(2, &family));
    under.pass(T::SPAN / 2).await;
    assert_eq!(refresh(&*store, &id, 2).await, advanced(3, &family));
    under.pass(T::SPAN / 2).await;
    assert_eq!(refresh(&*store, &id, 3).await, Refreshed::Expired);
}

pub(super) async fn what_never_began_is_unknown<T: UnderTest>() {
    let under = T::open().await;
    let store = under.store();
    let (id, _) = begun(&*store, under.now()).await;
    let same_subject = FamilyId::draw(id.tenant.clone(), id.tag);
    let other_tenant = FamilyId { tenant: new_tenant(), ..id.clone() };
    for id in [same_subject, other_tenant] {
        assert_eq!(refresh(&*store, &id, 1).await, Refreshed::Unknown);
        assert_eq!(store.revoke_family(&id, None).await.unwrap(), Revoked::Unknown);
    }
}

pub(super) async fn a_subject_is_revoked_with_all_its_families<T: UnderTest>() {
    let under = T::open().await;
    let (store, tenant, family) = (under.store(), new_tenant(), family(under.now()));
    let ids: Vec<_> = (0..5).map(|_| family_id(&tenant, "alice")).collect();
    let others = [family_id(&tenant, "bob"), family_id(&new_tenant(), "alice")];
    for id in ids.iter().chain(&others) {
        store.begin(id, &family).await.unwrap();
    }
    assert!(store.revoke_subject(&tenant, ids[0].tag).await.unwrap());
    let after = family_id(&tenant, "alice");
    store.begin(&after, &family).await.unwrap();
    for id in &ids {
        assert_eq!(refresh(&*under.other().await, id, 1).await, Refreshed::Revoked);
        assert_eq!(store.revoke_family(id, None).await.unwrap(), Revoked::Before);
    }
    for id in others.iter().chain([&after]) {
        assert_eq!(refresh(&*store, id, 1).await, advanced(2, &family));
    }
    assert!(store.revoke_subject(&tenant, ids[0].tag).await.unwrap());
    assert_eq!(refresh(&*store, &after, 2).await, Refreshed::Revoked);
    assert!(!store.revoke_subject(&tenant, family_id(&tenant, "nobody").tag).await.unwrap());
}

pub(super) async fn parallel_refreshes_advance_by_exactly_one<T: UnderTest>() {
    const CALLERS: usize = 64;
    let under = T::open().await;
    let (store, other) = (under.store(), under.other().await);
    let (id, family) = begun(&*store, under.now()).await;
    for generation in 1..4 {
        let (barrier, mut calls) = (Arc::new(Barrier::new(CALLERS)), JoinSet::new());
        for caller in 0..CALLERS {
            let (store, id) = (Arc::clone(if caller % 2 == 0 { &store } else { &other }), id.clone());
            let barrier = Arc::clone(&barrier);
            calls.spawn(async move {
                barrier.wait().await;
                refresh(&*store, &id, generation).await
            });
        }
        let answers = calls.join_all().await;
        let again = Refreshed::Again { generation: generation + 1, family: family.clone() };
        let firsts = answers.iter().filter(|&answer| *answer == advanced(generation + 1, &family)).count();
        let repeats = answers.iter().filter(|&answer| *answer == again).count();
        assert_eq!((firsts, repeats), (1, CALLERS - 1), "{answers:?}");
    }
}

/// How often a refresh runs against a revocation.
const ROUNDS: usize = 1_000;

pub(super) async fn after_revoke_has_answered_nothing_lives<T: UnderTest>() {
    let under = T::open().await;
    let (store, other) = (under.store(), under.other().await);
    for round in 0..ROUNDS {
        let (id, _) = begun(&*store, under.now()).await;
        let barrier = Arc::new(Barrier::new(2));
        let (refreshing, revoking) = ((Arc::clone(&barrier), id.clone()), (barrier, id.clone()));
        let (refresher, revoker) = (Arc::clone(&store), Arc::clone(&other));
        let mut calls = JoinSet::new();
        calls.spawn(async move {
            refreshing.0.wait().await;
            // Until it is refused: whatever was given before is spent or revoked by then.
            let mut generation = 1;
            while let Refreshed::Advanced { generation: next, .. } =
                refresh(&*refresher, &refreshing.1, generation).await
            {
                generation = next;
            }
        });
        revoking.0.wait().await;
        if round % 2 == 0 {
            assert!(matches!(revoker.revoke_family(&revoking.1, None).await.unwrap(), Revoked::Now(_)));
        } else {
            assert!(revoker.revoke_subject(&id.tenant, id.tag).await.unwrap());
        }
        for generation in 1..8 {
            assert_eq!(refresh(&*store, &id, generation).await, Refreshed::Revoked, "round {round}");
        }
        calls.join_all().await;
    }
}

pub(super) async fn the_first_of_many_writers_wins<T: UnderTest>() {
    const WRITERS: u64 = 32;
    const EACH: u64 = 5;
    let under = T::open().await;
    let (store, other, key) = (under.store(), under.other().await, format!("client/{}/shop", new_tenant()));
    assert_eq!(store.current(&key).await.unwrap(), None);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, key) = (Arc::clone(if writer % 2 == 0 { &store } else { &other }), key.clone());
        writers.spawn(async move {
            let (mut version, mut written) = (0, Vec::new());
            while (written.len() as u64) < EACH {
                let value = format!("{writer} over {version}");
                match store.advance(&key, version, value.as_bytes()).await.unwrap() {
                    Advance::Done(new) => {
                        assert_eq!(new, version + 1);
                        written.push(new);
                        version = new;
                    }
                    Advance::Conflict { version: newer, .. } => version = newer,
                }
            }
            written
        });
    }
    let mut versions = writers.join_all().await.concat();
    versions.sort_unstable();
    assert_eq!(versions, (1..=WRITERS * EACH).collect::<Vec<_>>(), "each version is one writer's");
    assert_eq!(store.current(&key).await.unwrap().unwrap().0, WRITERS * EACH);
}

pub(super) async fn a_write_that_is_repeated_stands_once<T: UnderTest>() {
    let under = T::open().await;
    let (store, key) = (under.store(), format!("tenant/{}", new_tenant()));
    let binary = [0, 159, 146, 150];
    assert_eq!(store.advance(&key, 0, &binary).await.unwrap(), Advance::Done(1));
    assert_eq!(store.advance(&key, 0, &binary).await.unwrap(), Advance::Done(1), "its answer was lost");
    let conflict = Advance::Conflict { version: 1, value: binary.to_vec() };
    for from in [0, 2, 7] {
        assert_eq!(store.advance(&key, from, b"other").await.unwrap(), conflict);
    }
    assert_eq!(store.current(&key).await.unwrap(), Some((1, binary.to_vec())));
    assert_eq!(store.advance(&key, 1, b"").await.unwrap(), Advance::Done(2));
    assert_eq!(store.current(&key).await.unwrap(), Some((2, Vec::new())));
    let absent = Advance::Conflict { version: 0, value: Vec::new() };
    assert_eq!(store.advance("tenant/of-nobody", 4, b"x").await.unwrap(), absent);
}

pub(super) async fn the_first_use_is_one<T: UnderTest>() {
    let under = T::open().await;
    let (store, other, tenant) = (under.store(), under.other().await, new_tenant());
    let (digest, until) = (Random::bytes::<32>(), under.now() + T::SPAN);
    let mut calls = JoinSet::new();
    for caller in 0..32 {
        let (store, tenant) = (Arc::clone(if caller % 2 == 0 { &store } else { &other }), tenant.clone());
        calls.spawn(async move { store.first_use(&tenant, &digest, until).await.unwrap() });
    }
    assert_eq!(calls.join_all().await.into_iter().filter(|&first| first).count(), 1);
    assert!(store.first_use(&new_tenant(), &digest, until).await.unwrap(), "another tenant's");
    under.pass(T::SPAN).await;
    assert!(!store.first_use(&tenant, &digest, until).await.unwrap(), "its time has passed");
}

/// The wait after the third try is a span, and after the next ones two.
fn pace(span: Duration) -> Pace {
    Pace { free: 3, first: span, longest: 2 * span, forget: DAY }
}

pub(super) async fn delays_grow_and_a_success_forgives<T: UnderTest>() {
    let under = T::open().await;
    let (store, pace) = (under.store(), pace(T::SPAN));
    let login = Login::User { tenant: new_tenant(), name: Random::bytes() };
    let attempt = async || store.try_login(&login, pace).await.unwrap();
    for _ in 0..pace.free {
        assert_eq!(attempt().await, Duration::ZERO);
    }
    let wait = attempt().await;
    assert!(wait > Duration::ZERO && wait <= T::SPAN, "{wait:?}");
    under.pass(T::SPAN).await;
    assert_eq!(attempt().await, Duration::ZERO);
    let wait = attempt().await;
    assert!(wait > T::SPAN && wait <= 2 * T::SPAN, "{wait:?}");
    let other = Login::User { tenant: new_tenant(), name: Random::bytes() };
    assert_eq!(store.try_login(&other, pace).await.unwrap(), Duration::ZERO);
    store.login_succeeded(&login).await.unwrap();
    for _ in 0..pace.free {
        assert_eq!(attempt().await, Duration::ZERO);
    }
    assert!(attempt().await > Duration::ZERO);
    store.login_succeeded(&Login::User { tenant: new_tenant(), name: [0; 32] }).await.unwrap();
}

pub(super) async fn guesses_in_parallel_get_no_more_tries<T: UnderTest>() {
    let under = T::open().await;
    let (store, other, pace) = (under.store(), under.other().await, pace(DAY));
    let login = Login::User { tenant: new_tenant(), name: Random::bytes() };
    let mut calls = JoinSet::new();
    for caller in 0..32 {
        let (store, login) = (Arc::clone(if caller % 2 == 0 { &store } else { &other }), login.clone());
        calls.spawn(async move { store.try_login(&login, pace).await.unwrap() });
    }
    let free = calls.join_all().await.into_iter().filter(Duration::is_zero).count();
    assert_eq!(free, pace.free as usize);
}

pub(super) async fn a_networks_failures_are_taken_back_one_by_one<T: UnderTest>() {
    let under = T::open().await;
    let (store, pace) = (under.store(), pace(DAY));
    let login = Login::Network(format!("2001:db8:{}::/56", Random::hex::<2>()));
    for _ in 0..10 {
        assert_eq!(store.try_login(&login, pace).await.unwrap(), Duration::ZERO);
        store.login_succeeded(&login).await.unwrap();
    }
    for _ in 0..pace.free {
        assert_eq!(store.try_login(&login, pace).await.unwrap(), Duration::ZERO);
    }
    store.login_succeeded(&login).await.unwrap();
    assert!(store.try_login(&login, pace).await.unwrap() > Duration::ZERO, "an own account clears nothing");
}

pub(super) async fn revocations_come_in_their_order<T: UnderTest>() {
    let under = T::open().await;
    let (store, other) = (under.store(), under.other().await);
    // Others write into the same order: a case looks at its own.
    let (mine, mut cursor) = (format!("ref:{}", Random::hex::<8>()), 0);
    let seen = async |cursor: &mut u64| {
        let mut seen = Vec::new();
        loop {
            let page = store.revoked_since(*cursor).await.unwrap();
            assert!(page.cursor >= *cursor);
            if page.cursor == *cursor {
                return seen;
            }
            *cursor = page.cursor;
            seen.extend(page.entries.into_iter().filter(|(entry, _)| entry.starts_with(&mine)));
        }
    };
    let (short, long) = (under.now() + T::SPAN, under.now() + DAY);
    let entry = |n: usize, until: UnixMs| (format!("{mine}-{n:04}"), until);
    for n in 0..1_005 {
        let (name, until) = entry(n, if n == 0 { short } else { long });
        if n % 2 == 0 { &store } else { &other }.revoke(&name, until).await.unwrap();
    }
    let all = seen(&mut cursor).await;
    let rest: Vec<_> = (1..1_005).map(|n| entry(n, long)).collect();
    assert!(all.ends_with(&rest), "{} of them", all.len());
    // What is known already is not told again; what lives longer is.
    store.revoke(&entry(3, short).0, short).await.unwrap();
    store.revoke(&entry(3, long).0, long).await.unwrap();
    assert_eq!(seen(&mut cursor).await, []);
    store.revoke(&entry(3, long).0, long + DAY).await.unwrap();
    assert_eq!(seen(&mut cursor).await, [entry(3, long + DAY)]);
    under.pass(T::SPAN).await;
    store.revoke(&entry(9_999, short).0, short).await.unwrap();
    let all = seen(&mut 0).await;
    assert_eq!(all.len(), 1_004, "what has ended is not told");
}

pub(super) async fn key_sets_are_kept_for_a_while<T: UnderTest>() {
    let under = T::open().await;
    let (store, iss) = (under.store(), format!("https://id.example/t/{}", new_tenant()));
    assert_eq!(store.public_keys(&iss).await.unwrap(), None);
    store.cache_public_keys(&iss, b"{\"keys\":[]}", T::SPAN).await.unwrap();
    assert_eq!(under.other().await.public_keys(&iss).await.unwrap(), Some(b"{\"keys\":[]}".to_vec()));
    under.pass(T::SPAN).await;
    assert_eq!(store.public_keys(&iss).await.unwrap(), None);
}
