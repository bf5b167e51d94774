//! Numbers of system calls on this architecture, for filters.

/// `EPERM` as a filter returns it.
pub const EPERM: u32 = libc::EPERM as u32;

macro_rules! numbers {
    ($($name:ident = $number:ident;)*) => {
        $(#[doc = concat!("`", stringify!($number), "`.")] pub const $name: i64 = libc::$number;)*
    };
}

numbers! {
    BRK = SYS_brk;
    CLOCK_GETTIME = SYS_clock_gettime;
    CLOSE = SYS_close;
    EXIT = SYS_exit;
    EXIT_GROUP = SYS_exit_group;
    FUTEX = SYS_futex;
    GETRANDOM = SYS_getrandom;
    IOCTL = SYS_ioctl;
    MADVISE = SYS_madvise;
    MMAP = SYS_mmap;
    MPROTECT = SYS_mprotect;
    MREMAP = SYS_mremap;
    MUNMAP = SYS_munmap;
    RT_SIGRETURN = SYS_rt_sigreturn;
    SETFSGID = SYS_setfsgid;
    SETFSUID = SYS_setfsuid;
    SETGID = SYS_setgid;
    SETREGID = SYS_setregid;
    SETRESGID = SYS_setresgid;
    SETRESUID = SYS_setresuid;
    SETREUID = SYS_setreuid;
    SETUID = SYS_setuid;
    SIGALTSTACK = SYS_sigaltstack;
    WRITE = SYS_write;
}
