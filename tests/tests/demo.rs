//! `make demo`, as root and as an ordinary user.

use nunbird_tests::{Privilege, World, needs};
use std::process::Command;

#[needs(root)]
fn the_demo_tells_as_root_that_all_is_as_it_should_be() {
    let output = Command::new(env!("CARGO_BIN_EXE_nunbird-demo")).output().expect("the demo runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.ends_with("All as it should be.\n"), "{told}");
    for words in ["uid=4103(ada)", "exit code 42", "[token-of-another-job]", "`root` belongs to the system"] {
        assert!(told.contains(words), "no {words:?} in\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "colour is for terminals: {told}");
}

#[needs(root)]
fn the_demo_serves_an_ordinary_user_without_any_privilege() {
    let world = World::new(Privilege::None);
    // Alone: `cargo run` builds nothing beside it.
    let program = std::fs::read(env!("CARGO_BIN_EXE_nunbird-demo")).expect("a program");
    world.write_file("/opt/demo/nunbird-demo", program, "root", 0o755);
    let mut spec = world.program("bob", "/opt/demo/nunbird-demo", &[] as &[&str]);
    spec.environment.push(("NUNBIRD_BIN_DIR".into(), "/opt/nunbird/bin".into()));
    let told = world.run(&spec);
    assert!(
        told.succeeded() && told.stdout.ends_with("All as it should be.\n"),
        "{}{}",
        told.stdout,
        told.stderr
    );
    for words in
        ["without root: downscope = \"none\"", "uid=4102(bob)", "exit code 42", "[token-of-another-job]"]
    {
        assert!(told.stdout.contains(words), "no {words:?} in\n{}", told.stdout);
    }
}
