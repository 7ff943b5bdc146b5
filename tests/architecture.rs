//! The house rules, held against the source text: what the compiler and clippy do not know about rooms, doors and owners.
//!
//! Only code that ships is read: tests may reach for whatever they need. Comments and texts are blanked before anything
//! is looked for, so that a rule may be named where it is kept.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// The rooms of the walk, in its order.
const ROOMS: [&str; 9] =
    ["decode", "verify", "enrich", "detect", "alert", "summarize", "store", "settle", "corridor"];

/// The rooms without I/O, clock, async and randomness.
const PURE: [&str; 5] = ["decode", "verify", "enrich", "detect", "summarize"];

/// Modules that are open to others although they are not the top of `src`. Everything else is behind a door.
const OPEN: [&str; 13] = [
    "clickhouse::engine",
    "log::journal",
    "log::kafka",
    "pipeline::alert",
    "pipeline::corridor",
    "pipeline::decode",
    "pipeline::decode::lenient",
    "pipeline::detect",
    "pipeline::enrich",
    "pipeline::settle",
    "pipeline::store",
    "pipeline::summarize",
    "pipeline::verify",
];

/// What a pure room has nothing to do with.
const IMPURE: [&str; 21] = [
    "async",
    "await",
    "aws_lc_rs::rand",
    "crate::api",
    "crate::clickhouse",
    "crate::clock",
    "crate::deliver",
    "crate::lifecycle",
    "crate::telemetry",
    "rand",
    "rdkafka",
    "reqwest",
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "tracing",
];

/// Where a snapshot comes from, and what it takes: the walk itself never goes there.
const LOADERS: [(&str, &[&str]); 3] = [
    ("pipeline/enrich/atlas.rs", &["std::fs", "std::io"]),
    (
        "pipeline/enrich/watch.rs",
        &["async", "await", "crate::lifecycle", "std::fs", "std::time::SystemTime", "tokio", "tracing"],
    ),
    ("pipeline/verify/trust.rs", &["std::fs", "std::io"]),
];

/// The owners of what `.clippy.toml` forbids to everybody else.
const OWNERS: [&str; 4] = ["clock.rs", "config/mod.rs", "lifecycle.rs", "main.rs"];

/// The ClickHouse engine's binding, one FFI read in the Kafka log, and the bench's allocator.
const UNSAFE: [&str; 3] = ["bench/allocator.rs", "clickhouse/engine/ffi.rs", "log/kafka/generation.rs"];

/// A file of `src`.
struct Source {
    /// Below `src`.
    path: String,
    /// `pipeline::decode::reader`.
    module: Vec<String>,
    text: String,
    /// What ships of it, without comments and texts.
    code: String,
    /// Every path that the code names and that begins at a crate, `crate`, `self` or `super`, written out.
    paths: BTreeSet<String>,
}

impl Source {
    fn new(path: &str, text: String) -> Self {
        let module: Vec<String> = path
            .trim_end_matches(".rs")
            .split('/')
            .filter(|part| !["mod", "main", "lib"].contains(part))
            .map(str::to_owned)
            .collect();
        let code = shipped(&blanked(&text));
        let paths = paths_of(&code, &module);
        Self { path: path.to_owned(), module, text, code, paths }
    }

    /// A file that only tests have: by the names that this repository gives such files.
    fn is_test(&self) -> bool {
        let tests = ["tests", "testing", "contract", "readme", "fuzz"];
        self.module.iter().any(|part| tests.contains(&part.as_str()))
    }

    fn room(&self) -> Option<&str> {
        match self.module.as_slice() {
            [pipeline, room, ..] if pipeline == "pipeline" => Some(room),
            _ => None,
        }
    }

    fn uses(&self, what: &str) -> bool {
        let names = |path: &String| path.strip_prefix(what).is_some_and(|rest| !rest.starts_with(is_name));
        if what.contains("::") || !["async", "await"].contains(&what) {
            self.paths.iter().any(names)
        } else {
            has_word(&self.code, what)
        }
    }
}

/// All of `src`, in the order of the paths.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(read_sources);

fn read_sources() -> Vec<Source> {
    fn read(directory: &Path, below: &str, sources: &mut Vec<Source>) {
        let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{below}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                read(&entry.path(), &format!("{path}/"), sources);
            } else if path.ends_with(".rs") {
                sources.push(Source::new(&path, fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    let mut sources = Vec::new();
    read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "", &mut sources);
    assert!(sources.len() > 100, "only {} files", sources.len());
    sources
}

/// The files that ship.
fn shipping() -> impl Iterator<Item = &'static Source> {
    SOURCES.iter().filter(|source| !source.is_test())
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_name) && !code[at + word.len()..].starts_with(is_name))
}

/// Comments and the inside of texts become blanks; lines stay lines.
fn blanked(text: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(char) = rest.chars().next() {
        let raw = rest.strip_prefix('r').filter(|_| !code.ends_with(is_name)).and_then(|after| {
            let hashes = after.len() - after.trim_start_matches('#').len();
            after[hashes..].starts_with('"').then(|| (hashes + 2, format!("\"{}", "#".repeat(hashes))))
        });
        let quoted = |rest: &str, quote: char| {
            let mut escaped = false;
            let end = rest[1..].find(|char| {
                let ends = char == quote && !escaped;
                escaped = char == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        };
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some((start, end)) = raw {
            rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
        } else if char == '"' {
            quoted(rest, '"')
        } else if char == '\'' && (rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'')) {
            quoted(rest, '\'')
        } else {
            code.push(char);
            rest = &rest[char.len_utf8()..];
            continue;
        };
        code.extend(rest[..length].chars().map(|char| if char == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    code
}

/// The code without the modules at its outermost level that are for tests.
fn shipped(code: &str) -> String {
    let (mut kept, mut lines) = (String::new(), code.lines().peekable());
    while let Some(line) = lines.next() {
        if ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"].contains(&line) {
            // What else is said of the item, then the item: a module goes, anything else stays.
            while lines.next_if(|line| line.starts_with("#[")).is_some() {}
            let module = lines.next_if(|line| line.split(' ').take(2).any(|word| word == "mod"));
            if module.is_some_and(|module| module.ends_with('{')) {
                lines.by_ref().find(|line| *line == "}");
            }
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// The paths that `code` names, groups written out: `use crate::log::{Lane, Topic}` names two.
fn paths_of(code: &str, module: &[String]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut at = 0;
    while let Some(found) = code[at..].find("::") {
        let separator = at + found;
        at = separator + 2;
        let start = code[..separator].rfind(|char| !is_name(char)).map_or(0, |before| before + 1);
        let root = &code[start..separator];
        if !root.is_empty() {
            at = code.len() - write_out(root, &code[at..], &mut paths).len();
        }
    }
    paths.iter().map(|path| absolute(path, module)).collect()
}

/// One tree of a `use`, or one path, behind `prefix::`. Answers what follows it.
fn write_out<'c>(prefix: &str, code: &'c str, paths: &mut BTreeSet<String>) -> &'c str {
    let code = code.trim_start();
    if let Some(mut group) = code.strip_prefix('{') {
        loop {
            group = group.trim_start_matches(|char: char| char.is_whitespace() || char == ',');
            if let Some(rest) = group.strip_prefix('}') {
                return rest;
            }
            let rest = write_out(prefix, group, paths);
            if rest.len() == group.len() {
                return rest;
            }
            group = rest;
        }
    }
    let end = code.find(|char| !is_name(char)).unwrap_or(code.len());
    let (name, rest) = code.split_at(end);
    let path = if name.is_empty() { prefix.to_owned() } else { format!("{prefix}::{name}") };
    match rest.strip_prefix("::") {
        Some(deeper) if !name.is_empty() => write_out(&path, deeper, paths),
        _ => {
            paths.insert(path);
            // `as Other` and `*` say nothing that matters here.
            rest.trim_start_matches(|char: char| is_name(char) || char == ' ' || char == '*')
        }
    }
}

/// With `super` and `self` resolved.
fn absolute(path: &str, module: &[String]) -> String {
    let mut here: Vec<&str> = std::iter::once("crate").chain(module.iter().map(String::as_str)).collect();
    let mut rest = path;
    if !["super", "self"].contains(&path.split("::").next().unwrap()) {
        return path.to_owned();
    }
    while let Some((first @ ("super" | "self"), behind)) = rest.split_once("::") {
        if first == "super" {
            here.pop();
        }
        rest = behind;
    }
    format!("{}::{rest}", here.join("::"))
}

/// Fails with every breach of a rule at once.
fn assert_none(rule: &str, breaches: impl IntoIterator<Item = String>) {
    let breaches: Vec<_> = breaches.into_iter().collect();
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = SOURCES.iter().filter(|source| !source.text.starts_with("//! "));
    assert_none("a module begins with `//!`", silent.map(|source| source.path.clone()));
}

#[test]
fn no_file_is_two_things() {
    let long = SOURCES.iter().filter(|source| source.text.lines().count() > 800);
    assert_none("past 800 lines a file is two things", long.map(|source| source.path.clone()));
}

#[test]
fn nothing_is_left_for_later() {
    let in_text = ["TODO", "FIXME", "XXX"];
    let in_code = ["todo!", "unimplemented!", "#[allow", "#![allow"];
    let left = SOURCES.iter().flat_map(|source| {
        let text = in_text.into_iter().filter(|word| has_word(&source.text, word));
        let code = in_code.into_iter().filter(|word| source.code.contains(word));
        text.chain(code).map(|word| format!("{}: {word}", source.path)).collect::<Vec<_>>()
    });
    assert_none("no stub is called done, and no lint is silenced without a reason", left);
}

#[test]
fn rooms_are_entered_by_their_door() {
    let mut open = BTreeSet::new();
    for source in shipping() {
        for line in source.code.lines().map(str::trim) {
            let Some((visibility, name)) = line.split_once("mod ") else { continue };
            if visibility.starts_with("pub") && name.ends_with(';') {
                open.insert(format!("{}::{}", source.module.join("::"), name.trim_end_matches(';')));
            }
        }
    }
    assert_eq!(
        open,
        OPEN.iter().map(|&module| module.to_owned()).collect(),
        "a module that others may enter"
    );
}

#[test]
fn no_room_calls_a_later_one() {
    let calls = shipping().flat_map(|source| {
        let own = source.room().and_then(|room| ROOMS.iter().position(|name| *name == room));
        let later = &ROOMS[own.map_or(ROOMS.len(), |own| own + 1)..];
        let uses = |room: &&&str| source.uses(&format!("crate::pipeline::{room}"));
        later.iter().filter(uses).map(|room| format!("{} uses {room}", source.path)).collect::<Vec<_>>()
    });
    assert_none("a record never walks back", calls);
}

#[test]
fn the_pure_rooms_are_pure() {
    let pure: Vec<_> =
        shipping().filter(|source| source.room().is_some_and(|room| PURE.contains(&room))).collect();
    let mut breaches = Vec::new();
    for source in &pure {
        let used: Vec<_> = IMPURE.into_iter().filter(|what| source.uses(what)).collect();
        let loader = LOADERS.iter().find(|(path, _)| *path == source.path);
        let expected = loader.map_or(&[][..], |(_, uses)| uses);
        if used != expected {
            breaches.push(format!("{} uses {used:?}, not {expected:?}", source.path));
        }
    }
    assert_none("no I/O, clock, async or randomness but where a snapshot is loaded", breaches);
    for (path, _) in LOADERS {
        assert!(pure.iter().any(|source| source.path == path), "{path} is not there");
    }
}

#[test]
fn the_api_meets_the_pipeline_on_the_topic() {
    let forbidden = [
        "crate::log::Lane",
        "crate::pipeline::corridor",
        "crate::pipeline::settle",
        "crate::pipeline::store",
    ];
    let beside = ["api", "issuer"];
    let is_beside = |module: &String| beside.contains(&module.as_str());
    let reaches = shipping().filter(|source| source.module.first().is_some_and(is_beside));
    let reaches = reaches.flat_map(|source| {
        let uses = forbidden.into_iter().filter(|what| source.uses(what));
        uses.map(|what| format!("{} uses {what}", source.path)).collect::<Vec<_>>()
    });
    assert_none("the API and the issuer reach no lane, store, settle or corridor", reaches);
}

#[test]
fn time_tasks_environment_and_randomness_have_one_owner() {
    let clippy = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.clippy.toml")).unwrap();
    let forbidden: Vec<_> = clippy
        .lines()
        .filter_map(|line| Some(line.split_once("path = \"")?.1.split_once('"')?.0))
        // The last two names: however the rest was imported, they stand at the call.
        .map(|path| path.rsplitn(3, "::").take(2).collect::<Vec<_>>())
        .map(|names| format!("{}::{}", names[1], names[0]))
        .collect();
    assert!(forbidden.contains(&"SystemTime::now".to_owned()), "{forbidden:?}");
    let others = shipping().filter(|source| !OWNERS.contains(&source.path.as_str()));
    let calls = others.flat_map(|source| {
        let used = forbidden.iter().filter(|call| has_word(&source.code, call));
        used.map(|call| format!("{} calls {call}", source.path)).collect::<Vec<_>>()
    });
    assert_none("what .clippy.toml forbids is its owner's", calls);
}

#[test]
fn unsafe_code_stays_where_it_is() {
    let uses = SOURCES.iter().filter(|source| has_word(&source.code, "unsafe"));
    let elsewhere = uses.filter(|source| !UNSAFE.contains(&source.path.as_str()));
    assert_none("unsafe code", elsewhere.map(|source| source.path.clone()));
}

#[test]
fn the_reader_of_these_rules_reads_rust() {
    let text = r##"
//! About tokio::spawn.
use std::{fs, net::{IpAddr, TcpStream}};
use super::super::store::{Block, CutBlock as Cut};
/* rand::rng */
fn f<'a>(x: &'a str) -> char { let y = "crate::clock"; let z = r#"std::io "# ; '"'; self::g(crate::log::Topic::ALL) }
#[cfg(test)]
mod tests {
    use tokio::spawn;
}
"##;
    let source = Source::new("pipeline/decode/reader.rs", text.to_owned());
    let paths: Vec<_> = source.paths.iter().map(String::as_str).collect();
    let expected = [
        "crate::log::Topic::ALL",
        "crate::pipeline::decode::reader::g",
        "crate::pipeline::store::Block",
        "crate::pipeline::store::CutBlock",
        "std::fs",
        "std::net::IpAddr",
        "std::net::TcpStream",
    ];
    assert_eq!(paths, expected);
    assert!(source.uses("std::net") && source.uses("crate::log") && !source.uses("std::f"));
}
