//! The engine's sessions: one for each request, or one that a client keeps by `session_id`.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access::{self, Role};
use super::exception::{self, Exception};
use super::ffi::{Api, Connection};
use super::request::{Request, SessionAsked};
use super::sql;

/// Sessions that clients may keep at once; each can hold temporary tables.
const MAX_KEPT: usize = 64;
/// Result bytes that are held for a format that cannot stream, unless the request says otherwise.
const MAX_HELD_BYTES: u64 = 512 << 20;

/// The running engine, and the sessions that clients keep. The root connection keeps the engine up.
pub(super) struct Sessions {
    api: &'static Api,
    arguments: Vec<CString>,
    kept: Mutex<HashMap<String, Kept>>,
    root: Mutex<Connection>,
}

struct Kept {
    /// `None` while a request uses it.
    connection: Option<Connection>,
    timeout: Duration,
    last_used: Instant,
}

impl Sessions {
    /// Starts the engine. `None`: it did not start, and has written why to stderr.
    pub(super) fn start(api: &'static Api, arguments: Vec<CString>) -> Option<Self> {
        let root = api.connect(&arguments)?;
        Some(Self { api, arguments, kept: Mutex::default(), root: Mutex::new(root) })
    }

    /// Runs a statement of this interface's own.
    pub(super) fn run(&self, sql: &str) -> Result<String, Exception> {
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        let output = root.query(sql, "TSVRaw", &[]).map_err(Exception::from_engine)?;
        Ok(String::from_utf8_lossy(output.data()).trim_end().to_owned())
    }

    /// Stops the queries that carry `mark`, or all of them.
    pub(super) fn kill(&self, mark: Option<&str>) -> Result<bool, Exception> {
        let which = match mark {
            Some(mark) => format!("Settings['log_comment'] = {}", sql::literal(mark)),
            None => "query NOT LIKE 'KILL %'".to_owned(),
        };
        self.run(&format!("KILL QUERY WHERE {which} ASYNC")).map(|killed| !killed.is_empty())
    }

    /// A session for one request. `mark` finds its queries again; `held`: the result will be materialised.
    pub(super) fn open<'s>(
        &'s self,
        role: Role,
        request: &Request,
        mark: &str,
        held: bool,
    ) -> Result<Session<'s>, Exception> {
        // An analyst can change nothing that a session would remember.
        let asked = request.session.as_ref().filter(|asked| role == Role::Full && !asked.id.is_empty());
        let kept = asked.map(|asked| self.take(asked)).transpose()?.flatten();
        let mut session = Session { sessions: self, asked: asked.cloned(), connection: None, restore: None };
        let is_new = kept.is_none();
        let connection = match kept.or_else(|| self.api.connect(&self.arguments)) {
            Some(connection) => connection,
            None => {
                return Err(Exception::new(exception::UNKNOWN_EXCEPTION, "the engine gave no connection"));
            }
        };
        let connection = session.connection.insert(connection);
        let set = |statement: &str| {
            connection.query(statement, "Null", &[]).map(drop).map_err(Exception::from_engine)
        };
        // Without implicit_select an unknown name in SET is an error instead of a silent SELECT.
        set(&format!("SET implicit_select=0, log_comment={}", sql::literal(mark)))?;
        match &request.database {
            Some(database) if !database.is_empty() => set(&format!("USE {}", sql::identifier(database)))?,
            _ => {}
        }
        match role {
            Role::Analyst => {
                for statement in access::analyst_setup(&request.settings)? {
                    set(&statement)?;
                }
            }
            Role::Full => {
                let mut assignments = Vec::new();
                let limited = request.settings.iter().any(|(name, _)| name == "max_result_bytes");
                let mut names: Vec<&str> = request.settings.iter().map(|(name, _)| name.as_str()).collect();
                if held && !limited {
                    assignments.push(format!("max_result_bytes={MAX_HELD_BYTES}"));
                    names.push("max_result_bytes");
                }
                for (name, value) in &request.settings {
                    assignments.push(access::assignment(name, value)?);
                }
                // In a kept session readonly could not be taken back; there the statement's class decides alone.
                if request.read_only && session.asked.is_none() {
                    assignments.push("readonly=2".to_owned());
                }
                if session.asked.is_some() && !is_new && !names.is_empty() {
                    session.restore = Some(restoring(connection, &names)?);
                }
                if !assignments.is_empty() {
                    set(&format!("SET {}", assignments.join(", ")))?;
                }
                if session.asked.is_some() && is_new && !names.is_empty() {
                    let defaults = names.iter().map(|name| format!("{name}=DEFAULT")).collect::<Vec<_>>();
                    session.restore = Some(format!("SET {}", defaults.join(", ")));
                }
            }
        }
        Ok(session)
    }

    /// Takes a kept session, or marks its name as taken.
    fn take(&self, asked: &SessionAsked) -> Result<Option<Connection>, Exception> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, session| {
            session.connection.is_none() || session.last_used.elapsed() < session.timeout
        });
        if let Some(session) = kept.get_mut(&asked.id) {
            return match session.connection.take() {
                Some(connection) => Ok(Some(connection)),
                None => {
                    let message = format!("Session {} is locked by a concurrent client", asked.id);
                    Err(Exception::new(exception::SESSION_IS_LOCKED, message))
                }
            };
        }
        if asked.must_exist {
            let message = format!("Session {} not found", asked.id);
            return Err(Exception::new(exception::SESSION_NOT_FOUND, message));
        }
        if kept.len() >= MAX_KEPT {
            let message = format!("{MAX_KEPT} sessions are open: wait until one times out");
            return Err(Exception::new(exception::TOO_MANY_SIMULTANEOUS_QUERIES, message));
        }
        let session = Kept { connection: None, timeout: asked.timeout, last_used: Instant::now() };
        kept.insert(asked.id.clone(), session);
        Ok(None)
    }

    fn give_back(&self, asked: &SessionAsked, connection: Option<Connection>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match connection {
            Some(connection) => {
                let session =
                    Kept { connection: Some(connection), timeout: asked.timeout, last_used: Instant::now() };
                kept.insert(asked.id.clone(), session);
            }
            None => drop(kept.remove(&asked.id)),
        }
    }
}

/// The SET that brings `names` back to what they are now: a request's settings end with the request.
fn restoring(connection: &Connection, names: &[&str]) -> Result<String, Exception> {
    let mut assignments = Vec::new();
    for name in names {
        let sql = format!("SELECT value FROM system.settings WHERE name = {}", sql::literal(name));
        let output = connection.query(&sql, "TSVRaw", &[]).map_err(Exception::from_engine)?;
        // An unknown name is left to the SET that follows, which says so.
        if let Some(value) = String::from_utf8_lossy(output.data()).strip_suffix('\n') {
            assignments.push(access::assignment(name, value)?);
        }
    }
    Ok(format!("SET {}", assignments.join(", ")))
}

/// A connection that one request uses. Dropped, it closes, or goes back to the sessions that are kept.
pub(super) struct Session<'s> {
    sessions: &'s Sessions,
    asked: Option<SessionAsked>,
    connection: Option<Connection>,
    restore: Option<String>,
}

impl Session<'_> {
    /// The session's connection.
    pub(super) fn connection(&self) -> Result<&Connection, Exception> {
        self.connection
            .as_ref()
            .ok_or_else(|| Exception::new(exception::UNKNOWN_EXCEPTION, "the session is closed"))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let Some(asked) = &self.asked else { return };
        let restored = self.connection.take().filter(|connection| match &self.restore {
            // A session whose settings could not be restored is not handed on.
            Some(restore) => connection.query(restore, "Null", &[]).is_ok(),
            // A failed statement stays among the running ones until the next: this is the next.
            None => connection.query("SET implicit_select=0", "Null", &[]).is_ok(),
        });
        self.sessions.give_back(asked, restored);
    }
}
