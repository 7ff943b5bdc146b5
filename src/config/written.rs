//! As written: flags, environment and file as one tree, in which every value knows where it was written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::Problem;

/// Names to values, sorted.
pub(super) type Table = BTreeMap<String, Written>;

/// One value, and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) value: Value,
    pub(super) source: Source,
}

/// A value before anyone has said what it should be.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// In decimal, as written otherwise.
    Number(String),
    Bool(bool),
    List(Vec<Written>),
    Table(Table),
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag(&'static str),
    Env(String),
    File { name: Arc<str>, line: usize },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Env(name) => f.write_str(name),
            Self::File { name, line } => write!(f, "{name}, line {line}"),
        }
    }
}

/// What the environment's names of ours begin with.
pub(super) const ENV_PREFIX: &str = "JWTRAIL_";

/// Names of ours that are no keys: `JWTRAIL_CONFIG` says where the file is.
pub(super) const ENV_CONFIG: &str = "JWTRAIL_CONFIG";

/// Reads a TOML file's text. Its errors name the line and never quote it: it may hold a secret.
pub(super) fn from_toml(name: &str, text: &str, problems: &mut Vec<Problem>) -> Table {
    let name: Arc<str> = name.into();
    let line_of = |at: usize| 1 + text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count();
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return convert_table(table.into_inner(), &|at| Source::File {
            name: Arc::clone(&name),
            line: line_of(at),
        });
    }
    problems.extend(errors.into_iter().map(|error| Problem {
        key: String::new(),
        source: error.span().map(|span| Source::File { name: Arc::clone(&name), line: line_of(span.start) }),
        message: format!("not TOML: {}", error.message()),
    }));
    Table::new()
}

fn convert_table(table: DeTable<'_>, source: &impl Fn(usize) -> Source) -> Table {
    let convert = |(key, value): (toml::Spanned<toml::de::DeString<'_>>, toml::Spanned<DeValue<'_>>)| {
        let source_here = source(key.span().start);
        (key.into_inner().into_owned(), convert_value(value.into_inner(), source_here, source))
    };
    table.into_iter().map(convert).collect()
}

fn convert_value(value: DeValue<'_>, here: Source, source: &impl Fn(usize) -> Source) -> Written {
    let value = match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        // A time may be written without quotes.
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Integer(number) => Value::Number(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
        ),
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Bool(flag),
        DeValue::Array(items) => {
            let convert = |item: toml::Spanned<DeValue<'_>>| {
                let here = source(item.span().start);
                convert_value(item.into_inner(), here, source)
            };
            Value::List(items.into_iter().map(convert).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, source)),
    };
    Written { value, source: here }
}

/// Reads what the environment says: `JWTRAIL_CLICKHOUSE__URL` is `clickhouse.url`. An empty variable counts as absent,
/// as container tools pass unset ones that way.
pub(super) fn from_env(environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Table {
    let mut root = Table::new();
    for (name, text) in environment {
        let Some(path) = name.strip_prefix(ENV_PREFIX) else { continue };
        if text.is_empty() || name == ENV_CONFIG {
            continue;
        }
        let path = path.to_ascii_lowercase();
        let written = Written { value: Value::Text(text.clone()), source: Source::Env(name.clone()) };
        if insert(&mut root, &mut path.split("__"), written).is_none() {
            problems.push(Problem {
                key: path.replace("__", "."),
                source: Some(Source::Env(name.clone())),
                message: format!(
                    "another {ENV_PREFIX} variable sets the same key, whole or in part: keep one"
                ),
            });
        }
    }
    root
}

/// `None` if the path is taken, or leads through a plain value.
fn insert<'p>(table: &mut Table, path: &mut impl Iterator<Item = &'p str>, written: Written) -> Option<()> {
    let (mut table, mut key) = (table, path.next()?);
    for next in path {
        let source = written.source.clone();
        let inner = table
            .entry(key.to_owned())
            .or_insert_with(|| Written { value: Value::Table(Table::new()), source });
        let Value::Table(inner) = &mut inner.value else { return None };
        (table, key) = (inner, next);
    }
    if table.contains_key(key) {
        return None;
    }
    table.insert(key.to_owned(), written);
    Some(())
}

/// Lays `over` on `base`: tables are merged, everything else is replaced.
pub(super) fn overlay(base: &mut Table, over: Table) {
    for (key, written) in over {
        match (base.get_mut(&key).map(|below| &mut below.value), written) {
            (Some(Value::Table(below)), Written { value: Value::Table(above), .. }) => overlay(below, above),
            (_, written) => {
                base.insert(key, written);
            }
        }
    }
}

/// One flag's value, at a path such as `["clickhouse", "url"]`.
pub(super) fn set_flag(table: &mut Table, path: &[&str], flag: &'static str, text: String) {
    let written = Written { value: Value::Text(text), source: Source::Flag(flag) };
    // Flags name distinct keys, none within another.
    let _ = insert(table, &mut path.iter().copied(), written);
}
