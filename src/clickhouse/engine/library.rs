//! Where libchdb lies: a package of the lock file in `.deps/`, which `npm ci` fetches and checks.

use std::path::{Path, PathBuf};

use super::EngineError;

/// The library, below `.deps/`.
fn packaged() -> Option<PathBuf> {
    let (os, arch) = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => ("linux", "x64-gnu"),
        _ => return None,
    };
    Some(Path::new(".deps/node_modules/@chdb").join(format!("lib-{os}-{arch}")).join("libchdb.so"))
}

/// The library at `explicit`, or below the working directory, or below a folder that the executable lies in.
pub(crate) fn find(explicit: Option<&Path>) -> Result<PathBuf, EngineError> {
    if let Some(path) = explicit {
        return match path.is_file() {
            true => Ok(path.to_owned()),
            false => Err(EngineError::NoLibrary { looked: vec![path.to_owned()] }),
        };
    }
    let packaged = packaged().ok_or(EngineError::Platform)?;
    let working = std::env::current_dir().ok();
    let executable = std::env::current_exe().ok();
    let above = executable.iter().flat_map(|path| path.ancestors().skip(1));
    let looked: Vec<PathBuf> =
        working.iter().map(PathBuf::as_path).chain(above).map(|folder| folder.join(&packaged)).collect();
    match looked.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(EngineError::NoLibrary { looked }),
    }
}
