//! What `nunbirdctl doctor` finds in an intact installation, and what it finds with one fault.

use nunbird_tests::needs;
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, chown};

const RUNNER: &str = "/etc/gitlab-runner/config.toml";

/// A machine with keys, and with the runner's configuration that the package shows.
fn world(privilege: Privilege) -> World {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    let text = include_str!("../../packaging/gitlab-runner.toml")
        .replace("https://gitlab.example.org", &world.issuer().url());
    world.write_file(RUNNER, text, privilege.runner(), 0o600);
    world
}

/// Every finding, as `severity code message`.
fn doctor(world: &World, account: &str) -> Vec<String> {
    let program = world.paths().bin.join("nunbirdctl");
    let arguments = ["doctor", "--format", "json", "--runner-user", world.privilege().runner()];
    let done = world.run(&world.program(account, program, &arguments));
    let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let findings = answer["findings"].as_array().expect("findings");
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("a text").to_owned();
    let all: Vec<String> = findings
        .iter()
        .map(|f| format!("{} {} {}", text(f, "severity"), text(f, "code"), text(f, "message")))
        .collect();
    let errors = all.iter().any(|finding| finding.starts_with("error"));
    assert_eq!(done.exit, Exit::Code(if errors { 3 } else { 0 }), "{done:?}");
    all
}

/// The errors that the private system causes: its systemd, its kernel and its disk are the host's.
fn errors(world: &World) -> Vec<String> {
    let of_host = ["keys-timer", "runner-unit", "kernel", "space"];
    let mut all = doctor(world, "root");
    all.retain(|f| f.starts_with("error") && !of_host.iter().any(|code| f.split(' ').nth(1) == Some(code)));
    all
}

#[track_caller]
fn assert_one(found: &[String], code: &str, words: &str) {
    let fits = |f: &&String| f.split(' ').nth(1) == Some(code) && f.contains(words);
    assert!(found.iter().any(|f| fits(&f)), "no `{code}` with `{words}`: {found:#?}");
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_good_installation_has_no_errors_however_it_gets_its_privilege(privilege: Privilege) {
    let found = errors(&world(privilege));
    assert!(found.is_empty(), "{privilege:?}: {found:#?}");
}

#[needs(root)]
fn each_thing_that_an_admin_can_get_wrong_with_the_programs_is_found() {
    let world = world(Privilege::Setuid);
    let auth = world.host_path("/opt/nunbird/bin/nunbird-auth");
    let mode = |mode| std::fs::set_permissions(&auth, std::fs::Permissions::from_mode(mode)).expect("a mode");
    mode(0o4755);
    assert_one(&errors(&world), "privilege", "executed by everybody");
    mode(0o4770);
    assert_one(&errors(&world), "program", "writable by others");
    mode(0o6750);
    assert_one(&errors(&world), "privilege", "setgid bit");
    mode(0o750);
    assert_one(&doctor(&world, "root"), "privilege", "neither a setuid bit nor file capabilities");
    chown(&auth, Some(0), Some(0)).expect("an owner");
    mode(0o4750);
    assert_one(&errors(&world), "privilege", "group 0");
    chown(&auth, Some(4102), None).expect("an owner");
    assert_one(&errors(&world), "program", "owned by uid 4102");
    std::fs::remove_file(world.host_path("/opt/nunbird/bin/nunbird-keys")).expect("no program");
    assert_one(&errors(&world), "program", "nunbird-keys: No such file");
}

#[needs(root)]
fn capabilities_other_than_the_two_are_found() {
    let world = world(Privilege::FileCaps);
    let auth = world.host_path("/opt/nunbird/bin/nunbird-auth");
    for (capabilities, found) in [
        ("cap_setuid,cap_setgid,cap_chown=p", true),
        ("cap_setuid=p", true),
        ("cap_setuid,cap_setgid=pi", true),
        ("cap_setuid,cap_setgid=p", false),
    ] {
        let done = std::process::Command::new("/usr/sbin/setcap").arg(capabilities).arg(&auth).status();
        assert!(done.expect("setcap").success());
        let errors = errors(&world);
        assert_eq!(errors.iter().any(|e| e.contains("has the file capabilities")), found, "{errors:?}");
    }
}

#[needs(root)]
fn files_and_directories_that_others_could_have_written_are_found() {
    let world = world(Privilege::Setuid);
    let mode = |path: &str, mode| {
        std::fs::set_permissions(world.host_path(path), std::fs::Permissions::from_mode(mode))
            .expect("a mode");
    };
    mode("/etc/nunbird/config.toml", 0o664);
    assert_one(&errors(&world), "configuration", "writable by others (mode 0664)");
    mode("/etc/nunbird/config.toml", 0o644);
    mode("/etc/nunbird", 0o777);
    assert_one(&errors(&world), "configuration", "/etc/nunbird: writable by others");
    mode("/etc/nunbird", 0o755);
    mode("/var/lib/nunbird/jobs", 0o755);
    assert_one(&errors(&world), "directory", "mode 0755");
    mode("/var/lib/nunbird/jobs", 0o700);
    mode("/var/log/nunbird", 0o777);
    assert_one(&errors(&world), "audit", "/var/log/nunbird: writable by others");
    mode("/var/log/nunbird", 0o755);
    let keys = world.host_path("/var/lib/nunbird/keys");
    chown(keys.join("site.json"), Some(4102), None).expect("an owner");
    assert_one(&errors(&world), "keys", "owned by uid 4102");
    chown(keys.join("site.json"), Some(990), None).expect("an owner");
    chown(&keys, Some(4001), None).expect("an owner");
    assert_one(&errors(&world), "keys", "belongs to `nbt_runner`");
    chown(&keys, Some(990), None).expect("an owner");
    assert!(errors(&world).is_empty());
    world.write_keys_file(&[]);
    assert_one(&errors(&world), "keys", "none of its 0 keys can be used");
    std::fs::remove_dir_all(world.host_path("/var/log/nunbird")).expect("no directory");
    assert_one(&errors(&world), "audit", "no such directory, so no job runs");
}

#[needs(root)]
fn a_configuration_that_this_host_cannot_serve_is_found() {
    let world = world(Privilege::Setuid);
    world.reconfigure(
        "[audit]",
        "[profile.big]\ndata_dir = \"/nowhere/$USER\"\nshell = \"/bin/nosh\"\n\n[validation]\n\
         script = \"/etc/nunbird/validate\"\nuser = \"nobody-here\"\nsha256 = \"00000000000000000000000000000000\
         00000000000000000000000000000000\"\n\n[audit]\njournald = true",
    );
    let rules = "[[rule]]\nname = \"svc\"\nwhen = { local_group = \"no-such-group\" }\nrun_as = \"queue\"\n";
    world.configure(&format!("{}{rules}", world.configuration()));
    world.write_file("/etc/nunbird/validate", "#!/bin/sh\n", "root", 0o644);
    let found = doctor(&world, "root");
    assert_one(&found, "data-dir", "/nowhere: no such directory");
    assert_one(&found, "shell", "/bin/nosh");
    assert_one(&found, "validation", "no account `nobody-here`");
    assert_one(&found, "validation", "its SHA-256 is ");
    assert_one(&found, "validation", "not executable");
    assert_one(&found, "account", "runs jobs as `queue`");
    assert_one(&found, "group", "no group `no-such-group`");
    assert_one(&found, "audit", "journald does not listen");
    std::fs::remove_file(world.host_path("/opt/nunbird/bin/nunbird-validate")).expect("removed");
    assert_one(&doctor(&world, "root"), "program", "/opt/nunbird/bin/nunbird-validate: ");
}

#[needs(root)]
fn a_policy_without_a_validation_program_needs_nothing_that_runs_one() {
    let world = world(Privilege::Setuid);
    std::fs::remove_file(world.host_path("/opt/nunbird/bin/nunbird-validate")).expect("removed");
    assert!(errors(&world).is_empty());
    let outcome = world.job().config();
    assert!(outcome.succeeded(), "{}", outcome.log);
}

#[needs(root)]
fn a_runner_that_calls_nunbird_otherwise_than_it_must_is_found() {
    let world = world(Privilege::Setuid);
    let good = std::fs::read_to_string(world.host_path(RUNNER)).expect("a runner");
    for (old, new, code, words) in [
        ("run_args = [\"run\"]", "run_args = [\"prepare\"]", "runner-stage", "run_args are `prepare`"),
        ("cleanup_exec = ", "cleanup_exac = ", "runner-stage", "cleanup_exec is not set"),
        ("prepare_exec = \"/opt", "prepare_exec = \"/usr", "runner-stage", "prepare_exec is /usr/nunbird"),
        ("run_args = [\"run\"]", "run_args = \"run\"", "runner-stage", "run_args is not an array"),
        ("[\"prepare\"]", "[\"-u\", \"prepare\"]", "runner-unobfuscated", "prepare_args have -u"),
        ("/etc/nunbird/config.toml\"]", "/etc/other.toml\"]", "runner-other", "config reads /etc/other.toml"),
        ("\"custom\"", "\"shell\"", "runner-executor", "runner `hpc`"),
        ("graceful_kill_timeout = 60", "", "runner-patience", "600 s and 10 s"),
        ("graceful_kill_timeout = 60", "graceful_kill_timeout = 20", "runner-patience", "up to 25 s"),
        ("shutdown_timeout = 120", "", "runner-patience", "shutdown_timeout is 30 s"),
        ("shutdown_timeout = 120", "shutdown_timeout = 84", "runner-patience", "may take 70 s to end"),
        (
            "\n  [runners.custom]",
            "\n  [runners.experimental.boot_verify]\nenabled = true\n  [runners.custom]",
            "runner-boot-verify",
            "its canary job has no user",
        ),
        ("/nunbird-auth", "/jacamar-auth", "no-runner", "no runner calls /opt/nunbird/bin/nunbird-auth"),
        ("[[runners]]", "[[runners", "runner-config", "not valid TOML"),
    ] {
        assert!(good.contains(old), "{old}");
        world.write_file(RUNNER, good.replace(old, new), "nbt_runner", 0o600);
        assert_one(&doctor(&world, "root"), code, words);
    }
    world.write_file(RUNNER, good.replace("\"https://", "\"https://other."), "nbt_runner", 0o644);
    let found = doctor(&world, "root");
    assert_one(&found, "runner-server", "https://other.");
    assert_one(&found, "runner-token", "mode 0644");
    assert!(!found.iter().any(|finding| finding.contains("glrt-")), "the token is shown: {found:?}");
}

#[needs(root)]
fn an_admin_without_root_reads_what_could_not_be_seen() {
    let world = world(Privilege::Setuid);
    let log = world.host_path("/var/lib/nunbird");
    std::fs::set_permissions(log, std::fs::Permissions::from_mode(0o700)).expect("a mode");
    let found = doctor(&world, "bob");
    assert_one(&found, "unseen", "/var/lib/nunbird/jobs: Permission denied");
    assert_one(&found, "unseen", "/etc/gitlab-runner/config.toml: Permission denied");
    assert!(!found.iter().any(|f| f.starts_with("error directory")), "{found:?}");
}

#[needs(root)]
fn what_a_pam_table_needs_and_this_host_does_not_have_is_found() {
    let world = world(Privilege::Setuid);
    world.reconfigure("[audit]", "[pam]\n\n[audit]");
    let service = "/etc/pam.d/nunbird";
    assert_one(&errors(&world), "pam-service", "no such file, so no job runs");
    world.write_file(service, include_str!("../../packaging/pam.d/nunbird.debian"), "root", 0o644);
    let found = doctor(&world, "root");
    assert!(!found.iter().any(|f| f.contains("pam") || f.contains("nunbird-session")), "{found:#?}");
    world.write_file(service, "account required pam_permit.so\n", "root", 0o666);
    assert_one(&doctor(&world, "root"), "pam-service", "no line of `auth`, `session`");
    assert_one(&errors(&world), "pam-service", "writable by others (mode 0666)");
    let program = world.host_path("/opt/nunbird/bin/nunbird-session");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    assert_one(&errors(&world), "program", "mode 0755, which lets others than root execute it");
    std::fs::remove_file(program).expect("no program");
    assert_one(&errors(&world), "program", "nunbird-session");
    let capabilities = self::world(Privilege::FileCaps);
    capabilities.reconfigure("[audit]", "[pam]\n\n[audit]");
    assert_one(&errors(&capabilities), "pam-privilege", "only file capabilities");
}

#[needs(root)]
fn limits_by_scopes_on_a_host_that_makes_none_are_found() {
    let limits = "[limits.small]\nmemory = \"1GiB\"\nway = \"scope\"\n\n[audit]";
    let world = world(Privilege::Setuid);
    world.reconfigure("[audit]", limits);
    if !std::path::Path::new("/run/systemd/system").exists() {
        assert_one(&errors(&world), "limits-scope", "systemd as the first process of this host, so no job");
    }
    let capabilities = self::world(Privilege::FileCaps);
    capabilities.reconfigure("[audit]", limits);
    let found = errors(&capabilities);
    let rootless = |finding: &&String| finding.contains("limits-scope") && finding.contains("needs root");
    assert_eq!(found.iter().filter(rootless).count(), 1, "{found:#?}");
}

#[needs(root)]
fn what_sudo_mode_needs_and_this_host_does_not_have_is_found() {
    let world = world(Privilege::Setuid);
    world.reconfigure("downscope = \"setuid\"", "downscope = \"sudo\"");
    let found = errors(&world);
    assert_one(&found, "sudo", "nunbird-auth: has privilege");
    assert_one(&found, "sudoers", "/etc/sudoers.d/nunbird");
    let auth = world.host_path("/opt/nunbird/bin/nunbird-auth");
    std::fs::set_permissions(auth, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let good =
        include_str!("../../packaging/sudoers.d/nunbird").replace("gitlab-runner ALL", "nbt_runner ALL");
    world.write_file("/etc/sudoers.d/nunbird", &good, "root", 0o440);
    assert_one(&errors(&world), "sudoers", "no group `nunbird-jobs`");
    let good = good.replace("nunbird-jobs)", "lattice)");
    world.write_file("/etc/sudoers.d/nunbird", &good, "root", 0o440);
    let found = errors(&world);
    assert!(!found.iter().any(|f| f.contains("sudo")), "{found:#?}");
    world.write_file("/etc/sudoers.d/nunbird", good.replace("(%lattice)", "(ALL)"), "root", 0o440);
    assert_one(&errors(&world), "sudoers", "may become root or any user");
}

#[needs(root)]
fn what_the_floor_of_the_host_does_not_let_through_is_found() {
    let world = world(Privilege::Setuid);
    world.reconfigure("[audit]", "[accounts]\nmin_uid = 500\n\n[audit]");
    assert_one(&errors(&world), "floor", "min_uid is 500, and accounts below uid 1000 are denied");
    world.write_file("/etc/nunbird/floor", "# ours\nmin_uid 500\n", "root", 0o644);
    assert_eq!(errors(&world), Vec::<String>::new());
    world.write_file("/etc/nunbird/floor", "min_uid = 500\n", "root", 0o644);
    assert_one(&errors(&world), "floor", "/etc/nunbird/floor:1: expected `min_uid NUMBER`");
    world.write_file("/etc/nunbird/floor", "min_uid 500\n", "alice", 0o644);
    assert_one(&errors(&world), "floor", "owned by uid 4101");
}

#[needs(root)]
fn the_file_with_a_proxys_password_is_for_the_fetcher_of_keys_alone() {
    const AUTH: &str = "/etc/nunbird/proxy-auth";
    let world = world(Privilege::Setuid);
    world.reconfigure(
        "audience =",
        &format!("proxy = \"http://proxy.example.org:3128\"\nproxy_auth_file = \"{AUTH}\"\naudience ="),
    );
    assert_one(&errors(&world), "proxy-auth-file", "No such file");
    for (owner, mode, words) in [
        ("root", 0o644, "others can read or change the proxy's password (mode 0644)"),
        ("root", 0o600, "`nunbird`, which asks the server, cannot read it"),
    ] {
        world.write_file(AUTH, "me:hunter2\n", owner, mode);
        let found = errors(&world);
        assert_one(&found, "proxy-auth-file", words);
        assert!(!found.concat().contains("hunter2"));
    }
    world.write_file(AUTH, "me:hunter2\n", "alice", 0o640);
    let found = errors(&world).concat();
    assert!(found.contains("owned by uid 4101, and nunbird-keys refuses it"), "{found}");
    world.write_file(AUTH, "me:hunter2\n", "nunbird", 0o600);
    assert!(errors(&world).is_empty(), "{:?}", errors(&world));
    // With sudo, jobs ask the server as the runner's account.
    world.reconfigure("downscope = \"setuid\"", "downscope = \"sudo\"");
    let refused = errors(&world);
    let refused: Vec<&String> = refused.iter().filter(|found| found.contains("proxy-auth-file")).collect();
    assert!(refused.len() == 1 && refused[0].contains("`nbt_runner`, which asks"), "{refused:?}");
}

#[needs(root)]
fn too_few_inotify_instances_for_all_machines_are_found() {
    let world = world(Privilege::Setuid);
    world.reconfigure(
        "[job]\n",
        "[container.machine]\nengine = \"nspawn\"\ndefault_image = \"debian\"\n\n[job]\ncontainer = \"machine\"\n",
    );
    assert_one(&errors(&world), "program", "/etc/nunbird/machine-ids: No such file");
    let instances = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").expect("a bound");
    let most = instances.trim().parse::<u64>().expect("a number") / 64;
    for (count, is_found) in [(most, false), (most + 1, true)] {
        world.write_file("/etc/nunbird/machine-ids", format!("ids 524288 65536 {count}\n"), "root", 0o644);
        let found = errors(&world);
        assert_eq!(found.iter().any(|f| f.contains("machine-inotify")), is_found, "{count}: {found:#?}");
        assert_eq!(found.concat().contains(&format!("machines at a time need {}", count * 64)), is_found);
    }
}

#[needs(root)]
fn too_few_ids_for_containers_in_machines_are_found() {
    let world = world(Privilege::Setuid);
    world.reconfigure(
        "[job]\n",
        "[container.machine]\nengine = \"nspawn\"\ndefault_image = \"debian\"\nnested = true\n\n[job]\ncontainer = \"machine\"\n",
    );
    for (size, is_found) in [(131_072, false), (131_071, true)] {
        world.write_file("/etc/nunbird/machine-ids", format!("ids 524288 {size} 1\n"), "root", 0o644);
        let found = errors(&world);
        assert_eq!(found.iter().any(|f| f.contains("machine-nested")), is_found, "{size}: {found:#?}");
    }
}

#[needs(root)]
fn what_the_users_of_all_machines_with_containers_can_take_of_roots_counts_is_remarked_with_its_numbers() {
    let world = world(Privilege::Setuid);
    world.write_file("/etc/nunbird/machine-ids", "ids 524288 131072 64\n", "root", 0o644);
    world.reconfigure(
        "[job]\n",
        "[container.machine]\nengine = \"nspawn\"\ndefault_image = \"debian\"\nnested = true\n\n[job]\ncontainer = \"machine\"\n",
    );
    let counts = || {
        let mut found = doctor(&world, "root");
        found.retain(|finding| finding.starts_with("remark machine-counts "));
        found
    };
    let one = |words: &str| assert_one(&counts(), "machine-counts", words);
    one("[container.machine] has `nested`: a job in it can act as 65536 users more");
    one("no limit of memory bounds what one of 64 machines at a time takes");
    world.reconfigure("[job]\n", "[limits.l]\nmemory = \"1GiB\"\n\n[job]\nlimits = \"l\"\n");
    let numbers = "with 1024 MiB of memory one machine takes up to 1123160 of them, and 64 machines at a time up to 71882240";
    one(numbers);
    // What a job's variable can ask for counts.
    world.reconfigure("memory = \"1GiB\"", "memory = \"512MiB\"\nmax_memory = \"1GiB\"");
    one(numbers);
    world.reconfigure("nested = true\n", "");
    assert_eq!(counts(), [""; 0]);
    world.reconfigure("default_image = \"debian\"\n", "default_image = \"debian\"\nroot = true\n");
    one("has `root`: a job in it can act as every user of its machine");
}
