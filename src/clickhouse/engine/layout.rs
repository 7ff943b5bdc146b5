//! The engine's directory: its data, its lock, and the two files that configure it.

use std::ffi::CString;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::EngineError;

/// How long a new start waits for the engine of a process that is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Inserts and merges are refused before the disk is full. The engine acknowledges an insert of which the last writes
/// failed (tried on 26.7.2.1): the part is there, empty, and its rows are lost. So nothing may ever come as far as that.
const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// Users, roles and limits. The engine knows one user; a session gives up a role, and then has what the other grants.
/// Neither may reach outside the engine: no files, no URLs, no other servers.
const USERS: &str = "\
<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <roles>
    <full><grants>
      <query>GRANT ALL ON *.*</query>
      <query>REVOKE SOURCES ON *.*</query>
    </grants></full>
    <analyst><grants>
      <query>GRANT SELECT ON *.*</query>
      <query>GRANT SHOW DATABASES, SHOW TABLES, SHOW COLUMNS, SHOW DICTIONARIES, dictGet ON *.*</query>
      <query>REVOKE SELECT ON system.*</query>
    </grants></analyst>
  </roles>
  <users><default>
    <no_password/>
    <networks><ip>::1</ip><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants><query>GRANT full, analyst</query></grants>
  </default></users>
</clickhouse>
";

/// Where everything of the engine lies.
pub(super) struct Layout {
    root: PathBuf,
    /// Held for as long as the process lives.
    _lock: File,
}

impl Layout {
    /// Makes the directory and takes its lock, waiting for the one who still holds it.
    pub(super) fn take(root: &Path) -> Result<Self, EngineError> {
        let failed = |source: io::Error| EngineError::Directory { path: root.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let lock =
            File::options().create(true).append(true).mode(0o600).open(root.join("lock")).map_err(failed)?;
        let since = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(TryLockError::WouldBlock) => return Err(EngineError::Locked { path: root }),
                Err(TryLockError::Error(source)) => {
                    return Err(EngineError::Directory { path: root, source });
                }
            }
        }
        let layout = Self { root, _lock: lock };
        layout.write("users.xml", USERS)?;
        layout.write("config.xml", &layout.config())?;
        Ok(layout)
    }

    /// The engine's command line.
    pub(super) fn arguments(&self) -> Result<Vec<CString>, EngineError> {
        let option = |name: &str, file: &str| {
            let text = [name.as_bytes(), self.root.join(file).as_os_str().as_bytes()].concat();
            CString::new(text).map_err(|_| EngineError::Path { path: self.root.clone() })
        };
        Ok(vec![c"chdb".to_owned(), option("--path=", "data")?, option("--config-file=", "config.xml")?])
    }

    fn config(&self) -> String {
        let path = |name: &str| {
            let path = self.root.join(name).display().to_string();
            path.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
        };
        format!(
            "<clickhouse>\n\
             \x20 <users_config>{users}</users_config>\n\
             \x20 <tmp_path>{temporary}/</tmp_path>\n\
             \x20 <user_files_path>{files}/</user_files_path>\n\
             \x20 <format_schema_path>{schemas}/</format_schema_path>\n\
             \x20 <backups><allowed_path>{backups}/</allowed_path></backups>\n\
             \x20 <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>\n\
             \x20 <mark_cache_size>268435456</mark_cache_size>\n\
             \x20 <storage_configuration><disks><default>\n\
             \x20   <keep_free_space_bytes>{DISK_RESERVE_BYTES}</keep_free_space_bytes>\n\
             \x20 </default></disks></storage_configuration>\n\
             </clickhouse>\n",
            users = path("users.xml"),
            temporary = path("tmp"),
            files = path("user_files"),
            schemas = path("format_schemas"),
            backups = path("backups"),
        )
    }

    fn write(&self, name: &str, content: &str) -> Result<(), EngineError> {
        let path = self.root.join(name);
        std::fs::write(&path, content).map_err(|source| EngineError::Directory { path, source })
    }
}
