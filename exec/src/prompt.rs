//! A prompt where a job has failed: `--shell-on-failure`.
//!
//! The shell is one more stage of the launcher's, so it has the job's variables, directory and container. A stage has neither a terminal
//! nor an input, and a container none of this host's terminals. So two named pipes in the job's directory, which is at the same path
//! inside and outside, carry what is typed and what is printed; script(1), where the host or the image has it, makes a terminal at the other end.
//! Without it, or without a terminal here, the shell reads line by line.

use crate::failure::Failure;
use crate::launch::{Held, Launcher};
use crate::script::quote;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::termios::{self, SetArg, Termios};
use nix::unistd::{mkfifoat, read};
use nunbird_handover::{Handover, Task};
use nunbird_stage::error::shown;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The launcher's name of the stage: one that runs in the job's container.
const STAGE: &str = "step_shell";
/// What the other end says first: a terminal, or lines.
const TERMINAL: u8 = b'T';

/// Opens a prompt on this host, in the message's container if it has one, and returns when its shell has ended.
///
/// # Errors
/// When the pipes cannot be made or the launcher cannot be started.
pub(crate) fn open(launcher: &Launcher, held: Held<'_>, step: &str) -> Result<(), Failure> {
    let directory = held.handover.workspace.builds_dir.join(".prompt");
    let failed = |e: io::Error| Failure::new(format!("cannot open a prompt in {}: {e}", shown(&directory)));
    // Left by a run that was killed.
    drop(fs::remove_dir_all(&directory));
    fs::create_dir(&directory).map_err(failed)?;
    let (input, output) = (directory.join("in"), directory.join("out"));
    let pipes = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(&directory)
        .map_err(failed)?;
    let (to, from) = (pipe(&pipes, "in").map_err(failed)?, pipe(&pipes, "out").map_err(failed)?);
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    // The allocation of the script has ended by now.
    let handover = Handover { batch: None, ..held.handover.clone() };
    let held = Held { handover: &handover, ..held };
    let text = script(step, &input, &output, terminal);
    let mut relay = Relay { to: Some(to), from, saved: None, begun: false };
    let end = launcher
        .run_beside(held, Task::Run(STAGE.to_owned()), &text, |signals| relay.wait(signals, terminal));
    relay.finish();
    drop(fs::remove_dir_all(&directory));
    // Whatever the last command of the prompt was.
    end.map(drop)
}

/// Makes a named pipe, and opens it for both directions, so that neither end waits for the other to open. What the job has left running can
/// put a link in its place, which would lead what is typed into a file of the user's.
fn pipe(directory: &File, name: &str) -> io::Result<File> {
    mkfifoat(directory, name, Mode::S_IRUSR | Mode::S_IWUSR)?;
    opened(directory, name)
}

fn opened(directory: &File, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    match file.metadata()?.file_type().is_fifo() {
        true => Ok(file),
        false => Err(io::Error::other(format!("the job has replaced the pipe `{name}`"))),
    }
}

/// `step` is the script that sets variables and the directory.
fn script(step: &str, input: &Path, output: &Path, terminal: bool) -> String {
    let [input, output] = [input, output].map(|path| quote(&path.to_string_lossy()));
    let shell = "if command -v bash >/dev/null 2>&1; then shell='bash --norc -i'; else shell='sh -i'; fi";
    let lines = "printf L; exec $shell";
    let begin = format!("{step}exec <{input} >{output} 2>&1\n{shell}\nPS1='[job] $ '; export PS1\n");
    if !terminal {
        return format!("{begin}{lines}\n");
    }
    // script(1) starts the command by a shell of the account's, which may be no POSIX shell; bash takes PS1 out of the environment where nothing is
    // typed. So env(1) sets it.
    format!(
        "{begin}if script -qec true /dev/null </dev/null >/dev/null 2>&1; then\n\
         TERM={term}; export TERM; printf T\n\
         exec script -qec \"stty rows {rows} cols {columns}; exec env PS1='$PS1' $shell\" /dev/null\n\
         fi\n{lines}\n",
        term = quote(
            &std::env::var_os("TERM")
                .map_or_else(|| "dumb".to_owned(), |term| term.to_string_lossy().into_owned())
        ),
        rows = size("lines", 24),
        columns = size("cols", 80),
    )
}

/// Of the user's terminal, which tput(1) asks.
fn size(what: &str, otherwise: u16) -> u16 {
    let output = std::process::Command::new("tput").arg(what).stderr(std::process::Stdio::inherit()).output();
    let text =
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    text.parse().unwrap_or(otherwise)
}

/// What is typed goes one way, what is printed the other.
struct Relay {
    /// None once nothing more is typed: the shell reads the end of its input.
    to: Option<File>,
    from: File,
    /// How the terminal was before each key was passed on as it is.
    saved: Option<Termios>,
    begun: bool,
}

impl Relay {
    /// Passes on until a signal comes: the end of the shell, or a request to cancel.
    fn wait(&mut self, signals: BorrowedFd<'_>, terminal: bool) -> io::Result<()> {
        loop {
            let stdin = io::stdin();
            let mut fds = vec![
                PollFd::new(signals, PollFlags::POLLIN),
                PollFd::new(self.from.as_fd(), PollFlags::POLLIN),
            ];
            // Nothing is read before the shell is there: it would be lost with one that cannot start.
            if self.to.is_some() && self.begun {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            if ready[1] {
                self.print(terminal);
            }
            if ready.get(2) == Some(&true) {
                self.type_on(stdin.as_fd());
            }
            if ready[0] {
                return Ok(());
            }
        }
    }

    fn print(&mut self, terminal: bool) {
        let mut bytes = [0; 4096];
        let Ok(length) = self.from.read(&mut bytes) else { return };
        let mut text = &bytes[..length];
        if !self.begun && !text.is_empty() {
            self.begun = true;
            if terminal && text[0] == TERMINAL {
                self.raw();
            }
            text = &text[1..];
        }
        let mut stdout = io::stdout();
        // A reader that has gone is no failure.
        drop(stdout.write_all(text).and_then(|()| stdout.flush()));
    }

    fn type_on(&mut self, stdin: BorrowedFd<'_>) {
        let mut bytes = [0; 1024];
        let length = read(stdin, &mut bytes).unwrap_or(0);
        let Some(to) = &mut self.to else { return };
        // More than a pipe holds, of a paste for a program that does not read: the rest is lost, as in a terminal.
        if length == 0 || to.write_all(&bytes[..length]).is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock)
        {
            self.to = None;
        }
    }

    /// Each key goes on as it is: `Ctrl-C` is for the program in the prompt.
    fn raw(&mut self) {
        let stdin = io::stdin();
        if let Ok(saved) = termios::tcgetattr(&stdin) {
            let mut raw = saved.clone();
            termios::cfmakeraw(&mut raw);
            if termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw).is_ok() {
                self.saved = Some(saved);
            }
        }
    }

    /// The last output, and the terminal as it was.
    fn finish(&mut self) {
        let mut bytes = Vec::new();
        // Ends with EAGAIN: this end is open for both directions.
        let _empty = self.from.read_to_end(&mut bytes);
        drop(io::stdout().write_all(&bytes));
        if let Some(saved) = self.saved.take() {
            // A terminal that has gone needs nothing.
            let _gone = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &saved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{opened, pipe};
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_typed_goes_into_no_file_that_the_job_has_put_in_the_place_of_a_pipe() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = File::open(scratch.path()).expect("a directory");
        pipe(&directory, "in").expect("a pipe");
        fs::write(scratch.path().join("own"), "").expect("a file");
        symlink(scratch.path().join("own"), scratch.path().join("link")).expect("a link");
        assert!(opened(&directory, "in").is_ok());
        symlink("in", scratch.path().join("other")).expect("a link");
        for name in ["link", "own", "other"] {
            assert!(opened(&directory, name).is_err(), "{name}");
        }
    }
}
