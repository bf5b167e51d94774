//! What a site's policy can express beyond "everybody as themselves", decided by the installed
//! program.

use nunbird_tests::needs;
use nunbird_tests::runner::{StageOutcome, assert_refused};
use nunbird_tests::world::{Exit, Privilege, World};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

fn world() -> World {
    let world = World::new(Privilege::Setuid);
    assert!(world.refresh_keys().succeeded());
    world
}

#[track_caller]
fn assert_admitted_as(world: &World, outcome: &StageOutcome, account: &str) {
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert_eq!(world.audit().last().expect("a line")["account"], account);
}

const AS_THEMSELVES: &str = "run_as = \"$user_login\"";

#[needs(root)]
fn a_map_of_the_site_gives_the_account_and_must_be_roots_own() {
    let world = world();
    world.reconfigure("[audit]", "[map.users]\nfile = \"/etc/nunbird/users.map\"\n\n[audit]");
    world.reconfigure(AS_THEMSELVES, "run_as = { map = \"users\" }");
    let map = "/etc/nunbird/users.map";
    assert_refused(&world, &world.job().config(), "map", "users.map");
    world.write_file(map, "# login account\nalice ada\nbob root\n", "root", 0o644);
    assert_admitted_as(&world, &world.job().config(), "ada");
    assert_refused(&world, &world.job().user("bob").config(), "account", "belongs to the system");
    assert_refused(&world, &world.job().user("ada").config(), "no-rule", "rules fits");
    world.write_file(map, "alice ada\nalice bob\n", "root", 0o644);
    assert_refused(&world, &world.job().config(), "map-ambiguous", "two accounts for one key");
    world.write_file(map, "alice ada\n", "nbt_runner", 0o644);
    assert_refused(&world, &world.job().config(), "map", "users.map");
    world.write_file(map, "alice ada\n", "root", 0o666);
    assert_refused(&world, &world.job().config(), "map", "users.map");
}

#[needs(root)]
fn rules_see_the_accounts_groups_uid_and_shell() {
    let world = world();
    world.reconfigure(AS_THEMSELVES, "when.local_group = \"lattice\"\nrun_as = \"$user_login\"");
    assert_admitted_as(&world, &world.job().config(), "alice");
    assert_refused(&world, &world.job().user("bob").config(), "no-rule", "rules fits");
    world.reconfigure("when.local_group = \"lattice\"", "when.uid = \"4102-4102\"");
    assert_admitted_as(&world, &world.job().user("bob").config(), "bob");
    assert_refused(&world, &world.job().config(), "no-rule", "rules fits");
    world.reconfigure("when.uid = \"4102-4102\"", "when.shell = \"/bin/bash\"");
    assert_admitted_as(&world, &world.job().config(), "alice");
    world.reconfigure("[audit]", "[accounts]\ndeny_groups = [\"lattice\"]\n\n[audit]");
    assert_refused(&world, &world.job().config(), "account", "accounts.deny_groups");
    assert_admitted_as(&world, &world.job().user("bob").config(), "bob");
    world.reconfigure("deny_groups = [\"lattice\"]", "shells = [\"/bin/zsh\"]");
    assert_refused(&world, &world.job().config(), "account", "accounts.shells");
}

#[needs(root)]
fn a_profile_gives_its_jobs_their_environment_and_directories() {
    let world = world();
    world.reconfigure(AS_THEMSELVES, "run_as = \"$user_login\"\nprofile = \"big\"");
    world.reconfigure(
        "[audit]",
        "[profile.big]\ndata_dir = \"$HOME/elsewhere\"\nenvironment = { SITE_CI = \"large\" }\nno_new_privileges = true\n\n[audit]",
    );
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    assert!(session.prepare().succeeded());
    let outcome = session
        .run_text("build_script", "echo $SITE_CI; grep NoNewPrivs /proc/self/status; ls -d ~/elsewhere");
    assert!(outcome.succeeded(), "{}", outcome.log);
    for part in ["large", "NoNewPrivs:\t1", "/home/alice/elsewhere"] {
        assert!(outcome.log.contains(part), "{part}: {}", outcome.log);
    }
}

#[needs(root)]
fn files_of_conf_d_take_part_and_must_be_roots_own() {
    let world = world();
    let file = "/etc/nunbird/conf.d/10-site.toml";
    let rule = "[[rule]]\nname = \"second\"\nwhen.user = \"bob\"\nrun_as = \"ada\"\n";
    world.reconfigure(AS_THEMSELVES, "when.user = \"alice\"\nrun_as = \"$user_login\"");
    assert_refused(&world, &world.job().user("bob").config(), "no-rule", "none of 2 rules");
    world.write_file(file, rule, "root", 0o644);
    assert_admitted_as(&world, &world.job().user("bob").config(), "ada");
    assert_eq!(world.audit().last().expect("a line")["rule"]["file"], file);
    world.write_file("/etc/nunbird/conf.d/20-site.toml~", "not read", "root", 0o644);
    assert_admitted_as(&world, &world.job().user("bob").config(), "ada");

    world.write_file(file, "[accounts]\nmin_uids = 5\n", "root", 0o644);
    assert_refused(&world, &world.job().config(), "configuration-invalid", "10-site.toml:2:1");
    world.write_file(file, rule, "bob", 0o644);
    assert_refused(&world, &world.job().config(), "configuration-file", "10-site.toml");
    world.write_file(file, rule, "root", 0o644);
    let directory = world.host_path("/etc/nunbird/conf.d");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).expect("a mode");
    assert_refused(&world, &world.job().config(), "configuration-file", "conf.d");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).expect("a mode");
    chown(&directory, Some(4101), None).expect("an owner");
    assert_refused(&world, &world.job().config(), "configuration-file", "conf.d");
    chown(&directory, Some(0), None).expect("an owner");
    let odd = directory.join(std::ffi::OsStr::from_bytes(b"15-\xff.toml"));
    std::fs::write(&odd, "").expect("a file");
    assert_refused(&world, &world.job().config(), "configuration-file", "conf.d");
    std::fs::remove_file(&odd).expect("removed");
    symlink("/etc/shadow", directory.join("30.toml")).expect("a link");
    assert_refused(&world, &world.job().config(), "configuration-file", "30.toml");
}

#[needs(root)]
fn a_configuration_that_is_no_text_file_denies_every_job_and_says_why() {
    let world = world();
    let good = world.configuration();
    let path = world.host_path(&world.paths().configuration);
    world.configure(&format!("\u{feff}{}", good.replace('\n', "\r\n")));
    assert_admitted_as(&world, &world.job().config(), "alice");
    std::fs::write(&path, [good.as_bytes(), b"# caf\xe9\n"].concat()).expect("a file");
    assert_refused(&world, &world.job().config(), "configuration-file", "not UTF-8");
    std::fs::write(&path, good.replace("[audit]", "[audt]\n[audit")).expect("a file");
    assert_refused(&world, &world.job().config(), "configuration-invalid", "config.toml:");
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a directory");
    assert_refused(&world, &world.job().config(), "configuration-file", "config.toml");
}

#[needs(root)]
fn while_etc_nologin_exists_no_job_is_admitted_where_the_site_heeds_it() {
    let world = world();
    world.write_file("/etc/nologin", "maintenance until\n noon\u{1b}[31m\n", "root", 0o644);
    assert_admitted_as(&world, &world.job().config(), "alice");
    world.reconfigure("[audit]", "[accounts]\nnologin = true\n\n[audit]");
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("maintenance until noon"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains('\u{1b}'), "{}", outcome.stderr);
    world.write_file("/etc/nologin", "for admins\n", "root", 0o600);
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(!outcome.stderr.contains("for admins"), "{}", outcome.stderr);
    std::fs::remove_file(world.host_path("/etc/nologin")).expect("removed");
    assert_admitted_as(&world, &world.job().config(), "alice");
}

#[needs(root)]
fn an_edit_of_the_configuration_while_jobs_are_decided_is_seen_whole_or_not_at_all() {
    let world = world();
    let (one, two) = (world.configuration(), world.configuration().replace("$user_login", "ada"));
    let path = world.host_path(&world.paths().configuration);
    for round in 0..6 {
        let text = if round % 2 == 0 { &two } else { &one };
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(&new, &path).expect("a rename");
        // A job of its own: one is admitted four times.
        let decided = world.job().id(7100 + round).config();
        assert_admitted_as(&world, &decided, if round % 2 == 0 { "ada" } else { "alice" });
    }
    // An editor that writes in place leaves half a file for a moment: that denies.
    std::fs::write(&path, &one[..one.len() / 2]).expect("a file");
    assert_ne!(world.job().config().exit, Exit::Code(0));
}
