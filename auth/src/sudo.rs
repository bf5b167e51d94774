//! From a prepared launcher to `sudo`, for `downscope = "sudo"`: this program has no privilege then, and sudo changes the user.
//!
//! The policy has been asked as ever, but by a process of the runner's account: it binds that account no more than the sudoers
//! file does (docs/sudo.md). The child becomes sudo, sudo becomes `nunbird --sudo`; the parent stays as shepherd and reaches it by
//! the socket that is its standard input, through which order and files went before.

use crate::context::Context;
use crate::launch::{Opened, could_not_start};
use crate::limits::Confines;
use crate::privilege::{Privilege, Source};
use crate::refusal::Refusal;
use crate::shepherd::{self, Reach};
use nunbird_drop::relay;
use nunbird_handover::{FORMAT_VERSION, Handover, Record, SUDO_EXIT_CODE, SUDO_SCRIPT, SudoOrder};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::signals::Waiter;
use nunbird_sys::{answer, exec, passing, process};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

/// Where every distribution has it. It can be neither read nor run by descriptor: RHEL's is mode 4111.
const PROGRAM: &CStr = c"/usr/bin/sudo";
/// What the relay says, in bytes: that it has begun, and how the launcher ended.
const MAX_WORDS: usize = 3;

/// Everything that sudo's start needs.
#[derive(Debug)]
pub(crate) struct Sudo {
    argv: Vec<CString>,
    /// As [`SudoOrder`] has it.
    order: File,
    opened: Opened,
    user: u32,
}

/// Whether the program was started as this mode wants it.
///
/// # Errors
/// Why not: a setuid bit or capabilities would run all of it, for nothing, with privilege.
pub(crate) fn check_privilege(privilege: Privilege) -> Result<(), String> {
    match privilege.source {
        Source::None => Ok(()),
        other => Err(format!(
            "`downscope = \"sudo\"` is for a nunbird-auth without privilege, and this one has its own from: {}; run \
             gitlab-runner as an account of its own and nunbird-auth with mode 0755 (setcap -r), or write \
             `downscope = \"setuid\"`",
            other.name()
        )),
    }
}

impl Sudo {
    /// Without privilege jobs run as the runner's own account, or by sudo as any other.
    pub(crate) fn is_the_way(privilege: Privilege, record: &Record) -> bool {
        !privilege.source.is_privileged() && record.account.uid != privilege.caller.uid
    }

    /// Prepares the stage's start. The launcher is not opened: sudo runs it by the path that the sudoers file has, too.
    ///
    /// # Errors
    /// A system refusal when the order cannot be written.
    pub(crate) fn prepare(record: &Record, handover: Handover, opened: Opened) -> Result<Self, Refusal> {
        let words: [&[u8]; 7] = [
            b"sudo",
            b"-n",
            b"-u",
            record.account.name.as_bytes(),
            b"--",
            record.launcher.as_os_str().as_bytes(),
            b"--sudo",
        ];
        let argv: Result<_, _> = words.into_iter().map(CString::new).collect();
        let order = SudoOrder { version: FORMAT_VERSION, handover, isolation: record.isolation };
        let bytes = order.to_bytes().map_err(|e| failed(&e))?;
        Ok(Sudo {
            argv: argv.map_err(|e| failed(&e))?,
            order: exec::sealed(c"nunbird-sudo", &bytes).map_err(|e| failed(&e))?,
            opened,
            user: record.account.uid,
        })
    }

    /// Runs the stage and comes back when it has ended.
    ///
    /// # Errors
    /// A system refusal when sudo did not start the launcher.
    pub(crate) fn run(self, confines: &Confines, context: &Context<'_>) -> Result<Ended, Refusal> {
        let step = |name: &'static str| move |e: io::Error| could_not_start(name, &e);
        let Sudo { argv, order, opened: Opened { script, exit_code }, user } = self;
        let waiter = Waiter::block(&shepherd::HEEDED).map_err(step("sigprocmask"))?;
        let (ours, theirs) = UnixStream::pair().map_err(step("socketpair"))?;
        let kinds =
            script.as_ref().map_or(0, |_| SUDO_SCRIPT) | exit_code.as_ref().map_or(0, |_| SUDO_EXIT_CODE);
        let files: Vec<&File> =
            [Some(&order), script.as_ref(), exit_code.as_ref()].into_iter().flatten().collect();
        passing::send(&ours, kinds, &files).map_err(step("socket"))?;
        let theirs = File::from(OwnedFd::from(theirs));
        let child = fork_into(|| match become_sudo(&theirs, &argv, confines) {
            Ok(never) => match never {},
            Err(error) => {
                failed(&format!("/usr/bin/sudo: {error}")).print(&context.decision_id, context.unobfuscated);
                1
            }
        });
        let child = child.map_err(step("fork"))?;
        drop((theirs, order, script, exit_code));
        let listener = ours.try_clone().map_err(step("socket"))?;
        let reach = Reach::Pipe(PipeWriter::from(OwnedFd::from(ours)));
        let ended = shepherd::watch(&child, &waiter, reach, context.privilege, user)?;
        let said = answer::what_is_there(PipeReader::from(OwnedFd::from(listener)), MAX_WORDS);
        match said.map_err(step("answer of the launcher's parent"))?.as_slice() {
            // sudo ends as its child did, but for a signal that it catches itself.
            [b'b', kind, number] => Ok(relay::ended(*kind, *number).unwrap_or(ended)),
            [b'b', ..] => Ok(ended),
            _ => Err(failed(&format!(
                "sudo ended as {ended:?} before the launcher began; its words stand in the job log"
            ))),
        }
    }
}

/// In the child. sudo closes everything but the standard descriptors, and so does execve(2).
fn become_sudo(stdin: &File, argv: &[CString], confines: &Confines) -> io::Result<Infallible> {
    process::new_session()?;
    exec::input_is(stdin)?;
    process::close_on_exec_from(3)?;
    confines.enter_group()?;
    confines.rlimits.restore()?;
    process::default_signals()?;
    exec::execute_path(PROGRAM, argv, &[])
}

fn failed(detail: &dyn std::fmt::Display) -> Refusal {
    Refusal::system("sudo", "sudo did not start the job's launcher on this host", detail)
}
