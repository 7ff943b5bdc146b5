//! A file of JSON lines, for whatever follows files. On the disk before it counts as told; a rotation is noticed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::queue::{Answer, Job};

/// The file, opened when it is first needed.
#[derive(Clone)]
pub(super) struct Lines {
    path: PathBuf,
    /// `None` after a failure: a line may have been cut, and opening anew looks at that.
    open: Arc<Mutex<Option<File>>>,
}

impl Lines {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: Arc::default() }
    }

    /// Appends one line.
    pub(super) async fn tell(&self, job: &Job) -> Answer {
        let (lines, body) = (self.clone(), job.body.clone());
        let written = tokio::task::spawn_blocking(move || lines.append(&one_line(&body))).await;
        match written {
            Ok(Ok(())) => Answer::Delivered,
            Ok(Err(cause)) => away(format!("{}: {cause}", self.path.display())),
            Err(cause) => away(cause.to_string()),
        }
    }

    fn append(&self, line: &[u8]) -> std::io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match open.take() {
            Some(file) if self.is_still(&file) => file,
            _ => self.open_anew()?,
        };
        file.write_all(line)?;
        file.sync_data()?;
        *open = Some(file);
        Ok(())
    }

    /// Whether the path still leads to this file: a rotation has moved it away.
    fn is_still(&self, file: &File) -> bool {
        let same = |(there, ours): (std::fs::Metadata, std::fs::Metadata)| {
            (there.dev(), there.ino()) == (ours.dev(), ours.ino())
        };
        std::fs::metadata(&self.path).ok().zip(file.metadata().ok()).is_some_and(same)
    }

    /// Opens or makes the file, and ends a line that a crash or a full disk has cut.
    fn open_anew(&self) -> std::io::Result<File> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&self.path)?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(file)
    }
}

const fn away(why: String) -> Answer {
    Answer::Away { why, retry_after: None }
}

/// The alert on one line: another program that writes to the outbox may have written it on several.
fn one_line(body: &[u8]) -> Vec<u8> {
    let mut line = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) if body.contains(&b'\n') => value.to_string().into_bytes(),
        _ => body.to_vec(),
    };
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_rotation_and_cut_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.jsonl");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();

        let lines = Lines::new(path.clone());
        lines.append(b"1\n").unwrap();
        lines.append(b"2\n").unwrap();
        std::fs::rename(&path, folder.path().join("alerts.jsonl.1")).unwrap();
        lines.append(b"3\n").unwrap();
        assert_eq!((read("alerts.jsonl.1"), read("alerts.jsonl")), ("1\n2\n".into(), "3\n".into()));

        // Rotated away and made anew by somebody else.
        std::fs::rename(&path, folder.path().join("alerts.jsonl.2")).unwrap();
        std::fs::write(&path, "").unwrap();
        lines.append(b"4\n").unwrap();
        assert_eq!(read("alerts.jsonl"), "4\n");

        // A crash in the middle of a line.
        std::fs::write(&path, "4\n{\"cut").unwrap();
        Lines::new(path).append(b"5\n").unwrap();
        assert_eq!(read("alerts.jsonl"), "4\n{\"cut\n5\n");
    }

    #[test]
    fn an_alert_is_one_line() {
        assert_eq!(one_line(b"{\"b\": 1, \"a\": 2}"), b"{\"b\": 1, \"a\": 2}\n");
        assert_eq!(one_line(b"{\n\"a\": \"x\\ny\"\n}"), b"{\"a\":\"x\\ny\"}\n");
    }

    #[test]
    fn a_folder_that_is_not_there_is_away_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let lines = Lines::new(folder.path().join("missing/alerts.jsonl"));
        assert!(lines.append(b"1\n").is_err());
        std::fs::create_dir(folder.path().join("missing")).unwrap();
        lines.append(b"1\n").unwrap();
    }
}
