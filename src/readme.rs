//! The README's tables, held to the code. `UPDATE_EXPECT=1 cargo test readme` writes them anew.

use std::path::Path;

use crate::config::KEYS;
use crate::pipeline::detect::RULES;
use crate::telemetry::Metrics;

/// Compares (or writes) what lies between `<!-- table: NAME -->` and `<!-- end -->`.
fn check(name: &str, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header = columns.iter().map(|&column| column.to_owned()).collect::<Vec<_>>();
    let mut table = line(&header);
    table.push_str(&line(&vec!["---".to_owned(); columns.len()]));
    rows.for_each(|cells| {
        table.push_str(&line(&cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>()))
    });

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    // The three tables are three tests, and each may write the file.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- table: {name} -->\n");
    let (before, rest) = text.split_once(&begin).expect("the README has the table's marker");
    let (there, after) = rest.split_once("<!-- end -->").expect("the table has an end");
    if there != table && crate::config::environment().contains_key("UPDATE_EXPECT") {
        std::fs::write(&path, format!("{before}{begin}{table}<!-- end -->{after}")).unwrap();
        return;
    }
    assert!(there == table, "the README's {name} are not the code's: UPDATE_EXPECT=1 cargo test readme");
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

#[test]
fn the_readme_tells_every_key() {
    let rows = KEYS
        .iter()
        .map(|key| vec![code(key.path), key.default.map(code).unwrap_or_default(), key.meaning.to_owned()]);
    check("configuration", &["key", "default", "meaning"], rows);
}

#[test]
fn the_readme_tells_every_metric() {
    let table = Metrics::table();
    let rows = table.iter().map(|metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| code(label)).collect();
        vec![code(&metric.name), metric.kind.to_owned(), labels.join(", "), metric.meaning.to_owned()]
    });
    check("metrics", &["metric", "kind", "labels", "meaning"], rows);
}

#[test]
fn the_readme_tells_every_rule() {
    let rows = RULES.iter().map(|rule| {
        vec![
            code(rule.id.as_str()),
            rule.severity.to_string(),
            rule.says.to_owned(),
            rule.techniques.join(", "),
        ]
    });
    check("rules", &["rule", "severity", "a case is", "ATT&CK"], rows);
}
