//! The own process of a program without privilege: its resources, its program, its host.

use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io;

/// Lets this process have no new files, processes or core dumps, and one second of processor time.
///
/// # Errors
/// As setrlimit(2).
pub fn forbid_resources() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CPU, 1, 1)?;
    Ok(())
}

/// Lets this process have no new processes, no core dump, and so many seconds of processor time.
///
/// # Errors
/// As setrlimit(2).
pub fn forbid_processes(seconds: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?)
}

/// Sets the soft limit of the stack, in bytes, to at most the hard one. By the launcher, because a file with capabilities or a
/// setuid bit starts with a stack of 8 MiB on some systems (`_STK_LIM` of the kernel's `begin_new_exec`, fs/exec.c), sudo among
/// them, and its children inherit that.
///
/// # Errors
/// As setrlimit(2).
pub fn set_soft_stack(bytes: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_STACK)?;
    Ok(setrlimit(Resource::RLIMIT_STACK, bytes.min(hard), hard)?)
}

/// The program that this process runs, to be run again by descriptor: it need not be readable.
///
/// # Errors
/// As open(2).
pub fn own_program() -> io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    Ok(File::from(nix::fcntl::open("/proc/self/exe", flags, Mode::empty())?))
}

/// The machine's name up to the first dot, letters, digits and `-` only; `localhost` when there is none.
pub fn short_host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    let first = name.split('.').next().unwrap_or("");
    let plain: String = first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    if plain.is_empty() { "localhost".to_owned() } else { plain }
}
