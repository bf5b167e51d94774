//! A whole job through the installed programs whose script runs in a container: the policy chooses
//! it, the privileged program knows nothing of it, and the job's user makes and removes it.

use nunbird_tests::{Privilege, Status, World, needs};
use std::fs;

fn site(privilege: Privilege, more: &str) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("[job]\n", "[job]\ncontainer = \"view\"\n");
    let text = world.configuration();
    world.configure(&format!("{text}\n[container.view]\nengine = \"bwrap\"\n{more}"));
    world
}

/// What jobs have left in the places for runtime directories.
fn left(world: &World) -> Vec<String> {
    let names = |directory: &str| {
        let entries = fs::read_dir(world.host_path(directory)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let all = ["/tmp", "/var/tmp"].map(names).concat();
    all.into_iter().filter(|name| name.starts_with("nb-") || name.starts_with("nbt_mark")).collect()
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_runs_in_its_container_from_clone_to_artifact_in_every_mode(privilege: Privilege) {
    let world = site(privilege, "");
    let outcome = world
        .job()
        .script(
            "id -un; cat data/lattice.txt; cat \"$KEY\"; ls \"$HOME\" | wc -l; touch /tmp/nbt_mark; touch /usr/x 2>/dev/null || echo read-only; \
             cat </dev/stdin; cp \"$KEY\" out.txt",
        )
        .file_variable("KEY", "the key\n")
        .after_script("ls /tmp; echo \"after as $(id -un), $CI_JOB_STATUS\"")
        .artifact("out.txt")
        .run()
        .expect_success();
    let log = outcome.log();
    for words in [
        "in a container of Bubblewrap\n",
        "\nalice\n4 4 4 8\nthe key\n0\n",
        "read-only\n",
        "\nnbt_mark\n",
        "after as alice, success\n",
        "201 Created  id=7001",
    ] {
        assert!(log.contains(words), "{privilege:?}: no {words:?} in\n{log}");
    }
    assert_eq!(left(&world), [""; 0], "{privilege:?}");
    assert!(
        !world.host_path("/home/alice/.nunbird/containers").read_dir().is_ok_and(|mut d| d.next().is_some())
    );
    assert!(world.records().is_empty());
    let audit = world.audit();
    let admitted = audit.iter().find(|line| line["outcome"] == "admitted").expect("an admission");
    assert_eq!((&admitted["container"], &admitted["container_engine"]), (&"view".into(), &"bwrap".into()));
}

#[needs(root)]
fn the_exit_code_of_a_script_in_a_container_reaches_the_runner_exactly() {
    let world = site(Privilege::Setuid, "");
    for code in [1, 2, 125, 127, 137, 255] {
        world.job().script(&format!("exit {code}")).run().expect(&Status::script_failure(code));
    }
}

#[needs(root)]
fn a_container_is_the_same_where_setuid_programs_have_no_effect() {
    let world = site(Privilege::Setuid, "");
    world.reconfigure(
        "[job]\n",
        "[job]\nno_new_privileges = true\nblock_tty_injection = true\nlimit_setuid = true\n",
    );
    let outcome = world.job().script("grep NoNewPrivs /proc/self/status; id -u").run().expect_success();
    assert!(outcome.log().contains("NoNewPrivs:\t1\n4101\n"), "{}", outcome.log());
}

#[needs(root)]
fn an_engine_that_is_not_installed_is_named_before_the_script() {
    let world = site(Privilege::Setuid, "program = \"/opt/nothing/bwrap\"\n");
    let outcome = world.job().script("echo never").run();
    let prepare = outcome.stage("prepare");
    assert!(!prepare.succeeded() && prepare.log.contains("/opt/nothing/bwrap"), "{}", prepare.log);
}
