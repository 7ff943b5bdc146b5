-- Proves that everything is there, once: one row a partition of a log, with `complete` = 1 where nothing is missing and
-- nothing doubled, for all blocks whose last record the log took at or after {since}. Choose it within the shortest retention
-- (retention_days): rows that have expired count as missing.
--
--   clickhouse-client --param_since='2026-11-25 00:00:00' --queries-file completeness.sql
--
-- The proof: blocks touch, so no offset is in none or in two; each block's sums agree, so every record has one outcome;
-- events holds one row for each that is stored, and rejects one for each that is not.
WITH
    lines AS
    (
        SELECT
            log, topic, partition, first, last, records, rows, forwarded, control,
            arraySum(mapValues(dropped)) + arraySum(mapValues(dead)) AS rejected,
            leadInFrame(toNullable(first)) OVER
                (PARTITION BY log, topic, partition ORDER BY first ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS next_first
        FROM blocks FINAL
        WHERE received_at >= {since:DateTime64(3, 'UTC')}
    ),
    stored AS
    (
        SELECT l.log AS log, l.topic AS topic, l.partition AS partition, l.first AS first,
            count() AS rows_found, uniqExact(e.offset) AS offsets_found
        FROM (SELECT log, topic, partition, offset FROM events
              WHERE received_at >= {since:DateTime64(3, 'UTC')} - INTERVAL 1 DAY) AS e
        ASOF JOIN lines AS l
            ON e.log = l.log AND e.topic = l.topic AND e.partition = l.partition AND e.offset >= l.first
        WHERE e.offset <= l.last
        GROUP BY log, topic, partition, first
    ),
    refused AS
    (
        SELECT l.log AS log, l.topic AS topic, l.partition AS partition, l.first AS first, count() AS rejects_found
        FROM (SELECT log, topic, partition, offset FROM rejects FINAL
              WHERE received_at >= {since:DateTime64(3, 'UTC')} - INTERVAL 1 DAY) AS r
        ASOF JOIN lines AS l
            ON r.log = l.log AND r.topic = l.topic AND r.partition = l.partition AND r.offset >= l.first
        WHERE r.offset <= l.last
        GROUP BY log, topic, partition, first
    )
SELECT
    l.log AS log,
    l.topic AS topic,
    l.partition AS partition,
    min(l.first) AS first,
    max(l.last) AS last,
    count() AS blocks,
    sum(l.records) AS records,
    sum(l.rows) AS rows,
    sum(l.rejected) AS rejected,
    sum(l.forwarded) AS forwarded,
    sum(l.control) AS control,
    countIf(l.next_first > l.last + 1) AS gaps,
    countIf(l.next_first <= l.last) AS overlaps,
    countIf(l.records != l.rows + l.rejected + l.forwarded + l.control) AS wrong_sums,
    sum(greatest(toInt64(l.rows) - toInt64(s.offsets_found), 0)) AS rows_missing,
    sum(s.rows_found - s.offsets_found) + sum(greatest(toInt64(s.offsets_found) - toInt64(l.rows), 0)) AS rows_doubled,
    sum(abs(toInt64(l.rejected) - toInt64(f.rejects_found))) AS rejects_differing,
    gaps = 0 AND overlaps = 0 AND wrong_sums = 0 AND rows_missing = 0 AND rows_doubled = 0
        AND rejects_differing = 0 AS complete
FROM lines AS l
LEFT JOIN stored AS s USING (log, topic, partition, first)
LEFT JOIN refused AS f USING (log, topic, partition, first)
GROUP BY log, topic, partition
ORDER BY log, topic, partition
