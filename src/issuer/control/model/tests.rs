//! Entries as JSON, and the rules that they keep.

use serde_json::json;

use super::*;
use crate::model::{Grant, UnixMs};

fn client() -> Client {
    serde_json::from_value(json!({"kind": "confidential", "created_at": "2026-11-23T10:15:00.123Z"})).unwrap()
}

#[test]
fn a_key_is_its_text() {
    let acme: TenantId = "acme".parse().unwrap();
    for (key, text) in [
        (EntryKey::of_tenant(&acme), "tenant/acme/acme"),
        (EntryKey::of::<Client>(&acme, "web"), "client/acme/web"),
        (EntryKey::of::<Audience>(&acme, "https://api.example/a"), "audience/acme/https://api.example/a"),
        (EntryKey::of_platform::<Gateway>("edge-1"), "gateway/_platform/edge-1"),
    ] {
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
    }
    for text in
        ["", "client", "client/acme", "client/acme/", "client//web", "house/acme/web", "client/Acme/web"]
    {
        assert_eq!(text.parse::<EntryKey>(), Err(NotAKey), "{text}");
    }
}

#[test]
fn each_rule_names_its_member() {
    let secret = StoredSecret { sha256: SecretHash::of("a"), created_at: UnixMs::new(0) };
    let mut many = client();
    many.secrets = vec![secret.clone(); 3];
    let mut public = client();
    public.kind = ClientKind::Public;
    public.grants.insert(Grant::ClientCredentials);
    let mut tenant = Tenant::new(UnixMs::new(0));
    tenant.policy.access_token_s = 3_601;
    let mut unsigned = Tenant::new(UnixMs::new(0));
    unsigned.policy.algs.clear();
    let bare = Audience { sensitive: true, encryption: Vec::new(), created_at: UnixMs::new(0) };
    for (entry, field) in [
        (Arc::new(many).any(), "secrets"),
        (Arc::new(public).any(), "grants"),
        (Arc::new(tenant).any(), "policy.access_token_s"),
        (Arc::new(unsigned).any(), "policy.algs"),
        (Arc::new(bare).any(), "encryption"),
    ] {
        assert_eq!(entry.check().unwrap_err().field, field, "{entry:?}");
    }
    assert_eq!(Arc::new(client()).any().check(), Ok(()));
}

#[test]
fn names_are_checked_where_they_are_read() {
    assert!(serde_json::from_str::<ClientId>("\"web\"").is_ok());
    for text in ["\"\"", "\"a b\"", "\"caf\u{e9}\""] {
        assert!(serde_json::from_str::<ClientId>(text).is_err(), "{text}");
    }
    assert!(AudienceName::parse("https://api.example/#part").is_err());
    assert!(ScopeName::parse("a\"b").is_err());
    assert!(Username::parse("zo\u{eb}\n").is_err());
}

#[test]
fn a_secret_is_never_printed() {
    let mut client = client();
    client.secrets = vec![StoredSecret { sha256: SecretHash::of("open sesame"), created_at: UnixMs::new(0) }];
    assert!(is_one_of(&client.secrets, "open sesame") && !is_one_of(&client.secrets, "open"));
    let sealed = Sealed::new(b"private".to_vec());
    let password = PasswordHash::try_from("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned()).unwrap();
    let printed = format!("{client:?} {sealed:?} {password:?}");
    assert!(printed.contains("[redacted]") && printed.contains("[7 sealed bytes]"), "{printed}");
    for part in [String::from(client.secrets[0].sha256), String::from(sealed), "argon2id".to_owned()] {
        assert!(!printed.contains(&part), "{printed}");
    }
}

#[test]
fn a_key_is_judged_by_its_state_at_the_time() {
    let change = |state, at| KeyChange { state, at: UnixMs::new(at) };
    let key = KeyPair {
        kid: KeyId::parse(&crate::token::sha256_base64url(b"key")).unwrap(),
        alg: IssueAlg::Es256,
        public: json!({}),
        private: PrivateHalf::Destroyed,
        history: vec![
            change(KeyState::Prepared, 10),
            change(KeyState::Active, 20),
            change(KeyState::Retained, 30),
        ],
    };
    for (at, state) in [
        (9, None),
        (10, Some(KeyState::Prepared)),
        (29, Some(KeyState::Active)),
        (99, Some(KeyState::Retained)),
    ] {
        assert_eq!(key.state_at(UnixMs::new(at)), state, "{at}");
    }
    let epoch = Epoch { not_before: UnixMs::new(5_500) };
    assert!(epoch.kills(4) && epoch.kills(5) && !epoch.kills(6));
}
