//! A compromised runner account, and what it can do to the lookups of a running program.

use nunbird_tests::needs;
use nunbird_tests::runner::StageOutcome;
use nunbird_tests::world::{Exit, Privilege, World};

/// Calls the program until it admits the job, at most `$0` times and for 20 s: what runs only when a processor is idle gets little of one beside
/// other work. Each time that the program has closed /etc/passwd, its
/// soft limit of descriptors is lowered by prlimit(2) and put back some microseconds later: getgrouplist(3) then cannot
/// open /etc/group and reports success with the primary group alone.
const RACE: &str = r#"
import ctypes, os, random, resource, select, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
tries, program = int(sys.argv[1]), sys.argv[2:]
NOFILE, CLOSED, TIMER_SLACK = 7, 0x10, 29
hard = 1024
wide, narrow = struct.pack("QQ", hard, hard), struct.pack("QQ", 1, hard)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
libc.prctl(TIMER_SLACK, 1, 0, 0, 0)
os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
assert libc.inotify_add_watch(watch, b"/etc/passwd", CLOSED) >= 0
lowered = refused = 0

def drain():
    try:
        return len(os.read(watch, 4096)) > 0
    except BlockingIOError:
        return False

end = time.monotonic() + 20
for attempt in range(tries):
    if time.monotonic() > end:
        break
    drain()
    child = os.fork()
    if child == 0:
        out = os.open("/dev/null", os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.execv(program[0], program)
    over = os.pidfd_open(child)
    pause = random.randint(1, 60) / 1e6
    while True:
        ready, _, _ = select.select([watch, over], [], [])
        if over in ready:
            break
        drain()
        if libc.prlimit(child, NOFILE, narrow, None) == 0:
            lowered += 1
            time.sleep(pause)
            libc.prlimit(child, NOFILE, wide, None)
        else:
            refused += 1
    os.close(over)
    if os.waitpid(child, 0)[1] == 0:
        print(f"ADMITTED at try {attempt + 1}, lowered {lowered}, refused {refused}")
        sys.exit(0)
print(f"never admitted: lowered {lowered}, refused {refused}")
"#;

fn race(world: &World, tries: u32) -> StageOutcome {
    let job = world.job();
    let mut session = job.begin();
    let file = session.directory().join("race.py");
    session.write(&file, RACE.as_bytes(), 0o700);
    let mut spec = session.spec_of_config();
    let program = std::mem::replace(&mut spec.program, "/usr/bin/python3".into());
    spec.arguments.splice(0..0, [file.into(), tries.to_string().into(), program]);
    session.call_spec("config", &spec)
}

/// Denies alice by her group `lattice`.
fn by_deny_groups(world: &World) {
    world.reconfigure("[audit]", "[accounts]\ndeny_groups = [\"lattice\"]\n\n[audit]");
}

/// The same by a rule.
fn by_rule(world: &World) {
    world.reconfigure(
        "[[rule]]\nname = \"nobody from outside\"",
        "[[rule]]\nname = \"suspended\"\nwhen.local_group = \"lattice\"\ndeny = \"suspended\"\n\n[[rule]]\nname = \"nobody from outside\"",
    );
}

fn kept_out(privilege: Privilege, how: fn(&World)) -> World {
    let world = World::new(privilege);
    world.write_keys();
    how(&world);
    world
}

#[needs(root)]
fn a_runner_that_lowers_the_limits_of_the_running_program_hides_no_membership() {
    for (privilege, tries) in [(Privilege::FileCaps, 60), (Privilege::Setuid, 20)] {
        for how in [by_deny_groups, by_rule] {
            let world = kept_out(privilege, how);
            let raced = race(&world, tries);
            let held = raced.stdout.starts_with("never admitted: lowered 0, refused ");
            assert!(held && !raced.stdout.contains("refused 0"), "{privilege:?}: {raced:?}");
            assert!(world.records().is_empty(), "{privilege:?}: a record");
        }
    }
}

/// getgrouplist(3) queries the database `initgroups`, if nsswitch.conf(5) has it; everything else
/// still works.
fn lose_memberships(world: &World) {
    let file = "/etc/nsswitch.conf";
    let text = std::fs::read_to_string(world.host_path(file)).expect("nsswitch.conf");
    world.write_file(file, format!("{text}initgroups: db\n"), "root", 0o644);
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_database_that_loses_a_membership_lets_no_job_past_a_denial_by_it(privilege: Privilege) {
    for (how, code) in [(by_deny_groups as fn(&World), "[account]"), (by_rule, "[rule]")] {
        let world = kept_out(privilege, how);
        lose_memberships(&world);
        let outcome = world.job().config();
        assert!(outcome.stderr.contains(code), "{privilege:?}: {}", outcome.log);
        let claims = r#"{"user_login": "alice", "project_path": "physics/lattice", "ref": "main"}"#;
        world.write_file("/tmp/claims.json", claims, "root", 0o644);
        let explain =
            "/opt/nunbird/bin/nunbirdctl explain --runner-user nbt_runner --claims /tmp/claims.json";
        let explained = world.shell("root", explain);
        assert!(explained.stdout.contains("denied"), "{privilege:?}: {explained:?}");
        assert_eq!(world.job().user("bob").config().exit, Exit::Code(0), "{privilege:?}: no member");
    }
}

#[needs(root, in_each = Privilege::OF_FILE)]
fn a_group_database_that_does_not_answer_is_trouble_and_not_an_account_without_groups(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let group = std::fs::read(world.host_path("/etc/group")).expect("groups");
    // Root without CAP_DAC_OVERRIDE, which the program has given up, may not read it either.
    world.write_file("/etc/group", &group, "root", 0o000);
    let outcome = world.job().id(7002).config();
    assert!(outcome.stderr.contains("[user-database]"), "{privilege:?}: {}", outcome.log);
    let prepared = session.prepare();
    assert!(prepared.stderr.contains("[user-database]"), "{privilege:?}: {}", prepared.log);
    world.write_file("/etc/group", &group, "root", 0o644);
    assert!(session.prepare().succeeded(), "{privilege:?}");
}
