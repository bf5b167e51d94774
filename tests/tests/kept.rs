//! What a failed script leaves, kept for a time: `keep` of the configuration, and `NUNBIRD_KEEP` of a job.

use crate::sweep::{action, items, sweep};
use nunbird_tests::needs;
use nunbird_tests::runner::{Cancel, Session, StageOutcome};
use nunbird_tests::world::{Exit, Finished, Privilege, World, copy_executable, under_test};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

fn world_with(privilege: Privilege, directories: &str) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("[audit]", &format!("[directories]\n{directories}\n\n[audit]"));
    let bin = world.host_path(&world.paths().bin);
    copy_executable(&under_test("nunbird-exec"), &bin.join("nunbird-exec"));
    world
}

/// This host's directory of alice's builds.
fn builds(world: &World) -> PathBuf {
    let builds = world.host_path("/home/alice/.nunbird/builds");
    fs::read_dir(builds).expect("builds").flatten().next().expect("this host's").path()
}

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(builds(world))
        .expect("builds")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

/// The job, with sources and a file variable, up to the end of this script.
fn until_script(session: &mut Session<'_>, script: &str) -> StageOutcome {
    assert!(session.config().succeeded() && session.prepare().succeeded());
    assert!(session.stage("get_sources").succeeded());
    session.run_text("build_script", script)
}

/// As if the time of a kept directory were over.
fn end_time(world: &World, name: &str) {
    let note = builds(world).join(format!(".{name}.job"));
    let mut value: Value = serde_json::from_slice(&fs::read(&note).expect("a note")).expect("JSON");
    assert!(value["kept"].as_u64().is_some_and(|until| until > nunbird_tests::issuer::now()), "{value}");
    value["kept"] = Value::from(nunbird_tests::issuer::now() - 1);
    fs::write(note, value.to_string()).expect("written");
}

fn enter(world: &World, account: &str, words: &str, keys: &str) -> Finished {
    let program = world.paths().bin.join("nunbird");
    world.shell(account, &format!("printf '{keys}' | {} exec enter {words}", program.display()))
}

#[needs(root, in_each = Privilege::ALL)]
fn what_a_failed_script_leaves_is_kept_for_its_owner_until_its_time_is_over(privilege: Privilege) {
    let world = world_with(privilege, "keep = \"30m\"");
    let job = world.job().with_repository().file_variable("KEY", "the key\n").variable("NUNBIRD_KEEP", "20m");
    let mut session = job.begin();
    let failed = until_script(
        &mut session,
        "cd ~/.nunbird/builds/*/site-*/physics/lattice; git config remote.origin.url https://gitlab-ci-token:hidden@x/y.git; \
         echo made >made; setsid sleep 3223 </dev/null >/dev/null 2>&1 & exit 3",
    );
    assert_eq!(failed.exit, Exit::Code(1), "{}", failed.log);
    let said = failed.log.lines().find(|line| line.contains("the files of this job stay for 20 min, until "));
    let said = said.unwrap_or_else(|| panic!("{privilege:?}: {}", failed.log)).to_owned();
    let place = builds(&world);
    let name = names(&world).into_iter().find(|name| name.starts_with("site-")).expect("its own directory");
    let path = said.rsplit(' ').next().expect("a path").to_owned();
    assert!(
        said.contains(&format!(
            ", as alice: {}/nunbird exec enter /home/alice/.nunbird/builds/",
            world.paths().bin.display()
        )) && path.ends_with(&name),
        "no link in /usr/bin leads to this launcher: {said}"
    );
    assert!(
        enter(&world, "alice", &path, "").stderr.contains("is no directory that was kept"),
        "the job runs"
    );
    assert!(session.cleanup().succeeded());

    // Nothing of it runs, and no credential is left.
    let running = world.shell("root", "for p in /proc/[0-9]*; do tr '\\\\0' ' ' <$p/cmdline 2>/dev/null; echo; done | grep -c '^sleep 3223' || :");
    assert_eq!(running.stdout.trim(), "0", "{privilege:?}");
    assert_eq!(
        names(&world),
        [format!(".{name}.job"), format!(".{name}.kept"), name.clone()],
        "{privilege:?}"
    );
    let note = place.join(format!(".{name}.kept"));
    let meta = note.metadata().expect("a note");
    assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o600, 4101), "{privilege:?}");
    let found = world.shell("root", "grep -rlE 'the key|gitlab-ci-token|eyJ' /home/alice/.nunbird || :");
    assert_eq!(found.stdout, "", "{privilege:?}");

    // The owner enters, and nobody else.
    let list = enter(&world, "alice", "--list", "");
    assert!(
        list.stdout.contains(&name) && list.stdout.contains("failed") && list.stdout.contains(" min "),
        "{}{}",
        list.stdout,
        list.stderr
    );
    let inside = enter(
        &world,
        "alice",
        &path,
        "cat made; echo \"[$CI_JOB_STATUS] [$CI_PROJECT_PATH] [$CI_JOB_TOKEN$KEY]\"; id -un; \
         echo prompts $(wc -l <$(ls ~/.nunbird/builds/*/.*.kept))\\n",
    );
    assert_eq!(inside.exit, Exit::Code(0), "{}{}", inside.stdout, inside.stderr);
    assert!(
        inside.stdout.contains("made\n[failed] [physics/lattice] []\nalice\nprompts 1\n"),
        "{}{}",
        inside.stdout,
        inside.stderr
    );
    // A prompt is noted while it is open, so that what a killed one leaves can be ended.
    assert!(!fs::read(&note).expect("a note").contains(&b'\n'), "the prompt has ended");
    assert!(
        inside.stderr.contains("are not set: they may hold secrets") && inside.stderr.contains(" goes in "),
        "{}",
        inside.stderr
    );
    for other in
        ["bob", "nbt_runner"].into_iter().filter(|other| privilege != Privilege::None || *other == "bob")
    {
        let refused =
            enter(&world, other, &format!("--directory /home/alice/.nunbird {path}"), "cat made\\n");
        assert!(
            refused.exit != Exit::Code(0) && !refused.stdout.contains("made"),
            "{privilege:?}: {}",
            refused.stdout
        );
    }
    assert_eq!(
        names(&world),
        [format!(".{name}.job"), format!(".{name}.kept"), name.clone()],
        "a prompt changes nothing"
    );

    // Another job does not use it, and the first after its time removes it, whatever the others are.
    let next = |id| {
        let other = world.job().id(id);
        let mut session = other.begin();
        assert!(session.config().succeeded() && session.prepare().succeeded());
        session.cleanup()
    };
    assert!(next(7100).succeeded());
    assert!(place.join(&name).join("physics/lattice/made").exists(), "{privilege:?}");
    end_time(&world, &name);
    let over = enter(&world, "alice", "--list", "");
    assert!(over.stdout.contains(&name), "it is about to go: {}", over.stdout);
    let last = next(7101);
    assert!(last.log.contains("it is not kept any longer"), "{}", last.log);
    assert_eq!(names(&world), [".000.job", "000"], "{privilege:?}");
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_that_its_time_limit_ends_is_kept_and_one_that_is_cancelled_is_not(privilege: Privilege) {
    let world = world_with(privilege, "keep = \"30m\"");
    for (id, how, timeout, is_kept) in [
        (7401, Cancel::Gracefully, "5", false),
        (7402, Cancel::AtOnce, "3600", false),
        (7403, Cancel::Timeout, "5", true),
    ] {
        let job = world.job().id(id).with_repository().variable("NUNBIRD_KEEP", "30m");
        let job =
            job.variable("CI_JOB_TIMEOUT", timeout).script("echo made >made; echo wait''ing; sleep 3224");
        let log = job.cancel_when("build_script", "waiting", how).run().log();
        let said = log
            .lines()
            .find(|line| line.contains("if the job's time was over, its files stay for 30 min; on "));
        let path =
            said.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("{privilege:?}: {log}"));
        let left = names(&world);
        assert_eq!(left.contains(&format!("site-{id}")), is_kept, "{privilege:?} {id}: {left:?}\n{log}");
        if is_kept {
            let inside = enter(&world, "alice", path, "cat made; echo \"[$CI_JOB_STATUS]\"\\n");
            assert!(inside.stdout.contains("made\n[failed]\n"), "{}{}", inside.stdout, inside.stderr);
        }
    }
}

#[needs(root, in_each = Privilege::ALL)]
fn a_kept_job_of_a_container_is_entered_in_a_new_container(privilege: Privilege) {
    let world = world_with(privilege, "keep = \"30m\"");
    world.reconfigure("[job]\n", "[job]\ncontainer = \"view\"\n");
    world.configure(&format!("{}\n[container.view]\nengine = \"bwrap\"\n", world.configuration()));
    world.write_file("/home/alice/own", "", "alice", 0o600);
    let job = world.job().with_repository().variable("NUNBIRD_KEEP", "30m");
    let mut session = job.begin();
    let script = "cd /home/alice/.nunbird/builds/*/site-*/physics/lattice; echo made >made; touch /tmp/nbt_mark; exit 3";
    let failed = until_script(&mut session, script);
    let said = failed.log.lines().find(|line| line.contains("the files of this job stay for 30 min, until "));
    let path = said.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("{}", failed.log));
    assert!(session.cleanup().succeeded());
    let inside = enter(
        &world,
        "alice",
        path,
        "cat made; ls /tmp/nbt_mark || echo new; ls $HOME/own || echo hidden\\n",
    );
    assert!(
        inside.stdout.contains("in a container of Bubblewrap\n")
            && inside.stdout.contains("\nnew\n")
            && inside.stdout.contains("\nhidden\n"),
        "{privilege:?}: the home directory is the container's: {}{}",
        inside.stdout,
        inside.stderr
    );
    assert!(inside.stderr.contains("in a new container without an image"), "{}", inside.stderr);
}

#[needs(root)]
fn the_sweep_removes_what_was_kept_of_people_who_start_no_jobs() {
    for privilege in [Privilege::Setuid, Privilege::FileCaps, Privilege::None] {
        let world = world_with(privilege, "keep = \"30m\"");
        let keeper = if privilege == Privilege::None { "alice" } else { "root" };
        let job = world.job().with_repository().variable("NUNBIRD_KEEP", "30m");
        let mut session = job.begin();
        assert_eq!(until_script(&mut session, "exit 3").exit, Exit::Code(1));
        assert!(session.cleanup().succeeded());
        let name = names(&world).into_iter().find(|name| name.starts_with("site-")).expect("it is kept");
        let early = sweep(&world, keeper, &[]);
        assert_eq!(action(&items(&early), "~alice"), "not looked at", "{}", early.stdout);
        assert!(builds(&world).join(&name).exists());
        end_time(&world, &name);
        let mut words = Vec::new();
        if privilege == Privilege::FileCaps {
            // The site keeps nothing any more, and has no other rule.
            world.reconfigure("keep = \"30m\"\n", "");
            let idle = sweep(&world, keeper, &[]);
            assert!(items(&idle).iter().all(|item| item.0 != "~alice"), "{}", idle.stdout);
            words = vec!["--account", "alice"];
        }
        let done = sweep(&world, keeper, &words);
        assert_eq!(
            action(&items(&done), "~alice"),
            "removed",
            "{privilege:?}: {}{}",
            done.stdout,
            done.stderr
        );
        assert_eq!(names(&world), [] as [&str; 0], "{privilege:?}");
    }
}

#[needs(root)]
fn only_a_script_that_fails_by_itself_is_kept_and_only_where_job_and_site_want_it() {
    let world = world_with(Privilege::Setuid, "keep = \"1h\"");
    let run = |id: u64, variable: Option<&str>, stage: &str, script: &str| {
        let mut job = world.job().id(id).with_repository();
        if let Some(value) = variable {
            job = job.variable("NUNBIRD_KEEP", value);
        }
        let mut session = job.begin();
        assert!(session.config().succeeded() && session.prepare().succeeded());
        assert!(session.stage("get_sources").succeeded());
        let outcome = session.run_text(stage, script);
        assert!(session.cleanup().succeeded());
        (outcome, names(&world))
    };
    for (id, variable, stage, script) in
        [(7201, Some("30m"), "build_script", "true"), (7202, Some("30m"), "after_script", "exit 3")]
    {
        let (outcome, left) = run(id, variable, stage, script);
        assert!(!outcome.log.contains("the files of this job stay"), "{}", outcome.log);
        assert_eq!(left, [] as [&str; 0], "{id}: it had a directory of its own");
    }
    for variable in [None, Some("")] {
        let (outcome, left) = run(7203, variable, "build_script", "exit 3");
        assert!(!outcome.log.contains("the files of this job stay"), "{}", outcome.log);
        assert_eq!(left, [".000.job", "000"], "as ever");
    }
    let (outcome, left) = run(7204, Some("1h"), "step_script", "exit 3");
    assert!(outcome.log.contains("stay for 1 h, until "), "{}", outcome.log);
    assert!(left.contains(&"site-7204".to_owned()), "{left:?}");

    for (value, why) in [
        ("61m", "asks for 61m, and this site keeps files for 1m to 1h"),
        ("30", "`30`, which is no duration such as `20m`"),
        ("-1m", "which is no duration"),
        ("5s", "keeps files for 1m to 1h"),
        ("20m\u{1b}[31m", "which is no duration"),
    ] {
        let outcome = world.job().id(7300).variable("NUNBIRD_KEEP", value).config();
        assert_eq!(outcome.exit, Exit::Code(1), "{value}: {}", outcome.log);
        assert!(
            outcome.stderr.contains("[variable]") && outcome.stderr.contains(why),
            "{value}: {}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains("write NUNBIRD_KEEP: \"1h\" or less"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains('\u{1b}'), "{}", outcome.stderr);
    }
    world.reconfigure("keep = \"1h\"", "keep = \"1h\"\nuser_builds_dir = true");
    let elsewhere =
        world.job().variable("NUNBIRD_KEEP", "5m").variable("CUSTOM_CI_BUILDS_DIR", "/tmp").config();
    assert!(elsewhere.stderr.contains("NUNBIRD_KEEP has no effect where the user"), "{}", elsewhere.stderr);
    // A site that keeps nothing does not look at the variable.
    world.reconfigure("keep = \"1h\"\n", "");
    let outcome = world.job().variable("NUNBIRD_KEEP", "nonsense").config();
    assert!(outcome.succeeded() && outcome.stdout.contains("/000\""), "{}{}", outcome.stdout, outcome.log);
}
