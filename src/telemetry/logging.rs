//! Log lines, on standard error: text for a person, JSON for a machine. Field names are dotted (`token.ref`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Reads a filter: a level, or `TARGET=LEVEL,…`.
pub(crate) fn filter(text: &str) -> Option<EnvFilter> {
    EnvFilter::try_new(text).ok()
}

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
