-- The view of 0002, which says the same however often it is asked: where two partitions have rows of one case that are as
-- severe, as sure and as late, the higher partition's decides.
CREATE OR REPLACE VIEW findings AS
SELECT
    r.finding_id AS finding_id,
    max(r.revision) AS revision,
    r.rule AS rule,
    max(r.rule_version) AS rule_version,
    r.tenant AS tenant,
    argMax(r.iss, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS iss,
    argMax(r.sub, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS sub,
    argMax(r.subject_kind, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS subject_kind,
    argMax(r.client_id, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS client_id,
    argMax(r.gateway, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS gateway,
    argMax(r.kid, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS kid,
    min(r.case_start) AS case_start,
    min(r.first_time) AS first_time,
    max(r.last_time) AS last_time,
    multiIf(countIf(r.state = 'open') > 0, 'open', countIf(r.state = 'closed') > 0, 'closed', 'withdrawn') AS state,
    max(r.severity) AS severity,
    argMax(r.confidence, (r.severity, r.confidence)) AS confidence,
    any(r.class) AS class,
    max(r.is_alert) AS is_alert,
    if(max(r.is_alert), '', argMax(r.not_alerted, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition))) AS not_alerted,
    if(max(r.is_alert), '', argMax(r.suppressed_by, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition))) AS suppressed_by,
    argMax(r.lowered_by, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS lowered_by,
    argMax(r.title, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS title,
    argMax(r.summary, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)) AS summary,
    CAST(argMax(r.evidence, (r.severity, r.confidence, r.last_time, r.log, r.topic, r.partition)), 'JSON') AS evidence,
    arraySort(groupUniqArrayArray(r.token_refs)) AS token_refs,
    arraySort(groupUniqArrayArray(r.ips)) AS ips,
    arraySort(groupUniqArrayArray(r.event_ids)) AS event_ids,
    sum(r.event_count) AS event_count,
    arraySort(groupUniqArrayArray(r.techniques)) AS techniques
FROM finding_rows AS r FINAL
GROUP BY r.tenant, r.rule, r.finding_id;
