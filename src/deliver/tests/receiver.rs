//! A real HTTP receiver that does as it is told.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::net::TcpListener;

use super::stage::{SECRET, number_of, until};
use crate::config::{Destination, Secret, webhook_key};
use crate::model::Alert;

/// What it does with one request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Status(u16),
    /// 429, with a pause that is over at once.
    Throttle,
    /// Takes the request and says nothing.
    Hang,
    /// Takes the request and closes the connection.
    Die,
    Redirect(String),
}

#[derive(Default)]
struct Book {
    requests: Vec<(HeaderMap, Bytes)>,
    accepted: Vec<String>,
    script: VecDeque<Reply>,
    refused: Option<String>,
    all_refused: bool,
    odd_refused: bool,
}

/// A receiver; it ends with the test's runtime.
pub(super) struct Receiver {
    at: SocketAddr,
    book: Arc<Mutex<Book>>,
}

/// An address where nobody listens yet.
pub(super) struct Reserved(SocketAddr);

impl Reserved {
    pub(super) fn webhook(&self, name: &str) -> Destination {
        super::stage::webhook_to(name, &format!("http://{}/", self.0))
    }

    pub(super) async fn start(self) -> Receiver {
        Receiver::start_at(self.0).await
    }
}

impl Receiver {
    /// Nobody listens there: connections are refused.
    pub(super) fn reserve() -> Reserved {
        Reserved(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
    }

    pub(super) async fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into()).await
    }

    async fn start_at(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let (at, book) = (listener.local_addr().unwrap(), Arc::<Mutex<Book>>::default());
        let router = Router::new().fallback(receive).with_state(Arc::clone(&book));
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { at, book }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.at)
    }

    pub(super) fn port(&self) -> u16 {
        self.at.port()
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// What it does with the next requests; with those after that it is content.
    pub(super) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.book().script = replies.into_iter().collect();
    }

    /// Answers 500 to this one.
    pub(super) fn refuse(&self, id: Option<&str>) {
        self.book().refused = id.map(str::to_owned);
    }

    pub(super) fn refuse_all(&self, refuse: bool) {
        self.book().all_refused = refuse;
    }

    /// The alerts of all requests, in order.
    pub(super) fn bodies(&self) -> Vec<Alert> {
        let read = |(_, body): &(HeaderMap, Bytes)| serde_json::from_slice(body).unwrap();
        self.book().requests.iter().map(read).collect()
    }

    pub(super) fn refuse_odd(&self, refuse: bool) {
        self.book().odd_refused = refuse;
    }

    pub(super) fn forget(&self) {
        self.book().requests.clear();
    }

    /// `NUMBER_SEVERITY` of every request, in order.
    pub(super) fn ids(&self) -> Vec<String> {
        self.book().requests.iter().map(|(headers, _)| id_of(headers)).collect()
    }

    pub(super) fn sorted_ids(&self) -> Vec<String> {
        let mut ids = self.ids();
        ids.sort();
        ids
    }

    /// Of those answered with success.
    pub(super) fn accepted(&self) -> Vec<String> {
        self.book().accepted.clone()
    }

    pub(super) async fn wait_for(&self, requests: usize) {
        until("requests", || self.book().requests.len() >= requests).await;
    }

    /// Waits until so many different ones were answered with success.
    pub(super) async fn wait_for_accepted(&self, different: usize) {
        let enough = || self.book().accepted.iter().collect::<BTreeSet<_>>().len() >= different;
        until("accepted requests", enough).await;
    }

    /// Checks every request as a receiver would.
    pub(super) fn all_are_signed(&self) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &webhook_key(&Secret::new(SECRET.to_owned())).unwrap());
        for (headers, body) in &self.book().requests {
            let text = |name: &str| headers[name].to_str().unwrap();
            let mut signed = format!("{}.{}.", text("webhook-id"), text("webhook-timestamp")).into_bytes();
            signed.extend_from_slice(body);
            let signature = BASE64_STANDARD.decode(text("webhook-signature").strip_prefix("v1,").unwrap());
            hmac::verify(&key, &signed, &signature.unwrap()).unwrap();
            assert_eq!(text("content-type"), "application/json");
            let alert: serde_json::Value = serde_json::from_slice(body).unwrap();
            let finding = alert["data"]["finding_id"].as_str().unwrap();
            assert!(text("webhook-id").starts_with(finding), "the id is another than the finding's");
        }
    }
}

fn id_of(headers: &HeaderMap) -> String {
    let id = headers["webhook-id"].to_str().unwrap();
    let (finding, severity) = id.split_once('_').unwrap();
    format!("{}_{severity}", number_of(finding))
}

async fn receive(State(book): State<Arc<Mutex<Book>>>, headers: HeaderMap, body: Bytes) -> Response {
    let reply = {
        let mut book = book.lock().unwrap();
        let id = id_of(&headers);
        let odd = number_of(headers["webhook-id"].to_str().unwrap().split('_').next().unwrap()) % 2 == 1;
        let refused = book.all_refused || book.refused.as_ref() == Some(&id) || (book.odd_refused && odd);
        book.requests.push((headers, body));
        let otherwise = if refused { Reply::Status(500) } else { Reply::Status(200) };
        let reply = book.script.pop_front().unwrap_or(otherwise);
        if matches!(reply, Reply::Status(200..300)) {
            book.accepted.push(id);
        }
        reply
    };
    match reply {
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Throttle => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")]).into_response(),
        Reply::Hang => std::future::pending().await,
        // The server cuts the connection.
        Reply::Die => panic!("the receiver dies, as it was told"),
        Reply::Redirect(to) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response(),
    }
}
