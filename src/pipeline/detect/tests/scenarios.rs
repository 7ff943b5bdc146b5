//! The files of `tests/scenarios/RULE/`: records as a gateway writes them, walked through the real rooms. Beside each
//! lies what it comes to: the cases as they stood at last, the alerts, and where there is no case of the folder's rule,
//! what the rule said of the last record.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use expect_test::expect_file;

use super::story::tell;
use crate::config::{Backend, ClientBackends, Egress, GeoFiles, Issuer};
use crate::log::{Batch, Origin, Topic};
use crate::model::{Case, LogId, Offset, PartitionId, RuleId, Step, UnixMs};
use crate::pipeline::alert::{Found, Policy, alert};
use crate::pipeline::decode::{Bounds, decode};
use crate::pipeline::detect::{Detector, JUDGES, Rulebook};
use crate::pipeline::enrich::{Atlas, Enricher, enrich};
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
            forward_key: Arc::new(key()),
            tick_key: Arc::new(key()),
            ledger_key: None,
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
        let batch = batch(records);
        let (mut detector, mut enricher) = (Detector::default(), Enricher::default());
        let mut cases: Vec<Case> = Vec::new();
        let mut alerts = Vec::new();
        let mut why = String::new();
        for record in batch.iter() {
            let decoded = decode(&record, &self.bounds)
                .unwrap_or_else(|rejected| panic!("record {}: {rejected:?}", record.offset));
            let checked = verify(decoded, &record, &self.trust);
            let enriched = enrich(checked, &self.atlas, &mut enricher);
            let assessed = detector.detect(enriched, &record, &self.rules);
            why = assessed.rulings[rule as usize].to_string();
            let Found { findings, alerts: told, .. } = alert(assessed, &self.policy, &self.origin).found;
            for finding in findings {
                match cases.iter_mut().find(|known| known.finding_id == finding.case.finding_id) {
                    Some(known) => *known = finding.case,
                    None => cases.push(finding.case),
                }
            }
            alerts.extend(told);
        }
        let mut lines: Vec<String> = cases.iter().map(tell).collect();
        lines.extend(alerts.iter().map(|alert| {
            let step = if alert.step == Step::Opened { "opened" } else { "raised" };
            let case = &alert.data.finding.case;
            format!("alert {step} {} {} by record {}", case.rule, case.severity, case.revision)
        }));
        if cases.iter().all(|case| case.rule != rule) {
            lines.push(why);
        }
        lines.join("\n") + "\n"
    }
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

/// One record a line, each appended a second after it happened and never before the one above it.
fn batch(records: &str) -> Batch {
    let mut batch = Batch::default();
    batch.clear(PartitionId(0));
    let mut appended = UnixMs::default();
    for (index, line) in records.lines().enumerate() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let time: UnixMs = event["time"].as_str().unwrap().parse().unwrap();
        appended = appended.max(time + Duration::from_secs(1));
        batch.push(Offset::new(index as i64).unwrap(), appended, None, line.as_bytes(), []);
    }
    batch
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

#[test]
fn every_scenario_comes_to_what_lies_beside_it() {
    let rooms = Rooms::new();
    for &rule in &RuleId::ALL[..JUDGES] {
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
