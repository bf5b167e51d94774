//! The tables against the C library, and the generator on rules that no program has.

use super::{MACHINES, Machine, prove};
use crate::numbers::{CALLS, NONE, PARTS, REQUESTS};
use nunbird_filter::{ALLOW, Filter, Is, REFUSE, Rule};
use nunbird_sys::syscall;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The calls that a program of Nunbird's has in a filter, with their numbers in the C library.
macro_rules! numbers {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), libc::$name)),*] };
}

const ALL: &[(&str, i64)] = numbers![
    SYS_bind,
    SYS_brk,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_close,
    SYS_connect,
    SYS_exit,
    SYS_exit_group,
    SYS_fcntl,
    SYS_fdatasync,
    SYS_flock,
    SYS_fstat,
    SYS_futex,
    SYS_getpid,
    SYS_getppid,
    SYS_getrandom,
    SYS_getsockopt,
    SYS_gettid,
    SYS_ioctl,
    SYS_kill,
    SYS_lseek,
    SYS_madvise,
    SYS_mmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_munmap,
    SYS_nanosleep,
    SYS_newfstatat,
    SYS_openat,
    SYS_ppoll,
    SYS_pread64,
    SYS_read,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_restart_syscall,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigtimedwait,
    SYS_sendto,
    SYS_setfsgid,
    SYS_setfsuid,
    SYS_setgid,
    SYS_setregid,
    SYS_setresgid,
    SYS_setresuid,
    SYS_setreuid,
    SYS_setsockopt,
    SYS_setuid,
    SYS_sigaltstack,
    SYS_socket,
    SYS_statx,
    SYS_uname,
    SYS_wait4,
    SYS_waitid,
    SYS_write,
    SYS_writev,
];

#[test]
fn the_numbers_of_this_architecture_are_those_of_its_c_library() {
    let own = Machine::own();
    for (name, number) in ALL {
        let name = name.strip_prefix("SYS_").expect("a name");
        assert_eq!(own.number(name).map(i64::from), Some(*number), "{name}");
        let everywhere = MACHINES.iter().all(|machine| machine.number(name).is_some());
        assert!(everywhere, "{name}");
    }
    let request = REQUESTS.iter().find(|row| row.0 == "FIONBIO").expect("a row");
    assert_eq!(request.1[own.column], syscall::FIONBIO);
    let known =
        |row: &&(&str, [u32; 5])| ALL.iter().any(|(name, _)| name.strip_prefix("SYS_") == Some(row.0));
    let others: Vec<&str> = CALLS.iter().filter(|row| !known(row)).map(|row| row.0).collect();
    let parts: Vec<&str> = PARTS.iter().map(|part| part.1).collect();
    assert!(others.len() == parts.len() && others.iter().all(|name| parts.contains(name)), "{others:?}");
}

#[test]
fn no_two_calls_of_an_architecture_have_one_number() {
    for machine in MACHINES {
        let mut numbers: Vec<u32> =
            CALLS.iter().map(|row| row.1[machine.column]).filter(|n| *n != NONE).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert!(numbers.len() == all && all > 50, "{}", machine.name);
    }
}

/// <linux/audit.h> composes them of the ELF machine and two flags.
#[test]
fn an_architecture_is_named_as_the_kernel_composes_the_name() {
    let elf = [("x86_64", 62), ("aarch64", 183), ("powerpc64le", 21), ("riscv64", 243), ("s390x", 22)];
    for (machine, (name, number)) in MACHINES.iter().zip(elf) {
        let little = if machine.architecture.low_half == 0 { 0x4000_0000 } else { 0 };
        assert_eq!((machine.name, machine.architecture.audit), (name, 0x8000_0000 | little | number));
        assert_eq!(machine.architecture.low_half == 4, name == "s390x");
        assert_eq!(machine.architecture.has_x32, name == "x86_64");
    }
}

#[test]
fn every_part_of_a_call_that_an_architecture_has_is_allowed_with_the_call() {
    for machine in MACHINES {
        let number = |name| machine.number(name);
        let named = PARTS.iter().filter_map(|(whole, part)| Some((number(whole)?, number(part)?)));
        let (mut named, mut known): (Vec<_>, Vec<_>) = (named.collect(), machine.architecture.parts.to_vec());
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known, "{}", machine.name);
    }
}

fn both(answer: u32) -> Filter {
    let rules = vec![
        Rule { call: syscall::KILL, arguments: Vec::new() },
        Rule { call: syscall::OPENAT, arguments: vec![(2, Is::Without(0o3)), (1, Is::OneOf(vec![7, 9]))] },
        Rule {
            call: syscall::SETRESUID,
            arguments: vec![(0, Is::NoneOf(vec![5, 6, 7])), (2, Is::Without(1 << 31))],
        },
    ];
    Filter { rules, answer }
}

#[test]
fn rules_of_every_kind_are_what_they_say_whether_they_allow_or_refuse() {
    for answer in [ALLOW, REFUSE] {
        prove(&both(answer), |call| {
            let holds = match call.name {
                "kill" => true,
                "openat" => call.low(2) & 3 == 0 || [7, 9].contains(&call.low(1)),
                "setresuid" => ![5, 6, 7].contains(&call.low(0)) || call.low(2) >> 31 == 0,
                _ => false,
            };
            holds == (answer == ALLOW)
        });
    }
}

#[test]
fn a_statement_that_differs_from_the_filter_in_one_argument_is_found() {
    let differs = |allowed: fn(&super::Call) -> bool| {
        let filter = Filter {
            rules: vec![Rule { call: syscall::IOCTL, arguments: vec![(1, Is::OneOf(vec![0x5412]))] }],
            answer: REFUSE,
        };
        catch_unwind(AssertUnwindSafe(|| prove(&filter, allowed))).is_err()
    };
    assert!(!differs(|call| call.name != "ioctl" || call.low(1) != 0x5412));
    assert!(differs(|call| call.name != "ioctl" || call.arguments[1] != 0x5412), "the upper half");
    assert!(differs(|call| call.name != "ioctl" || call.low(1) != 0x5413), "the value");
    assert!(differs(|call| call.name != "ioctl"), "the condition");
    assert!(differs(|_| true), "the call");
}

#[test]
fn a_rule_that_cannot_be_jumped_over_and_a_number_that_is_none_are_errors() {
    let program = |call, values| {
        let rules = vec![Rule { call, arguments: vec![(1, Is::OneOf(values))] }];
        Filter { rules, answer: ALLOW }.program(&MACHINES[0].architecture).is_ok()
    };
    assert!(program(1, (0..126).collect()));
    assert!(!program(1, (0..127).collect()));
    assert!(!program(-1, vec![1]) && !program(1 << 32, vec![1]));
}
