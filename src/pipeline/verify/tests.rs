//! The verdict table, record signatures, and what is refused of a configuration.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use expect_test::{Expect, expect};
use uuid::Uuid;

use super::*;
use crate::config::{Gateway, Issuer, JwksSource, Secret, SigningKey, SigningMaterial, Tenant};
use crate::keys::Seals;
use crate::log::{Batch, NewRecord};
use crate::model::{ClaimedToken, Flags, Kind, Offset, PartitionId, Source, TenantId, Zone};
use crate::pipeline::decode::{Bounds, decode, forward};

/// The time of every event, in seconds since the epoch.
const NOW_S: i64 = 1_795_428_000;

/// `k1` is good; `es` takes P-256 alone; the others are out of their time at [`NOW_S`].
const JWKS: &str = r#"{"keys": [
    {"kid": "k1", "kty": "RSA", "use": "sig", "n": "sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXboIRROSBigeC5yjU1hGzHHyXss8UDprecbAYxknTcQkhslANGRUZmdTOQ5qTRsLAt6BTYuyvVRdhS8exSZEy_c4gs_7svlJJQ4H9_NxsiIoLwAEk7-Q3UXERGYw_75IDrGA84-lA_-Ct4eTlXHBIY2EaV7t7LjJaynVJCpkv4LKjTTAumiGUIuQhrNhZLuF_RJLqHpM2kgWFLU7-VTdL1VbC2tejvcI2BlMkEpk1BzBZI0KQB0GaDWFLN-aEAw3vRw", "e": "AQAB"},
    {"kid": "es", "kty": "EC", "crv": "P-256", "alg": "ES256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kid": "prepared", "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "nbf": 1795428001},
    {"kid": "expired", "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "exp": 1795428000},
    {"kid": "revoked", "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "exp": 1795000000, "revoked": {"revoked_at": 1795000000, "reason": "compromised"}},
    {"kid": "enc", "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"},
    {"kid": "new", "kty": "AKP", "alg": "ML-DSA-65", "pub": "AQAB"}
]}"#;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn secret_of(gateway: &str) -> String {
    format!("{gateway}: a secret of thirty-two bytes or more")
}

fn ed25519_of(gateway: &str) -> Ed25519KeyPair {
    let seed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, gateway.as_bytes());
    Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).unwrap()
}

fn ed25519_header(signature: &[u8]) -> String {
    format!("ed;ed25519;{}", URL_SAFE_NO_PAD.encode(signature))
}

fn gateway(name: &str, tenants: &[&str]) -> Gateway {
    Gateway {
        name: name.to_owned(),
        zone: Zone::Edge,
        tenants: tenants.iter().map(|name| tenant(name)).collect(),
        key_sha256: None,
        signing: vec![
            SigningKey {
                id: "key-1".to_owned(),
                material: SigningMaterial::Hs256(Secret::new(secret_of(name))),
            },
            SigningKey {
                id: "ed".to_owned(),
                material: SigningMaterial::Ed25519(
                    ed25519_of(name).public_key().as_ref().try_into().unwrap(),
                ),
            },
        ],
    }
}

fn issuer(iss: &str, owner: &str, jwks: Option<&std::path::Path>) -> Issuer {
    Issuer {
        iss: iss.to_owned(),
        tenant: tenant(owner),
        jwks: jwks.map(|path| JwksSource::File(path.to_owned())),
        subject_space: None,
        preset: None,
        clients_match: None,
        max_lifetime: Some(Duration::from_secs(3600)),
    }
}

fn ingest_key() -> Secret {
    Secret::new("the ingest key".to_owned())
}

/// `acme` has an issuer with keys and one without; `globex` an issuer of its own; `strict` requires signatures, `blind`
/// looks at none; nobody declared any other tenant.
fn trust() -> Trust {
    trust_with(vec![gateway("edge-1", &["acme", "strict", "blind"]), gateway("edge-2", &["acme", "strict"])])
}

fn trust_with(gateways: Vec<Gateway>) -> Trust {
    let jwks = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(jwks.path(), JWKS).unwrap();
    let tenants = [("strict", Signatures::Require), ("blind", Signatures::Off)]
        .map(|(name, signatures)| (tenant(name), Tenant { signatures, ..Tenant::default() }))
        .into();
    let issuers = [
        issuer("https://id.example/acme", "acme", Some(jwks.path())),
        issuer("https://keyless.example", "acme", None),
        issuer("https://id.example/globex", "globex", None),
    ];
    Trust::build(&issuers, &tenants, &gateways, crate::keys::door(&ingest_key())).unwrap()
}

/// Verifies one event, written as `member=value …`: times in seconds from the event's; `sign=WHO` signs the record
/// (`door`, a gateway, `ed:` and a gateway, `tampered`, or a whole header). Answers `verdict proof`.
fn verdict_of(trust: &Trust, event: &str) -> String {
    verdict_under(trust, event, None)
}

/// As [`verdict_of`], the record with this header.
fn verdict_signed(trust: &Trust, event: &str, header: &str) -> String {
    verdict_under(trust, event, Some(header.to_owned()))
}

fn verdict_under(trust: &Trust, event: &str, mut header: Option<String>) -> String {
    let mut token = ClaimedToken::default();
    let (mut tenant, mut gateway, mut zone) = ("acme", "edge-1", Zone::Edge);
    let mut said = Some(GatewayVerdict::Valid);
    let value = event.as_bytes();
    let gateway_key = |name: &str| hmac(&secret_of(name));
    for (member, text) in event.split_whitespace().map(|pair| pair.split_once('=').unwrap()) {
        let seconds = || Some(NOW_S + text.parse::<i64>().unwrap());
        match member {
            "tenant" => tenant = text,
            "gateway" => gateway = text,
            "zone" => zone = Zone::parse(text).unwrap(),
            "said" => said = GatewayVerdict::parse(text),
            "iss" => token.iss = Some(text.into()),
            "tenant_id" => token.tenant_id = Some(text.into()),
            "alg" => token.alg = Some(text.into()),
            "kid" => token.kid = Some(text.into()),
            "nbf" => token.nbf = seconds(),
            "iat" => token.iat = seconds(),
            "exp" => token.exp = seconds(),
            "sign" => {
                header = Some(match text {
                    "door" => sign_record(DOOR_KEY_ID, &crate::keys::door(&ingest_key()), value),
                    "tampered" => {
                        sign_record(DOOR_KEY_ID, &crate::keys::door(&ingest_key()), b"another value")
                    }
                    name if name.contains(';') => name.to_owned(),
                    name if name.starts_with("ed:") => {
                        ed25519_header(ed25519_of(&name[3..]).sign(value).as_ref())
                    }
                    name => sign_record("key-1", &gateway_key(name), value),
                });
            }
            other => panic!("no member {other}"),
        }
    }
    let event = Event {
        version: 1,
        id: Uuid::nil(),
        kind: Kind::Accepted,
        time: UnixMs::new(NOW_S * 1000),
        claimed_time: None,
        tenant: tenant.into(),
        source: Source { gateway: gateway.into(), zone, region: None, epoch: None, seq: None },
        token: Some(token),
        request: None,
        gateway_verdict: said,
        grant: None,
        login: None,
        retry: false,
        heartbeat: None,
        ledger_mark: None,
        extra: None,
    };
    let decoded = Decoded { event, flags: Flags::default(), leaks: Vec::new(), origin: None, retried: None };
    let mut batch = Batch::default();
    batch.clear(PartitionId(0));
    let headers = header.as_deref().map(|header| (SIGNATURE_HEADER, header.as_bytes()));
    batch.push(Offset::ZERO, UnixMs::new(0), None, value, headers);
    let record = batch.iter().next().unwrap();
    let checked = verify(decoded, &record, trust);
    format!("{} {}", checked.verdict.as_str(), checked.proof)
}

fn hmac(secret: &str) -> aws_lc_rs::hmac::Key {
    aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes())
}

/// Each line of `events` is one event; the answers stand line by line.
fn check(events: &str, answers: Expect) {
    let trust = trust();
    let answers_now: Vec<String> = events.lines().map(|event| verdict_of(&trust, event.trim())).collect();
    answers.assert_eq(&answers_now.join("\n"));
}

#[test]
fn the_gateways_word_stands_where_nothing_speaks_against_it() {
    check(
        "iss=https://id.example/acme kid=k1 alg=RS256 iat=-60 nbf=-60 exp=60
         iss=https://id.example/acme kid=es alg=ES256 said=revoked
         iss=https://id.example/acme kid=new alg=ML-DSA-65
         iss=https://id.example/acme
         iss=https://keyless.example kid=whatever alg=HS256
         tenant=nobody iss=https://anywhere.example kid=k9 alg=HS256 said=opaque
         said=nothing",
        expect![[r#"
            valid none
            revoked none
            valid none
            valid none
            valid none
            opaque none
            unspecified none"#]],
    );
}

#[test]
fn an_issuer_is_one_exact_string_of_one_tenant() {
    check(
        "iss=https://id.example/acme/
         iss=https://ID.example/acme
         iss=https://id.example/globex
         tenant=globex iss=https://id.example/acme kid=k1
         tenant=nobody iss=https://id.example/acme
         iss=https://id.example/acme tenant_id=acme
         iss=https://id.example/acme tenant_id=globex
         iss=https://id.example/acme tenant_id=5f1c0a-the-providers-own
         tenant=nobody tenant_id=globex",
        expect![[r#"
            unknown_issuer none
            unknown_issuer none
            issuer_tenant_mismatch none
            issuer_tenant_mismatch none
            valid none
            valid none
            issuer_tenant_mismatch none
            valid none
            issuer_tenant_mismatch none"#]],
    );
}

#[test]
fn a_key_is_looked_up_by_issuer_and_kid_and_judged_at_the_events_time() {
    check(
        "iss=https://id.example/acme kid=k2
         tenant=globex iss=https://id.example/globex kid=k1
         kid=k2
         iss=https://id.example/acme kid=enc
         iss=https://id.example/acme kid=prepared alg=EdDSA
         iss=https://id.example/acme kid=expired alg=Ed25519
         iss=https://id.example/acme kid=revoked alg=EdDSA",
        expect![[r#"
            unknown_key none
            valid none
            valid none
            unknown_key none
            key_retired none
            key_retired none
            key_revoked none"#]],
    );
}

#[test]
fn an_algorithm_must_be_one_that_the_key_can_have() {
    check(
        "iss=https://id.example/acme kid=k1 alg=PS512
         iss=https://id.example/acme kid=k1 alg=ES256
         iss=https://id.example/acme kid=k1 alg=HS256
         iss=https://id.example/acme kid=unheard alg=HS256
         iss=https://id.example/acme kid=unheard alg=RS256
         tenant=nobody alg=nOnE",
        expect![[r#"
            valid none
            alg_not_allowed none
            alg_not_allowed none
            alg_not_allowed none
            unknown_key none
            alg_not_allowed none"#]],
    );
}

#[test]
fn times_are_judged_at_the_events_time() {
    check(
        "nbf=30
         nbf=31
         iat=30
         iat=31
         exp=1
         exp=0
         iss=https://id.example/acme iat=-10 exp=3590
         iss=https://id.example/acme iat=-10 exp=3591
         iat=-10 exp=99999
         iss=https://id.example/acme iat=-99999 exp=-1",
        expect![[r#"
            valid none
            not_yet_valid none
            valid none
            not_yet_valid none
            valid none
            expired none
            valid none
            lifetime_too_long none
            valid none
            expired none"#]],
    );
}

#[test]
fn claims_at_the_ends_of_their_range_have_a_verdict() {
    let trust = trust();
    for claim in [i64::MIN + NOW_S, i64::MAX - NOW_S - 1] {
        let claim = claim - NOW_S;
        assert!(!verdict_of(&trust, &format!("iat={claim} nbf={claim} exp={claim}")).is_empty());
    }
}

#[test]
fn the_first_of_the_list_is_the_verdict() {
    check(
        "tenant=strict tenant_id=acme alg=none exp=-1
         tenant=strict sign=door tenant_id=acme alg=none exp=-1
         iss=https://elsewhere.example alg=none exp=-1
         iss=https://id.example/acme alg=none kid=unheard exp=-1
         iss=https://id.example/acme kid=unheard exp=-1
         iss=https://id.example/acme kid=revoked nbf=99 exp=-1
         iss=https://id.example/acme kid=k1 nbf=99 exp=-1
         iss=https://id.example/acme kid=k1 iat=-7200 exp=-1 said=wrong_audience",
        expect![[r#"
            unattested none
            issuer_tenant_mismatch gateway_attested
            unknown_issuer none
            alg_not_allowed none
            unknown_key none
            key_revoked none
            not_yet_valid none
            expired none"#]],
    );
}

#[test]
fn a_signature_counts_from_the_door_and_from_the_events_own_gateway() {
    check(
        "sign=door
         sign=edge-1
         gateway=edge-9 sign=door
         sign=edge-2
         sign=tampered
         sign=door;hs256;AAAA
         sign=door;none;
         sign=key-2;hs256;AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
         sign=;;
         zone=internal sign=edge-1
         tenant=globex sign=edge-1
         tenant=_platform sign=edge-1",
        expect![[r#"
            valid gateway_attested
            valid gateway_attested
            valid gateway_attested
            valid none
            valid none
            valid none
            valid none
            valid none
            valid none
            valid none
            valid none
            valid gateway_attested"#]],
    );
}

#[test]
fn a_public_key_checks_what_its_private_half_signed() {
    check(
        "sign=ed:edge-1
         tenant=strict sign=ed:edge-1
         sign=ed:edge-2
         zone=internal sign=ed:edge-1
         sign=ed;ed25519;
         sign=ed;hs256;AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
         sign=ed;Ed25519;AAAA",
        expect![[r#"
            valid gateway_attested
            valid gateway_attested
            valid none
            valid none
            valid none
            valid none
            valid none"#]],
    );
}

/// One signature has one form: what verifies for a lax verifier only is no signature (RFC 8032, section 5.1.7).
#[test]
fn an_ed25519_signature_is_checked_strictly() {
    let (trust, value) = (trust(), "tenant=acme");
    let holds = |header: &str| verdict_signed(&trust, value, header) == "valid gateway_attested";
    let pair = ed25519_of("edge-1");
    let signature: [u8; 64] = pair.sign(value.as_bytes()).as_ref().try_into().unwrap();
    let header = ed25519_header(&signature);
    assert!(holds(&header));

    // S + L verifies with the same equation.
    let mut malleable = signature;
    let mut carry = 0;
    for (byte, order) in malleable[32..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    assert!(!holds(&ed25519_header(&malleable)), "S is not below the group's order");

    // A public key is no secret: an HMAC with it under the same id attests nothing.
    let confused = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, pair.public_key().as_ref());
    assert!(!holds(&sign_record("ed", &confused, value.as_bytes())));

    for bit in 0..512 {
        let mut flipped = signature;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!holds(&ed25519_header(&flipped)), "bit {bit}");
    }
    for header in [
        header.replace("ed;", "ed2;"),
        header.replace("ed25519", "ED25519"),
        format!("{header}=="),
        format!("{header} "),
        format!("{header};"),
        format!("ed;ed25519;{}", BASE64_STANDARD.encode(signature)),
        ed25519_header(&signature[..63]),
        ed25519_header(&[signature.as_slice(), &[0]].concat()),
        // The same bytes with another bit behind the last one.
        format!("{}{}", &header[..header.len() - 1], char::from(header.as_bytes()[header.len() - 1] + 1)),
    ] {
        assert!(!holds(&header), "{header}");
    }
}

/// L = 2^252 + 27742317777372353535851937790883648493, little-endian.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn a_tenant_can_require_signatures_or_leave_them_unread() {
    check(
        "tenant=strict
         tenant=strict sign=tampered
         tenant=strict sign=edge-2
         tenant=strict sign=edge-1
         tenant=strict sign=door
         tenant=blind sign=door",
        expect![[r#"
            unattested none
            unattested none
            unattested none
            valid gateway_attested
            valid gateway_attested
            valid none"#]],
    );
}

/// A token stands in a record that its gateway signed and that lies away from home: the copy is written anew, without
/// the token and so without a signature that holds, and is worth no less for it.
#[test]
fn a_signature_outlives_the_masking_of_a_forwarded_record() {
    let trust = trust();
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";
    let value = format!(
        r#"{{"version":1,"id":"019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42","kind":"accepted","tenant":"strict",
        "time":"2026-11-23T10:00:00Z","source":{{"gateway":"edge-1","zone":"edge"}},"gateway_verdict":"valid",
        "token":{{"ref":"hXRBD-Nn5X-eJxvdPiVIgD3BO2zeDFieuabZ9gBx9Kc","iss":"https://id.example/","sub":"alice"}},
        "request":{{"ip":"203.0.113.7","user_agent":"a {token}"}}}}"#
    );
    let signed = |secret: &str| NewRecord {
        headers: vec![(
            SIGNATURE_HEADER.into(),
            sign_record("key-1", &hmac(secret), value.as_bytes()).into(),
        )],
        value: value.clone().into(),
        ..NewRecord::default()
    };
    let walk = |record: &NewRecord, trust: &Trust, here: u32, seal: &str| {
        let mut batch = Batch::default();
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        batch.push(Offset::ZERO, UnixMs::new(NOW_S * 1000), None, &record.value, headers);
        let record = batch.iter().next().unwrap();
        let bounds = Bounds {
            max_event_age: Duration::from_secs(24 * 3600),
            partitions: 4,
            seals: std::sync::Arc::new(Seals::new(&Secret::new(seal.to_owned()))),
            ledger_key: None,
            forwarded_through: None,
            log: "0".repeat(32).try_into().unwrap(),
        };
        let mut checked = verify(decode(&record, &bounds).unwrap(), &record, trust);
        let attested_by = checked.attested_by.as_deref();
        let copy = forward(&mut checked.decoded, attested_by, &record, &bounds, PartitionId(here));
        (format!("{} {}", checked.verdict.as_str(), checked.proof), copy)
    };
    let from_elsewhere = |record: &NewRecord| {
        let (verdict, copy) =
            (0..4).map(|here| walk(record, &trust, here, "seal")).find(|(_, copy)| copy.is_some()).unwrap();
        let copy = copy.unwrap();
        assert!(!String::from_utf8_lossy(&copy.value).contains("c2lnbmF0dXJl"));
        (verdict, copy)
    };
    let (verdict, copy) = from_elsewhere(&signed(&secret_of("edge-1")));
    assert_eq!(verdict, "valid gateway_attested");
    assert_eq!(walk(&copy, &trust, 0, "seal").0, "valid gateway_attested");
    assert_eq!(walk(&copy, &trust, 0, "another seal").0, "unattested none");
    let withdrawn = trust_with(vec![]);
    assert_eq!(walk(&copy, &withdrawn, 0, "seal").0, "unattested none", "its key is known no more");

    let (verdict, copy) = from_elsewhere(&signed("not the secret of edge-1, though as long"));
    assert_eq!(verdict, "unattested none");
    assert_eq!(walk(&copy, &trust, 0, "seal").0, "unattested none");
}

#[test]
fn the_door_key_is_hkdf_of_the_ingest_key() {
    // HKDF-SHA256 with an empty salt (RFC 5869, section 2.2), computed with another implementation.
    let header = sign_record(DOOR_KEY_ID, &crate::keys::door(&ingest_key()), b"value");
    expect!["door;hs256;DcjISESnhun68uy9u0dxuDExZclbH5rKmU0JsCPz6kg"].assert_eq(&header);
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let bad = file(
        "bad.json",
        r#"{"keys": [
            {"kid": "cut", "kty": "EC", "crv": "P-256", "x": "f83O"},
            {"kid": "garbled", "kty": "RSA", "n": "not base64!", "e": "AQAB"},
            {"kid": "private", "kty": "OKP", "crv": "Ed25519", "x": "AQAB", "d": "AQAB"},
            {"kid": "shared", "kty": "oct", "k": "AQAB"},
            {"kid": "odd", "kty": "RSA", "alg": "ES256", "n": "AQAB", "e": "AQAB"},
            {"kid": "twice", "kty": "RSA", "n": "AQAB", "e": "AQAB"},
            {"kid": "twice", "kty": "RSA", "n": "AQAB", "e": "AQAB"},
            {"kid": "when", "kty": "RSA", "n": "AQAB", "e": "AQAB", "exp": "soon"},
            {"kid": "what", "kty": "XYZ"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB"}
        ]}"#,
    );
    let no_set = file("no_set.json", r#"{"key": []}"#);
    let issuers = [
        issuer("https://a.example", "acme", Some(&bad)),
        issuer("https://b.example", "acme", Some(&no_set)),
        issuer("https://c.example", "acme", Some(&directory.path().join("gone.json"))),
        issuer("https://c.example", "acme", None),
    ];
    let mut door_thief = gateway("edge-1", &["acme"]);
    door_thief.signing = ["door", "a;b", "twice", "twice"]
        .map(|id| SigningKey { id: id.to_owned(), material: SigningMaterial::Ed25519([7; 32]) })
        .into();
    let Err(errors) =
        Trust::build(&issuers, &HashMap::new(), &[door_thief], crate::keys::door(&ingest_key()))
    else {
        panic!("nothing was found wrong");
    };
    let report = errors.to_string().replace(&directory.path().display().to_string(), "DIR");
    expect![[r#"
        signing_key_bad: gateway edge-1, signing key door: the id `door` is the door's own: choose another
        signing_key_bad: gateway edge-1, signing key a;b: an id is printable ASCII without spaces and without `;`
        signing_key_bad: gateway edge-1, signing key twice: the id is used twice
        jwk_bad: issuer https://a.example: DIR/bad.json, key cut: its `x` cannot be read
        jwk_bad: issuer https://a.example: DIR/bad.json, key garbled: its `n` cannot be read
        jwk_bad: issuer https://a.example: DIR/bad.json, key private: it holds a private or shared key: a key set is for public keys alone
        jwk_bad: issuer https://a.example: DIR/bad.json, key shared: it holds a private or shared key: a key set is for public keys alone
        jwk_bad: issuer https://a.example: DIR/bad.json, key odd: a key of its type and curve cannot sign with "ES256"
        jwk_bad: issuer https://a.example: DIR/bad.json, key twice: two keys have this kid: which is meant cannot be told
        jwk_bad: issuer https://a.example: DIR/bad.json, key when: its `nbf`, `exp` or `revoked` cannot be read: invalid type: string "soon", expected i64
        jwk_bad: issuer https://a.example: DIR/bad.json, key what: its type has no default algorithm: give it an `alg`
        jwk_bad: issuer https://a.example: DIR/bad.json, key #9: it has no `kid`, so no token can name it: give it one, or leave it out
        jwks_malformed: issuer https://b.example: DIR/no_set.json is not a JWK set (a JSON object with an array `keys`, RFC 7517 section 5): missing field `keys` at line 1 column 11
        jwks_unreadable: issuer https://c.example: DIR/gone.json cannot be read: No such file or directory (os error 2)
        issuer_twice: issuer https://c.example is configured twice for tenant acme: keep one"#]].assert_eq(&report);
}

#[test]
fn a_snapshots_name_is_a_function_of_what_it_judges_by() {
    let (one, same) = (trust(), trust());
    assert_eq!(one.name(), same.name());
    let fewer = Trust::build(&[], &HashMap::new(), &[], crate::keys::door(&ingest_key())).unwrap();
    assert_ne!(one.name(), fewer.name());
    assert_eq!(one.name().len(), 12);
}
