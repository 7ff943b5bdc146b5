//! What may go wrong with ClickHouse, told apart by what is to be done about it: wait, give up a row, or call a person.

/// Why a statement did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClickHouseError {
    /// Not the data's fault and not lasting, or unclear: the statement may or may not have had its effect.
    #[error("ClickHouse cannot be reached or cannot answer now: {0}")]
    Unavailable(String),
    /// ClickHouse understood the statement and will never take these rows.
    #[error("ClickHouse refuses a value (code {code}): {text}")]
    Refused { code: u32, text: String },
    /// Trying again will not help: rights, a missing table, another schema.
    #[error(
        "ClickHouse is not set up for this (code {code}): {text}; see `jwtrail check`, run `jwtrail migrate`"
    )]
    Misconfigured { code: u32, text: String },
    /// A schema file that is already applied has been changed since.
    #[error(
        "schema file {name} is not the one that was applied to this database: restore it and add a new file"
    )]
    SchemaChanged { name: &'static str },
    /// The database was made by a later version.
    #[error("the database is at schema version {found}, this program knows {known}: use a newer `jwtrail`")]
    SchemaNewer { found: u32, known: u32 },
    /// A table does not have the columns that are written to it.
    #[error("table {table} differs from what this program writes at column {column}: run `jwtrail migrate`")]
    SchemaDiffers { table: &'static str, column: String },
}

impl ClickHouseError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "clickhouse_unavailable",
            Self::Refused { .. } => "clickhouse_refused",
            Self::Misconfigured { .. } => "clickhouse_misconfigured",
            Self::SchemaChanged { .. } => "clickhouse_schema_changed",
            Self::SchemaNewer { .. } => "clickhouse_schema_newer",
            Self::SchemaDiffers { .. } => "clickhouse_schema_differs",
        }
    }

    /// ClickHouse's own number and text. What is in neither list is unclear, and unclear means: try again.
    fn from_exception(code: u32, text: String) -> Self {
        match code {
            // CANNOT_PARSE_TEXT, ARGUMENT_OUT_OF_BOUND, CANNOT_CONVERT_TYPE, CANNOT_PARSE_NUMBER, INCORRECT_DATA,
            // TOO_LARGE_ARRAY_SIZE, TOO_LARGE_STRING_SIZE, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE,
            // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN, VIOLATED_CONSTRAINT, UNKNOWN_ELEMENT_OF_ENUM
            6 | 69 | 70 | 72 | 117 | 128 | 131 | 321 | 349 | 469 | 691 => Self::Refused { code, text },
            // NO_SUCH_COLUMN_IN_TABLE, NOT_AN_AGGREGATE…UNKNOWN_IDENTIFIER, TYPE_MISMATCH, UNKNOWN_TABLE, SYNTAX_ERROR,
            // UNKNOWN_FORMAT, UNKNOWN_DATABASE, UNKNOWN_SETTING, READONLY, UNKNOWN_USER, WRONG_PASSWORD,
            // REQUIRED_PASSWORD, ACCESS_DENIED, AUTHENTICATION_FAILED, SETTING_CONSTRAINT_VIOLATION
            16 | 47 | 53 | 60 | 62 | 73 | 81 | 115 | 164 | 192 | 193 | 194 | 452 | 497 | 516 => {
                Self::Misconfigured { code, text }
            }
            _ => Self::Unavailable(text),
        }
    }
}

impl From<clickhouse::error::Error> for ClickHouseError {
    fn from(error: clickhouse::error::Error) -> Self {
        use clickhouse::error::Error;
        match error {
            Error::BadResponse(text) => match exception_code(&text) {
                Some(code) => Self::from_exception(code, first_line(&text)),
                None => Self::Unavailable(first_line(&text)),
            },
            Error::SchemaMismatch(text) | Error::Unsupported(text) => Self::Misconfigured { code: 0, text },
            other => Self::Unavailable(with_sources(&other)),
        }
    }
}

/// The number in `Code: 469. DB::Exception: …`.
fn exception_code(text: &str) -> Option<u32> {
    let rest = &text[text.find("Code: ")? + "Code: ".len()..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// ClickHouse quotes values in its messages. A value of an event is masked before it is a row, so that no token can be
/// in it; the rest is cut to keep log lines short.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_told_apart_by_what_is_to_be_done() {
        for (text, code) in [
            ("Code: 469. DB::Exception: Constraint `c` is violated", "clickhouse_refused"),
            ("Code: 60. DB::Exception: Table jwtrail.events does not exist", "clickhouse_misconfigured"),
            ("Code: 516. DB::Exception: Authentication failed", "clickhouse_misconfigured"),
            ("Code: 252. DB::Exception: Too many parts", "clickhouse_unavailable"),
            ("Code: 241. DB::Exception: Memory limit exceeded", "clickhouse_unavailable"),
            ("<html>502 Bad Gateway</html>", "clickhouse_unavailable"),
        ] {
            let error: ClickHouseError = clickhouse::error::Error::BadResponse(text.to_owned()).into();
            assert_eq!(error.code(), code, "{text}");
        }
    }
}
