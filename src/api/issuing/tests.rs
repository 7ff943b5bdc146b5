//! A tenant's issuer over HTTP.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use super::*;
use crate::issuer::testing::{House, SECRET};
use crate::lifecycle::Lifecycle;

struct Issuer {
    house: House,
    at: String,
    http: reqwest::Client,
    _lifecycle: Lifecycle,
}

impl Issuer {
    async fn start() -> Self {
        let (house, lifecycle) = (House::build().await, Lifecycle::new(Duration::from_secs(10)));
        let routes = routes(Arc::clone(&house.grants));
        let bound = crate::telemetry::listen(([127, 0, 0, 1], 0).into(), routes, &lifecycle).await.unwrap();
        Self { house, at: format!("http://{bound}"), http: reqwest::Client::new(), _lifecycle: lifecycle }
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.at)).send().await.unwrap()
    }

    fn post(&self, path: &str, form: impl Into<reqwest::Body>) -> RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.at)).body(form);
        request.header("content-type", "application/x-www-form-urlencoded")
    }
}

async fn told(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_client_finds_the_issuer_gets_a_token_and_its_audience_judges_it() {
    let issuer = Issuer::start().await;
    for path in [
        "/.well-known/oauth-authorization-server/t/acme",
        "/t/acme/.well-known/oauth-authorization-server",
        "/t/acme/.well-known/openid-configuration",
    ] {
        let spoofed = issuer.http.get(format!("{}{path}", issuer.at)).header("host", "evil.example");
        let metadata: Value = spoofed.send().await.unwrap().json().await.unwrap();
        assert_eq!(metadata["issuer"], "https://id.example/t/acme");
        assert_eq!(metadata["token_endpoint"], "https://id.example/t/acme/token");
    }
    let form = "grant_type=client_credentials&scope=orders%3Aread";
    let (status, issued) =
        told(issuer.post("/t/acme/token", form).basic_auth("web", Some("a+secret+of+256+bits%2C+say"))).await;
    assert_eq!(
        (status, &issued["token_type"], &issued["scope"]),
        (200, &"Bearer".into(), &"orders:read".into())
    );
    let token = issued["access_token"].as_str().unwrap();
    let judged = |at: &str| {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("client_id", "api").append_pair("client_secret", SECRET).append_pair("token", token);
        told(issuer.post(&format!("/t/{at}/introspect"), form.finish()))
    };
    let (status, judged_here) = judged("acme").await;
    assert_eq!((status, &judged_here["active"], &judged_here["sub"]), (200, &true.into(), &"web".into()));
    assert_eq!(judged("other").await, (200, serde_json::json!({"active": false})));
    assert!(!issuer.house.events().contains(token));
}

#[tokio::test]
async fn keys_are_cached_and_known_by_their_etag() {
    let issuer = Issuer::start().await;
    let first = issuer.get("/t/acme/jwks.json").await;
    assert_eq!(first.headers()["cache-control"], "public, max-age=300, stale-if-error=3600");
    let etag = first.headers()["etag"].clone();
    let keys: Value = first.json().await.unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert!(keys["keys"][0].get("d").is_none());
    let again = issuer.http.get(format!("{}/t/acme/jwks.json", issuer.at)).header("if-none-match", etag);
    assert_eq!(again.send().await.unwrap().status(), 304);
    let other: Value = issuer.get("/t/other/jwks.json").await.json().await.unwrap();
    assert_ne!(other["keys"][0]["kid"], keys["keys"][0]["kid"]);
    assert_eq!(issuer.get("/t/nobody/jwks.json").await.status(), 404);
}

#[tokio::test]
async fn requests_that_say_two_things_or_nothing_are_refused() {
    let issuer = Issuer::start().await;
    let post = |form| issuer.post("/t/acme/token", form);
    for (request, status, error) in [
        (post("grant_type=client_credentials"), 401, "invalid_client"),
        (post("grant_type=client_credentials&client_id=web&client_secret=x"), 401, "invalid_client"),
        (
            post("grant_type=client_credentials&grant_type=x").basic_auth("web", Some("x")),
            400,
            "invalid_request",
        ),
        (post("client_id=web&client_secret=x").basic_auth("web", Some("x")), 400, "invalid_request"),
        (post("client_id=api").basic_auth("web", Some("x")), 400, "invalid_request"),
        (post("").basic_auth("web", Some("x")), 400, "invalid_request"),
        (post("grant_type=client_credentials").bearer_auth("x"), 401, "invalid_client"),
        (issuer.http.post(format!("{}/t/acme/token", issuer.at)).body("{}"), 400, "invalid_request"),
    ] {
        let (told_status, told) = told(request).await;
        assert_eq!((told_status, &told["error"]), (status, &error.into()), "{told}");
    }
}
