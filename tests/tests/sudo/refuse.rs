//! What denies a job if sudo changes the user, and what the sudoers file does not allow.

use super::{SUDOERS, machine, sudoers};
use nunbird_tests::{Exit, Privilege, World, needs};

const LAUNCHER: &str = "/opt/nunbird/bin/nunbird";

#[needs(root)]
fn the_policy_still_decides_before_sudo_is_asked() {
    let world = machine();
    for login in ["root", "queue", "nbt_runner", "twin"] {
        let outcome = world.job().user(login).config();
        assert_eq!(outcome.exit, Exit::Code(1), "{login}: {}", outcome.log);
    }
    let forged = world.job().token("e30.e30.e30");
    assert_ne!(forged.config().exit, Exit::Code(0));
}

#[needs(root)]
fn an_account_that_sudoers_does_not_list_is_a_failure_of_the_system_with_sudos_words() {
    let world = machine();
    let job = world.job().user("bob");
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let outcome = session.prepare();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[sudo]"), "{}", outcome.log);
    assert!(!world.host_path("/home/bob/.nunbird").exists());
}

#[needs(root)]
fn sudoers_that_log_input_or_ask_for_a_password_run_nothing() {
    for (from, to) in [("!log_input", "log_input"), ("NOPASSWD: NUNBIRD", "NUNBIRD")] {
        let world = machine();
        let text = sudoers();
        assert!(text.contains(from));
        world.write_file(SUDOERS, text.replace(from, to), "root", 0o440);
        let job = world.job();
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let outcome = session.prepare();
        assert_eq!(outcome.exit, Exit::Code(2), "{from}: {}", outcome.log);
        assert!(outcome.stderr.contains("[sudo]"), "{from}: {}", outcome.log);
    }
}

#[needs(root)]
fn the_runners_account_may_start_the_launcher_and_nothing_else() {
    let world = machine();
    let sudo = |account: &str, words: &str| world.shell(account, &format!("sudo -n {words} </dev/null"));
    for words in [
        "-u alice -- /bin/sh -c id".to_owned(),
        format!("-u alice -- {LAUNCHER}"),
        format!("-u alice -- {LAUNCHER} --sudo x"),
        format!("-u root -- {LAUNCHER} --sudo"),
        format!("-u bob -- {LAUNCHER} --sudo"),
        format!("-u alice LD_PRELOAD=/x {LAUNCHER} --sudo"),
        "-u alice -i".to_owned(),
    ] {
        let outcome = sudo("nbt_runner", &words);
        assert!(outcome.exit == Exit::Code(1) && outcome.stderr.contains("sudo: "), "{words}: {outcome:?}");
    }
    let outcome = sudo("bob", &format!("-u alice -- {LAUNCHER} --sudo"));
    assert!(outcome.exit == Exit::Code(1) && outcome.stderr.contains("sudo: "), "{outcome:?}");
    // Started, but without a stage it does nothing.
    let outcome = sudo("nbt_runner", &format!("-u alice -- {LAUNCHER} --sudo"));
    assert!(
        outcome.exit == Exit::Code(2) && outcome.stderr.contains("did not supply a stage"),
        "{outcome:?}"
    );
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_program_with_privilege_of_its_own_is_not_for_sudo_mode(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("downscope = \"setuid\"", "downscope = \"sudo\"");
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(2), "{privilege:?}: {}", outcome.log);
    let detail = world.audit().last().expect("an event")["detail"].to_string();
    assert!(detail.contains("without privilege"), "{detail}");
}
