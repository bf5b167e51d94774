//! What the shepherd's filter leaves to a process.

use crate::Test;
use crate::machine::{Machine, Mode};
use crate::sandbox;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::process;
use std::fs::{File, OpenOptions};
use std::process::Command;
use std::time::Duration;

pub(crate) const ALL: &[Test] = &[(
    "a_shepherd_that_was_taken_over_starts_nothing_and_signals_its_child_alone",
    a_shepherd_that_was_taken_over_starts_nothing_and_signals_its_child_alone,
)];

/// Before it becomes the shepherd a process may all of this; the privilege is left to it here on purpose.
fn a_shepherd_that_was_taken_over_starts_nothing_and_signals_its_child_alone(machine: &Machine) {
    let written = machine.path("nbt_written");
    let write = || OpenOptions::new().append(true).create(true).open(&written);
    let start = || Command::new("/bin/true").status();
    let look = || kill(getppid(), None::<Signal>);
    if machine.mode == Mode::Root {
        assert!(write().is_ok() && start().is_ok() && look().is_ok(), "nothing is in the way yet");
    }
    let child = fork_into(|| {
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    let child = child.expect("a child");
    sandbox::watch_only(child.pid()).expect("a filter");

    let refused = |what: &str, error: Option<i32>| {
        assert_eq!(error, Some(nix::errno::Errno::EPERM as i32), "{what}");
    };
    refused("execve", start().expect_err("a program").raw_os_error());
    assert!(fork_into(|| 0).is_err(), "a process");
    refused("write", write().expect_err("a file").raw_os_error());
    refused("kill", look().err().map(|e| e as i32));
    refused("kill of all", kill(Pid::from_raw(-1), None::<Signal>).err().map(|e| e as i32));
    refused("setresuid", Linux.set_uids(u32::MAX, u32::MAX, u32::MAX).expect_err("ids").raw_os_error());
    refused("prctl", process::forbid_inspection().expect_err("prctl").raw_os_error());
    refused("setrlimit", process::bound_memory(1 << 40).expect_err("a limit").raw_os_error());

    // And what a stage needs goes on.
    assert!(File::open("/proc/self/status").is_ok());
    child.signal(nunbird_sys::signals::KILL).expect("its own child");
    assert_eq!(child.wait().expect("an end"), Ended::Killed(9));
}
