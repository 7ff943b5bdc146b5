-- What became of every record: the proof that nothing is missing and nothing doubled (queries/completeness.sql).

-- One line a block [first, last] of a partition, written after its events, findings and rejects were acknowledged.
-- Lines touch, sums agree (records = rows + dropped + dead + forwarded + control), and events has `rows` rows a line.
CREATE TABLE IF NOT EXISTS blocks
(
    log         LowCardinality(String),
    topic       LowCardinality(String),
    partition   UInt32,
    first       UInt64 COMMENT 'Its first offset',
    last        UInt64 COMMENT 'Its last: offsets may have holes, blocks touch',
    received_at DateTime64(3, 'UTC') COMMENT 'The append time of its last record',
    records     UInt64,
    rows        UInt64 COMMENT 'Records that are a row of events',
    dropped     Map(LowCardinality(String), UInt64) COMMENT 'Left out on purpose, by reason: in rejects',
    dead        Map(LowCardinality(String), UInt64) COMMENT 'Could not be an event, by reason: dead letters, in rejects',
    forwarded   UInt64 COMMENT 'Copied to their home partition',
    control     UInt64 COMMENT 'Heartbeats, marks and ticks: no row',
    snapshots   LowCardinality(String) COMMENT 'Geo files, keys and rules that it was walked with'
)
ENGINE = ReplacingMergeTree
ORDER BY (log, topic, partition, first)
TTL toDateTime(received_at) + INTERVAL 400 DAY
COMMENT 'What became of every record, one line a block; read it with FINAL';

-- One row a record that left no event: by offset and reason. The record itself, masked, is in jwtrail.dead-letters.
CREATE TABLE IF NOT EXISTS rejects
(
    log         LowCardinality(String),
    topic       LowCardinality(String),
    partition   UInt32,
    offset      UInt64,
    received_at DateTime64(3, 'UTC') COMMENT 'The append time',
    outcome     LowCardinality(String) COMMENT 'dead: a dead letter; dropped: left out on purpose',
    reason      LowCardinality(String),
    field       String COMMENT 'A JSON pointer to the field at fault; empty: the whole record' CODEC(ZSTD(1)),
    value_bytes UInt64 COMMENT 'The length of the record''s value'
)
ENGINE = ReplacingMergeTree
ORDER BY (log, topic, partition, offset)
TTL toDateTime(received_at) + INTERVAL 400 DAY
COMMENT 'Records that left no event; read it with FINAL';
