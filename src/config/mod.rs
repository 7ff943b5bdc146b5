//! Configuration: as written (flags, `JWTRAIL_…`, one TOML file, in this order, then defaults) → as meant ([`Config`]).
//!
//! All problems are reported at once, each with its key's path, where it was written and what to write instead. A secret
//! reaches neither a message nor what `jwtrail check` prints.

#[cfg(test)]
mod keys;

mod leaf;
mod private_file;
mod public_key;
mod reader;
mod written;

mod convert;
mod credentials;
mod geo_files;
mod meant;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub(crate) use credentials::{Credentials, webhook_key};
#[cfg(test)]
pub(crate) use keys::KEYS;
pub(crate) use meant::*;
pub(crate) use private_file::make_private;
use reader::{Context, Line, Section};
use written::Source;

/// What flags may say; everything else has environment variables and the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// `--config`: the file; without it `JWTRAIL_CONFIG`, then `jwtrail.toml` if that exists.
    pub(crate) config: Option<PathBuf>,
    /// `--data-dir`.
    pub(crate) data_dir: Option<String>,
    /// `--api`.
    pub(crate) api: Option<String>,
    /// `--clickhouse`: where the embedded engine listens.
    pub(crate) clickhouse: Option<String>,
    /// `--clickhouse-url`.
    pub(crate) clickhouse_url: Option<String>,
    /// `--brokers`.
    pub(crate) brokers: Option<String>,
    /// `--redis`.
    pub(crate) redis: Option<String>,
    /// `--log-format`.
    pub(crate) log_format: Option<String>,
}

/// What to do when `DATA_DIR/credentials.toml` is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingCredentials {
    /// Draw them and write the file: `up`.
    Make,
    /// Do without; a key that is then needed is asked for where it is used.
    Accept,
}

/// The process's environment: read here and nowhere else. Values that are not UTF-8 are nothing that we could use.
pub(crate) fn environment() -> BTreeMap<String, String> {
    #[expect(clippy::disallowed_methods, reason = "this is the owner of the environment")]
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads, checks and joins all layers.
///
/// # Errors
/// Every problem with what was written, at once.
pub(crate) fn load(
    overrides: &Overrides,
    environment: &BTreeMap<String, String>,
    missing: MissingCredentials,
) -> Result<Config, ConfigError> {
    let (config, _) = load_noting_keys(overrides, environment, missing)?;
    Ok(config)
}

/// As [`load`], and says which keys the code read: what the table of keys is held to.
fn load_noting_keys(
    overrides: &Overrides,
    environment: &BTreeMap<String, String>,
    missing: MissingCredentials,
) -> Result<(Config, std::collections::BTreeSet<String>), ConfigError> {
    let mut problems = Vec::new();
    let mut written = read_file(overrides, environment, &mut problems);
    written::overlay(&mut written, written::from_env(environment, &mut problems));
    written::overlay(&mut written, flags(overrides));

    let context = Context::new(environment, problems);
    let config = convert::config(Section::root(&context, written), missing);
    let (problems, lines, asked) = context.finish();
    match config {
        Some(config) if problems.is_empty() => Ok((Config { effective: render(&lines), ..config }, asked)),
        _ => Err(ConfigError { problems }),
    }
}

/// The file's tree. A file that was named must exist; the default one need not.
fn read_file(
    overrides: &Overrides,
    environment: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> written::Table {
    let named = overrides
        .config
        .clone()
        .or_else(|| environment.get(written::ENV_CONFIG).filter(|path| !path.is_empty()).map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => written::from_toml(&path.display().to_string(), &text, problems),
        Err(cause) if named.is_none() && cause.kind() == std::io::ErrorKind::NotFound => {
            written::Table::new()
        }
        Err(cause) => {
            let message = format!("the configuration file {} cannot be read: {cause}", path.display());
            problems.push(Problem { key: String::new(), source: None, message });
            written::Table::new()
        }
    }
}

/// The file that is read if none is named.
const DEFAULT_FILE: &str = "jwtrail.toml";

fn flags(overrides: &Overrides) -> written::Table {
    let mut table = written::Table::new();
    let flags: [(&Option<String>, &[&str], &'static str); 7] = [
        (&overrides.data_dir, &["data_dir"], "--data-dir"),
        (&overrides.api, &["api"], "--api"),
        (&overrides.clickhouse, &["clickhouse", "listen"], "--clickhouse"),
        (&overrides.clickhouse_url, &["clickhouse", "url"], "--clickhouse-url"),
        (&overrides.brokers, &["kafka", "brokers"], "--brokers"),
        (&overrides.redis, &["redis", "url"], "--redis"),
        (&overrides.log_format, &["log_format"], "--log-format"),
    ];
    for (value, path, flag) in flags {
        if let Some(value) = value {
            written::set_flag(&mut table, path, flag, value.clone());
        }
    }
    table
}

/// The lines as TOML: a header only where something follows it.
fn render(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut pending = None;
    for line in lines {
        match line {
            Line::Header(header) => pending = Some(header),
            Line::Entry { key, value, source } => {
                if let Some(header) = pending.take() {
                    text.push_str(&format!("\n{header}\n"));
                }
                let source = source.as_ref().map_or_else(|| "default".to_owned(), Source::to_string);
                text.push_str(&format!("{key} = {value}  # {source}\n"));
            }
        }
    }
    text
}

/// The configuration cannot be used as it was written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) struct ConfigError {
    pub(crate) problems: Vec<Problem>,
}

impl ConfigError {
    fn one(key: &str, message: String) -> Self {
        Self { problems: vec![Problem { key: key.to_owned(), source: None, message }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the configuration has a problem:")?,
            many => write!(f, "the configuration has {many} problems:")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One thing that is wrong, and what to write instead.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// The key's path; empty if it is the file as a whole.
    key: String,
    source: Option<Source>,
    message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.source) {
            ("", None) => f.write_str(&self.message),
            ("", Some(source)) => write!(f, "{source}: {}", self.message),
            (key, None) => write!(f, "{key}: {}", self.message),
            (key, Some(source)) => write!(f, "{key} ({source}): {}", self.message),
        }
    }
}
