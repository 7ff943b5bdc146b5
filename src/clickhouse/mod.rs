//! ClickHouse: the client over its HTTP interface, the schema and its migrations.

mod client;
mod error;
mod migrate;
mod rowbinary;

pub(crate) mod engine;

#[cfg(test)]
pub(crate) mod testing;

pub(crate) use client::{Client, InsertLabel};
pub(crate) use error::ClickHouseError;
pub(crate) use migrate::migrate;
pub(crate) use rowbinary::{Columns, RowSink};
