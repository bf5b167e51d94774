//! What the kernel counts per user, and for the host's root where a machine's user does it: one machine does not take it from the others.

use super::host_machine::{begun, has, host, nothing_left};
use nunbird_tests::host::Host;
use nunbird_tests::needs;

/// How many instances of inotify(7) each user of the host may have: the kernel has one number for all its hosts.
pub(super) fn instances(host: &Host) -> u64 {
    let text = host.root("cat /proc/sys/fs/inotify/max_user_instances").success();
    text.trim().parse().expect("a number")
}

/// Takes all that there is of the instances, and keeps them.
const TAKES: &str = r#"
cat >/tmp/take.py <<'END'
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
taken = 0
while libc.inotify_init() >= 0:
    taken += 1
print('taken', taken, os.strerror(ctypes.get_errno()), flush=True)
time.sleep(300)
END
setsid python3 /tmp/take.py >/tmp/taken 2>&1 </dev/null &
left=100
until grep -s taken /tmp/taken || [ "$left" -eq 0 ]; do sleep 0.1; left=$((left - 1)); done
cat /proc/sys/user/max_inotify_instances
! echo 100000 >/proc/sys/user/max_inotify_instances || echo rai''sed
! unshare -Ur sh -c 'echo 100000 >/proc/sys/user/max_inotify_instances; timeout 2 python3 /tmp/take.py' 2>&1 | grep '^taken [1-9]' || echo more by a names''pace
"#;

#[needs(host)]
fn a_machine_that_takes_all_inotify_instances_leaves_the_hosts_root_and_other_machines_theirs() {
    let host = host("");
    let share = instances(&host) / 4;
    let (first, other) = (host.world().job(), host.world().job().user("bob"));
    let mut session = begun(&first);
    let stage = session.run_text("build_script", TAKES);
    has(&stage, &format!("taken {share} Too many open files"));
    has(&stage, &share.to_string());
    for word in ["raised", "more by a namespace"] {
        assert!(!stage.log.contains(word), "{}", stage.log);
    }
    // Root of the host, in whose count the machine's is, and another machine.
    host.root("python3 -c 'import ctypes; assert ctypes.CDLL(None).inotify_init() >= 0'").success();
    let mut others = begun(&other);
    let stage = others.run_text(
        "build_script",
        "python3 -c 'import ctypes; print(\"has\", ctypes.CDLL(None).inotify_init() >= 0)'; systemctl is-active systemd-journald",
    );
    has(&stage, "has True");
    has(&stage, "active");
    for session in [&mut session, &mut others] {
        assert!(session.cleanup().succeeded());
    }
    nothing_left(&host);
    assert!(instances(&host) >= share * 4, "the host's own bound is as it was");
}

/// Queues signals to itself and makes POSIX message queues, as many as it can.
const FILLS: &str = r#"
cat >/tmp/fill.py <<'END'
import ctypes, os, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
queued = 0
while libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), None) == 0:
    queued += 1
most = resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]
print('queued all but', most - queued if most - queued > 8 else 'a few', 'of', most)
queues = 0
while libc.mq_open(b'/nbt_%d' % queues, os.O_CREAT | os.O_RDWR, 0o600, None) >= 0:
    queues += 1
print('queues', queues, flush=True)
signal.pause()
END
setsid python3 /tmp/fill.py >/tmp/filled 2>&1 </dev/null &
left=100
until grep -s queues /tmp/filled || [ "$left" -eq 0 ]; do sleep 0.1; left=$((left - 1)); done
cat /tmp/filled
"#;

/// Limits that a user namespace hands to who has made it, the host's root.
#[needs(host)]
fn a_machine_that_queues_signals_and_makes_queues_leaves_the_hosts_root_half_of_both() {
    let host = host("");
    let limit = |name: &str| -> u64 {
        let unit = "systemctl show --property";
        let text = host.root(&format!("{unit} Limit{name} nbt-runner.service")).success();
        text.trim().split('=').nth(1).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    let (signals, bytes) = (limit("SIGPENDING"), limit("MSGQUEUE"));
    let job = host.world().job();
    let mut session = begun(&job);
    let stage = session.run_text("build_script", FILLS);
    has(&stage, &format!("queued all but a few of {}", signals / 4));
    let queues: u64 = stage
        .log
        .lines()
        .find_map(|line| line.strip_prefix("queues ")?.parse().ok())
        .unwrap_or_else(|| panic!("{}", stage.log));
    // A queue of the default size, with what the kernel adds to it, takes between a ninth and a tenth of the default limit.
    assert!((1..=5).contains(&queues), "{queues} queues of {bytes} bytes in all: {}", stage.log);
    let roots = "import ctypes, os; l = ctypes.CDLL(None); name = b'/nbt_root'; \
                 assert l.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None) >= 0; l.mq_unlink(name)";
    host.root(&format!("unshare --ipc python3 -c \"{roots}\"")).success();
    assert!(session.cleanup().succeeded());
    nothing_left(&host);
}
