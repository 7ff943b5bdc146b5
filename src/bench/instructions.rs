//! Instructions an event, by callgrind: what does not depend on what else runs on the machine.
//!
//! This program runs itself under valgrind, walking the traffic through each room once. Callgrind dumps what it counted
//! when a room's function is entered, and again when it returns. The machine that valgrind shows has no instructions
//! for SHA-256: signatures cost more there than they do.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::report::Report;
use super::rooms::{Costs, Room};
use super::setting::Setting;
use super::traffic::Traffic;

/// What the rooms' functions are below.
const ROOMS: &str = "jwtrail::bench::rooms::";

/// They and what they measure, in the order in which they are called.
const FUNCTIONS: [(&str, Room); 8] = [
    ("decode_run", Room::Decode),
    ("verify_run", Room::Verify),
    ("repeats_run", Room::Repeats),
    ("enrich_run", Room::Enrich),
    ("detect_run", Room::Detect),
    ("alert_run", Room::Alert),
    ("store_run", Room::Store),
    ("step_run", Room::Together),
];

/// Counts over `events` events, unsigned and signed. Where valgrind is not installed it says so, and goes on.
pub(super) fn measure(folder: &Path, events: usize, report: &mut Report) -> anyhow::Result<()> {
    let out = folder.join("callgrind");
    std::fs::remove_dir_all(&out).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    std::fs::create_dir_all(&out)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]);
    valgrind.arg(format!("--callgrind-out-file={}", out.join("out").display()));
    for (function, _) in FUNCTIONS {
        valgrind.args(["before", "after"].map(|when| format!("--dump-{when}={ROOMS}{function}")));
    }
    valgrind.arg(std::env::current_exe()?).args(["bench", "--once", "--events", &events.to_string()]);
    let status = match valgrind.stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("\nvalgrind is not installed: instructions are not counted");
            return Ok(());
        }
        status => status.context("running valgrind")?,
    };
    ensure!(status.success(), "callgrind ended with {status}; its files are in {}", out.display());

    report.instructions_head(events);
    let mut rooms =
        ["unsigned", "hs256"].into_iter().flat_map(|traffic| FUNCTIONS.map(|room| (traffic, room)));
    for dump in 1.. {
        let path = out.join(format!("out.{dump}"));
        let Ok(text) = std::fs::read_to_string(&path) else { break };
        let named = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let Some(left) = named("desc: Trigger: --dump-after=") else { continue };
        let (traffic, (function, room)) = rooms.next().context("callgrind dumps too often")?;
        ensure!(left.strip_prefix(ROOMS) == Some(function), "{} is not of {function}", path.display());
        let totals: u64 = named("totals:").context("a dump without totals")?.parse()?;
        report.instructions(traffic, room, totals as f64 / events.max(1) as f64)?;
    }
    ensure!(rooms.next().is_none(), "callgrind did not see every room; its files are in {}", out.display());
    Ok(())
}

/// What runs under callgrind: every room once, over all events at a time.
pub(super) fn walk_once(setting: &Setting, events: usize) -> anyhow::Result<()> {
    for key in [None, Some(&setting.door)] {
        Costs::of_round(&Traffic::simulated(events, events, key), setting, events)?;
    }
    Ok(())
}
