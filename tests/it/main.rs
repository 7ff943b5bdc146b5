//! JWTrail from outside: the binary as a user runs it, on real parts.

mod app;
#[path = "../support/kafka.rs"]
#[expect(dead_code, reason = "the crate's unit tests use the rest")]
mod kafka;
mod receiver;

mod attacks;
mod crashes;
mod explain;
mod refusals;
mod roles;
