//! `nunbirdctl adopt`: runners of sites with Jacamar CI switch to Nunbird, and back.

use nunbird_tests::proxy::{Proxy, Rules};
use nunbird_tests::runner::{Commands, Job};
use nunbird_tests::world::enter::Mount;
use nunbird_tests::world::{AUDIENCE, Exit, Finished, Privilege, World};
use nunbird_tests::{Issuer, needs};
use std::ffi::OsString;

const RUNNER: &str = "/etc/gitlab-runner/config.toml";
const LIST: &str = "/etc/nunbird/configurations";
const AUTH: &str = "/opt/nunbird/bin/nunbird-auth";
/// Of the private system: its systemd, its kernel and its disk are the host's. `no-job` says of a runner of one account that
/// others' jobs do not run there.
const ALLOWED: [&str; 5] = ["keys-timer", "runner-unit", "kernel", "space", "no-job"];

/// How a site has set up Jacamar CI.
struct Layout {
    program: &'static str,
    file: &'static str,
    /// The arguments of `config`, `prepare`, `run` and `cleanup`; FILE is the configuration.
    arguments: [&'static str; 4],
    downscope: &'static str,
}

/// As the packages' documents, and an Ansible role that gives each runner a file of its own.
const USUAL: Layout = Layout {
    program: "/opt/jacamar/bin/jacamar-auth",
    file: "/etc/gitlab-runner/custom-config.toml",
    arguments: ["config --configuration FILE", "prepare", "run", "cleanup --configuration FILE"],
    downscope: "setuid",
};
/// As sites that show users the cause of a refusal.
const UNOBFUSCATED: Layout = Layout {
    file: "/etc/gitlab-runner/jacamar.toml",
    arguments: ["-u config --configuration FILE", "prepare", "run", "cleanup --configuration FILE"],
    ..USUAL
};
/// As an installer that names the file in every stage.
const EVERY_STAGE: Layout = Layout {
    program: "/usr/local/bin/jacamar-auth",
    file: "/etc/gitlab-runner/custom-login1-config.toml",
    arguments: [
        "config --configuration=FILE",
        "prepare --configuration=FILE",
        "run --configuration=FILE",
        "cleanup --configuration=FILE",
    ],
    ..USUAL
};
/// As a runner of one account, without privilege.
const NO_AUTH: Layout = Layout {
    program: "/opt/jacamar/bin/jacamar",
    file: "/etc/gitlab-runner/jacamar.toml",
    arguments: [
        "--no-auth config --configuration FILE",
        "--no-auth prepare",
        "--no-auth run",
        "--no-auth cleanup --configuration FILE",
    ],
    downscope: "none",
};

impl Layout {
    /// The site's two files in a private system.
    fn write(&self, world: &World) -> (String, String) {
        let url = world.issuer().url();
        let stages = ["config", "prepare", "run", "cleanup"].iter().zip(self.arguments);
        let stages: String = stages
            .map(|(stage, arguments)| {
                let words: Vec<String> =
                    arguments.replace("FILE", self.file).split(' ').map(|word| format!("{word:?}")).collect();
                format!("    {stage}_exec = {:?}\n    {stage}_args = [{}]\n", self.program, words.join(", "))
            })
            .collect();
        let runner = format!(
            "concurrent = 4 # of this login node\nshutdown_timeout = 120\n\n[[runners]]\n  name = \"login1\"\n  \
             url = \"{url}/\"\n  token = \"glrt-of-the-runner\"\n  executor = \"custom\"\n  [runners.custom]\n\
             {stages}    graceful_kill_timeout = 60\n    force_kill_timeout = 10\n"
        );
        world.write_file(RUNNER, &runner, "root", 0o600);
        // None of the public files names its server.
        let jacamar = format!(
            "[general]\nexecutor = \"shell\"\ndata_dir = \"$HOME\"\nretain_logs = true\n\
             tls-ca-file = \"{}\"\njwt_env_variable = \"SITE_ID_TOKEN\"\n[auth]\ndownscope = \"{}\"\n\
             jwt_required_aud = \"{AUDIENCE}\"\n[batch]\ncommand_delay = \"30s\"\n",
            world.paths().ca_file.display(),
            self.downscope,
        );
        world.write_file(self.file, &jacamar, "root", 0o644);
        (runner, jacamar)
    }

    /// A job with the arguments that the runner has after the switch.
    fn job<'w>(&self, world: &'w World) -> Job<'w> {
        let words = |index: usize| -> Vec<OsString> {
            let all = self.arguments[index].replace("FILE", self.file);
            all.split(' ').filter(|word| *word != "--no-auth").map(OsString::from).collect()
        };
        world.job().commands(|c: &mut Commands| {
            c.config = words(0);
            c.prepare = words(1);
            c.run = words(2);
            c.cleanup = words(3);
        })
    }
}

fn adopt(world: &World, arguments: &[&str]) -> Finished {
    let program = world.paths().bin.join("nunbirdctl");
    let runner = ["adopt", "--runner-user", world.privilege().runner()];
    let allowed = ALLOWED.iter().flat_map(|code| ["--allow", code]);
    let all: Vec<&str> = runner.into_iter().chain(allowed).chain(arguments.iter().copied()).collect();
    let mut spec = world.program("root", program, &all);
    // The private system's /etc is read-only but for the two directories that the command writes to.
    for directory in ["/etc/nunbird", "/etc/gitlab-runner"] {
        let writable = Mount::Bind { source: world.host_path(directory), target: directory.into() };
        spec.mounts.as_mut().expect("a private system").push(writable);
    }
    world.run(&spec)
}

fn read(world: &World, path: &str) -> Option<String> {
    std::fs::read_to_string(world.host_path(path)).ok()
}

fn world(privilege: Privilege) -> World {
    let world = World::new(privilege);
    drop(std::fs::remove_file(world.host_path(LIST)));
    world
}

/// The whole switch: refused before, adopted, a job runs, taken back.
fn switch(world: &World, layout: &Layout) {
    let (runner, jacamar) = layout.write(world);
    let program = layout.program;
    let before = layout.job(world).config();
    assert_ne!(before.exit, Exit::Code(0), "{program}: no server is named");
    let dry = adopt(world, &["--dry-run"]);
    assert_eq!(dry.exit, Exit::Code(0), "{program}: {dry:?}");
    let line = format!("{} {}", layout.file, world.issuer().url());
    for part in [
        &format!("  + {line}\n"),
        &format!("- config_exec = {program:?}\n"),
        "nothing was changed (--dry-run)",
    ] {
        assert!(dry.stdout.contains(part), "{part}: {}", dry.stdout);
    }
    assert!(!dry.stdout.contains("glrt-of-the-runner"), "{}", dry.stdout);
    assert_eq!((read(world, RUNNER).as_ref(), read(world, LIST)), (Some(&runner), None), "{program}");

    let done = adopt(world, &[]);
    assert_eq!(done.exit, Exit::Code(0), "{program}: {done:?}");
    assert!(done.stdout.contains("1 runner adopted"), "{}", done.stdout);
    assert_eq!(read(world, LIST), Some(format!("{line}\n")));
    let expected = runner.replace(program, AUTH).replace("\"--no-auth\", ", "");
    assert_eq!(read(world, RUNNER), Some(expected), "{program}");
    assert_eq!(read(world, layout.file), Some(jacamar), "{program}: the site's own file stays as it is");
    let outcome = layout.job(world).script("echo I am $(id -un)").run().expect_success();
    assert!(outcome.log().contains("I am alice"), "{program}: {}", outcome.log());
    let again = adopt(world, &[]);
    assert_eq!(again.exit, Exit::Code(0), "{again:?}");
    assert!(again.stdout.contains("no runner calls Jacamar CI"), "{}", again.stdout);

    let undone = adopt(world, &["--undo"]);
    assert_eq!(undone.exit, Exit::Code(0), "{program}: {undone:?}");
    assert_eq!((read(world, RUNNER).as_ref(), read(world, LIST)), (Some(&runner), None), "{program}");
    let nothing = adopt(world, &["--undo"]);
    assert_eq!(nothing.exit, Exit::Code(1), "{nothing:?}");
    assert!(nothing.stderr.contains("nothing to undo"), "{}", nothing.stderr);
}

#[needs(root)]
fn every_layout_of_a_site_is_adopted_runs_a_job_and_is_taken_back() {
    let world = world(Privilege::Setuid);
    for layout in [USUAL, UNOBFUSCATED, EVERY_STAGE] {
        switch(&world, &layout);
    }
}

#[needs(root)]
fn a_runner_of_one_account_is_adopted_without_its_flag() {
    switch(&world(Privilege::None), &NO_AUTH);
}

#[needs(root)]
fn a_runner_of_one_account_whose_file_demands_privilege_is_not_adopted() {
    let world = world(Privilege::None);
    let layout = Layout { downscope: "setuid", ..NO_AUTH };
    let (runner, _) = layout.write(&world);
    let refused = adopt(&world, &[]);
    assert_eq!(refused.exit, Exit::Code(3), "{refused:?}");
    assert!(refused.stdout.contains("with --no-auth, so `downscope`"), "{}", refused.stdout);
    assert!(refused.stdout.contains(&format!("{RUNNER}:4")), "{}", refused.stdout);
    assert_eq!((read(&world, RUNNER), read(&world, LIST)), (Some(runner), None));
}

#[needs(root)]
fn a_file_that_jacamar_ci_reads_and_nunbird_does_not_stops_the_switch_with_its_line() {
    let world = world(Privilege::Setuid);
    let (runner, jacamar) = USUAL.write(&world);
    world.write_file(
        USUAL.file,
        jacamar.replace("[auth]\n", "[auth]\nseccomp.block_all = true\n"),
        "root",
        0o644,
    );
    let refused = adopt(&world, &[]);
    assert_eq!(refused.exit, Exit::Code(3), "{refused:?}");
    assert!(refused.stdout.contains("`block_all = true` is not supported"), "{}", refused.stdout);
    assert!(refused.stdout.contains(&format!("{}:8:", USUAL.file)), "{}", refused.stdout);
    assert_eq!((read(&world, RUNNER), read(&world, LIST)), (Some(runner), None));
}

#[needs(root)]
fn a_file_of_runners_of_two_servers_is_not_given_the_server_of_one() {
    let world = world(Privilege::Setuid);
    let (runner, _) = USUAL.write(&world);
    let second = runner.split_once("[[runners]]").expect("a runner").1;
    let second = second.replace(&format!("{}/", world.issuer().url()), "https://gitlab.other.example.org");
    world.write_file(RUNNER, format!("{runner}[[runners]]{second}"), "root", 0o600);
    let refused = adopt(&world, &[]);
    assert_eq!(refused.exit, Exit::Code(3), "{refused:?}");
    assert!(refused.stdout.contains("runners of several servers name"), "{}", refused.stdout);
    assert_eq!(read(&world, LIST), None);
}

#[needs(root)]
fn a_token_that_would_be_refused_stops_the_switch() {
    let world = world(Privilege::Setuid);
    USUAL.write(&world);
    assert!(world.refresh_keys().succeeded());
    let token = |user: &str| world.job().user(user).token_text();
    world.write_file("/etc/nunbird/token", token("alice"), "root", 0o600);
    let good = adopt(&world, &["--dry-run", "--token", "/etc/nunbird/token"]);
    assert_eq!(good.exit, Exit::Code(0), "{good:?}");
    assert!(good.stdout.contains("admitted"), "{}", good.stdout);
    world.write_file("/etc/nunbird/token", token("nobody-here"), "root", 0o600);
    let bad = adopt(&world, &["--token", "/etc/nunbird/token"]);
    assert_eq!(bad.exit, Exit::Code(3), "{bad:?}");
    assert!(bad.stdout.contains("error[token]"), "{}", bad.stdout);
    assert_eq!(read(&world, LIST), None);
}

/// The timer's command, as it is in the unit: by all configurations of the host.
#[needs(root)]
fn keys_are_fetched_for_the_adopted_configuration_without_the_servers_of_the_example() {
    let world = world(Privilege::Setuid);
    USUAL.write(&world);
    assert_eq!(adopt(&world, &[]).exit, Exit::Code(0));
    let example = include_str!("../../packaging/config.toml");
    world.write_file("/etc/nunbird/config.toml", example, "root", 0o644);
    let refresh = || {
        let program = world.paths().bin.join("nunbird-keys");
        world.run(&world.program("nunbird", program, &["refresh"]))
    };
    let fetched = refresh();
    let url = world.issuer().url();
    assert_eq!(fetched.exit, Exit::Code(0), "{fetched:?}");
    assert!(
        fetched.stdout.lines().count() == 1 && fetched.stdout.ends_with(&format!("fetched from {url}\n")),
        "{fetched:?}"
    );
    // One that cannot be read does not keep the others from theirs.
    let list = read(&world, LIST).expect("a list");
    world.write_file(LIST, format!("/etc/nunbird/absent.toml\n{list}# /etc/no.toml\n{list}"), "root", 0o644);
    let fetched = refresh();
    assert_eq!(fetched.exit, Exit::Code(1), "{fetched:?}");
    assert!(fetched.stdout.lines().count() == 1 && fetched.stdout.contains(url.as_str()), "{fetched:?}");
    let missing = "nunbird-keys: error: /etc/nunbird/absent.toml: No such file or directory";
    assert!(fetched.stderr.starts_with(missing) && fetched.stderr.lines().count() == 1, "{fetched:?}");
    // A policy in the default place counts as well.
    let policy = example.replace("deny = \"the admin", "run_as = \"alice\" #");
    assert_ne!(policy, example);
    world.write_file("/etc/nunbird/config.toml", &policy, "root", 0o644);
    let fetched = refresh();
    assert!(fetched.stderr.contains("\nnunbird-keys: error: example: "), "{fetched:?}");
    // Two of one name would take turns in removing each other's keys.
    let name =
        url.strip_prefix("https://").expect("a URL").split(':').next().expect("a host").replace('.', "-");
    world.write_file(
        "/etc/nunbird/config.toml",
        policy.replace("name = \"example\"", &format!("name = {name:?}")),
        "root",
        0o644,
    );
    let fetched = refresh();
    assert!(fetched.stdout.contains(url.as_str()), "{fetched:?}");
    assert!(fetched.stderr.contains("describes another server by this name"), "{fetched:?}");
    // Of a file that nunbird-auth would refuse no server is asked.
    world.write_file(LIST, "/etc/nunbird/alices.toml\n", "root", 0o644);
    world.write_file("/etc/nunbird/alices.toml", read(&world, USUAL.file).expect("a file"), "alice", 0o644);
    let fetched = refresh();
    assert!(fetched.stderr.contains("/etc/nunbird/alices.toml: owned by uid"), "{fetched:?}");
    assert!(!fetched.stdout.contains("fetched"), "{fetched:?}");
}

#[needs(root)]
fn a_runners_file_that_was_edited_since_is_not_overwritten_by_an_undo() {
    let world = world(Privilege::Setuid);
    USUAL.write(&world);
    let done = adopt(&world, &[]);
    assert_eq!(done.exit, Exit::Code(0), "{done:?}");
    assert!(done.stdout.contains("remark[keys]"), "the first job fetches them: {}", done.stdout);
    let edited = format!("{}# edited\n", read(&world, RUNNER).expect("a file"));
    world.write_file(RUNNER, &edited, "root", 0o600);
    let refused = adopt(&world, &["--undo"]);
    assert_eq!(refused.exit, Exit::Code(1), "{refused:?}");
    assert!(refused.stderr.contains("changed since `adopt` has written it"), "{}", refused.stderr);
    assert_eq!(read(&world, RUNNER), Some(edited));
    assert!(read(&world, LIST).is_some());
}

#[needs(root)]
fn what_the_runners_account_can_write_makes_no_server_and_no_file_trusted() {
    let world = world(Privilege::Setuid);
    let (runner, _) = USUAL.write(&world);
    world.write_file(RUNNER, &runner, "nbt_runner", 0o600);
    let url = world.issuer().url();
    let named = ["--configuration", USUAL.file];
    let server = ["--gitlab-server", url.as_str()];
    for (arguments, words) in [
        (Vec::new(), "which names /etc/gitlab-runner/custom-config.toml"),
        (server.to_vec(), "which names /etc/gitlab-runner/custom-config.toml"),
        (named.to_vec(), "the server of its runners is not taken from there"),
    ] {
        let refused = adopt(&world, &arguments);
        assert_eq!(refused.exit, Exit::Code(3), "{refused:?}");
        assert!(refused.stdout.contains(words), "{words}: {}", refused.stdout);
        assert_eq!((read(&world, RUNNER), read(&world, LIST)), (Some(runner.clone()), None));
    }
    let done = adopt(&world, &[named, server].concat());
    assert_eq!(done.exit, Exit::Code(0), "{done:?}");
    assert_eq!(read(&world, LIST), Some(format!("{} {url}\n", USUAL.file)));
    let owner = std::os::unix::fs::MetadataExt::uid(&world.host_path(RUNNER).metadata().expect("a file"));
    assert_eq!(owner, world.account("nbt_runner").uid, "the file stays the runner's");
}

/// Only the proxy can find the server: neither the file nor the environment names it, the list does.
#[needs(root)]
fn a_host_behind_a_proxy_switches_in_one_command() {
    let mut world = world(Privilege::Setuid);
    *world.issuer_mut() = Issuer::start_at("gitlab.nbt.test");
    world.write_file("/etc/nunbird/ca.pem", world.issuer().ca_pem(), "root", 0o644);
    let (runner, file) = USUAL.write(&world);
    let url = world.issuer().url();
    let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
    let rules = Rules { auth: Some(("nunbird", "hunter2")), port: Some(port) };
    let proxy = Proxy::start("gitlab.nbt.test", rules);
    let password = "/etc/nunbird/proxy-auth";
    world.write_file(password, "nunbird:hunter2\n", "nunbird", 0o400);

    let address = proxy.url().replace("http://", "http://me:hunter2@");
    let refused = adopt(&world, &["--proxy", &address]);
    assert_eq!(refused.exit, Exit::Code(1), "{refused:?}");
    assert!(
        refused.stderr.contains("`proxy_auth_file`") && !refused.stderr.contains("hunter2"),
        "{refused:?}"
    );
    assert_eq!((read(&world, RUNNER), read(&world, LIST)), (Some(runner), None));

    let address = proxy.url();
    let done = adopt(&world, &["--proxy", &address, "--proxy-auth-file", password]);
    assert_eq!(done.exit, Exit::Code(0), "{done:?}");
    let line = format!("{} {url} proxy={address} proxy_auth_file={password}\n", USUAL.file);
    assert_eq!(read(&world, LIST), Some(line));
    assert_eq!(read(&world, USUAL.file), Some(file), "the site's file stays as it is");
    let outcome = USUAL.job(&world).script("echo I am $(id -un)").run().expect_success();
    assert!(outcome.log().contains("I am alice"), "{}", outcome.log());
    assert!(proxy.log().contains(&format!("CONNECT gitlab.nbt.test:{port}")), "{}", proxy.log());
}
