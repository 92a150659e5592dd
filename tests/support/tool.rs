//! Programs from outside: SIPp, Kamailio, baresip and the rest, started and always ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{eventually, ms};

/// The Debian package of each program that a test may need.
const PACKAGES: &[(&str, &str)] = &[
    ("sipp", "sip-tester"),
    ("kamailio", "kamailio"),
    ("baresip", "baresip-core"),
    ("xz", "xz-utils"),
];

/// The full path of `program`; a missing one fails the test and says how to install it.
pub fn find(program: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut dirs: Vec<&str> = path.split(':').collect();
    dirs.push("/usr/sbin");
    let found = dirs.iter().map(|dir| Path::new(dir).join(program));
    found
        .into_iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            let package = PACKAGES.iter().find(|(name, _)| *name == program);
            let package = package.map_or(program, |(_, package)| package);
            panic!("this test needs {program}: apt-get install {package} (tests/run does it)")
        })
}

static DIRS: AtomicU32 = AtomicU32::new(0);

/// A directory for one run of one program, removed when the test passes.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let number = DIRS.fetch_add(1, Ordering::Relaxed);
        let unique = format!("callgate-{name}-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        Scratch(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes `text` into the directory and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).expect("a file in a temporary directory");
        path
    }

    pub fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.file(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A directory that is left behind harms nobody.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A running program whose output goes to `output` in its scratch directory; killed on drop.
pub struct Running {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Running {
    pub fn start(program: &str, command: &mut Command, scratch: &Scratch, stdin: Stdio) -> Running {
        let output = scratch.file(&format!("{program}.out"));
        let file = File::create(&output).expect("an output file");
        let errors = file.try_clone().expect("a second handle of it");
        let child = command
            .stdin(stdin)
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|fault| panic!("{program} does not start: {fault}"));
        Running {
            name: program.to_owned(),
            child,
            output,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn stdin(&mut self) -> &mut std::process::ChildStdin {
        self.child.stdin.as_mut().expect("a piped standard input")
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of this process")
    }

    /// Waits for the program to end by itself.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        eventually(patience, || self.has_ended().is_some());
        self.has_ended()
    }

    /// Waits until its output contains `text`.
    pub fn says(&mut self, text: &str, patience: Duration) -> bool {
        eventually(patience, || {
            self.output().contains(text) || self.has_ended().is_some()
        }) && self.output().contains(text)
    }

    pub fn signal(&self, signal: i32) {
        signal_process(self.child.id(), signal);
    }

    /// Asks it to end by `signal`, and insists after two seconds.
    pub fn end(&mut self, signal: i32) -> ExitStatus {
        self.signal(signal);
        if self.wait(ms(2000)).is_none() {
            self.child.kill().expect("a child can be killed");
        }
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let from = lines.len().saturating_sub(60);
            eprintln!(
                "--- last output of {}:\n{}",
                self.name,
                lines[from..].join("\n")
            );
        }
    }
}

/// Sends `signal` to one process, by its number.
pub fn signal_process(id: u32, signal: i32) {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    unsafe {
        libc::kill(id as i32, signal);
    }
}
