//! Numbers of system calls and of requests of ioctl(2) on every architecture, as <asm/unistd.h> and <asm/ioctls.h> have them.

/// Where an architecture does not have the call.
pub(crate) const NONE: u32 = u32::MAX;

/// Calls that a filter is about, with their numbers on x86_64, aarch64, powerpc64le, riscv64 and s390x.
#[rustfmt::skip]
pub(crate) const CALLS: &[(&str, [u32; 5])] = &[
    ("bind", [49, 200, 327, 200, 361]),
    ("brk", [12, 214, 45, 214, 45]),
    ("clock_gettime", [228, 113, 246, 113, 260]),
    ("clock_nanosleep", [230, 115, 248, 115, 262]),
    ("close", [3, 57, 6, 57, 6]),
    ("connect", [42, 203, 328, 203, 362]),
    ("exit", [60, 93, 1, 93, 1]),
    ("exit_group", [231, 94, 234, 94, 248]),
    ("fcntl", [72, 25, 55, 25, 55]),
    ("fdatasync", [75, 83, 148, 83, 148]),
    ("flock", [73, 32, 143, 32, 143]),
    ("fstat", [5, 80, 108, 80, 108]),
    ("futex", [202, 98, 221, 98, 238]),
    ("getpid", [39, 172, 20, 172, 20]),
    ("getppid", [110, 173, 64, 173, 64]),
    ("getrandom", [318, 278, 359, 278, 349]),
    ("getsockopt", [55, 209, 340, 209, 365]),
    ("gettid", [186, 178, 207, 178, 236]),
    ("ioctl", [16, 29, 54, 29, 54]),
    ("kill", [62, 129, 37, 129, 37]),
    ("_llseek", [NONE, NONE, 140, NONE, NONE]),
    ("lseek", [8, 62, 19, 62, 19]),
    ("madvise", [28, 233, 205, 233, 219]),
    ("mmap", [9, 222, 90, 222, 90]),
    ("mprotect", [10, 226, 125, 226, 125]),
    ("mremap", [25, 216, 163, 216, 163]),
    ("munmap", [11, 215, 91, 215, 91]),
    ("nanosleep", [35, 101, 162, 101, 162]),
    ("newfstatat", [262, 79, 291, 79, 293]),
    ("openat", [257, 56, 286, 56, 288]),
    ("poll", [7, NONE, 167, NONE, 168]),
    ("ppoll", [271, 73, 281, 73, 302]),
    ("pread64", [17, 67, 179, 67, 180]),
    ("read", [0, 63, 3, 63, 3]),
    ("recv", [NONE, NONE, 336, NONE, NONE]),
    ("recvfrom", [45, 207, 337, 207, 371]),
    ("recvmsg", [47, 212, 342, 212, 372]),
    ("restart_syscall", [219, 128, 0, 128, 7]),
    ("rt_sigaction", [13, 134, 173, 134, 174]),
    ("rt_sigprocmask", [14, 135, 174, 135, 175]),
    ("rt_sigreturn", [15, 139, 172, 139, 173]),
    ("rt_sigtimedwait", [128, 137, 176, 137, 177]),
    ("send", [NONE, NONE, 334, NONE, NONE]),
    ("sendto", [44, 206, 335, 206, 369]),
    ("setfsgid", [123, 152, 139, 152, 216]),
    ("setfsuid", [122, 151, 138, 151, 215]),
    ("setgid", [106, 144, 46, 144, 214]),
    ("setregid", [114, 143, 71, 143, 204]),
    ("setresgid", [119, 149, 169, 149, 210]),
    ("setresuid", [117, 147, 164, 147, 208]),
    ("setreuid", [113, 145, 70, 145, 203]),
    ("setsockopt", [54, 208, 339, 208, 366]),
    ("setuid", [105, 146, 23, 146, 213]),
    ("sigaltstack", [131, 132, 185, 132, 186]),
    ("socket", [41, 198, 326, 198, 359]),
    ("statx", [332, 291, 383, 291, 379]),
    ("uname", [63, 160, 122, 160, 122]),
    ("wait4", [61, 260, 114, 260, 114]),
    ("waitid", [247, 95, 272, 95, 281]),
    ("write", [1, 64, 4, 64, 4]),
    ("writev", [20, 66, 146, 66, 146]),
];

/// Requests of ioctl(2) on the same.
pub(crate) const REQUESTS: &[(&str, [u32; 5])] = &[
    ("FIONBIO", [0x5421, 0x5421, 0x8004_667e, 0x5421, 0x5421]),
    ("TIOCLINUX", [0x541c; 5]),
    ("TIOCSTI", [0x5412; 5]),
];

/// A call, and one that does a part of the same: an architecture that has the second lets its C library make it.
pub(crate) const PARTS: &[(&str, &str)] =
    &[("ppoll", "poll"), ("sendto", "send"), ("recvfrom", "recv"), ("lseek", "_llseek")];
