//! Limits of each process, and priorities: applied in every mode, and not reversible by users.

use nunbird_tests::world::{Exit, Privilege, World};
use nunbird_tests::{Session, StageOutcome, needs};

const LIMITS: &str = "\
[limits.small]
nofile = 777
core = \"0KiB\"
stack = \"4MiB\"
stack_hard = \"32MiB\"
memlock = \"64KiB\"
as = \"2GiB\"
cpu_time = \"1h\"
nice = 7
oom_score_adj = 250

[job]
limits = \"small\"
";

const LOOK: &str = "\
ulimit -S -n; ulimit -c; ulimit -S -s; ulimit -H -s; ulimit -H -l; ulimit -S -v; ulimit -S -t; ulimit -H -t
nice; cat /proc/self/oom_score_adj
";
const SEEN: &str = "777\n0\n4096\n32768\n64\n2097152\n3600\n3605\n7\n250\n";

/// What a user tries, each of which ends with `no`.
const TRIED: &str = "\
ulimit -H -s 65536 2>/dev/null && echo stack || echo no
ulimit -S -s 32768 && echo up to the hard one
renice -n 0 $$ >/dev/null 2>&1 && echo renice || echo no
nice -n -1 nice 2>/dev/null
perl -e 'print(syscall(151, 1) == 0 ? qq(locked\\n) : qq(no\\n))'
perl -e '$x = q(x) x (3 << 30); print qq(addresses\\n)' 2>/dev/null || echo no
";

fn ready(privilege: Privilege, limits: &str) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("[job]\n", limits);
    world
}

/// A stage whose caller has done something before, in a shell.
fn through(session: &mut Session<'_>, before: &str, text: &str) -> StageOutcome {
    let script = session.directory().join("through");
    session.write(&script, text.as_bytes(), 0o700);
    let mut spec = session.spec_of_run(&script, "build_script");
    let program = std::mem::replace(&mut spec.program, "/bin/sh".into());
    let arguments = std::mem::take(&mut spec.arguments);
    let words = ["-c".into(), format!("{before}; exec \"$0\" \"$@\"").into(), program];
    spec.arguments = words.into_iter().chain(arguments).collect();
    session.call_spec("build_script", &spec)
}

#[needs(root, in_each = Privilege::ALL)]
fn limits_of_processes_are_in_force_in_every_mode_and_not_the_users_to_lift(privilege: Privilege) {
    let world = ready(privilege, LIMITS);
    let job = world.job();
    let mut session = job.begin();
    let config = session.config();
    assert!(config.succeeded(), "{privilege:?}: {} {:?}", config.log, world.audit().last());
    let looked = session.run_text("build_script", LOOK);
    assert_eq!(looked.stdout, SEEN, "{privilege:?}: {}", looked.log);
    let tried = session.run_text("build_script", TRIED);
    let expected = "no\nup to the hard one\nno\n7\nno\nno\n";
    assert_eq!(tried.stdout, expected, "{privilege:?}: {}", tried.log);
    assert!(session.cleanup().succeeded(), "{privilege:?}");
}

#[needs(root)]
fn a_soft_stack_alone_leaves_the_hard_one_and_goes_before_the_jobs_word() {
    let limits = "[limits.small]\nstack = \"3MiB\"\n[job]\nraise_stack_limit = true\nlimits = \"small\"\n";
    let world = ready(Privilege::FileCaps, limits);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let looked = through(&mut session, "ulimit -s 16384; ulimit -S -s 1024", "ulimit -S -s; ulimit -H -s\n");
    assert_eq!(looked.stdout, "3072\n16384\n", "{}", looked.log);
    // The stack limit that was admitted is above what this caller may set.
    let refused = through(&mut session, "ulimit -s 2048", "echo it ran\n");
    assert!(!refused.succeeded() && !refused.log.contains("it ran"), "{}", refused.log);
    assert!(session.cleanup().succeeded());
}

#[needs(root)]
fn what_the_runner_may_not_give_is_refused_with_what_is_in_the_way() {
    for (limit, before, words) in [
        (
            "nofile = 4096",
            "ulimit -n 1024",
            "RLIMIT_NOFILE cannot be 4096: the hard limit of gitlab-runner is 1024",
        ),
        (
            "memlock = \"unlimited\"",
            "ulimit -l 64",
            "RLIMIT_MEMLOCK cannot be unlimited: the hard limit of gitlab-runner is 65536",
        ),
        ("nice = 3", "renice -n 5 $$ >/dev/null", "the nice value cannot be 3: that of gitlab-runner is 5"),
    ] {
        // Whatever `require` is: it applies to cgroups.
        let world = ready(
            Privilege::Setuid,
            &format!("[limits.small]\n{limit}\nrequire = false\n[job]\nlimits = \"small\"\n"),
        );
        let job = world.job();
        let mut session = job.begin();
        let mut spec = session.spec_of_config();
        let program = std::mem::replace(&mut spec.program, "/bin/sh".into());
        let arguments = std::mem::take(&mut spec.arguments);
        let words_of_shell = ["-c".into(), format!("{before}; exec \"$0\" \"$@\"").into(), program];
        spec.arguments = words_of_shell.into_iter().chain(arguments).collect();
        let refused = session.call_spec("config", &spec);
        assert_ne!(refused.exit, Exit::Code(0), "{limit}: {}", refused.log);
        let event = world.audit().pop().expect("an event").to_string();
        assert!(event.contains(words) && event.contains("\"code\":\"limits\""), "{limit}: {event}");
    }
}
