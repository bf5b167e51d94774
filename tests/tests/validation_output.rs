//! How much a site's validation program may print.

use nunbird_tests::{Exit, Privilege, World, needs};
use std::time::{Duration, Instant};

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_validation_program_that_prints_too_much_admits_nobody_and_is_ended(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure(
        "[audit]",
        "[validation]\nscript = \"/etc/nunbird/validate\"\nuser = \"nunbird\"\ntimeout = \"50s\"\n\n[audit]",
    );
    world.reconfigure("run_as = \"$user_login\"", "run_as = \"$validated\"");
    let answer = r#"'{"username":"ada"}'"#;
    for flood in [
        format!("printf '%-65537s' {answer}"),
        format!("echo {answer}; exec yes ''"),
        format!("yes '' | head -c 65537; echo {answer}"),
    ] {
        world.write_file("/etc/nunbird/validate", format!("#!/bin/sh\n{flood}\n"), "root", 0o755);
        let begun = Instant::now();
        let outcome = world.job().config();
        assert_ne!(outcome.exit, Exit::Code(0), "{flood}: {}", outcome.log);
        let detail = world.audit().last().expect("a line")["detail"].as_str().unwrap_or("").to_owned();
        assert!(detail.contains("printed more than 65536 bytes"), "{flood}: {detail}");
        assert!(world.records().is_empty(), "{flood}");
        assert!(begun.elapsed() < Duration::from_secs(40), "{flood}: {:?}", begun.elapsed());
    }
    // As much as there may be.
    let most = format!("#!/bin/sh\nprintf '%-65536s' {answer}\n");
    world.write_file("/etc/nunbird/validate", most, "root", 0o755);
    let admitted = world.job().config();
    assert_eq!(admitted.exit, Exit::Code(0), "{}", admitted.log);
    assert_eq!(world.audit().last().expect("a line")["account"], "ada");
}
