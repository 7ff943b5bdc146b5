//! As written → as meant, section by section. Every function reads all of its keys before it gives up on one, so that
//! all problems are found.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::leaf::{Brokers, HttpUrl, JwksAddress, LogFilter, Name, RedisUrl, Sha256Hex, Size, Span};
use super::public_key::Ed25519Key;
use super::reader::Section;
use super::{
    ClickHouseConfig, ClientBackends, Config, Credentials, Destination, DestinationKind, DestinationWord,
    Egress, Fsync, Gateway, GeoFiles, HookUrl, Issuer, JournalConfig, JwksSource, JwksUrl, KafkaConfig,
    LogFormat, MissingCredentials, RedisConfig, Secret, Signatures, SigningAlg, SigningKey, SigningMaterial,
    SpoolConfig, Suppression, Tenant, geo_files,
};
use crate::model::{RuleId, TenantId};

/// `None` if something is wrong, which has then been reported.
pub(super) fn config(mut root: Section<'_>, missing: MissingCredentials) -> Option<Config> {
    let data_dir = root.or("data_dir", PathBuf::from("data"));
    let api = root.or("api", loopback(8080));
    let issuer_base = root.get::<String>("issuer_base").unwrap_or_else(|| format!("http://{api}"));
    if !(issuer_base.starts_with("https://") || issuer_base.starts_with("http://")) {
        root.report("issuer_base", "is an address such as \"https://id.example\"");
    }
    let run_metrics = root.or("run_metrics", loopback(9101));
    let deliver_metrics = root.or("deliver_metrics", loopback(9102));
    let log = root.or("log", LogFilter("info".to_owned())).0;
    let log_format = root.or("log_format", LogFormat::Auto);
    let grace = root.or("grace", Span(Duration::from_secs(30))).0;
    let max_event_age = root.or("max_event_age", Span(Duration::from_secs(40 * DAY_S))).0;
    let heartbeat_every = root.or("heartbeat_every", Span(Duration::from_secs(30))).0;
    if heartbeat_every < Duration::from_secs(1) {
        root.report("heartbeat_every", "is at least \"1s\"");
    }

    let credentials = match Credentials::load(&data_dir, missing) {
        Ok(credentials) => credentials,
        Err(error) => {
            root.report("data_dir", error.to_string());
            None
        }
    };

    let ingest_key = root.table("door", |door| door.secret("ingest_key"));
    let clickhouse = root.table("clickhouse", |section| clickhouse(section, credentials.as_ref()));
    let kafka = root.table("kafka", kafka);
    let journal = root.table("journal", |section| JournalConfig {
        max_bytes: section.or("max_bytes", Size(10 << 30)).0,
        fsync: section.or("fsync", Fsync::Always),
    });
    let spool = root.table("spool", |section| spool(section, &data_dir));
    let master_key = root.table("keys", |section| master_key(section, &data_dir));
    let redis = root.table("redis", redis);
    let geo = root.table("geo", geo);

    let tenants = named(&mut root, "tenant", &["name"], tenant);
    let issuers = named(&mut root, "issuer", &["iss", "tenant"], issuer);
    let gateways = named(&mut root, "gateway", &["name"], gateway);
    let clients = root.tables("client", |section| {
        let (id, tenant) = (section.need("id"), section.need("tenant"));
        Some(ClientBackends { backends: section.list("backends"), id: id?, tenant: tenant? })
    });
    let egress = root.tables("egress", |section| {
        let (tenant, label) = (section.need("tenant"), section.need("label"));
        Some(Egress { cidrs: section.list("cidrs"), tenant: tenant?, label: label? })
    });
    let suppressions = root.tables("suppress", suppression);
    let destinations =
        named(&mut root, "destination", &["name"], |section| destination(section, credentials.as_ref()));
    root.finish();

    let drawn = credentials.as_ref();
    Some(Config {
        data_dir,
        api,
        run_metrics,
        deliver_metrics,
        log,
        log_format,
        grace,
        tenants: tenants.into_iter().collect::<HashMap<TenantId, Tenant>>(),
        issuers,
        gateways,
        clients,
        egress,
        suppressions,
        destinations,
        geo,
        max_event_age,
        heartbeat_every,
        kafka,
        clickhouse: clickhouse?,
        journal,
        spool,
        redis,
        issuer_base,
        master_key,
        admin_key: drawn.map(|all| all.admin_key.clone()),
        ingest_key: ingest_key.or_else(|| drawn.map(|all| all.ingest_key.clone())),
        effective: String::new(),
    })
}

const SPOOL_BYTES_MIN: u64 = 16 << 20;
const DAY_S: u64 = 24 * 60 * 60;

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A list of tables, each known by the text of these keys. The second of two with one name is reported, whatever else is
/// wrong with either.
fn named<'c, T>(
    root: &mut Section<'c>,
    list: &'static str,
    keys: &[&str],
    mut read: impl FnMut(&mut Section<'c>) -> Option<T>,
) -> Vec<T> {
    let mut names = Vec::new();
    let values = root.tables(list, |section| {
        let name: Option<Vec<&str>> = keys.iter().map(|key| section.text_of(key)).collect();
        names.extend(name.map(|name| name.join("` of tenant `")));
        read(section)
    });
    let mut seen = BTreeSet::new();
    for name in names.iter().filter(|name| !seen.insert(*name)) {
        root.report(
            &format!("{list}.{}", keys[0]),
            format!("there are two of `{name}`: give one another name"),
        );
    }
    values
}

fn clickhouse(section: &mut Section<'_>, credentials: Option<&Credentials>) -> Option<ClickHouseConfig> {
    let url = section.get::<HttpUrl>("url").map(|url| url.0.as_str().trim_end_matches('/').to_owned());
    let listen = section.or("listen", loopback(8123));
    let user = section.or("user", "jwtrail".to_owned());
    let database = section.or("database", "jwtrail".to_owned());
    let answer_within = section.or("answer_within", Span(Duration::from_secs(30))).0;
    let insert_within = section.or("insert_within", Span(Duration::from_secs(180))).0;
    let password = section.secret("password");
    let analyst_password = section.secret("analyst_password");
    let or = |secret: Option<Secret>, drawn: fn(&Credentials) -> &Secret| {
        secret
            .or_else(|| credentials.map(|all| drawn(all).clone()))
            .unwrap_or_else(|| Secret::new(String::new()))
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !database.bytes().all(plain) {
        section.report("database", "is letters, digits and `_`");
        return None;
    }
    Some(ClickHouseConfig {
        url,
        listen,
        user,
        password: or(password, |all| &all.clickhouse_password),
        analyst_password: or(analyst_password, |all| &all.analyst_password),
        database,
        answer_within,
        insert_within,
    })
}

fn redis(section: &mut Section<'_>) -> Option<RedisConfig> {
    let url = section.get::<RedisUrl>("url");
    let nodes = section.list_or::<Brokers>("nodes", Vec::new());
    let tls = section.get::<bool>("tls");
    let (ca, username, password) = (section.get("ca"), section.get("username"), section.secret("password"));
    let nodes: Vec<String> = nodes.iter().flat_map(|nodes| nodes.0.split(',')).map(str::to_owned).collect();
    let is_alone = tls.is_some() || ca.is_some() || username.is_some() || password.is_some();
    let (nodes, is_cluster, is_tls) = match (url, nodes.is_empty()) {
        (Some(_), false) => {
            section.report("nodes", "a single Redis has a `url`, a Cluster has `nodes`: keep one of them");
            return None;
        }
        (Some(url), true) => {
            if tls.is_some() {
                section.report("tls", "goes with `nodes`; a `url` says it by its scheme, `rediss`");
            }
            (vec![url.node], false, url.is_tls)
        }
        (None, false) => (nodes, true, tls.unwrap_or(false)),
        (None, true) => {
            if is_alone {
                section.report("url", "is missing: name the Redis, or the `nodes` of a Cluster");
            }
            return None;
        }
    };
    if ca.is_some() && !is_tls {
        section.report("ca", "is for TLS: write the scheme `rediss`, or `tls = true` for a Cluster");
    }
    Some(RedisConfig { nodes, is_cluster, is_tls, ca, username, password })
}

fn kafka(section: &mut Section<'_>) -> Option<KafkaConfig> {
    let brokers = section.get::<Brokers>("brokers");
    if section.has("properties") && brokers.is_none() {
        section.report("brokers", "is missing: `[kafka.properties]` alone does not turn Kafka on");
    }
    let properties = section.properties("properties");
    Some(KafkaConfig { brokers: brokers?.0, properties })
}

fn spool(section: &mut Section<'_>, data_dir: &Path) -> SpoolConfig {
    let dir = section.or("dir", data_dir.join("spool"));
    let max_bytes = section.or("max_bytes", Size(1 << 30)).0;
    if max_bytes < SPOOL_BYTES_MIN {
        section.report("max_bytes", "is at least 16MiB: an ordinary batch has to fit in a few times");
    }
    SpoolConfig { dir, max_bytes }
}

fn master_key(section: &mut Section<'_>, data_dir: &Path) -> PathBuf {
    let place = section.or("master", format!("file:{}", data_dir.join("keys/master.key").display()));
    match place.strip_prefix("file:").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => {
            section.report("master", "is `file:` and a path");
            PathBuf::new()
        }
    }
}

fn geo(section: &mut Section<'_>) -> GeoFiles {
    let defaults = geo_files::shipped();
    GeoFiles {
        city: section.list_or("city", defaults.city),
        asn: section.list_or("asn", defaults.asn),
        country: section.list_or("country", defaults.country),
        networks: section.get("networks"),
        overlay: section.get("overlay"),
    }
}

fn tenant(section: &mut Section<'_>) -> Option<(TenantId, Tenant)> {
    let name = section.need("name");
    let retention_days = section.or("retention_days", Tenant::default().retention_days);
    let signatures = section.or("signatures", Signatures::Record);
    if retention_days == 0 {
        section.report("retention_days", "is at least 1 day");
    }
    Some((name?, Tenant { retention_days, signatures }))
}

fn issuer(section: &mut Section<'_>) -> Option<Issuer> {
    let (iss, tenant) = (section.need("iss"), section.need("tenant"));
    let subject_space = section.get("subject_space");
    let preset = section.get("preset");
    let clients_match = section.get("clients_match");
    let max_lifetime = section.get::<Span>("max_lifetime").map(|span| span.0);
    let jwks = section.table("jwks", jwks);
    Some(Issuer { iss: iss?, tenant: tenant?, jwks, subject_space, preset, clients_match, max_lifetime })
}

fn jwks(section: &mut Section<'_>) -> Option<JwksSource> {
    let file = section.get::<PathBuf>("file");
    let url = section.get::<JwksAddress>("url");
    let (refresh, allow_private) = if url.is_some() {
        (section.or("refresh", Span(Duration::from_secs(300))).0, section.or("allow_private", false))
    } else {
        (
            section.get::<Span>("refresh").map_or(Duration::ZERO, |span| span.0),
            section.get("allow_private").unwrap_or(false),
        )
    };
    if url.is_some() && refresh < Duration::from_secs(10) {
        section.report("refresh", "is at least \"10s\": the server is somebody's");
    }
    match (file, url) {
        (Some(_), Some(_)) => {
            section.report("url", "is written beside `file`: keep one");
            None
        }
        (Some(path), None) => {
            if let Err(cause) = std::fs::File::open(&path) {
                section.report("file", format!("{} cannot be read: {cause}", path.display()));
            }
            Some(JwksSource::File(path))
        }
        (None, Some(JwksAddress(url))) => {
            if url.scheme() != "https" && !allow_private {
                section.report(
                    "url",
                    "is not https: who is on the way could put keys of his own in; within a network that you trust, \
                     write `allow_private = true`",
                );
            }
            Some(JwksSource::Url(JwksUrl { url, refresh, allow_private }))
        }
        (None, None) => None,
    }
}

fn gateway(section: &mut Section<'_>) -> Option<Gateway> {
    let (name, zone) = (section.need::<Name>("name"), section.need("zone"));
    match section.length_of("tenants") {
        None if !section.has("tenants") => {
            section.report("tenants", "is missing: name the tenants that it serves");
        }
        Some(0) => {
            section.report("tenants", "is empty, so it could send nothing: name the tenants that it serves")
        }
        _ => {}
    }
    let tenants = section.list("tenants");
    let key_sha256 = section.get::<Sha256Hex>("key_sha256").map(|hash| hash.0);
    let signing = section.tables("signing", signing_key);
    Some(Gateway { name: name?.0, zone: zone?, tenants, key_sha256, signing })
}

fn signing_key(key: &mut Section<'_>) -> Option<SigningKey> {
    let id = key.need("id");
    let material = match key.or("alg", SigningAlg::Hs256) {
        SigningAlg::Hs256 => {
            let written = key.has("secret");
            let secret = key.secret("secret");
            match &secret {
                None if !written => key.report("secret", "is missing: it signs the gateway's records"),
                Some(secret) if secret.expose().len() < 32 => {
                    key.report(
                        "secret",
                        "is shorter than 32 bytes: `openssl rand -base64 32` makes a good one",
                    );
                }
                _ => {}
            }
            SigningMaterial::Hs256(secret?)
        }
        SigningAlg::Ed25519 => SigningMaterial::Ed25519(key.need::<Ed25519Key>("public_key")?.0),
    };
    Some(SigningKey { id: id?, material })
}

fn suppression(section: &mut Section<'_>) -> Option<Suppression> {
    let rule = section.need("rule");
    if rule == Some(RuleId::AlertStorm) {
        section.report(
            "rule",
            "cannot be alert_storm, which speaks in the place of other rules' cases: suppress the rule that storms, which \
             ends the storm, too",
        );
    }
    let (author, reason) = (section.need::<String>("author"), section.need::<String>("reason"));
    let expires = section.need("expires");
    let tenant = section.get("tenant");
    let (sub, client_id, gateway, cidr) = section.table("match", |matched| {
        (matched.get("sub"), matched.get("client_id"), matched.get("gateway"), matched.get("cidr"))
    });
    let name = format!("{}: {}", author?, reason?);
    Some(Suppression { name, rule: rule?, tenant, sub, client_id, gateway, cidr, expires: expires? })
}

fn destination(section: &mut Section<'_>, credentials: Option<&Credentials>) -> Option<Destination> {
    let name = section.need::<Name>("name");
    let kind = match section.need("kind") {
        Some(DestinationWord::Webhook) => webhook(section, credentials),
        Some(DestinationWord::File) => section.need("path").map(|path| DestinationKind::File { path }),
        None => {
            // What else it needs depends on the kind.
            section.ignore_rest();
            None
        }
    };
    Some(Destination { name: name?.0, kind: kind? })
}

fn webhook(section: &mut Section<'_>, credentials: Option<&Credentials>) -> Option<DestinationKind> {
    let url = section.need::<HttpUrl>("url");
    let allow_private = section.or("allow_private", false);
    let written = section.has("secret");
    let mut secrets = section.secrets("secret");
    if !written {
        secrets.extend(credentials.map(|all| all.webhook_secret.clone()));
    }
    if secrets.is_empty() && !written {
        let message = "is missing, and there are no credentials to take `webhook_secret` from: write what \
                       the receiver checks signatures with";
        section.report("secret", message);
    }
    if secrets.iter().any(|secret| super::credentials::webhook_key(secret).is_none()) {
        section
            .report("secret", "is `whsec_` and 24 to 64 bytes in base64: `whsec_$(openssl rand -base64 32)`");
        return None;
    }
    Some(DestinationKind::Webhook { url: HookUrl::new(url?.0), secrets, allow_private })
}
