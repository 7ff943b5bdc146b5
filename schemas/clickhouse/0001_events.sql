-- One row an event, as it was walked: what its source claimed, what was verified, where it came from.
--
-- Partitioned by the day of received_at, which is the log's own append time: a hostile `time` makes no partitions.
-- Text that is absent is '', an absent address is '::'; numbers are NULL where 0 would be a statement.
-- Plain String for what a client chooses; LowCardinality for our own words and for names of few.
CREATE TABLE IF NOT EXISTS events
(
    event_id          UUID COMMENT 'Names the event for ever',
    kind              LowCardinality(String) COMMENT 'What happened: accepted, rejected, login_…, issued, …',
    time              DateTime64(3, 'UTC') COMMENT 'When, at the source; received_at where the claim was out of bounds' CODEC(Delta, ZSTD(1)),
    received_at       DateTime64(3, 'UTC') COMMENT 'When the log took it: the append time' CODEC(DoubleDelta, ZSTD(1)),
    claimed_time      Nullable(DateTime64(3, 'UTC')) COMMENT 'What the source said, where time was clamped' CODEC(ZSTD(1)),
    tenant            LowCardinality(String),
    gateway           LowCardinality(String),
    zone              LowCardinality(String) COMMENT 'edge: clients connect here; internal: services relay tokens here',
    region            LowCardinality(String),
    source_epoch      String COMMENT 'One start of the source' CODEC(ZSTD(1)),
    source_seq        Nullable(UInt64) COMMENT 'Counts up within the epoch' CODEC(ZSTD(1)),

    token_ref         String COMMENT 'base64url(SHA-256(JWS up to its last dot))' CODEC(ZSTD(1)),
    jti_ref           String COMMENT 'base64url(SHA-256(iss 0x1f jti))' CODEC(ZSTD(1)),
    outer_ref         String COMMENT 'base64url(SHA-256(JWE up to its last dot))' CODEC(ZSTD(1)),
    iss               String CODEC(ZSTD(1)),
    sub               String CODEC(ZSTD(1)),
    subject_kind      LowCardinality(String),
    token_tenant_id   String CODEC(ZSTD(1)),
    client_id         String CODEC(ZSTD(1)),
    aud               Array(String) CODEC(ZSTD(1)),
    scope             Array(String) CODEC(ZSTD(1)),
    sid               String CODEC(ZSTD(1)),
    acr               String CODEC(ZSTD(1)),
    amr               Array(String) CODEC(ZSTD(1)),
    auth_time         Nullable(Int64) COMMENT 'Seconds since the epoch, as claimed; so are iat, nbf, exp' CODEC(ZSTD(1)),
    iat               Nullable(Int64) CODEC(ZSTD(1)),
    nbf               Nullable(Int64) CODEC(ZSTD(1)),
    exp               Nullable(Int64) CODEC(ZSTD(1)),
    alg               String CODEC(ZSTD(1)),
    kid               String CODEC(ZSTD(1)),
    typ               String CODEC(ZSTD(1)),
    family            String COMMENT 'The refresh family' CODEC(ZSTD(1)),
    generation        Nullable(UInt64) CODEC(ZSTD(1)),
    act_sub           Array(String) COMMENT 'The subjects of act, the current actor first' CODEC(ZSTD(1)),
    act               String COMMENT 'The delegation chain (RFC 8693) as a JSON array, the current actor first' CODEC(ZSTD(1)),
    parent_ref        String CODEC(ZSTD(1)),
    origin_ref        String CODEC(ZSTD(1)),
    txn               String CODEC(ZSTD(1)),
    `grant`           LowCardinality(String),
    cnf_jkt           String COMMENT 'The key that the token is bound to: JWK thumbprint' CODEC(ZSTD(1)),
    cnf_x5t           String COMMENT 'The same as a certificate thumbprint (x5t#S256)' CODEC(ZSTD(1)),
    presented_jkt     String COMMENT 'The key that the client showed' CODEC(ZSTD(1)),
    presented_x5t     String CODEC(ZSTD(1)),
    login_username    String CODEC(ZSTD(1)),
    login_reason      String CODEC(ZSTD(1)),

    ip                IPv6 COMMENT 'The client; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    peer_ip           IPv6 COMMENT 'Who connected to the gateway' CODEC(ZSTD(1)),
    user_agent        String CODEC(ZSTD(1)),
    device            String COMMENT 'User-agent family and operating system, no versions' CODEC(ZSTD(1)),
    ja4               String CODEC(ZSTD(1)),
    method            String CODEC(ZSTD(1)),
    host              String CODEC(ZSTD(1)),
    route             String CODEC(ZSTD(1)),
    status            Nullable(UInt16) CODEC(ZSTD(1)),
    duration_ms       Nullable(UInt32) CODEC(ZSTD(1)),
    response_bytes    Nullable(UInt64) CODEC(ZSTD(1)),
    request_id        String CODEC(ZSTD(1)),

    country           LowCardinality(String) COMMENT 'ISO 3166-1 alpha-2',
    country_confirmed Nullable(Bool) COMMENT 'Whether the second source names the same; NULL: it does not know',
    subdivision       LowCardinality(String),
    city              LowCardinality(String),
    lat               Nullable(Float64) CODEC(ZSTD(1)),
    lon               Nullable(Float64) CODEC(ZSTD(1)),
    accuracy_km       Nullable(Float64) COMMENT 'The radius within which the address is thought to be' CODEC(ZSTD(1)),
    asn               UInt32 COMMENT '0: unknown' CODEC(ZSTD(1)),
    as_org            LowCardinality(String),
    network_kind      LowCardinality(String) COMMENT 'access, mobile, satellite, company, hosting, vpn, relay, tor, cdn, private',
    geo_build         LowCardinality(String) COMMENT 'The geo files it was placed with',

    gateway_verdict   LowCardinality(String) COMMENT 'What the gateway found',
    verdict           LowCardinality(String) COMMENT 'What JWTrail says of the token',
    proof             LowCardinality(String) COMMENT 'What backs it: none, gateway_attested, ledger_jti_matched, ledger_matched',
    flags             Array(LowCardinality(String)) COMMENT 'clock_skewed, masked, verdict_conflict, late, cut, displaced',
    extra             String COMMENT 'Members that version 1 does not know, as a JSON object' CODEC(ZSTD(1)),
    retention_days    UInt16 COMMENT 'Of the tenant, when the event was walked: never 0' CODEC(ZSTD(1)),

    log               LowCardinality(String) COMMENT 'The log that it was walked in: with topic, partition and offset the row''s identity',
    topic             LowCardinality(String),
    partition         UInt32 CODEC(ZSTD(1)),
    offset            UInt64 CODEC(Delta, ZSTD(1)),
    origin_log        LowCardinality(String) COMMENT 'Where the record lay before it was forwarded to its home partition; '''': here',
    origin_partition  Nullable(UInt32) CODEC(ZSTD(1)),
    origin_offset     Nullable(UInt64) CODEC(ZSTD(1)),

    INDEX time_range time TYPE minmax GRANULARITY 1,
    INDEX offset_range offset TYPE minmax GRANULARITY 1,
    INDEX by_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_token_ref token_ref TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_jti_ref jti_ref TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_outer_ref outer_ref TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_parent_ref parent_ref TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_origin_ref origin_ref TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_family family TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_sid sid TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_txn txn TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_ip ip TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (tenant, sub, time)
TTL toDateTime(received_at) + toIntervalDay(retention_days)
-- The window of insert tokens is the whole table's, not a partition's: it must outlast what all partitions insert
-- between an insert and its repetition.
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Uses and life of tokens, one row an event';
