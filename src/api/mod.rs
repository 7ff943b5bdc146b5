//! The HTTP API. It meets the pipeline on the event topic: the door calls `decode`, explaining the four pure rooms, and
//! nothing here reaches lanes, store or settle.

mod admin;
mod body;
mod credential;
mod door;
mod dry_run;
mod heartbeats;
mod issuing;
mod problem;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;

#[cfg(test)]
pub(crate) use admin::Region;
pub(crate) use admin::{Admin, routes as admin_routes};
pub(crate) use body::Room;
pub(crate) use credential::Credentials;
pub(crate) use door::Door;
pub(crate) use heartbeats::{Heartbeats, beat};
pub(crate) use issuing::routes as issuing_routes;

/// The door's routes.
pub(crate) fn routes(door: Arc<Door>) -> Router {
    Router::new()
        .route("/v1/events", post(door::post_events))
        .layer(DefaultBodyLimit::max(body::MAX_SENT_BYTES))
        .with_state(door)
}
