//! The room from outside: the published vectors, other implementations, and whatever anyone changes in a token.

mod others;
mod properties;
mod vectors;

use super::{Claims, JwsHeader, Scope, SigningInput, SigningKey};

/// 2026-11-23T10:00:00Z, in seconds.
const NOW: i64 = 1_795_428_000;
const ISSUER: &str = "https://id.example/t/acme";
const AUDIENCE: &str = "https://api.example";

fn claims() -> Claims {
    Claims {
        iss: ISSUER.to_owned(),
        sub: "alice".to_owned(),
        aud: vec![AUDIENCE.to_owned()],
        client_id: "web".to_owned(),
        iat: NOW,
        nbf: None,
        exp: NOW + 600,
        jti: "hq1m".to_owned(),
        scope: Scope::parse("orders:read").unwrap(),
        tenant_id: "acme".to_owned(),
        auth_time: None,
        sid: None,
        generation: None,
        act: None,
        may_act: None,
        txn: None,
        org: None,
        cnf: None,
    }
}

/// A token as an issuer makes it.
fn issue(signer: &SigningKey, claims: &Claims) -> String {
    let header = JwsHeader::new(signer.alg(), signer.kid(), super::ACCESS_TOKEN_TYPE);
    let input = SigningInput::new(&header, &claims.to_json());
    let signature = signer.sign(input.as_bytes()).unwrap();
    input.append(&signature).unwrap()
}
