//! A request as written (URL, headers, form) → as meant.

use std::time::Duration;

use axum::extract::Query;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, Uri, request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::access::Presented;
use super::compress::{Encoding, Packing};
use super::exception::{self, Exception};
use crate::config::Secret;

/// Settings of ClickHouse's HTTP interface that say nothing to the engine. `log_comment` is this interface's own mark.
const NOT_FOR_THE_ENGINE: [&str; 14] = [
    "add_http_cors_header",
    "buffer_size",
    "cancel_http_readonly_queries_on_client_close",
    "client_protocol_version",
    "close_session",
    "http_headers_progress_interval_ms",
    "http_make_head_request",
    "http_write_exception_in_output_format",
    "http_zlib_compression_level",
    "log_comment",
    "log_queries",
    "quota_key",
    "send_progress_in_http_headers",
    "stacktrace",
];

/// What a client asks for.
pub(super) struct Request {
    pub(super) presented: Option<Presented>,
    /// The statement, or its beginning, as far as it did not come in the body.
    pub(super) query: String,
    pub(super) query_id: String,
    pub(super) database: Option<String>,
    /// Values of `{name:Type}`, in escaped text form.
    pub(super) params: Vec<(String, String)>,
    pub(super) settings: Vec<(String, String)>,
    /// The format of what does not name its own.
    pub(super) format: Option<String>,
    pub(super) session: Option<SessionAsked>,
    /// How the body is packed, and how the answer shall be.
    pub(super) packed_in: Packing,
    pub(super) packed_out: Packing,
    /// GET may not change anything.
    pub(super) read_only: bool,
    /// The answer starts only when the query has ended, so that an error is told by its status.
    pub(super) wait_end: bool,
    /// The boundary of a multipart form, if the body is one.
    pub(super) boundary: Option<String>,
    wants_encoding: bool,
}

/// `session_id` and its companions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionAsked {
    pub(super) id: String,
    pub(super) timeout: Duration,
    /// The session must exist already.
    pub(super) must_exist: bool,
}

impl Request {
    /// `query_id` is used if the request brings none.
    pub(super) fn read(parts: &request::Parts, query_id: String) -> Result<Self, Exception> {
        let headers = &parts.headers;
        let bad = |message: String| Exception::new(exception::BAD_ARGUMENTS, message);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut request = Self {
            presented: presented(headers),
            query: String::new(),
            query_id,
            database: text("x-clickhouse-database"),
            params: Vec::new(),
            settings: Vec::new(),
            format: text("x-clickhouse-format"),
            session: None,
            packed_in: Packing { blocks: false, encoding: Encoding::of_body(headers).map_err(bad)? },
            packed_out: Packing::default(),
            read_only: parts.method != Method::POST,
            wait_end: false,
            boundary: boundary(headers),
            wants_encoding: false,
        };
        let mut user = None;
        let mut password = String::new();
        for (name, value) in url_pairs(&parts.uri)? {
            match name.as_str() {
                "user" => user = Some(value),
                "password" => password = value,
                _ => request.take(name, value)?,
            }
        }
        if request.presented.is_none() {
            request.presented = user.map(|user| Presented { user, password: Secret::new(password) });
        }
        if request.wants_encoding {
            request.packed_out.encoding = Encoding::accepted(headers);
        }
        Ok(request)
    }

    /// Takes one parameter, of the URL or of a form.
    pub(super) fn take(&mut self, name: String, value: String) -> Result<(), Exception> {
        let on = matches!(value.as_str(), "1" | "true");
        match name.as_str() {
            "query" => self.query.push_str(&value),
            "query_id" if value.is_empty() => {}
            "query_id" if is_header_text(&value) => self.query_id = value,
            "query_id" => {
                return Err(Exception::new(exception::BAD_ARGUMENTS, "query_id must be plain text"));
            }
            "database" => self.database = Some(value),
            "default_format" => self.format = Some(value),
            "compress" => self.packed_out.blocks = on,
            "decompress" => self.packed_in.blocks = on,
            "enable_http_compression" => self.wants_encoding = on,
            "wait_end_of_query" | "http_wait_end_of_query" => self.wait_end = on,
            "session_id" => self.session_mut().id = value,
            "session_check" => self.session_mut().must_exist = on,
            "session_timeout" => match value.parse() {
                Ok(seconds @ 1..=3600) => self.session_mut().timeout = Duration::from_secs(seconds),
                _ => {
                    let message = "session_timeout must be 1 to 3600 seconds";
                    return Err(Exception::new(exception::BAD_ARGUMENTS, message));
                }
            },
            _ => match name.strip_prefix("param_") {
                Some(param) => self.params.push((param.to_owned(), value)),
                None if NOT_FOR_THE_ENGINE.contains(&name.as_str()) => {}
                None => self.settings.push((name, value)),
            },
        }
        Ok(())
    }

    fn session_mut(&mut self) -> &mut SessionAsked {
        self.session.get_or_insert_with(|| SessionAsked {
            id: String::new(),
            timeout: Duration::from_secs(60),
            must_exist: false,
        })
    }
}

fn is_header_text(value: &str) -> bool {
    value.len() <= 128 && value.bytes().all(|byte| (0x21..0x7f).contains(&byte))
}

fn url_pairs(uri: &Uri) -> Result<Vec<(String, String)>, Exception> {
    Query::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .map_err(|_| Exception::new(exception::BAD_ARGUMENTS, "the URL's parameters cannot be read"))
}

/// User and password of the headers: ClickHouse's own, or HTTP Basic.
fn presented(headers: &HeaderMap) -> Option<Presented> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(user) = text("x-clickhouse-user") {
        let password = Secret::new(text("x-clickhouse-key").unwrap_or_default().to_owned());
        return Some(Presented { user: user.to_owned(), password });
    }
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Presented { user: user.to_owned(), password: Secret::new(password.to_owned()) })
}

fn boundary(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"').to_owned())
    })
}

/// The fields of a multipart form (RFC 7578), name and value.
pub(super) fn form_fields(body: &[u8], boundary: &str) -> Result<Vec<(String, String)>, Exception> {
    let bad = |message: &str| Exception::new(exception::BAD_ARGUMENTS, message);
    let delimiter = format!("--{boundary}");
    // Every delimiter but the first stands on a line of its own; one inside a value is not preceded by a line break.
    let body = [b"\r\n", body].concat();
    let line = format!("\r\n{delimiter}");
    let mut fields = Vec::new();
    let mut starts: Vec<usize> = memchr::memmem::find_iter(&body, line.as_bytes()).collect();
    let end = starts.pop().ok_or_else(|| bad("the form has no boundary"))?;
    if !body[end + line.len()..].starts_with(b"--") {
        return Err(bad("the form is cut short"));
    }
    for (at, start) in starts.iter().enumerate() {
        let part = &body[start + line.len()..starts.get(at + 1).copied().unwrap_or(end)];
        let split =
            memchr::memmem::find(part, b"\r\n\r\n").ok_or_else(|| bad("a part of the form has no head"))?;
        let head = String::from_utf8_lossy(&part[..split]);
        let attribute = |name: &str| {
            let from = head.find(&format!("; {name}=\""))? + name.len() + 4;
            Some(head[from..].split_once('"')?.0.to_owned())
        };
        if attribute("filename").is_some() {
            let message = "external tables are not supported by the embedded engine";
            return Err(Exception::new(exception::NOT_IMPLEMENTED, message));
        }
        let name = attribute("name").ok_or_else(|| bad("a part of the form has no name"))?;
        let value = String::from_utf8(part[split + 4..].to_vec())
            .map_err(|_| bad(&format!("the form's field {name} is not UTF-8")))?;
        fields.push((name, value));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Request, Exception> {
        let mut builder = axum::http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        Request::read(&builder.body(()).unwrap().into_parts().0, "fallback".to_owned())
    }

    #[test]
    fn parameters_settings_and_the_interfaces_own_words_are_told_apart() {
        let uri = "/?query=SELECT+1&param_x=a%09b&max_threads=2&compress=1&wait_end_of_query=1&log_comment=x\
                   &session_id=s&session_timeout=5&default_format=JSON&database=d";
        let request = read("POST", uri, &[]).unwrap();
        assert_eq!(request.query, "SELECT 1");
        assert_eq!(request.params, [("x".to_owned(), "a\tb".to_owned())]);
        assert_eq!(request.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!((request.packed_out.blocks, request.wait_end, request.read_only), (true, true, false));
        assert_eq!((request.format.as_deref(), request.database.as_deref()), (Some("JSON"), Some("d")));
        let session = SessionAsked { id: "s".to_owned(), timeout: Duration::from_secs(5), must_exist: false };
        assert_eq!(request.session, Some(session));
        assert_eq!(request.query_id, "fallback");
        assert!(read("GET", "/?query=SELECT+1", &[]).unwrap().read_only);
        assert!(read("GET", "/?query_id=a%0d%0ab", &[]).is_err());
    }

    #[test]
    fn credentials_come_by_headers_or_url() {
        let check = |uri: &str, headers: &[(&str, &str)], expected: Option<(&str, &str)>| {
            let presented = read("GET", uri, headers).unwrap().presented;
            let found = presented.as_ref().map(|it| (it.user.as_str(), it.password.expose()));
            assert_eq!(found, expected, "{uri} {headers:?}");
        };
        check("/", &[("authorization", "Basic dTpwOnE=")], Some(("u", "p:q")));
        check("/", &[("x-clickhouse-user", "u"), ("x-clickhouse-key", "p")], Some(("u", "p")));
        check("/?user=u&password=p%2B", &[], Some(("u", "p+")));
        check("/?password=p", &[], None);
        check("/", &[("authorization", "Bearer x")], None);
    }

    #[test]
    fn a_form_gives_its_fields() {
        let body = "--B\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {a:String}\r\n--B\r\n\
                    Content-Disposition: form-data; name=\"param_a\"\r\n\r\nx\r\n\r\n--By\r\n--B--\r\n";
        let headers = [("content-type", "multipart/form-data; boundary=B")];
        let boundary = read("POST", "/", &headers).unwrap().boundary.unwrap();
        let fields = form_fields(body.replace("--By", "-By").as_bytes(), &boundary).unwrap();
        let field = |at: usize| (fields[at].0.as_str(), fields[at].1.as_str());
        assert_eq!(field(0), ("query", "SELECT {a:String}"));
        assert_eq!(field(1), ("param_a", "x\r\n\r\n-By"));
        assert_eq!(fields.len(), 2);
        assert!(form_fields(b"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx", "B").is_err());
        assert!(form_fields(b"nothing", "B").is_err());
        let file = b"--B\r\nContent-Disposition: form-data; name=\"t\"; filename=\"t\"\r\n\r\n1\r\n--B--\r\n";
        assert_eq!(form_fields(file, "B").unwrap_err().code, 48);
    }
}
