//! `make demo`, as root and as an ordinary user.

use nunbird_tests::{Privilege, World, needs};
use std::process::Command;

#[needs(root)]
fn the_demo_succeeds_as_root_and_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_nunbird-demo")).output().expect("the demo runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.ends_with("All as it should be.\n"), "{shown}");
    for words in ["uid=4103(ada)", "exit code 42", "[token-of-another-job]", "`root` belongs to the system"] {
        assert!(shown.contains(words), "no {words:?} in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colour is for terminals: {shown}");
}

#[needs(root)]
fn the_demo_serves_an_ordinary_user_without_any_privilege() {
    let world = World::new(Privilege::None);
    // Alone: `cargo run` builds nothing beside it.
    let program = std::fs::read(env!("CARGO_BIN_EXE_nunbird-demo")).expect("a program");
    world.write_file("/opt/demo/nunbird-demo", program, "root", 0o755);
    let mut spec = world.program("bob", "/opt/demo/nunbird-demo", &[] as &[&str]);
    spec.environment.push(("NUNBIRD_BIN_DIR".into(), "/opt/nunbird/bin".into()));
    let shown = world.run(&spec);
    assert!(
        shown.succeeded() && shown.stdout.ends_with("All as it should be.\n"),
        "{}{}",
        shown.stdout,
        shown.stderr
    );
    for words in
        ["without root: downscope = \"none\"", "uid=4102(bob)", "exit code 42", "[token-of-another-job]"]
    {
        assert!(shown.stdout.contains(words), "no {words:?} in\n{}", shown.stdout);
    }
}
