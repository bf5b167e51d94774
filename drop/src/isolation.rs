//! What the site takes away from jobs: a filter of system calls, put in force after the drop.
//!
//! Both filters stop known ways from a job to another account: typing into a terminal that the job shares
//! (`TIOCSTI`, `TIOCLINUX`: CVE-2017-5226, CVE-2023-28339), and changing ids through a setuid program or
//! inside a user namespace. They need `no_new_privs`, which makes setuid programs inert for the job.

use nunbird_filter::{Filter, Is, REFUSE, Rule};
use nunbird_messages::Isolation;
use nunbird_sys::{process, syscall};
use std::io;

/// ioctl(2) requests that put characters into a terminal's input (ioctl_tty(2), ioctl_console(2)).
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;

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
    filter(isolation, uid, gid).enforce()
}

fn filter(isolation: &Isolation, uid: u32, gid: u32) -> Filter {
    let mut rules = Vec::new();
    if isolation.block_tty_injection {
        rules.push(Rule { call: syscall::IOCTL, arguments: vec![(1, Is::OneOf(vec![TIOCSTI, TIOCLINUX]))] });
    }
    if isolation.limit_setuid {
        rules.extend(ids_of_others(uid, gid));
    }
    Filter { rules, answer: REFUSE }
}

/// Every id given to a call of the family must be the job's own or "unchanged" (-1).
fn ids_of_others(uid: u32, gid: u32) -> impl Iterator<Item = Rule> {
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
    family.into_iter().map(|(call, arguments, own)| {
        let other = |argument| (argument, Is::NoneOf(vec![own, u32::MAX]));
        Rule { call, arguments: (0..arguments).map(other).collect() }
    })
}

#[cfg(test)]
mod tests {
    use super::{enter, filter};
    use nunbird_filter_proof::{Call, prove};
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

    #[test]
    fn on_every_architecture_a_job_may_do_all_but_what_the_settings_name() {
        let (uid, gid) = (OWN, OWN + 1);
        for (block_tty_injection, limit_setuid) in [(true, false), (false, true), (true, true)] {
            let isolation = Isolation { no_new_privileges: true, block_tty_injection, limit_setuid };
            let own = |call: &Call, arguments: usize, id: u32| {
                (0..arguments).all(|n| [id, u32::MAX].contains(&call.low(n)))
            };
            prove(&filter(&isolation, uid, gid), |call: &Call| match call.name {
                "ioctl" if block_tty_injection => {
                    ![call.request("TIOCSTI"), call.request("TIOCLINUX")].contains(&call.low(1))
                }
                "setuid" | "setfsuid" if limit_setuid => own(call, 1, uid),
                "setreuid" if limit_setuid => own(call, 2, uid),
                "setresuid" if limit_setuid => own(call, 3, uid),
                "setgid" | "setfsgid" if limit_setuid => own(call, 1, gid),
                "setregid" if limit_setuid => own(call, 2, gid),
                "setresgid" if limit_setuid => own(call, 3, gid),
                _ => true,
            });
        }
    }

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
                        // Other numbers for the same calls, which every filter refuses.
                        "x32" => filtered,
                        "root" => limit_setuid,
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
