//! What is left of a job that has failed in a booted machine, where its files are kept.

use crate::host_machine::{host, nothing_left};
use nunbird_tests::{Status, needs};

#[needs(host)]
fn a_job_that_fails_in_a_machine_is_kept_and_entered_on_the_host() {
    let host = host("");
    let world = host.world();
    world.reconfigure("[audit]", "[directories]\nkeep = \"30m\"\n\n[audit]");
    let outcome = world
        .job()
        .script("echo made >made; touch /in-machine 2>/dev/null || touch /tmp/in-machine; exit 3")
        .variable("NUNBIRD_KEEP", "20m")
        .run()
        .expect(&Status::script_failure(3));
    let log = outcome.log();
    let said = log.lines().find(|line| line.contains("the files of this job stay for 20 min, until "));
    let command = said.and_then(|line| line.split_once(", as alice: ")).unwrap_or_else(|| panic!("{log}")).1;
    nothing_left(&host);
    let entered = host.root(&format!(
        "echo 'cat made; ls /in-machine /tmp/in-machine || echo go''ne; id -un; ps -p 1 -o comm=' | \
         setpriv --reuid alice --regid alice --init-groups env -i HOME=/home/alice PATH=/usr/bin:/bin {command}"
    ));
    let said = format!("{}{}", entered.stdout, entered.stderr);
    assert!(entered.stdout.contains("made\n") && entered.stdout.contains("gone\nalice\n"), "{said}");
    assert!(entered.stderr.contains("this prompt is on this host"), "{said}");
    assert!(entered.stderr.contains("the job's machine has gone with it"), "{said}");
    nothing_left(&host);
}
