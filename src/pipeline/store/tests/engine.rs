//! What becomes of blocks in a real ClickHouse: nothing lost, nothing twice, whatever happens to the answers.

use expect_test::expect;

use super::*;
use crate::clickhouse::testing::{Database, Lose};
use crate::log::Topic;
use crate::model::{FindingId, PartitionId, UnixMs};
use crate::pipeline::patience::Troubles;
use crate::pipeline::store::tables::{BLOCKS, FINDINGS, REJECTS};

/// A store on a database and a journal of its own.
pub(super) struct Bench {
    pub(super) database: Database,
    log: TestLog,
    pub(super) store: Store,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let (database, log) = (Database::new().await, TestLog::new().await);
        let store = Store::new(database.client.clone(), log.journal.clone());
        Self { database, log, store }
    }

    /// A store whose next insert into `events` loses something on its way.
    async fn losing(lose: Lose) -> Self {
        let (database, log) = (Database::new().await, TestLog::new().await);
        let store = Store::new(database.client_through(lose).await, log.journal.clone());
        Self { database, log, store }
    }

    pub(super) async fn number(&self, sql: &str) -> u64 {
        self.database.client.query(sql).fetch_one().await.unwrap()
    }

    /// The offsets of `events`, each as often as it is there.
    pub(super) async fn offsets(&self) -> Vec<u64> {
        self.database.client.query("SELECT offset FROM events ORDER BY offset").fetch_all().await.unwrap()
    }

    pub(super) async fn run(&self, sql: &str) {
        self.database.client.execute(sql).await.unwrap();
    }

    /// What the completeness query says of each partition: whether it is complete, and what is wrong.
    pub(super) async fn proof(&self) -> Vec<(u8, [i64; 6])> {
        let sql = include_str!("../../../../schemas/clickhouse/queries/completeness.sql");
        let sql = format!(
            "SELECT toUInt8(complete), toInt64(gaps), toInt64(overlaps), toInt64(wrong_sums), toInt64(rows_missing), \
             toInt64(rows_doubled), toInt64(rejects_differing) FROM ({sql})"
        );
        let rows: Vec<(u8, i64, i64, i64, i64, i64, i64)> =
            self.database.client.query(&sql).param("since", "2026-11-01 00:00:00").fetch_all().await.unwrap();
        rows.into_iter().map(|(complete, a, b, c, d, e, f)| (complete, [a, b, c, d, e, f])).collect()
    }
}

/// Ten events at 0 to 9, but a dead letter at 4 and a heartbeat at 5.
fn mixed_block() -> CutBlock {
    let mut block = block_at(0);
    for offset in 0..10 {
        match offset {
            4 => push(&mut block, offset, b"{not json"),
            5 => push(&mut block, offset, &heartbeat()),
            _ => push(&mut block, offset, &event("accepted", &format!("subject-{offset}"))),
        }
    }
    block.cut(at(9))
}

const MIXED_ROWS: [u64; 8] = [0, 1, 2, 3, 6, 7, 8, 9];
pub(super) const COMPLETE: (u8, [i64; 6]) = (1, [0; 6]);

#[tokio::test]
async fn every_table_has_the_columns_of_its_rows_in_their_order() {
    let bench = Bench::new().await;
    for table in [&*EVENTS, &*FINDINGS, &*REJECTS, &*BLOCKS] {
        let sql = "SELECT name, type FROM system.columns WHERE database = ? AND table = ? ORDER BY position";
        let query = bench.database.client.query(sql).bind(bench.database.client.database()).bind(table.name);
        let there: Vec<(String, String)> = query.fetch_all().await.unwrap();
        let written: Vec<_> =
            table.columns.0.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
        assert_eq!(there, written, "{}", table.name);
    }
}

#[tokio::test]
async fn an_event_reads_back_as_it_was_walked() {
    let bench = Bench::new().await;
    let mut block = block_at(0);
    push(&mut block, 0, &event("accepted", "alice"));
    bench.store.put(&block.cut(at(0)), Put::First, &Patience::default()).await.unwrap();
    let row = bench.database.text("SELECT * FROM events FORMAT Vertical").await;
    expect![[r#"
        Row 1:
        ──────
        event_id:          019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42
        kind:              accepted
        time:              2026-11-23 10:15:00.123
        received_at:       2026-11-23 10:15:01.000
        claimed_time:      ᴺᵁᴸᴸ
        tenant:            acme
        gateway:           edge-fra-1
        zone:              edge
        region:            eu-central
        source_epoch:      epoch-1
        source_seq:        18231
        token_ref:         kq0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
        jti_ref:           P0KJGLOum6xNWAaexWNuFh_flA5zEVplzYFX6xCuIWM
        outer_ref:         d1v6EvgMw30ZRCGrZArqzM2KrbEpPCAvyShUR94oXAI
        iss:               https://id.example/t/acme
        sub:               alice
        subject_kind:      user
        token_tenant_id:   acme
        client_id:         web
        aud:               ['https://api.example','https://b.example']
        scope:             ['orders:read','orders:write']
        sid:               s1
        acr:               urn:acr:1
        amr:               ['pwd','otp']
        auth_time:         1795427000 -- 1.80 billion
        iat:               1795428000 -- 1.80 billion
        nbf:               1795428001 -- 1.80 billion
        exp:               1795431600 -- 1.80 billion
        alg:               ES256
        kid:               k1
        typ:               at+jwt
        family:            f1
        generation:        3
        act_sub:           ['billing','front']
        act:               [{"sub":"billing","client_id":"billing"},{"sub":"front"}]
        parent_ref:        1Li-2hJlFpU0taZpbSxU8Our-du7CCkWCA92aJX0mk0
        origin_ref:        GBNmfOSW-Bo-N8p-k9ayxyj_7opgXlSMMDN_cjpYexc
        txn:               t1
        grant:             
        cnf_jkt:           j1
        cnf_x5t:           x1
        presented_jkt:     j2
        presented_x5t:     x2
        login_username:    
        login_reason:      
        ip:                ::ffff:203.0.113.7
        peer_ip:           2001:db8::4
        user_agent:        Mozilla/5.0 (X11)
        device:            Firefox on Linux
        ja4:               t13d1516h2_8daaf6152771_b186095e22b6
        method:            GET
        host:              api.example
        route:             /orders/{id}
        status:            200
        duration_ms:       2
        response_bytes:    5120
        request_id:        r1
        country:           FR
        country_confirmed: true
        subdivision:       Île-de-France
        city:              Paris
        lat:               48.8566
        lon:               2.3522
        accuracy_km:       20
        asn:               64496
        as_org:            Example Télécom
        network_kind:      access
        geo_build:         geo 1
        gateway_verdict:   valid
        verdict:           valid
        proof:             gateway_attested
        flags:             ['late']
        extra:             {"colour":"blue"}
        retention_days:    30
        log:               00112233445566778899aabbccddeeff
        topic:             jwtrail.events
        partition:         3
        offset:            0
        origin_log:        ffffffffffffffffffffffffffffffff
        origin_partition:  1
        origin_offset:     17
    "#]]
    .assert_eq(&row);
}

#[tokio::test]
async fn a_block_leaves_rows_a_line_rejects_and_a_dead_letter() {
    let bench = Bench::new().await;
    let stored = bench.store.put(&mixed_block(), Put::First, &Patience::default()).await.unwrap();
    assert_eq!((stored.counts.stored, stored.repeated), (8, 0));
    assert_eq!(bench.offsets().await, MIXED_ROWS);
    let line = bench.database.text("SELECT * EXCEPT log FROM blocks FINAL FORMAT Vertical").await;
    expect![[r#"
        Row 1:
        ──────
        topic:       jwtrail.events
        partition:   3
        first:       0
        last:        9
        received_at: 2026-11-23 10:15:10.000
        records:     10
        rows:        8
        dropped:     {}
        dead:        {'not_json':1}
        forwarded:   0
        control:     1
        snapshots:   geo 1, rules 1
    "#]]
    .assert_eq(&line);
    let reject = bench.database.text("SELECT * EXCEPT log FROM rejects FINAL FORMAT Vertical").await;
    expect![[r#"
        Row 1:
        ──────
        topic:       jwtrail.events
        partition:   3
        offset:      4
        received_at: 2026-11-23 10:15:05.000
        outcome:     dead
        reason:      not_json
        field:       
        value_bytes: 9
    "#]]
    .assert_eq(&reject);
    assert_eq!(bench.log.dead_letters().await, [format!("{LOG}/jwtrail.events/3/4")]);
    assert_eq!(bench.proof().await, [COMPLETE]);
}

#[tokio::test]
async fn a_block_put_again_is_not_doubled() {
    let bench = Bench::new().await;
    bench.store.put(&mixed_block(), Put::First, &Patience::default()).await.unwrap();
    let again = bench.store.put(&mixed_block(), Put::Again, &Patience::default()).await.unwrap();
    assert_eq!(again.repeated, 0);
    assert_eq!(bench.offsets().await, MIXED_ROWS);
    assert_eq!(bench.number("SELECT count() FROM blocks FINAL").await, 1);
    assert_eq!(bench.number("SELECT count() FROM rejects FINAL").await, 1);
    assert_eq!(bench.proof().await, [COMPLETE]);
}

/// As after a crash that lost the last line of the deduplication log: the token is not known any more.
#[tokio::test]
async fn a_block_whose_token_is_forgotten_is_not_doubled() {
    let bench = Bench::new().await;
    bench.store.put(&mixed_block(), Put::First, &Patience::default()).await.unwrap();
    bench.run("ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 0").await;
    bench.store.put(&mixed_block(), Put::Again, &Patience::default()).await.unwrap();
    assert_eq!(bench.offsets().await, MIXED_ROWS);
}

/// As after a crash between the deduplication log and the part: the token is known, the rows are not there.
#[tokio::test]
async fn a_block_whose_token_is_known_but_not_its_rows_is_stored() {
    let bench = Bench::new().await;
    bench.store.put(&mixed_block(), Put::First, &Patience::default()).await.unwrap();
    bench.run("ALTER TABLE events DELETE WHERE 1 SETTINGS mutations_sync = 1").await;
    assert!(bench.offsets().await.is_empty());
    assert_eq!(bench.proof().await, [(0, [0, 0, 0, 8, 0, 0])]);
    let again = bench.store.put(&mixed_block(), Put::Again, &Patience::default()).await.unwrap();
    assert_eq!(again.repeated, 1, "the known token inserts nothing, the next one does");
    assert_eq!(bench.offsets().await, MIXED_ROWS);
    assert_eq!(bench.proof().await, [COMPLETE]);
}

#[tokio::test]
async fn rows_that_are_missing_are_found_and_inserted() {
    let bench = Bench::new().await;
    bench.store.put(&mixed_block(), Put::First, &Patience::default()).await.unwrap();
    bench.run("ALTER TABLE events DELETE WHERE offset IN (0, 3, 6, 9) SETTINGS mutations_sync = 1").await;
    bench.store.put(&mixed_block(), Put::Again, &Patience::default()).await.unwrap();
    assert_eq!(bench.offsets().await, MIXED_ROWS);
    // Once more, other rows: the tokens of the first completion are in use.
    bench.run("ALTER TABLE events DELETE WHERE offset IN (0, 7) SETTINGS mutations_sync = 1").await;
    bench.store.put(&mixed_block(), Put::Again, &Patience::default()).await.unwrap();
    assert_eq!(bench.offsets().await, MIXED_ROWS);
    assert_eq!(bench.proof().await, [COMPLETE]);
}

#[tokio::test]
async fn an_insert_whose_answer_is_lost_is_stored_once() {
    for lose in [Lose::Answer, Lose::Request, Lose::HalfTheRequest] {
        let bench = Bench::losing(lose).await;
        let patience = Patience::default();
        let stored = bench.store.put(&mixed_block(), Put::First, &patience).await.unwrap();
        assert_eq!(stored.counts.stored, 8, "{lose:?}");
        assert_eq!(bench.offsets().await, MIXED_ROWS, "{lose:?}");
        assert_eq!(bench.proof().await, [COMPLETE], "{lose:?}");
        assert!(patience.troubles().borrow().is_empty(), "{lose:?}");
    }
}

#[tokio::test]
async fn an_engine_killed_in_an_insert_loses_nothing_and_doubles_nothing() {
    const ROWS: i64 = 4_000;
    for after_bytes in [0, 1 << 20, usize::MAX] {
        let (mut database, log) = (Database::apart().await, TestLog::new().await);
        let lossy = database.client_through(Lose::Engine { after_bytes }).await;
        let store = Store::new(lossy, log.journal.clone());
        let mut block = block_at(0);
        for offset in 0..ROWS {
            push(&mut block, offset, &event("accepted", &format!("subject-{offset}")));
        }
        let block = block.cut(at(ROWS - 1));
        let patience = Patience::default();
        let (stored, ()) = tokio::join!(store.put(&block, Put::First, &patience), database.revive());
        assert_eq!(stored.unwrap().counts.stored, ROWS.unsigned_abs(), "after {after_bytes} bytes");
        let bench = Bench { database, log, store };
        let once: Vec<u64> = (0..ROWS.unsigned_abs()).collect();
        assert_eq!(bench.offsets().await, once, "after {after_bytes} bytes");
        assert_eq!(bench.proof().await, [COMPLETE], "after {after_bytes} bytes");
    }
}

#[tokio::test]
async fn a_value_that_clickhouse_refuses_becomes_a_dead_letter() {
    let bench = Bench::new().await;
    bench
        .run("ALTER TABLE events ADD CONSTRAINT no_trouble CHECK sub NOT IN ('subject-3', 'subject-8')")
        .await;
    let stored = bench.store.put(&mixed_block(), Put::First, &Patience::default()).await.unwrap();
    assert_eq!(stored.counts.stored, 6);
    assert_eq!(stored.counts.dead.get(&RejectReason::ClickhouseRefused), Some(&2));
    assert_eq!(stored.counts.records(), 10);
    assert_eq!(bench.offsets().await, [0, 1, 2, 6, 7, 9]);
    let origin = |offset| format!("{LOG}/jwtrail.events/3/{offset}");
    assert_eq!(bench.log.dead_letters().await, [origin(4), origin(3), origin(8)]);
    let reasons = "SELECT offset FROM rejects FINAL WHERE reason = 'clickhouse_refused' ORDER BY offset";
    let refused: Vec<u64> = bench.database.client.query(reasons).fetch_all().await.unwrap();
    assert_eq!(refused, [3, 8]);
    assert_eq!(bench.proof().await, [COMPLETE]);
    // And again: the same rows, the same letters.
    bench.store.put(&mixed_block(), Put::Again, &Patience::default()).await.unwrap();
    assert_eq!(bench.offsets().await, [0, 1, 2, 6, 7, 9]);
    assert_eq!(bench.proof().await, [COMPLETE]);
}

#[tokio::test]
async fn more_refusals_than_one_in_twenty_stop_the_pipeline_and_lose_nothing() {
    const ROWS: i64 = 600;
    let bench = Bench::new().await;
    bench.run("ALTER TABLE events ADD CONSTRAINT nobody CHECK sub = ''").await;
    let mut block = block_at(0);
    for offset in 0..ROWS {
        push(&mut block, offset, &event("accepted", "alice"));
    }
    let block = block.cut(at(ROWS - 1));
    let error = bench.store.put(&block, Put::First, &Patience::default()).await.unwrap_err();
    assert_eq!(error.code(), "too_many_refused");
    assert_eq!(bench.log.dead_letters().await, Vec::<String>::new());
    bench.run("ALTER TABLE events DROP CONSTRAINT nobody").await;
    let store = Store::new(bench.database.client.clone(), bench.log.journal.clone());
    let stored = store.put(&block, Put::Again, &Patience::default()).await.unwrap();
    assert_eq!(stored.counts.stored, ROWS.unsigned_abs());
    assert_eq!(bench.proof().await, [COMPLETE]);
}

#[tokio::test]
async fn a_table_of_another_schema_blames_no_row() {
    let bench = Bench::new().await;
    bench.run("ALTER TABLE events MODIFY COLUMN generation Nullable(Int8)").await;
    bench.run("ALTER TABLE events ADD CONSTRAINT nothing CHECK sub = ''").await;
    let (block, patience) = (mixed_block(), Patience::default());
    let mut troubles = patience.troubles();
    let differs = |troubles: &Troubles| {
        troubles.values().any(|trouble| trouble.code == "clickhouse_schema_differs" && trouble.failures > 1)
    };
    tokio::select! {
        stored = bench.store.put(&block, Put::First, &patience) => panic!("not waited for: {stored:?}"),
        // What it answers is locked until it is dropped, and whoever waits wants to write there at its end.
        () = async { drop(troubles.wait_for(differs).await.unwrap()) } => {}
    }
    assert_eq!(bench.log.dead_letters().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_hostile_time_makes_no_partitions() {
    let bench = Bench::new().await;
    let mut block = block_at(0);
    for (offset, time) in
        ["1970-01-01T00:00:00Z", "2026-10-20T00:00:00Z", "2026-11-23T10:15:00Z", "2299-12-31T23:59:59Z"]
            .iter()
            .enumerate()
    {
        push(&mut block, offset as i64, &event_at("accepted", "mallory", time));
    }
    bench.store.put(&block.cut(at(3)), Put::First, &Patience::default()).await.unwrap();
    assert_eq!(bench.offsets().await, [0, 1, 2, 3]);
    let partitions = "SELECT uniqExact(partition_id) FROM system.parts \
                      WHERE database = currentDatabase() AND table = 'events' AND active";
    assert_eq!(bench.number(partitions).await, 1);
}

#[tokio::test]
async fn the_completeness_query_disproves() {
    let bench = Bench::new().await;
    bench.store.put(&mixed_block(), Put::First, &Patience::default()).await.unwrap();
    let mut next = block_at(10);
    push(&mut next, 12, &event("accepted", "alice"));
    bench.store.put(&next.cut(at(12)), Put::First, &Patience::default()).await.unwrap();
    assert_eq!(bench.proof().await, [COMPLETE], "offsets may have holes");

    bench.run("INSERT INTO events SELECT * FROM events WHERE offset = 2").await;
    assert_eq!(bench.proof().await, [(0, [0, 0, 0, 0, 1, 0])], "a row is doubled");
    bench.run("ALTER TABLE events DELETE WHERE offset = 2 SETTINGS mutations_sync = 1").await;
    assert_eq!(bench.proof().await, [(0, [0, 0, 0, 1, 0, 0])], "a row is missing");
    bench.run("ALTER TABLE rejects DELETE WHERE 1 SETTINGS mutations_sync = 1").await;
    assert_eq!(bench.proof().await, [(0, [0, 0, 0, 1, 0, 1])], "a reject is missing");
    let mut far = block_at(20);
    push(&mut far, 20, &event("accepted", "alice"));
    bench.store.put(&far.cut(at(20)), Put::First, &Patience::default()).await.unwrap();
    assert_eq!(bench.proof().await, [(0, [1, 0, 0, 1, 0, 1])], "a block is missing");
    let mut over = block_at(19);
    push(&mut over, 19, &event("accepted", "alice"));
    bench.store.put(&over.cut(at(21)), Put::First, &Patience::default()).await.unwrap();
    let [(0, [_, overlaps, ..])] = bench.proof().await[..] else { panic!("one partition, not complete") };
    assert_eq!(overlaps, 1, "two blocks hold one offset");
}

#[tokio::test]
async fn a_case_is_folded_over_the_partitions_that_feed_it() {
    let bench = Bench::new().await;
    for (partition, severity, revision) in
        [(0, Severity::Low, 3), (1, Severity::High, 2), (0, Severity::Medium, 5), (0, Severity::Low, 4)]
    {
        let mut block = block_of(Origin { partition: PartitionId(partition), ..origin() }, revision);
        push_finding(&mut block, revision, finding(RuleId::TokenReplay, severity, revision));
        bench.store.put(&block.cut(at(revision)), Put::First, &Patience::default()).await.unwrap();
    }
    let case = bench.database.text("SELECT * FROM findings FORMAT Vertical").await;
    expect![[r#"
        Row 1:
        ──────
        finding_id:    520b141f-7076-8be0-a6ea-0c6b287c7ad9
        revision:      5
        rule:          token_replay
        rule_version:  1
        tenant:        acme
        iss:           https://id.example/t/acme
        sub:           alice
        subject_kind:  user
        client_id:     web
        gateway:       edge-fra-1
        kid:           k1
        case_start:    2026-11-23 10:15:01.000
        first_time:    2026-11-23 10:15:01.000
        last_time:     2026-11-23 10:15:06.000
        state:         open
        severity:      high
        confidence:    medium
        class:         security
        is_alert:      true
        not_alerted:   
        suppressed_by: 
        lowered_by:    ['vpn']
        title:         A token in two places
        summary:       Paris, then Tokyo
        evidence:      {
            "distance_km": 9712.5,
            "from": {
                "city": "Paris"
            },
            "to": {
                "city": "Tokyo"
            }
        }
        token_refs:    ['kq0']
        ips:           ['::ffff:203.0.113.7','2001:db8::4']
        event_ids:     ['00000000-0000-0000-0000-000000000007']
        event_count:   4
        techniques:    ['T1550.001']
    "#]]
    .assert_eq(&case);
    assert_eq!(
        bench.number("SELECT count() FROM finding_rows FINAL").await,
        2,
        "the newest revision of each partition"
    );
}

/// As `replay` folds them: of rows that are as strong the highest partition's, whichever came last.
#[tokio::test]
async fn of_rows_that_are_as_strong_one_partitions_decides() {
    let bench = Bench::new().await;
    for partition in [1, 3, 0, 2] {
        let mut case = finding(RuleId::TokenReplay, Severity::High, 1);
        (case.case.title, case.case.gateway) = (format!("of {partition}"), format!("edge-{partition}"));
        let mut block = block_of(Origin { partition: PartitionId(partition), ..origin() }, 1);
        push_finding(&mut block, 1, case);
        bench.store.put(&block.cut(at(1)), Put::First, &Patience::default()).await.unwrap();
        let said = bench.database.text("SELECT title, gateway FROM findings FORMAT TSV").await;
        let highest = if partition == 1 { 1 } else { 3 };
        assert_eq!(said, format!("of {highest}\tedge-{highest}\n"));
    }
}

#[tokio::test]
async fn the_last_stored_row_is_found() {
    let bench = Bench::new().await;
    let last = || bench.store.last_stored(Topic::Events, PartitionId(3));
    assert_eq!(last().await.unwrap(), None);
    let block = mixed_block();
    bench.store.put_events(&block, Put::First, &Patience::default()).await.unwrap();
    let mut expected =
        LastStored { log: origin().log, offset: at(9), received_at: received(9), settled: None };
    assert_eq!(last().await.unwrap(), Some(expected.clone()), "rows without a line");
    bench.store.put(&block, Put::Again, &Patience::default()).await.unwrap();
    expected.settled = Some(at(9));
    assert_eq!(last().await.unwrap(), Some(expected.clone()));
    let other = bench.store.last_stored(Topic::Events, PartitionId(0)).await.unwrap();
    assert_eq!(other, None, "another partition's");
    // A block of dead letters alone, three days later, when another partition has rows: it is looked for further back.
    let later = 3 * 24 * 60 * 60;
    let mut block = block_at(10);
    push(&mut block, later, b"{not json");
    bench.store.put(&block.cut(at(later)), Put::First, &Patience::default()).await.unwrap();
    let mut block = block_of(Origin { partition: PartitionId(0), ..origin() }, later);
    push(&mut block, later, &event("accepted", "bob"));
    bench.store.put(&block.cut(at(later)), Put::First, &Patience::default()).await.unwrap();
    expected.settled = Some(at(later));
    assert_eq!(last().await.unwrap(), Some(expected));
    let other = bench.store.last_stored(Topic::Events, PartitionId(0)).await.unwrap();
    assert_eq!(other.map(|other| other.offset), Some(at(later)));
}

#[tokio::test]
async fn an_alerts_own_row_is_the_row_of_its_block() {
    let bench = Bench::new().await;
    let finding = finding(RuleId::TokenReplay, Severity::High, 1);
    let mut block = block_at(1);
    push_finding(&mut block, 1, finding.clone());
    let alert = alert_of(finding);
    put_findings(&bench.database.client, std::slice::from_ref(&alert)).await.unwrap();
    bench.store.put(&block.cut(at(1)), Put::First, &Patience::default()).await.unwrap();
    assert_eq!(bench.number("SELECT count() FROM finding_rows FINAL").await, 1);
    let different = "SELECT uniqExact(tuple(*)) FROM finding_rows";
    assert_eq!(bench.number(different).await, 1);
}

#[tokio::test]
async fn the_queries_of_operations_are_answered() {
    let bench = Bench::new().await;
    let mut replay = finding(RuleId::TokenReplay, Severity::High, 1);
    let mut elsewhere = finding(RuleId::TokenReplay, Severity::High, 2);
    replay.case.ips = vec!["203.0.113.9".parse().unwrap()];
    elsewhere.case.ips = vec!["198.51.100.9".parse().unwrap()];
    elsewhere.case.finding_id = FindingId::of(RuleId::TokenReplay, "acme", &["elsewhere"], UnixMs::default());
    let [lost, given_up, storm] = crate::pipeline::alert::tests::of_operations();
    for case in [&mut replay.case, &mut elsewhere.case] {
        case.last_time = storm.data.finding.case.first_time;
        "acme".clone_into(&mut case.tenant);
    }
    let mut alerts = vec![lost, given_up, storm];
    let queries: Vec<String> = alerts.iter().map(|alert| alert.data.query.clone()).collect();
    alerts.extend([alert_of(replay), alert_of(elsewhere)]);
    put_findings(&bench.database.client, &alerts).await.unwrap();
    let mut counts = Vec::new();
    for query in queries {
        let query = query.replace("jwtrail.", "");
        counts.push(bench.number(&format!("SELECT count() FROM ({query})")).await);
    }
    // No block line; all five; the one case whose address lies in the storm's network.
    assert_eq!(counts, [0, 5, 1]);
}
