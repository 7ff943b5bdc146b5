//! kill -9 under load: the test starts itself as a child that refreshes, kills it, and looks at what is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::issuer::store::contract::family_id;

/// Tells the child where its store is.
const DIRECTORY: &str = "JWTRAIL_TEST_SESSIONS";
const CHILD: &str = "issuer::store::embedded::tests::kill::child";
const ROUNDS: usize = 3;
const LINES_A_ROUND: usize = 400;
const FAMILIES: usize = 8;

/// The same families in every process.
fn ids() -> Vec<FamilyId> {
    let tenant: TenantId = "acme".parse().unwrap();
    let id = |number: usize| {
        let mut id = family_id(&tenant, &format!("subject-{}", number / 2));
        id.random = [u8::try_from(number).unwrap(); 16];
        id
    };
    (0..FAMILIES).map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    // What the child was answered: the last generation of each family.
    let mut answered = BTreeMap::<usize, u64>::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let ["given", family, generation] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            answered.insert(family.parse().unwrap(), generation.parse().unwrap());
            told += 1;
            if told == LINES_A_ROUND {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(told >= LINES_A_ROUND, "the child ended by itself");

        let store = Embedded::open(dir.path(), Clock::System).unwrap();
        assert_eq!(answered.len(), FAMILIES, "round {round}");
        for (family, id) in ids().iter().enumerate() {
            let given = answered[&family];
            // An advance that was made and not answered is given again.
            let next = match refresh(&*store, id, given).await {
                Refreshed::Advanced { generation, .. } | Refreshed::Again { generation, .. } => generation,
                other => panic!("round {round}, family {family}: told {given}, found {other:?}"),
            };
            assert_eq!(next, given + 1, "round {round}");
            answered.insert(family, next);
        }
    }
}

/// Refreshes until it is killed, and says what it was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the test above"]
async fn child() {
    #[expect(clippy::disallowed_methods, reason = "how the test speaks to itself")]
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let store = Embedded::open(&dir, Clock::System).unwrap();
    let mut families = tokio::task::JoinSet::new();
    for (number, id) in ids().into_iter().enumerate() {
        let store = Arc::clone(&store);
        families.spawn(async move {
            let mut generation = find(&store, &id).await;
            loop {
                let Refreshed::Advanced { generation: next, .. } = refresh(&*store, &id, generation).await
                else {
                    panic!("family {number} does not advance from {generation}")
                };
                generation = next;
                say(&format!("given {number} {generation}"));
            }
        });
    }
    families.join_all().await;
}

/// The family's current generation; it is begun in the first round.
async fn find(store: &Embedded, id: &FamilyId) -> u64 {
    let key = format!("f:{}:{}", id.tenant, id.text());
    let generation =
        store.change("looking", move |change| change.get::<(u64, i64, i64, u64, bool, Vec<u8>)>(&key));
    if let Some(state) = generation.await.unwrap() {
        return state.0;
    }
    let now = Clock::System.now();
    let (_, family) = begun(store, now).await;
    store.begin(id, &family).await.unwrap();
    1
}

/// A line in one write, so that lines of several threads never mix.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}
