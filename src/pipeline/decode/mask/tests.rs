//! Every way we could think of to hide a token, times every place to hide it in.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

pub(in super::super) const SIGNATURE: &str = "c2lnbmF0dXJlIHRoYXQgbXVzdCBub3QgYmUgc2Vlbg";

/// Headers that some parser takes for a JOSE header: spaces and line breaks anywhere, members in any order.
const JWS_HEADERS: &[&str] = &[
    r#"{"alg":0}"#,
    r#"{"alg":"ES256","typ":"at+jwt"}"#,
    r#"{"typ":"JWT","kid":"1","alg":"RS256"}"#,
    r#"{ "alg":"ES256"}"#,
    "{\n\"alg\":\"ES256\"}",
    "{\r\n  \"typ\" : \"JWT\",\r\n  \"alg\" : \"ES256\"\r\n}\r\n",
    "{\t\"alg\":\"ES256\"}",
    " {\"alg\":\"ES256\"}",
    "  {\"alg\":\"ES256\"}",
    "   {\"alg\":\"ES256\"}",
    "\n{\"alg\":\"ES256\"}",
    "\n\n{\n\"alg\":\"ES256\"}",
    "\r\n{\"alg\":\"ES256\"}",
    "\t{ \"alg\":\"ES256\"}",
    " \t\n\r {\"alg\":\"ES256\"}",
    r#"{"\u0061\u006c\u0067":"ES256"}"#,
    r#"{"kid":"{\"alg\"}","alg":null}"#,
    r#"{"jwk":{"kty":"EC","crv":"P-256","x":"","y":""},"alg":"ES256"}"#,
    r#"{"alg":"ES256","crit":["b64"],"b64":false}"#,
    r#"{"alg":"ES256","kid":"ключ-鍵"}"#,
    // What strict parsers refuse and some other takes.
    "\u{feff}{\"alg\":\"ES256\"}",
    "\u{feff} \n{\"alg\":\"ES256\"}",
    r#"{"alg":"ES256","exp":1e999}"#,
    r#"{"x":-1e-999999,"y":[01,.5,+1,0x1F,NaN,-Infinity],"alg":"ES256"}"#,
    r#"{"kid":"\ud800","alg":"ES256"}"#,
    r#"{"kid":"\udc00\ud800\u","alg":"ES256"}"#,
    r#"{"kid":"\u12\"","alg":"ES256"}"#,
    r#"{"kid":"\x41\'\q","alg":"ES256"}"#,
    r#"{"alg":"ES256",}"#,
    r#"{,"alg":"ES256","crit":[,]}"#,
    r#"{"alg":"ES256";"typ"="JWT"}"#,
    r#"{'alg':'ES256','kid':'"'}"#,
    "{\"kid\":\"\u{0}\n\t\",\"alg\":\"ES256\"}",
    "{\"alg\":\"ES256\"}\0\0",
    r#"{"\u0061\u006C\u0067":"ES256","alg":"none"}"#,
];

/// A header that is no text: bytes that are no UTF-8 within a string.
const NOT_UTF8: &[u8] = b"{\"kid\":\"\xff\xed\xa0\x80\",\"alg\":\"ES256\"}";

const JWE_HEADERS: &[&str] = &[
    r#"{"alg":"dir","enc":"A256GCM"}"#,
    r#"{"enc":"A256GCM"}"#,
    "{ \"enc\" : \"A256GCM\" }",
    r#"{"alg":"ECDH-ES","epk":{"kty":"EC","x":"1"},"enc":"A256GCM","cty":"JWT"}"#,
];

fn base64url(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Each token with its ref.
pub(in super::super) fn tokens() -> Vec<(String, String)> {
    let payload = base64url(r#"{"iss":"https://id.example","sub":"mallory"}"#);
    let of = |signed: String, last: &str| {
        let token_ref = crate::token::sha256_base64url(signed.as_bytes());
        (format!("{signed}.{last}"), token_ref)
    };
    let mut tokens = Vec::new();
    for header in JWS_HEADERS {
        tokens.push(of(format!("{}.{payload}", base64url(header)), SIGNATURE));
    }
    tokens.push(of(format!("{}.{payload}", URL_SAFE_NO_PAD.encode(NOT_UTF8)), SIGNATURE));
    let header = base64url(JWS_HEADERS[1]);
    tokens.push(of(format!("{header}."), SIGNATURE));
    tokens.push(of(format!("{header}.{payload}"), ""));
    tokens.push(of(format!("{header}=.{payload}=="), SIGNATURE));
    for header in JWE_HEADERS {
        let header = base64url(header);
        tokens.push(of(format!("{header}.a2V5.bm9uY2U.Y2lwaGVydGV4dA"), SIGNATURE));
        tokens.push(of(format!("{header}..bm9uY2U.Y2lwaGVydGV4dA"), SIGNATURE));
        tokens.push(of(format!("{header}.{payload}"), SIGNATURE));
    }
    tokens
}

fn percent(text: &str, which: impl Fn(usize, char) -> bool) -> String {
    let encode = |(at, character): (usize, char)| match which(at, character) {
        true => format!("%{:02x}", u32::from(character)),
        false => character.to_string(),
    };
    text.chars().enumerate().map(encode).collect()
}

fn unicode(text: &str) -> String {
    text.chars().map(|character| format!("\\u{:04X}", u32::from(character))).collect()
}

pub(in super::super) type Encoding = (&'static str, fn(&str) -> String);

pub(in super::super) const ENCODINGS: &[Encoding] = &[
    ("plain", |text| text.to_owned()),
    ("percent", |text| percent(text, |_, _| true)),
    ("upper case", |text| percent(text, |_, _| true).to_uppercase()),
    ("dots", |text| percent(text, |_, character| character == '.')),
    ("first", |text| percent(text, |at, _| at == 0)),
    ("every other", |text| percent(text, |at, _| at % 2 == 1)),
    ("twice", |text| percent(text, |_, _| true).replace('%', "%25")),
    ("five times", |text| percent(text, |_, _| true).replace('%', "%25252525")),
    ("wholly twice", |text| percent(&percent(text, |_, _| true), |_, _| true)),
    ("wholly thrice", |text| percent(&percent(&percent(text, |_, _| true), |_, _| true), |_, _| true)),
    ("digits twice", |text| percent(&percent(text, |_, _| true), |_, character| character != '%')),
    ("json", unicode),
    ("json in json", |text| unicode(text).replace('\\', "\\\\")),
    ("json in json in json", |text| unicode(text).replace('\\', "\\\\\\\\")),
    ("json in a url", |text| unicode(text).replace('\\', "%5C")),
    ("url in json", |text| percent(text, |_, _| true).replace('%', "\\u0025")),
];

/// What stands before and after. No character of these is one that a token could have taken for its own, except where
/// the second says so.
pub(in super::super) const PLACES: &[(&str, &str)] = &[
    ("", ""),
    ("Bearer ", " and more"),
    ("token=", "&next=1"),
    ("\"", "\""),
    ("(", ")"),
    ("/callback/", "/end"),
    ("sentence ends with ", "!"),
    ("session_", ""),
    ("a", ""),
    ("ab", ""),
    ("abc", ""),
    ("abcd", ""),
    ("AAAAAAAAAAAAAAAAAAAAAAAA", ""),
    ("e", ""),
    ("ey", ""),
    ("eyJ", ""),
    ("IA", ""),
    ("eyJhbGciOiJFUzI1NiJ9", ""),
    ("eyJhbGciOiJFUzI1NiJ9.", ""),
    ("www.", ""),
    ("x.y.", ""),
    ("..", ""),
    ("%", ""),
    ("%2", ""),
    ("%25", ""),
    ("\\", ""),
    ("\\u00", ""),
    ("[masked:", "]"),
    ("日本 ", " 語"),
];

/// Whether a part of the token stands in `text`, plain or after taking escapes away.
pub(in super::super) fn shows(text: &str, token: &str) -> bool {
    let mut plain = String::new();
    let mut at = 0;
    while let Some((byte, next)) = encoded::read(text.as_bytes(), at) {
        plain.push(char::from(byte));
        at = next;
    }
    let parts = (0..token.len().saturating_sub(12)).step_by(6).map(|at| &token[at..at + 12]);
    parts.into_iter().any(|part| text.contains(part) || plain.contains(part))
}

fn masked(text: &str) -> (String, Vec<String>) {
    let mut refs = Vec::new();
    let masked = mask_text(Cow::Borrowed(text), |token_ref| refs.push(token_ref));
    (masked.into_owned(), refs)
}

#[test]
fn no_token_survives_in_any_form_in_any_place() {
    for (index, (token, token_ref)) in tokens().into_iter().enumerate() {
        // Every form of a header in every encoding; a few of them in every place.
        let places = if index % 12 == 1 { PLACES } else { &PLACES[..2] };
        for (encoding, encode) in ENCODINGS {
            for (before, after) in places {
                let text = format!("{before}{}{after}", encode(&token));
                let (masked, refs) = masked(&text);
                let told = format!("{encoding} {before:?} {after:?}: {text} -> {masked}");
                assert!(refs.contains(&token_ref), "{told}");
                assert!(masked.contains(&format!("[masked:{token_ref}]")), "{told}");
                // Not its header, which one of the places repeats.
                let (_, secret) = token.split_once('.').unwrap();
                assert!(!shows(&masked, SIGNATURE) && !shows(&masked, secret), "{told}");
            }
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_masked_like_text() {
    let (token, token_ref) = tokens().swap_remove(1);
    let bytes = [b"\xff\xfe".as_slice(), token.as_bytes(), b"\xff"].concat();
    let expected = [b"\xff\xfe[masked:".as_slice(), token_ref.as_bytes(), b"]\xff"].concat();
    assert_eq!(mask_bytes(&bytes, 1000), expected);
}

#[test]
fn what_is_cut_is_masked_first() {
    let (token, token_ref) = tokens().swap_remove(1);
    let text = format!("0123456789{token}");
    let expected = format!("0123456789[masked:{token_ref}]");
    assert_eq!(mask_bytes(text.as_bytes(), 11), expected.as_bytes()[..11]);
    assert_eq!(mask_bytes(text.as_bytes(), 10), b"0123456789");
    assert_eq!(mask_bytes(text.as_bytes(), text.len()), expected.as_bytes());
}

#[test]
fn tokens_that_run_into_each_other_are_all_masked() {
    let tokens = tokens();
    let ((one, one_ref), (two, two_ref)) = (&tokens[0], &tokens[1]);
    let (masked_text, refs) = masked(&format!("{one}{two}"));
    assert_eq!(masked_text, format!("[masked:{one_ref}][masked:{two_ref}]"));
    assert_eq!(refs, [one_ref.clone(), two_ref.clone()]);
    let (masked_text, _) = masked(&format!("{one}.{two} {one}"));
    assert_eq!(masked_text, format!("[masked:{one_ref}].[masked:{two_ref}] [masked:{one_ref}]"));
}

#[test]
fn what_only_looks_like_a_token_stays() {
    let payload = base64url(r#"{"sub":"alice"}"#);
    let header = base64url(r#"{"alg":"ES256"}"#);
    for text in [
        "",
        "plain",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
        "some-very-long-host-name.region.cloud.example.com",
        "019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42.019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42.1",
        "100% of %25 %7B%22alg%22 C:\\users\\\\u",
        &header,
        &format!("{header}.{payload}"),
        &format!("{payload}.{payload}.{SIGNATURE}"),
        &format!("{}.{payload}.{SIGNATURE}", base64url(r#"["alg"]"#)),
        &format!("{}.{payload}.{SIGNATURE}", base64url(r#""alg""#)),
        &format!("{}.{payload}.{SIGNATURE}", base64url(r#"{"x":{"alg":1}}"#)),
        &format!("{}.{payload}.{SIGNATURE}", base64url(r#"{"alg":"ES256""#)),
        &format!("{}.{payload}.{SIGNATURE}", base64url(r#"{"ALG":"ES256"}"#)),
        &format!(
            "{}.{payload}.{SIGNATURE}",
            base64url(r#"{"typ":"alg","x":["alg","enc"],"algo":1,"lag":2}"#)
        ),
        &format!("{}.{payload}.{SIGNATURE}", base64url(r#"{"typ":"\"alg\":"}"#)),
        &format!("{}.{payload}.{SIGNATURE}", base64url(r#"{"alg","typ":"JWT"}"#)),
        &format!("{}.{payload}.{SIGNATURE}", base64url("{\u{1}\"alg\":\"ES256\"}")),
        &format!("{}.{payload}.{SIGNATURE}", base64url("{é\"alg\":\"ES256\"}")),
        &format!("{header} .{payload}.{SIGNATURE}"),
        "[masked:short]",
    ] {
        assert_eq!(masked(text), (text.to_owned(), vec![]), "{text}");
    }
}

#[test]
fn a_marker_is_told_again_and_stays_as_it_is() {
    let (token, token_ref) = tokens().swap_remove(1);
    let once = masked(&format!("a {token} b"));
    assert_eq!(masked(&once.0), once);
    assert_eq!(once.1, [token_ref]);
}

/// Text made to be costly: many places that could begin a header, each as long as can be. The work is counted in
/// characters read, so that the bound does not depend on the machine.
#[test]
fn costly_text_costs_no_more_than_a_few_readings() {
    let nested = base64url(&r#"{"a":"#.repeat(6000));
    let starts = "eyJ".repeat(10_000);
    let blanks = base64url(&" ".repeat(24_000));
    let strings = base64url(&r#"{":{":{",":{":"#.repeat(2000));
    let percents = "%".repeat(32_000);
    let escapes = "%25".repeat(10_000);
    let backslashes = "\\".repeat(32_000);
    let markers = "[masked:".repeat(4000);
    let quotes = "\\\\\"".repeat(10_000);
    let members = r#""jti""#.repeat(6000);
    let marks = base64url(&"\u{feff}{".repeat(6000));
    let flat = base64url(&r#"{'":'{"':"{"#.repeat(2000));
    let open = base64url(&r#"{"a\\"#.repeat(5000));
    let headers = base64url(&r#"{"alg":0}x"#.repeat(2400));
    let encoded = [nested, starts, blanks, strings, marks, flat, open, headers];
    for text in encoded.into_iter().chain([percents, escapes, backslashes, markers, quotes, members]) {
        let text = format!("{text}.a.b");
        let before = encoded::characters_read();
        assert_eq!(find(text.as_bytes(), text.len()).len(), 0);
        assert_eq!(jti::mask(text.clone().into_bytes()), text.as_bytes());
        let read = encoded::characters_read() - before;
        assert!(read < 100 * text.len() as u64, "{read} characters read of {}: {}", text.len(), &text[..40]);
    }
}
