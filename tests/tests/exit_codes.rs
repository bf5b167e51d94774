//! How GitLab sees the end of the script.

use nunbird_tests::{Privilege, Reason, RunnerVersion, Status, World, needs};

#[needs(root, in_each = Privilege::ALL)]
fn the_exit_code_of_a_script_arrives_in_every_mode(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    world.job().script("exit 42").run().expect(&Status::script_failure(42));
}

#[needs(root)]
fn a_script_cannot_look_like_a_failure_of_the_system() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    for (script, code) in
        [("exit 2", 2), ("false", 1), ("exit 255", 255), ("exit 127", 127), ("nosuchcommand", 127)]
    {
        world.job().script(script).run().expect(&Status::script_failure(code));
    }
}

#[needs(root)]
fn a_shell_that_dies_of_a_signal_is_a_failed_script_with_128_and_the_signal() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    world.job().script("kill -KILL $$").run().expect(&Status::script_failure(137));
    world.job().script("kill -SEGV $BASHPID").run().expect(&Status::script_failure(139));
}

#[needs(root)]
fn a_runner_without_exit_code_file_still_learns_that_the_script_failed() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    world.job().version(RunnerVersion::V16_11).script("exit 42").run().expect(&Status::script_failure(1));
}

#[needs(root)]
fn a_script_that_writes_into_open_descriptors_cannot_forge_its_exit_code() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let script = "for n in 3 4 5 6 7 8 9; do (echo 0 >&$n) 2>/dev/null || true; done; exit 9";
    world.job().script(script).run().expect(&Status::script_failure(9));
}

#[needs(root)]
fn a_failing_after_script_fails_nothing() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let outcome = world.job().after_script("exit 9").run().expect_success();
    assert!(!outcome.stage("after_script").succeeded());
    world.job().script("exit 3").after_script("exit 9").run().expect(&Status::script_failure(3));
}

#[needs(root)]
fn the_number_of_an_earlier_stage_is_not_taken_for_a_later_one() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let job = world.job().with_repository();
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    let number = |session: &nunbird_tests::runner::Session<'_>| {
        std::fs::read_to_string(session.exit_code_file()).unwrap_or_default().trim().to_owned()
    };
    session.run_text("build_script", "exit 42");
    assert_eq!(number(&session), "42");
    assert!(!session.run_text("after_script", "exit 7").succeeded());
    assert_eq!(number(&session), "7");
    std::fs::rename(session.directory().join("script1000002/script"), session.directory().join("gone"))
        .expect("renamed");
    let spec = session.spec_of_run(&session.directory().join("script1000002/script"), "build_script");
    let refused = session.call_spec("build_script", &spec);
    assert!(!refused.succeeded());
    assert_eq!(number(&session), "1", "a refusal is no success either: {}", refused.log);
    session.cleanup();
}

#[needs(root)]
fn a_missing_launcher_is_a_failure_of_the_system() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    std::fs::remove_file(world.host_path(world.paths().bin.join("nunbird"))).expect("removed");
    let outcome = world.job().run().expect(&Status::failed(Reason::SystemFailure));
    assert_eq!(outcome.names(), ["config", "prepare", "cleanup"].repeat(3));
}
