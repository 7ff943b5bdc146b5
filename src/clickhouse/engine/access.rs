//! Who may do what. The engine knows one user, `default`, so authentication happens here and each session is cut down
//! by the engine's own means: a role with few grants, limits, and `readonly`, which nothing inside the session lifts.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;

use super::exception::{self, Exception};
use super::ffi::{Class, Connection};
use super::sql;
use crate::config::Secret;

/// The two users and their passwords, as the parent hands them to its child over a pipe.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// Password of `jwtrail`, who may do everything but reach outside the engine.
    pub(crate) jwtrail: Secret,
    /// Password of `analyst`, who may only read.
    pub(crate) analyst: Secret,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// `jwtrail`: the pipeline, migrations, whoever holds its password.
    Full,
    /// `analyst`: people and dashboards.
    Analyst,
}

/// Name and password as a request carries them.
#[derive(Clone)]
pub(super) struct Presented {
    pub(super) user: String,
    pub(super) password: Secret,
}

impl Credentials {
    /// The role of who presents these, or why not. The text never says which of the two was wrong.
    pub(super) fn authenticate(&self, presented: Option<&Presented>) -> Result<Role, Exception> {
        let Some(presented) = presented else {
            return Err(Exception::new(
                exception::REQUIRED_PASSWORD,
                "a user and a password are needed: `jwtrail` or `analyst`, see credentials.toml in the data directory",
            ));
        };
        let digest = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
        let given = digest(presented.password.expose());
        // Both are compared, always, so that the time says nothing.
        let matches = |secret: &Secret| {
            verify_slices_are_equal(given.as_ref(), digest(secret.expose()).as_ref()).is_ok()
                && !secret.expose().is_empty()
        };
        let (full, analyst) = (matches(&self.jwtrail), matches(&self.analyst));
        match presented.user.as_str() {
            "jwtrail" if full => Ok(Role::Full),
            "analyst" if analyst => Ok(Role::Analyst),
            _ => Err(Exception::new(
                exception::AUTHENTICATION_FAILED,
                "Authentication failed: password is incorrect, or there is no such user",
            )),
        }
    }
}

/// What an analyst's query may take at most. `max_result_bytes` bounds what is held for formats that cannot stream.
const ANALYST_LIMITS: [(&str, u64); 3] =
    [("max_execution_time", 60), ("max_memory_usage", 512 << 20), ("max_result_bytes", 256 << 20)];

/// Settings that an analyst may give with a request. None reads a file, changes the dialect or lifts a limit.
const ANALYST_SETTINGS: [&str; 18] = [
    "date_time_input_format",
    "date_time_output_format",
    "extremes",
    "final",
    "join_use_nulls",
    "limit",
    "max_block_size",
    "max_bytes_to_read",
    "max_execution_time",
    "max_memory_usage",
    "max_result_bytes",
    "max_result_rows",
    "max_rows_to_read",
    "max_threads",
    "offset",
    "read_overflow_mode",
    "result_overflow_mode",
    "session_timezone",
];

/// Tables of `system` that show what others run. All sessions are the engine's one user, who may see his own queries;
/// these are not the analyst's.
const HIDDEN_TABLES: [&str; 5] =
    ["asynchronous_inserts", "errors", "processes", "query_cache", "stack_trace"];

/// The statements that turn a fresh session into an analyst's one, with the settings of the request.
pub(super) fn analyst_setup(settings: &[(String, String)]) -> Result<Vec<String>, Exception> {
    let mut assignments = Vec::new();
    for (name, value) in settings {
        if name == "readonly" && value != "0" {
            continue;
        }
        let allowed = ANALYST_SETTINGS.contains(&name.as_str())
            || name.starts_with("output_format_")
            || name.starts_with("input_format_")
            || name.starts_with("format_csv_")
            || name.starts_with("format_tsv_");
        if !allowed {
            let message = format!("Cannot modify '{name}' setting in readonly mode");
            return Err(Exception::new(exception::READONLY, message));
        }
        if ANALYST_LIMITS.iter().all(|(limit, _)| limit != name) {
            assignments.push(assignment(name, value)?);
        }
    }
    for (name, limit) in ANALYST_LIMITS {
        let asked = settings.iter().rev().find(|(asked, _)| asked == name);
        // Zero stands for "no limit", so it counts as more than the limit.
        let asked =
            asked.and_then(|(_, value)| value.parse().ok()).filter(|asked| (1..=limit).contains(asked));
        assignments.push(assignment(name, &asked.unwrap_or(limit).to_string())?);
    }
    let hidden: Vec<String> = HIDDEN_TABLES.iter().map(|table| format!("'system.{table}':'0'")).collect();
    assignments.push(assignment("additional_table_filters", &format!("{{{}}}", hidden.join(",")))?);
    Ok(vec![
        "SET ROLE analyst".to_owned(),
        format!("SET {}", assignments.join(", ")),
        // The last word: from here on no SET and no SETTINGS clause changes anything.
        "SET readonly=1".to_owned(),
    ])
}

/// `name='value'`, for a SET statement.
pub(super) fn assignment(name: &str, value: &str) -> Result<String, Exception> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(Exception::new(exception::UNKNOWN_SETTING, format!("Unknown setting '{name}'")));
    }
    Ok(format!("{name}={}", sql::literal(value)))
}

/// Lets an analyst's statement pass only if the engine's own parser calls it one reading statement, and its own
/// rendering has neither a SETTINGS clause (in a subquery the engine would obey one), nor the function `file` (which
/// reads any file, unchecked by grants), nor the table function `merge`.
pub(super) fn check_analyst(connection: &Connection, statement: &str) -> Result<(), Exception> {
    let rendered = connection
        .query(
            "SELECT formatQuerySingleLine({query:String})",
            "TSVRaw",
            &[("query".to_owned(), sql::escaped(statement))],
        )
        .map_err(|text| {
            // The syntax error is the client's; the statement around his is ours.
            let own = text.find(": In scope SELECT formatQuerySingleLine").unwrap_or(text.len());
            let suffix = if own < text.len() { " (SYNTAX_ERROR)" } else { "" };
            Exception::from_engine(format!("{}{suffix}", &text[..own]))
        })?;
    let rendered = String::from_utf8_lossy(rendered.data()).into_owned();
    let classified = connection.classify(statement);
    if classified.statements != 1 || classified.class != Class::ReadOnly {
        return Err(Exception::new(
            exception::READONLY,
            "Cannot execute query in readonly mode: `analyst` may only run one SELECT, SHOW, DESCRIBE, EXPLAIN, \
             EXISTS or CHECK at a time",
        ));
    }
    if sql::has_settings_clause(&rendered) {
        return Err(Exception::new(
            exception::READONLY,
            "Cannot modify settings in readonly mode: give them with the request instead of in a SETTINGS clause",
        ));
    }
    // `APPLY file` calls it without brackets.
    if sql::mentions(&rendered, "file") {
        return Err(Exception::new(
            exception::ACCESS_DENIED,
            "`analyst` may not use the function `file`, nor a column or an alias of that name",
        ));
    }
    // It would read the hidden tables around their filter.
    if sql::calls(&rendered, "merge") {
        return Err(Exception::new(
            exception::ACCESS_DENIED,
            "`analyst` may not use the table function `merge`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(settings: &[(&str, &str)]) -> Result<String, Exception> {
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        analyst_setup(&settings).map(|statements| statements.join("; "))
    }

    #[test]
    fn a_limit_can_be_lowered_and_not_raised() {
        for (asked, given) in [("5", "5"), ("61", "60"), ("0", "60"), ("-1", "60"), ("1e9", "60"), ("", "60")]
        {
            let statements = setup(&[("max_execution_time", asked)]).unwrap();
            assert!(statements.contains(&format!("max_execution_time='{given}'")), "{asked}: {statements}");
        }
    }

    #[test]
    fn a_setting_that_is_not_listed_is_refused() {
        for name in
            ["dialect", "format_schema", "max_untracked_memory", "additional_table_filters", "profile", "x'"]
        {
            assert_eq!(setup(&[(name, "1")]).unwrap_err().code, 164, "{name}");
        }
        assert_eq!(setup(&[("readonly", "0")]).unwrap_err().code, 164);
        assert!(setup(&[("readonly", "2"), ("output_format_json_quote_64bit_integers", "0")]).is_ok());
    }

    #[test]
    fn names_and_passwords_must_belong_together() {
        let credentials =
            Credentials { jwtrail: Secret::new("one".to_owned()), analyst: Secret::new("two".to_owned()) };
        let check = |user: &str, password: &str| {
            let presented = Presented { user: user.to_owned(), password: Secret::new(password.to_owned()) };
            credentials.authenticate(Some(&presented)).map_err(|exception| exception.code)
        };
        assert_eq!(check("jwtrail", "one"), Ok(Role::Full));
        assert_eq!(check("analyst", "two"), Ok(Role::Analyst));
        for (user, password) in
            [("jwtrail", "two"), ("analyst", "one"), ("default", ""), ("", ""), ("jwtrail", "")]
        {
            assert_eq!(check(user, password), Err(516), "{user}");
        }
        assert_eq!(credentials.authenticate(None).unwrap_err().code, 194);
    }
}
