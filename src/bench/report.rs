//! What was measured, twice: a table for people, and JSON lines for whoever compares two runs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::latency::Latencies;
use super::meter::Cost;
use super::rooms::Room;
use super::way::{Through, Took};
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

    /// The state of so many subjects as a checkpoint: how large, how long it took to write and to restore.
    pub(super) fn restored(
        &mut self,
        subjects: usize,
        keys: usize,
        bytes: usize,
        written: Duration,
        restored: Duration,
    ) -> anyhow::Result<()> {
        let per_100k = |took: Duration| took.as_secs_f64() * 100_000.0 / subjects.max(1) as f64;
        let (written_s, restored_s) = (per_100k(written), per_100k(restored));
        println!(
            "  as a checkpoint: {keys} keys, {bytes} bytes; per 100,000 subjects {written_s:.3} s to write, \
             {restored_s:.3} s to restore"
        );
        self.line(&json!({
            "what": "checkpoint", "subjects": subjects, "keys": keys, "bytes": bytes,
            "written_seconds_per_100k_subjects": written_s, "restored_seconds_per_100k_subjects": restored_s,
        }))
    }

    /// The head of the table of whole ways.
    pub(super) fn way_head(&mut self) {
        println!(
            "\n{:<24} {:>12} {:>12} {:>12} {:>8} {:>12} {:>12}",
            "log to ClickHouse, us", "all, CPU", "floor, CPU", "own, CPU", "ratio", "events/s", "floor's"
        );
    }

    /// Processor time an event of this process, and events a second by the clock, beside the floor's.
    pub(super) fn way(
        &mut self,
        log: Through,
        keyed: bool,
        events: usize,
        floor: Took,
        walk: Took,
    ) -> anyhow::Result<()> {
        let producer = if keyed { "keyed" } else { "keyless" };
        let us = |took: Took| took.cpu.as_secs_f64() * 1e6 / events as f64;
        let a_second = |took: Took| events as f64 / took.elapsed.as_secs_f64();
        let (all, least) = (us(walk), us(floor));
        println!(
            "{:<24} {all:>12.2} {least:>12.2} {:>12.2} {:>8.2} {:>12.0} {:>12.0}",
            format!("{log}, {producer}"),
            all - least,
            all / least,
            a_second(walk),
            a_second(floor)
        );
        self.line(&json!({
            "what": "log to ClickHouse", "log": log.to_string(), "producer": producer, "events": events,
            "cpu_us_per_event": all, "floor_cpu_us_per_event": least, "own_cpu_us_per_event": all - least,
            "ratio": all / least, "events_per_second": a_second(walk),
            "floor_events_per_second": a_second(floor),
        }))
    }

    /// The head of the table of latencies.
    pub(super) fn latency_head(&mut self) {
        println!(
            "\n{:<24} {:>12} {:>8} {:>12} {:>12} {:>12} {:>12}",
            "at half load, ms", "events/s", "alerts", "append p99", "outbox p50", "outbox p99", "row p95"
        );
    }

    /// From the append to the alert in the outbox, and to the row that a query sees.
    pub(super) fn latency(&mut self, log: Through, rate: f64, measured: &Latencies) -> anyhow::Result<()> {
        let alerts = measured.outbox.len();
        let append = Latencies::percentile(&measured.append, 0.99);
        let [p50, p99] = [0.50, 0.99].map(|share| Latencies::percentile(&measured.outbox, share));
        let row = Latencies::percentile(&measured.row, 0.95);
        print!("{log:<24} {rate:>12.0} {alerts:>8}");
        for ms in [append, p50, p99, row] {
            print!(" {:>12}", ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string()));
        }
        println!();
        self.line(&json!({
            "what": "latency", "log": log.to_string(), "events_per_second": rate, "alerts": alerts,
            "append_p99_ms": append, "outbox_p50_ms": p50, "outbox_p99_ms": p99, "row_p95_ms": row,
        }))
    }

    /// The head of the table of instructions.
    pub(super) fn instructions_head(&mut self, events: usize) {
        println!("\n{:<24} {:>20}", format!("callgrind, {events} events"), "instructions/event");
    }

    pub(super) fn instructions(&mut self, traffic: &str, room: Room, each: f64) -> anyhow::Result<()> {
        println!("{:<24} {each:>20.0}", format!("{room}, {traffic}", room = room.as_str()));
        self.line(&json!({
            "what": room.as_str(), "traffic": traffic, "instructions_per_event": each,
        }))
    }

    fn line(&mut self, line: &Value) -> anyhow::Result<()> {
        Ok(writeln!(self.lines, "{line}")?)
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.lines.flush()?)
    }
}
