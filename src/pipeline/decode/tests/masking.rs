//! Tokens hidden in records: none survives, none keeps its event from being judged.

use super::*;

const ES256: &str = r#"{"alg":"ES256","typ":"at+jwt"}"#;

#[test]
fn a_token_in_a_clients_field_is_masked_and_told() {
    let (token, token_ref) = jws(ES256);
    let value = example_with("/request/user_agent", format!("curl {token} x").into());
    with(&bare(value), |outcome| {
        let decoded = outcome.unwrap();
        let agent = decoded.event.request.unwrap().user_agent.unwrap();
        assert_eq!(agent, format!("curl [masked:{token_ref}] x"));
        let field = "/request/user_agent".to_owned();
        assert_eq!(decoded.leaks, [Leak { field, owner: LeakOwner::Client, token_ref }]);
        assert!(decoded.flags.has(Flag::Masked));
    });
}
