//! Files that others could have written, and destinations that cannot be written: each is refused.

use nunbird_tests::needs;
use nunbird_tests::runner::{Job, StageOutcome};
use nunbird_tests::world::enter::Mount;
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.refresh_keys().success();
    world
}

/// Asserts a system failure with this code, and that the audit line holds `why` and the job log does not.
#[track_caller]
fn assert_system(world: &World, outcome: &StageOutcome, code: &str, why: &str) {
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains(&format!("[{code}]")), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    let audit = world.audit();
    let line = audit.last().expect("a line in the audit file");
    assert_eq!(line["code"], code);
    let detail = line["detail"].as_str().expect("a detail");
    assert!(detail.contains(why), "{why}: {detail}");
    assert!(!outcome.stderr.contains(why), "{}", outcome.stderr);
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_configuration_that_others_can_write_or_own_or_link_is_refused(privilege: Privilege) {
    let world = ready(privilege);
    let file = world.host_path("/etc/nunbird/config.toml");
    let refused = |why: &str| assert_system(&world, &world.job().config(), "configuration-file", why);
    for mode in [0o664, 0o646] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a mode");
        refused("writable by others");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
    assert_eq!(world.job().config().exit, Exit::Code(0), "root's alone is fine in every privilege mode");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("a mode");
    // The last is who root is in a user namespace that has no root.
    for uid in [4001, 65_534] {
        chown(&file, Some(uid), None).expect("an owner");
        refused(&format!("owned by uid {uid}"));
    }
    chown(&file, Some(0), None).expect("an owner");
    let directory = world.host_path("/etc/nunbird");
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("a mode");
    refused("writable by others");
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(&file, directory.join("real.toml")).expect("a rename");
    refused("No such file");
    symlink("real.toml", &file).expect("a link");
    refused("symbolic link");
}

#[needs(root)]
fn a_configuration_with_an_unknown_key_denies_every_job_and_the_admin_reads_where() {
    let world = ready(Privilege::Setuid);
    world.reconfigure("audience", "audiance");
    let outcome = world.job().config();
    assert_system(&world, &outcome, "configuration-invalid", "write `audience`");
    let shown = world.job().commands(|c| c.config.insert(0, "-u".into())).config();
    assert!(shown.stderr.contains("config.toml:7:1"), "{}", shown.stderr);
    for text in ["", "[[gitlab", "x = \u{fffd}", "\u{feff}downscope = \"none\""] {
        world.configure(text);
        assert_eq!(world.job().config().exit, Exit::Code(2), "{text}");
    }
}

#[needs(root, in_each = Privilege::OF_FILE)]
fn a_taken_over_runner_cannot_bring_a_configuration_of_its_own(privilege: Privilege) {
    let world = ready(privilege);
    let own = world.runner().home.clone() + "/own.toml";
    world.write_file(&own, world.configuration(), "nbt_runner", 0o644);
    let home = world.host_path(&world.runner().home);
    fs::set_permissions(home, Permissions::from_mode(0o755)).expect("a mode");
    let with = |file: &str| {
        let file = file.to_owned();
        world
            .job()
            .commands(move |c| c.config = vec!["config".into(), "--configuration".into(), file.into()])
            .config()
    };
    assert_system(&world, &with(&own), "configuration-file", "is not listed");
    // Root's files are no better: a backup may contain an older policy, and a finding would quote a
    // secret.
    let laxer = world.configuration().replace("run_as = \"$user_login\"", "run_as = \"bob\"");
    for file in ["/etc/nunbird/config.toml.rpmsave", "/opt/config.toml"] {
        world.write_file(file, &laxer, "root", 0o600);
        assert_system(&world, &with(file), "configuration-file", "is not listed");
    }
    let secret = world.job().commands(|c| {
        c.config = ["-u", "config", "--configuration", "/etc/shadow"].map(Into::into).to_vec();
    });
    let shown = secret.config();
    assert!(!shown.log.contains("20000") && shown.log.contains("is not listed"), "{}", shown.log);
    // If root lists a file, it becomes one of the site's; it is checked like the default one.
    world.write_file("/etc/nunbird/configurations", format!("/opt/config.toml\n{own}\n"), "root", 0o644);
    assert_eq!(with("/opt/config.toml").exit, Exit::Code(0));
    assert_system(&world, &with(&own), "configuration-file", "owned by uid 4001");
    world.write_file(&own, world.configuration(), "root", 0o644);
    assert_system(&world, &with(&own), "configuration-file", "owned by uid 4001");
    for path in
        ["own.toml", "../own.toml", "/etc/nunbird/../nunbird/config.toml", "/dev/stdin", "/proc/self/environ"]
    {
        assert_eq!(with(path).exit, Exit::Code(2), "{path}");
    }
}

#[needs(root)]
fn a_job_response_that_is_not_a_plain_file_of_the_runner_is_refused() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    let file = session.response_file();
    let content = fs::read(&file).expect("a response");
    let refused = |session: &mut nunbird_tests::runner::Session<'_>, why: &str| {
        let outcome = session.config();
        assert_system(&world, &outcome, "response-file", why);
    };
    fs::remove_file(&file).expect("removed");
    refused(&mut session, "No such file");
    symlink("/etc/hostname", &file).expect("a link");
    refused(&mut session, "symbolic");
    fs::remove_file(&file).expect("removed");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    chown(&file, Some(4001), None).expect("an owner");
    refused(&mut session, "Invalid argument");
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("a directory");
    chown(&file, Some(4001), None).expect("an owner");
    refused(&mut session, "Invalid argument");
    fs::remove_dir(&file).expect("removed");
    fs::write(&file, &content).expect("a response");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("a mode");
    chown(&file, Some(4102), None).expect("an owner");
    refused(&mut session, "not permitted");
    let mut huge = content.clone();
    huge.resize(17 << 20, b' ');
    session.write(&file, &huge, 0o600);
    refused(&mut session, "larger than");
    session.write(&file, &content, 0o600);
    assert_eq!(session.config().exit, Exit::Code(0));
}

#[needs(root, in_each = Privilege::OF_FILE)]
fn the_program_reads_no_file_that_its_caller_could_not_read(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    for path in ["/etc/shadow", "/home/bob/secret", "/var/lib/nunbird/jobs/.lock-4001"] {
        if path == "/home/bob/secret" {
            world.write_file(path, "echo stolen\n", "bob", 0o600);
        }
        let mut spec = session.spec_of_run(path.as_ref(), "build_script");
        let outcome = session.call_spec("build_script", &spec);
        assert_eq!(outcome.exit, Exit::Code(2), "{path}: {}", outcome.log);
        assert!(outcome.stderr.contains("[script]") && !outcome.log.contains("stolen"), "{}", outcome.log);
        for (name, value) in &mut spec.environment {
            if name == "BUILD_EXIT_CODE_FILE" {
                *value = path.into();
            }
        }
        let before = fs::read(world.host_path(path)).ok();
        let outcome = session.call_spec("build_script", &spec);
        assert!(outcome.stderr.contains("[exit-code-file]"), "{path}: {}", outcome.log);
        assert_eq!(fs::read(world.host_path(path)).ok(), before, "{path} is as it was");
    }
}

#[needs(root)]
fn keys_that_are_missing_stale_or_another_accounts_are_not_used() {
    let mut world = ready(Privilege::Setuid);
    let file = world.host_path("/var/lib/nunbird/keys/site.json");
    let good = fs::read(&file).expect("keys");
    let no_keys = |world: &World, why: &str| assert_system(world, &world.job().config(), "no-keys", why);
    world.issuer_mut().go_down();
    world.allow_refresh();
    fs::remove_file(&file).expect("removed");
    no_keys(&world, "No such file");
    fs::write(&file, &good).expect("keys");
    chown(&file, Some(4001), Some(4001)).expect("an owner");
    no_keys(&world, "owned by uid 4001");
    chown(&file, Some(990), Some(990)).expect("an owner");
    fs::set_permissions(&file, Permissions::from_mode(0o666)).expect("a mode");
    no_keys(&world, "writable by others");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("a mode");
    fs::write(&file, b"{\"version\":1").expect("keys");
    no_keys(&world, "keys of site");
    let mut stale: serde_json::Value = serde_json::from_slice(&good).expect("JSON");
    for key in stale["keys"].as_array_mut().expect("keys") {
        key["last_seen"] = json!(1);
    }
    fs::write(&file, stale.to_string()).expect("keys");
    // Whether it is a new one is unknown while the server does not respond.
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[token-unknown-key]"), "{}", outcome.stderr);
    world.reconfigure("audience =", "user_check = \"off\"\naudience =");
    // Two days, unless the site says otherwise.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    for (hours, code) in [(47, 0), (49, 2)] {
        for key in stale["keys"].as_array_mut().expect("keys") {
            key["last_seen"] = json!(now - hours * 3600);
        }
        fs::write(&file, stale.to_string()).expect("keys");
        let outcome = world.job().id(7000 + hours).config();
        assert_eq!(outcome.exit, Exit::Code(code), "{hours} hours: {}", outcome.log);
    }
    fs::write(&file, &good).expect("keys");
    assert_eq!(world.job().config().exit, Exit::Code(0), "known keys work while the server is down");
}

#[needs(root)]
fn a_taken_over_runner_cannot_bring_keys_of_its_own() {
    let world = ready(Privilege::Setuid);
    let keys = world.host_path("/var/lib/nunbird/keys");
    chown(&keys, Some(4001), Some(4001)).expect("an owner");
    assert_system(&world, &world.job().config(), "no-keys", "belongs to the runner's account");
}

#[needs(root)]
fn what_lies_where_everybody_can_make_files_is_not_trusted_and_the_directory_is_named() {
    let world = ready(Privilege::Setuid);
    let plain = world.configuration();
    let shared = world.host_path("/tmp/shared");
    fs::create_dir(&shared).expect("a directory");
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).expect("a mode");
    // The first to create the name owns it: here a user, with keys of their own.
    let keys = shared.join("keys");
    fs::create_dir(&keys).expect("a directory");
    let own = world.host_path("/var/lib/nunbird/keys/site.json");
    fs::copy(own, keys.join("site.json")).expect("keys");
    for path in [&keys, &keys.join("site.json")] {
        chown(path, Some(4102), Some(4102)).expect("an owner");
    }
    world.reconfigure("\"/var/lib/nunbird/keys\"", "\"/tmp/shared/keys\"");
    assert_system(&world, &world.job().config(), "no-keys", "/tmp/shared: others can make files in it");
    world.configure(&plain);
    let launcher = world.host_path("/opt/nunbird/bin/nunbird");
    fs::copy(&launcher, shared.join("nunbird")).expect("a program");
    world.reconfigure("/opt/nunbird/bin/nunbird\"", "/tmp/shared/nunbird\"");
    // `nunbird-keys` is looked for beside the launcher, and asks the server about the job's user.
    fs::copy(world.host_path("/opt/nunbird/bin/nunbird-keys"), shared.join("nunbird-keys"))
        .expect("a program");
    assert_system(&world, &world.job().config(), "user-check", "/tmp/shared: others can make files in it");
    world.reconfigure("audience =", "user_check = \"off\"\naudience =");
    let job = world.job();
    let mut session = job.begin();
    let outcome = session.config();
    assert!(outcome.succeeded(), "{}", outcome.log);
    assert_system(&world, &session.prepare(), "launcher", "/tmp/shared: others can make files in it");
    world.configure(&plain);
    fs::copy(world.host_path(&world.paths().ca_file), shared.join("ca.pem")).expect("authorities");
    world.reconfigure(&format!("\"{}\"", world.paths().ca_file.display()), "\"/tmp/shared/ca.pem\"");
    fs::remove_file(world.host_path("/var/lib/nunbird/keys/site.json")).expect("no keys");
    world.allow_refresh();
    assert_system(&world, &world.job().config(), "no-keys", "/tmp/shared: others can make files in it");
}

#[needs(root)]
fn a_record_store_that_others_can_enter_is_refused() {
    let world = ready(Privilege::Setuid);
    let jobs = world.host_path("/var/lib/nunbird/jobs");
    fs::set_permissions(&jobs, Permissions::from_mode(0o755)).expect("a mode");
    assert_system(&world, &world.job().config(), "record-store", "mode 0755");
    fs::set_permissions(&jobs, Permissions::from_mode(0o700)).expect("a mode");
    chown(&jobs, Some(4001), None).expect("an owner");
    assert_system(&world, &world.job().config(), "record-store", "cannot be opened");
    fs::set_permissions(&jobs, Permissions::from_mode(0o755)).expect("a mode");
    assert_system(&world, &world.job().config(), "record-store", "owned by uid 4001");
}

#[needs(root)]
fn a_job_directory_that_others_can_enter_or_own_is_refused() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    let directory = session.directory().to_path_buf();
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("a mode");
    assert_system(&world, &session.config(), "job-directory", "not a private directory");
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).expect("a mode");
    assert!(session.config().succeeded());
    let mut spec = session.spec_of_config();
    for (name, value) in &mut spec.environment {
        if name == "JOB_RESPONSE_FILE" {
            *value = "relative/response.json".into();
        }
    }
    assert_eq!(session.call_spec("config", &spec).exit, Exit::Code(2));
    spec.environment.retain(|(name, _)| name != "JOB_RESPONSE_FILE");
    assert_eq!(session.call_spec("config", &spec).exit, Exit::Code(2));
}

/// `config` with a full file system over a path.
fn config_with_full(job: &Job<'_>, place: &str) -> StageOutcome {
    let mut session = job.begin();
    let mut spec = session.spec_of_config();
    spec.mounts.as_mut().expect("a namespace").push(Mount::Full { target: place.into() });
    session.call_spec("config", &spec)
}

#[needs(root)]
fn a_job_whose_decision_or_record_cannot_be_written_does_not_run() {
    let world = ready(Privilege::Setuid);
    let outcome = config_with_full(&world.job(), "/var/log/nunbird");
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[audit]"), "{}", outcome.stderr);
    assert!(world.records().is_empty());
    let outcome = config_with_full(&world.job(), "/var/lib/nunbird/jobs");
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[record-store]"), "{}", outcome.stderr);
    fs::remove_dir_all(world.host_path("/var/log/nunbird")).expect("removed");
    let outcome = world.job().config();
    assert!(outcome.stderr.contains("[audit]"), "{}", outcome.stderr);
}

#[needs(root)]
fn a_home_that_is_missing_full_or_somebody_elses_is_reported_in_prepare() {
    let world = ready(Privilege::Setuid);
    let prepared = |user: &str, full: bool| {
        let job = world.job().user(user);
        let mut session = job.begin();
        assert!(session.config().succeeded());
        if !full {
            return session.prepare();
        }
        let mut spec = session.spec_of_config();
        spec.arguments = vec!["prepare".into()];
        let home = Mount::Full { target: "/home/alice".into() };
        spec.mounts.as_mut().expect("a namespace").push(home);
        session.call_spec("prepare", &spec)
    };
    let outcome = prepared("homeless", false);
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.log.contains("/home/homeless"), "{}", outcome.log);
    let outcome = prepared("alice", true);
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    chown(world.host_path("/home/bob"), Some(0), Some(0)).expect("an owner");
    let outcome = prepared("bob", false);
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.log.contains("/home/bob"), "{}", outcome.log);
}

#[needs(root)]
fn a_special_file_is_refused_without_being_opened() {
    let world = ready(Privilege::RootRunner);
    let fifo = world.host_path("/etc/nunbird/config.toml");
    fs::remove_file(&fifo).expect("removed");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
    let opened_meanwhile = std::thread::scope(|scope| {
        let call = scope.spawn(|| world.job().config());
        let mut opened = false;
        while !call.is_finished() {
            // Succeeds only while somebody holds the reading end.
            opened |= nix::fcntl::open(&fifo, flags, nix::sys::stat::Mode::empty()).is_ok();
        }
        assert_eq!(call.join().expect("a call").exit, Exit::Code(2));
        opened
    });
    assert!(!opened_meanwhile, "opening a device acts on it");
}

#[needs(root)]
fn an_audit_line_is_bounded_clean_and_never_joined_to_half_a_line() {
    let world = ready(Privilege::Setuid);
    let file = world.host_path("/var/log/nunbird/audit.jsonl");
    fs::write(&file, "{\"half\":").expect("a file");
    let long = format!("/etc/{}\u{202e}\u{9b}x", "y".repeat(100_000));
    let job =
        world.job().commands(|c| c.config = vec!["config".into(), "--configuration".into(), long.into()]);
    assert_eq!(job.config().exit, Exit::Code(2));
    let text = fs::read_to_string(&file).expect("the audit file");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    serde_json::from_str::<serde_json::Value>(lines[1]).expect("a whole line");
    assert!(lines[1].len() <= 32 << 10 && !text.contains('\u{202e}') && !text.contains('\u{9b}'));
    fs::remove_file(&file).expect("removed");
    fs::write(&file, "").expect("a file");
    chown(&file, Some(4102), None).expect("an owner");
    let outcome = world.job().config();
    assert!(outcome.stderr.contains("[audit]"), "somebody else's file is not written: {}", outcome.log);
}
