//! Files of secrets: made once, whole or not at all, readable by their owner alone.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::clock::Random;

/// Makes the file, and its directory, unless it is there. It is written beside its place and linked there: it appears
/// whole, and of two that make it at the same time the second finds the first's.
pub(crate) fn make_private(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let draft = directory.join(format!(".draft.{}", Random::hex::<8>()));
    let linked = write_private(&draft, text).and_then(|()| match std::fs::hard_link(&draft, path) {
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = std::fs::remove_file(&draft);
    linked.and(removed)?;
    std::fs::File::open(directory)?.sync_all()
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
