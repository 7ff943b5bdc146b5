//! Rows in ClickHouse's `RowBinary`: one description of a row writes its bytes and names its columns.
//!
//! A row is described once, against [`RowSink`]: for every column, in order, its name, type and value. [`Vec<u8>`]
//! takes the values (the names cost nothing there), [`Columns`] takes the names and types: the INSERT's column list
//! and the test that holds the row to the table both come from the same lines.

use std::net::{IpAddr, Ipv6Addr};

use uuid::Uuid;

use crate::model::UnixMs;

/// Takes a row, column by column. What is absent is the type's default, or NULL where 0 would be a statement.
pub(crate) trait RowSink {
    /// `String`: what the other side chose.
    fn text(&mut self, name: &'static str, value: &str);
    /// `LowCardinality(String)`: words of ours, names of few.
    fn word(&mut self, name: &'static str, value: &str);
    /// `Array(String)`.
    fn texts<'t>(&mut self, name: &'static str, values: impl ExactSizeIterator<Item = &'t str>);
    /// `Array(LowCardinality(String))`. `count` is how many `values` yields.
    fn words<'t>(&mut self, name: &'static str, count: usize, values: impl Iterator<Item = &'t str>);
    /// `UUID`.
    fn uuid(&mut self, name: &'static str, value: Uuid);
    /// `Array(UUID)`.
    fn uuids(&mut self, name: &'static str, values: &[Uuid]);
    /// `DateTime64(3, 'UTC')`.
    fn time(&mut self, name: &'static str, value: UnixMs);
    /// `Nullable(DateTime64(3, 'UTC'))`.
    fn maybe_time(&mut self, name: &'static str, value: Option<UnixMs>);
    /// `IPv6`: IPv4 as `::ffff:a.b.c.d`, none as `::`.
    fn ip(&mut self, name: &'static str, value: Option<IpAddr>);
    /// `Array(IPv6)`.
    fn ips(&mut self, name: &'static str, values: &[IpAddr]);
    /// `Bool`.
    fn bool(&mut self, name: &'static str, value: bool);
    /// `Nullable(Bool)`.
    fn maybe_bool(&mut self, name: &'static str, value: Option<bool>);
    /// `UInt16`.
    fn u16(&mut self, name: &'static str, value: u16);
    /// `Nullable(UInt16)`.
    fn maybe_u16(&mut self, name: &'static str, value: Option<u16>);
    /// `UInt32`.
    fn u32(&mut self, name: &'static str, value: u32);
    /// `Nullable(UInt32)`.
    fn maybe_u32(&mut self, name: &'static str, value: Option<u32>);
    /// `UInt64`.
    fn u64(&mut self, name: &'static str, value: u64);
    /// `Nullable(UInt64)`.
    fn maybe_u64(&mut self, name: &'static str, value: Option<u64>);
    /// `Nullable(Int64)`.
    fn maybe_i64(&mut self, name: &'static str, value: Option<i64>);
    /// `Nullable(Float64)`.
    fn maybe_f64(&mut self, name: &'static str, value: Option<f64>);
    /// `Map(LowCardinality(String), UInt64)`.
    fn counts<'t>(&mut self, name: &'static str, values: impl ExactSizeIterator<Item = (&'t str, u64)>);
    /// `Enum8(…)`, whose numbers say which of two words is the stronger: `words` in rising order, numbered from 1.
    fn ranked(&mut self, name: &'static str, words: impl ExactSizeIterator<Item = &'static str>, rank: u8);
}

/// Writes the bytes.
impl RowSink for Vec<u8> {
    fn text(&mut self, _: &'static str, value: &str) {
        put_text(self, value);
    }

    fn word(&mut self, _: &'static str, value: &str) {
        put_text(self, value);
    }

    fn texts<'t>(&mut self, _: &'static str, values: impl ExactSizeIterator<Item = &'t str>) {
        put_length(self, values.len());
        values.for_each(|value| put_text(self, value));
    }

    fn words<'t>(&mut self, _: &'static str, count: usize, values: impl Iterator<Item = &'t str>) {
        put_length(self, count);
        values.for_each(|value| put_text(self, value));
    }

    fn uuid(&mut self, _: &'static str, value: Uuid) {
        put_uuid(self, value);
    }

    fn uuids(&mut self, _: &'static str, values: &[Uuid]) {
        put_length(self, values.len());
        values.iter().for_each(|&value| put_uuid(self, value));
    }

    fn time(&mut self, _: &'static str, value: UnixMs) {
        self.extend_from_slice(&value.get().to_le_bytes());
    }

    fn maybe_time(&mut self, _: &'static str, value: Option<UnixMs>) {
        put_maybe(self, value.map(|time| time.get().to_le_bytes()));
    }

    fn ip(&mut self, _: &'static str, value: Option<IpAddr>) {
        put_ip(self, value.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    }

    fn ips(&mut self, _: &'static str, values: &[IpAddr]) {
        put_length(self, values.len());
        values.iter().for_each(|&value| put_ip(self, value));
    }

    fn bool(&mut self, _: &'static str, value: bool) {
        self.push(u8::from(value));
    }

    fn maybe_bool(&mut self, _: &'static str, value: Option<bool>) {
        put_maybe(self, value.map(|value| [u8::from(value)]));
    }

    fn u16(&mut self, _: &'static str, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn maybe_u16(&mut self, _: &'static str, value: Option<u16>) {
        put_maybe(self, value.map(u16::to_le_bytes));
    }

    fn u32(&mut self, _: &'static str, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn maybe_u32(&mut self, _: &'static str, value: Option<u32>) {
        put_maybe(self, value.map(u32::to_le_bytes));
    }

    fn u64(&mut self, _: &'static str, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn maybe_u64(&mut self, _: &'static str, value: Option<u64>) {
        put_maybe(self, value.map(u64::to_le_bytes));
    }

    fn maybe_i64(&mut self, _: &'static str, value: Option<i64>) {
        put_maybe(self, value.map(i64::to_le_bytes));
    }

    fn maybe_f64(&mut self, _: &'static str, value: Option<f64>) {
        put_maybe(self, value.map(f64::to_le_bytes));
    }

    fn counts<'t>(&mut self, _: &'static str, values: impl ExactSizeIterator<Item = (&'t str, u64)>) {
        put_length(self, values.len());
        for (word, count) in values {
            put_text(self, word);
            self.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn ranked(&mut self, _: &'static str, _: impl ExactSizeIterator<Item = &'static str>, rank: u8) {
        self.push(rank);
    }
}

/// Takes the columns: name and type, as `system.columns` writes them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns(pub(crate) Vec<(&'static str, String)>);

impl Columns {
    /// The column list of an INSERT: a column that a later version adds takes its default.
    pub(crate) fn names(&self) -> String {
        let quoted: Vec<_> = self.0.iter().map(|(name, _)| format!("`{name}`")).collect();
        quoted.join(", ")
    }

    fn add(&mut self, name: &'static str, kind: &str) {
        self.0.push((name, kind.to_owned()));
    }
}

impl RowSink for Columns {
    fn text(&mut self, name: &'static str, _: &str) {
        self.add(name, "String");
    }

    fn word(&mut self, name: &'static str, _: &str) {
        self.add(name, "LowCardinality(String)");
    }

    fn texts<'t>(&mut self, name: &'static str, _: impl ExactSizeIterator<Item = &'t str>) {
        self.add(name, "Array(String)");
    }

    fn words<'t>(&mut self, name: &'static str, _: usize, _: impl Iterator<Item = &'t str>) {
        self.add(name, "Array(LowCardinality(String))");
    }

    fn uuid(&mut self, name: &'static str, _: Uuid) {
        self.add(name, "UUID");
    }

    fn uuids(&mut self, name: &'static str, _: &[Uuid]) {
        self.add(name, "Array(UUID)");
    }

    fn time(&mut self, name: &'static str, _: UnixMs) {
        self.add(name, "DateTime64(3, 'UTC')");
    }

    fn maybe_time(&mut self, name: &'static str, _: Option<UnixMs>) {
        self.add(name, "Nullable(DateTime64(3, 'UTC'))");
    }

    fn ip(&mut self, name: &'static str, _: Option<IpAddr>) {
        self.add(name, "IPv6");
    }

    fn ips(&mut self, name: &'static str, _: &[IpAddr]) {
        self.add(name, "Array(IPv6)");
    }

    fn bool(&mut self, name: &'static str, _: bool) {
        self.add(name, "Bool");
    }

    fn maybe_bool(&mut self, name: &'static str, _: Option<bool>) {
        self.add(name, "Nullable(Bool)");
    }

    fn u16(&mut self, name: &'static str, _: u16) {
        self.add(name, "UInt16");
    }

    fn maybe_u16(&mut self, name: &'static str, _: Option<u16>) {
        self.add(name, "Nullable(UInt16)");
    }

    fn u32(&mut self, name: &'static str, _: u32) {
        self.add(name, "UInt32");
    }

    fn maybe_u32(&mut self, name: &'static str, _: Option<u32>) {
        self.add(name, "Nullable(UInt32)");
    }

    fn u64(&mut self, name: &'static str, _: u64) {
        self.add(name, "UInt64");
    }

    fn maybe_u64(&mut self, name: &'static str, _: Option<u64>) {
        self.add(name, "Nullable(UInt64)");
    }

    fn maybe_i64(&mut self, name: &'static str, _: Option<i64>) {
        self.add(name, "Nullable(Int64)");
    }

    fn maybe_f64(&mut self, name: &'static str, _: Option<f64>) {
        self.add(name, "Nullable(Float64)");
    }

    fn counts<'t>(&mut self, name: &'static str, _: impl ExactSizeIterator<Item = (&'t str, u64)>) {
        self.add(name, "Map(LowCardinality(String), UInt64)");
    }

    fn ranked(&mut self, name: &'static str, words: impl ExactSizeIterator<Item = &'static str>, _: u8) {
        let words: Vec<_> =
            words.enumerate().map(|(index, word)| format!("'{word}' = {}", index + 1)).collect();
        self.add(name, &format!("Enum8({})", words.join(", ")));
    }
}

/// Unsigned LEB128, as ClickHouse writes lengths.
fn put_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the low seven bits")]
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
    out.push(rest as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Two little-endian halves, the high one first.
fn put_uuid(out: &mut Vec<u8>, id: Uuid) {
    let (high, low) = id.as_u64_pair();
    out.extend_from_slice(&high.to_le_bytes());
    out.extend_from_slice(&low.to_le_bytes());
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    let v6 = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    out.extend_from_slice(&v6.octets());
}

/// A byte that says whether it is NULL, then the value.
fn put_maybe<const N: usize>(out: &mut Vec<u8>, value: Option<[u8; N]>) {
    match value {
        Some(bytes) => {
            out.push(0);
            out.extend_from_slice(&bytes);
        }
        None => out.push(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        let mut out = Vec::new();
        for length in [0, 127, 128, 300, 16_384] {
            put_length(&mut out, length);
        }
        assert_eq!(out, [0, 127, 0x80, 1, 0xac, 2, 0x80, 0x80, 1]);
    }
}
