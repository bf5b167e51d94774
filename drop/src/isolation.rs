//! What the site takes away from jobs: a filter of system calls, put in force after the drop.
//!
//! Both filters stop known ways from a job to another account: typing into a terminal that the job shares
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

#[cfg(test)]
mod tests {
    use super::enter;
    use nunbird_messages::Isolation;
    use std::process::Command;

    const OWN: u32 = 4321;
    /// One line for each call: its name, and `no` where it was refused by the filter. The ids are numbers, and a terminal is none.
    const ASK: &str = r#"
        sub tried { my ($name, @call) = @_; $! = 0; my $done = syscall($call[0], @call[1..$#call]); print "$name ", ($done == -1 && $! == 1 ? "no" : "yes"), "\n"; }
        tried("TIOCSTI", 16, 0, 0x5412, 0); tried("TIOCSTI-64", 16, 0, 0x700005412, 0); tried("TIOCLINUX", 16, 0, 0x541C, 0); tried("TCGETS", 16, 0, 0x5401, 0);
        for my $number (16, 514) { tried("x32-ioctl-$number", $number | 0x40000000, 0, 0x5412, 0); }
        my @family = ([123, 1], [119, 3], [114, 2], [106, 1], [122, 1], [117, 3], [113, 2], [105, 1]);
        for my $f (@family) {
            my ($number, $arguments) = @$f;
            tried("x32-$number", $number | 0x40000000, 4321, 4321, 4321);
            for my $n (0..$arguments - 1) { my @ids = (-1) x $arguments; $ids[$n] = 0; tried("root-$number-$n", $number, @ids); }
        }
        # The gids first: the first uid takes the privilege for the others away.
        for my $f (@family) { my ($number, $arguments) = @$f; tried("own-$number", $number, (4321) x $arguments); }
        open(my $status, "<", "/proc/self/status"); print grep(/^NoNewPrivs/, <$status>);
    "#;

    /// What perl(1) finds behind the filter, which is of this thread and its children alone.
    fn found(isolation: &Isolation) -> Vec<String> {
        let isolation = *isolation;
        let asked = std::thread::spawn(move || {
            enter(&isolation, OWN, OWN).expect("a filter");
            Command::new("perl").args(["-e", ASK]).output().expect("perl")
        });
        let output = asked.join().expect("the thread");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn each_setting_of_isolation_takes_what_it_names_and_nothing_else() {
        let nothing = Isolation { no_new_privileges: false, block_tty_injection: false, limit_setuid: false };
        let all = found(&nothing);
        let privileged = all.iter().any(|line| line == "root-105-0 yes");
        assert!(all.iter().any(|line| line == "NoNewPrivs:\t0"), "{all:?}");
        assert!(all.len() > 30);
        for no_new_privileges in [true, false] {
            for (block_tty_injection, limit_setuid) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                let isolation = Isolation { no_new_privileges, block_tty_injection, limit_setuid };
                let filtered = block_tty_injection || limit_setuid;
                for line in found(&isolation) {
                    let (name, answer) = line.split_once([' ', '\t']).expect("two words");
                    let refused = match name.split('-').next().expect("a word") {
                        "NoNewPrivs:" => {
                            assert_eq!(answer == "1", no_new_privileges || filtered, "{isolation:?}");
                            continue;
                        }
                        "TIOCSTI" | "TIOCLINUX" => block_tty_injection,
                        "x32" if name.starts_with("x32-ioctl") => block_tty_injection,
                        "x32" | "root" => limit_setuid,
                        // Without privilege the kernel refuses it.
                        "own" if !privileged => continue,
                        _ => false,
                    };
                    // Without privilege the kernel refuses what the filter does not.
                    let by_kernel = !privileged && name.starts_with("root");
                    assert!(by_kernel || (answer == "no") == refused, "{isolation:?}: {line}");
                }
            }
        }
    }
}
