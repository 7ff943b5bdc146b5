//! `jwtrail explain` and `?explain=true`: why a rule fired or did not, from what ClickHouse remembers.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::attacks::{CHROME, FIREFOX, PARIS, TOKYO, accepted};

/// `jwtrail explain ID`, with its standard output if it succeeded, else its standard error.
fn explain(app: &TestApp, args: &[&str]) -> Result<String, String> {
    let output = app.command(&[&["explain"], args].concat()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn assert_says(said: &str, expected: &[&str]) {
    for words in expected {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_a_case_and_what_is_not_sent_yet_are_explained() {
    let app = TestApp::new("");
    let up = app.up().await;
    let mut ids = Vec::new();
    for (ip, user_agent) in [(PARIS, FIREFOX), (TOKYO, CHROME)] {
        let (status, answer) = app.post(&accepted("alice", "stolen", ip, user_agent).to_string()).await;
        assert_eq!(status, 202, "{answer}");
        ids.push(answer["ids"][0].as_str().unwrap().to_owned());
    }
    app.eventually("SELECT count() FROM findings WHERE is_alert", "2").await;
    app.eventually("SELECT count() FROM events", "2").await;

    let first = explain(&app, &[&ids[0]]).unwrap();
    assert_says(
        &first,
        &["Paris, FR", "impossible_travel  not: nothing else is remembered", "h of the subject, 0 rows"],
    );
    let second = explain(&app, &[&ids[1]]).unwrap();
    assert_says(
        &second,
        &[
            "Tokyo, JP",
            "valid, proof gateway_attested",
            "Chrome on Windows",
            "impossible_travel  fired, severity high",
            "token_replay       fired, severity high",
            "shared_token       not: 2 of 5 independent origins",
            "token_leak         not: no token-shaped text",
            "this event makes it an alert",
            "state was rebuilt from the last 50 h of the subject, 1 row",
        ],
    );
    assert!(!second.contains("differs"), "the walk then and now say the same:\n{second}");
    let json: Value = serde_json::from_str(&explain(&app, &["--json", &ids[1]]).unwrap()).unwrap();
    let event = &json["event"];
    assert_eq!(
        (&event["event"]["id"], &event["rules"][0]["fired"]),
        (&json!(ids[1]), &json!(true)),
        "{json:#}"
    );

    let case = app.query("SELECT finding_id FROM findings WHERE rule = 'impossible_travel'").await.unwrap();
    assert!(second.contains(&case), "the rebuilt case has the stored one's id {case}:\n{second}");
    let story = explain(&app, &[&case]).unwrap();
    assert_says(
        &story,
        &[
            "HIGH  impossible_travel  default/alice",
            "Paris, FR",
            "Tokyo, JP",
            "one session at both ends, on two devices",
            "told     an alert",
            &ids[0],
            &ids[1],
            "SELECT time, kind",
            "distance_km",
        ],
    );

    // A third from Paris again, which is not sent: a dry run of two knows the first when it judges the second.
    let third = accepted("alice", "stolen", PARIS, FIREFOX).to_string();
    let (status, answer) = app.post_to("/v1/events?explain=true", &format!("[{third},{third}]")).await;
    assert_eq!(status, 200, "{answer:#}");
    for (index, before) in ["2 rows", "2 rows, and 1 event of this body before it"].into_iter().enumerate() {
        let explained = &answer["explained"][index];
        assert!(explained["note"].as_str().unwrap().contains(&format!("{before}; ")), "{explained:#}");
        assert_eq!(explained["cases"][0]["finding_id"], case, "{explained:#}");
        assert_eq!(explained["place"]["city"], "Paris", "{explained:#}");
    }
    for (query, body, expected) in
        [("explain=yes", third.as_str(), 400), ("explain=true", "[17]", 422), ("explain=true", "{", 400)]
    {
        let (status, answer) = app.post_to(&format!("/v1/events?{query}"), body).await;
        assert_eq!(status, expected, "{query}: {answer}");
    }
    let sent = app.command(&["send", "--explain", "--sub", "bob"]).output().unwrap();
    let answer: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(answer["explained"][0]["rules"].as_array().unwrap().len(), 5, "{answer:#}");
    // What is sent later lies behind anything that a dry run had appended.
    let (status, answer) = app.post(&accepted("carol", "last", PARIS, FIREFOX).to_string()).await;
    assert_eq!(status, 202, "{answer}");
    app.eventually("SELECT count() FROM events WHERE sub = 'carol'", "1").await;
    app.eventually("SELECT count() FROM events", "3").await;

    let unknown = explain(&app, &["00000000-0000-4000-8000-000000000000"]).unwrap_err();
    assert_says(&unknown, &["knows no event and no case 00000000-0000-4000-8000-000000000000"]);
    assert!(up.stop().await.success());
    let away = explain(&app, &[&ids[0]]).unwrap_err();
    assert_says(&away, &["is `jwtrail up` running?", "cannot be reached"]);
}
