//! Starting `nbt-enter`, collecting output, and finding the programs of the build.

use super::enter::Spec;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It did not end even after SIGKILL to its group, and was abandoned.
    Abandoned,
}

impl From<std::process::ExitStatus> for Exit {
    fn from(status: std::process::ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Abandoned,
        }
    }
}

/// A finished program: its end and its output as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub exit: Exit,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Finished {
    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// The output of a program that had to succeed, without white space around it.
    ///
    /// # Panics
    /// When it did not exit with 0.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.exit, Exit::Code(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout.trim().to_owned()
    }
}

/// Starts a program in a process group of its own, output by pipes.
pub(crate) fn spawn(spec: &Spec) -> Child {
    if spec.is_plain() {
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.arguments)
            .env_clear()
            .envs(spec.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&spec.directory).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        return command.spawn().unwrap_or_else(|e| panic!("{}: {e}", spec.program.to_string_lossy()));
    }
    let mut child = Command::new(sibling("nbt-enter"))
        .arg0("nbt-enter")
        .env_clear()
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nbt-enter starts");
    let text = serde_json::to_vec(spec).expect("a specification");
    child.stdin.take().expect("a pipe").write_all(&text).expect("nbt-enter reads its specification");
    child
}

/// Runs a program to its end.
pub(crate) fn run(spec: &Spec) -> Finished {
    let Output { status, stdout, stderr } = spawn(spec).wait_with_output().expect("a program ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { exit: status.into(), stdout: text(&stdout), stderr: text(&stderr) }
}

/// Copies a file that is to be executed, with its mode.
///
/// Another process writes it: if this process wrote it, a child that another thread starts at that
/// moment would keep the file open for writing until it executes its program, and execve(2) of the
/// file would fail meanwhile (`ETXTBSY`).
///
/// # Panics
/// When cp(1) fails.
pub fn copy_executable(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--preserve=mode").arg(from).arg(to).output().expect("cp runs");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

/// As [`copy_executable`], for contents; the mode is the caller's to set.
///
/// # Panics
/// When cp(1) fails.
pub fn write_executable(path: &Path, contents: &[u8]) {
    let mut command = Command::new("cp");
    command.arg("/dev/stdin").arg(path).stdin(Stdio::piped());
    let mut copying = command.spawn().expect("cp runs");
    copying.stdin.take().expect("a pipe").write_all(contents).expect("cp reads");
    assert!(copying.wait().expect("cp ends").success(), "{} is not written", path.display());
}

/// The name of the demo, which is `nbt-enter` and `gitlab-runner`, too, when it is called so: `cargo run`
/// builds it alone.
const DEMO: &str = "nunbird-demo";

/// A program of this package, built beside the running one (or one directory above, for tests).
pub(crate) fn sibling(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    if own.file_name().is_some_and(|name| name == DEMO) {
        return own;
    }
    let found =
        own.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build -p nunbird-tests --bins`"))
}

/// What the demo does when it is called by the name of one of its helpers.
pub fn as_helper() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    match Path::new(&name).file_name()?.to_str()? {
        "nbt-enter" => Some(super::enter::main()),
        "gitlab-runner" => Some(crate::runner::helper::main()),
        _ => None,
    }
}

/// A program under test: from `NUNBIRD_BIN_DIR`, else from `<target>/staging`.
///
/// # Panics
/// When it is not there, with the command that builds it.
pub fn under_test(name: &str) -> PathBuf {
    let directory = match std::env::var_os("NUNBIRD_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => target().join("staging"),
    };
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --profile staging -p nunbird-auth -p nunbird-decide -p nunbird -p nunbird-exec -p nunbird-keys -p nunbird-limits -p nunbird-machine -p nunbird-session -p nunbird-validate`, \
         or set NUNBIRD_BIN_DIR to the absolute path of the programs' directory",
        path.display()
    );
    path
}

/// The target directory: the first above this program that holds cargo's `CACHEDIR.TAG`.
fn target() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    let marked = |directory: &&Path| directory.join("CACHEDIR.TAG").is_file();
    own.ancestors().find(marked).expect("a target directory above this program").to_path_buf()
}
