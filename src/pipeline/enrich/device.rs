//! The device that a user agent names: its family and operating system, no versions, so that an update is no new device.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use ua_parser::{os, user_agent};

/// A device: user-agent family and operating system, no versions (`Firefox on Windows`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: Arc<str>,
}

/// uap-core's patterns, the ua-parser project's own, which ship inside the binary.
const PATTERNS: &str = include_str!("../../../schemas/user-agents.json");

/// What stands before the first `/`, space or `(` of a library's user agent, in lower case. Many devices share one, so
/// it tells none from another.
#[rustfmt::skip]
const LIBRARIES: &[&str] = &[
    "aiohttp", "apache-httpclient", "axios", "curl", "dart", "elixir", "envoy", "faraday", "fasthttp",
    "feign", "finagle", "go-http-client", "go-resty", "google-api-nodejs-client", "google-http-java-client",
    "got", "grpc-go", "grpc-java", "grpc-node-js", "grpc-python", "guzzlehttp", "hackney", "httpclient",
    "httpie", "httpx", "hyper", "insomnia", "jakarta", "java", "java-http-client", "jersey", "k6", "ktor",
    "lua-resty-http", "mint", "nginx", "node", "node-fetch", "node-superagent", "node.js", "okhttp",
    "openapi-generator", "perl", "php", "postmanruntime", "python", "python-httpx", "python-requests",
    "python-urllib", "python-urllib3", "reactornetty", "req", "reqwest", "rest-client", "restsharp", "ruby",
    "scala", "sttp", "swagger-codegen", "traefik", "typhoeus", "undici", "ureq", "vert.x-webclient", "wget",
    "winhttp",
];

struct Parsers {
    families: user_agent::Extractor<'static>,
    systems: os::Extractor<'static>,
}

/// Compiled once for all partitions: it takes tens of milliseconds and some megabytes.
static PARSERS: LazyLock<Parsers> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the patterns are compiled in, and a test compiles them")]
    Parsers::compile(PATTERNS).expect("the shipped patterns compile")
});

impl Parsers {
    fn compile(patterns: &str) -> Result<Self, Box<dyn std::error::Error>> {
        #[derive(Deserialize)]
        struct Patterns<'a> {
            user_agent_parsers: Vec<user_agent::Parser<'a>>,
            os_parsers: Vec<os::Parser<'a>>,
        }
        let patterns: Patterns<'_> = serde_json::from_str(patterns)?;
        Ok(Self {
            families: user_agent::Builder::new().push_all(patterns.user_agent_parsers)?.build()?,
            systems: os::Builder::new().push_all(patterns.os_parsers)?.build()?,
        })
    }
}

/// Compiles the patterns now, rather than under the first event.
pub(super) fn warm_up() {
    LazyLock::force(&PARSERS);
}

/// `None` for what is empty, a library, or known to no pattern.
pub(super) fn parse(user_agent: &str) -> Option<Device> {
    let user_agent = user_agent.trim();
    let product = user_agent.split(['/', ' ', '(', ';']).next().unwrap_or("");
    if product.is_empty() || LIBRARIES.binary_search(&product.to_ascii_lowercase().as_str()).is_ok() {
        return None;
    }
    let family = PARSERS.families.extract(user_agent).map(|found| found.family);
    let system = PARSERS.systems.extract(user_agent).map(|found| found.os);
    let name = match (family, system) {
        (Some(family), Some(system)) => format!("{family} on {system}"),
        (Some(family), None) => family.into_owned(),
        // An app of its own that names what it runs on.
        (None, Some(system)) => format!("Other on {system}"),
        (None, None) => return None,
    };
    Some(Device { name: name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_can_be_searched() {
        assert!(LIBRARIES.is_sorted());
    }

    #[test]
    fn a_device_is_a_family_and_a_system_without_versions() {
        let check = |user_agent: &str, expected: &str| {
            let name = parse(user_agent).map(|device| device.name.to_string());
            assert_eq!(name.as_deref().unwrap_or("unknown"), expected, "{user_agent}");
        };
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
            "Firefox on Windows",
        );
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:134.0) Gecko/20100101 Firefox/134.0",
            "Firefox on Windows",
        );
        check(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
            "Safari on Mac OS X",
        );
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
            "Mobile Safari on iOS",
        );
        check(
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
            "Chrome Mobile on Android",
        );
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
            "Edge on Windows",
        );
        check("AcmeSync/7.1 (Windows NT 10.0; Win64; x64)", "Other on Windows");
        check("", "unknown");
        check("   ", "unknown");
        check("curl/8.11.0", "unknown");
        check("python-requests/2.32.3", "unknown");
        check("Go-http-client/2.0", "unknown");
        check("okhttp/4.12.0", "unknown");
        check("Java/21.0.1", "unknown");
        check("Python/3.12 aiohttp/3.11.0", "unknown");
        check("Something-of-ours/1.0", "unknown");
        check("\u{0}\u{ffff}\u{1f980}", "unknown");
    }
}
