//! The demo of `up --demo`: simulated traffic through the door, alerts as they come, and a summary at the end.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::node::Node;
use super::simulate::Sender;
use crate::clickhouse::Client;
use crate::config::Config;
use crate::evaluate::{Found, Scores};
use crate::model::{Alert, RuleId, UnixMs};
use crate::pipeline::alert::text_block;
use crate::pipeline::corridor::AlertListener;
use crate::simulate::{DEMO_OVERLAY, Label, Plan, Simulator, demo_clients, demo_egress};
use crate::telemetry::{ByOutcome, Outcome};

const TENANTS: usize = 2;
const PEOPLE: usize = 200;
const EVENTS_PER_SECOND: f64 = 50.0;
const ATTACK_EVERY: Duration = Duration::from_secs(20);
/// One alert in full at most so often: a screen is read by a person.
const SHOW_EVERY: Duration = Duration::from_secs(2);

/// Places the documentation networks and declares the demo's backends and egress, so that the simulator's world is
/// also the walk's.
pub(super) fn declare(config: &mut Config) -> anyhow::Result<()> {
    let overlay = config.data_dir.join("demo-overlay.csv");
    std::fs::create_dir_all(&config.data_dir)
        .and_then(|()| std::fs::write(&overlay, DEMO_OVERLAY))
        .with_context(|| format!("writing {}", overlay.display()))?;
    config.geo.overlay.get_or_insert(overlay);
    config.clients.extend(demo_clients(TENANTS));
    config.egress.extend(demo_egress(TENANTS));
    Ok(())
}

/// A running demo.
pub(super) struct Demo {
    plan: Plan,
    /// Alerts on their way to the screen. Bounded: what a person cannot read anyway is only counted.
    shown: mpsc::Sender<Alert>,
    alerts: mpsc::Receiver<Alert>,
    count: Arc<Mutex<u64>>,
}

impl Demo {
    pub(super) fn new(seed: u64, node: &Node) -> Self {
        let plan = Plan {
            seed,
            start: node.clock.now(),
            rate: EVENTS_PER_SECOND,
            tenants: TENANTS,
            people: PEOPLE,
            attack_every: Some(ATTACK_EVERY),
        };
        let (shown, alerts) = mpsc::channel(16);
        Self { plan, shown, alerts, count: Arc::default() }
    }

    /// What the corridor calls with each alert.
    pub(super) fn on_alert(&self) -> AlertListener {
        let (shown, count) = (self.shown.clone(), Arc::clone(&self.count));
        Box::new(move |alert| {
            *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            // A full channel means that others are waiting to be read already.
            let _ = shown.try_send(alert.clone());
        })
    }

    /// Sends traffic and shows what is caught until the process drains; then prints the summary.
    pub(super) async fn run(mut self, node: &Node, client: &Client) -> anyhow::Result<()> {
        let began = self.plan.start;
        let mut labels = Vec::new();
        tokio::select! {
            sent = send(self.plan.clone(), node, &mut labels) => sent?,
            () = show(&mut self.alerts, &self.count, node) => {}
            () = node.lifecycle.draining() => {}
        }
        self.summary(node, client, began, &labels).await
    }

    async fn summary(
        &self,
        node: &Node,
        client: &Client,
        began: UnixMs,
        labels: &[Label],
    ) -> anyhow::Result<()> {
        // What was sent a moment ago is still on its way to ClickHouse.
        wait_for_settling(node).await;
        let found = found_since(client, began).await.context("asking ClickHouse for the demo's cases")?;
        let rows = client
            .query("SELECT count() FROM events WHERE received_at >= fromUnixTimestamp64Milli(?)")
            .bind(began.get());
        let rows: u64 = client.answered(rows.fetch_one()).await?;
        let alerts = *self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = node.metrics.door_events_accepted.get();
        let waiting = sent.saturating_sub(rows);
        println!("\n{sent} events, {rows} rows, {} cases, {alerts} alerts", found.len());
        if waiting > 0 {
            println!("{waiting} events came too late to be walked: they lie in the log for the next start");
        }
        print!("{}", Scores::of(labels, &found, sent));
        Ok(())
    }
}

async fn send(plan: Plan, node: &Node, labels: &mut Vec<Label>) -> anyhow::Result<()> {
    let sender = Sender::door(&node.config)?;
    for simulated in Simulator::new(plan) {
        let ahead_ms = simulated.event.time.since_ms(node.clock.now());
        tokio::time::sleep(Duration::from_millis(u64::try_from(ahead_ms).unwrap_or(0))).await;
        labels.extend(simulated.labels.iter().cloned());
        sender.send(vec![simulated]).await?;
    }
    Ok(())
}

async fn show(alerts: &mut mpsc::Receiver<Alert>, count: &Mutex<u64>, node: &Node) {
    loop {
        tokio::time::sleep(SHOW_EVERY).await;
        if let Ok(alert) = alerts.try_recv() {
            println!("\n{}", text_block(&alert));
        }
        let settled = |outcome: Outcome| {
            let by = ByOutcome { outcome: outcome.as_str() };
            node.metrics.records_settled.get_or_create(&by).get()
        };
        if std::io::stdout().is_terminal() {
            let alerts = *count.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = node.metrics.door_events_accepted.get();
            print!("\r{sent} events, {} rows, {alerts} alerts ", settled(Outcome::Stored));
            let _ = std::io::Write::flush(&mut std::io::stdout());
        }
    }
}

/// Until everything that was taken from the log is settled; two seconds at most.
async fn wait_for_settling(node: &Node) {
    for _ in 0..40 {
        let settled: u64 = Outcome::ALL
            .iter()
            .map(|outcome| {
                let by = ByOutcome { outcome: outcome.as_str() };
                node.metrics.records_settled.get_or_create(&by).get()
            })
            .sum();
        if settled >= node.metrics.door_events_accepted.get() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The cases that events since `began` belong to.
async fn found_since(client: &Client, began: UnixMs) -> anyhow::Result<Vec<Found>> {
    type Row = (String, String, String, String, String, i64, i64, bool);
    let rows = client
        .query(
            "SELECT rule, tenant, sub, client_id, gateway, toUnixTimestamp64Milli(first_time), \
             toUnixTimestamp64Milli(last_time), is_alert FROM findings WHERE last_time >= fromUnixTimestamp64Milli(?)",
        )
        .bind(began.get());
    let rows: Vec<Row> = client.answered(rows.fetch_all()).await?;
    let found = rows.into_iter().filter_map(|(rule, tenant, sub, client_id, gateway, from, to, is_alert)| {
        let rule = RuleId::parse(&rule)?;
        let who = [sub, client_id, gateway];
        Some(Found { rule, tenant, who, from: UnixMs::new(from), to: UnixMs::new(to), is_alert })
    });
    Ok(found.collect())
}
