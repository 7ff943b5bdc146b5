//! JWTrail from outside: the binary as a user runs it, on real parts.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

mod app;
#[path = "../support/kafka.rs"]
#[expect(dead_code, reason = "the crate's unit tests use the rest")]
mod kafka;
mod receiver;

mod attacks;
mod crashes;
mod explain;
mod faults;
mod gateways;
mod issuing;
mod moves;
mod outages;
mod refusals;
mod replay;
mod roles;
mod scale;
mod spool;
