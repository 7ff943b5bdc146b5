-- How much happened, a minute a row: for dashboards, never a proof. `events` is ordered by subject, so "the last hour of
-- a tenant" would read the whole day; this answers it.
CREATE TABLE IF NOT EXISTS events_per_minute
(
    minute       DateTime('UTC') COMMENT 'Of received_at',
    tenant       LowCardinality(String),
    gateway      LowCardinality(String),
    kind         LowCardinality(String),
    verdict      LowCardinality(String),
    events       UInt64,
    subjects     UInt64 COMMENT 'Distinct subjects, estimated',
    refreshed_at DateTime('UTC')
)
ENGINE = ReplacingMergeTree(refreshed_at)
PARTITION BY toYYYYMM(minute)
ORDER BY (tenant, minute, gateway, kind, verdict)
TTL minute + INTERVAL 90 DAY
COMMENT 'Events a minute; read it with FINAL';

-- Counts the last three hours anew every minute: a repeated insert or a late block is simply counted again.
CREATE MATERIALIZED VIEW IF NOT EXISTS events_per_minute_refresh
REFRESH EVERY 1 MINUTE APPEND TO events_per_minute
AS SELECT
    toDateTime(toStartOfMinute(e.received_at), 'UTC') AS minute,
    e.tenant AS tenant,
    e.gateway AS gateway,
    e.kind AS kind,
    e.verdict AS verdict,
    count() AS events,
    uniq(e.iss, e.sub) AS subjects,
    now('UTC') AS refreshed_at
FROM events AS e
WHERE e.received_at >= toStartOfHour(now64(3, 'UTC')) - INTERVAL 2 HOUR
GROUP BY minute, tenant, gateway, kind, verdict;
