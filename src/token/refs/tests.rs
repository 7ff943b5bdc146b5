//! Refs against the published vectors, here and in the languages of `schemas/refs`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

const VECTORS: &str = include_str!("../../../schemas/refs/vectors.json");

#[derive(serde::Deserialize)]
struct Vectors {
    token_ref: Vec<OfToken>,
    outer_ref: Vec<OfToken>,
    jti_ref: Vec<OfJti>,
}

#[derive(serde::Deserialize)]
struct OfToken {
    token: String,
    #[serde(rename = "ref")]
    expected: String,
}

#[derive(serde::Deserialize)]
struct OfJti {
    iss: String,
    jti: String,
    #[serde(rename = "ref")]
    expected: String,
}

/// The vectors that the implementations in other languages are held to, too.
#[test]
fn refs_are_those_of_the_published_vectors() {
    let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
    for OfToken { token, expected } in vectors.token_ref {
        assert_eq!(token_ref(&token), Ok(expected), "{token}");
        assert_eq!(outer_ref(&token), Err(NotCompact::Jwe), "{token}");
    }
    for OfToken { token, expected } in vectors.outer_ref {
        assert_eq!(outer_ref(&token), Ok(expected), "{token}");
        assert_eq!(token_ref(&token), Err(NotCompact::Jws), "{token}");
    }
    for OfJti { iss, jti, expected } in vectors.jti_ref {
        assert_eq!(jti_ref(&iss, &jti), expected, "{iss} {jti}");
    }
}

#[test]
fn what_is_no_compact_token_has_no_ref() {
    for text in ["", ".", "a.b", "a.b.c.d", ".b.c", "a b.c.d", "a.b.c=", "a.b.c\n"] {
        assert_eq!(token_ref(text), Err(NotCompact::Jws), "{text:?}");
    }
}

#[test]
fn another_signature_over_the_same_text_has_the_same_ref() {
    assert_eq!(token_ref("aGVhZA.cGF5.c2ln"), token_ref("aGVhZA.cGF5.b3RoZXI"));
}

/// Each implementation reads a token, or ISS, a tab and JTI, a line, and prints its ref. One whose runtime is not
/// installed is passed over, by name.
#[test]
fn the_implementations_in_other_languages_give_the_same_refs() {
    let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
    let (mut lines, mut expected) = (String::new(), String::new());
    for OfToken { token, expected: token_ref } in vectors.token_ref.into_iter().chain(vectors.outer_ref) {
        lines += &format!("{token}\n");
        expected += &format!("{token_ref}\n");
    }
    for OfJti { iss, jti, expected: jti_ref } in vectors.jti_ref {
        lines += &format!("{iss}\t{jti}\n");
        expected += &format!("{jti_ref}\n");
    }
    let runs: [(&str, &[&str], &str); 5] = [
        ("node", &[], "ref.js"),
        ("python3", &[], "ref.py"),
        ("go", &["run"], "ref.go"),
        ("java", &[], "Ref.java"),
        ("resty", &[], "ref.lua"),
    ];
    for (runtime, arguments, file) in runs {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/refs").join(file);
        let mut command = Command::new(runtime);
        command.args(arguments).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("{runtime} is not installed: its refs are not tried");
                continue;
            }
            Err(error) => panic!("{runtime}: {error}"),
        };
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{runtime}: {}", output.status);
        assert_eq!(String::from_utf8(output.stdout).unwrap().replace('\r', ""), expected, "{runtime}");
    }
}
