//! What a person who configures JWTrail sees: mistakes, precedence, redaction.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use expect_test::expect;

use super::*;

/// A folder with this `jwtrail.toml`, and what `--config` then says.
struct Written {
    folder: tempfile::TempDir,
    overrides: Overrides,
    environment: BTreeMap<String, String>,
}

impl Written {
    fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwtrail.toml");
        std::fs::write(&file, toml).unwrap();
        let data_dir = folder.path().join("data").display().to_string();
        let overrides = Overrides { config: Some(file), data_dir: Some(data_dir), ..Overrides::default() };
        Self { folder, overrides, environment: BTreeMap::new() }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn load(&self) -> Result<Config, ConfigError> {
        load(&self.overrides, &self.environment, MissingCredentials::Accept)
    }

    /// The text of the error, or of the effective configuration, without the folder's name.
    fn shown(&self) -> String {
        let text = match self.load() {
            Ok(config) => config.effective().to_owned(),
            Err(error) => error.to_string(),
        };
        text.replace(&format!("{}/", self.path().display()), "")
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let written = Written::new(
        r#"
            apl = "127.0.0.1:80"
            max_event_age = 40
            log = "jwtrail=loud"
            log_format = "xml"
            data_dir = 7

            [clickhouse]
            url = "https://writer:hunter2@db.example"
            password = { path = "/x" }

            [kafka.properties]
            security.protocol = "SSL"

            [[tenant]]
            name = "Acme"
            retention_days = 0

            [[tenant]]
            name = "globex"
            retention_days = "ninety"

            [[gateway]]
            name = "edge-1"
            zone = "outer"
            key_sha256 = "abc"
            signing = [{ id = "a", secret = "short" }, { id = "b", alg = "rs256" }, { id = "c", alg = "ed25519", secret = "hunter6" }]

            [[gateway]]
            name = "edge-2"
            zone = "edge"
            tenants = []

            [[issuer]]
            iss = "https://id.example"
            tenant = "acme"
            jwks = { file = "nowhere/keys.json" }

            [[issuer]]
            iss = "https://id.example"
            tenant = "acme"
            jwks = { url = "http://id.example/keys?k=hunter7" }

            [[issuer]]
            iss = "https://other.example"
            tenant = "acme"
            jwks = { file = "/dev/null", url = "https://id.example/keys", refresh = "1s" }

            [[suppress]]
            rule = "impossible_travels"
            author = "kim"
            expires = "tomorrow"
            match = { cidr = "192.0.2.0/240" }

            [[suppress]]
            rule = "alert_storm"
            author = "kim"
            reason = "too loud"
            expires = 2026-12-31T00:00:00Z

            [[destination]]
            name = "soc"
            kind = "webhook"
            url = "ftp://siem.example"
            secret = "hunter3"

            [[destination]]
            name = "soc"
            kind = "file"
            path = "alerts.jsonl"
            allow_private = true
        "#,
    )
    .env("JWTRAIL_API", "everywhere")
    .env("JWTRAIL_CLICKHUSE__URL", "http://127.0.0.1:8123")
    .env("JWTRAIL_EGRESS", "acme")
    .env("JWTRAIL_GRACE", "")
    .env("JWTRAIL_DOOR__INGEST_KEY", "hunter4")
    .env("JWTRAIL_DOOR__INGEST_KEY__FILE", "hunter5");
    let shown = written.shown();
    assert!(!shown.contains("hunter"), "a secret is shown: {shown}");
    expect![[r#"
        the configuration has 37 problems:
          api (JWTRAIL_API): is an address and a port, such as "127.0.0.1:8080" or "[::1]:8080"
          apl (jwtrail.toml, line 2): no such key; did you mean `api`?
          clickhouse.password (jwtrail.toml, line 10): is a secret: write "…", { file = "PATH" } or { env = "NAME" }
          clickhouse.url (jwtrail.toml, line 9): must not hold a user or a password: they have keys of their own
          clickhuse (JWTRAIL_CLICKHUSE__URL): no such key; did you mean `clickhouse`?
          destination.name: there are two of `soc`: give one another name
          destination[0].secret: is `whsec_` and 24 to 64 bytes in base64: `whsec_$(openssl rand -base64 32)`
          destination[0].url (jwtrail.toml, line 64): is a URL of http or https
          destination[1].allow_private (jwtrail.toml, line 71): no such key; there are name, kind, path
          door.ingest_key.file (JWTRAIL_DOOR__INGEST_KEY__FILE): another JWTRAIL_ variable sets the same key, whole or in part: keep one
          egress (JWTRAIL_EGRESS): is a list: it can only be written in the file
          gateway[0].key_sha256 (jwtrail.toml, line 26): is 64 hexadecimal digits: `printf %s KEY | sha256sum`
          gateway[0].signing[0].secret: is shorter than 32 bytes: `openssl rand -base64 32` makes a good one
          gateway[0].signing[1].alg (jwtrail.toml, line 27): is one of hs256, ed25519
          gateway[0].signing[1].secret: is missing: it signs the gateway's records
          gateway[0].signing[2].public_key: is missing, and has no default
          gateway[0].signing[2].secret (jwtrail.toml, line 27): no such key; there are id, alg, public_key
          gateway[0].tenants: is missing: name the tenants that it serves
          gateway[0].zone (jwtrail.toml, line 25): is one of edge, internal
          gateway[1].tenants: is empty, so it could send nothing: name the tenants that it serves
          issuer.iss: there are two of `https://id.example` of tenant `acme`: give one another name
          issuer[0].jwks.file: nowhere/keys.json cannot be read: No such file or directory (os error 2)
          issuer[1].jwks.url: is not https: who is on the way could put keys of his own in; within a network that you trust, write `allow_private = true`
          issuer[2].jwks.refresh: is at least "10s": the server is somebody's
          issuer[2].jwks.url: is written beside `file`: keep one
          kafka.brokers: is missing: `[kafka.properties]` alone does not turn Kafka on
          log (jwtrail.toml, line 4): is a level (error, warn, info, debug, trace) or "TARGET=LEVEL,…"
          log_format (jwtrail.toml, line 5): is one of auto, text, json
          max_event_age (jwtrail.toml, line 3): is a span of time, such as "500ms", "30s", "5m", "12h" or "40d"
          suppress[0].expires (jwtrail.toml, line 52): not an RFC 3339 time such as 2026-11-23T10:15:00.123Z
          suppress[0].match.cidr (jwtrail.toml, line 53): is a network or an address, such as "192.0.2.0/24" or "2001:db8::/32"
          suppress[0].reason: is missing, and has no default
          suppress[0].rule (jwtrail.toml, line 50): is one of impossible_travel, token_replay, shared_token, token_leak, token_in_request, audit_gap, gateway_silent, gateway_misses_client_ip, gateway_clock_skew, alert_storm, log_truncated, delivery_given_up
          suppress[1].rule: cannot be alert_storm, which speaks in the place of other rules' cases: suppress the rule that storms, which ends the storm, too
          tenant[0].name (jwtrail.toml, line 16): `Acme` is not a name: 1 to 63 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit
          tenant[0].retention_days: is at least 1 day
          tenant[1].retention_days (jwtrail.toml, line 21): is a number: write it without quotes"#]].assert_eq(&shown);
}

#[test]
fn of_two_with_one_name_the_second_is_reported() {
    let tenant = "[[tenant]]\nname = \"acme\"\n";
    let issuer = "[[issuer]]\niss = \"https://id.example\"\ntenant = \"acme\"\n";
    let other = issuer.replace("acme", "globex");
    expect![[r#"
        the configuration has 2 problems:
          issuer.iss: there are two of `https://id.example` of tenant `acme`: give one another name
          tenant.name: there are two of `acme`: give one another name"#]]
    .assert_eq(&Written::new(&[tenant, tenant, issuer, &other, issuer].concat()).shown());
}

#[test]
fn a_redis_is_single_or_a_cluster() {
    let check = |toml: &str, expected: &str| {
        let told = match Written::new(&format!("[redis]\n{toml}")).load() {
            Ok(config) => config.redis.map_or_else(String::new, |redis| {
                let kind = if redis.is_cluster { "cluster" } else { "single" };
                format!("{kind}, tls {}, {}", redis.is_tls, redis.nodes.join(" "))
            }),
            Err(error) => error.problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "),
        };
        assert!(told.contains(expected), "{toml}: {told}");
        assert!(!told.contains("hunter"), "{told}");
    };
    check("", "");
    check("url = \"redis://192.0.2.1\"", "single, tls false, 192.0.2.1:6379");
    check("url = \"rediss://[2001:db8::1]:7000/\"\nca = \"ca.pem\"", "single, tls true, [2001:db8::1]:7000");
    check(
        "nodes = [\"a.example:7000\", \"b.example:7001\"]",
        "cluster, tls false, a.example:7000 b.example:7001",
    );
    check(
        "nodes = \"a.example:7000,b.example:7001\"\ntls = true",
        "cluster, tls true, a.example:7000 b.example:7001",
    );
    check("nodes = [\"a.example\"]", "jwtrail.toml, line 2): is a list of hosts and ports");
    check("url = \"redis://kim:hunter2@192.0.2.1\"", "must not hold a user or a password");
    check("url = \"redis://192.0.2.1/3\"", "is a URL, such as");
    check("url = \"http://192.0.2.1\"", "is a URL, such as");
    check("url = \"redis://a.example\"\nnodes = \"b.example:7001\"", "keep one of them");
    check("url = \"redis://a.example\"\ntls = true", "a `url` says it by its scheme");
    check("url = \"redis://a.example\"\nca = \"ca.pem\"", "redis.ca: is for TLS");
    check("password = \"hunter2\"", "redis.url: is missing");
}

#[test]
fn a_broken_file_is_told_by_line_and_not_quoted() {
    expect![[r#"
        the configuration has 2 problems:
          jwtrail.toml, line 3: not TOML: unclosed array, expected `]`
          jwtrail.toml, line 2: not TOML: invalid basic string, expected `"`"#]]
    .assert_eq(&Written::new("api = \"127.0.0.1:80\"\npassword = \"hunter2\nx = [1,").shown());
}

#[test]
fn a_file_that_was_named_must_exist() {
    let mut written = Written::new("");
    written.overrides.config = Some(written.path().join("other.toml"));
    expect![[r#"
        the configuration has a problem:
          the configuration file other.toml cannot be read: No such file or directory (os error 2)"#]]
    .assert_eq(&written.shown());
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let mut written = Written::new(
        "api = \"127.0.0.1:1\"\nrun_metrics = \"127.0.0.1:1\"\ndeliver_metrics = \"127.0.0.1:1\"",
    )
    .env("JWTRAIL_API", "127.0.0.1:2")
    .env("JWTRAIL_RUN_METRICS", "127.0.0.1:2");
    written.overrides.api = Some("127.0.0.1:3".to_owned());
    let config = written.load().unwrap();
    let listeners = [config.api, config.run_metrics, config.deliver_metrics, config.clickhouse.listen];
    assert_eq!(listeners.map(|at| at.port()), [3, 2, 1, 8123]);
}

#[test]
fn secrets_come_as_text_from_a_file_or_from_the_environment() {
    let written = Written::new(
        r#"
            [door]
            ingest_key = { file = "nowhere" }
            [clickhouse]
            password = "text"
            analyst_password = { env = "JWTRAIL_SOME_NAME" }
        "#,
    );
    let file = written.path().join("key");
    std::fs::write(&file, "from-a-file\n").unwrap();
    let written = written
        .env("JWTRAIL_SOME_NAME", "from-the-environment")
        .env("JWTRAIL_DOOR__INGEST_KEY__FILE", file.to_str().unwrap());
    let config = written.load().unwrap();
    assert_eq!(config.clickhouse.analyst_password.expose(), "from-the-environment");
    assert_eq!(config.ingest_key().unwrap().expose(), "from-a-file");
    assert_eq!(config.clickhouse.password.expose(), "text");
}

#[test]
fn a_key_that_is_needed_and_nowhere_says_what_to_do() {
    let config = Written::new("").load().unwrap();
    let shown = config.ingest_key().unwrap_err().to_string();
    let data_dir = config.data_dir.display().to_string();
    expect![[r#"
        the configuration has a problem:
          door.ingest_key: is not set, and there is no data/credentials.toml: set it, or start `jwtrail up` once, which makes that file, and use its data directory"#]].assert_eq(&shown.replace(&data_dir, "data"));
}

/// Every key once, and of lists of tables one of each kind.
const EVERYTHING: &str = r#"
    data_dir = "elsewhere"
    api = "127.0.0.1:18080"
    run_metrics = "127.0.0.1:19101"
    deliver_metrics = "127.0.0.1:19102"
    log = "jwtrail=debug,warn"
    log_format = "json"
    grace = "90s"
    max_event_age = "12h"

    [door]
    ingest_key = "hunter2"

    [clickhouse]
    url = "https://db.example:8443/"
    listen = "127.0.0.1:18123"
    user = "writer"
    database = "audit"
    password = "hunter2"
    analyst_password = "hunter2"

    [kafka]
    brokers = "b1.example:9092,b2.example:9092"
    properties = { "sasl.password" = "hunter2", security.protocol = "SASL_SSL", linger.ms = 5 }

    [journal]
    max_bytes = "512MiB"
    fsync = "interval"

    [geo]
    city = "GeoLite2-City.mmdb"
    asn = ["GeoLite2-ASN.mmdb"]
    country = []
    networks = "networks.csv"
    overlay = "overlay.csv"

    [[tenant]]
    name = "acme"
    retention_days = 30
    signatures = "require"

    [[issuer]]
    iss = "https://id.example/t/acme"
    tenant = "acme"
    jwks = { url = "https://id.example/keys?k=hunter2", refresh = "1h", allow_private = true }
    subject_space = "people"
    preset = "keycloak"
    clients_match = "service-account-*"
    max_lifetime = "1h"

    [[issuer]]
    iss = "https://other.example"
    tenant = "acme"
    jwks = { file = "/dev/null" }

    [[gateway]]
    name = "edge-1"
    zone = "edge"
    tenants = ["acme"]
    key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

    [[gateway.signing]]
    id = "k1"
    alg = "hs256"
    secret = "hunter2hunter2hunter2hunter2hunter2"

    [[gateway.signing]]
    id = "k2"
    alg = "ed25519"
    public_key = """
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""

    [[client]]
    id = "web"
    tenant = "acme"
    backends = ["192.0.2.0/24", "AS64500"]

    [[egress]]
    tenant = "acme"
    label = "headquarters"
    cidrs = ["198.51.100.7", "2001:db8::/32"]

    [[suppress]]
    rule = "impossible_travel"
    tenant = "acme"
    match = { sub = "alice", client_id = "web", gateway = "edge-1", cidr = "203.0.113.0/24" }
    author = "kim"
    reason = "on a world tour"
    expires = 2026-12-31T00:00:00Z

    [[destination]]
    name = "soc"
    kind = "webhook"
    url = "https://siem.example/hook/capability-in-the-path"
    secret = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"]
    allow_private = true

    [[destination]]
    name = "archive"
    kind = "file"
    path = "alerts.jsonl"
"#;

#[test]
fn everything_is_shown_with_where_it_came_from_and_secrets_redacted() {
    let mut written = Written::new(EVERYTHING);
    written.overrides.data_dir = None;
    let shown = written.shown();
    for secret in ["hunter2", "whsec_", "capability"] {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }
    expect![[r#"
        data_dir = "elsewhere"  # jwtrail.toml, line 2
        api = "127.0.0.1:18080"  # jwtrail.toml, line 3
        run_metrics = "127.0.0.1:19101"  # jwtrail.toml, line 4
        deliver_metrics = "127.0.0.1:19102"  # jwtrail.toml, line 5
        log = "jwtrail=debug,warn"  # jwtrail.toml, line 6
        log_format = "json"  # jwtrail.toml, line 7
        grace = "90s"  # jwtrail.toml, line 8
        max_event_age = "12h"  # jwtrail.toml, line 9
        heartbeat_every = "30s"  # default

        [door]
        ingest_key = "[redacted]"  # jwtrail.toml, line 12

        [clickhouse]
        url = "https://db.example:8443"  # jwtrail.toml, line 15
        listen = "127.0.0.1:18123"  # jwtrail.toml, line 16
        user = "writer"  # jwtrail.toml, line 17
        database = "audit"  # jwtrail.toml, line 18
        answer_within = "30s"  # default
        insert_within = "3m"  # default
        password = "[redacted]"  # jwtrail.toml, line 19
        analyst_password = "[redacted]"  # jwtrail.toml, line 20

        [kafka]
        brokers = "b1.example:9092,b2.example:9092"  # jwtrail.toml, line 23
        properties = { "linger.ms" = "[redacted]", "sasl.password" = "[redacted]", "security.protocol" = "[redacted]" }  # jwtrail.toml, line 24

        [journal]
        max_bytes = "512MiB"  # jwtrail.toml, line 27
        fsync = "interval"  # jwtrail.toml, line 28

        [spool]
        dir = "elsewhere/spool"  # default
        max_bytes = "1GiB"  # default

        [keys]
        master = "file:elsewhere/keys/master.key"  # default

        [geo]
        city = ["GeoLite2-City.mmdb"]  # jwtrail.toml, line 31
        asn = ["GeoLite2-ASN.mmdb"]  # jwtrail.toml, line 32
        country = []  # jwtrail.toml, line 33
        networks = "networks.csv"  # jwtrail.toml, line 34
        overlay = "overlay.csv"  # jwtrail.toml, line 35

        [[tenant]]
        name = "acme"  # jwtrail.toml, line 38
        retention_days = 30  # jwtrail.toml, line 39
        signatures = "require"  # jwtrail.toml, line 40

        [[issuer]]
        iss = "https://id.example/t/acme"  # jwtrail.toml, line 43
        tenant = "acme"  # jwtrail.toml, line 44
        subject_space = "people"  # jwtrail.toml, line 46
        preset = "keycloak"  # jwtrail.toml, line 47
        clients_match = "service-account-*"  # jwtrail.toml, line 48
        max_lifetime = "1h"  # jwtrail.toml, line 49

        [issuer.jwks]
        url = "https://id.example/keys?[redacted]"  # jwtrail.toml, line 45
        refresh = "1h"  # jwtrail.toml, line 45
        allow_private = true  # jwtrail.toml, line 45

        [[issuer]]
        iss = "https://other.example"  # jwtrail.toml, line 52
        tenant = "acme"  # jwtrail.toml, line 53

        [issuer.jwks]
        file = "/dev/null"  # jwtrail.toml, line 54

        [[gateway]]
        name = "edge-1"  # jwtrail.toml, line 57
        zone = "edge"  # jwtrail.toml, line 58
        tenants = ["acme"]  # jwtrail.toml, line 59
        key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # jwtrail.toml, line 60

        [[gateway.signing]]
        id = "k1"  # jwtrail.toml, line 63
        alg = "hs256"  # jwtrail.toml, line 64
        secret = "[redacted]"  # jwtrail.toml, line 65

        [[gateway.signing]]
        id = "k2"  # jwtrail.toml, line 68
        alg = "ed25519"  # jwtrail.toml, line 69
        public_key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # jwtrail.toml, line 70

        [[client]]
        id = "web"  # jwtrail.toml, line 77
        tenant = "acme"  # jwtrail.toml, line 78
        backends = ["192.0.2.0/24", "AS64500"]  # jwtrail.toml, line 79

        [[egress]]
        tenant = "acme"  # jwtrail.toml, line 82
        label = "headquarters"  # jwtrail.toml, line 83
        cidrs = ["198.51.100.7/32", "2001:db8::/32"]  # jwtrail.toml, line 84

        [[suppress]]
        rule = "impossible_travel"  # jwtrail.toml, line 87
        author = "kim"  # jwtrail.toml, line 90
        reason = "on a world tour"  # jwtrail.toml, line 91
        expires = "2026-12-31T00:00:00.000Z"  # jwtrail.toml, line 92
        tenant = "acme"  # jwtrail.toml, line 88

        [suppress.match]
        sub = "alice"  # jwtrail.toml, line 89
        client_id = "web"  # jwtrail.toml, line 89
        gateway = "edge-1"  # jwtrail.toml, line 89
        cidr = "203.0.113.0/24"  # jwtrail.toml, line 89

        [[destination]]
        name = "soc"  # jwtrail.toml, line 95
        kind = "webhook"  # jwtrail.toml, line 96
        url = "https://siem.example/[redacted]"  # jwtrail.toml, line 97
        allow_private = true  # jwtrail.toml, line 99
        secret = ["[redacted]", "[redacted]"]  # jwtrail.toml, line 98

        [[destination]]
        name = "archive"  # jwtrail.toml, line 102
        kind = "file"  # jwtrail.toml, line 103
        path = "alerts.jsonl"  # jwtrail.toml, line 104
    "#]].assert_eq(&shown);
    let debug = format!("{:?}", written.load().unwrap());
    for secret in ["hunter2", "whsec_", "capability"] {
        assert!(!debug.contains(secret), "{secret} is shown: {debug}");
    }
}

#[test]
fn the_table_of_keys_is_what_the_code_reads() {
    let mut written = Written::new(EVERYTHING);
    written.overrides.data_dir = None;
    let (_, asked) =
        load_noting_keys(&written.overrides, &written.environment, MissingCredentials::Accept).unwrap();
    let sections = [
        "door",
        "clickhouse",
        "kafka",
        "journal",
        "spool",
        "redis",
        "keys",
        "geo",
        "tenant",
        "issuer",
        "issuer[].jwks",
    ];
    let sections = sections.into_iter().chain(["gateway", "gateway[].signing", "client", "egress"]);
    let sections: BTreeSet<_> = sections.chain(["suppress", "suppress[].match", "destination"]).collect();
    let read: BTreeSet<_> = asked.iter().map(String::as_str).filter(|key| !sections.contains(key)).collect();
    let told: BTreeSet<_> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(read, told);
}

#[test]
fn the_table_of_keys_tells_the_defaults() {
    let least = r#"
        [[tenant]]
        name = "acme"
        [[issuer]]
        iss = "https://id.example"
        tenant = "acme"
        jwks = { url = "https://id.example/keys" }
        [[gateway]]
        name = "edge-1"
        zone = "edge"
        tenants = ["acme"]
        signing = [{ id = "k1", secret = "01234567890123456789012345678901" }]
        [[destination]]
        name = "soc"
        kind = "webhook"
        url = "https://siem.example"
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    "#;
    let mut written = Written::new(least);
    written.overrides.data_dir = None;
    let (mut section, mut shown) = (String::new(), BTreeSet::new());
    for line in written.shown().lines() {
        if let Some(header) = line.strip_prefix("[[") {
            section = format!("{}[].", header.trim_end_matches(']').replace('.', "[]."));
        } else if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            // A table of one of a list: `[issuer.jwks]` below `[[issuer]]`.
            section = match header
                .strip_prefix(section.split("[]").next().unwrap())
                .filter(|_| section.contains("[]"))
            {
                Some(inner) => format!("{}[]{inner}.", section.split("[]").next().unwrap()),
                None => format!("{header}."),
            };
        } else if let Some((entry, "default")) = line.split_once("  # ") {
            let (key, value) = entry.split_once(" = ").unwrap();
            shown.insert(format!("{section}{key} = {value}"));
        }
    }
    // Where the geo files lie depends on the machine.
    shown.retain(|line| !line.starts_with("geo."));
    let told = KEYS.iter().filter_map(|key| Some(format!("{} = {}", key.path, key.default?)));
    assert_eq!(shown, told.collect());
}

#[test]
fn credentials_are_made_once_and_are_private() {
    let written = Written::new("");
    let make = || load(&written.overrides, &written.environment, MissingCredentials::Make);
    let first = make().unwrap();
    let path = Credentials::path(&first.data_dir);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(&first.data_dir).unwrap().count(), 1, "the draft is left behind");
    let again = make().unwrap();
    assert_eq!(first.ingest_key().unwrap().expose(), again.ingest_key().unwrap().expose());
    assert_ne!(first.clickhouse.password.expose(), first.clickhouse.analyst_password.expose());

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    expect![[r#"
        the configuration has a problem:
          data_dir: data/credentials.toml is readable by others (mode 0640): run `chmod 600 data/credentials.toml`, and draw new secrets if they may have been seen"#]].assert_eq(&written.shown());
}

#[test]
fn two_that_make_the_credentials_at_once_agree() {
    let written = Written::new("");
    let make = || load(&written.overrides, &written.environment, MissingCredentials::Make).unwrap();
    let keys: BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        let configs = threads.into_iter().map(|thread| thread.join().unwrap());
        configs.map(|config| config.ingest_key().unwrap().expose().to_owned()).collect()
    });
    assert_eq!(keys.len(), 1);
}

#[test]
fn credentials_that_were_edited_badly_say_which_and_quote_nothing() {
    let written = Written::new("");
    let data_dir = written.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let path = Credentials::path(&data_dir);
    std::fs::write(
        &path,
        "ingest_key = \"hunter2\"\nwebhook_secret = \"hunter2hunter2hunter2\"\nother = 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let shown = written.shown();
    assert!(!shown.contains("hunter"), "{shown}");
    expect![[r#"
        the configuration has a problem:
          data_dir: data/credentials.toml is not as it was made: admin_key: is missing; analyst_password: is missing; clickhouse_password: is missing; ingest_key: is too short; other (credentials.toml, line 3): no such key; there are ingest_key, admin_key, clickhouse_password, analyst_password, webhook_secret; webhook_secret: is `whsec_` and 24 to 64 bytes in base64; mend it, or move it away to have new ones drawn (gateways and receivers then need the new ones)"#]].assert_eq(&shown);
}
