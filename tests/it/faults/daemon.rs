//! A process of the suite: started, killed, frozen, asked to end, and told lies by the preloaded shim.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::kafka::{signal, wait_until};

/// How a process is started, and the process.
pub(super) struct Daemon {
    name: String,
    /// Its working files: the log, what the shim is told.
    dir: PathBuf,
    shim: PathBuf,
    arguments: Vec<String>,
    /// What it reads first on standard input, which stays open.
    order: Option<String>,
    child: Option<Child>,
}

impl Daemon {
    pub(super) fn new(
        name: &str,
        parent: &Path,
        shim: &Path,
        arguments: &[&str],
        order: Option<String>,
    ) -> Self {
        let dir = parent.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { name: name.to_owned(), dir, shim: shim.to_owned(), arguments, order, child: None }
    }

    /// Compiles the shim.
    pub(super) fn compile_shim(dir: &Path) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/shim.c");
        let shim = dir.join("shim.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&shim)
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(compiled.expect("cc runs").success(), "the shim compiles");
        shim
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(super) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut child = Command::new(super::program())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(&self.arguments)
            .env("LD_PRELOAD", &self.shim)
            .env("FAULTS_SHIM", &self.dir)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        if let (Some(order), Some(stdin)) = (&self.order, &mut child.stdin) {
            writeln!(stdin, "{order}").unwrap();
        }
        self.child = Some(child);
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended by itself, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(ended)
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// A signal, if it runs.
    pub(super) fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            signal(pid, name);
        }
    }

    /// SIGTERM, and waits for the end.
    pub(super) async fn stop(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        signal(child.id(), "TERM");
        let ended = super::house::blocking(move || {
            wait_until("the process ends", || child.try_wait().unwrap().is_some());
            child.wait().unwrap()
        });
        Some(ended.await)
    }

    /// Tells the shim: the file's content, or that it is gone.
    pub(super) fn tell(&self, what: &str, content: Option<&str>) {
        let path = self.dir.join(what);
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
