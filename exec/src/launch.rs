//! Starts the launcher, `nunbird`, for one stage, as `nunbird-auth` does it for a job of GitLab's: the message behind descriptor 3, the script
//! behind 4, the file for the exit code behind 5; and the lock of the run's directory behind 6, which the launcher only keeps open.
//!
//! The launcher is in a session of its own. So a `Ctrl-C` reaches this program alone, which asks the launcher to cancel, waits for
//! it, and still runs the clean-up.

use crate::failure::Failure;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_handover::{Handover, Task, Untrusted};
use nunbird_stage::signals::Signals;
use nunbird_unprivileged::job_command;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Well.
    Success,
    /// The script failed, with this code.
    Failed(i32),
    /// The user has cancelled it.
    Cancelled,
    /// Nunbird or the host failed; the launcher has said why.
    System,
}

/// Starts stages.
#[derive(Debug)]
pub(crate) struct Launcher {
    program: PathBuf,
    signals: Signals,
}

/// What one launcher is started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    /// The message.
    pub(crate) handover: &'a Handover,
    /// The lock of the directory that it works in: its own until it ends, whatever becomes of this program.
    pub(crate) lock: BorrowedFd<'a>,
}

impl Launcher {
    /// The launcher beside this program.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn beside_this_program() -> Result<Launcher, Failure> {
        let own =
            std::env::current_exe().map_err(|e| Failure::new(format!("cannot find this program: {e}")))?;
        let program = own.parent().unwrap_or(Path::new("/")).join("nunbird");
        if !program.exists() {
            let what = format!("{} is missing", nunbird_stage::error::shown(&program));
            return Err(
                Failure::new(what).help("install Nunbird as a whole: this program starts the one beside it")
            );
        }
        let signals = Signals::block().map_err(|e| Failure::new(format!("cannot wait for signals: {e}")))?;
        Ok(Launcher { program, signals })
    }

    /// Runs one stage to its end. What it prints is this program's output, but for `cleanup`, whose words are not the job's.
    ///
    /// # Errors
    /// When the launcher cannot be started.
    pub(crate) fn run(&self, held: Held<'_>, task: Task, script: &str) -> Result<End, Failure> {
        self.run_beside(held, task, script, |signals| {
            match poll(&mut [PollFd::new(signals, PollFlags::POLLIN)], PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
                Err(e) => Err(e.into()),
            }
        })
    }

    /// The same, while `beside` is called again and again; it returns when the descriptor of signals is readable.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) fn run_beside(
        &self,
        held: Held<'_>,
        task: Task,
        script: &str,
        beside: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<End, Failure> {
        let failed = |e: io::Error| {
            Failure::new(format!("cannot start {}: {e}", nunbird_stage::error::shown(&self.program)))
                .help("ask your site's admins whether the installation is complete")
        };
        refuse_loaders_variables(&held.handover.environment)?;
        let apart = task == Task::Cleanup;
        let handover = Handover { task, exit_code_file: true, ..held.handover.clone() };
        let message =
            handover.to_bytes().map_err(|e| Failure::new(format!("cannot describe the job: {e}")))?;
        let message = memory(&message).map_err(failed)?;
        let script = memory(script.as_bytes()).map_err(failed)?;
        let code = memory(b"1\n").map_err(failed)?;
        let mut command = Command::new(&self.program);
        command.env_clear().envs(handover.environment.iter()).stdin(Stdio::null());
        command
            .env("HOME", &handover.account.home)
            .env("USER", &handover.account.name)
            .env("LOGNAME", &handover.account.name);
        if apart {
            command.stdout(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?);
        }
        let passed = [message.as_fd(), script.as_fd(), code.as_fd(), held.lock];
        let child = job_command::spawn(command, &passed).map_err(failed)?;
        let (status, cancelled) = self.wait(child, beside).map_err(failed)?;
        Ok(match status.code() {
            Some(0) => End::Success,
            _ if cancelled => End::Cancelled,
            Some(1) => End::Failed(exit_code(&code)),
            _ => End::System,
        })
    }

    /// Passes requests to cancel on until the launcher has ended.
    fn wait(
        &self,
        mut child: Child,
        mut beside: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<(ExitStatus, bool)> {
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut cancelled = false;
        loop {
            while let Some(signal) = self.signals.take()? {
                if signal != Signal::SIGCHLD {
                    cancelled = true;
                    // A second one makes it kill at once. It may have ended meanwhile.
                    let _gone = kill(pid, Signal::SIGTERM);
                }
            }
            if let Some(status) = child.try_wait()? {
                return Ok((status, cancelled));
            }
            beside(self.signals.fd())?;
        }
    }
}

/// No configuration has such variables (`nunbird-policy`), so a message has them only from a record that Nunbird has not written.
fn refuse_loaders_variables(environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let decides = |name: &&String| {
        name.starts_with("LD_") || ["BASH_ENV", "ENV", "IFS", "SHELLOPTS", "PS4"].contains(&name.as_str())
    };
    match environment.keys().find(decides) {
        Some(name) => Err(Failure::new(format!(
            "refusing to start a program with {}, which its record sets: it changes how programs are loaded or scripts are read",
            Untrusted(name)
        ))
        .help("Nunbird writes no such record: a job may have made it. Look at the files without entering them")),
        None => Ok(()),
    }
}

fn memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"nunbird-exec", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

fn exit_code(file: &File) -> i32 {
    let mut bytes = [0; 16];
    let length = file.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..length]);
    text.trim().parse().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::refuse_loaders_variables;
    use std::collections::BTreeMap;

    #[test]
    fn a_record_sets_no_variable_of_the_loader_or_of_shells() {
        let with = |name: &str| {
            refuse_loaders_variables(&BTreeMap::from([(name.to_owned(), "/evil".to_owned())])).is_ok()
        };
        assert!(with("PATH") && with("SLURM_CONF") && with("MY_LD_PATH"));
        for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "IFS", "SHELLOPTS", "PS4"] {
            assert!(!with(name), "{name}");
        }
    }
}
