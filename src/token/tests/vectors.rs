//! The published vectors: each row has one verdict, here and in whatever verifies our tokens.

use std::collections::BTreeMap;

use crate::model::GatewayVerdict;
use crate::token::testing::Vectors;

#[test]
fn every_row_has_its_verdict() {
    let vectors = Vectors::read();
    let mut wrong = String::new();
    let mut rows = BTreeMap::<&str, usize>::new();
    for case in &vectors.cases {
        assert!(GatewayVerdict::parse(&case.verdict).is_some(), "{}: {}", case.name, case.verdict);
        *rows.entry(&case.verdict).or_default() += 1;
        let found = match vectors.decide(case, &case.token) {
            Ok(_) => GatewayVerdict::Valid,
            Err(refusal) => refusal.fault.verdict(),
        };
        if found.as_str() != case.verdict {
            wrong += &format!("{}: {found}, not {}\n", case.name, case.verdict);
        }
    }
    assert_eq!(wrong, "");
    // Every verdict but those that say that the gateway did not look.
    for verdict in GatewayVerdict::ALL {
        let unlooked = matches!(verdict, GatewayVerdict::Unspecified | GatewayVerdict::Opaque);
        assert_eq!(rows.contains_key(verdict.as_str()), !unlooked, "{verdict}");
    }
}

/// What a refused token claims is kept for its event from where it could be read.
#[test]
fn what_could_be_read_of_a_refused_token_is_told() {
    let vectors = Vectors::read();
    for case in vectors.cases.iter().filter(|case| case.verdict != "valid") {
        let refusal = vectors.decide(case, &case.token).unwrap_err();
        let unread = matches!(
            refusal.fault.verdict(),
            GatewayVerdict::MissingToken
                | GatewayVerdict::Malformed
                | GatewayVerdict::CritNotUnderstood
                | GatewayVerdict::WrongType
                | GatewayVerdict::Undecryptable
        );
        if refusal.fault.verdict() != GatewayVerdict::AlgNotAllowed {
            assert_eq!(refusal.claimed.is_none(), unread, "{}", case.name);
        }
        let told = refusal.fault.to_string();
        assert!(!case.token.split('.').any(|segment| segment.len() > 8 && told.contains(segment)), "{told}");
    }
}
