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

    /// ClickHouse's own number and text.
    fn from_exception(code: u32, text: String) -> Self {
        match CODES.iter().find(|(known, _, _)| *known == code).map(|(_, meaning, _)| meaning) {
            Some(Meaning::Data) => Self::Refused { code, text },
            Some(Meaning::Ours) => Self::Misconfigured { code, text },
            Some(Meaning::Passing) | None => Self::Unavailable(text),
        }
    }
}

/// Whose matter an exception is.
#[derive(Clone, Copy)]
enum Meaning {
    /// It passes: the same statement may succeed later.
    Passing,
    /// A value's: the same rows are refused every time.
    Data,
    /// Ours or the operator's: a person must change something.
    Ours,
}

/// ClickHouse's numbers, what they mean here, and why. One that is not here passes: no row is given up for it.
const CODES: &[(u32, Meaning, &str)] = &[
    (159, Meaning::Passing, "TIMEOUT_EXCEEDED: the server is slow now"),
    (202, Meaning::Passing, "TOO_MANY_SIMULTANEOUS_QUERIES: others are done soon"),
    (209, Meaning::Passing, "SOCKET_TIMEOUT: the network, not the rows"),
    (210, Meaning::Passing, "NETWORK_ERROR: the network, not the rows"),
    (236, Meaning::Passing, "ABORTED: the server is shutting down"),
    (241, Meaning::Passing, "MEMORY_LIMIT_EXCEEDED: memory is given back"),
    (242, Meaning::Passing, "TABLE_IS_READ_ONLY: a replica has lost its keeper, and finds it again"),
    (243, Meaning::Passing, "NOT_ENOUGH_SPACE: the disk is full until someone frees it"),
    (252, Meaning::Passing, "TOO_MANY_PARTS: merges catch up"),
    (319, Meaning::Passing, "UNKNOWN_STATUS_OF_INSERT: the rows may be stored"),
    (394, Meaning::Passing, "QUERY_WAS_CANCELLED: someone killed it"),
    (999, Meaning::Passing, "KEEPER_EXCEPTION: the keeper is away"),
    (6, Meaning::Data, "CANNOT_PARSE_TEXT: a value's text"),
    (69, Meaning::Data, "ARGUMENT_OUT_OF_BOUND: a value is too large or too small"),
    (70, Meaning::Data, "CANNOT_CONVERT_TYPE: a value does not fit its column"),
    (72, Meaning::Data, "CANNOT_PARSE_NUMBER: a value's text"),
    (117, Meaning::Data, "INCORRECT_DATA: a value's bytes"),
    (128, Meaning::Data, "TOO_LARGE_ARRAY_SIZE: a value is too long"),
    (131, Meaning::Data, "TOO_LARGE_STRING_SIZE: a value is too long"),
    (321, Meaning::Data, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE: a value does not fit its column"),
    (349, Meaning::Data, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN: a value is missing"),
    (469, Meaning::Data, "VIOLATED_CONSTRAINT: the table's owner does not want the row"),
    (691, Meaning::Data, "UNKNOWN_ELEMENT_OF_ENUM: a value is none of the column's"),
    (16, Meaning::Ours, "NO_SUCH_COLUMN_IN_TABLE: another schema"),
    (47, Meaning::Ours, "UNKNOWN_IDENTIFIER: another schema"),
    (53, Meaning::Ours, "TYPE_MISMATCH: another schema"),
    (60, Meaning::Ours, "UNKNOWN_TABLE: not migrated"),
    (62, Meaning::Ours, "SYNTAX_ERROR: a server that does not know our SQL"),
    (73, Meaning::Ours, "UNKNOWN_FORMAT: a server that does not know RowBinary"),
    (81, Meaning::Ours, "UNKNOWN_DATABASE: not migrated"),
    (115, Meaning::Ours, "UNKNOWN_SETTING: a server that is too old"),
    (164, Meaning::Ours, "READONLY: the user may only read"),
    (192, Meaning::Ours, "UNKNOWN_USER: rights"),
    (193, Meaning::Ours, "WRONG_PASSWORD: rights"),
    (194, Meaning::Ours, "REQUIRED_PASSWORD: rights"),
    (452, Meaning::Ours, "SETTING_CONSTRAINT_VIOLATION: the user's profile forbids a setting"),
    (497, Meaning::Ours, "ACCESS_DENIED: rights"),
    (516, Meaning::Ours, "AUTHENTICATION_FAILED: rights"),
];

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
            ("Code: 243. DB::Exception: Cannot reserve 1 MiB", "clickhouse_unavailable"),
            ("Code: 242. DB::Exception: Table is in readonly mode", "clickhouse_unavailable"),
            ("Code: 164. DB::Exception: Cannot execute query in readonly mode", "clickhouse_misconfigured"),
            ("Code: 7777. DB::Exception: Of a later version", "clickhouse_unavailable"),
            ("<html>502 Bad Gateway</html>", "clickhouse_unavailable"),
        ] {
            let error: ClickHouseError = clickhouse::error::Error::BadResponse(text.to_owned()).into();
            assert_eq!(error.code(), code, "{text}");
        }
    }

    #[test]
    fn each_number_is_told_once_and_with_its_reason() {
        for (index, (code, _, why)) in CODES.iter().enumerate() {
            assert!(CODES[..index].iter().all(|(earlier, _, _)| earlier != code), "{code} twice");
            assert!(why.contains(": "), "{code}: {why}");
        }
    }
}
