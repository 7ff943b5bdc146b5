-- What people say of findings. They write here, the walk never does; the newest line of a finding stands.
CREATE TABLE IF NOT EXISTS triage
(
    tenant     LowCardinality(String),
    finding_id UUID,
    at         DateTime64(3, 'UTC') DEFAULT now64(3),
    author     String,
    state      Enum8('acknowledged' = 1, 'in_progress' = 2, 'resolved' = 3),
    judgement  Enum8('undecided' = 0, 'true_positive' = 1, 'false_positive' = 2, 'benign' = 3) DEFAULT 'undecided',
    assignee   String,
    note       String CODEC(ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (tenant, finding_id, at)
COMMENT 'What people say of findings, one line a statement';
