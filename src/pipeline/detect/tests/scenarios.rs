//! The files of `tests/scenarios/RULE/`: records as a gateway writes them, walked through the real rooms, and by the second
//! walk what they come to as blocks of one record each. Beside each lies the outcome: the cases as they stood at last, the
//! alerts, and where there is no case of the folder's rule, what the rule said of the last record.
//!
//! Two lines are no events: `{"tick": TIME}`, by which time passes, and `{"again": N, "every_s": S}`, the line above so many
//! times more, with ids of their own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use expect_test::expect_file;
use serde_json::Value;
use uuid::Uuid;

use super::story::tell;
use crate::config::{Backend, ClientBackends, Egress, GeoFiles, Issuer, Secret};
use crate::keys::Seals;
use crate::log::{Batch, Origin, Record, Topic};
use crate::model::{Alert, Case, LogId, Offset, PartitionId, RuleId, Step, UnixMs};
use crate::pipeline::alert::{Found, Policy, alert, judge};
use crate::pipeline::decode::{Bounds, decode, is_tick, tick};
use crate::pipeline::detect::{Detector, GatewayDetector, JUDGES, Rulebook};
use crate::pipeline::enrich::{Atlas, Enricher, enrich};
use crate::pipeline::summarize::{self, Pulse, Tally};
use crate::pipeline::verify::{Trust, verify};

/// What every scenario runs under.
struct Rooms {
    bounds: Bounds,
    trust: Trust,
    atlas: Atlas,
    rules: Rulebook,
    policy: Policy,
    origin: Origin,
}

impl Rooms {
    fn new() -> Self {
        let key = || hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let log = LogId::try_from("0123456789abcdef0123456789abcdef".to_owned()).unwrap();
        let bounds = Bounds {
            max_event_age: Duration::from_secs(40 * 24 * 3_600),
            partitions: 1,
            seals: Arc::new(Seals::new(&Secret::new("of the tests".to_owned()))),
            ledger_key: None,
            forwarded_through: None,
            log: log.clone(),
        };
        let overlay = Some(scenarios().join("overlay.csv"));
        Self {
            bounds,
            trust: Trust::build(&[], &HashMap::new(), &[], key()).unwrap(),
            atlas: Atlas::load(&GeoFiles { overlay, ..GeoFiles::default() }).unwrap(),
            rules: rulebook(),
            policy: Policy::default(),
            origin: Origin { log, topic: Topic::Events, partition: PartitionId(0) },
        }
    }

    fn run(&self, records: &str, rule: RuleId) -> String {
        let batch = self.batch(records);
        let (mut detector, mut enricher) = (Detector::default(), Enricher::default());
        let (mut gateways, mut pulse) = (GatewayDetector::default(), Pulse::default());
        let (mut outcome, mut why) = (Outcome::default(), String::new());
        for record in batch.iter() {
            let mut tally = Tally::default();
            if is_tick(&record, &self.bounds) {
                pulse.tick(record.append_time);
                outcome.add(judge(detector.tick(&record), &self.policy, &self.origin));
            } else {
                pulse.beat(record.append_time);
                let decoded = decode(&record, &self.bounds)
                    .unwrap_or_else(|rejected| panic!("record {}: {rejected:?}", record.offset));
                let checked = verify(decoded, &record, &self.trust);
                let enriched = enrich(checked, &self.atlas, &mut enricher);
                let assessed = detector.detect(enriched, &record, &self.rules);
                why = assessed.rulings.get(rule as usize).map_or_else(String::new, ToString::to_string);
                let alerted = alert(assessed, &self.policy, &self.origin);
                tally.event(&record, &alerted.enriched);
                outcome.add(alerted.found);
            }
            tally.pass(&record, pulse.is_at_rest(self.rules.rest_after()));
            outcome.add(self.second_walk(&mut gateways, tally, &record));
        }
        let Outcome { cases, alerts } = outcome;
        let mut lines: Vec<String> = cases.iter().map(tell).collect();
        lines.extend(alerts.iter().map(|alert| {
            let step = if alert.step == Step::Opened { "opened" } else { "raised" };
            let case = &alert.data.finding.case;
            format!("alert {step} {} {} by record {}", case.rule, case.severity, case.revision)
        }));
        if cases.iter().all(|case| case.rule != rule) {
            lines.push(if why.is_empty() { format!("{rule}: nothing") } else { why });
        }
        lines.join("\n") + "\n"
    }

    /// The block of one record, as the second walk sees it a second later.
    fn second_walk(&self, gateways: &mut GatewayDetector, tally: Tally, record: &Record<'_>) -> Found {
        let seals = &self.bounds.seals;
        let summary = tally.close(&self.origin, (record.offset, record.offset), seals).unwrap();
        let mut batch = Batch::default();
        let headers = summary.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        batch.push(record.offset, record.append_time + Duration::from_secs(1), None, &summary.value, headers);
        let record = batch.iter().next().unwrap();
        let cases = gateways.detect(&summarize::read(&record, seals).unwrap(), &record, &self.rules);
        judge(cases, &self.policy, &Origin { topic: Topic::Summaries, ..self.origin.clone() })
    }

    /// One record a line, each appended a second after it happened and never before the one above it.
    fn batch(&self, records: &str) -> Batch {
        let mut batch = Batch::default();
        batch.clear(PartitionId(0));
        let mut appended = UnixMs::default();
        for (index, line) in written_out(records).iter().enumerate() {
            let offset = Offset::new(index as i64).unwrap();
            let time = line.get("time").or(line.get("tick")).and_then(Value::as_str);
            appended = appended.max(time.unwrap().parse::<UnixMs>().unwrap() + Duration::from_secs(1));
            if line.get("tick").is_some() {
                let tick = tick(&self.bounds, PartitionId(0), offset);
                let headers = tick.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
                batch.push(offset, appended, None, &tick.value, headers);
            } else {
                batch.push(offset, appended, None, line.to_string().as_bytes(), []);
            }
        }
        batch
    }
}

/// What the walks found.
#[derive(Default)]
struct Outcome {
    /// As they stood at last, in the order in which they opened.
    cases: Vec<Case>,
    alerts: Vec<Alert>,
}

impl Outcome {
    fn add(&mut self, found: Found) {
        for finding in found.findings {
            match self.cases.iter_mut().find(|known| known.finding_id == finding.case.finding_id) {
                Some(known) => *known = finding.case,
                None => self.cases.push(finding.case),
            }
        }
        self.alerts.extend(found.alerts);
    }
}

/// Every line, also those that are said to come again.
fn written_out(records: &str) -> Vec<Value> {
    let mut lines: Vec<Value> = Vec::new();
    for line in records.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let Some(again) = line.get("again").and_then(Value::as_i64) else {
            lines.push(line);
            continue;
        };
        let every_ms = line["every_s"].as_i64().unwrap() * 1_000;
        let first = lines.last().unwrap().clone();
        for number in 1..=again {
            let mut line = first.clone();
            let name = if line.get("tick").is_some() { "tick" } else { "time" };
            let time: UnixMs = first[name].as_str().unwrap().parse().unwrap();
            line[name] = UnixMs::new(time.get() + number * every_ms).to_string().into();
            if let Some(id) = first.get("id").and_then(Value::as_str) {
                let id: Uuid = id.parse().unwrap();
                line["id"] = Uuid::from_u128(id.as_u128() + ((number as u128) << 32)).to_string().into();
            }
            lines.push(line);
        }
    }
    lines
}

/// Declares, for tenant `acme`, the backend of client `shop`, an egress group, and two issuers that share subjects.
fn rulebook() -> Rulebook {
    let tenant = || "acme".parse().unwrap();
    let issuer = |iss: &str| Issuer {
        iss: iss.to_owned(),
        tenant: tenant(),
        jwks: None,
        subject_space: Some("staff".to_owned()),
        preset: None,
        clients_match: None,
        max_lifetime: None,
    };
    Rulebook::new(
        &[ClientBackends {
            id: "shop".to_owned(),
            tenant: tenant(),
            backends: vec![Backend::Cidr("2001:db8:ff04::/48".parse().unwrap())],
        }],
        &[Egress {
            tenant: tenant(),
            label: "head office".to_owned(),
            cidrs: vec!["2001:db8:ff07::/48".parse().unwrap()],
        }],
        &[issuer("https://eu.example"), issuer("https://us.example")],
    )
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

#[test]
fn every_scenario_comes_to_what_lies_beside_it() {
    let rooms = Rooms::new();
    let of_gateways =
        [RuleId::AuditGap, RuleId::GatewaySilent, RuleId::GatewayMissesClientIp, RuleId::GatewayClockSkew];
    for &rule in RuleId::ALL[..JUDGES].iter().chain(&of_gateways) {
        let folder = scenarios().join(rule.as_str());
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{rule} has no scenarios: {error}"))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{rule} has no scenarios");
        for path in files {
            let outcome = rooms.run(&std::fs::read_to_string(&path).unwrap(), rule);
            expect_file![path.with_extension("txt")].assert_eq(&outcome);
        }
    }
}
