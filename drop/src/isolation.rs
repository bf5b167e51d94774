//! What the site takes away from jobs: a filter of system calls, put in force after the drop.
//!
//! Both filters stop known ways from a job to somebody else: typing into a terminal that the job shares
//! (`TIOCSTI`, `TIOCLINUX`: CVE-2017-5226, CVE-2023-28339), and changing ids through a setuid program or
//! inside a user namespace. They need `no_new_privs`, which makes setuid programs inert for the job.

use nunbird_messages::Isolation;
use nunbird_sys::{process, syscall};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// ioctl(2) requests that put characters into a terminal's input (ioctl_tty(2), ioctl_console(2)).
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;
/// Marks a call of the x32 interface, which has other numbers for the same things (<asm/unistd_x32.h>).
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// Puts the site's choice in force. To be called as the user, before the launcher starts.
///
/// # Errors
/// When the kernel does not take it; the job must then not run.
pub(crate) fn enter(isolation: &Isolation, uid: u32, gid: u32) -> io::Result<()> {
    if isolation.no_new_privileges {
        process::no_new_privileges()?;
    }
    if !isolation.block_tty_injection && !isolation.limit_setuid {
        return Ok(());
    }
    let program = program(isolation, uid, gid).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn program(isolation: &Isolation, uid: u32, gid: u32) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = Rules::new();
    if isolation.block_tty_injection {
        block_tty_injection(&mut rules)?;
    }
    if isolation.limit_setuid {
        limit_ids(&mut rules, uid, gid)?;
    }
    let refuse = SeccompAction::Errno(syscall::EPERM);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?.try_into()
}

/// The kernel looks at 32 bits of the request, so the filter must not look at more (CVE-2019-10063 in flatpak,
/// CVE-2019-7303 in snapd).
fn block_tty_injection(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let mut refused = Vec::new();
    for request in [TIOCSTI, TIOCLINUX] {
        let condition = SeccompCondition::new(1, Length::Dword, Op::Eq, request)?;
        refused.push(SeccompRule::new(vec![condition])?);
    }
    rules.insert(syscall::IOCTL, refused);
    #[cfg(target_arch = "x86_64")]
    for number in [syscall::IOCTL, 514] {
        rules.insert(number | X32, Vec::new());
    }
    Ok(())
}

/// Every id given to a call of the family must be the job's own or "unchanged" (-1).
fn limit_ids(rules: &mut Rules, uid: u32, gid: u32) -> Result<(), seccompiler::BackendError> {
    let family = [
        (syscall::SETUID, 1, uid),
        (syscall::SETREUID, 2, uid),
        (syscall::SETRESUID, 3, uid),
        (syscall::SETFSUID, 1, uid),
        (syscall::SETGID, 1, gid),
        (syscall::SETREGID, 2, gid),
        (syscall::SETRESGID, 3, gid),
        (syscall::SETFSGID, 1, gid),
    ];
    for (number, arguments, own) in family {
        let mut refused = Vec::new();
        for argument in 0..arguments {
            let conditions = [u64::from(own), u64::from(u32::MAX)]
                .map(|allowed| SeccompCondition::new(argument, Length::Dword, Op::Ne, allowed));
            let [own, unchanged] = conditions;
            refused.push(SeccompRule::new(vec![own?, unchanged?])?);
        }
        rules.insert(number, refused);
        #[cfg(target_arch = "x86_64")]
        rules.insert(number | X32, Vec::new());
    }
    Ok(())
}
