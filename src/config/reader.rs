//! Reads typed values out of what was written, and goes on after a mistake: all problems are reported at once, each
//! with its key's path and what to write instead. What was read is noted down for `jwtrail check`, secrets redacted.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::leaf::Leaf;
use super::written::{Source, Table, Value, Written};
use super::{Problem, Secret};

/// What all sections of one reading share.
pub(super) struct Context<'e> {
    environment: &'e BTreeMap<String, String>,
    problems: RefCell<Vec<Problem>>,
    /// Keys that nothing asked for; kept apart because `{ env = "JWTRAIL_…" }` may yet explain a variable.
    unknown: RefCell<Vec<Problem>>,
    secrets_from_env: RefCell<BTreeSet<String>>,
    lines: RefCell<Vec<Line>>,
    /// Every key that the code reads: what KEYS is held to.
    asked: RefCell<BTreeSet<String>>,
}

/// A line of the effective configuration.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Header(String),
    Entry {
        key: String,
        /// As TOML.
        value: String,
        /// `None`: the default.
        source: Option<Source>,
    },
}

impl<'e> Context<'e> {
    pub(super) fn new(environment: &'e BTreeMap<String, String>, problems: Vec<Problem>) -> Self {
        Self {
            environment,
            problems: RefCell::new(problems),
            unknown: RefCell::default(),
            secrets_from_env: RefCell::default(),
            lines: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    pub(super) fn report(&self, key: String, source: Option<Source>, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { key, source, message: message.into() });
    }

    /// All problems, in the order of their keys; the effective lines; the keys that were asked for.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Line>, BTreeSet<String>) {
        let named = self.secrets_from_env.into_inner();
        let mut problems = self.problems.into_inner();
        problems.extend(
            self.unknown.into_inner().into_iter().filter(
                |problem| !matches!(&problem.source, Some(Source::Env(name)) if named.contains(name)),
            ),
        );
        problems.sort_by(|a, b| a.key.cmp(&b.key));
        (problems, self.lines.into_inner(), self.asked.into_inner())
    }
}

/// One table of the tree while it is being read.
pub(super) struct Section<'c> {
    context: &'c Context<'c>,
    /// `destination[0]`; empty at the root.
    path: String,
    table: Table,
    known: Vec<&'static str>,
}

impl<'c> Section<'c> {
    pub(super) const fn root(context: &'c Context<'c>, table: Table) -> Self {
        Self { context, path: String::new(), table, known: Vec::new() }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A problem with the section's `key` as a whole.
    pub(super) fn report(&self, key: &str, message: impl Into<String>) {
        self.context.report(self.path_of(key), None, message);
    }

    fn take(&mut self, key: &'static str) -> Option<Written> {
        self.known.push(key);
        self.context.asked.borrow_mut().insert(without_indices(&self.path_of(key)));
        self.table.remove(key)
    }

    fn note(&self, key: &str, value: String, source: Option<Source>) {
        self.context.lines.borrow_mut().push(Line::Entry { key: key.to_owned(), value, source });
    }

    fn read<T: Leaf>(&self, key: &str, written: &Written) -> Option<T> {
        match T::read(written) {
            Ok(value) => Some(value),
            Err(message) => {
                self.context.report(self.path_of(key), Some(written.source.clone()), message);
                None
            }
        }
    }

    /// The key's value; `None` if it is absent, or wrong (which is then reported).
    pub(super) fn get<T: Leaf>(&mut self, key: &'static str) -> Option<T> {
        let written = self.take(key)?;
        let value: T = self.read(key, &written)?;
        self.note(key, value.show(), Some(written.source));
        Some(value)
    }

    /// The key's value, or its default.
    pub(super) fn or<T: Leaf>(&mut self, key: &'static str, default: T) -> T {
        if self.table.contains_key(key) {
            return self.get(key).unwrap_or(default);
        }
        self.take(key);
        self.note(key, default.show(), None);
        default
    }

    /// The key's value; its absence is a problem.
    pub(super) fn need<T: Leaf>(&mut self, key: &'static str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.report(key, "is missing, and has no default");
        }
        self.get(key)
    }

    /// A list of plain values. One that is not a list is reported, as is each element that is wrong.
    pub(super) fn list<T: Leaf>(&mut self, key: &'static str) -> Vec<T> {
        let Some(written) = self.take(key) else { return Vec::new() };
        let source = written.source.clone();
        let Some(items) = self.items(key, written) else { return Vec::new() };
        let values: Vec<T> = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| self.read(&format!("{key}[{index}]"), item))
            .collect();
        self.note(key, show_list(&values), Some(source));
        values
    }

    /// One plain value or a list of them; else `default`.
    pub(super) fn list_or<T: Leaf>(&mut self, key: &'static str, default: Vec<T>) -> Vec<T> {
        let Some(written) = self.table.get_mut(key) else {
            self.take(key);
            if !default.is_empty() {
                self.note(key, show_list(&default), None);
            }
            return default;
        };
        if !matches!(written.value, Value::List(_)) {
            let one = written.clone();
            written.value = Value::List(vec![one]);
        }
        self.list(key)
    }

    fn items(&self, key: &str, written: Written) -> Option<Vec<Written>> {
        if let Value::List(items) = written.value {
            return Some(items);
        }
        let message = match written.source {
            Source::File { .. } => format!("is a list: write `{key} = [ … ]`, or `[[{key}]]` tables"),
            _ => "is a list: it can only be written in the file".to_owned(),
        };
        self.context.report(self.path_of(key), Some(written.source), message);
        None
    }

    /// A list of tables, each read by `read`.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'c>) -> Option<T>,
    ) -> Vec<T> {
        let Some(written) = self.take(key) else { return Vec::new() };
        let items = self.items(key, written).unwrap_or_default();
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let header = format!("[[{}]]", without_indices(&self.path_of(key)).replace("[]", ""));
            if let Some(mut section) = self.section(&format!("{key}[{index}]"), header, item) {
                values.extend(read(&mut section));
                section.finish();
            }
        }
        values
    }

    /// One table, read by `read` even if it is absent: its keys may have defaults.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'c>) -> T) -> T {
        let header = format!("[{}]", without_indices(&self.path_of(key)).replace("[]", ""));
        let section = match self.take(key) {
            Some(written) => self.section(key, header.clone(), written),
            None => None,
        };
        let mut section = section.unwrap_or_else(|| self.open(key, header, Table::new()));
        let value = read(&mut section);
        section.finish();
        value
    }

    fn section(&self, key: &str, header: String, written: Written) -> Option<Section<'c>> {
        if let Value::Table(table) = written.value {
            return Some(self.open(key, header, table));
        }
        let message = format!("is a table: write `{header}` and its keys below it");
        self.context.report(self.path_of(key), Some(written.source), message);
        None
    }

    fn open(&self, key: &str, header: String, table: Table) -> Section<'c> {
        self.context.lines.borrow_mut().push(Line::Header(header));
        Section { context: self.context, path: self.path_of(key), table, known: Vec::new() }
    }

    /// Whether the key was written at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The key's text as it was written, whether or not it will do.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        match &self.table.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// How many elements the key's list has, if it is one.
    pub(super) fn length_of(&self, key: &str) -> Option<usize> {
        match &self.table.get(key)?.value {
            Value::List(items) => Some(items.len()),
            _ => None,
        }
    }

    /// A secret: as text, `{ file = "…" }` or `{ env = "…" }`. Its value reaches no message.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let written = self.take(key)?;
        let (secret, shown) = self.read_secret(key, &written)?;
        self.note(key, shown, Some(written.source));
        Some(secret)
    }

    /// One secret, or a list of them.
    pub(super) fn secrets(&mut self, key: &'static str) -> Vec<Secret> {
        let Some(written) = self.take(key) else { return Vec::new() };
        let source = Some(written.source.clone());
        let (items, many) = match written {
            Written { value: Value::List(items), .. } => (items, true),
            one => (vec![one], false),
        };
        let (mut secrets, mut shown) = (Vec::new(), Vec::new());
        for (secret, text) in items.iter().filter_map(|item| self.read_secret(key, item)) {
            secrets.push(secret);
            shown.push(text);
        }
        let shown = shown.join(", ");
        self.note(key, if many { format!("[{shown}]") } else { shown }, source);
        secrets
    }

    fn read_secret(&self, key: &str, written: &Written) -> Option<(Secret, String)> {
        let fail = |message: String| {
            self.context.report(self.path_of(key), Some(written.source.clone()), message);
            None
        };
        let table = match &written.value {
            Value::Text(text) => return Some((Secret::new(text.clone()), REDACTED.to_owned())),
            Value::Table(table) if table.len() == 1 => table,
            _ => return fail(SECRET_FORMS.to_owned()),
        };
        let Some((form, Written { value: Value::Text(name), .. })) = table.first_key_value() else {
            return fail(SECRET_FORMS.to_owned());
        };
        let shown = format!("{{ {form} = {} }}", name.show());
        let text = match form.as_str() {
            "file" => match std::fs::read_to_string(Path::new(name)) {
                Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
                Err(cause) => return fail(format!("the file {name} cannot be read: {cause}")),
            },
            "env" => {
                self.context.secrets_from_env.borrow_mut().insert(name.clone());
                match self.context.environment.get(name) {
                    Some(text) => text.clone(),
                    None => return fail(format!("the environment has no variable {name}")),
                }
            }
            _ => return fail(SECRET_FORMS.to_owned()),
        };
        if text.is_empty() {
            fail("the secret is empty".to_owned())
        } else {
            Some((Secret::new(text), shown))
        }
    }

    /// Pairs of free names, their tables flattened with dots: `security.protocol = "SSL"` without quotes is a table to
    /// TOML. The environment cannot say dots, so there `_` stands for them. All values are treated as secrets.
    pub(super) fn properties(&mut self, key: &'static str) -> Vec<(String, Secret)> {
        let Some(written) = self.take(key) else { return Vec::new() };
        let source = written.source.clone();
        let Value::Table(table) = written.value else {
            self.context.report(self.path_of(key), Some(source), "is a table of names and values");
            return Vec::new();
        };
        let mut pairs = Vec::new();
        self.flatten(key, "", &table, &mut pairs);
        let shown: Vec<String> =
            pairs.iter().map(|(name, _)| format!("{} = {REDACTED}", name.show())).collect();
        self.note(key, format!("{{ {} }}", shown.join(", ")), Some(source));
        pairs
    }

    fn flatten(&self, key: &str, prefix: &str, table: &Table, pairs: &mut Vec<(String, Secret)>) {
        for (name, written) in table {
            let name = match written.source {
                Source::Env(_) => name.replace('_', "."),
                _ => name.clone(),
            };
            let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match &written.value {
                Value::Number(text) => pairs.push((name, Secret::new(text.clone()))),
                Value::Bool(flag) => pairs.push((name, Secret::new(flag.to_string()))),
                Value::Table(inner) if !is_secret_reference(inner) => self.flatten(key, &name, inner, pairs),
                _ => {
                    let secret = self.read_secret(&format!("{key}.{name}"), written);
                    pairs.extend(secret.map(|(secret, _)| (name, secret)));
                }
            }
        }
    }

    /// Takes the section's other keys as they are: whether they belong here cannot be told.
    pub(super) fn ignore_rest(&mut self) {
        self.table.clear();
    }

    /// Reports what nothing asked for.
    pub(super) fn finish(self) {
        for (key, written) in &self.table {
            let near = nearest(key, &self.known);
            let message = match near {
                Some(near) => format!("no such key; did you mean `{near}`?"),
                None => format!("no such key; there are {}", self.known.join(", ")),
            };
            let problem = Problem { key: self.path_of(key), source: Some(written.source.clone()), message };
            self.context.unknown.borrow_mut().push(problem);
        }
    }
}

fn show_list<T: Leaf>(values: &[T]) -> String {
    let shown: Vec<String> = values.iter().map(Leaf::show).collect();
    format!("[{}]", shown.join(", "))
}

/// How a secret is shown.
const REDACTED: &str = "\"[redacted]\"";

const SECRET_FORMS: &str = "is a secret: write \"…\", { file = \"PATH\" } or { env = \"NAME\" }";

fn is_secret_reference(table: &Table) -> bool {
    table.len() == 1 && table.keys().all(|key| key == "file" || key == "env")
}

/// `destination[0].url` → `destination[].url`.
fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for letter in path.chars() {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            _ if inside => continue,
            _ => {}
        }
        plain.push(letter);
    }
    plain
}

/// The known key within two edits of `key`.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|&known| (edits(key, known), known)).min()?;
    (near.0 <= 2 && near.0 < near.1.len()).then_some(near.1)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
