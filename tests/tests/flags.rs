//! The command line as sites write it in the runner's config.toml.

use nunbird_tests::runner::Commands;
use nunbird_tests::{Exit, Privilege, World, needs};
use std::ffi::OsString;

fn world() -> World {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    world
}

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

#[needs(root)]
fn unobfuscated_stands_before_the_sub_command_and_shows_the_cause() {
    let world = world();
    let all_with_u = |c: &mut Commands| {
        for arguments in [&mut c.config, &mut c.prepare, &mut c.run, &mut c.cleanup] {
            arguments.insert(0, "-u".into());
        }
    };
    world.job().commands(all_with_u).run().expect_success();
    let unknown = || world.job().user("mallory");
    let (short, whole) = (unknown().config(), unknown().commands(all_with_u).config());
    assert!(
        !short.stderr.contains("mallory") && whole.stderr.contains("mallory"),
        "{}\n{}",
        short.stderr,
        whole.stderr
    );
}

#[needs(root)]
fn the_configuration_may_be_named_on_every_stage_on_some_or_by_default() {
    let world = world();
    let flag = "--configuration /etc/nunbird/config.toml";
    let everywhere = |c: &mut Commands| {
        c.config = words(&format!("{flag} config"));
        c.prepare = words(&format!("prepare {flag}"));
        c.run = words(&format!("{flag} run"));
        c.cleanup = words(&format!("cleanup {flag}"));
    };
    let some = |c: &mut Commands| c.cleanup = words(&format!("cleanup {flag}"));
    let nowhere = |c: &mut Commands| c.config = words("config");
    let joined = |c: &mut Commands| c.config = words("config --configuration=/etc/nunbird/config.toml");
    let behind_run = |c: &mut Commands| c.run = words(&format!("run {flag}"));
    world.job().commands(everywhere).run().expect_success();
    world.job().commands(some).run().expect_success();
    world.job().commands(nowhere).run().expect_success();
    world.job().commands(joined).run().expect_success();
    world.job().commands(behind_run).run().expect_success();
}

#[needs(root)]
fn a_stage_that_names_another_configuration_than_config_did_is_refused() {
    let world = world();
    world.write_file("/etc/nunbird/other.toml", world.configuration(), "root", 0o644);
    let outcome =
        world.job().commands(|c| c.prepare = words("prepare --configuration /etc/nunbird/other.toml")).run();
    assert!(outcome.stage("prepare").stderr.contains("configuration-differs"), "{}", outcome.log());
}

#[needs(root)]
fn the_version_is_printed_for_every_account_that_may_execute_the_program() {
    let world = world();
    let program = world.paths().bin.join("nunbird-auth");
    let shown = world.run(&world.program("nbt_runner", &program, &["--version"])).success();
    assert_eq!(shown, concat!("Version: ", env!("CARGO_PKG_VERSION")));
    assert_eq!(world.run(&world.program("nbt_runner", &program, &["--help"])).exit, Exit::Code(0));
    let refused = world.run(&world.program("alice", &program, &["--version"]));
    assert!(
        refused.exit != Exit::Code(0) && refused.stderr.contains("Permission denied"),
        "{}",
        refused.stderr
    );
}

#[needs(root)]
fn words_that_mean_nothing_are_refused_as_a_failure_of_the_system() {
    let world = world();
    for wrong in ["confg", "config extra", "--confguration config", "config --configuration", ""] {
        let job = world.job().commands(|c| c.config = words(wrong));
        let outcome = job.config();
        assert_eq!(outcome.exit, Exit::Code(2), "{wrong}: {}", outcome.log);
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{wrong}");
    }
}
