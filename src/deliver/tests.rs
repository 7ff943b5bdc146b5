//! Deliveries over a real journal to real receivers that fail, throttle, hang and die.

mod kafka;
mod receiver;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use self::receiver::{Receiver, Reply};
use self::stage::{Stage, alert, file, of_acme, until, webhook};
use super::Pace;
use super::queue::{Answer, Job};
use super::webhook::Webhook;
use crate::clock::Clock;
use crate::config::{HookUrl, Secret};
use crate::log::Topic;
use crate::log::memory::{LogFault, MemoryLog};
use crate::model::{Alert, Offset, RuleId};
use crate::outbound::{NotPublic, Timeouts};

pub(super) use self::stage::alert as alert_with_id;

#[tokio::test]
async fn every_alert_is_told_once_signed_and_not_again_after_a_restart() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "medium"), alert(2, "high")]).await;
    receiver.wait_for(2).await;
    stage.stop().await;
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(3, "critical")]).await;
    receiver.wait_for(3).await;
    stage.stop().await;
    assert_eq!(receiver.ids(), ["1_medium", "2_high", "3_critical"]);
    receiver.all_are_signed();
    assert_eq!(stage.stored(), ["1_medium", "2_high", "3_critical"], "rows are stored before telling");
}

#[tokio::test]
async fn what_fails_is_tried_again_under_the_same_id() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    receiver.script([
        Reply::Status(500),
        Reply::Throttle,
        Reply::Hang,
        Reply::Die,
        Reply::Status(404),
        Reply::Status(204),
    ]);
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "high")]).await;
    receiver.wait_for(6).await;
    stage.delivered("soc", 1).await;
    assert_eq!(receiver.ids(), ["1_high"; 6]);
    stage.stop().await;
}

#[tokio::test]
async fn a_dead_destination_delays_no_other_and_misses_nothing() {
    let mut stage = Stage::new().await;
    let reserved = Receiver::reserve();
    let path = stage.path("alerts.jsonl");
    stage.start([reserved.webhook("dead"), file("archive", &path)]);
    stage.append([alert(1, "medium"), alert(2, "medium"), alert(3, "medium")]).await;
    stage.delivered("archive", 3).await;
    let lines = std::fs::read_to_string(&path).unwrap();
    assert_eq!(lines.lines().count(), 3);
    stage.failed("dead", 2).await;

    let receiver = reserved.start().await;
    receiver.wait_for(3).await;
    stage.delivered("dead", 3).await;
    stage.stop().await;
    assert_eq!(receiver.sorted_ids(), ["1_medium", "2_medium", "3_medium"]);
}

#[tokio::test]
async fn one_that_is_refused_delays_no_other_and_only_it_is_told_again() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    receiver.refuse(Some("2_high"));
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "high"), alert(2, "high"), alert(3, "high"), alert(4, "high")]).await;
    stage.delivered("soc", 3).await;
    stage.stop().await;

    receiver.forget();
    receiver.refuse(None);
    stage.start([webhook("soc", &receiver)]);
    stage.delivered("soc", 4).await;
    stage.stop().await;
    assert_eq!(receiver.ids(), ["2_high"]);
}

#[tokio::test]
async fn an_end_without_warning_loses_nothing_and_repeats_only_what_had_no_answer() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "high"), alert(2, "high")]).await;
    stage.delivered("soc", 2).await;
    // Nothing new is told before that is committed.
    receiver.script([Reply::Hang, Reply::Hang]);
    stage.append([alert(3, "high"), alert(4, "high")]).await;
    receiver.wait_for(4).await;
    stage.kill().await;

    receiver.forget();
    receiver.script([]);
    stage.start([webhook("soc", &receiver)]);
    receiver.wait_for(2).await;
    stage.stop().await;
    assert_eq!(receiver.sorted_ids(), ["3_high", "4_high"]);
}

#[tokio::test]
async fn an_end_writes_down_what_was_told_however_often_the_log_refuses() {
    let log = MemoryLog::new(Clock::System, &Topic::ALL.map(|topic| topic.spec(true)));
    let (mut stage, receiver) = (Stage::on(Arc::new(log.clone())), Receiver::start().await);
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "high")]).await;
    stage.delivered("soc", 1).await;
    (0..4).for_each(|_| log.fail(LogFault::CommitRetried));
    stage.append([alert(2, "high")]).await;
    receiver.wait_for(2).await;
    stage.stop().await;

    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(3, "high")]).await;
    stage.delivered("soc", 3).await;
    stage.stop().await;
    assert_eq!(receiver.ids(), ["1_high", "2_high", "3_high"]);
}

#[tokio::test]
async fn steps_are_told_in_order_and_none_twice() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.start([webhook("soc", &receiver)]);
    // A repeated walk, and a case that another partition feeds.
    stage.append([alert(1, "medium"), alert(1, "medium"), alert(1, "high"), alert(1, "medium")]).await;
    stage.left("soc", "already_told", 2).await;
    stage.stop().await;
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "high"), alert(1, "critical")]).await;
    stage.delivered("soc", 3).await;
    stage.left("soc", "already_told", 3).await;
    stage.stop().await;
    assert_eq!(receiver.ids(), ["1_medium", "1_high", "1_critical"]);
}

#[tokio::test]
async fn clickhouse_being_away_delays_no_alert_and_its_row_follows() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.rows.away(true);
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "high"), alert(2, "high")]).await;
    receiver.wait_for(2).await;
    stage.stop().await;
    assert!(stage.stored().is_empty());

    stage.rows.away(false);
    stage.start([webhook("soc", &receiver)]);
    stage.delivered("soc", 2).await;
    stage.stop().await;
    assert_eq!(receiver.sorted_ids(), ["1_high", "2_high"], "what was told is not told again for its row");
    assert_eq!(stage.stored(), ["1_high", "2_high"]);
}

#[tokio::test]
async fn after_three_days_an_alert_is_given_up_and_kept_for_a_retry() {
    let (mut stage, receiver) = (Stage::with_manual_clock().await, Receiver::start().await);
    receiver.refuse(Some("1_high"));
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "high"), alert(2, "high")]).await;
    stage.delivered("soc", 1).await;
    stage.advance(Duration::from_secs(71 * 3_600));
    stage.append([alert(3, "high")]).await;
    stage.delivered("soc", 2).await;
    assert_eq!(stage.count("soc", "given_up"), 0);
    stage.advance(Duration::from_secs(2 * 3_600));
    stage.left("soc", "given_up", 1).await;
    stage.stop().await;

    receiver.forget();
    receiver.refuse(None);
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(4, "high")]).await;
    stage.delivered("soc", 3).await;
    stage.stop().await;
    assert_eq!(receiver.ids(), ["4_high"], "what was given up stays so");

    stage.retry_given_up = true;
    stage.start([webhook("soc", &receiver)]);
    stage.delivered("soc", 4).await;
    stage.stop().await;
    assert_eq!(receiver.ids(), ["4_high", "1_high"]);
}

#[tokio::test]
async fn that_a_destination_takes_nothing_is_told_to_the_others() {
    let (mut stage, receiver) = (Stage::with_manual_clock().await, Receiver::start().await);
    let path = stage.path("alerts.jsonl");
    let destinations = || [webhook("soc", &receiver), file("archive", &path)];
    receiver.refuse_all(true);
    stage.start(destinations());
    stage.append([alert(1, "high"), alert(2, "high")]).await;
    stage.failed("soc", 2).await;
    stage.advance(Duration::from_secs(73 * 3_600));
    stage.left("soc", "given_up", 2).await;
    // Two that were given up are one trouble, and it is told to the archive alone.
    stage.left("soc", "about_itself", 1).await;
    stage.delivered("archive", 3).await;
    let opened = "delivery_given_up open high of 1".to_owned();
    assert!(stage.stored().contains(&opened), "{:?}", stage.stored());
    let lines = std::fs::read_to_string(&path).unwrap();
    let told: Alert = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let case = &told.data.finding.case;
    assert_eq!((case.rule, case.tenant.as_str()), (RuleId::DeliveryGivenUp, "_platform"));
    assert_eq!(case.evidence["destination"], "soc");
    stage.stop().await;

    // It goes on being one trouble after a restart, and is over when something is taken.
    receiver.forget();
    stage.start(destinations());
    stage.append([alert(3, "high")]).await;
    stage.failed("soc", 3).await;
    receiver.refuse_all(false);
    stage.delivered("soc", 1).await;
    let closed = "delivery_given_up closed high of 2".to_owned();
    until("the case's end", || stage.stored().contains(&closed)).await;
    stage.stop().await;
    assert_eq!((stage.count("soc", "given_up"), stage.count("archive", "delivered")), (2, 4));
}

#[tokio::test]
async fn that_giving_up_cannot_be_told_raises_no_more() {
    let (mut stage, receiver) = (Stage::with_manual_clock().await, Receiver::start().await);
    receiver.refuse_all(true);
    stage.start([webhook("soc", &receiver), webhook("siem", &receiver)]);
    stage.append([alert(1, "high")]).await;
    for (destination, failures) in [("soc", 1), ("siem", 1)] {
        stage.failed(destination, failures).await;
    }
    for given_up in [1, 2] {
        stage.advance(Duration::from_secs(73 * 3_600));
        for destination in ["soc", "siem"] {
            // First the alert, then the one that the other destination takes nothing.
            stage.left(destination, "given_up", given_up).await;
            stage.left(destination, "about_itself", 1).await;
            until("a try", || given_up == 2 || stage.pending(destination) == 1).await;
        }
    }
    stage.stop().await;
    assert_eq!(stage.alerts_in_the_outbox().await, 3);
}

#[tokio::test]
async fn a_storm_is_told_as_one_and_not_again_after_a_restart() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.start([webhook("soc", &receiver)]);
    stage.append((0..15).map(|number| of_acme(number, "medium"))).await;
    stage.delivered("soc", 15).await;
    stage.stop().await;
    stage.start([webhook("soc", &receiver)]);
    stage.append((15..40).map(|number| of_acme(number, "medium"))).await;
    stage.append([of_acme(40, "critical")]).await;
    stage.delivered("soc", 22).await;
    stage.left("soc", "grouped", 19).await;
    stage.stop().await;
    stage.start([webhook("soc", &receiver)]);
    stage.append([of_acme(41, "medium"), of_acme(42, "high"), of_acme(3, "high")]).await;
    stage.delivered("soc", 24).await;
    stage.left("soc", "grouped", 20).await;
    stage.stop().await;

    let (storms, cases): (Vec<_>, Vec<_>) =
        receiver.bodies().into_iter().partition(|alert| alert.data.finding.case.rule == RuleId::AlertStorm);
    let counts: Vec<_> = storms.iter().map(|storm| storm.data.finding.case.event_count).collect();
    assert_eq!((cases.len(), counts), (22, vec![21, 42]));
    let rows = stage.stored();
    let rows_of_cases = rows.iter().filter(|row| !row.starts_with("alert_storm")).count();
    assert_eq!(rows_of_cases, 44, "every step has its row, told or not");
    for row in ["alert_storm open medium of 21", "alert_storm open high of 42"] {
        assert!(rows.contains(&row.to_owned()), "{rows:?}");
    }
}

#[tokio::test]
async fn a_quiet_storm_is_over() {
    let (mut stage, receiver) = (Stage::with_manual_clock().await, Receiver::start().await);
    stage.start([webhook("soc", &receiver)]);
    stage.append((0..30).map(|number| of_acme(number, "medium"))).await;
    stage.left("soc", "grouped", 9).await;
    stage.advance(Duration::from_secs(601));
    // Whatever comes next lets time pass.
    stage.append([alert(100, "medium")]).await;
    until("the storm's end", || stage.stored().contains(&"alert_storm closed medium of 30".to_owned())).await;
    stage.append([of_acme(30, "medium")]).await;
    stage.delivered("soc", 23).await;
    stage.stop().await;
}

#[tokio::test]
async fn what_is_no_alert_is_passed_over() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.append(["{".to_owned(), "\"an alert\"".to_owned(), alert(1, "high")]).await;
    stage.start([webhook("soc", &receiver)]);
    stage.left("soc", "malformed", 2).await;
    stage.delivered("soc", 1).await;
    stage.stop().await;
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(2, "high")]).await;
    stage.delivered("soc", 2).await;
    stage.stop().await;
    assert_eq!(receiver.ids(), ["1_high", "2_high"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (mut stage, receiver, inside) =
        (Stage::new().await, Receiver::start().await, Receiver::start().await);
    receiver.script([Reply::Redirect(inside.url()), Reply::Redirect(inside.url())]);
    stage.start([webhook("soc", &receiver)]);
    stage.append([alert(1, "high")]).await;
    stage.delivered("soc", 1).await;
    stage.stop().await;
    assert_eq!((receiver.ids().len(), inside.ids().len()), (3, 0));
}

#[tokio::test]
async fn without_leave_nothing_private_is_reached() {
    let receiver = Receiver::start().await;
    let check = async |host: &str, allow_private: bool, expected: &str| {
        let url = HookUrl::new(format!("http://{host}:{}/", receiver.port()).parse().unwrap());
        let secret = Secret::new(stage::SECRET.to_owned());
        let webhook =
            Webhook::new("soc", url, &[secret], allow_private, Timeouts::default(), Clock::System).unwrap();
        let job = Job {
            offset: Offset::ZERO,
            id: format!("{}_high", uuid::Uuid::from_u128(1)),
            body: alert(1, "high").into(),
            rows: Vec::new(),
        };
        let answer = match webhook.tell(&job).await {
            Answer::Away { why, .. } => why,
            other => format!("{other:?}"),
        };
        assert_eq!(answer, expected, "{host}");
    };
    let hosts = "127.0.0.1 127.1 0x7f.1 0x7f000001 2130706433 017700000001 0 localhost LOCALHOST [::1] \
                 [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [64:ff9b::7f00:1] [2002:7f00:1::] 169.254.169.254 10.0.0.1 \
                 [fe80::1] [fd00:ec2::254] \u{ff11}27.0.0.1 100.100.100.200 168.63.129.16";
    for host in hosts.split_whitespace() {
        check(host, false, &NotPublic.to_string()).await;
    }
    assert_eq!(receiver.ids(), Vec::<String>::new());
    // With leave the same ways lead there.
    for host in ["127.0.0.1", "0x7f.1", "localhost", "[::ffff:127.0.0.1]"] {
        check(host, true, "Delivered").await;
    }
}

#[tokio::test]
async fn many_alerts_and_many_refusals_end_well() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::start().await);
    receiver.refuse_odd(true);
    stage.start([webhook("soc", &receiver)]);
    let alerts: Vec<String> = (0..400).map(|number| alert(number, "high")).collect();
    stage.append(alerts).await;
    stage.delivered("soc", 200).await;
    stage.kill().await;
    receiver.refuse_odd(false);
    stage.start([webhook("soc", &receiver)]);
    receiver.wait_for_accepted(400).await;
    stage.stop().await;
    // Delivered and uncommitted are at most the answers of one round, each told once more.
    let repeated = receiver.accepted().len() - 400;
    assert!(repeated <= Pace::default().at_once, "{repeated} were repeated, more than were under way");
}
