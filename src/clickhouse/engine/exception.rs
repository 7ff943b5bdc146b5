//! ClickHouse's exceptions: the text that clients parse, the numeric code, and the HTTP status that goes with it.

use axum::http::StatusCode;

/// Code and name of an exception that this interface raises itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(u16, &'static str);

pub(super) const BAD_ARGUMENTS: Kind = Kind(36, "BAD_ARGUMENTS");
pub(super) const NOT_IMPLEMENTED: Kind = Kind(48, "NOT_IMPLEMENTED");
pub(super) const SYNTAX_ERROR: Kind = Kind(62, "SYNTAX_ERROR");
pub(super) const UNKNOWN_SETTING: Kind = Kind(115, "UNKNOWN_SETTING");
pub(super) const QUERY_IS_TOO_LARGE: Kind = Kind(229, "QUERY_IS_TOO_LARGE");
pub(super) const READONLY: Kind = Kind(164, "READONLY");
pub(super) const REQUIRED_PASSWORD: Kind = Kind(194, "REQUIRED_PASSWORD");
pub(super) const TOO_MANY_SIMULTANEOUS_QUERIES: Kind = Kind(202, "TOO_MANY_SIMULTANEOUS_QUERIES");
pub(super) const NETWORK_ERROR: Kind = Kind(210, "NETWORK_ERROR");
pub(super) const SESSION_NOT_FOUND: Kind = Kind(372, "SESSION_NOT_FOUND");
pub(super) const SESSION_IS_LOCKED: Kind = Kind(373, "SESSION_IS_LOCKED");
pub(super) const CANNOT_DECOMPRESS: Kind = Kind(271, "CANNOT_DECOMPRESS");
pub(super) const ACCESS_DENIED: Kind = Kind(497, "ACCESS_DENIED");
pub(super) const AUTHENTICATION_FAILED: Kind = Kind(516, "AUTHENTICATION_FAILED");
pub(super) const UNKNOWN_EXCEPTION: Kind = Kind(1002, "UNKNOWN_EXCEPTION");

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) code: u16,
    /// `Code: 62. DB::Exception: … (SYNTAX_ERROR)`, without a line break at its end.
    pub(super) text: String,
}

impl Exception {
    pub(super) fn new(Kind(code, name): Kind, message: impl std::fmt::Display) -> Self {
        Self { code, text: format!("Code: {code}. DB::Exception: {message} ({name})") }
    }

    /// An exception as the engine words it.
    pub(super) fn from_engine(text: String) -> Self {
        let code = text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(code, _)| code.parse().ok());
        match code {
            Some(code) => Self { code, text: without_version(text.trim_end()).to_owned() },
            None => Self::new(UNKNOWN_EXCEPTION, text.trim_end()),
        }
    }

    /// The text as clients expect it: with the version and a line break at its end.
    pub(super) fn full_text(&self, version: &str) -> String {
        format!("{} (version {version})\n", self.text)
    }

    /// The status that a ClickHouse server answers with (`exceptionCodeToHTTPStatus`).
    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            164 | 192 | 193 | 497 | 516 => StatusCode::FORBIDDEN,
            6 | 25 | 26 | 27 | 36 | 38 | 41 | 53 | 62 | 70 | 72 | 117 | 167 | 168 | 223 | 271 | 321 | 376
            | 427 | 441 | 456 | 457 | 467 | 675 | 676 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 336 | 372 => StatusCode::NOT_FOUND,
            159 => StatusCode::REQUEST_TIMEOUT,
            229 => StatusCode::PAYLOAD_TOO_LARGE,
            48 => StatusCode::NOT_IMPLEMENTED,
            76 | 202 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The engine ends some of its texts with its version, but not all.
fn without_version(text: &str) -> &str {
    match text.rsplit_once(" (version ") {
        Some((before, version)) if version.ends_with(')') && !version.contains(' ') => before,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_text_keeps_its_code() {
        let check = |text: &str, code: u16, status: u16| {
            let exception = Exception::from_engine(text.to_owned());
            assert_eq!((exception.code, exception.status().as_u16()), (code, status), "{text}");
        };
        check("Code: 62. DB::Exception: Syntax error: … (SYNTAX_ERROR)\n", 62, 400);
        check("Code: 60. DB::Exception: Unknown table (UNKNOWN_TABLE)", 60, 404);
        check("Code: 159. DB::Exception: Timeout exceeded (TIMEOUT_EXCEEDED)", 159, 408);
        check("the engine gave no result", 1002, 500);
    }

    #[test]
    fn the_version_stands_once_at_the_end() {
        for engine in ["Code: 1. DB::Exception: x (X)", "Code: 1. DB::Exception: x (X) (version 26.7.2.1)"] {
            let text = Exception::from_engine(engine.to_owned()).full_text("26.7.2.1");
            assert_eq!(text, "Code: 1. DB::Exception: x (X) (version 26.7.2.1)\n");
        }
    }
}
