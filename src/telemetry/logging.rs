//! Log lines, on standard error: text for a person, JSON for a machine. Field names are dotted (`token.ref`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Reads a filter: a level for our own lines (what libraries say counts from `warn`), or `TARGET=LEVEL,…`. Whatever it
/// says, the HTTP libraries never log their frames: those hold keys and capabilities.
pub(crate) fn filter(text: &str) -> Option<EnvFilter> {
    let quiet = FRAMES.iter().filter_map(|target| format!("{target}=info").parse().ok());
    let level_alone = !text.contains(['=', ',']);
    let directives = if level_alone { format!("warn,jwtrail={text}") } else { text.to_owned() };
    EnvFilter::try_new(directives).ok().map(|filter| quiet.fold(filter, EnvFilter::add_directive))
}

/// What writes whole requests at level debug or trace.
const FRAMES: [&str; 4] = ["h2", "hyper", "hyper_util", "reqwest"];

/// Starts logging for the whole process. A second call changes nothing.
pub(crate) fn start_logging(filter: EnvFilter, format: LogFormat) {
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that somebody has started logging already: a test, or an embedding program.
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).try_init(),
        LogFormat::Auto if !terminal => lines.json().flatten_event(true).with_span_list(false).try_init(),
        LogFormat::Auto | LogFormat::Text => lines.with_ansi(terminal).with_target(false).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_never_logged() {
        for text in ["trace", "h2=trace,info", "debug,hyper=trace"] {
            let filter = filter(text).unwrap().to_string();
            for target in FRAMES {
                assert!(filter.split(',').any(|directive| directive == format!("{target}=info")), "{filter}");
                assert!(!filter.contains(&format!("{target}=trace")), "{filter}");
            }
        }
        assert!(super::filter("jwtrail=loud").is_none());
    }
}
