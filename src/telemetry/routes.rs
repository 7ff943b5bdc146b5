//! `/metrics`, `/healthz` (the process answers) and `/readyz` (it can do its work, or says why not).

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;

use super::{Metrics, Readiness};
use crate::lifecycle::{Lifecycle, Phase};

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: Readiness,
    lifecycle: Lifecycle,
}

/// The three routes, to be merged into a role's own.
pub(crate) fn routes(metrics: Metrics, readiness: Readiness, lifecycle: Lifecycle) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(Shared { metrics, readiness, lifecycle })
}

async fn metrics_page(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], shared.metrics.encode())
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    let mut conditions = shared.readiness.now();
    if shared.lifecycle.phase() != Phase::Running {
        conditions.insert("running".to_owned(), Err("shutting down".to_owned()));
    }
    let ready = conditions.values().all(Result::is_ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let conditions: serde_json::Map<String, serde_json::Value> =
        conditions.into_iter().map(|(name, state)| (name, state.unwrap_or_else(|why| why).into())).collect();
    (status, Json(serde_json::json!({ "ready": ready, "conditions": conditions })))
}

/// A request that is under way when the process drains has so long to end: its client may be as slow as it likes, the
/// process may not.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Serves `router` at `address` until the process drains. Returns where it listens: port 0 asks for a free one.
pub(crate) async fn listen(
    address: SocketAddr,
    router: Router,
    lifecycle: &Lifecycle,
) -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let (stop, late) = (lifecycle.clone(), lifecycle.clone());
    lifecycle.spawn(format!("http {bound}"), async move {
        let drained = async move { stop.draining().await };
        let patience_ends = async move {
            late.draining().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            served = axum::serve(listener, service).with_graceful_shutdown(drained) => if let Err(cause) = served {
                tracing::error!(http.address = %bound, error = %cause, "the HTTP server ended");
            },
            () = patience_ends => tracing::info!(http.address = %bound, "clients that are slow are cut off"),
        }
    });
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(at: SocketAddr, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{at}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn a_client_that_is_slow_keeps_no_process_alive() {
        let lifecycle = Lifecycle::new(Duration::from_secs(60));
        let router = Router::new().route("/", axum::routing::post(async |body: String| body));
        let at = listen(([127, 0, 0, 1], 0).into(), router, &lifecycle).await.unwrap();
        let mut slow = tokio::net::TcpStream::connect(at).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut slow, head).await.unwrap();
        // The handler has begun, and waits for the rest.
        let mut answer = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut slow, &mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100");
        lifecycle.advance(Phase::Draining);
        assert_eq!(lifecycle.finish().await, Vec::<String>::new());
        assert_eq!(lifecycle.phase(), Phase::Draining, "the grace period was not needed");
    }

    #[tokio::test]
    async fn readiness_tells_the_truth() {
        let (readiness, lifecycle) = (Readiness::default(), Lifecycle::new(Duration::from_secs(5)));
        let router = routes(Metrics::new(), readiness.clone(), lifecycle.clone());
        let at = listen(([127, 0, 0, 1], 0).into(), router, &lifecycle).await.unwrap();
        assert_eq!(get(at, "/healthz").await, (200, "ok\n".to_owned()));
        assert!(get(at, "/metrics").await.1.contains("jwtrail_records_consumed_total 0"));
        assert_eq!(get(at, "/readyz").await.0, 200);

        let check = async |status: u16, conditions: &str| {
            let (got, body) = get(at, "/readyz").await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((got, body["conditions"].to_string().as_str()), (status, conditions));
        };
        let (log, store) = (readiness.condition("log"), readiness.condition("clickhouse"));
        check(503, r#"{"clickhouse":"starting","log":"starting"}"#).await;
        log.met();
        store.met();
        check(200, r#"{"clickhouse":"ok","log":"ok"}"#).await;
        store.unmet("connection refused");
        check(503, r#"{"clickhouse":"connection refused","log":"ok"}"#).await;
        drop(log);
        check(503, r#"{"clickhouse":"connection refused","log":"ended"}"#).await;

        lifecycle.advance(Phase::Draining);
        assert_eq!(lifecycle.finish().await, Vec::<String>::new());
    }
}
