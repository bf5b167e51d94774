//! Numbers of system calls on this architecture, for filters.

/// `FIONBIO` of ioctl(2): the standard library's way to make a socket not wait.
pub const FIONBIO: u32 = libc::FIONBIO as u32;

macro_rules! numbers {
    ($($name:ident = $number:ident;)*) => {
        $(#[doc = concat!("`", stringify!($number), "`.")] pub const $name: i64 = libc::$number;)*
        /// All of them, by the kernel's names.
        pub const ALL: &[(&str, i64)] = &[$((stringify!($number), $name)),*];
    };
}

numbers! {
    BIND = SYS_bind;
    BRK = SYS_brk;
    CLOCK_GETTIME = SYS_clock_gettime;
    CLOCK_NANOSLEEP = SYS_clock_nanosleep;
    CLOSE = SYS_close;
    CONNECT = SYS_connect;
    EXIT = SYS_exit;
    EXIT_GROUP = SYS_exit_group;
    FCNTL = SYS_fcntl;
    FDATASYNC = SYS_fdatasync;
    FLOCK = SYS_flock;
    FSTAT = SYS_fstat;
    FUTEX = SYS_futex;
    GETPID = SYS_getpid;
    GETPPID = SYS_getppid;
    GETRANDOM = SYS_getrandom;
    GETSOCKOPT = SYS_getsockopt;
    GETTID = SYS_gettid;
    IOCTL = SYS_ioctl;
    KILL = SYS_kill;
    LSEEK = SYS_lseek;
    MADVISE = SYS_madvise;
    MMAP = SYS_mmap;
    MPROTECT = SYS_mprotect;
    MREMAP = SYS_mremap;
    MUNMAP = SYS_munmap;
    NANOSLEEP = SYS_nanosleep;
    NEWFSTATAT = SYS_newfstatat;
    OPENAT = SYS_openat;
    PPOLL = SYS_ppoll;
    PREAD64 = SYS_pread64;
    READ = SYS_read;
    RECVFROM = SYS_recvfrom;
    RECVMSG = SYS_recvmsg;
    RESTART_SYSCALL = SYS_restart_syscall;
    RT_SIGACTION = SYS_rt_sigaction;
    RT_SIGPROCMASK = SYS_rt_sigprocmask;
    RT_SIGRETURN = SYS_rt_sigreturn;
    RT_SIGTIMEDWAIT = SYS_rt_sigtimedwait;
    SENDTO = SYS_sendto;
    SETFSGID = SYS_setfsgid;
    SETFSUID = SYS_setfsuid;
    SETGID = SYS_setgid;
    SETREGID = SYS_setregid;
    SETRESGID = SYS_setresgid;
    SETRESUID = SYS_setresuid;
    SETREUID = SYS_setreuid;
    SETSOCKOPT = SYS_setsockopt;
    SETUID = SYS_setuid;
    SIGALTSTACK = SYS_sigaltstack;
    SOCKET = SYS_socket;
    STATX = SYS_statx;
    UNAME = SYS_uname;
    WAIT4 = SYS_wait4;
    WAITID = SYS_waitid;
    WRITE = SYS_write;
    WRITEV = SYS_writev;
}
