//! The rooms together: what a tenant's `signatures` comes to, from the record's header to the row, the rules and the
//! proof.

mod repeats;
mod set_aside;

use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use expect_test::{Expect, expect};

use super::*;
use crate::config::{Gateway, GeoFiles, Secret, Signatures, SigningKey, SigningMaterial, Tenant};
use crate::keys::Seals;
use crate::model::{LogId, Offset, RuleId, TenantId, UnixMs, Zone};

/// A tenant with these `signatures`; its gateway signs with a private key.
fn walk_of(signatures: Signatures) -> Walk {
    let tenant: TenantId = "acme".parse().unwrap();
    let gateway = Gateway {
        name: "edge-1".to_owned(),
        zone: Zone::Edge,
        tenants: vec![tenant.clone()],
        key_sha256: None,
        signing: vec![SigningKey {
            id: "2026".to_owned(),
            material: SigningMaterial::Ed25519(pair().public_key().as_ref().try_into().unwrap()),
        }],
    };
    let key = || hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let tenants = [(tenant, Tenant { signatures, ..Tenant::default() })].into();
    let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/overlay-demo.csv");
    let geo = GeoFiles { overlay: Some(overlay.into()), ..GeoFiles::default() };
    let snapshots = Snapshots {
        verify: Arc::new(verify::Trust::build(&[], &tenants, &[gateway], key()).unwrap()),
        enrich: Arc::new(enrich::Atlas::load(&geo).unwrap()),
        ..testing::snapshots()
    };
    let bounds = decode::Bounds {
        max_event_age: Duration::from_secs(24 * 3_600),
        partitions: 1,
        seals: Arc::new(Seals::new(&Secret::new("of the tests".to_owned()))),
        ledger_key: None,
        forwarded_through: None,
        log: LogId::try_from("0".repeat(32)).unwrap(),
    };
    Walk::new(bounds, snapshots, PartitionId(0))
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

/// Alice in Paris, and a minute later in Tokyo on another device: what travel and replay speak of.
fn uses() -> [String; 2] {
    [("203.0.113.7", "10:00", "curl/8.0"), ("198.51.100.7", "10:01", "Mozilla/5.0 (X11; Linux) Firefox/130.0")]
        .map(|(ip, time, agent)| {
            format!(
                r#"{{"version":1,"id":"019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a{}","kind":"accepted","tenant":"acme",
                "time":"2026-11-23T{time}:00Z","source":{{"gateway":"edge-1","zone":"edge"}},"gateway_verdict":"valid",
                "token":{{"ref":"hXRBD-Nn5X-eJxvdPiVIgD3BO2zeDFieuabZ9gBx9Kc","iss":"https://id.example","sub":"alice"}},
                "request":{{"ip":"{ip}","user_agent":"{agent}"}}}}"#,
                time.replace(':', ""),
            )
        })
}

/// Walks both uses, signed or not; answers `verdict proof`, and of the second what the rule of travel said.
fn check(signatures: Signatures, signed: bool, expected: Expect) {
    let mut walk = walk_of(signatures);
    let mut said = Vec::new();
    for (number, value) in uses().into_iter().enumerate() {
        let signature = BASE64_URL_SAFE_NO_PAD.encode(pair().sign(value.as_bytes()));
        let header = format!("2026;ed25519;{signature}");
        let headers = signed.then_some((verify::SIGNATURE_HEADER, header.as_bytes()));
        let mut batch = Batch::default();
        batch.clear(PartitionId(0));
        let appended: UnixMs = "2026-11-23T10:02:00Z".parse().unwrap();
        batch.push(Offset::new(number as i64).unwrap(), appended, None, value.as_bytes(), headers);
        let record = batch.iter().next().unwrap();
        let way_out = walk.step_watched(&record, |assessed| {
            let checked = &assessed.enriched.checked;
            said.push(format!("{} {}", checked.verdict.as_str(), checked.proof));
            said.push(assessed.rulings[RuleId::ImpossibleTravel as usize].why.to_string());
        });
        // Whatever the verdict, the event is a row: what is kept out of the rules is not kept out of the trail.
        assert!(matches!(way_out, WayOut::Alerted(_)));
    }
    expected.assert_eq(&said.join("\n"));
}

#[test]
fn what_is_required_and_missing_is_seen_and_moves_no_rule_of_place() {
    check(
        Signatures::Require,
        false,
        expect![[r#"
        unattested none
        not eligible: the record lacks the signature its tenant requires
        unattested none
        not eligible: the record lacks the signature its tenant requires"#]],
    );
    check(
        Signatures::Require,
        true,
        expect![[r#"
        valid gateway_attested
        not: nothing else is remembered to compare with
        valid gateway_attested
        fired, severity medium, confidence high"#]],
    );
}

#[test]
fn what_is_recorded_raises_the_proof_alone() {
    check(
        Signatures::Record,
        false,
        expect![[r#"
        valid none
        not: nothing else is remembered to compare with
        valid none
        fired, severity medium, confidence high"#]],
    );
    check(
        Signatures::Record,
        true,
        expect![[r#"
        valid gateway_attested
        not: nothing else is remembered to compare with
        valid gateway_attested
        fired, severity medium, confidence high"#]],
    );
}

#[test]
fn what_is_off_is_not_looked_at() {
    check(
        Signatures::Off,
        true,
        expect![[r#"
        valid none
        not: nothing else is remembered to compare with
        valid none
        fired, severity medium, confidence high"#]],
    );
}
