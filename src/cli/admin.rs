//! `jwtrail tenant`, `client` and `user`: the admin API from the shell.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use reqwest::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};

use super::Common;
use crate::config::{MissingCredentials, Secret};

/// How to ask, and how to show what is answered.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Print the API's JSON in place of a table
    #[arg(long, global = true)]
    json: bool,
    /// A named administrator's key in place of the admin_key of DATA_DIR/credentials.toml
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Which part of a list.
#[derive(Debug, Args)]
pub(super) struct Page {
    /// Those after this name
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    /// So many at most, 200 or fewer
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// Tenants: each is an issuer of its own.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  jwtrail tenant create acme\n  jwtrail tenant suspend acme\n  jwtrail tenant list --json"
)]
pub(super) struct Tenant {
    #[command(subcommand)]
    act: TenantAct,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum TenantAct {
    /// Print the tenants
    List(Page),
    /// Print one tenant and its policy
    Show { tenant: String },
    /// Make a tenant
    Create {
        tenant: String,
        /// Seconds that its access tokens live, 60 to 3600
        #[arg(long, default_value_t = 600)]
        access_token_s: u32,
    },
    /// Stop issuing and verifying its tokens, on every instance within a second
    Suspend { tenant: String },
    /// Take a suspension back
    Resume { tenant: String },
    /// Delete it for ever: nobody else can take its name
    Delete { tenant: String },
}

/// A tenant's clients.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  jwtrail client create acme billing --grant client_credentials --audience https://api.example --scope read\n  jwtrail client rotate acme billing   # a second secret beside the first\n  jwtrail client retire acme billing   # ends the first"
)]
pub(super) struct Client {
    #[command(subcommand)]
    act: ClientAct,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum ClientAct {
    /// Print a tenant's clients
    List {
        tenant: String,
        #[command(flatten)]
        page: Page,
    },
    /// Print one client
    Show { tenant: String, client: String },
    /// Make a client; the secret of a confidential one is printed this once
    Create {
        tenant: String,
        client: String,
        /// It cannot keep a secret
        #[arg(long)]
        public: bool,
        #[arg(long = "grant")]
        grants: Vec<String>,
        /// Whom it may get tokens for; the first is meant where it names none
        #[arg(long = "audience", value_name = "URI")]
        audiences: Vec<String>,
        /// An audience that is its own: it may introspect what is for it
        #[arg(long, value_name = "URI")]
        owns: Vec<String>,
        #[arg(long = "scope")]
        scopes: Vec<String>,
    },
    /// Draw another secret beside the newest one, and print it this once
    Rotate { tenant: String, client: String },
    /// End every secret but the newest
    Retire { tenant: String, client: String },
    /// Delete a client
    Delete { tenant: String, client: String },
}

/// A tenant's users. Passwords are read from standard input, never from an argument.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  jwtrail user create acme kim < FILE\n  jwtrail user disable acme kim")]
pub(super) struct User {
    #[command(subcommand)]
    act: UserAct,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum UserAct {
    /// Print a tenant's users
    List {
        tenant: String,
        #[command(flatten)]
        page: Page,
    },
    /// Print one user
    Show { tenant: String, user: String },
    /// Make a user with the password on standard input
    Create { tenant: String, user: String },
    /// Set the password on standard input
    Password { tenant: String, user: String },
    /// Let it log in no more
    Disable { tenant: String, user: String },
    /// Let it log in again
    Enable { tenant: String, user: String },
    /// Delete a user
    Delete { tenant: String, user: String },
}

/// What a change says to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Nothing is said.
    Always,
    Absent,
    /// What is there when it is asked for, just before.
    Unchanged,
}

/// One call of the admin API.
#[derive(Debug)]
struct Call {
    method: Method,
    path: Vec<String>,
    page: Option<Page>,
    when: When,
    body: Option<Value>,
}

impl Call {
    fn new<const N: usize>(method: Method, path: [&str; N], when: When) -> Self {
        Self { method, path: path.map(str::to_owned).into(), page: None, when, body: None }
    }

    fn get<const N: usize>(path: [&str; N]) -> Self {
        Self::new(Method::GET, path, When::Always)
    }

    fn list<const N: usize>(path: [&str; N], page: Page) -> Self {
        Self { page: Some(page), ..Self::get(path) }
    }

    fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl Tenant {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        self.how.run(common, self.act.call())
    }
}

impl TenantAct {
    fn call(self) -> Call {
        match self {
            Self::List(page) => Call::list(["tenants"], page),
            Self::Show { tenant } => Call::get(["tenants", &tenant]),
            Self::Create { tenant, access_token_s } => {
                Call::new(Method::PUT, ["tenants", &tenant], When::Absent)
                    .with(json!({"policy": {"access_token_s": access_token_s}}))
            }
            Self::Suspend { tenant } => {
                Call::new(Method::POST, ["tenants", &tenant, "suspend"], When::Always)
            }
            Self::Resume { tenant } => Call::new(Method::POST, ["tenants", &tenant, "resume"], When::Always),
            Self::Delete { tenant } => Call::new(Method::DELETE, ["tenants", &tenant], When::Unchanged),
        }
    }
}

impl Client {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        self.how.run(common, self.act.call())
    }
}

impl ClientAct {
    fn call(self) -> Call {
        match self {
            Self::List { tenant, page } => Call::list(["tenants", &tenant, "clients"], page),
            Self::Show { tenant, client } => Call::get(["tenants", &tenant, "clients", &client]),
            Self::Create { tenant, client, public, grants, audiences, owns, scopes } => {
                let kind = if public { "public" } else { "confidential" };
                Call::new(Method::PUT, ["tenants", &tenant, "clients", &client], When::Absent)
                    .with(json!({"kind": kind, "grants": grants, "audiences": audiences, "owns": owns, "scopes": scopes}))
            }
            Self::Rotate { tenant, client } => {
                Call::new(Method::POST, ["tenants", &tenant, "clients", &client, "rotate"], When::Unchanged)
            }
            Self::Retire { tenant, client } => {
                Call::new(Method::POST, ["tenants", &tenant, "clients", &client, "retire"], When::Unchanged)
            }
            Self::Delete { tenant, client } => {
                Call::new(Method::DELETE, ["tenants", &tenant, "clients", &client], When::Unchanged)
            }
        }
    }
}

impl User {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let call = self.act.call(password)?;
        self.how.run(common, call)
    }
}

impl UserAct {
    /// `password` is called where one is needed.
    fn call(self, password: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Call> {
        let set = |tenant: &str, user: &str, when, body| {
            Call::new(Method::PUT, ["tenants", tenant, "users", user], when).with(body)
        };
        Ok(match self {
            Self::List { tenant, page } => Call::list(["tenants", &tenant, "users"], page),
            Self::Show { tenant, user } => Call::get(["tenants", &tenant, "users", &user]),
            Self::Create { tenant, user } => {
                set(&tenant, &user, When::Absent, json!({"password": password()?}))
            }
            Self::Password { tenant, user } => {
                set(&tenant, &user, When::Unchanged, json!({"password": password()?}))
            }
            Self::Disable { tenant, user } => set(&tenant, &user, When::Unchanged, json!({"disabled": true})),
            Self::Enable { tenant, user } => set(&tenant, &user, When::Unchanged, json!({"disabled": false})),
            Self::Delete { tenant, user } => {
                Call::new(Method::DELETE, ["tenants", &tenant, "users", &user], When::Unchanged)
            }
        })
    }
}

/// One line from standard input. A terminal would show it.
fn password() -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    ensure!(
        !stdin.is_terminal(),
        "a terminal would show the password: send it on standard input, as in `… < FILE`"
    );
    let mut text = String::new();
    stdin.take(64 << 10).read_to_string(&mut text).context("reading standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl How {
    fn run(&self, common: &Common, call: Call) -> anyhow::Result<()> {
        let config = common.load(MissingCredentials::Accept)?;
        let key = match &self.key_file {
            Some(path) => {
                let key =
                    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                Secret::new(key.trim().to_owned())
            }
            None => config.admin_key.clone().ok_or_else(|| {
                anyhow!(
                    "there is no credentials.toml in the data directory: give its --data-dir, or a --key-file"
                )
            })?,
        };
        let base = format!("http://{}/admin/v1", config.api);
        let answer = super::node::block_on(send(&base, &key, call))?;
        match answer {
            Value::Null => println!("done"),
            answer if self.json => println!("{answer:#}"),
            answer => print!("{}", table(&answer)),
        }
        Ok(())
    }
}

async fn send(base: &str, key: &Secret, call: Call) -> anyhow::Result<Value> {
    let mut url = Url::parse(base)?;
    // Names are encoded: an audience or a client may be a URI.
    url.path_segments_mut().map_err(|()| anyhow!("{base} has no path"))?.extend(&call.path);
    if let Some(Page { after, limit }) = call.page {
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &limit.to_string());
        if let Some(after) = &after {
            query.append_pair("after", after);
        }
    }
    let http = reqwest::Client::new();
    let nobody = || format!("nobody answers at {base}; is `jwtrail up` running?");
    let mut request = http.request(call.method, url.clone()).bearer_auth(key.expose());
    match call.when {
        When::Always => {}
        When::Absent => request = request.header(IF_NONE_MATCH, "*"),
        When::Unchanged => {
            // An act (`…/rotate`) is one on the entry above it.
            let mut entry = url;
            if call.path.len() % 2 == 1 {
                entry.path_segments_mut().map_err(|()| anyhow!("{base} has no path"))?.pop();
            }
            let there = http.get(entry).bearer_auth(key.expose()).send().await.with_context(nobody)?;
            let Some(tag) = there.headers().get(ETAG).cloned() else {
                read(there).await?;
                bail!("the API named no version of what is to be changed");
            };
            request = request.header(IF_MATCH, tag);
        }
    }
    if let Some(body) = &call.body {
        request = request.json(body);
    }
    read(request.send().await.with_context(nobody)?).await
}

/// The answer, or what the problem says.
async fn read(response: reqwest::Response) -> anyhow::Result<Value> {
    let status = response.status();
    let text = response.text().await.context("reading the answer")?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    if status.is_success() {
        return Ok(answer);
    }
    bail!("the API answered {status}: {}", answer["detail"].as_str().unwrap_or("it did not say why"))
}

/// For people: an entry member by member, of a list a line an entry.
fn table(answer: &Value) -> String {
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let Some(items) = answer.get("items").and_then(Value::as_array) else {
        let none = Map::new();
        let members = answer.as_object().unwrap_or(&none);
        return members.iter().map(|(name, value)| format!("{name:<14} {}\n", cell(value))).collect();
    };
    let mut text = String::new();
    for item in items {
        let name = ["name", "client_id", "username"].into_iter().find_map(|name| item.get(name));
        let state = ["status", "kind", "subject"].into_iter().find_map(|name| item.get(name));
        let disabled = if item["disabled"] == true { "  disabled" } else { "" };
        let (name, state) = (name.map(cell).unwrap_or_default(), state.map(cell).unwrap_or_default());
        text.push_str(&format!("{name:<32}  {state}{disabled}\n"));
    }
    if let Some(next) = answer["next"].as_str() {
        text.push_str(&format!("more: --after {next}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::api::Region;

    #[derive(Parser)]
    enum Typed {
        Tenant(Tenant),
        Client(Client),
        User(User),
    }

    fn typed(line: &str) -> Call {
        match Typed::try_parse_from(format!("jwtrail {line}").split(' ')).unwrap() {
            Typed::Tenant(tenant) => tenant.act.call(),
            Typed::Client(client) => client.act.call(),
            Typed::User(user) => user.act.call(|| Ok("correct horse".to_owned())).unwrap(),
        }
    }

    #[tokio::test]
    async fn the_api_takes_every_command() {
        let instance = Region::new().start().await;
        let (base, key) = instance.door();
        let check = async |line: &str, expected: &str| {
            let told = match send(base, &key, typed(line)).await {
                Ok(answer) => answer.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(told.contains(expected), "{line}: {told}");
        };
        check("tenant create acme --access-token-s 300", "\"access_token_s\":300").await;
        check("tenant create acme", "412").await;
        check("tenant list", "\"name\":\"acme\"").await;
        check("tenant suspend acme", "\"suspended\"").await;
        check("tenant resume acme", "\"active\"").await;
        check("tenant show acme", "\"version\":3").await;
        check("client create acme https://a.example/1 --grant client_credentials", "client_secret").await;
        check("client show acme https://a.example/1", "\"kind\":\"confidential\"").await;
        check("client rotate acme https://a.example/1", "client_secret").await;
        check("client retire acme https://a.example/1", "\"version\":3").await;
        check("client list acme --limit 1", "\"next\":null").await;
        check("client delete acme https://a.example/1", "null").await;
        check("client rotate acme https://a.example/1", "404").await;
        check("user create acme kim", "\"subject\":\"user-").await;
        check("user password acme kim", "\"version\":2").await;
        check("user disable acme kim", "\"disabled\":true").await;
        check("user enable acme kim", "\"disabled\":false").await;
        check("user show acme kim", "\"version\":4").await;
        check("user list acme", "\"username\":\"kim\"").await;
        check("user delete acme kim", "null").await;
        check("tenant delete acme", "null").await;
        check("tenant resume acme", "409").await;
    }

    #[test]
    fn a_list_is_shown_a_line_an_entry() {
        let answer =
            json!({"items": [{"username": "kim", "subject": "u-1", "disabled": true}], "next": "kim"});
        let name = "kim".to_owned() + &" ".repeat(29);
        assert_eq!(table(&answer), format!("{name}  u-1  disabled\nmore: --after kim\n"));
    }
}
