//! As meant: what the rest of the program sees, checked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{ConfigError, Credentials};
use crate::model::{TenantId, UnixMs, Zone};

/// A secret: never printed, wiped when dropped.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself: for a signature or a header, never for a text that a person or a file may see.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Everything that was configured, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    /// Where `up` listens with everything, and `serve` with the API.
    pub(crate) api: SocketAddr,
    /// Where `run` listens with metrics and health.
    pub(crate) run_metrics: SocketAddr,
    /// Where `deliver` listens with metrics and health.
    pub(crate) deliver_metrics: SocketAddr,
    /// The log's filter, such as `info` or `jwtrail=debug,warn`.
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    /// How long draining may take before the process aborts without committing.
    pub(crate) grace: Duration,
    pub(crate) tenants: HashMap<TenantId, Tenant>,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) clients: Vec<ClientBackends>,
    pub(crate) egress: Vec<Egress>,
    pub(crate) suppressions: Vec<Suppression>,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) geo: GeoFiles,
    pub(crate) max_event_age: Duration,
    /// What stands before `/t/{tenant}` in every `iss` of ours.
    pub(crate) issuer_base: String,
    /// How often each source says that it is there.
    pub(crate) heartbeat_every: Duration,
    pub(crate) kafka: Option<KafkaConfig>,
    pub(crate) clickhouse: ClickHouseConfig,
    pub(crate) journal: JournalConfig,
    pub(crate) spool: SpoolConfig,
    /// `None`: sessions lie in the data directory.
    pub(crate) redis: Option<RedisConfig>,
    /// The file of the master key.
    pub(crate) master_key: PathBuf,
    pub(super) ingest_key: Option<Secret>,
    /// Opens the whole admin API. `None`: named keys alone do.
    pub(crate) admin_key: Option<Secret>,
    /// What `jwtrail check` prints.
    pub(super) effective: String,
}

impl Config {
    /// The whole configuration as TOML, each line with where it came from, secrets redacted.
    pub(crate) fn effective(&self) -> &str {
        &self.effective
    }

    /// The key that may name any gateway and tenant, and from which the door's and the walk's keys are derived.
    pub(crate) fn ingest_key(&self) -> Result<&Secret, ConfigError> {
        self.ingest_key.as_ref().ok_or_else(|| {
            let file = Credentials::path(&self.data_dir);
            ConfigError::one(
                "door.ingest_key",
                format!(
                    "is not set, and there is no {}: set it, or start `jwtrail up` once, which makes that file, and \
                     use its data directory",
                    file.display()
                ),
            )
        })
    }
}

crate::model::words! {
    /// How log lines are written.
    LogFormat {
        /// `text` on a terminal, `json` otherwise.
        Auto = "auto",
        Text = "text",
        Json = "json",
    }
}

/// `[[tenant]]`. Tenants need not be declared: an unknown one takes the defaults.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    /// Days that its events stay in ClickHouse: 90, never 0.
    pub(crate) retention_days: u16,
    pub(crate) signatures: Signatures,
}

crate::model::words! {
    /// What a tenant demands of record signatures.
    Signatures {
        /// Without a valid one the verdict is `unattested`.
        Require = "require",
        /// A valid one raises the proof; a missing one changes nothing.
        Record = "record",
        Off = "off",
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self { retention_days: 90, signatures: Signatures::Record }
    }
}

/// `[[issuer]]`.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    /// Compared as one exact string.
    pub(crate) iss: String,
    pub(crate) tenant: TenantId,
    /// Its JWK set (RFC 7517, section 5). `None`: its keys are not judged.
    pub(crate) jwks: Option<JwksSource>,
    /// Issuers of the same space share their subjects.
    pub(crate) subject_space: Option<String>,
    pub(crate) preset: Option<IssuerPreset>,
    /// A subject that matches (`*` stands for any run of characters) is a client.
    pub(crate) clients_match: Option<String>,
    pub(crate) max_lifetime: Option<Duration>,
}

/// Where an issuer's JWK set comes from.
#[derive(Clone, Debug)]
pub(crate) enum JwksSource {
    File(PathBuf),
    Url(JwksUrl),
}

/// A JWK set that is fetched.
#[derive(Clone)]
pub(crate) struct JwksUrl {
    /// Of https, unless `allow_private`.
    pub(crate) url: reqwest::Url,
    /// How often it is fetched anew.
    pub(crate) refresh: Duration,
    /// Whether the server may have an address that is not public.
    pub(crate) allow_private: bool,
}

impl std::fmt::Debug for JwksUrl {
    /// A query may hold a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }
}

crate::model::words! {
    /// How an identity provider's client subjects look.
    IssuerPreset { Keycloak = "keycloak", Auth0 = "auth0", Entra = "entra", Okta = "okta", }
}

/// `[[gateway]]`: a credential fixes name, zone and tenants.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(crate) zone: Zone,
    pub(crate) tenants: Vec<TenantId>,
    /// SHA-256 of its API key; `None` if it only writes to Kafka.
    pub(crate) key_sha256: Option<[u8; 32]>,
    pub(crate) signing: Vec<SigningKey>,
}

/// A key that signs a gateway's records.
#[derive(Clone, Debug)]
pub(crate) struct SigningKey {
    pub(crate) id: String,
    pub(crate) material: SigningMaterial,
}

/// What a record's signature is checked with. It decides the algorithm: what a header says of itself decides nothing.
#[derive(Clone, Debug)]
pub(crate) enum SigningMaterial {
    /// The secret that both sides hold, at least 32 bytes: a shorter one is weaker than its hash (RFC 7518, section 3.2).
    Hs256(Secret),
    /// A public key (RFC 8032): whoever reads the configuration cannot sign.
    Ed25519([u8; 32]),
}

crate::model::words! {
    /// How a gateway signs its records.
    SigningAlg { Hs256 = "hs256", Ed25519 = "ed25519", }
}

/// `[[client]]`: server-side callers (BFF, SSR) of a client. An origin there is the client's, not the subject's.
#[derive(Clone, Debug)]
pub(crate) struct ClientBackends {
    pub(crate) id: String,
    pub(crate) tenant: TenantId,
    pub(crate) backends: Vec<Backend>,
}

/// One declared backend network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Cidr(IpNet),
    Asn(u32),
}

/// `[[egress]]`: networks that one organisation leaves from are one origin.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    pub(crate) tenant: TenantId,
    pub(crate) label: String,
    pub(crate) cidrs: Vec<IpNet>,
}

/// `[[suppress]]`: a human's mute. Expires by event time.
#[derive(Clone, Debug)]
pub(crate) struct Suppression {
    /// Its stable name, `AUTHOR: REASON`: the column `suppressed_by`.
    pub(crate) name: String,
    pub(crate) rule: crate::model::RuleId,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) sub: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) cidr: Option<IpNet>,
    pub(crate) expires: UnixMs,
}

/// `[[destination]]`.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) kind: DestinationKind,
}

/// A webhook's URL, of http or https. Path and query may be a capability, so it is not shown.
#[derive(Clone)]
pub(crate) struct HookUrl(reqwest::Url);

impl HookUrl {
    pub(crate) const fn new(url: reqwest::Url) -> Self {
        Self(url)
    }

    /// The whole of it: for a request, never for a text that a person or a file may see.
    pub(crate) const fn expose(&self) -> &reqwest::Url {
        &self.0
    }
}

impl std::fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/[redacted]", self.0.origin().ascii_serialization())
    }
}

/// Where alerts go.
#[derive(Clone, Debug)]
pub(crate) enum DestinationKind {
    /// Standard Webhooks.
    Webhook {
        url: HookUrl,
        /// `whsec_…`, checked; at least one. Each signs, so that a receiver can change from one to the next.
        secrets: Vec<Secret>,
        /// Whether the receiver may have an address that is not public.
        allow_private: bool,
    },
    /// JSON lines.
    File { path: PathBuf },
}

crate::model::words! {
    /// `kind` of a `[[destination]]`.
    DestinationWord { Webhook = "webhook", File = "file", }
}

/// `[geo]`: files, each kind possibly split by address family; what is empty is not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GeoFiles {
    /// MMDB, DB-IP's or GeoLite2/GeoIP2 City's layout.
    pub(crate) city: Vec<PathBuf>,
    /// CSV ranges with organisation (`start,end,asn,organisation`), or GeoLite2 ASN MMDB.
    pub(crate) asn: Vec<PathBuf>,
    /// MMDB: the second opinion on the country.
    pub(crate) country: Vec<PathBuf>,
    /// Lines that override the shipped networks.csv.
    pub(crate) networks: Option<PathBuf>,
    /// CSV: CIDR → place, kind, label. Wins over all.
    pub(crate) overlay: Option<PathBuf>,
}

/// `[kafka]`.
#[derive(Clone, Debug)]
pub(crate) struct KafkaConfig {
    pub(crate) brokers: String,
    /// `[kafka.properties]`: passed through to librdkafka.
    pub(crate) properties: Vec<(String, Secret)>,
}

/// `[clickhouse]`: a server, or where the embedded engine listens.
#[derive(Clone, Debug)]
pub(crate) struct ClickHouseConfig {
    /// `None`: the embedded engine.
    pub(crate) url: Option<String>,
    /// Where the embedded engine listens.
    pub(crate) listen: SocketAddr,
    pub(crate) user: String,
    /// Empty if neither configured nor among the credentials.
    pub(crate) password: Secret,
    /// Of the embedded engine's user `analyst`, who may only read. Empty as above.
    pub(crate) analyst_password: Secret,
    pub(crate) database: String,
    /// How long a question may wait for its answer.
    pub(crate) answer_within: Duration,
    /// How long an insert may take once it was sent.
    pub(crate) insert_within: Duration,
}

/// `[spool]`: what the door takes while Kafka is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpoolConfig {
    /// One process's own.
    pub(crate) dir: PathBuf,
    /// Of events that have not followed yet; beyond, callers get 503.
    pub(crate) max_bytes: u64,
}

/// `[journal]`: the log of a single machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalConfig {
    /// The oldest segments go when it is hit, whatever a group has committed.
    pub(crate) max_bytes: u64,
    pub(crate) fsync: Fsync,
}

crate::model::words! {
    /// When an append is called durable.
    Fsync {
        /// On the disk: survives a power failure.
        Always = "always",
        /// In the system's cache, on the disk within a second: survives kill -9.
        Interval = "interval",
    }
}

/// `[redis]`: the store that the instances of a region share.
#[derive(Clone, Debug)]
pub(crate) struct RedisConfig {
    /// `HOST:PORT`: one, or some nodes of a Cluster, which tell the others.
    pub(crate) nodes: Vec<String>,
    pub(crate) is_cluster: bool,
    pub(crate) is_tls: bool,
    /// A PEM file of the CAs; else the system's.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
}
