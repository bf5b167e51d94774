//! Numbers of system calls on this architecture, for filters.

/// `FIONBIO` of ioctl(2): the standard library's way to make a socket not wait.
pub const FIONBIO: u32 = libc::FIONBIO as u32;

/// By the kernel's names. They are numbers of 64 bits on every architecture that Nunbird is built for.
pub use libc::{
    SYS_bind as BIND, SYS_brk as BRK, SYS_clock_gettime as CLOCK_GETTIME,
    SYS_clock_nanosleep as CLOCK_NANOSLEEP, SYS_close as CLOSE, SYS_connect as CONNECT, SYS_exit as EXIT,
    SYS_exit_group as EXIT_GROUP, SYS_fcntl as FCNTL, SYS_fdatasync as FDATASYNC, SYS_flock as FLOCK,
    SYS_fstat as FSTAT, SYS_futex as FUTEX, SYS_getpid as GETPID, SYS_getppid as GETPPID,
    SYS_getrandom as GETRANDOM, SYS_getsockopt as GETSOCKOPT, SYS_gettid as GETTID, SYS_ioctl as IOCTL,
    SYS_kill as KILL, SYS_lseek as LSEEK, SYS_madvise as MADVISE, SYS_mmap as MMAP, SYS_mprotect as MPROTECT,
    SYS_mremap as MREMAP, SYS_munmap as MUNMAP, SYS_nanosleep as NANOSLEEP, SYS_newfstatat as NEWFSTATAT,
    SYS_openat as OPENAT, SYS_ppoll as PPOLL, SYS_pread64 as PREAD64, SYS_read as READ,
    SYS_recvfrom as RECVFROM, SYS_recvmsg as RECVMSG, SYS_restart_syscall as RESTART_SYSCALL,
    SYS_rt_sigaction as RT_SIGACTION, SYS_rt_sigprocmask as RT_SIGPROCMASK, SYS_rt_sigreturn as RT_SIGRETURN,
    SYS_rt_sigtimedwait as RT_SIGTIMEDWAIT, SYS_sendto as SENDTO, SYS_setfsgid as SETFSGID,
    SYS_setfsuid as SETFSUID, SYS_setgid as SETGID, SYS_setregid as SETREGID, SYS_setresgid as SETRESGID,
    SYS_setresuid as SETRESUID, SYS_setreuid as SETREUID, SYS_setsockopt as SETSOCKOPT, SYS_setuid as SETUID,
    SYS_sigaltstack as SIGALTSTACK, SYS_socket as SOCKET, SYS_statx as STATX, SYS_uname as UNAME,
    SYS_wait4 as WAIT4, SYS_waitid as WAITID, SYS_write as WRITE, SYS_writev as WRITEV,
};
