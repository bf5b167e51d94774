//! One command of a scheduler or a container engine: starts it, limits its time and collects its output.
//!
//! It runs in its own session, so that a signal from the runner to our process group does not
//! interrupt a submission, and is killed when this process dies, so that a submission that nothing
//! waits for does not arrive late.

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use nunbird_unprivileged::job_command;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Bound on the output. More than a queue lists for one user: ten thousand jobs take about a
/// mebibyte.
const LONGEST_ANSWER: u64 = 32 << 20;

/// Time left to a query when a cancel waits for it.
const HURRIED: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug)]
pub struct CommandLine {
    /// The program, and its arguments.
    pub words: Vec<String>,
    /// Standard input; empty if `None`.
    pub input: Option<String>,
}

/// A running command.
#[derive(Debug)]
pub struct RunningCommand {
    child: Child,
    out: File,
    err: File,
    begun: Instant,
    deadline: Instant,
    late: bool,
}

/// How it ended.
#[derive(Debug)]
pub struct CommandOutput {
    /// `None` if it was killed, or printed more than the bound on output.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl RunningCommand {
    /// Starts it; a program without a slash is looked for in `bin`, or else on the PATH.
    ///
    /// # Errors
    /// As fork(2) and execve(2).
    pub fn start(
        call: &CommandLine,
        bin: Option<&Path>,
        environment: &[(OsString, OsString)],
        time: Duration,
    ) -> io::Result<Self> {
        let (program, arguments) = call.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = match bin {
            Some(bin) if !program.starts_with('/') => Command::new(bin.join(program)),
            _ => Command::new(program),
        };
        let (out, err) = (memory()?, memory()?);
        command.args(arguments).env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        if let Some(bin) = bin.filter(|_| program.starts_with('/')) {
            // A site's wrapper script, which calls the scheduler's commands itself.
            let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_os_str());
            let mut all = bin.as_os_str().to_owned();
            if let Some(more) = path.filter(|path| !path.is_empty()) {
                all.push(":");
                all.push(more);
            }
            command.env("PATH", all);
        }
        match &call.input {
            Some(text) => command.stdin(input(text)?),
            None => command.stdin(Stdio::null()),
        };
        command.stdout(out.try_clone()?).stderr(err.try_clone()?);
        let child = job_command::spawn(command, &[])?;
        let begun = Instant::now();
        Ok(RunningCommand { child, out, err, begun, deadline: begun + time, late: false })
    }

    /// Time since its start.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Shortens the time left, because something more urgent waits.
    pub fn hurry(&mut self) {
        self.deadline = self.deadline.min(self.begun + HURRIED);
    }

    /// The result once it has ended. A command that exceeds its time is killed.
    ///
    /// # Errors
    /// As waitpid(2) and read(2).
    pub fn ended(&mut self) -> io::Result<Option<CommandOutput>> {
        let Some(status) = self.child.try_wait()? else {
            if Instant::now() >= self.deadline {
                self.late = true;
                // ESRCH: it has just ended.
                let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
            }
            return Ok(None);
        };
        let whole = self.out.metadata()?.len() <= LONGEST_ANSWER;
        let status = (whole && !self.late).then_some(status);
        Ok(Some(CommandOutput { status, out: text(&mut self.out)?, err: text(&mut self.err)? }))
    }

    /// What it has printed until now, on both outputs, without what is beyond so many bytes of each.
    ///
    /// # Errors
    /// As pread(2).
    pub fn printed(&self, most: usize) -> io::Result<String> {
        let mut text = String::new();
        for file in [&self.out, &self.err] {
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(most).min(most);
            let mut bytes = vec![0; length];
            // Not by its offset, which the command has as well.
            file.read_exact_at(&mut bytes, 0)?;
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok(text)
    }

    /// Ends it at the next [`RunningCommand::ended`].
    pub fn give_up(&mut self) {
        self.deadline = Instant::now();
    }

    /// When its time is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// An anonymous file for output, so that nothing has to read while the command writes.
fn memory() -> Result<File, Errno> {
    memfd_create(c"nunbird-answer", MFdFlags::MFD_CLOEXEC).map(File::from)
}

/// Standard input that is complete from the beginning, whether or not the command reads it.
fn input(text: &str) -> io::Result<File> {
    let mut file = memory()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn text(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(LONGEST_ANSWER).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, CommandOutput, RunningCommand};
    use std::time::{Duration, Instant};

    fn output(words: &[&str], time: Duration) -> CommandOutput {
        run_to_end(words, None, time)
    }

    fn run_to_end(words: &[&str], input: Option<&str>, time: Duration) -> CommandOutput {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let call = CommandLine { words, input: input.map(str::to_owned) };
        let mut running = RunningCommand::start(&call, Some("/bin".as_ref()), &[], time).expect("start");
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(output) = running.ended().expect("wait") {
                return output;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_answer_is_collected_with_its_status() {
        let output = output(&["sh", "-c", "echo a; echo b >&2; exit 3"], Duration::from_secs(5));
        assert_eq!((output.out.as_str(), output.err.as_str()), ("a\n", "b\n"));
        assert_eq!(output.status.and_then(|status| status.code()), Some(3));
    }

    #[test]
    fn a_script_of_the_sites_finds_the_schedulers_commands_where_the_site_has_them() {
        let bin = tempfile::tempdir().expect("a directory");
        let program = bin.path().join("pjstat");
        std::fs::write(&program, "#!/bin/sh\necho found\n").expect("a command");
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("its mode");
        let words = ["/bin/sh", "-c", "pjstat"].map(str::to_owned).to_vec();
        let environment = [("PATH".into(), "/usr/bin:/bin".into())];
        let call = CommandLine { words, input: None };
        let mut running =
            RunningCommand::start(&call, Some(bin.path()), &environment, Duration::from_secs(600))
                .expect("start");
        let output = loop {
            if let Some(output) = running.ended().expect("wait") {
                break output;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(output.out, "found\n", "{}", output.err);
    }

    #[test]
    fn a_question_that_a_cancel_waits_for_is_cut_short() {
        let words = ["sleep", "600"].map(str::to_owned).to_vec();
        let call = CommandLine { words, input: None };
        let mut running = RunningCommand::start(&call, Some("/bin".as_ref()), &[], Duration::from_secs(600))
            .expect("start");
        running.hurry();
        let output = loop {
            if let Some(output) = running.ended().expect("wait") {
                break output;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(output.status.is_none());
    }

    #[test]
    fn a_command_reads_its_input_and_without_one_finds_none() {
        let time = Duration::from_secs(5);
        let long = "a line\n".repeat(100_000);
        assert_eq!(run_to_end(&["cat"], Some(&long), time).out, long);
        assert_eq!(run_to_end(&["cat"], None, time).out, "");
    }

    #[test]
    fn what_a_command_has_printed_is_known_while_it_runs_and_is_there_at_its_end() {
        let words = ["sh", "-c", "echo a; echo b >&2; read -r _ </dev/null; sleep 0.3; echo c"];
        let call = CommandLine { words: words.map(str::to_owned).to_vec(), input: None };
        let mut running =
            RunningCommand::start(&call, Some("/bin".as_ref()), &[], Duration::from_secs(9)).expect("start");
        while running.printed(1 << 20).expect("its output") != "a\nb\n" {
            std::thread::yield_now();
        }
        assert_eq!(running.printed(1).expect("its output"), "ab");
        let output = loop {
            if let Some(output) = running.ended().expect("wait") {
                break output;
            }
            std::thread::yield_now();
        };
        assert_eq!((output.out.as_str(), output.err.as_str()), ("a\nc\n", "b\n"));
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_with_its_children_and_says_nothing() {
        let begin = Instant::now();
        let output = output(&["sh", "-c", "sleep 20 & wait"], Duration::from_millis(50));
        assert!(output.status.is_none());
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
