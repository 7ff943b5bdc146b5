//! Any bytes as a token: no panic, no second reading, and nothing good but what the published vectors hold.

use std::sync::LazyLock;

use super::testing::Vectors;
use super::{ClaimedJwe, ClaimedJws, Typ, outer_ref, token_ref};

static VECTORS: LazyLock<Vectors> = LazyLock::new(Vectors::read);

/// A compact JWS.
pub(crate) fn jws(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(jws) = ClaimedJws::read(text, Typ::AbsentOr(&["at+jwt", "JWT"])) {
        assert_eq!(token_ref(text), Ok(jws.token_ref()), "what is read has a ref, and one alone");
    }
    only_vectors_are_good(text);
}

/// A compact JWE.
pub(crate) fn jwe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(jwe) = ClaimedJwe::read(text) {
        assert_eq!(outer_ref(text), Ok(jwe.outer_ref()), "what is read has a ref, and one alone");
    }
    only_vectors_are_good(text);
}

/// Nobody fuzzes a signature out of nothing.
fn only_vectors_are_good(text: &str) {
    let (mut seen, mut good) = (Vec::new(), false);
    for case in VECTORS.cases.iter().filter(|case| case.verdict == "valid") {
        if !seen.contains(&case.expectation_text()) {
            seen.push(case.expectation_text());
            good |= VECTORS.decide(case, text).is_ok();
        }
    }
    assert!(!good || VECTORS.cases.iter().any(|case| case.token == text), "a token that nobody issued");
}
