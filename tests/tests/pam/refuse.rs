//! What denies a job: modules that refuse, fail, hang or change the user, and services that do not
//! exist.

use super::{WITH_ROOT, is_gone, machine, machine_with, pid_in, sessions};
use nunbird_tests::{Exit, Privilege, World, needs};
use std::fs;

/// Runs `prepare`, the first stage with a session, and compares its end with the expectation.
#[track_caller]
fn assert_refused(world: &World, exit: i32, code: &str, words: &str) {
    let job = world.job();
    let mut session = job.begin();
    let config = session.config();
    assert!(config.succeeded(), "{}", config.log);
    let outcome = session.prepare();
    assert_eq!(outcome.exit, Exit::Code(exit), "{}", outcome.log);
    assert!(outcome.log.contains(&format!("[{code}]")), "{}", outcome.log);
    assert!(!world.host_path("/home/alice/.nunbird").exists(), "the launcher has run: {}", outcome.log);
    let audit = world.audit();
    let denied = audit.last().expect("an event");
    assert_eq!((&denied["outcome"], &denied["code"]), (&"denied".into(), &code.into()), "{denied}");
    let shown = format!("{}{}", outcome.log, denied["detail"]);
    assert!(shown.contains(words), "{words}: {shown}");
    assert!(session.cleanup().succeeded(), "an account that is refused is cleaned up all the same");
    assert!(world.records().is_empty());
}

#[needs(root, in_each = WITH_ROOT)]
fn an_account_that_pam_access_denies_gets_no_job(privilege: Privilege) {
    let world = machine(privilege, "account required pam_access.so accessfile=/etc/nunbird/access.conf\n");
    world.write_file("/etc/nunbird/access.conf", "-:alice:ALL\n", "root", 0o644);
    assert_refused(&world, 1, "pam-account", "pam_acct_mgmt");
    let job = world.job().user("bob");
    let mut session = job.begin();
    super::begin(&mut session);
}

#[needs(root, in_each = WITH_ROOT)]
fn an_account_that_pam_unix_refuses_gets_no_job_and_reads_why(privilege: Privilege) {
    let world = machine(privilege, "account required pam_unix.so\n");
    let shadow = world.host_path("/etc/shadow");
    let text = fs::read_to_string(&shadow).expect("shadow");
    fs::write(&shadow, text.replace("alice:*:20000:0:99999:7:::", "alice:*:0:0:99999:7:::")).expect("shadow");
    assert_refused(
        &world,
        1,
        "pam-account",
        "nunbird: pam: You are required to change your password immediately",
    );
}

#[needs(root, in_each = WITH_ROOT)]
fn pam_nologin_keeps_jobs_out_with_its_text(privilege: Privilege) {
    let world = machine(privilege, "account required pam_nologin.so file=/etc/nunbird/nologin\n");
    world.write_file("/etc/nunbird/nologin", "the cooling is being repaired\n", "root", 0o644);
    assert_refused(&world, 1, "pam-account", "nunbird: pam: the cooling is being repaired");
}

#[needs(root, in_each = WITH_ROOT)]
fn a_session_that_a_module_does_not_open_is_a_failure_of_the_system(privilege: Privilege) {
    let world = machine(
        privilege,
        &format!("account required pam_permit.so\n{}session required pam_deny.so\n", super::NOTE),
    );
    assert_refused(&world, 2, "pam", "pam_open_session");
}

#[needs(root, in_each = WITH_ROOT)]
fn a_module_that_hangs_is_ended_with_all_that_it_has_started(privilege: Privilege) {
    for kind in ["account", "session"] {
        let service =
            format!("account required pam_permit.so\n{kind} required pam_exec.so /usr/local/bin/nbt_hang\n");
        let world = machine_with(privilege, &service, "timeout = \"1s\"\n");
        // A grandchild in its own session, too.
        let script = "#!/bin/bash\nsetsid sh -c 'echo $$ > /var/log/nbt_far; exec sleep 300' &\n\
                      echo $$ > /var/log/nbt_near; exec sleep 300\n";
        world.write_file("/usr/local/bin/nbt_hang", script, "root", 0o755);
        assert_refused(&world, 2, "pam-timeout", "not done in time");
        for file in ["/var/log/nbt_near", "/var/log/nbt_far"] {
            assert!(is_gone(&pid_in(&world.host_path(file))), "{kind}: {file}");
        }
    }
}

#[needs(root)]
fn a_module_that_changes_the_user_is_a_denial() {
    for kind in ["account", "setcred", "session"] {
        let world = World::new(Privilege::Setuid);
        let function = match kind {
            "account" => "pam_sm_acct_mgmt",
            "setcred" => "pam_sm_setcred",
            _ => "pam_sm_open_session",
        };
        let text = format!(
            "#include <security/pam_modules.h>\n\
             int {function}(pam_handle_t *h, int f, int n, const char **v) {{\n\
             (void)f; (void)n; (void)v; return pam_set_item(h, PAM_USER, \"bob\"); }}\n"
        );
        super::build_module(&world, "pam_swap", &text);
        let line = match kind {
            "account" => "account required /opt/nunbird/pam_swap.so\n".to_owned(),
            "setcred" => {
                "account required pam_permit.so\nauth required /opt/nunbird/pam_swap.so\n".to_owned()
            }
            _ => format!(
                "account required pam_permit.so\n{}session required /opt/nunbird/pam_swap.so\n",
                super::NOTE
            ),
        };
        world.write_keys();
        world.write_file(
            "/usr/local/bin/nbt_note",
            "#!/bin/sh\necho \"$PAM_TYPE\" >> /var/log/nbt_sessions\n",
            "root",
            0o755,
        );
        world.write_file("/etc/pam.d/nunbird", line, "root", 0o644);
        world.reconfigure("[audit]\n", "[pam]\n\n[audit]\n");
        assert_refused(&world, 1, "pam-user", "a module made `bob` of `alice`");
        if kind == "session" {
            assert_eq!(sessions(&world), (1, 1), "what was opened is closed");
        }
    }
}

#[needs(root)]
fn a_service_that_is_missing_or_somebody_elses_is_not_taken_for_another() {
    let world = machine(Privilege::Setuid, "account required pam_permit.so\n");
    world.reconfigure("[pam]\n", "[pam]\nservice = \"nbt-missing\"\n");
    // What PAM would use in its place.
    world.write_file("/etc/pam.d/other", "account required pam_permit.so\n", "root", 0o644);
    assert_refused(&world, 2, "pam", "there is no /etc/pam.d/nbt-missing");
    world.write_file("/etc/pam.d/nbt-missing", "account required pam_permit.so\n", "alice", 0o644);
    assert_refused(&world, 2, "pam", "owned by uid 4101");
}

#[needs(root)]
fn without_root_a_policy_with_pam_runs_no_job() {
    let world = machine(Privilege::FileCaps, "account required pam_permit.so\n");
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    let detail = world.audit().last().expect("an event")["detail"].to_string();
    assert!(detail.contains("`[pam]` needs root") && detail.contains("file-capabilities"), "{detail}");
    let none = World::new(Privilege::None);
    none.write_keys();
    none.reconfigure("[audit]\n", "[pam]\n\n[audit]\n");
    assert_eq!(none.job().config().exit, Exit::Code(2));
}
