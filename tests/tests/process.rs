//! What a caller can pass on through a process to a program with more privilege, and what the job
//! can see of it.

use nunbird_tests::needs;
use nunbird_tests::runner::{Session, StageOutcome};
use nunbird_tests::world::{Exit, Privilege, World};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.refresh_keys().success();
    world
}

/// A stage whose call goes through a shell that prepares the process first.
pub(super) fn call_through(session: &mut Session<'_>, prelude: &str, script: Option<&str>) -> StageOutcome {
    let mut spec = match script {
        None => session.spec_of_config(),
        Some(text) => {
            let file = session.directory().join("through");
            session.write(&file, text.as_bytes(), 0o700);
            session.spec_of_run(&file, "build_script")
        }
    };
    let program = std::mem::replace(&mut spec.program, "/bin/bash".into());
    let mut arguments = vec!["-c".into(), format!("{prelude}; exec \"$0\" \"$@\"").into(), program];
    arguments.append(&mut spec.arguments);
    spec.arguments = arguments;
    session.call_spec("build_script", &spec)
}

fn lines<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.trim_start_matches(name).split_whitespace().collect())
}

#[needs(root, in_each = Privilege::ALL)]
fn the_job_has_the_users_ids_and_groups_and_no_capability_in_every_mode(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    assert!(session.prepare().succeeded());
    let status = session.run_text("build_script", "cat /proc/self/status; umask; pwd").stdout;
    assert_eq!(lines(&status, "Uid:"), Some(vec!["4101"; 4]), "{privilege:?}: {status}");
    assert_eq!(lines(&status, "Gid:"), Some(vec!["4101"; 4]), "{privilege:?}");
    assert_eq!(lines(&status, "Groups:"), Some(vec!["4101", "4200"]), "{privilege:?}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(lines(&status, set), Some(vec!["0000000000000000"]), "{privilege:?} {set}");
    }
    for set in ["SigBlk:", "SigIgn:"] {
        assert_eq!(lines(&status, set), Some(vec!["0000000000000000"]), "{privilege:?} {set}");
    }
    assert!(status.contains("\n0022\n"), "{status}");
}

#[needs(root, in_each = Privilege::ALL)]
fn signals_that_the_caller_ignores_or_blocks_reach_the_job(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prelude = "trap '' TERM INT HUP QUIT USR1 USR2 CHLD PIPE";
    let status = call_through(&mut session, prelude, Some("grep -E '^Sig(Ign|Blk)' /proc/self/status"));
    assert_eq!(lines(&status.stdout, "SigIgn:"), Some(vec!["0000000000000000"]), "{privilege:?} {status:?}");
}

#[needs(root, in_each = Privilege::ALL)]
fn descriptors_of_the_caller_do_not_reach_the_job(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prelude = "exec 3</etc/passwd 4</etc/group 5</etc/hosts 7</etc/passwd 63</etc/group";
    let outcome =
        call_through(&mut session, prelude, Some("for f in /proc/$$/fd/*; do readlink $f || true; done"));
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert!(!outcome.stdout.contains("/etc/"), "{privilege:?}: {}", outcome.stdout);
}

#[needs(root)]
fn closed_standard_descriptors_are_not_taken_by_files_of_the_program() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    let outcome = call_through(&mut session, "exec <&- 2>&-", None);
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert!(outcome.stdout.starts_with('{'), "{}", outcome.stdout);
    let outcome = call_through(&mut session, "exec <&- >&- 2>&-", Some("echo out; echo err >&2"));
    assert_eq!(outcome.exit, Exit::Code(0), "{outcome:?}");
    // A record into which something else was written is none.
    assert_eq!(nunbird_tests::records::read(&world.records().pop().expect("a record")).account.name, "alice");
}

#[needs(root)]
fn limits_of_the_caller_cannot_cut_the_audit_file_short() {
    for privilege in Privilege::OF_FILE {
        let world = ready(privilege);
        let job = world.job();
        let mut session = job.begin();
        let outcome = call_through(&mut session, "trap '' XFSZ; ulimit -S -f 0", None);
        assert_eq!(outcome.exit, Exit::Code(0), "a soft limit is raised: {}", outcome.log);
        let before = world.audit().len();
        for hard in ["0", "1000000"] {
            let outcome = call_through(&mut session, &format!("trap '' XFSZ; ulimit -f {hard}"), None);
            // A program that may raise it writes everything; one that may not starts nothing and
            // reports the limit.
            if outcome.exit == Exit::Code(0) {
                assert!(privilege == Privilege::Setuid && world.audit().len() > before, "{}", outcome.log);
                continue;
            }
            assert!(outcome.stderr.contains("[process]"), "{privilege:?} {hard}: {}", outcome.log);
            assert_eq!(world.audit().len(), before);
        }
    }
}

#[needs(root)]
fn limits_of_the_caller_are_the_jobs_limits() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let script = "ulimit -S -n; ulimit -H -n; ulimit -S -c; ulimit -S -t";
    let outcome = call_through(&mut session, "ulimit -n 300; ulimit -S -c 100; ulimit -t 900", Some(script));
    assert_eq!(outcome.stdout, "300\n300\n100\n900\n", "{}", outcome.log);
}

#[needs(root, in_each = Privilege::ALL)]
fn the_jobs_environment_is_built_from_nothing(privilege: Privilege) {
    let world = ready(privilege);
    let mut job = world.job().variable("CI_SECRET", "hunter2");
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "BASH_ENV",
        "ENV",
        "PERL5LIB",
        "PYTHONPATH",
        "GCONV_PATH",
        "TZ",
        "RUNNER_TOKEN",
    ] {
        job = job.environment(name, "/tmp/evil");
    }
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let outcome = session.run_text("build_script", "env -0 | sort -z | tr '\\0' '\\n'");
    let names: Vec<&str> =
        outcome.stdout.lines().filter_map(|line| line.split_once('=')).map(|(k, _)| k).collect();
    let mut expected = vec![
        "HOME",
        "LOGNAME",
        "NUNBIRD_DECISION_ID",
        "NUNBIRD_JOB_ID",
        "NUNBIRD_STAGE",
        "PATH",
        "PWD",
        "SHELL",
        "SHLVL",
        "USER",
        "_",
    ];
    // A login shell of the host's /etc/profile and Debian's bash may add nothing else.
    expected.retain(|name| names.contains(name));
    assert_eq!(names, expected, "{privilege:?}: {}", outcome.stdout);
    assert!(!outcome.stdout.contains("evil") && !outcome.stdout.contains("hunter2"));
}

#[needs(root)]
fn environments_of_any_size_and_any_bytes_are_survived() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    let mut spec = session.spec_of_config();
    for n in 0..10_000 {
        spec.environment.push((format!("CUSTOM_ENV_V{n}").into(), "x".into()));
    }
    spec.environment.push(("CUSTOM_ENV_BIG".into(), "x".repeat(128 * 1024 - 32).into()));
    spec.environment.push(("CUSTOM_ENV_BYTES".into(), OsString::from_vec(vec![0xff, 0xfe, b'\n', 0x1b])));
    spec.environment.push((OsString::from_vec(vec![b'C', 0xff]), "x".into()));
    let outcome = session.call_spec("config", &spec);
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
}

#[needs(root)]
fn an_empty_program_name_is_refused_and_any_bytes_as_arguments_are_survived() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    let mut spec = session.spec_of_config();
    spec.name = Some("".into());
    assert_eq!(session.call_spec("config", &spec).exit, Exit::Code(2));
    spec.name = None;
    spec.arguments = vec![OsString::from_vec(vec![0xff, 0x1b, b'[', b'm'])];
    let outcome = session.call_spec("config", &spec);
    assert_eq!(outcome.exit, Exit::Code(2));
    assert!(!outcome.stderr.contains('\u{1b}'), "{:?}", outcome.stderr);
}

#[needs(root)]
fn failure_codes_that_the_environment_names_are_used_unless_one_is_zero() {
    let world = ready(Privilege::Setuid);
    let job = world.job().without_token();
    let mut session = job.begin();
    for (build, expected) in [("7", 7), ("0", 1), ("256", 1), ("x", 1), ("2", 1)] {
        let mut spec = session.spec_of_config();
        for (name, value) in &mut spec.environment {
            if name == "BUILD_FAILURE_EXIT_CODE" {
                *value = build.into();
            }
        }
        assert_eq!(session.call_spec("config", &spec).exit, Exit::Code(expected), "{build}");
    }
}

#[needs(root, in_each = Privilege::OF_FILE)]
fn a_setuid_program_made_inert_reports_why(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    let mut spec = session.spec_of_config();
    spec.no_new_privileges = true;
    spec.arguments.insert(0, "-u".into());
    let outcome = session.call_spec("config", &spec);
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(
        outcome.stderr.contains("[privilege]") && outcome.stderr.contains("no_new_privs"),
        "{}",
        outcome.stderr
    );
}

#[needs(root, in_each = Privilege::OF_FILE)]
fn only_the_runners_group_can_execute_the_privileged_program(privilege: Privilege) {
    let world = ready(privilege);
    let tried = world.shell("bob", "/opt/nunbird/bin/nunbird-auth --version");
    assert_eq!(tried.exit, Exit::Code(126), "{tried:?}");
    let tried = world.shell("nbt_runner", "/opt/nunbird/bin/nunbird-auth --version");
    assert!(tried.success().starts_with("Version: "));
}

#[needs(root)]
fn no_secret_is_in_any_output_record_audit_line_or_argument() {
    let world = ready(Privilege::Setuid);
    // A number of its own: `ps` also shows jobs of other tests, and git has their tokens in arguments.
    let job = world.job().facts(|facts| facts.job_id = 7245);
    let job = job.file_variable("DEPLOY_KEY", "hunter2").variable("PASSWORD", "hunter3");
    let (token, job_token) = (job.token_text(), job.job_token_text().to_owned());
    let signature = token.rsplit('.').next().expect("a signature");
    let mut session = job.begin();
    let outcomes = [session.config(), session.prepare(), session.run_text("build_script", "ps -eo args")];
    let record = std::fs::read(world.records().pop().expect("a record")).expect("a record");
    let record = String::from_utf8_lossy(&record).into_owned();
    let audit =
        std::fs::read_to_string(world.host_path("/var/log/nunbird/audit.jsonl")).expect("the audit file");
    let all: String = outcomes.iter().map(|outcome| outcome.log.clone()).chain([record, audit]).collect();
    for secret in [signature, "hunter2", "hunter3", &job_token] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[needs(root)]
fn a_runner_that_is_root_is_no_user_without_privilege() {
    let world = ready(Privilege::RootRunner);
    world.reconfigure("downscope = \"setuid\"", "downscope = \"none\"");
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[privilege]"), "{}", outcome.stderr);
}

#[needs(root)]
fn a_script_of_fifty_mebibytes_runs() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let script = format!(": '{}'\necho done\n", "x".repeat(50 << 20));
    let outcome = session.run_text("build_script", &script);
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "done\n");
}

#[needs(root)]
fn an_oom_score_of_the_caller_is_not_the_jobs() {
    // Below 0 needs CAP_SYS_RESOURCE, which not every test machine gives its root; the same write undoes both.
    // Without privilege the file is root's, while nobody may look into the process, and the write needs that allowed.
    for privilege in Privilege::ALL {
        let world = ready(privilege);
        let job = world.job();
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let prelude = "echo 300 > /proc/self/oom_score_adj";
        let outcome = call_through(&mut session, prelude, Some("cat /proc/self/oom_score_adj"));
        assert_eq!(outcome.stdout, "0\n", "{privilege:?}: {}", outcome.log);
    }
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_session_keyring_of_the_runner_is_not_the_jobs(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let script = session.directory().join("through");
    session.write(&script, b"keyctl search @s user nbt_secret 2>&1 || true; keyctl show @s", 0o700);
    let mut spec = session.spec_of_run(&script, "build_script");
    let program = std::mem::replace(&mut spec.program, "/usr/bin/keyctl".into());
    let inner = "keyctl add user nbt_secret hunter2 @s >/dev/null && exec \"$0\" \"$@\"";
    let mut arguments: Vec<OsString> = ["session", "-", "/bin/sh", "-c", inner].map(OsString::from).to_vec();
    arguments.push(program);
    arguments.append(&mut spec.arguments);
    spec.arguments = arguments;
    let outcome = session.call_spec("build_script", &spec);
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert!(outcome.stdout.contains("_ses"), "the job has a session keyring of its own: {}", outcome.log);
    assert!(!outcome.stdout.contains("nbt_secret"), "{privilege:?}: {}", outcome.log);
}
