//! The binding to libchdb, the ClickHouse engine as one shared library: the only unsafe code of the crate.
//!
//! Everything crosses as opaque pointers and (pointer, length) pairs; no struct layout is shared with the library, so
//! a wrong guess cannot corrupt memory silently. The contracts in the SAFETY comments are those of `chdb.h` 26.7.3.
#![expect(unsafe_code, reason = "the engine has a C interface only")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::EngineError;

/// The version of the C interface that these declarations were written for.
pub(super) const CHDB_VERSION: &str = "26.7.3";

type Opaque = *mut c_void;
type Bytes = *const u8;

/// `chdb_query_with_params_n` and its two siblings: connection, SQL, format, then four parallel arrays of parameters.
type Run = unsafe extern "C" fn(
    Opaque,
    Bytes,
    usize,
    Bytes,
    usize,
    *const Bytes,
    *const usize,
    *const Bytes,
    *const usize,
    usize,
) -> Opaque;

/// The loaded library. It lives as long as the process: the engine has threads of its own that run its code.
pub(super) struct Api {
    version: unsafe extern "C" fn() -> *const c_char,
    set_signal_handlers_enabled: unsafe extern "C" fn(c_int),
    connect: unsafe extern "C" fn(c_int, *const *const c_char) -> *mut Opaque,
    close_conn: unsafe extern "C" fn(*mut Opaque),
    query: Run,
    classify_query: unsafe extern "C" fn(Opaque, Bytes, usize, Bytes, usize, *mut [u32; 4]) -> c_int,
    stream_query: Run,
    stream_fetch_result: unsafe extern "C" fn(Opaque, Opaque) -> Opaque,
    stream_cancel_query: unsafe extern "C" fn(Opaque, Opaque),
    stream_insert: Run,
    stream_append: unsafe extern "C" fn(Opaque, Bytes, usize) -> c_int,
    stream_done: unsafe extern "C" fn(Opaque) -> Opaque,
    stream_insert_error: unsafe extern "C" fn(Opaque) -> *const c_char,
    destroy_insert_stream: unsafe extern "C" fn(Opaque),
    result_buffer: unsafe extern "C" fn(Opaque) -> Bytes,
    result_length: unsafe extern "C" fn(Opaque) -> usize,
    result_error: unsafe extern "C" fn(Opaque) -> *const c_char,
    result_rows_read: unsafe extern "C" fn(Opaque) -> u64,
    result_storage_rows_read: unsafe extern "C" fn(Opaque) -> u64,
    result_storage_bytes_read: unsafe extern "C" fn(Opaque) -> u64,
    result_rows_written: unsafe extern "C" fn(Opaque) -> u64,
    result_bytes_written: unsafe extern "C" fn(Opaque) -> u64,
    destroy_query_result: unsafe extern "C" fn(Opaque),
}

impl Api {
    /// Loads the library at `path`, for good, and checks that it is the version that this binding knows.
    pub(super) fn load(path: &Path) -> Result<&'static Self, EngineError> {
        let failed = |error: libloading::Error| {
            // What dlopen itself says stands in the source.
            let reason = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            EngineError::Load { path: path.to_owned(), reason }
        };
        // SAFETY: the library's initialisers have no precondition; a file that is not the pinned, hash-checked one is
        // refused by its version below, which is as much as dlopen allows.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
        let api = Self {
            version: symbol(&library, "chdb_version").map_err(failed)?,
            set_signal_handlers_enabled: symbol(&library, "chdb_set_signal_handlers_enabled")
                .map_err(failed)?,
            connect: symbol(&library, "chdb_connect").map_err(failed)?,
            close_conn: symbol(&library, "chdb_close_conn").map_err(failed)?,
            query: symbol(&library, "chdb_query_with_params_n").map_err(failed)?,
            classify_query: symbol(&library, "chdb_classify_query_n").map_err(failed)?,
            stream_query: symbol(&library, "chdb_stream_query_with_params_n").map_err(failed)?,
            stream_fetch_result: symbol(&library, "chdb_stream_fetch_result").map_err(failed)?,
            stream_cancel_query: symbol(&library, "chdb_stream_cancel_query").map_err(failed)?,
            stream_insert: symbol(&library, "chdb_stream_insert_with_params_n").map_err(failed)?,
            stream_append: symbol(&library, "chdb_stream_append").map_err(failed)?,
            stream_done: symbol(&library, "chdb_stream_done").map_err(failed)?,
            stream_insert_error: symbol(&library, "chdb_stream_insert_error").map_err(failed)?,
            destroy_insert_stream: symbol(&library, "chdb_destroy_insert_stream").map_err(failed)?,
            result_buffer: symbol(&library, "chdb_result_buffer").map_err(failed)?,
            result_length: symbol(&library, "chdb_result_length").map_err(failed)?,
            result_error: symbol(&library, "chdb_result_error").map_err(failed)?,
            result_rows_read: symbol(&library, "chdb_result_rows_read").map_err(failed)?,
            result_storage_rows_read: symbol(&library, "chdb_result_storage_rows_read").map_err(failed)?,
            result_storage_bytes_read: symbol(&library, "chdb_result_storage_bytes_read").map_err(failed)?,
            result_rows_written: symbol(&library, "chdb_result_rows_written").map_err(failed)?,
            result_bytes_written: symbol(&library, "chdb_result_bytes_written").map_err(failed)?,
            destroy_query_result: symbol(&library, "chdb_destroy_query_result").map_err(failed)?,
        };
        // Unloading would pull the code from under the engine's threads.
        std::mem::forget(library);
        // SAFETY: returns a static, NUL-terminated string.
        let version = unsafe { text((api.version)()) }.unwrap_or_default();
        if version != CHDB_VERSION {
            return Err(EngineError::Version { path: path.to_owned(), found: version });
        }
        // SAFETY: takes an int, called before the first connection as its contract asks. With the engine's own
        // handlers a crash would become a hang of minutes, and the supervisor could not restart it.
        unsafe { (api.set_signal_handlers_enabled)(0) };
        Ok(Box::leak(Box::new(api)))
    }

    /// Opens a connection. The first one starts the engine with `arguments` (`--path=…`, `--config-file=…`), which
    /// stops when the last one closes. `None`: the engine did not start, and has written why to stderr.
    pub(super) fn connect(&'static self, arguments: &[CString]) -> Option<Connection> {
        let argv: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        let argc = c_int::try_from(argv.len()).ok()?;
        // SAFETY: `argv` holds `argc` live NUL-terminated strings, which the call copies.
        let handle = unsafe { (self.connect)(argc, argv.as_ptr()) };
        if handle.is_null() {
            return None;
        }
        // SAFETY: a connection that is not NULL points at its `chdb_connection`, which is valid until it is closed.
        let raw = unsafe { *handle };
        Some(Connection { api: self, handle, raw })
    }
}

/// One symbol as a function pointer of type `T`.
fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, libloading::Error> {
    // SAFETY: the declared types are those of `chdb.h`; `Api::load` refuses any other version of the library, and the
    // library is never unloaded, so the copied pointer stays valid.
    let symbol: Symbol<T> = unsafe { library.get(name) }?;
    Ok(*symbol)
}

/// A copy of a C string; `None` for NULL.
///
/// # Safety
/// `pointer` is NULL or points at a NUL-terminated string that lives through the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// `{name:Type}` values of a statement, in ClickHouse's escaped text form (as in TabSeparated).
pub(super) type Params = [(String, String)];

/// One session of the engine: settings, current database, temporary tables.
pub(super) struct Connection {
    api: &'static Api,
    handle: *mut Opaque,
    raw: Opaque,
}

// SAFETY: the library guards a connection by locks of its own and ties it to no thread; `Connection` is not `Sync`, so
// one statement runs on it at a time.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: `handle` came from `chdb_connect` and is closed once, here. Results and streams borrow the
        // connection, so none outlives it.
        unsafe { (self.api.close_conn)(self.handle) };
    }
}

impl Connection {
    /// Runs a statement and materialises its whole result.
    pub(super) fn query(&self, sql: &str, format: &str, params: &Params) -> Result<Output<'_>, String> {
        Output::new(self.api, self.run(self.api.query, sql, format, params))
    }

    /// Runs a statement whose result is fetched in chunks.
    pub(super) fn stream(
        &self,
        sql: &str,
        format: &str,
        params: &Params,
    ) -> Result<ResultStream<'_>, String> {
        let handle = Output::new(self.api, self.run(self.api.stream_query, sql, format, params))?;
        Ok(ResultStream { connection: self, handle, ended: false })
    }

    /// Starts an INSERT whose data is appended in chunks. `sql` ends before FORMAT or VALUES.
    pub(super) fn insert(
        &self,
        sql: &str,
        format: &str,
        params: &Params,
    ) -> Result<InsertStream<'_>, String> {
        let raw = self.run(self.api.stream_insert, sql, format, params);
        let insert = InsertStream { api: self.api, raw, connection: PhantomData };
        match insert.error() {
            None => Ok(insert),
            Some(error) => Err(error),
        }
    }

    /// How many statements `sql` holds and what class the engine's own parser gives them.
    pub(super) fn classify(&self, sql: &str) -> Classified {
        const UNKNOWN: u32 = 4;
        // `chdb_query_analysis_v1`: its size in bytes, statements, flags, class.
        let mut analysis = [16, 0, 0, UNKNOWN];
        // SAFETY: the text is live for the call, no target database is given (NULL, 0), and `analysis` is the four
        // 32-bit fields that its first one announces.
        let state = unsafe {
            (self.api.classify_query)(self.raw, sql.as_ptr(), sql.len(), std::ptr::null(), 0, &mut analysis)
        };
        let [_, statements, _, class] = analysis;
        Classified { statements, class: if state == 0 { class.into() } else { Class::Unknown } }
    }

    fn run(&self, run: Run, sql: &str, format: &str, params: &Params) -> Opaque {
        let names: Vec<Bytes> = params.iter().map(|(name, _)| name.as_ptr()).collect();
        let name_lengths: Vec<usize> = params.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<Bytes> = params.iter().map(|(_, value)| value.as_ptr()).collect();
        let value_lengths: Vec<usize> = params.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: every pointer is live for the call and of the length beside it; the four arrays hold `params.len()`
        // entries each. The library copies what it keeps.
        unsafe {
            run(
                self.raw,
                sql.as_ptr(),
                sql.len(),
                format.as_ptr(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                params.len(),
            )
        }
    }
}

/// What the engine's parser says of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classified {
    pub(super) statements: u32,
    pub(super) class: Class,
}

/// `chdb_query_class`: what a statement does to state that outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK.
    ReadOnly,
    /// Changes a database, or something beside the databases.
    Mutating,
    /// USE, SET, SYSTEM, KILL, BACKUP, EXECUTE AS, and statements that write outside the engine.
    Control,
    /// Did not parse, or is not classified.
    Unknown,
}

impl From<u32> for Class {
    fn from(class: u32) -> Self {
        match class {
            0 => Self::ReadOnly,
            1 | 2 => Self::Mutating,
            3 => Self::Control,
            _ => Self::Unknown,
        }
    }
}

/// A result, or one chunk of it.
pub(super) struct Output<'c> {
    api: &'static Api,
    raw: Opaque,
    connection: PhantomData<&'c Connection>,
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` came from the library and is destroyed once, here.
        unsafe { (self.api.destroy_query_result)(self.raw) };
    }
}

impl Output<'_> {
    fn new(api: &'static Api, raw: Opaque) -> Result<Self, String> {
        if raw.is_null() {
            return Err("the engine gave no result".to_owned());
        }
        let output = Self { api, raw, connection: PhantomData };
        // SAFETY: `raw` is a live result; the text belongs to it and is copied.
        match unsafe { text((api.result_error)(raw)) } {
            None => Ok(output),
            Some(error) => Err(error),
        }
    }

    /// The formatted rows.
    pub(super) fn data(&self) -> &[u8] {
        // SAFETY: `raw` is a live result.
        let (buffer, length) =
            unsafe { ((self.api.result_buffer)(self.raw), (self.api.result_length)(self.raw)) };
        if buffer.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the buffer has `length` bytes and lives, unchanged, until the result is destroyed, which the borrow
        // of `self` prevents.
        unsafe { std::slice::from_raw_parts(buffer, length) }
    }

    /// Rows and bytes that the statement read and wrote.
    pub(super) fn progress(&self) -> Progress {
        // SAFETY: `raw` is a live result; each call only reads a number from it.
        unsafe {
            Progress {
                read_rows: (self.api.result_storage_rows_read)(self.raw),
                read_bytes: (self.api.result_storage_bytes_read)(self.raw),
                written_rows: (self.api.result_rows_written)(self.raw),
                written_bytes: (self.api.result_bytes_written)(self.raw),
                result_rows: (self.api.result_rows_read)(self.raw),
            }
        }
    }
}

/// Counters of a statement, as the engine reports them with a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) read_rows: u64,
    pub(super) read_bytes: u64,
    pub(super) written_rows: u64,
    pub(super) written_bytes: u64,
    pub(super) result_rows: u64,
}

/// A result that is fetched chunk by chunk.
pub(super) struct ResultStream<'c> {
    connection: &'c Connection,
    handle: Output<'c>,
    ended: bool,
}

impl<'c> ResultStream<'c> {
    /// The next chunk; `None` at the end. Every chunk is a whole document of the format, header and footer included.
    pub(super) fn next(&mut self) -> Result<Option<Output<'c>>, String> {
        if self.ended {
            return Ok(None);
        }
        let api = self.connection.api;
        // SAFETY: the connection and its stream are live, and `&mut self` serialises the fetches.
        let raw = unsafe { (api.stream_fetch_result)(self.connection.raw, self.handle.raw) };
        let chunk = Output::new(api, raw).inspect_err(|_| self.ended = true)?;
        self.ended = chunk.data().is_empty();
        Ok((!self.ended).then_some(chunk))
    }
}

impl Drop for ResultStream<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: the stream is live; cancelling does not free it, dropping `handle` does.
            unsafe { (self.connection.api.stream_cancel_query)(self.connection.raw, self.handle.raw) };
        }
    }
}

/// An INSERT that takes its data in chunks. Dropped unfinished, it is cancelled: what the engine has not yet written
/// as a block is lost, earlier blocks stay.
pub(super) struct InsertStream<'c> {
    api: &'static Api,
    raw: Opaque,
    connection: PhantomData<&'c Connection>,
}

impl<'c> InsertStream<'c> {
    /// Hands over some bytes of the data; waits while the engine is busy.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), String> {
        // SAFETY: the stream is live, and the bytes are copied before the call returns.
        match unsafe { (self.api.stream_append)(self.raw, data.as_ptr(), data.len()) } {
            0 => Ok(()),
            _ => Err(self.error().unwrap_or_else(|| "the engine refused the data".to_owned())),
        }
    }

    /// Ends the data and commits.
    pub(super) fn finish(self) -> Result<Output<'c>, String> {
        // SAFETY: the stream is live; this ends it but does not free it, dropping `self` does.
        let raw = unsafe { (self.api.stream_done)(self.raw) };
        Output::new(self.api, raw)
    }

    fn error(&self) -> Option<String> {
        // SAFETY: the stream is live (the library never returns NULL for one); the text is copied.
        unsafe { text((self.api.stream_insert_error)(self.raw)) }
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: freed once, here; an unfinished stream is cancelled first by the library.
        unsafe { (self.api.destroy_insert_stream)(self.raw) };
    }
}
