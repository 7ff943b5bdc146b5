//! The connection to one Redis or to a Cluster, and what must be so before it is relied on.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, TlsCertificates, Value,
};

use super::reply::texts;
use super::script::Script;
use crate::config::RedisConfig;
use crate::issuer::store::StoreError;

/// Nothing here takes longer: who waits for a token does not.
const ANSWER: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
/// MOVED, ASK and a connection that was cut. A script may be sent twice so: see `call` in the scripts.
const RETRIES: u32 = 3;
const VERSION_MIN: u32 = 7;

#[derive(Clone)]
pub(super) enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn open(config: &RedisConfig) -> Result<Self, StoreError> {
        const DOING: &str = "connecting to Redis";
        let root_cert = match &config.ca {
            None => None,
            Some(path) => Some(std::fs::read(path).map_err(|cause| {
                StoreError::Misconfigured(format!("{} in [redis] cannot be read: {cause}", path.display()))
            })?),
        };
        let tls = root_cert.map(|root_cert| TlsCertificates { client_tls: None, root_cert: Some(root_cert) });
        let nodes: RedisResult<Vec<ConnectionInfo>> =
            config.nodes.iter().map(|node| address(config, node)).collect();
        let nodes = nodes.map_err(|error| failed(DOING, &error))?;
        let opened = if config.is_cluster { cluster(nodes, tls).await } else { single(nodes, tls).await };
        opened.map_err(|error| failed(DOING, &error))
    }

    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        match self.clone() {
            Self::Single(mut connection) => {
                let answer = command.query_async(&mut connection).await;
                // A primary that was demoted keeps its connections: the name may lead to the new one by now.
                if matches!(&answer, Err(error) if is(error, ServerErrorKind::ReadOnly)) {
                    let _: RedisResult<Value> = redis::cmd("QUIT").query_async(&mut connection).await;
                }
                answer
            }
            Self::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }

    /// Runs a script. Redis forgets scripts when it restarts or fails over: then it is told the text again.
    pub(super) async fn run(&self, script: &Script, keys: &[String], args: &[&[u8]]) -> RedisResult<Value> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys).arg(args);
            command
        };
        match self.send(&command("EVALSHA", &script.sha1)).await {
            Err(error) if is(&error, ServerErrorKind::NoScript) => {
                self.send(&command("EVAL", script.text)).await
            }
            answer => answer,
        }
    }

    /// Whether every primary may be relied on: it must be a primary of Redis 7, and evict nothing.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        const DOING: &str = "asking Redis how it is set up";
        let info = self.send(redis::cmd("INFO").arg("everything")).await;
        for info in texts(&info.map_err(|error| failed(DOING, &error))?) {
            let field = |name: &str| {
                info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
            };
            let (version, policy) = (field("redis_version"), field("maxmemory_policy"));
            let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
            if major.is_none_or(|major| major < VERSION_MIN) {
                let version = version.unwrap_or("of unknown version");
                return Err(StoreError::Misconfigured(format!(
                    "Redis is {version}: Redis {VERSION_MIN} or later is needed"
                )));
            }
            if policy != Some("noeviction") {
                let policy = policy.unwrap_or("unknown");
                return Err(StoreError::Misconfigured(format!(
                    "Redis' maxmemory-policy is {policy}, by which it drops sessions and revocations when memory is \
                     short: set `maxmemory-policy noeviction`"
                )));
            }
            if field("role") != Some("master") {
                let cause = "it is a replica at the moment".to_owned();
                return Err(StoreError::Unavailable { doing: DOING, cause });
            }
        }
        Ok(())
    }
}

fn address(config: &RedisConfig, node: &str) -> RedisResult<ConnectionInfo> {
    let scheme = if config.is_tls { "rediss" } else { "redis" };
    let mut login = RedisConnectionInfo::default();
    if let Some(username) = &config.username {
        login = login.set_username(username);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password.expose());
    }
    Ok(format!("{scheme}://{node}").into_connection_info()?.set_redis_settings(login))
}

async fn single(nodes: Vec<ConnectionInfo>, tls: Option<TlsCertificates>) -> RedisResult<Connection> {
    let Some(node) = nodes.into_iter().next() else {
        return Err((ErrorKind::InvalidClientConfig, "no node was named").into());
    };
    let client = match tls {
        Some(tls) => Client::build_with_tls(node, tls)?,
        None => Client::open(node)?,
    };
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(ANSWER))
        .set_connection_timeout(Some(CONNECT))
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_secs(1))
        .set_number_of_retries(2);
    ConnectionManager::new_with_config(client, config).await.map(Connection::Single)
}

async fn cluster(nodes: Vec<ConnectionInfo>, tls: Option<TlsCertificates>) -> RedisResult<Connection> {
    let mut builder = ClusterClientBuilder::new(nodes)
        .retries(RETRIES)
        .min_retry_wait(20)
        .max_retry_wait(200)
        .connection_timeout(CONNECT)
        .response_timeout(ANSWER)
        .overall_response_timeout(Some(2 * ANSWER));
    if let Some(tls) = tls {
        builder = builder.certs(tls);
    }
    builder.build()?.get_async_connection().await.map(Connection::Cluster)
}

fn is(error: &RedisError, kind: ServerErrorKind) -> bool {
    error.kind() == ErrorKind::Server(kind)
}

/// Whatever else it is, nobody knows whether it was done: unavailable.
pub(super) fn failed(doing: &'static str, error: &RedisError) -> StoreError {
    let refused = ["NOAUTH", "WRONGPASS", "NOPERM"].map(Some).contains(&error.code());
    if refused || error.kind() == ErrorKind::AuthenticationFailed {
        let text = "Redis lets us not in: check `username` and `password` in [redis], and that the user may run scripts \
                    and INFO, on keys `jwtrail:*`";
        return StoreError::Misconfigured(text.to_owned());
    }
    StoreError::Unavailable { doing, cause: error.to_string() }
}
