//! A whole job through the installed programs, with each source of privilege.

use nunbird_tests::{Privilege, RunnerVersion, World, needs};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// gitlab-runner writes what `cleanup` prints on standard error into its log as a warning.
#[needs(root, in_each = Privilege::ALL)]
fn a_good_jobs_clean_up_warns_of_nothing(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    let outcome = world.job().with_repository().file_variable("KEY", "the key\n").run().expect_success();
    let cleanup = outcome.stage("cleanup");
    assert_eq!(cleanup.stderr, "", "{privilege:?}");
    assert!(cleanup.stdout.contains("nunbird: removed "), "{privilege:?}: {}", cleanup.log);
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_runs_as_its_user_from_clone_to_artifact_in_every_mode(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    let outcome = world
        .job()
        .script(
            "id; cat data/lattice.txt; stat -c '%U %a' .; cat \"$KEY\"; stat -c '%U %a' \"$KEY\"\n\
             printf '<%s>' \"$TEXT\"; cp \"$KEY\" out.txt",
        )
        .variable("TEXT", "it's \"$CI_JOB_ID\" größer")
        .file_variable("KEY", "the key\n")
        .after_script("echo \"after as $(id -un), $CI_JOB_STATUS\"")
        .artifact("out.txt")
        .run()
        .expect_success();
    let log = outcome.log();
    for words in [
        "job 7001 of alice (GitLab user 210 on site), project physics/lattice",
        "uid=4101(alice) gid=4101(alice) groups=4101(alice),4200(lattice)\n",
        "\n4 4 4 8\nalice 755\n",
        "the key\nalice 644\n<it's \"7001\" größer>",
        "after as alice, success\n",
        "201 Created  id=7001",
    ] {
        assert!(log.contains(words), "{privilege:?}: no {words:?} in\n{log}");
    }
    assert_eq!(
        outcome.names(),
        [
            "config",
            "prepare",
            "prepare_script",
            "get_sources",
            "build_script",
            "after_script",
            "upload_artifacts_on_success",
            "cleanup_file_variables",
            "cleanup"
        ]
    );
    let data = world.host_path("/home/alice/.nunbird").symlink_metadata().expect("a data directory");
    assert_eq!((data.uid(), data.permissions().mode() & 0o7777), (4101, 0o700), "{privilege:?}");
    assert!(world.host_path(&outcome.project_dir).join("README.md").exists());
    assert!(
        !world.host_path(format!("{}.tmp", outcome.project_dir)).exists(),
        "{privilege:?}: file variables"
    );
    assert!(world.records().is_empty(), "{privilege:?}: {:?}", world.records());
    assert_eq!(world.issuer().artifacts().len(), 1);
    let audit = world.audit();
    let admissions: Vec<_> = audit.iter().filter(|line| line["outcome"] == "admitted").collect();
    let [line] = admissions[..] else { panic!("{privilege:?}: not one admission: {audit:?}") };
    assert_eq!(line["outcome"], "admitted");
    assert_eq!(line["account"], "alice");
    assert_eq!(line["uid"], 4101);
    assert_eq!(line["rule"]["name"], "users as themselves");
    assert_eq!(line["user_login"], "alice");
    assert_eq!(line["privilege"], privilege.audit_name());
    assert_eq!(line["runner_uid"], world.runner().uid);
}

#[needs(root)]
fn a_job_runs_on_every_version_of_the_runner() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    for version in RunnerVersion::ALL {
        let outcome = world.job().version(version).after_script("id -un").run().expect_success();
        assert_eq!(outcome.stage("build_script").stdout.lines().last(), Some("alice"), "{version:?}");
    }
}

#[needs(root)]
fn the_first_job_has_the_keys_fetched_and_the_next_one_does_not() {
    let world = World::new(Privilege::Setuid);
    world.job().run().expect_success();
    world.job().id(7002).run().expect_success();
    assert_eq!(world.issuer().requests(nunbird_tests::issuer::JWKS), 1);
    let keys = world.host_path(world.paths().keys.join("site.json")).symlink_metadata().expect("a keys file");
    assert_eq!((keys.uid(), keys.permissions().mode() & 0o7777), (990, 0o644));
}

#[needs(root, in_each = Privilege::ALL)]
fn the_shell_of_a_job_inherits_nothing_but_what_the_account_and_the_site_give(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("[job]\n", "[job]\nenvironment.SITE = \"hpc\"\n");
    // A runner whose own parent ignored and blocked signals.
    let wrapper = "#!/bin/sh\ntrap '' HUP USR1 TERM\numask 0\nexec /opt/nunbird/bin/nunbird-auth \"$@\"\n";
    world.write_file("/opt/wrapper", wrapper, "root", 0o755);
    let outcome = world
        .job()
        .commands(|c| c.program = "/opt/wrapper".into())
        .script("tr '\\0' '\\n' < /proc/$$/environ | sort | cut -d= -f1 | sed 's/^/env: /'; echo \"path: $PATH\"; ls -l /proc/$$/fd | sed -n 's/.* -> /fd: /p'; umask; grep -E '^(Cap|NoNewPrivs|SigBlk|SigIgn)' /proc/self/status")
        .environment("LD_LIBRARY_PATH", "/evil")
        .environment("BASH_ENV", "/evil/rc")
        .environment("RUNNER_SECRET", "hunter2")
        .variable("LD_PRELOAD_X", "/evil.so")
        .run()
        .expect_success();
    let log = &outcome.stage("build_script").stdout;
    let environment: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("env: ")).collect();
    assert_eq!(
        environment,
        [
            "HOME",
            "LOGNAME",
            "NUNBIRD_DECISION_ID",
            "NUNBIRD_JOB_ID",
            "NUNBIRD_STAGE",
            "PATH",
            "SHELL",
            "SITE",
            "USER"
        ],
        "{privilege:?}\n{log}"
    );
    for line in [
        "0022",
        "path: /usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "SigBlk:\t0000000000000000",
    ] {
        assert!(log.lines().any(|l| l == line), "{privilege:?}: no {line:?} in\n{log}");
    }
    let ignored = log.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("SigIgn:\t")?, 16).ok());
    assert_eq!(ignored, Some(0), "{privilege:?}\n{log}");
    for secret in ["response.json", "memfd:nunbird", "audit", "/var/lib/nunbird"] {
        assert!(
            !log.lines().any(|l| l.starts_with("fd: ") && l.contains(secret)),
            "{privilege:?}: {secret}\n{log}"
        );
    }
}

#[needs(root)]
fn two_jobs_of_one_account_at_once_work_in_different_directories() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let both = std::thread::scope(|scope| {
        let jobs = [7001, 7002].map(|id| {
            let job = world.job().id(id).script(
                "for i in $(seq 100); do test $(ls ../../.. | wc -l) = 2 && break; sleep 0.1; done; pwd",
            );
            scope.spawn(move || job.run())
        });
        jobs.map(|job| job.join().expect("a job"))
    });
    let directories = both.map(|outcome| outcome.expect_success().project_dir);
    assert_ne!(directories[0], directories[1]);
    let third = world.job().id(7003).run().expect_success().project_dir;
    assert!(third.contains("/000/"), "the least free slot comes first: {third}");
}

#[needs(root)]
fn a_job_of_a_fork_runs_for_the_project_that_runs_it() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let outcome = world
        .job()
        .claim("project_id", json!("99"))
        .claim("project_path", json!("bob/lattice"))
        .claim("namespace_path", json!("bob"))
        .run()
        .expect_success();
    assert!(outcome.project_dir.ends_with("/physics/lattice"), "{}", outcome.project_dir);
    assert_eq!(world.audit()[0]["project_path"], "physics/lattice");
}
