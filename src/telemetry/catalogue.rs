//! Every metric there is: its name, kind, labels and meaning, declared once. The README's table is made of
//! `Metrics::table`.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Declares sets of labels.
macro_rules! labels {
    ($($(#[$meta:meta])* $name:ident { $($label:ident: $type:ty),+ })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(crate) struct $name { $(pub(crate) $label: $type),+ }

        impl Labels for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($label)),+];
        }
    )+ };
}

/// A set of labels, and how they are called.
trait Labels: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static {
    const NAMES: &'static [&'static str];
}

labels! {
    /// How a record left the walk.
    ByOutcome { outcome: &'static str }
    /// Why a record became a dead letter or was dropped.
    ByReason { reason: &'static str }
    ByRule { rule: &'static str }
    /// `opened` or `raised`.
    ByStep { step: &'static str }
    /// Where a new owner has the state from.
    ByWay { way: &'static str }
    /// A part of a block's time.
    ByStage { stage: &'static str }
    ByPartition { topic: &'static str, partition: u32 }
    /// What a partition waits for: the error's closed code.
    ByPartitionCode { topic: &'static str, partition: u32, code: &'static str }
    /// What kind of detector state.
    ByKind { kind: &'static str }
    /// An error's closed code, or a response's status.
    ByCode { code: &'static str }
    ByResult { result: &'static str }
    ByDestination { destination: String }
    ByDelivery { destination: String, result: &'static str }
}

crate::model::words! {
    /// How a record left the walk: consumed is their sum, always.
    Outcome {
        Stored = "stored",
        Dropped = "dropped",
        DeadLettered = "dead_lettered",
        Forwarded = "forwarded",
        /// Heartbeats, ticks, marks.
        Control = "control",
    }
}

crate::model::words! {
    /// The parts of a block's time.
    Stage {
        /// From the first record to the cut.
        Filled = "filled",
        /// What changed of the walk's state, where a block with a checkpoint was cut.
        WrittenDown = "written_down",
        /// The commit of `a` with `end: b`.
        Reserved = "reserved",
        Inserted = "inserted",
        /// A batch's alerts, appended to the outbox.
        Published = "published",
        /// The commit of b + 1.
        Released = "released",
    }
}

type Counters<L> = Family<L, Counter>;
type Gauges<L> = Family<L, Gauge>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// One line of the README's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricInfo {
    /// As Prometheus reads it.
    pub(crate) name: String,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: &'static str,
    pub(crate) labels: &'static [&'static str],
    pub(crate) meaning: &'static str,
}

/// The metrics. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    pub(crate) records_consumed: Counter,
    pub(crate) records_settled: Counters<ByOutcome>,
    pub(crate) records_dead_lettered: Counters<ByReason>,
    pub(crate) records_dropped: Counters<ByReason>,
    pub(crate) tokens_masked: Counter,
    pub(crate) events_left_out: Counter,
    pub(crate) blocks_stored: Counter,
    pub(crate) blocks_repeated: Counter,
    pub(crate) block_seconds: Histograms<ByStage>,
    pub(crate) append_to_outbox_seconds: Histogram,
    pub(crate) append_to_row_seconds: Histogram,
    pub(crate) lag_records: Gauges<ByPartition>,
    pub(crate) partition_waiting: Gauges<ByPartitionCode>,
    pub(crate) offsets_truncated: Counter,
    pub(crate) findings_opened: Counters<ByRule>,
    pub(crate) alerts_published: Counters<ByStep>,
    pub(crate) detector_keys: Gauges<ByKind>,
    pub(crate) detector_state_bytes: Gauge,
    pub(crate) detector_keys_evicted: Counters<ByKind>,
    pub(crate) checkpoints_committed: Counter,
    pub(crate) checkpoint_keys_written: Counter,
    pub(crate) checkpoint_bytes_written: Counter,
    pub(crate) state_restored_seconds: Histograms<ByWay>,
    pub(crate) deliveries_attempted: Counters<ByDelivery>,
    pub(crate) deliveries_pending: Gauges<ByDestination>,
    pub(crate) delivery_seconds: Histograms<ByDestination>,
    pub(crate) door_requests_answered: Counters<ByCode>,
    pub(crate) door_events_accepted: Counter,
    pub(crate) door_events_refused: Counters<ByCode>,
    pub(crate) spool_records: Gauge,
    pub(crate) spool_age_seconds: Gauge,
    pub(crate) spool_records_taken: Counter,
    pub(crate) spool_records_drained: Counter,
    pub(crate) log_calls_failed: Counters<ByCode>,
    pub(crate) clickhouse_calls_failed: Counters<ByCode>,
    pub(crate) geo_files_reloaded: Counters<ByResult>,
    pub(crate) key_sets_fetched: Counters<ByResult>,
    pub(crate) key_sets_unknown: Gauge,
    pub(crate) control_records_refused: Counters<ByReason>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self::declare().0
    }

    /// The metrics, and the catalogue's table in its order.
    fn declare() -> (Self, Vec<MetricInfo>) {
        let mut new = Catalogue::default();
        let mut metrics = Self {
            records_consumed: new.counter("jwtrail_records_consumed", "Records that the walk has taken from the event topic; the sum of those settled"),
            records_settled: new.counters("jwtrail_records_settled", "Records by how they left the walk: stored, dropped, dead_lettered, forwarded, control"),
            records_dead_lettered: new.counters("jwtrail_records_dead_lettered", "Records that could not become an event, by reason"),
            records_dropped: new.counters("jwtrail_records_dropped", "Records that were meant to leave no row, by reason: duplicate (an event that was walked before)"),
            tokens_masked: new.counter("jwtrail_tokens_masked", "Tokens found where none may be, and masked"),
            events_left_out: new.counter("jwtrail_events_left_out", "Events of more sources than a block's summary has room for: audit_gap allows for them"),
            blocks_stored: new.counter("jwtrail_blocks_stored", "Blocks that ClickHouse has acknowledged"),
            blocks_repeated: new.counter("jwtrail_blocks_repeated", "Inserts repeated because the answer was not clean"),
            block_seconds: new.histograms("jwtrail_block_seconds", "A block's time by stage: filled, written_down, reserved, inserted, published, released", || Histogram::new(SECONDS)),
            append_to_outbox_seconds: new.histogram("jwtrail_append_to_outbox_seconds", "From an event's append to its alert lying in the outbox", SECONDS),
            append_to_row_seconds: new.histogram("jwtrail_append_to_row_seconds", "From a block's first append to its rows being acknowledged", SECONDS),
            lag_records: new.gauges("jwtrail_lag_records", "Records between a partition's end and its commit"),
            partition_waiting: new.gauges("jwtrail_partition_waiting", "1 while a partition stands because of a failure with that code; it goes on by itself"),
            offsets_truncated: new.counter("jwtrail_offsets_truncated", "Offsets that left the log before they were walked: lost, and an alert of the rule log_truncated"),
            findings_opened: new.counters("jwtrail_findings_opened", "Cases opened, by rule"),
            alerts_published: new.counters("jwtrail_alerts_published", "Alerts appended to the outbox, by step"),
            detector_keys: new.gauges("jwtrail_detector_keys", "Keys that the detector remembers: subject, habit, token, case, gateway, event_id"),
            detector_state_bytes: new.gauge("jwtrail_detector_state_bytes", "Memory that the detector's state takes"),
            detector_keys_evicted: new.counters("jwtrail_detector_keys_evicted", "Keys or entries dropped because a bound was reached; event_id: repeats are found for less than ten minutes"),
            checkpoints_committed: new.counter("jwtrail_checkpoints_committed", "Checkpoints of the detector's state, committed with a block's end"),
            checkpoint_keys_written: new.counter("jwtrail_checkpoint_keys_written", "Keys that checkpoints wrote or removed: those that had changed"),
            checkpoint_bytes_written: new.counter("jwtrail_checkpoint_bytes_written", "Bytes of those keys and values"),
            state_restored_seconds: new.histograms("jwtrail_state_restored_seconds", "From taking a partition over to knowing what its former owner knew, by way: checkpoint, or walk (the last 50 hours again)", || Histogram::new(LONG_SECONDS)),
            deliveries_attempted: new.counters("jwtrail_deliveries_attempted", "Alerts sent to a destination: delivered, failed (and tried again), given_up, already_told, grouped, about_itself, malformed"),
            deliveries_pending: new.gauges("jwtrail_deliveries_pending", "Alerts read from the outbox and not yet delivered"),
            delivery_seconds: new.histograms("jwtrail_delivery_seconds", "From an alert's append to the destination's answer", || Histogram::new(LONG_SECONDS)),
            door_requests_answered: new.counters("jwtrail_door_requests_answered", "Requests to the door, by status"),
            door_events_accepted: new.counter("jwtrail_door_events_accepted", "Events that the door took"),
            door_events_refused: new.counters("jwtrail_door_events_refused", "Events that the door refused, by code"),
            spool_records: new.gauge("jwtrail_spool_records", "Events that the door took while Kafka was away and that have not followed yet"),
            spool_age_seconds: new.gauge("jwtrail_spool_age_seconds", "How long the oldest of them has waited"),
            spool_records_taken: new.counter("jwtrail_spool_records_taken", "Events that were spooled"),
            spool_records_drained: new.counter("jwtrail_spool_records_drained", "Events that followed from the spool; none is ever dropped"),
            log_calls_failed: new.counters("jwtrail_log_calls_failed", "Failures of the log, by code; they are tried again"),
            clickhouse_calls_failed: new.counters("jwtrail_clickhouse_calls_failed", "Failures of ClickHouse, by code; they are tried again"),
            geo_files_reloaded: new.counters("jwtrail_geo_files_reloaded", "Changed geo files: swapped, or kept because the new one is broken"),
            key_sets_fetched: new.counters("jwtrail_key_sets_fetched", "Issuers' key sets asked for by URL: swapped, unchanged, or kept because the answer was none"),
            key_sets_unknown: new.gauge("jwtrail_key_sets_unknown", "Issuers whose keys count as unknown: none fetched yet, or the last one too old"),
            control_records_refused: new.counters("jwtrail_control_records_refused", "Records of the control topic, or of the store beside it, that changed nothing, by reason: unsigned, foreign, replayed (each somebody's tampering), overtaken (two writers at once)"),
            registry: Arc::default(),
        };
        metrics.registry = Arc::new(new.registry);
        // What sums are made of exists from the start: a rate needs a zero to begin at.
        for outcome in Outcome::ALL {
            metrics.settled(*outcome, 0);
        }
        (metrics, new.table)
    }

    /// Every metric, in the order of the catalogue.
    #[cfg(test)]
    pub(crate) fn table() -> Vec<MetricInfo> {
        Self::declare().1
    }

    /// Counts records that left the walk.
    pub(crate) fn settled(&self, outcome: Outcome, records: u64) {
        self.records_settled.get_or_create(&ByOutcome { outcome: outcome.as_str() }).inc_by(records);
    }

    /// Prometheus's text format.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail, and no metric of ours has an encoder that does.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    /// What `encode`'s text is.
    pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;
}

/// 1 ms to 60 s.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// 10 ms to 72 h: a delivery may have waited for days.
const LONG_SECONDS: [f64; 12] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 600.0, 3_600.0, 43_200.0, 259_200.0];

/// Registers and writes the table at the same time.
#[derive(Default)]
struct Catalogue {
    registry: Registry,
    table: Vec<MetricInfo>,
}

impl Catalogue {
    fn add<M: Metric + Clone>(
        &mut self,
        (name, meaning): (&'static str, &'static str),
        kind: &'static str,
        labels: &'static [&'static str],
        metric: M,
    ) -> M {
        let full = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        self.table.push(MetricInfo { name: full, kind, labels, meaning });
        self.registry.register(name, meaning, metric.clone());
        metric
    }

    fn counter(&mut self, name: &'static str, meaning: &'static str) -> Counter {
        self.add((name, meaning), "counter", &[], Counter::default())
    }

    fn counters<L: Labels>(&mut self, name: &'static str, meaning: &'static str) -> Counters<L> {
        self.add((name, meaning), "counter", L::NAMES, Counters::default())
    }

    fn gauge(&mut self, name: &'static str, meaning: &'static str) -> Gauge {
        self.add((name, meaning), "gauge", &[], Gauge::default())
    }

    fn gauges<L: Labels>(&mut self, name: &'static str, meaning: &'static str) -> Gauges<L> {
        self.add((name, meaning), "gauge", L::NAMES, Gauges::default())
    }

    fn histogram<const N: usize>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        buckets: [f64; N],
    ) -> Histogram {
        self.add((name, meaning), "histogram", &[], Histogram::new(buckets))
    }

    fn histograms<L: Labels>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        make: fn() -> Histogram,
    ) -> Histograms<L> {
        self.add((name, meaning), "histogram", L::NAMES, Histograms::new_with_constructor(make))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_house_rules() {
        let table = Metrics::table();
        for MetricInfo { name, kind, labels, .. } in &table {
            assert!(name.starts_with("jwtrail_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
            assert_eq!(
                name.contains("_seconds"),
                *kind == "histogram" || name.ends_with("_age_seconds"),
                "{name}"
            );
            assert!(!labels.contains(&"tenant"), "{name} is labelled by tenant");
        }
        let mut names: Vec<_> = table.iter().map(|metric| &metric.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), table.len(), "a name is used twice");
    }

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.settled(Outcome::Stored, 3);
        metrics.settled(Outcome::Stored, 4);
        let delivery = ByDelivery { destination: "soc".to_owned(), result: "delivered" };
        metrics.clone().deliveries_attempted.get_or_create(&delivery).inc();
        let text = metrics.encode();
        for line in [
            "jwtrail_records_settled_total{outcome=\"stored\"} 7",
            "jwtrail_records_settled_total{outcome=\"control\"} 0",
            "jwtrail_deliveries_attempted_total{destination=\"soc\",result=\"delivered\"} 1",
            "# TYPE jwtrail_detector_state_bytes gauge",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in:\n{text}");
        }
    }
}
