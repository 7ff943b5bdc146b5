//! Instructions an event, by callgrind: what does not depend on what else runs on the machine.
//!
//! This program runs itself under valgrind, walking the traffic through each room once. Callgrind counts inside the
//! rooms' functions alone, and dumps when one of them returns.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::report::Report;
use super::rooms::{Costs, Room};
use super::setting::Setting;
use super::traffic::Traffic;

/// The functions of `rooms` and what they measure, in the order in which they are called.
const FUNCTIONS: [(&str, Room); 7] = [
    ("decode_run", Room::Decode),
    ("verify_run", Room::Verify),
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
        valgrind.arg(format!("--toggle-collect=*{function}*")).arg(format!("--dump-after=*{function}*"));
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
    let mut dump = 0;
    for traffic in ["unsigned", "hs256"] {
        for (function, room) in FUNCTIONS {
            dump += 1;
            let path = out.join(format!("out.{dump}"));
            let counted = counted(&path, function).with_context(|| format!("reading {}", path.display()))?;
            report.instructions(traffic, room, counted as f64 / events.max(1) as f64)?;
        }
    }
    Ok(())
}

/// The instructions of one dump, which must be that function's.
fn counted(path: &Path, function: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let trigger = text.lines().find_map(|line| line.strip_prefix("desc: Trigger: ")).unwrap_or_default();
    ensure!(trigger.contains(function), "not the dump of {function}: {trigger}");
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let Some(totals) = totals else { bail!("a dump without totals") };
    Ok(totals.trim().parse()?)
}

/// What runs under callgrind: every room once, over all events at a time.
pub(super) fn walk_once(setting: &Setting, events: usize) -> anyhow::Result<()> {
    for key in [None, Some(&setting.door)] {
        Costs::of_round(&Traffic::simulated(events, events, key), setting, events)?;
    }
    Ok(())
}
