//! Who gets a token, who gets none and why, and what a token is worth to whom.

use super::testing::{House, NOW, SECRET, tenant};
use super::*;
use crate::issuer::control::{EntryKey, Epoch, EpochOf};
use crate::log::memory::LogFault;

const PLAIN: Request<'_> = Request { grant_type: "client_credentials", resource: None, scope: None };

#[tokio::test]
async fn a_client_gets_a_token_that_its_audience_can_judge_and_nobody_else() {
    let house = House::build().await;
    let issued = house.ask("web", SECRET, PLAIN).await.unwrap();
    assert_eq!((issued.expires_in_s, issued.scope.as_str()), (600, "orders:read orders:write"));
    let token = issued.access_token.as_str();
    assert!(house.active("acme", "api", token).await);
    assert!(!house.active("acme", "web", token).await, "it owns no audience of it");
    assert!(!house.active("other", "api", token).await, "another tenant's");
    assert!(!house.active("acme", "api", &token[..token.len() - 1]).await);
    let events = house.events();
    let token_ref = crate::token::token_ref(token).unwrap();
    assert!(events.contains("\"issued\"") && events.contains(&token_ref), "{events}");
    assert!(!events.contains(token) && !events.contains(token.rsplit_once('.').unwrap().1));
}

#[tokio::test]
async fn each_refusal_has_oauths_own_word() {
    let house = House::build().await;
    let with = |change: fn(&mut Request<'static>)| {
        let mut request = PLAIN;
        change(&mut request);
        request
    };
    for (id, secret, request, word) in [
        ("nobody", SECRET, PLAIN, "invalid_client"),
        ("web", "another", PLAIN, "invalid_client"),
        ("web", "", PLAIN, "invalid_client"),
        ("gone", SECRET, PLAIN, "invalid_client"),
        ("we b", SECRET, PLAIN, "invalid_client"),
        ("api", SECRET, PLAIN, "unauthorized_client"),
        ("web", SECRET, with(|it| it.grant_type = "password"), "unsupported_grant_type"),
        ("web", SECRET, with(|it| it.scope = Some("admin")), "invalid_scope"),
        ("web", SECRET, with(|it| it.scope = Some("orders:read  orders:write")), "invalid_scope"),
        ("web", SECRET, with(|it| it.resource = Some("https://api.example/")), "invalid_target"),
        ("web", SECRET, with(|it| it.resource = Some("https://vault.example")), "invalid_target"),
    ] {
        assert_eq!(house.ask(id, secret, request).await.unwrap_err(), word, "{id} {request:?}");
    }
    let narrow = with(|it| {
        it.scope = Some("orders:read");
        it.resource = Some("https://reports.example");
    });
    assert_eq!(house.ask("web", SECRET, narrow).await.unwrap().scope, "orders:read");
}

#[tokio::test]
async fn a_suspended_tenant_issues_nothing_and_its_tokens_are_worth_nothing() {
    let house = House::build().await;
    let issued = house.ask("web", SECRET, PLAIN).await.unwrap();
    let suspended = Tenant { status: TenantStatus::Suspended, ..Tenant::new(NOW) };
    house.put(&EntryKey::of_tenant(&tenant("acme")), suspended).await;
    assert_eq!(house.ask("web", SECRET, PLAIN).await.unwrap_err(), "unauthorized_client");
    assert!(!house.active("acme", "api", &issued.access_token).await);
}

#[tokio::test]
async fn an_epoch_kills_what_was_issued_before_it() {
    let house = House::build().await;
    let issued = house.ask("web", SECRET, PLAIN).await.unwrap();
    let epoch = Epoch { not_before: UnixMs::new(NOW.get() + 1) };
    house.put(&EntryKey::of::<Epoch>(&tenant("acme"), &EpochOf::Client("web").name()), epoch).await;
    assert!(!house.active("acme", "api", &issued.access_token).await);
}

/// What happened is durable before anybody has the token, or there is none.
#[tokio::test]
async fn no_token_leaves_that_was_not_written_down() {
    let house = House::build().await;
    house.ask("web", SECRET, PLAIN).await.unwrap();
    house.log.fail(LogFault::AppendFails);
    assert_eq!(house.ask("web", SECRET, PLAIN).await.unwrap_err(), "temporarily_unavailable");
}
