-- A case is one rule, one key, one window. Each partition that feeds it has one row here, replaced by later revisions
-- (the log offset of the record that made them); read `findings`.
CREATE TABLE IF NOT EXISTS finding_rows
(
    finding_id     UUID COMMENT 'A hash of rule, tenant, case key and window: the same in every partition and repetition',
    revision       UInt64,
    rule           LowCardinality(String),
    rule_version   UInt16,
    tenant         LowCardinality(String),
    iss            String CODEC(ZSTD(1)),
    sub            String CODEC(ZSTD(1)),
    subject_kind   LowCardinality(String),
    client_id      String CODEC(ZSTD(1)),
    gateway        String CODEC(ZSTD(1)),
    kid            String CODEC(ZSTD(1)),
    case_start     DateTime64(3, 'UTC') COMMENT 'Start of the window, in event time',
    first_time     DateTime64(3, 'UTC'),
    last_time      DateTime64(3, 'UTC'),
    state          LowCardinality(String) COMMENT 'open, withdrawn, closed',
    severity       Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5),
    confidence     Enum8('low' = 1, 'medium' = 2, 'high' = 3),
    class          LowCardinality(String) COMMENT 'security, operations',
    is_alert       Bool COMMENT 'Whether someone was told',
    not_alerted    LowCardinality(String) COMMENT 'Why nobody was: severity, confidence, suppressed, learning',
    suppressed_by  String CODEC(ZSTD(1)),
    lowered_by     Array(LowCardinality(String)) COMMENT 'What lowered the deciding pair',
    title          String CODEC(ZSTD(1)),
    summary        String CODEC(ZSTD(1)),
    evidence       String COMMENT 'The facts of the deciding pair, a JSON object' CODEC(ZSTD(1)),
    token_refs     Array(String) CODEC(ZSTD(1)),
    ips            Array(IPv6) CODEC(ZSTD(1)),
    event_ids      Array(UUID) CODEC(ZSTD(1)),
    event_count    UInt64,
    techniques     Array(LowCardinality(String)) COMMENT 'MITRE ATT&CK technique ids',

    log            LowCardinality(String),
    topic          LowCardinality(String),
    partition      UInt32,

    INDEX by_finding_id finding_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_sub sub TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX last_time_range last_time TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(revision)
-- By the case's own window, so that all revisions of a case lie in one partition and replace each other.
PARTITION BY toYYYYMM(case_start)
ORDER BY (tenant, rule, finding_id, log, topic, partition)
TTL toDateTime(last_time) + INTERVAL 400 DAY
COMMENT 'Cases, one row for each partition that feeds one: read the view findings';

-- Cases, folded over the partitions that feed them: sums, extremes, and the highest severity with what decided it.
CREATE VIEW IF NOT EXISTS findings AS
SELECT
    r.finding_id AS finding_id,
    max(r.revision) AS revision,
    r.rule AS rule,
    max(r.rule_version) AS rule_version,
    r.tenant AS tenant,
    argMax(r.iss, (r.severity, r.confidence, r.last_time)) AS iss,
    argMax(r.sub, (r.severity, r.confidence, r.last_time)) AS sub,
    argMax(r.subject_kind, (r.severity, r.confidence, r.last_time)) AS subject_kind,
    argMax(r.client_id, (r.severity, r.confidence, r.last_time)) AS client_id,
    argMax(r.gateway, (r.severity, r.confidence, r.last_time)) AS gateway,
    argMax(r.kid, (r.severity, r.confidence, r.last_time)) AS kid,
    min(r.case_start) AS case_start,
    min(r.first_time) AS first_time,
    max(r.last_time) AS last_time,
    multiIf(countIf(r.state = 'open') > 0, 'open', countIf(r.state = 'closed') > 0, 'closed', 'withdrawn') AS state,
    max(r.severity) AS severity,
    argMax(r.confidence, (r.severity, r.confidence)) AS confidence,
    any(r.class) AS class,
    max(r.is_alert) AS is_alert,
    if(max(r.is_alert), '', argMax(r.not_alerted, (r.severity, r.confidence, r.last_time))) AS not_alerted,
    if(max(r.is_alert), '', argMax(r.suppressed_by, (r.severity, r.confidence, r.last_time))) AS suppressed_by,
    argMax(r.lowered_by, (r.severity, r.confidence, r.last_time)) AS lowered_by,
    argMax(r.title, (r.severity, r.confidence, r.last_time)) AS title,
    argMax(r.summary, (r.severity, r.confidence, r.last_time)) AS summary,
    CAST(argMax(r.evidence, (r.severity, r.confidence, r.last_time)), 'JSON') AS evidence,
    arraySort(groupUniqArrayArray(r.token_refs)) AS token_refs,
    arraySort(groupUniqArrayArray(r.ips)) AS ips,
    arraySort(groupUniqArrayArray(r.event_ids)) AS event_ids,
    sum(r.event_count) AS event_count,
    arraySort(groupUniqArrayArray(r.techniques)) AS techniques
FROM finding_rows AS r FINAL
GROUP BY r.tenant, r.rule, r.finding_id;
