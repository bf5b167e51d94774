//! What a package does to jobs that run: upgrade, downgrade and removal on a booted host, as docs/upgrading.md has it; and the admin
//! guide's first hour.

use nunbird_tests::host::debian_tree;
use nunbird_tests::{Exit, Host, Session, needs};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const INSTALLED: [&str; 2] = ["/opt/nunbird/bin/nunbird", "/opt/nunbird/bin/nunbird-auth"];

/// Runs a stage that waits, and `act` while it does, with the executable files of Nunbird's processes as they were before.
fn during(host: &Host, session: &mut Session<'_>, stage: &str, act: impl FnOnce(&[PathBuf])) {
    let home = host.world().host_path("/home/alice");
    let (busy, go) = (home.join("busy"), home.join("go"));
    for file in [&busy, &go] {
        let _ = fs::remove_file(file);
    }
    let script = "touch ~/busy; while [ ! -e ~/go ]; do sleep 0.05; done; echo \"ended as $(id -un)\"";
    std::thread::scope(|scope| {
        let call = scope.spawn(|| session.run_text(stage, script));
        assert!(host.wait_until(|_| busy.exists()));
        act(&executables(host));
        fs::write(&go, "").expect("a file");
        let outcome = call.join().expect("a stage");
        assert!(outcome.succeeded() && outcome.log.contains("ended as alice"), "{stage}: {}", outcome.log);
    });
}

/// The executable files of all processes of the host that are Nunbird's, as the kernel names them.
fn executables(host: &Host) -> Vec<PathBuf> {
    let links =
        host.processes().into_iter().filter_map(|p| fs::read_link(format!("/proc/{}/exe", p.pid)).ok());
    links.filter(|path| path.to_string_lossy().contains("/opt/nunbird/bin/")).collect()
}

fn is_deleted(path: &Path) -> bool {
    path.to_string_lossy().ends_with(" (deleted)")
}

fn inodes(host: &Host) -> Vec<u64> {
    INSTALLED
        .iter()
        .map(|path| fs::metadata(host.world().host_path(path)).expect("a program").ino())
        .collect()
}

#[needs(host)]
fn a_job_that_runs_goes_on_through_an_upgrade_and_a_downgrade() {
    let host = Host::boot();
    host.world().write_keys();
    let configuration =
        fs::read(host.world().host_path("/etc/nunbird/config.toml")).expect("a configuration");
    let (old, new) = (host.package(1), host.package(2));
    let job = host.world().job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    for (stage, command, release) in [
        ("build_script", format!("rpm --upgrade --nodeps --nosignature {new}"), "2"),
        ("after_script", format!("rpm --upgrade --oldpackage --nodeps --nosignature {old}"), "1"),
    ] {
        // Those that run keep their inodes, so that no new file has one of them.
        let first = inodes(&host);
        during(&host, &mut session, stage, |before| {
            assert!(!before.is_empty() && !before.iter().any(|path| is_deleted(path)), "{before:?}");
            host.root(&command).success();
            let after = executables(&host);
            assert_eq!(after.len(), before.len(), "{after:?}");
            assert!(after.iter().all(|path| is_deleted(path)), "the old programs run: {after:?}");
        });
        assert_eq!(host.root("rpm --query --queryformat '%{RELEASE}' nunbird").success(), release);
        assert_ne!(inodes(&host), first);
        assert_eq!(
            host.root("stat -c %a:%G /opt/nunbird/bin/nunbird-auth").success().trim(),
            "4750:gitlab-runner"
        );
    }
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    assert!(host.world().records().is_empty());
    assert!(host.wait_until(|host| host.processes_of("alice").is_empty()));
    let now = fs::read(host.world().host_path("/etc/nunbird/config.toml")).expect("a configuration");
    assert!(now == configuration, "the site's configuration was changed");
    assert_eq!(
        host.root("systemctl is-enabled nunbird-keys.timer nunbird-sweep.timer").success(),
        "enabled\nenabled"
    );
    host.world().job().id(7002).script("id -un").run().expect_success();
}

/// The first field of a record is the number of its format, so that of a release with another one is read as this is.
#[needs(host)]
fn a_job_of_a_version_with_other_records_is_kept_for_that_version() {
    let host = Host::boot();
    host.world().write_keys();
    let job = host.world().job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    assert!(session.run_text("build_script", "setsid sleep 300 </dev/null >/dev/null 2>&1 &").succeeded());
    let record = host.world().records().pop().expect("a record");
    let genuine = fs::read(&record).expect("a record");
    let mut other = genuine.clone();
    let number = other[..4].iter_mut().find(|byte| **byte != 0).expect("a number");
    *number += 1;
    fs::write(&record, &other).expect("a record");

    for refused in [session.run_text("after_script", "id"), session.cleanup()] {
        assert_eq!(refused.exit, Exit::Code(2), "{}", refused.log);
        let words = "error: this job's record is of another version of Nunbird, or damaged [record-format]";
        assert!(refused.log.contains(words) && refused.log.contains("run the job again"), "{}", refused.log);
    }
    host.root("nunbirdctl sweep").success();
    assert_eq!(fs::read(&record).expect("the record stays"), other);
    assert!(!host.processes_of("alice").is_empty(), "and so do the job's processes");

    fs::write(&record, &genuine).expect("a record");
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    assert!(host.wait_until(|host| host.processes_of("alice").is_empty()));
    assert!(host.world().records().is_empty());
}

#[needs(host)]
fn after_a_removal_nothing_has_privilege_and_an_installation_cleans_up_after_the_job() {
    let host = Host::boot();
    host.world().write_keys();
    let job = host.world().job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    during(&host, &mut session, "build_script", |_| {
        host.root("rpm --erase nunbird").success();
    });
    let late = session.run_text("after_script", "id");
    assert!(!late.succeeded(), "{}", late.log);
    assert_eq!(host.root("find / -xdev -name '*nunbird*' -perm /6000; getcap -r /opt /usr").success(), "");
    let timers = host.root("systemctl is-active nunbird-keys.timer nunbird-sweep.timer").stdout;
    assert_eq!(timers, "inactive\ninactive\n");
    assert_eq!(host.world().records().len(), 1, "the record of the job stays");

    host.root(&format!("rpm --install --nodeps --nosignature {}", host.package(1))).success();
    host.root("cp /etc/nunbird/config.toml.rpmsave /etc/nunbird/config.toml").success();
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    assert!(host.world().records().is_empty());
}

/// The guide's own commands and files, on a host of their own.
#[needs(host)]
fn the_admin_guides_first_hour_takes_less_than_five_minutes() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let programs = std::env::var_os("NUNBIRD_BIN_DIR").expect("NUNBIRD_BIN_DIR, which make sets");
    let mut command = Command::new(tree.join("packaging/first-hour.sh"));
    command.arg(programs).env("NUNBIRD_BOOTED_TREE", debian_tree()).stdin(Stdio::null());
    let output = command.output().expect("a shell script");
    let (log, trouble) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && log.contains("of 300 that are allowed"), "{log}{trouble}");
}
