//! What was measured, twice: a table for people, and JSON lines for whoever compares two runs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::meter::Cost;
use crate::pipeline::detect::StateSize;

/// Where both go.
pub(super) struct Report {
    lines: BufWriter<File>,
}

impl Report {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { lines: BufWriter::new(file) })
    }

    /// The head of a table of costs.
    pub(super) fn head(&mut self, title: &str) {
        println!("\n{title:<34} {:>10} {:>12} {:>12} {:>12}", "ns/event", "events/s", "allocations", "bytes");
    }

    /// A line of that table, and of the file.
    pub(super) fn cost(&mut self, traffic: &str, what: &str, cost: Cost) -> anyhow::Result<()> {
        let ns = cost.ns_per_event();
        let (allocations, bytes) = (cost.per_event(cost.allocations), cost.per_event(cost.bytes));
        println!("{what:<34} {ns:>10.0} {:>12.0} {allocations:>12.2} {bytes:>12.0}", 1e9 / ns.max(1.0));
        self.line(&json!({
            "what": what, "traffic": traffic, "events": cost.events, "ns_per_event": ns,
            "allocations_per_event": allocations, "allocated_bytes_per_event": bytes,
        }))
    }

    /// The head of the table of what is kept.
    pub(super) fn memory_head(&mut self) {
        println!(
            "\n{:<10} {:>10} {:>10} {:>14} {:>14} {:>14} {:>12}",
            "subjects", "tokens", "evicted", "state, bytes", "bytes/subject", "held/subject", "resident"
        );
    }

    /// `held`: what the walks allocated and keep, their memos and buffers too; `resident`: the whole process.
    pub(super) fn memory(&mut self, size: StateSize, held: i64, resident: u64) -> anyhow::Result<()> {
        let each = |bytes: f64| bytes / size.subjects.max(1) as f64;
        let (state, held) = (each(size.bytes as f64), each(held as f64));
        println!(
            "{:<10} {:>10} {:>10} {:>14} {state:>14.0} {held:>14.0} {:>8} MiB",
            size.subjects,
            size.tokens,
            size.evicted,
            size.bytes,
            resident >> 20
        );
        self.line(&json!({
            "what": "memory", "subjects": size.subjects, "tokens": size.tokens, "evicted": size.evicted,
            "state_bytes": size.bytes, "state_bytes_per_subject": state, "held_bytes_per_subject": held,
            "resident_bytes": resident,
        }))
    }

    /// A line of the file alone.
    pub(super) fn line(&mut self, line: &Value) -> anyhow::Result<()> {
        Ok(writeln!(self.lines, "{line}")?)
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.lines.flush()?)
    }
}
