//! An account of a machine, and the commands that it runs there.

use super::node::{GROUP, Node};
use crate::world::process::Finished;
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Where [`WITHOUT_NAMESPACES`] is.
const OFF: &str = "/run/nbt-without-namespaces";
/// The limit is one of each user namespace. All ids mean the same in this one, and setuid programs work. A process without ids has no
/// capabilities after it is executed, so there is one more execution when it has ids.
const WITHOUT_NAMESPACES: &str = r#"#!/bin/sh
me=$$ before=$(readlink /proc/$$/ns/user)
(
  until [ "$(readlink /proc/$me/ns/user)" != "$before" ]; do sleep 0.01; done
  for ids in gid uid; do echo 0 0 4294967295 >/proc/$me/${ids}_map; done
) </dev/null >/dev/null 3>&- 4>&- 5>&- 9>&- &
exec unshare --user sh -c 'until read -r _ </proc/self/uid_map; do sleep 0.01; done; exec sh -c "$@"' sh \
  'echo 0 >/proc/sys/user/max_user_namespaces || exit 99; exec "$@"' sh "$@"
"#;

/// Where [`FILTER`] is.
const FILTERED: &str = "/run/nbt-filtered";
/// Runs its arguments below a filter of system calls that refuses unshare(2). Root puts it in force, so that setuid programs go on to work.
const FILTER: &str = r#"#!/usr/bin/perl
my $kind = `uname -m`;
my ($prctl, $unshare) = $kind =~ /aarch64/ ? (167, 97) : $kind =~ /ppc64/ ? (171, 282) : (157, 272);
my $filter = pack("SCCL" x 4, 0x20, 0, 0, 0, 0x15, 0, 1, $unshare, 0x06, 0, 0, 0x00050001, 0x06, 0, 0, 0x7fff0000);
my $program = pack("S x6 P", 4, $filter);
syscall($prctl, 22, 2, $program) == 0 or die "no filter: $!\n";
exec @ARGV or die "no program: $!\n";
"#;

/// An account. Its processes have its uid, gid and one further group, and none of the test's environment.
#[derive(Debug, Clone, Copy)]
pub struct Person<'n> {
    node: &'n Node,
    name: &'static str,
    uid: u32,
    no_new_privileges: bool,
    chrooted: bool,
    limited: bool,
    filtered: bool,
}

impl<'n> Person<'n> {
    pub(super) fn new(node: &'n Node, name: &'static str, uid: u32) -> Self {
        Person { node, name, uid, no_new_privileges: false, chrooted: false, limited: false, filtered: false }
    }

    /// The same, whose processes gain nothing by setuid programs (`no_new_privs`).
    #[must_use]
    pub fn no_new_privileges(self) -> Self {
        Person { no_new_privileges: true, ..self }
    }

    /// The same, whose processes get EPERM for a new user namespace, as where the site has switched them off: the
    /// kernel gives none to a process in a chroot.
    #[must_use]
    pub fn without_user_namespaces(self) -> Self {
        Person { chrooted: true, ..self }
    }

    /// The same on a host with `user.max_user_namespaces = 0`: its processes and those of the launcher are in a user namespace of root's
    /// with the same ids, where the limit is nought.
    ///
    /// # Panics
    /// When the program that begins them cannot be written.
    #[must_use]
    pub fn with_user_namespaces_off(self) -> Self {
        self.node.write(OFF, WITHOUT_NAMESPACES);
        self.node.administer(&format!("chmod 755 {OFF}"));
        Person { limited: true, ..self }
    }

    /// The same in a place whose filter of system calls refuses unshare(2), as that of a container or a unit: its processes and those of the
    /// launcher.
    ///
    /// # Panics
    /// When the program that begins them cannot be written.
    #[must_use]
    pub fn refused_by_a_filter(self) -> Self {
        self.node.write(FILTERED, FILTER);
        self.node.administer(&format!("chmod 755 {FILTERED}"));
        Person { filtered: true, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its uid, which is also its gid.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its home directory, as the machine sees it.
    pub fn home(&self) -> String {
        format!("/home/{}", self.name)
    }

    /// A command: a program with its words to come, in the home directory, with `PATH`, `HOME`, `USER`, `LOGNAME`,
    /// `XDG_RUNTIME_DIR` and `LC_ALL`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.node.root();
        if self.chrooted {
            let script =
                "mkdir -p /run/chroot && mount --rbind / /run/chroot && exec chroot /run/chroot \"$@\"";
            command.args(["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]);
        }
        let id = self.uid;
        command.args(self.take_ids().split(' '));
        command.args(["env", "-i", &format!("--chdir={}", self.home())]);
        command.args([
            "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LC_ALL=C.UTF-8",
            &format!("HOME={}", self.home()),
            &format!("USER={}", self.name),
            &format!("LOGNAME={}", self.name),
            &format!("XDG_RUNTIME_DIR=/run/user/{id}"),
        ]);
        command.arg(program);
        command
    }

    /// The words that begin a command of root's and have it run as this account.
    pub(super) fn take_ids(&self) -> String {
        let (id, group) = (self.uid, GROUP.1);
        let more = if self.no_new_privileges { " --no-new-privs" } else { "" };
        let begin = match (self.limited, self.filtered) {
            (true, _) => format!("{OFF} "),
            (false, true) => format!("{FILTERED} "),
            (false, false) => String::new(),
        };
        format!("{begin}setpriv --reuid={id} --regid={id} --groups={id},{group}{more}")
    }

    /// Runs a program to its end, without input.
    ///
    /// # Panics
    /// Without any word.
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Finished {
        self.feed(words, "")
    }

    /// Runs a shell script to its end.
    pub fn shell(&self, script: &str) -> Finished {
        self.run(["sh", "-c", script])
    }

    /// Runs a program to its end, with this input.
    ///
    /// # Panics
    /// Without any word, or when the machine is gone.
    pub fn feed<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>, input: &str) -> Finished {
        let mut words = words.into_iter();
        let program = words.next().expect("a program");
        let mut command = self.command(program.as_ref());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsenter starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        let input = input.to_owned();
        // A program that does not read it all is the test's affair.
        let writing = std::thread::spawn(move || pipe.write_all(input.as_bytes()));
        let Output { status, stdout, stderr } = child.wait_with_output().expect("a program ends");
        drop(writing.join());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { exit: status.into(), stdout: text(&stdout), stderr: text(&stderr) }
    }
}
