//! Variables of a job that go to its batch scheduler. No scheduler is needed: what they are is judged before one is called,
//! and a host with Slurm's commands but no controller would be asked for minutes.

use nunbird_tests::{Exit, Privilege, World, needs};

const NAMES: [&str; 4] = ["SCHEDULER_JOB_PREFIX", "SCHEDULER_SIGNAL", "COPY_SCHEDULER_LOGS", "SITE_ARGS"];

#[needs(root, in_each = [Privilege::Setuid, Privilege::None])]
fn a_variable_of_more_than_sixteen_kibibytes_is_denied_and_clean_up_goes_on_without_it(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure(
        "[job]\n",
        "[batch]\nscheduler_bin = \"/opt/no-scheduler\"\narguments_variables = [\"SITE_ARGS\"]\n\n[job]\nexecutor = \"slurm\"\n",
    );
    for name in NAMES {
        for (length, denied) in [(16 << 10, false), ((16 << 10) + 1, true)] {
            let job = world.job().variable(name, &"x".repeat(length));
            let mut session = job.begin();
            let config = session.config();
            assert!(config.succeeded(), "{privilege:?}, {name}: {}", config.log);
            for outcome in [session.prepare(), session.run_text("build_script", "echo it runs")] {
                let seen = format!("{privilege:?}, {name}, {length}: {}", outcome.log);
                assert_eq!(
                    outcome.log.contains("a variable of this job is too long [variable]"),
                    denied,
                    "{seen}"
                );
                if denied {
                    assert_eq!(outcome.exit, Exit::Code(1), "{seen}");
                    assert!(!outcome.stdout.contains("it runs"), "{seen}");
                    let event = world.audit().pop().expect("an event");
                    let detail = event["detail"].as_str().unwrap_or_default();
                    assert!(detail.contains(name) && detail.contains("16384 bytes"), "{seen}: {detail}");
                }
            }
            let cleanup = session.cleanup();
            assert!(!cleanup.log.contains("[variable]"), "{privilege:?}, {name}: {}", cleanup.log);
        }
    }
}
