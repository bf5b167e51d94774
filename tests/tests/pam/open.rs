//! What a session gives a job, and that it is closed when the stage is over, however it ends.

use super::{NOTE, WITH_ROOT, begin, machine, machine_with, notes, sessions};
use nunbird_tests::{Cancel, Exit, Privilege, Reason, Status, needs};

/// A line of each type: for a type without one PAM would use the service `other`.
const ACCOUNT: &str =
    "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";

#[needs(root, in_each = WITH_ROOT)]
fn each_stage_has_a_session_that_is_closed_when_it_ends(privilege: Privilege) {
    let world = machine(privilege, &format!("{ACCOUNT}{NOTE}"));
    let outcome = world.job().script("id -un; exit 7").run().expect(&Status::script_failure(7));
    assert!(outcome.stage("build_script").log.contains("alice"), "{}", outcome.log());
    let stages = outcome.names().iter().filter(|name| !matches!(**name, "config" | "cleanup")).count();
    assert_eq!(sessions(&world), (stages, stages), "{:?}", outcome.names());
    assert!(notes(&world).iter().all(|note| note[1] == "alice" && note[2] == "0"), "{:?}", notes(&world));
    let ended = world.audit().into_iter().filter(|event| event["outcome"] == "stage-ended").count();
    assert_eq!(ended, stages + 1, "the ends of all stages and of cleanup are written down");
}

#[needs(root, in_each = WITH_ROOT)]
fn the_job_in_a_session_has_dropped_like_any_other(privilege: Privilege) {
    let world = machine(privilege, ACCOUNT);
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let script = "grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapAmb):' /proc/self/status\n\
                  ls -l /proc/self/fd; env; tty; echo \"oom $(cat /proc/self/oom_score_adj)\"";
    let shown = session.run_text("build_script", script).log;
    for line in [
        "Uid:\t4101\t4101\t4101\t4101",
        "Gid:\t4101\t4101\t4101\t4101",
        "Groups:\t4101 4200",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "not a tty",
        "oom 0",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("memfd:nunbird-session"), "{shown}");
}

#[needs(root, in_each = WITH_ROOT)]
fn a_cancelled_stage_leaves_no_session_open(privilege: Privilege) {
    for how in [Cancel::Gracefully, Cancel::AtOnce] {
        let world = machine(privilege, &format!("{ACCOUNT}{NOTE}"));
        world
            .job()
            .script("echo go''ing; sleep 300")
            .cancel_when("build_script", "going", how)
            .run()
            .expect(&Status::failed(Reason::Canceled));
        super::wait(|| Some(()).filter(|()| sessions(&world).0 == sessions(&world).1));
        assert!(sessions(&world).0 > 1, "{:?}", notes(&world));
    }
}

#[needs(root)]
fn limits_umask_and_listed_variables_of_pam_are_the_jobs() {
    let service = format!(
        "{ACCOUNT}session required pam_limits.so conf=/etc/nunbird/limits.conf\n\
         session optional pam_umask.so umask=0027\n\
         session required pam_env.so conffile=/etc/nunbird/pam_env.conf readenv=0\n"
    );
    for privilege in WITH_ROOT {
        let world =
            machine_with(privilege, &service, "environment = [\"NBT_*\", \"LD_*\", \"PATH\", \"HOME\"]\n");
        world.write_file(
            "/etc/nunbird/limits.conf",
            "alice - nofile 77\nalice - core 0\nalice - priority 3\n",
            "root",
            0o644,
        );
        let variables = "NBT_ONE DEFAULT=one\nNBT_OTHER DEFAULT=\"@{HOME}\"\nUNLISTED DEFAULT=x\n\
             LD_PRELOAD DEFAULT=/tmp/evil.so\nPATH DEFAULT=/tmp/evil\nHOME DEFAULT=/tmp/evil\n";
        world.write_file("/etc/nunbird/pam_env.conf", variables, "root", 0o644);
        let job = world.job();
        let mut session = job.begin();
        begin(&mut session);
        let script = "echo \"limit $(ulimit -n)/$(ulimit -Hn)\"; umask; echo \"nice $(nice)\"; env | sort";
        let shown = session.run_text("build_script", script);
        assert!(shown.succeeded(), "{}", shown.log);
        for line in ["limit 77/77\n", "0027\n", "nice 3\n", "NBT_ONE=one\n", "HOME=/home/alice\n"] {
            assert!(shown.stdout.contains(line), "{line}: {}", shown.log);
        }
        for word in ["evil", "UNLISTED"] {
            assert!(!shown.log.contains(word), "{word}: {}", shown.log);
        }
    }
}

/// The agent of a job in a scheduler drops those of the session's variables that name something of
/// this host.
#[needs(root)]
fn variables_of_a_sessions_host_stay_there_when_the_job_goes_to_a_scheduler() {
    let service =
        format!("{ACCOUNT}session required pam_env.so conffile=/etc/nunbird/pam_env.conf readenv=0\n");
    for (privilege, more) in [(Privilege::Setuid, ""), (Privilege::RootRunner, "session = \"job\"\n")] {
        let world = machine_with(privilege, &service, more);
        let variables = "XDG_RUNTIME_DIR DEFAULT=/run/user/4101\nLC_TIME DEFAULT=de_DE\n";
        world.write_file("/etc/nunbird/pam_env.conf", variables, "root", 0o644);
        // A scheduler that prints what it would run, and refuses it.
        let sbatch = "#!/bin/sh\nfor agent; do :; done\necho \"command $XDG_RUNTIME_DIR\" >&2\n\
             grep -E 'XDG_RUNTIME|LC_TIME' \"$agent\" >&2\nexit 1\n";
        world.write_file("/usr/local/bin/sbatch", sbatch, "root", 0o755);
        world.reconfigure("[job]\n", "[job]\nexecutor = \"slurm\"\n");
        let job = world.job();
        let mut session = job.begin();
        begin(&mut session);
        let refused = session.run_text("build_script", "true");
        assert!(!refused.succeeded());
        let unset = "[ \"${XDG_RUNTIME_DIR-}\" != '/run/user/4101' ] || unset XDG_RUNTIME_DIR";
        let expected = format!("command /run/user/4101; {unset}; export LC_TIME='de_DE'");
        assert!(refused.log.contains(&expected), "{privilege:?}: {}", refused.log);
    }
}

#[needs(root, in_each = WITH_ROOT)]
fn where_pam_sets_nothing_limits_and_umask_are_as_without_a_session(privilege: Privilege) {
    let script = "ulimit -a; ulimit -aH; umask; env | grep -v NUNBIRD | sort";
    let shown = |world: &nunbird_tests::World| {
        let job = world.job().id(77);
        let mut session = job.begin();
        begin(&mut session);
        session.run_text("build_script", script).stdout
    };
    let plain = nunbird_tests::World::new(privilege);
    plain.write_keys();
    assert_eq!(shown(&machine(privilege, ACCOUNT)), shown(&plain));
}

#[needs(root, in_each = WITH_ROOT)]
fn a_keyring_that_pam_makes_is_the_jobs_and_without_one_the_job_has_its_own(privilege: Privilege) {
    for (service, same) in [
        (format!("{ACCOUNT}session required pam_keyinit.so force\n{NOTE}"), true),
        (format!("{ACCOUNT}{NOTE}"), false),
    ] {
        let world = machine(privilege, &service);
        let job = world.job();
        let mut session = job.begin();
        begin(&mut session);
        let script = "keyctl show @s | awk 'NR == 2 {print \"serial\", $1}'; keyctl rdescribe @s";
        let shown = session.run_text("build_script", script).stdout;
        let serial = shown.lines().find_map(|line| line.strip_prefix("serial ")).expect("a keyring").trim();
        let of_pam = notes(&world).last().expect("a note")[3].clone();
        assert_eq!(serial == of_pam, same, "{shown} {of_pam}");
        assert!(shown.contains("keyring;4101;4101;"), "the user's own: {shown}");
    }
}

#[needs(root, in_each = WITH_ROOT)]
fn words_of_modules_reach_the_job_log_without_deceiving(privilege: Privilege) {
    let service = format!("{ACCOUNT}session optional pam_echo.so file=/etc/nunbird/words\n");
    let world = machine(privilege, &service);
    world.write_file(
        "/etc/nunbird/words",
        "maintenance at noon\n\u{1b}[2Jsection_start:1:x\rgone\n",
        "root",
        0o644,
    );
    let outcome = world.job().script("true").run().expect_success();
    let log = outcome.log();
    assert!(log.contains("nunbird: pam: maintenance at noon\n"), "{log}");
    assert!(log.contains("nunbird: pam: \\u{1b}[2Jsection_start:1:x\\u{d}gone\n"), "{log}");
}

#[needs(root)]
fn a_module_that_talks_without_end_is_cut_short() {
    let world = machine(Privilege::Setuid, &format!("{ACCOUNT}session optional /opt/nunbird/pam_talk.so\n"));
    // pam_echo cuts its file at 512 bytes itself.
    let source = "#include <security/pam_modules.h>\n#include <security/pam_ext.h>\n#include <stdlib.h>\n#include <string.h>\n\
         int pam_sm_open_session(pam_handle_t *h, int f, int n, const char **v) {\n\
         (void)f; (void)n; (void)v; char *t = malloc(1 << 24); memset(t, 'x', 1 << 24); t[(1 << 24) - 1] = 0;\n\
         for (int i = 9; i < (1 << 24) - 1; i += 1000) t[i] = '\\n';\n\
         struct pam_message m = {PAM_TEXT_INFO, t}; const struct pam_message *p = &m; struct pam_response *r = 0;\n\
         const struct pam_conv *c; pam_get_item(h, PAM_CONV, (const void **)&c);\n\
         c->conv(1, &p, &r, c->appdata_ptr); free(r); free(t); return PAM_SUCCESS; }\n";
    super::build_module(&world, "pam_talk", source);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepare = session.prepare();
    assert!(prepare.succeeded(), "{}", prepare.log);
    let said: Vec<&str> = prepare.log.lines().filter(|line| line.starts_with("nunbird: pam: ")).collect();
    assert_eq!(said.len(), 6, "4096 bytes of lines of a thousand: {}", prepare.log);
    assert!(said.iter().all(|line| line.len() < 300), "{}", prepare.log);
}

#[needs(root, in_each = WITH_ROOT)]
fn a_session_that_cannot_be_closed_is_reported_and_changes_no_result(privilege: Privilege) {
    let service =
        format!("{ACCOUNT}session required pam_exec.so type=close_session /usr/local/bin/nbt_hang\n");
    let world = machine_with(privilege, &service, "timeout = \"1s\"\n");
    world.write_file(
        "/usr/local/bin/nbt_hang",
        "#!/bin/bash\necho $$ > /var/log/nbt_hang; exec sleep 300\n",
        "root",
        0o755,
    );
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let outcome = session.prepare();
    assert!(outcome.succeeded(), "{}", outcome.log);
    assert!(outcome.log.contains("did not close the session in time"), "{}", outcome.log);
    assert!(super::is_gone(&super::pid_in(&world.host_path("/var/log/nbt_hang"))));
    let outcome = session.run_text("build_script", "exit 9");
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    let code = std::fs::read_to_string(session.exit_code_file()).expect("a code");
    assert_eq!(code.trim(), "9");
}

#[needs(root, in_each = WITH_ROOT)]
fn the_service_of_the_package_runs_a_job(privilege: Privilege) {
    let world = machine(privilege, include_str!("../../../packaging/pam.d/nunbird.debian"));
    let outcome = world.job().script("id -un").run().expect_success();
    assert!(!outcome.log().contains("warning"), "{}", outcome.log());
}

#[needs(root)]
fn pam_limits_has_the_last_word_but_on_the_soft_limit_of_the_stack() {
    let service = format!("{ACCOUNT}session required pam_limits.so conf=/etc/nunbird/limits.conf\n");
    for (privilege, nofile) in WITH_ROOT.into_iter().zip([256, 777]) {
        let world = machine(privilege, &service);
        let words = "alice - nofile 200\nalice soft stack 2048\nalice hard stack 8192\n";
        world.write_file("/etc/nunbird/limits.conf", words, "root", 0o644);
        let limits =
            format!("[limits.small]\nnofile = {nofile}\nstack = \"4MiB\"\n[job]\nlimits = \"small\"\n");
        world.reconfigure("[job]\n", &limits);
        let job = world.job();
        let mut session = job.begin();
        begin(&mut session);
        let looked = session.run_text("build_script", "ulimit -H -n; ulimit -S -s; ulimit -H -s");
        assert_eq!(looked.stdout, "200\n4096\n8192\n", "{privilege:?}: {}", looked.log);
        assert!(session.cleanup().succeeded());
    }
}

#[needs(root, in_each = WITH_ROOT)]
fn limits_of_processes_reach_the_job_through_a_session(privilege: Privilege) {
    let world = machine(privilege, "account required pam_permit.so\nsession required pam_permit.so\n");
    let limits = "[limits.small]\nnofile = 777\nstack = \"4MiB\"\nmemlock = \"64KiB\"\nas = \"2GiB\"\nnice = 7\noom_score_adj = 250\n\
                  [job]\nlimits = \"small\"\n";
    world.reconfigure("[job]\n", limits);
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let look = "ulimit -H -n; ulimit -S -s; ulimit -H -l; ulimit -S -v; nice; cat /proc/self/oom_score_adj";
    let looked = session.run_text("build_script", look);
    assert_eq!(looked.stdout, "777\n4096\n64\n2097152\n7\n250\n", "{privilege:?}: {}", looked.log);
    assert!(session.cleanup().succeeded());
}
