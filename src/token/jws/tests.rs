//! Compact JWS against the RFCs' examples, and what must not pass for one.

use super::*;
use crate::token::{KeyKind, Pkcs8, PublicJwk, SigningKey};

fn key(jwk: &str) -> VerifyingKey {
    VerifyingKey::new(&PublicJwk::parse(jwk.as_bytes()).unwrap()).unwrap()
}

/// An example of an RFC: `header.payload.signature`, its key without private members. None of them has a `typ`.
fn holds(jwk: &str, token: &str, payload: &str) {
    let jws = ClaimedJws::read(token, Typ::AbsentOr(&["JWT"])).unwrap();
    assert_eq!(std::str::from_utf8(jws.verify(&key(jwk)).unwrap()).unwrap(), payload);
    let other = SigningKey::new(SigningAlg::Es256, &Pkcs8::generate(KeyKind::P256).unwrap()).unwrap();
    let other = VerifyingKey::new(other.public_jwk()).unwrap();
    assert!(matches!(jws.verify(&other), Err(Fault::Signature | Fault::AlgNotOfKey)));
}

const PAYLOAD_OF_7515: &str =
    "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

#[test]
fn rfc_7515_a_2_rs256() {
    holds(
        r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        PAYLOAD_OF_7515,
    );
}

#[test]
fn rfc_7515_a_3_es256() {
    holds(
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        PAYLOAD_OF_7515,
    );
}

#[test]
fn rfc_8037_a_4_eddsa() {
    holds(
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        "Example of Ed25519 signing",
    );
}

/// RS256 and PS384 over one text with one key.
#[test]
fn rfc_7520_4_1_and_4_2() {
    let key = r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw","e":"AQAB"}"#;
    let payload = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";
    let text = String::from_utf8(strict::decode(payload).unwrap()).unwrap();
    for (header, signature) in [
        (
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
        ),
        (
            "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
        ),
    ] {
        holds(key, &format!("{header}.{payload}.{signature}"), &text);
    }
}

/// Examples whose algorithms are none of ours: HMAC and unsecured JWTs, ES512.
#[test]
fn what_the_rfcs_show_and_we_refuse() {
    let refused = |header: &str| {
        let token = format!("{}.e30.AAAA", strict::encode(header.as_bytes()));
        ClaimedJws::read(&token, Typ::AbsentOr(&["JWT"])).map(|jws| jws.alg)
    };
    // RFC 7515 A.1 and A.4; RFC 7519 3.1 and 6.1; RFC 7520 4.3 and 4.4.
    for header in [
        "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}",
        r#"{"alg":"ES512"}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"ES512","kid":"bilbo.baggins@hobbiton.example"}"#,
        r#"{"alg":"HS256","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037"}"#,
    ] {
        assert_eq!(refused(header), Err(Fault::Alg), "{header}");
    }
    // RFC 7515 E: an extension that must be understood. RFC 7797 4: an unencoded payload.
    assert_eq!(
        refused(r#"{"alg":"none","crit":["http://example.invalid/UNDEFINED"]}"#),
        Err(Fault::Critical)
    );
    assert_eq!(refused(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#), Err(Fault::Critical));
}

/// Composed, signed elsewhere, appended; and what a signer must not get through.
#[test]
fn every_algorithm_that_we_issue_with_is_one_that_we_verify() {
    for (kind, alg) in [
        (KeyKind::P256, SigningAlg::Es256),
        (KeyKind::P384, SigningAlg::Es384),
        (KeyKind::Rsa2048, SigningAlg::Rs256),
        (KeyKind::Rsa3072, SigningAlg::Ps256),
        (KeyKind::Ed25519, SigningAlg::EdDsa),
    ] {
        let signer = SigningKey::new(alg, &Pkcs8::generate(kind).unwrap()).unwrap();
        let verifier = VerifyingKey::new(signer.public_jwk()).unwrap();
        let header = JwsHeader::new(alg, signer.kid(), "at+jwt");
        let input = SigningInput::new(&header, b"{}");
        let signature = signer.sign(input.as_bytes()).unwrap();
        let token_ref = input.token_ref();
        let token = input.append_checked(&signature, alg, &verifier).unwrap();
        let jws = ClaimedJws::read(&token, Typ::Is("at+jwt")).unwrap();
        assert_eq!(
            (jws.alg, jws.kid.as_deref(), jws.typ.as_deref()),
            (alg, Some(signer.kid()), Some("at+jwt"))
        );
        assert_eq!(jws.verify(&verifier), Ok(b"{}".as_slice()), "{alg}");
        assert_eq!(crate::token::token_ref(&token), Ok(token_ref.clone()));
        assert_eq!(jws.token_ref(), token_ref);

        let stranger = SigningKey::new(alg, &Pkcs8::generate(kind).unwrap()).unwrap();
        let input = SigningInput::new(&header, b"{}");
        let signature = stranger.sign(input.as_bytes()).unwrap();
        assert_eq!(input.append_checked(&signature, alg, &verifier), Err(IssueError::WrongSignature));
    }
}

#[test]
fn a_token_that_would_be_too_long_is_not_issued() {
    let header = JwsHeader::new(SigningAlg::Es256, "kid", "at+jwt");
    let longest = (MAX_ISSUED_JWS_BYTES - 2 - header.0.len() - 86) / 4 * 3;
    let append = |bytes| SigningInput::new(&header, &vec![b' '; bytes]).append(&[0; 64]);
    assert!(append(longest).unwrap().len() <= MAX_ISSUED_JWS_BYTES);
    let error = append(longest + 3).unwrap_err();
    assert!(matches!(error, IssueError::TooLarge { bytes, cap: 4096 } if bytes > 4096), "{error}");
    assert_eq!(error.code(), "token_too_large");
}
