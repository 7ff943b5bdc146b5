//! ClickHouse's HTTP interface: authentication, admission, and the traffic between a client and its request's thread.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{self, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::access::{Credentials, Role};
use super::answer::{Answer, AnswerPart, Head};
use super::body::{BodyPart, BodyReader};
use super::exception::{self, Exception};
use super::request::Request;
use super::session::Sessions;
use super::worker::{Job, Watch};
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;

/// Requests that may hold the engine at once, by role; each takes a thread, and buffers.
const FULL_AT_ONCE: usize = 32;
const ANALYST_AT_ONCE: usize = 8;
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How long the rest of a refused body may take.
const LEFTOVER: Duration = Duration::from_secs(5);
/// Pieces of a body that wait between a client and its thread.
const PIECES: usize = 4;

/// What the interface serves.
pub(super) struct Server {
    pub(super) sessions: Arc<Sessions>,
    pub(super) credentials: Credentials,
    pub(super) version: String,
    pub(super) timezone: String,
    pub(super) clock: Clock,
    full: Arc<Semaphore>,
    analyst: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        credentials: Credentials,
        clock: Clock,
    ) -> Result<Self, Exception> {
        Ok(Self {
            version: sessions.run("SELECT version()")?,
            timezone: sessions.run("SELECT timezone()")?,
            sessions,
            credentials,
            clock,
            full: Arc::new(Semaphore::new(FULL_AT_ONCE)),
            analyst: Arc::new(Semaphore::new(ANALYST_AT_ONCE)),
        })
    }

    pub(super) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/", any(serve))
            .route("/ping", get(|| async { "Ok.\n" }))
            .route("/replicas_status", get(|| async { "Ok.\n" }))
            .with_state(self)
    }

    async fn admit(&self, request: &Request) -> Result<(Role, OwnedSemaphorePermit), Exception> {
        let role = self.credentials.authenticate(request.presented.as_ref())?;
        let turns = match role {
            Role::Full => &self.full,
            Role::Analyst => &self.analyst,
        };
        match tokio::time::timeout(TURN, Arc::clone(turns).acquire_owned()).await {
            Ok(Ok(permit)) => Ok((role, permit)),
            _ => Err(Exception::new(
                exception::TOO_MANY_SIMULTANEOUS_QUERIES,
                "Too many simultaneous queries: try again later",
            )),
        }
    }
}

async fn serve(State(server): State<Arc<Server>>, request: http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let id = server.clock.new_id().to_string();
    let (head_sender, mut head) = oneshot::channel();
    let (answer_sender, answer_parts) = mpsc::channel(PIECES);
    let mut answer = Answer {
        packing: Default::default(),
        query_id: id.clone(),
        timezone: server.timezone.clone(),
        version: server.version.clone(),
        started: Instant::now(),
        parts: answer_sender,
        head: Some(head_sender),
        body: None,
    };
    let request = match Request::read(&parts, id.clone()) {
        Ok(request) => request,
        Err(exception) => return refuse(&answer, &exception, body).await,
    };
    answer.query_id.clone_from(&request.query_id);
    answer.packing = request.packed_out;
    // As ClickHouse does: whoever only opens the address sees that somebody answers.
    if request.read_only && request.query.is_empty() {
        return "Ok.\n".into_response();
    }
    let (role, permit) = match server.admit(&request).await {
        Ok(admitted) => admitted,
        Err(exception) => return refuse(&answer, &exception, body).await,
    };
    let watch = Arc::new(Watch::default());
    let (body_sender, body_parts) = mpsc::channel(PIECES);
    let job = Job {
        sessions: Arc::clone(&server.sessions),
        role,
        request,
        mark: id.clone(),
        body: BodyReader::new(body_parts),
        watch: Arc::clone(&watch),
        answer,
    };
    let started = Lifecycle::thread("clickhouse request", move || {
        job.run();
        drop(permit);
    });
    if let Err(error) = started {
        tracing::error!(%error, "no thread for a request");
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    // Dropped when the client goes away, here or with the answer's body: then the query is killed.
    let leash = Leash { sessions: Arc::clone(&server.sessions), mark: id, watch };
    let pump = pump(body, body_sender);
    tokio::pin!(pump);
    let mut pumped = false;
    let head = loop {
        tokio::select! {
            // The thread's answer first: it may not want the rest of the body.
            biased;
            head = &mut head => break head,
            () = &mut pump, if !pumped => pumped = true,
        }
    };
    // A client that is still sending reads no refusal: let it finish, within bounds.
    if !pumped && head.as_ref().is_ok_and(|head| head.status != StatusCode::OK) {
        let _ = tokio::time::timeout(LEFTOVER, pump).await;
    }
    match head {
        Ok(head) => respond(head, Body::new(AnswerBody { parts: answer_parts, leash: Some(leash) })),
        // The thread panicked.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Carries the body to the thread, as fast as that takes it, and past it when it wants no more.
async fn pump(mut body: Body, parts: mpsc::Sender<BodyPart>) {
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame.map(Frame::into_data) {
            // A thread that is gone has answered; what it left is read and dropped.
            Ok(Ok(data)) => drop(parts.send(BodyPart::Data(data)).await),
            Ok(Err(_trailers)) => {}
            // Without an End the thread takes the body for cut short.
            Err(_) => return,
        }
    }
    let _ = parts.send(BodyPart::End).await;
}

/// Refuses a request that has no thread; its body is read and dropped, within bounds.
async fn refuse(answer: &Answer, exception: &Exception, body: Body) -> Response {
    let (nobody, _) = mpsc::channel(1);
    let _ = tokio::time::timeout(LEFTOVER, pump(body, nobody)).await;
    let (head, text) = answer.refusal(exception);
    respond(head, Body::from(text))
}

fn respond(head: Head, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    for (name, value) in head.headers {
        // Values are made of what is printable; one that is not says less, but breaks nothing.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// The answer's body, as the thread sends it.
struct AnswerBody {
    parts: mpsc::Receiver<AnswerPart>,
    leash: Option<Leash>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.parts.poll_recv(context).map(|part| match part {
            Some(AnswerPart::Data(data)) => Some(Ok(Frame::data(data))),
            Some(AnswerPart::End) => {
                self.leash = None;
                None
            }
            // A cut connection tells the client what a good end would hide.
            None if self.leash.is_some() => Some(Err(std::io::Error::other("the answer is incomplete"))),
            None => None,
        })
    }
}

/// Kills a request's query when nobody waits for it any more.
struct Leash {
    sessions: Arc<Sessions>,
    mark: String,
    watch: Arc<Watch>,
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.watch.gone.store(true, Ordering::Release);
        if self.watch.done.load(Ordering::Acquire) {
            return;
        }
        let (sessions, mark, watch) =
            (Arc::clone(&self.sessions), self.mark.clone(), Arc::clone(&self.watch));
        let killer = move || {
            // The query may not have come to the engine's list yet: look again until its thread is done.
            for wait_ms in [0, 10, 50, 200, 500, 1_000, 2_000, 5_000] {
                std::thread::sleep(Duration::from_millis(wait_ms));
                if watch.done.load(Ordering::Acquire) {
                    return;
                }
                if let Err(exception) = sessions.kill(Some(&mark)) {
                    tracing::warn!(
                        error = exception.text,
                        "cannot kill the query of a client that went away"
                    );
                }
            }
        };
        if let Err(error) = Lifecycle::thread("clickhouse kill", killer) {
            tracing::warn!(%error, "no thread to kill the query of a client that went away");
        }
    }
}
