//! Every key of the configuration: what the README's table says, held to the code by tests on both sides.

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyInfo {
    /// As in the file; `[]` marks a list of tables.
    pub(crate) path: &'static str,
    /// As TOML; `None` if there is none.
    pub(crate) default: Option<&'static str>,
    pub(crate) meaning: &'static str,
}

const fn key(path: &'static str, default: Option<&'static str>, meaning: &'static str) -> KeyInfo {
    KeyInfo { path, default, meaning }
}

/// In the order of the README.
pub(crate) const KEYS: &[KeyInfo] = &[
    key(
        "data_dir",
        Some("\"data\""),
        "Where the journal, the embedded ClickHouse and `credentials.toml` lie",
    ),
    key("api", Some("\"127.0.0.1:8080\""), "Where `serve` listens; `up` has everything there"),
    key(
        "issuer_base",
        None,
        "What stands before `/t/TENANT` in every `iss` of ours, as clients reach it; else `http://` and `api`",
    ),
    key("run_metrics", Some("\"127.0.0.1:9101\""), "Where `run` listens with metrics and health"),
    key("deliver_metrics", Some("\"127.0.0.1:9102\""), "Where `deliver` listens with metrics and health"),
    key("log", Some("\"info\""), "The log's filter: a level, or `TARGET=LEVEL,…`"),
    key("log_format", Some("\"auto\""), "`text`, `json`, or `auto`: text on a terminal, JSON otherwise"),
    key("grace", Some("\"30s\""), "How long a shutdown may drain before it aborts"),
    key("max_event_age", Some("\"40d\""), "An event that claims to be older is clamped to when it arrived"),
    key(
        "heartbeat_every",
        Some("\"30s\""),
        "How often each source says that it is there; after three that are missing `gateway_silent` speaks",
    ),
    key(
        "door.ingest_key",
        None,
        "Secret. May name any gateway and tenant; else `ingest_key` of the credentials",
    ),
    key("clickhouse.url", None, "A ClickHouse server instead of the embedded engine"),
    key("clickhouse.listen", Some("\"127.0.0.1:8123\""), "Where the embedded engine listens"),
    key("clickhouse.user", Some("\"jwtrail\""), "The user that writes"),
    key("clickhouse.database", Some("\"jwtrail\""), "The database"),
    key("clickhouse.answer_within", Some("\"30s\""), "A question that takes longer is asked again later"),
    key(
        "clickhouse.insert_within",
        Some("\"3m\""),
        "An insert that takes longer may be stored or not: it is repeated, and stored once",
    ),
    key("clickhouse.password", None, "Secret. Else `clickhouse_password` of the credentials"),
    key(
        "clickhouse.analyst_password",
        None,
        "Secret. Of the embedded engine's read-only user `analyst`; else of the credentials",
    ),
    key("kafka.brokers", None, "`HOST:PORT,…`: Apache Kafka instead of the journal"),
    key("kafka.properties", None, "Secrets. Any setting of librdkafka, such as `security.protocol`"),
    key(
        "journal.max_bytes",
        Some("\"10GiB\""),
        "The journal's disk limit: above it the oldest segments go, read or not",
    ),
    key(
        "journal.fsync",
        Some("\"always\""),
        "`always` survives a power failure; `interval` survives kill -9 and loses up to a second of power failure",
    ),
    key(
        "spool.dir",
        Some("\"data/spool\""),
        "Where the door over Kafka keeps what it takes while Kafka is away; one process's own. By default below `data_dir`",
    ),
    key(
        "spool.max_bytes",
        Some("\"1GiB\""),
        "The spool's limit, at least 16MiB: beyond it callers get 503, and nothing that was taken is lost",
    ),
    key(
        "keys.master",
        Some("\"file:data/keys/master.key\""),
        "The master key's file, made once; instances that share a log share the key. By default below `data_dir`",
    ),
    key(
        "redis.url",
        None,
        "`redis://HOST:PORT`, `rediss://` for TLS: sessions in Redis 7 instead of the data directory",
    ),
    key("redis.nodes", None, "`HOST:PORT,…` of a Redis Cluster, in place of `redis.url`"),
    key("redis.tls", None, "Whether the Cluster's nodes speak TLS"),
    key("redis.ca", None, "A PEM file of the CAs that signed Redis' certificate; else the system's"),
    key("redis.username", None, "The user, if it is not `default`"),
    key("redis.password", None, "Secret. Its password"),
    key(
        "geo.city",
        None,
        "MMDB files, DB-IP's or GeoLite2/GeoIP2 City's layout; default: those below `.deps`",
    ),
    key(
        "geo.asn",
        None,
        "CSV ranges with organisation or GeoLite2 ASN MMDB files; default: those below `.deps`",
    ),
    key("geo.country", None, "MMDB files: the second opinion on the country; default: those below `.deps`"),
    key("geo.networks", None, "A CSV file whose lines override the shipped `networks.csv`"),
    key("geo.overlay", None, "A CSV file, CIDR to place, kind and label: wins over all"),
    key("tenant[].name", None, "Needed. Tenants need not be declared: an unknown one takes the defaults"),
    key("tenant[].retention_days", Some("90"), "How long its events stay in ClickHouse"),
    key(
        "tenant[].signatures",
        Some("\"record\""),
        "Of records: `require` (unsigned is `unattested`), `record` or `off`",
    ),
    key("issuer[].iss", None, "Needed. Compared as one exact string"),
    key("issuer[].tenant", None, "Needed. Whose tokens it issues"),
    key("issuer[].subject_space", None, "Issuers of the same space share their subjects"),
    key("issuer[].preset", None, "How its client subjects look: `keycloak`, `auth0`, `entra` or `okta`"),
    key(
        "issuer[].clients_match",
        None,
        "A subject that matches is a client; `*` stands for any run of characters",
    ),
    key("issuer[].max_lifetime", None, "A token that lives longer has the verdict `lifetime_too_long`"),
    key("issuer[].jwks.file", None, "Its JWK set, read at the start"),
    key("issuer[].jwks.url", None, "Its JWK set, fetched; https, and a public address"),
    key(
        "issuer[].jwks.refresh",
        Some("\"5m\""),
        "How often it is fetched; also when a token names an unknown key, at most once a minute",
    ),
    key(
        "issuer[].jwks.allow_private",
        Some("false"),
        "Whether the server may have a private address, and speak http",
    ),
    key("gateway[].name", None, "Needed. What its credential fixes as `source.gateway`"),
    key("gateway[].zone", None, "Needed. `edge` (clients connect here) or `internal`"),
    key("gateway[].tenants", None, "Needed. The tenants that it may name"),
    key("gateway[].key_sha256", None, "SHA-256 of its API key at the door"),
    key("gateway[].signing[].id", None, "Needed. The key's id in `jwtrail-signature`"),
    key("gateway[].signing[].alg", Some("\"hs256\""), "`hs256` (one secret, two holders) or `ed25519`"),
    key("gateway[].signing[].secret", None, "Needed by `hs256`. Secret, at least 32 bytes"),
    key("gateway[].signing[].public_key", None, "Needed by `ed25519`: PEM, or its 32 bytes in base64"),
    key("client[].id", None, "Needed. A `client_id`"),
    key("client[].tenant", None, "Needed"),
    key(
        "client[].backends",
        None,
        "Networks or AS numbers of its server-side callers (BFF, SSR): an origin there is the client's",
    ),
    key("egress[].tenant", None, "Needed"),
    key("egress[].label", None, "Needed. The organisation's name for it"),
    key("egress[].cidrs", None, "Networks that the organisation leaves from: one origin"),
    key("suppress[].rule", None, "Needed. The rule that is muted"),
    key("suppress[].author", None, "Needed. Who muted it"),
    key("suppress[].reason", None, "Needed. Why"),
    key("suppress[].expires", None, "Needed. When it ends, by event time"),
    key("suppress[].tenant", None, "Only this tenant's"),
    key("suppress[].match.sub", None, "Only this subject's"),
    key("suppress[].match.client_id", None, "Only this client's"),
    key("suppress[].match.gateway", None, "Only this gateway's"),
    key("suppress[].match.cidr", None, "Only where an address lies in it"),
    key("destination[].name", None, "Needed. Names its consumer group: renamed, it starts anew"),
    key("destination[].kind", None, "Needed. `webhook` (Standard Webhooks) or `file` (JSON lines)"),
    key("destination[].url", None, "Needed by `webhook`"),
    key(
        "destination[].secret",
        None,
        "Secret, `whsec_…`; a list of two signs with both. Else `webhook_secret` of the credentials",
    ),
    key("destination[].allow_private", Some("false"), "Whether the receiver may have a private address"),
    key("destination[].path", None, "Needed by `file`"),
];
