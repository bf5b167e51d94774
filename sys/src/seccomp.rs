//! Putting a filter of system calls in force: seccomp(2). The programs come from the crate `filter`.

pub use libc::sock_filter as Instruction;
use std::io;

/// Puts a program in force for this thread and everything that it starts, after `no_new_privs`.
///
/// # Errors
/// As seccomp(2): `EINVAL` for a program that the kernel does not take, or one that is too long for it.
pub fn enforce(program: &[Instruction]) -> io::Result<()> {
    crate::process::no_new_privileges()?;
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions through a pointer that is valid for as many, copies them before it
    // returns, and writes to none.
    let rc =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
