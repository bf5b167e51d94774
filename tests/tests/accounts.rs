//! Accounts as which no job runs, whatever the token contains.

use nunbird_tests::needs;
use nunbird_tests::runner::StageOutcome;
use nunbird_tests::world::{Account, Exit, Privilege, World};
use serde_json::json;

#[track_caller]
fn assert_no_account(world: &World, outcome: &StageOutcome, why: &str) {
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    assert!(outcome.stderr.contains("[account]"), "{}", outcome.stderr);
    let audit = world.audit();
    let detail = audit.last().expect("a line")["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains(why), "{why}: {detail}");
    assert!(
        !outcome.stderr.contains(why),
        "the job log does not tell which accounts exist: {}",
        outcome.stderr
    );
    assert!(world.records().is_empty());
}

/// A login and the expected text in the audit file.
const REFUSED: [(&str, &str); 22] = [
    ("root", "belongs to the system"),
    ("rootalias", "id 0 is never"),
    ("0", "not a portable"),
    ("4101", "not a portable"),
    ("-x", "not a portable"),
    ("..", "not a portable"),
    ("Alice", "not a portable"),
    ("ALICE", "not a portable"),
    ("alice@site", "not a portable"),
    ("DOM\\alice", "not a portable"),
    ("alice ", "not a portable"),
    ("álice", "not a portable"),
    ("queue", "below min_uid"),
    ("nobody", "belongs to the system"),
    ("nunbird", "belongs to the system"),
    ("daisy", "login shell"),
    ("twin", "user database has it as `alice`"),
    ("wheely", "member of group 0"),
    ("gidzero", "id 0 is never"),
    ("stranger", "not in the user database"),
    ("nbt_runner", "runs gitlab-runner"),
    ("daemon", "belongs to the system"),
];

#[needs(root)]
fn logins_that_are_no_ordinary_users_get_no_account() {
    for privilege in Privilege::PRIVILEGED {
        let world = World::new(privilege);
        assert!(world.refresh_keys().succeeded());
        for (login, why) in REFUSED {
            if login == "nbt_runner" && privilege == Privilege::RootRunner {
                continue;
            }
            assert_no_account(&world, &world.job().claim("user_login", json!(login)).config(), why);
        }
    }
}

/// Sets the expiry date of an account, in days since the epoch.
fn expire(world: &World, day: &str) {
    let shadow = world.host_path("/etc/shadow");
    let text = std::fs::read_to_string(&shadow).expect("shadow");
    let lines = text.lines().map(|line| match line.starts_with("alice:") {
        true => format!("alice:*:20000:0:99999:7::{day}:\n"),
        false => format!("{line}\n"),
    });
    std::fs::write(&shadow, lines.collect::<String>()).expect("shadow");
}

#[needs(root, in_each = [Privilege::Setuid, Privilege::RootRunner])]
fn an_account_that_has_expired_gets_no_job_where_shadow_can_be_read(privilege: Privilege) {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    for (end, expired) in [("10957", true), ("0", true), ("375817", false), ("", false)] {
        expire(&world, end);
        let outcome = world.job().config();
        assert_eq!(outcome.exit == Exit::Code(1), expired, "{end}: {}", outcome.log);
        assert_eq!(outcome.stderr.contains("[account-expired]"), expired, "{end}: {}", outcome.log);
    }
    // Between two stages; cleanup must work nevertheless.
    let job = world.job().id(7001);
    let mut session = job.begin();
    assert!(session.config().succeeded());
    expire(&world, "10957");
    let outcome = session.prepare();
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    assert!(outcome.log.contains("[account-expired]"), "{}", outcome.log);
    let event = world.audit().pop().expect("an event");
    assert_eq!((&event["code"], &event["stage"]), (&json!("account-expired"), &json!("prepare")), "{event}");
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded(), "{}", cleanup.log);
    expire(&world, "");
    let job = world.job().id(7002);
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    expire(&world, "10957");
    let outcome = session.run_text("build_script", "echo run''ning");
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    assert!(outcome.log.contains("[account-expired]") && !outcome.log.contains("running"), "{}", outcome.log);
    assert_eq!(world.audit().last().expect("an event")["code"], "account-expired");
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded(), "{}", cleanup.log);
}

#[needs(root)]
fn an_account_whose_entry_in_shadow_may_not_be_read_is_taken_as_it_is() {
    for (privilege, mode) in [(Privilege::FileCaps, 0o600), (Privilege::Setuid, 0o000)] {
        let world = World::new(privilege);
        assert!(world.refresh_keys().succeeded());
        expire(&world, "10957");
        let shadow = world.host_path("/etc/shadow");
        std::fs::set_permissions(&shadow, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("a mode");
        let outcome = world.job().config();
        assert!(outcome.succeeded(), "{privilege:?}: {}", outcome.log);
        let doctor = world.shell("root", "/opt/nunbird/bin/nunbirdctl doctor --runner-user nbt_runner");
        assert!(doctor.stdout.contains("does not see that an account has expired"), "{doctor:?}");
    }
}

#[needs(root)]
fn a_bot_is_refused_unless_the_site_allows_bots() {
    let mut world = World::new(Privilege::Setuid);
    world.add_account(Account::new("project_31_bot_0a", 4150));
    assert!(world.refresh_keys().succeeded());
    let outcome = world.job().user("project_31_bot_0a").config();
    assert_eq!(outcome.exit, Exit::Code(1));
    assert!(outcome.stderr.contains("[bot]"), "{}", outcome.stderr);
    world.reconfigure("[audit]", "[accounts]\nallow_bots = true\n\n[audit]");
    assert_eq!(world.job().user("project_31_bot_0a").config().exit, Exit::Code(0));
}

#[needs(root)]
fn a_denied_account_and_a_rule_that_denies_are_refused_with_the_sites_message() {
    let world = World::new(Privilege::Setuid);
    assert!(world.refresh_keys().succeeded());
    let outside = world.job().facts(|facts| facts.project_path = "outside/x".to_owned()).config();
    assert_eq!(outside.exit, Exit::Code(1));
    assert!(outside.stderr.contains("projects of `outside` do not run here"), "{}", outside.stderr);
    world.reconfigure("[audit]", "[accounts]\ndeny = [\"alice\"]\n\n[audit]");
    assert_no_account(&world, &world.job().config(), "accounts.deny");
    world.reconfigure("run_as = \"$user_login\"", "when.user = \"bob\"\nrun_as = \"$user_login\"");
    let nobody = world.job().config();
    assert!(nobody.stderr.contains("[no-rule]"), "{}", nobody.stderr);
}

#[needs(root)]
fn a_home_directory_with_characters_of_the_shell_is_refused() {
    let world = World::new(Privilege::Setuid);
    assert!(world.refresh_keys().succeeded());
    let outcome = world.job().user("dollar").config();
    assert_eq!(outcome.exit, Exit::Code(1), "three tries mend nothing: {}", outcome.log);
    assert!(outcome.stderr.contains("[home]"), "{}", outcome.stderr);
}

/// passwd(5): an account whose shell field is empty has /bin/sh.
#[needs(root)]
fn an_account_without_a_shell_has_the_bourne_shell() {
    let mut world = World::new(Privilege::Setuid);
    world.add_account(Account { shell: String::new(), ..Account::new("shellless", 4177) });
    assert!(world.refresh_keys().succeeded());
    let job = world.job().user("shellless");
    let mut session = job.begin();
    let config = session.config();
    assert_eq!(config.exit, Exit::Code(0), "{}", config.log);
    assert!(session.prepare().succeeded());
    assert_eq!(session.run_text("build_script", "echo $SHELL").stdout, "/bin/sh\n");
}

#[needs(root)]
fn a_name_that_no_account_here_can_have_is_reported_as_such() {
    let world = World::new(Privilege::Setuid);
    assert!(world.refresh_keys().succeeded());
    for login in ["JDoe", "1abc", "jd@site.example"] {
        let outcome = world.job().claim("user_login", login.into()).config();
        assert_eq!(outcome.exit, Exit::Code(1), "{login}: {}", outcome.log);
        let text = format!("`{login}` is not a name of an account that may run CI jobs [account]");
        assert!(outcome.stderr.contains(&text), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("to map your GitLab login"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("must equal"), "{}", outcome.stderr);
    }
}

#[needs(root)]
fn a_later_stage_of_a_job_whose_account_now_has_another_uid_is_refused() {
    let world = World::new(Privilege::Setuid);
    assert!(world.refresh_keys().succeeded());
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let passwd = world.host_path("/etc/passwd");
    let text = std::fs::read_to_string(&passwd).expect("passwd");
    std::fs::write(&passwd, text.replace("alice:x:4101:", "alice:x:4191:")).expect("passwd");
    let outcome = session.run_text("build_script", "id");
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    assert!(outcome.stderr.contains("[account-changed]"), "{}", outcome.stderr);
    let audit = world.audit();
    let [admitted, denied] = audit.as_slice() else { panic!("{audit:?}") };
    assert_eq!((&denied["code"], &denied["stage"]), (&"account-changed".into(), &"run".into()));
    assert_eq!(denied["decision_id"], admitted["decision_id"], "one id tells the job's story");
    std::fs::write(&passwd, text.replace("alice:x:", "alicia:x:")).expect("passwd");
    let outcome = session.run_text("build_script", "id");
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    assert!(outcome.stderr.contains("[account]"), "{}", outcome.stderr);
}

#[needs(root, in_each = Privilege::ALL)]
fn an_account_that_is_denied_during_a_job_runs_no_further_stage_and_is_cleaned_up_after(
    privilege: Privilege,
) {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    let plain = world.configuration();
    for (denial, detail) in [
        ("deny = [\"alice\"]", "listed under accounts.deny"),
        ("deny_groups = [\"lattice\"]", "accounts.deny_groups"),
        ("max_uid = 4100", "above max_uid"),
        ("min_uid = 4102", "below min_uid"),
        ("shells = [\"/bin/zsh\"]", "accounts.shells"),
        ("deny = [\"alice\"", ""),
        ("deny_groups = [\"nowhere\"]", "no group `nowhere`"),
    ] {
        world.configure(&plain);
        let job = world.job();
        let mut session = job.begin();
        assert!(session.config().succeeded());
        assert!(session.run_text("build_script", "id").succeeded());
        world.configure(&plain.replace("[audit]", &format!("[accounts]\n{denial}\n\n[audit]")));
        for stage in ["prepare", "build_script", "after_script"] {
            let outcome = match stage {
                "prepare" => session.prepare(),
                stage => session.run_text(stage, "echo it ran"),
            };
            assert!(!outcome.succeeded(), "{privilege:?} {denial}: {stage}: {}", outcome.log);
            assert!(!outcome.stdout.contains("it ran"), "{privilege:?} {denial}: {}", outcome.log);
            let code = match denial {
                "deny = [\"alice\"" => "[configuration-invalid]",
                "deny_groups = [\"nowhere\"]" => "[group]",
                _ => "[account]",
            };
            assert!(outcome.stderr.contains(code), "{privilege:?} {denial}: {}", outcome.stderr);
        }
        let last = world.audit().pop().expect("an event");
        assert!(last["detail"].as_str().is_some_and(|text| text.contains(detail)), "{denial}: {last}");
        assert!(session.cleanup().succeeded(), "{privilege:?} {denial}");
        assert!(world.records().is_empty());
    }
}

#[needs(root)]
fn a_later_stage_reads_the_configuration_only_where_no_other_account_can_have_written_it() {
    let world = World::new(Privilege::Setuid);
    assert!(world.refresh_keys().succeeded());
    let job = world.job();
    let mut session = job.prepared();
    let file = world.host_path(&world.paths().configuration);
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("a mode");
    let outcome = session.run_text("build_script", "echo it ran");
    assert!(outcome.stderr.contains("[configuration-file]"), "{}", outcome.log);
    assert!(session.cleanup().succeeded());
}

#[needs(root)]
fn without_privilege_only_the_runners_own_user_runs_jobs() {
    let world = World::new(Privilege::None);
    assert!(world.refresh_keys().succeeded());
    assert_no_account(&world, &world.job().user("bob").config(), "serves no other account");
    assert_eq!(world.job().config().exit, Exit::Code(0));
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn an_account_below_the_floor_of_the_host_runs_no_further_stage(privilege: Privilege) {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    assert!(session.run_text("build_script", "id").succeeded());
    for line in ["deny_group lattice", "min_uid 4102"] {
        world.write_file("/etc/nunbird/floor", line, "root", 0o644);
        let outcome = session.run_text("after_script", "echo it ran");
        assert!(!outcome.succeeded() && !outcome.stdout.contains("it ran"), "{privilege:?} {line}");
        assert!(outcome.stderr.contains("[account]"), "{privilege:?} {line}: {}", outcome.log);
    }
    world.write_file("/etc/nunbird/floor", "", "root", 0o644);
    assert!(session.run_text("after_script", "id").succeeded());
    assert!(session.cleanup().succeeded());
}
