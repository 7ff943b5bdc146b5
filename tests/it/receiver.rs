//! A small real receiver of webhooks. It checks each signature as the Standard Webhooks specification says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The secret that tests configure.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One delivery that was well signed.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) at: Instant,
    pub(crate) id: String,
    pub(crate) body: Value,
}

impl Delivery {
    /// A member of the alert's data, as text.
    pub(crate) fn data(&self, name: &str) -> &str {
        self.body["data"][name].as_str().unwrap_or_default()
    }
}

/// Listens until the test ends.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), deliveries: Arc::default() };
        let routes = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
        #[expect(clippy::disallowed_methods, reason = "a test has no lifecycle; the runtime ends it")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        receiver
    }

    /// The destination's lines in `jwtrail.toml`.
    pub(crate) fn destination(&self) -> String {
        format!(
            "[[destination]]\nname = \"soc\"\nkind = \"webhook\"\nurl = \"http://{}/hook\"\nsecret = \"{SECRET}\"\n\
             allow_private = true\n",
            self.address
        )
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (id, timestamp, signatures) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
    let good = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,")).any(|signature| {
        STANDARD.decode(signature).is_ok_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
    });
    if !good {
        return StatusCode::UNAUTHORIZED;
    }
    let body = serde_json::from_slice(&body).unwrap();
    receiver.deliveries.lock().unwrap().push(Delivery { at: Instant::now(), id, body });
    StatusCode::NO_CONTENT
}
