//! The fuzz targets: what anyone may send us or hand us as a file, and what must hold for any bytes of it.
//!
//! `make fuzz` runs them under libFuzzer; every `cargo test` walks their corpora (`tests/fuzz/corpus/TARGET`), where each
//! input that ever broke one stays.

/// A target takes any bytes and panics if something that must hold does not.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary and of its corpus.
pub const TARGETS: [(&str, Target); 10] = [
    ("decode", crate::pipeline::decode::fuzz::record),
    ("door", crate::api::fuzz::body),
    ("jwks", crate::pipeline::verify::fuzz::key_set),
    ("mmdb", crate::pipeline::enrich::fuzz::mmdb),
    ("csv", crate::pipeline::enrich::fuzz::csv),
    ("jws", crate::token::fuzz::jws),
    ("jwe", crate::token::fuzz::jwe),
    ("engine_request", crate::clickhouse::engine::fuzz::request),
    ("engine_body", crate::clickhouse::engine::fuzz::body),
    ("engine_sql", crate::clickhouse::engine::fuzz::sql),
];

/// Runs the target of that name.
///
/// # Panics
/// If there is none, as if it had broken: a binary in `tests/fuzz/targets` that fuzzes nothing must not pass.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    assert!(target.is_some(), "no fuzz target is called {name}");
    if let Some((_, target)) = target {
        target(data);
    }
}

/// Cuts an input into the parts that a target wants: a text that people write holds no 0x00.
pub(crate) fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_input_of_the_corpora_holds() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
            let inputs = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut seen = 0;
            for input in inputs {
                let path = input.unwrap().path();
                // Shown only if the test fails: which input it was.
                println!("{}", path.display());
                target(&std::fs::read(&path).unwrap());
                seen += 1;
            }
            assert!(seen > 0, "{name} has no corpus");
        }
    }
}
