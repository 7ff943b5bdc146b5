//! `jwtrail send`: one event from flags through the door, and the curl line that does the same.

use std::net::IpAddr;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::Common;
use crate::config::{Config, MissingCredentials};

/// One event from flags through the door.
///
/// The event says that a gateway let this token through (or, with --status 401 or 403, that it refused it).
#[derive(Debug, Args)]
pub(super) struct Send {
    /// The token's subject
    #[arg(long, default_value = "alice")]
    sub: String,
    /// The token's issuer
    #[arg(long, default_value = "https://id.example/t/default")]
    iss: String,
    /// The client's address
    #[arg(long, default_value = "203.0.113.7")]
    ip: IpAddr,
    /// The token's jti: the door turns it into jti_ref, a clear one is never kept
    #[arg(long, default_value = "send-1")]
    jti: String,
    /// The client that the token was issued to
    #[arg(long)]
    client_id: Option<String>,
    #[arg(long, default_value = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")]
    user_agent: String,
    #[arg(long, default_value = "GET")]
    method: String,
    #[arg(long, default_value = "/")]
    route: String,
    /// What the gateway answered
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// The tenant [default: what the key is for]
    #[arg(long)]
    tenant: Option<String>,
    /// RFC 3339 [default: now]
    #[arg(long)]
    time: Option<String>,
    /// Only say what would happen, rule by rule
    #[arg(long)]
    explain: bool,
    /// A gateway's key in place of the ingest_key of DATA_DIR/credentials.toml
    #[arg(long, value_name = "FILE")]
    key_file: Option<std::path::PathBuf>,
}

impl Send {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let config = common.load(MissingCredentials::Accept)?;
        let key = self.key(&config)?;
        let path = if self.explain { "/v1/events?explain=true" } else { "/v1/events" };
        let url = format!("http://{}{path}", config.api);
        let body = self.event().to_string();
        eprintln!("{}", curl(&url, &body));
        super::node::block_on(async {
            let response = reqwest::Client::new()
                .post(&url)
                .bearer_auth(key.expose())
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body)
                .send()
                .await
                .with_context(|| format!("nobody answers at {url}; is `jwtrail up` (or `serve`) running?"))?;
            let status = response.status();
            println!("{}", response.text().await.context("reading the answer")?);
            if !status.is_success() {
                bail!("the door answered {status}");
            }
            Ok(())
        })
    }

    fn key(&self, config: &Config) -> anyhow::Result<crate::config::Secret> {
        match &self.key_file {
            Some(path) => {
                let key =
                    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                Ok(crate::config::Secret::new(key.trim().to_owned()))
            }
            None => Ok(config.ingest_key()?.clone()),
        }
    }

    /// The least that a gateway sends, in the door's dialect.
    fn event(&self) -> Value {
        let token = [("iss", Some(&self.iss)), ("sub", Some(&self.sub)), ("jti", Some(&self.jti))];
        let token = members(token.into_iter().chain([("client_id", self.client_id.as_ref())]));
        let mut event = members([("tenant", self.tenant.as_ref()), ("time", self.time.as_ref())]);
        event.insert("token".to_owned(), token.into());
        let request = json!({
            "ip": self.ip, "user_agent": self.user_agent, "method": self.method, "route": self.route,
            "status": self.status,
        });
        event.insert("request".to_owned(), request);
        event.into()
    }
}

fn members<'m>(pairs: impl IntoIterator<Item = (&'static str, Option<&'m String>)>) -> Map<String, Value> {
    let given = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone().into())));
    given.collect()
}

/// The same as a line for the shell; the key stays in the caller's variable.
fn curl(url: &str, body: &str) -> String {
    let quoted = body.replace('\'', r"'\''");
    format!(
        "curl -sS '{url}' -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d '{quoted}'"
    )
}
