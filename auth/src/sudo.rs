//! From a prepared launcher to `sudo`, for `downscope = "sudo"`: this program has no privilege then, and sudo changes the user.
//!
//! The policy has been asked as ever, but by a process of the runner's account: it binds that account no more than the sudoers
//! file does (docs/sudo.md). The child becomes sudo, sudo becomes `nunbird --sudo`; the parent stays as shepherd and reaches it by
//! the socket that is its standard input, through which order and files went before.

use crate::context::Context;
use crate::limits::{Confines, Held};
use crate::opened::{Opened, could_not_start};
use crate::privilege::Privilege;
use crate::refusal::{Code, Refusal, clean, print_error};
use crate::shepherd::{self, Reach};
use nunbird_messages::{Record, SUDO_EXIT_CODE, SUDO_SCRIPT, SudoOrder, Version};
use nunbird_requests::Launch;
use nunbird_sys::fork::{Child, Ended, fork_into};
use nunbird_sys::signals::{self, Waiter};
use nunbird_sys::{answer, exec, passing, process};
use nunbird_wire::Message;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where every distribution has it. It can be neither read nor run by descriptor: RHEL's is mode 4111.
const PROGRAM: &CStr = c"/usr/bin/sudo";
/// What the relay reports, in bytes: that it has begun, and how the launcher ended.
const MAX_WORDS: usize = 3;
/// The most that `cleanup`'s launcher and sudo may print, in bytes.
const MAX_OUTPUT: usize = 64 << 10;
/// How long sudo may take to see that its child has ended.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// Everything that sudo's start needs.
#[derive(Debug)]
pub(crate) struct Sudo {
    argv: Vec<CString>,
    /// As [`SudoOrder`] has it.
    order: File,
    opened: Opened,
    user: u32,
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
    pub(crate) fn prepare(record: &Record, launch: Launch, opened: Opened) -> Result<Self, Refusal> {
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
        let order = SudoOrder { version: Version, message: launch.message, isolation: record.isolation };
        Ok(Sudo {
            argv: argv.map_err(|e| failed(&e))?,
            order: exec::sealed(c"nunbird-sudo", &order.to_bytes()).map_err(|e| failed(&e))?,
            opened,
            user: record.account.uid,
        })
    }

    /// Runs the stage and comes back when it has ended.
    ///
    /// # Errors
    /// A system refusal when sudo did not start the launcher.
    pub(crate) fn run(
        self,
        confines: &Confines,
        context: &Context<'_>,
        held: &mut Option<Held>,
    ) -> Result<Ended, Refusal> {
        let waiter = Waiter::block(&shepherd::HEEDED).map_err(|e| could_not_start("sigprocmask", &e))?;
        let user = self.user;
        let Started { child, socket, held: by_group } = self.start(confines, context, None)?;
        *held = by_group;
        let reach = Reach::Pipe(PipeWriter::from(OwnedFd::from(copy_of(&socket)?)));
        let ended = shepherd::watch(&child, &waiter, reach, context, user)?;
        how_it_ended(socket, ended)
    }

    /// Runs `cleanup`'s launcher and waits for it for a bounded time. Neither sudo nor the launcher has the runner's pipes: the
    /// runner waits until no process holds them any more, and a user can stop the launcher and, by its parent, sudo.
    ///
    /// # Errors
    /// As [`Sudo::run`]; a system refusal when it did not end in time. Its parent was asked to kill it then. A parent that the
    /// user keeps stopped is left, and sees the socket end when it goes on.
    pub(crate) fn run_and_wait(
        self,
        confines: &Confines,
        context: &Context<'_>,
        patience: Duration,
    ) -> Result<Ended, Refusal> {
        let (reader, writer) = io::pipe().map_err(|e| could_not_start("pipe", &e))?;
        let Started { child, socket, .. } = self.start(confines, context, Some(&writer))?;
        drop(writer);
        let mut reach = Reach::Pipe(PipeWriter::from(OwnedFd::from(copy_of(&socket)?)));
        process::forbid_inspection()
            .and_then(|()| process::no_new_privileges())
            .and_then(|()| reach.release())
            .map_err(|e| could_not_start("socket", &e))?;
        let said = answer::read_to_end(reader, MAX_OUTPUT, patience);
        if said.is_err() {
            reach.pass(&child, signals::KILL);
        }
        let ended = child.wait_at_most(LAST_MOMENTS).map_err(|e| could_not_start("waitpid", &e))?;
        let said = said.map_err(|e| could_not_start("cleanup did not end in time", &e))?;
        print_error(&format!("{}\n", clean(&String::from_utf8_lossy(&said))));
        let late = || could_not_start("cleanup did not end in time", &"sudo is still there");
        how_it_ended(socket, ended.ok_or_else(late)?)
    }

    /// Forks; the child becomes sudo, whose child waits for the shepherd's byte. Before that it waits until it is in the job's group: what
    /// sudo has started by then would not be. Output goes to the runner, unless it is for us.
    fn start(
        self,
        confines: &Confines,
        context: &Context<'_>,
        output: Option<&PipeWriter>,
    ) -> Result<Started, Refusal> {
        let step = |name: &'static str| move |e: io::Error| could_not_start(name, &e);
        let Sudo { argv, order, opened: Opened { script, exit_code }, .. } = self;
        let (ours, theirs) = UnixStream::pair().map_err(step("socketpair"))?;
        let kinds =
            script.as_ref().map_or(0, |_| SUDO_SCRIPT) | exit_code.as_ref().map_or(0, |_| SUDO_EXIT_CODE);
        let files: Vec<&File> =
            [Some(&order), script.as_ref(), exit_code.as_ref()].into_iter().flatten().collect();
        passing::send(&ours, kinds, &files).map_err(step("socket"))?;
        let theirs = File::from(OwnedFd::from(theirs));
        let (mut gate, release) = io::pipe().map_err(step("pipe"))?;
        let mut ends = Some(release);
        let child = fork_into(|| {
            // With its own copy open it would never see the parent's end close.
            drop(ends.take());
            let became = output
                .map_or(Ok(()), |output| exec::outputs_to(output, output))
                .and_then(|()| gate.read_exact(&mut [0]));
            match became.and_then(|()| become_sudo(&theirs, &argv, confines, context.privilege)) {
                Ok(never) => match never {},
                Err(error) => {
                    failed(&format!("/usr/bin/sudo: {error}"))
                        .print(&context.decision_id, context.unobfuscated);
                    1
                }
            }
        });
        let child = child.map_err(step("fork"))?;
        let group = confines.group.as_ref();
        let held = group.map(|group| group.take(context.privilege, &child, context.privilege.caller.uid));
        let held = held.transpose()?;
        // One that has ended already has reported its status.
        let _gone = ends.map(|mut release| release.write_all(b"!"));
        Ok(Started { child, socket: ours, held })
    }
}

/// sudo, and the way to the launcher's parent.
struct Started {
    child: Child,
    socket: UnixStream,
    held: Option<Held>,
}

fn copy_of(socket: &UnixStream) -> Result<UnixStream, Refusal> {
    socket.try_clone().map_err(|e| could_not_start("socket", &e))
}

/// The end as the launcher's parent reports it, or where it reports nothing, as sudo does.
fn how_it_ended(socket: UnixStream, ended: Ended) -> Result<Ended, Refusal> {
    let said = answer::what_is_there(PipeReader::from(OwnedFd::from(socket)), MAX_WORDS);
    match said.map_err(|e| could_not_start("answer of the launcher's parent", &e))?.as_slice() {
        // sudo ends as its child did, but for a signal that it catches itself.
        [b'b', kind, number] => Ok(Ended::of([*kind, *number]).unwrap_or(ended)),
        [b'b', ..] => Ok(ended),
        _ => Err(failed(&format!(
            "sudo ended as {ended:?} before the launcher began; its words stand in the job log"
        ))),
    }
}

/// In the child. sudo closes everything but the standard descriptors, and so does execve(2).
fn become_sudo(
    stdin: &File,
    argv: &[CString],
    confines: &Confines,
    privilege: Privilege,
) -> io::Result<Infallible> {
    process::new_session()?;
    exec::input_is(stdin)?;
    process::close_on_exec_from(3)?;
    confines.take_place(privilege)?;
    confines.rlimits.restore()?;
    process::default_signals()?;
    exec::execute_path(PROGRAM, argv, &[])
}

fn failed(detail: &dyn std::fmt::Display) -> Refusal {
    Refusal::system(Code::Sudo, "sudo did not start the job's launcher on this host", detail)
}
