//! The published contract against itself: every example of `schemas/events` validates, decodes, and reads as its
//! snapshot says; what must be refused is refused by schema and code alike.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use expect_test::expect_file;

use super::*;

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/events")
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(schemas().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() > 10, "{folder} is there");
    files
}

fn validator() -> jsonschema::Validator {
    let schema = serde_json::from_str(include_str!("../../../../schemas/events/event.v1.json")).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

/// What `decode` makes of a record, for a person to read.
fn snapshot(record: &NewRecord) -> String {
    with(record, |decoded| {
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(rejected) => return format!("rejected: {} {}\n", rejected.reason, rejected.field),
        };
        let mut text = serde_json::to_string_pretty(&decoded.event).unwrap() + "\n";
        let key = String::from_utf8(home_key(&decoded.event)).unwrap().replace('\u{1f}', "␟");
        writeln!(text, "key: {key}").unwrap();
        if let Some(time) = decoded.event.claimed_time {
            writeln!(text, "claimed time: {time}").unwrap();
        }
        for flag in decoded.flags.iter() {
            writeln!(text, "flag: {flag}").unwrap();
        }
        for leak in &decoded.leaks {
            writeln!(text, "leak: {} {:?} {}", leak.field, leak.owner, leak.token_ref).unwrap();
        }
        text
    })
}

#[test]
fn every_example_validates_and_decodes_and_reads_as_before() {
    let validator = validator();
    let mut kinds: Vec<Kind> = Vec::new();
    for (name, value) in files("examples") {
        let json: serde_json::Value = serde_json::from_slice(&value).unwrap();
        let event = json.get("data").unwrap_or(&json);
        let errors: Vec<_> = validator.iter_errors(event).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        let kind = Kind::parse(event["kind"].as_str().unwrap()).unwrap();
        kinds.push(kind);
        let mut record = bare(value);
        if kind.is_issuer() {
            // Without the ledger key's signature it gets as far as that, and no further.
            assert_eq!(snapshot(&record), "rejected: issuer_signature_invalid /kind\n", "{name}");
            sign_ledger(&mut record, &bounds().ledger_key.unwrap());
        }
        let snapshot = snapshot(&record);
        assert!(!snapshot.starts_with("rejected:"), "{name}: {snapshot}");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pipeline/decode/tests/snapshots");
        expect_file![folder.join(name + ".txt")].assert_eq(&snapshot);
    }
    for kind in Kind::ALL {
        assert!(kinds.contains(kind), "{kind} has an example");
    }
}

#[test]
fn everything_refused_is_refused_for_its_reason_by_schema_and_code() {
    let validator = validator();
    let mut reasons: Vec<RejectReason> = Vec::new();
    for (name, value) in files("refused") {
        let reason = RejectReason::parse(name.split('.').next().unwrap()).unwrap();
        reasons.push(reason);
        let rejected = with(&bare(value.clone()), |decoded| decoded.unwrap_err());
        assert_eq!(rejected.reason, reason, "{name} at {}", rejected.field);
        // What a schema can say: not the size of the record, its depth, its syntax or its signature.
        let of_schema = !matches!(
            reason,
            RejectReason::NotUtf8
                | RejectReason::NotJson
                | RejectReason::DuplicateMember
                | RejectReason::TooLarge
                | RejectReason::TooDeep
                | RejectReason::IssuerSignatureInvalid
        );
        if of_schema {
            let json = serde_json::from_slice(&value).unwrap();
            assert!(!validator.is_valid(&json), "{name} does not validate");
        }
    }
    // What is refused although it is an event, and what is refused where no event belongs.
    let later = [RejectReason::ClickhouseRefused, RejectReason::TenantSetAside, RejectReason::NotSealed];
    for reason in RejectReason::ALL.iter().filter(|reason| !later.contains(reason)) {
        assert!(reasons.contains(reason), "{reason} has an example");
    }
}

/// Structured mode, binary mode and bare JSON.
#[test]
fn an_event_reads_alike_in_any_envelope() {
    let event = example();
    let mut structured = serde_json::json!({"specversion": "1.0", "id": "other", "source": "/x", "type": "y",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"});
    structured["data"] = event.clone();
    let headers = [("ce_specversion", "1.0"), ("ce_id", "other"), ("content-type", "application/json")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
    let binary = NewRecord { headers, ..bare(event.to_string()) };
    let expected = snapshot(&bare(event.to_string()));
    assert_eq!(snapshot(&bare(structured.to_string())), expected);
    assert_eq!(snapshot(&binary), expected);

    let rejected = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut envelope = structured.clone();
        change(&mut envelope);
        snapshot(&bare(envelope.to_string()))
    };
    let case = |change: &dyn Fn(&mut serde_json::Value), expected: &str| {
        assert_eq!(rejected(change), format!("rejected: {expected}\n"));
    };
    case(&|envelope| envelope["specversion"] = "0.3".into(), "bad_value /specversion");
    case(&|envelope| drop(envelope.as_object_mut().unwrap().remove("data")), "missing_field /data");
    case(&|envelope| envelope["data"]["token"]["sub"] = 7.into(), "bad_type /token/sub");
    case(&|envelope| envelope["data"]["kind"] = "used".into(), "unknown_kind /kind");
    case(&|envelope| envelope["data"]["version"] = 2.into(), "unknown_version /version");
}
