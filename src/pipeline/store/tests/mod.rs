//! Blocks as they are filled and cut.

mod engine;
mod tokens;

use super::rows::event_row;
use super::tables::EVENTS;
use super::testing::*;
use super::*;
use crate::clickhouse::Columns;
use crate::log::NewRecord;
use crate::model::{Offset, RuleId, Severity};
use crate::pipeline::decode::RejectReason;
use crate::pipeline::detect::DropReason;
use crate::pipeline::verify::SIGNATURE_HEADER;

#[test]
fn a_block_is_named_by_its_log_its_partition_and_its_range() {
    let block = block_at(40).cut(at(49));
    assert_eq!(block.id().origin.to_string(), format!("{LOG}/jwtrail.events/3"));
    assert_eq!(block.id().token(0), format!("{LOG}/jwtrail.events/3/40-49/0"));
}

#[test]
fn every_record_has_one_outcome() {
    let mut block = block_at(0);
    push(&mut block, 0, &event("accepted", "alice"));
    push(&mut block, 1, b"{not json");
    push(&mut block, 2, &heartbeat());
    push(&mut block, 4, br#"{"version": 1, "kind": "of tomorrow"}"#);
    let batch = batch(5, &event("accepted", "bob"));
    block.forward(&batch.iter().next().unwrap(), NewRecord::default());
    block.drop(&batch.iter().next().unwrap(), DropReason::Duplicate);
    let block = block.cut(at(5));
    let counts = &block.counts;
    assert_eq!((counts.stored, counts.dead_letters(), counts.forwarded, counts.control), (1, 2, 1, 1));
    assert_eq!(counts.dropped, [(DropReason::Duplicate, 1)].into());
    assert_eq!(counts.records(), 6);
    assert_eq!(
        counts.dead.keys().copied().collect::<Vec<_>>(),
        [RejectReason::NotJson, RejectReason::UnknownKind]
    );
    assert_eq!(block.forwards().len(), 1);
}

#[test]
fn the_same_record_is_the_same_row() {
    let cut = || {
        let mut block = block_at(0);
        push(&mut block, 0, &event("accepted", "alice"));
        push(&mut block, 1, &event("rejected", "bob"));
        block.cut(at(1))
    };
    assert_eq!(cut().events, cut().events);
}

#[test]
fn rows_and_values_are_found_by_their_number() {
    let mut block = block_at(0);
    for (offset, sub) in [(0, "alice"), (1, "bob"), (2, "carol")] {
        push(&mut block, offset, &event("accepted", sub));
    }
    let block = block.cut(at(2));
    let whole: Vec<u8> = (0..3).flat_map(|row| block.event_rows(row, row + 1)).collect();
    assert_eq!(whole, block.events);
    assert_eq!(block.value(1), event("accepted", "bob"));
}

#[test]
fn a_block_of_values_that_are_mostly_blanks_is_full_before_the_memory_is() {
    let mut value = event("accepted", "alice");
    value.resize(31 << 10, b' ');
    let mut block = block_at(0);
    let mut offset = 0;
    while !block.is_full(1) {
        push(&mut block, offset, &value);
        offset += 1;
        assert!(offset < 4_000, "{offset} values of 31 KiB");
    }
    assert_eq!(block.cut(at(offset - 1)).counts.dead_letters(), 0);
}

#[test]
fn a_block_keeps_the_newest_revision_of_a_case() {
    let mut block = block_at(0);
    for offset in 0..3 {
        push_finding(&mut block, offset, finding(RuleId::TokenReplay, Severity::Low, offset));
    }
    push_finding(&mut block, 3, finding(RuleId::TokenLeak, Severity::High, 3));
    let (mut once, findings) = (Vec::new(), block.cut(at(3)).findings);
    for finding in
        [finding(RuleId::TokenReplay, Severity::Low, 2), finding(RuleId::TokenLeak, Severity::High, 3)]
    {
        rows::finding_row(&mut once, rows::origin_text(&origin()), &finding);
    }
    assert_eq!(findings.len(), once.len());
}

#[test]
fn a_dead_letter_says_why_and_where_from_and_holds_no_token() {
    let (token, token_ref) = jws();
    let mut block = block_at(0);
    let mut keyed = Batch::default();
    let signature = [(SIGNATURE_HEADER, &b"2026;hs256;AAAA"[..])];
    keyed.push(at(7), received(7), Some(token.as_bytes()), format!("{{{token}").as_bytes(), signature);
    reject(&mut block, &keyed);
    let letters = block.cut(at(7)).dead_letters;
    let [letter] = letters.as_slice() else { panic!("one letter, not {}", letters.len()) };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(letter.key.as_deref().map(text), Some(format!("[masked:{token_ref}]")));
    assert_eq!(text(&letter.value), format!("{{[masked:{token_ref}]"));
    let headers: Vec<_> =
        letter.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
    assert_eq!(
        headers,
        [
            "jwtrail-reason: not_json".to_owned(),
            "jwtrail-field: ".to_owned(),
            format!("jwtrail-origin: {LOG}/jwtrail.events/3/7"),
            format!("jwtrail-append-ms: {}", received(7).get()),
        ]
    );
}

#[test]
fn a_dead_letter_keeps_the_signature_that_still_holds_and_no_token_in_its_place() {
    let (token, _) = jws();
    for (value, signature, kept) in [
        ("{", "2026;hs256;AAAA", true),
        // Masked, so the signature is of another value.
        (&*format!("{{{token}"), "2026;hs256;AAAA", false),
        ("{", &*token, false),
    ] {
        let mut batch = Batch::default();
        batch.push(at(7), received(7), None, value.as_bytes(), [(SIGNATURE_HEADER, signature.as_bytes())]);
        let mut block = block_at(0);
        reject(&mut block, &batch);
        let letter = block.cut(at(7)).dead_letters.remove(0);
        let found = letter.headers.into_iter().find(|(name, _)| name == SIGNATURE_HEADER);
        assert_eq!(found.map(|(_, value)| value), kept.then(|| signature.as_bytes().to_vec()), "{signature}");
    }
}

#[test]
fn a_retention_of_no_days_is_one_day() {
    let retention = retention_of(&[("acme", 0), ("globex", 30)]);
    assert_eq!(["acme", "globex", "not declared"].map(|tenant| retention.days(tenant)), [1, 30, 90],);
}

#[test]
fn a_rows_columns_do_not_depend_on_its_values() {
    let mut full = Columns::default();
    with_enriched(&batch(0, &event("accepted", "alice")), |record, enriched| {
        event_row(&mut full, &origin(), record, &enriched, 90);
    });
    assert_eq!(full, EVENTS.columns);
}

fn at(offset: i64) -> Offset {
    Offset::new(offset).unwrap()
}
