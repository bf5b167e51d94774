//! A site that comes from Jacamar CI: its file, its runner's arguments, Nunbird's program.

use nunbird_tests::needs;
use nunbird_tests::runner::{Commands, Job, assert_refused};
use nunbird_tests::world::{AUDIENCE, Exit, Privilege, World};
use std::ffi::OsString;

const FILE: &str = "/etc/gitlab-runner/jacamar.toml";

/// A private system whose runner names Jacamar's file as sites do: for `config` and `cleanup`.
/// `auth` is added to `[auth]`.
fn world(privilege: Privilege, auth: &str) -> World {
    let world = World::new(privilege);
    write(&world, auth);
    world.write_file("/etc/nunbird/configurations", format!("{FILE}\n"), "root", 0o644);
    world
}

fn write(world: &World, auth: &str) {
    write_with(world, "", auth);
}

fn write_with(world: &World, general: &str, auth: &str) {
    let downscope = if world.privilege() == Privilege::None { "none" } else { "setuid" };
    let (server, ca_file) = (world.issuer().url(), world.paths().ca_file.display());
    let text = format!(
        "[general]\n\
         executor = \"shell\"\n\
         data_dir = \"$HOME\"\n\
         retain_logs = true\n\
         gitlab_server = \"{server}\"\n\
         tls-ca-file = \"{ca_file}\"\n\
         jwt_env_variable = \"SITE_ID_TOKEN\"\n\
         user_bash_env = [\"SITE_CI=jacamar\"]\n\
         {general}\
         [auth]\n\
         downscope = \"{downscope}\"\n\
         jwt_required_aud = \"{AUDIENCE}\"\n\
         {auth}\n\
         [batch]\n\
         command_delay = \"30s\"\n"
    );
    // The runner's own account writes the file where it needs no privilege.
    let owner = if downscope == "none" { "alice" } else { "root" };
    world.write_file(FILE, text, owner, 0o640);
}

fn job(world: &World) -> Job<'_> {
    world.job().commands(|c: &mut Commands| {
        let with_file = |stage: &str| [stage, "--configuration", FILE].map(OsString::from).to_vec();
        c.config = with_file("config");
        c.prepare = vec!["prepare".into()];
        c.run = vec!["run".into()];
        c.cleanup = with_file("cleanup");
    })
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_runs_by_jacamars_file_in_every_way_to_hold_privilege(privilege: Privilege) {
    let world = world(privilege, "");
    let outcome = job(&world).script("echo I am $(id -un) in $PWD of $SITE_CI").run().expect_success();
    let log = outcome.log();
    assert!(log.contains("I am alice in /home/alice/.jacamar-ci/builds/"), "{privilege:?}: {log}");
    assert!(log.contains("of jacamar"), "{privilege:?}: {log}");
    assert!(world.records().is_empty(), "{privilege:?}: {:?}", world.records());
}

/// Of a profile that has a short way out for CI, as public ones have.
const PROFILE: &str = "if [ \"$JACAMAR_CI_SHELL\" = true ] && [ \"$JACAMAR_CI\" = true ]; then echo profile for CI; else echo profile for people; fi\n";

#[needs(root)]
fn a_profile_that_tests_jacamars_variables_finds_them_in_every_shell_of_a_job() {
    let world = world(Privilege::Setuid, "");
    world.write_file("/home/alice/.bash_profile", PROFILE, "alice", 0o644);
    let script = "echo shell $JACAMAR_CI_SHELL; bash -lc 'echo again'";
    let log = job(&world).script(script).run().expect_success().log();
    assert!(log.contains("shell true\n") && !log.contains("profile for people"), "{log}");
    // The job's own shell, and the one that its script starts.
    assert!(log.matches("profile for CI").count() >= 2, "{log}");
}

#[needs(root)]
fn a_native_configuration_sets_jacamars_variables_on_request_only() {
    let world = World::new(Privilege::Setuid);
    let login = "login_shell = true\n";
    world.write_file("/home/alice/.bash_profile", PROFILE, "alice", 0o644);
    let run = || world.job().script("echo shell ${JACAMAR_CI_SHELL-unset}").run().expect_success().log();
    let log = run();
    assert!(log.contains("shell unset\n") && log.contains("profile for people"), "{log}");
    world.reconfigure(login, &format!("{login}jacamar_variables = true\n"));
    let log = run();
    assert!(log.contains("shell true\n") && !log.contains("profile for people"), "{log}");
    world.reconfigure(
        "jacamar_variables = true\n",
        "jacamar_variables = true\nenvironment = { JACAMAR_CI_SHELL = \"mine\" }\n",
    );
    let log = run();
    assert!(log.contains("shell mine\n"), "the site's own value stays: {log}");
}

#[needs(root)]
fn the_lists_deny_by_their_names_and_the_user_reads_why() {
    let world = world(Privilege::Setuid, "user_blocklist = [\"alice\"]");
    let denied = job(&world).config();
    assert_refused(&world, &denied, "rule", &format!("rule `user_blocklist` at {FILE}:12:18"));
    assert!(denied.stderr.contains("may not run CI jobs here (user_blocklist)"), "{}", denied.stderr);
    assert_eq!(job(&world).user("bob").config().exit, Exit::Code(0));
    write(&world, "groups_allowlist = [\"lattice\"]\nuser_allowlist = [\"bob\"]");
    for user in ["alice", "ada", "bob"] {
        assert_eq!(job(&world).user(user).config().exit, Exit::Code(0), "{user}");
    }
    write(&world, "groups_blocklist = [\"lattice\"]");
    assert_refused(&world, &job(&world).config(), "rule", "rule `groups_blocklist`");
    write(&world, "user_allowlist = [\"bob\"]");
    assert_refused(&world, &job(&world).config(), "rule", "rule `on no list`");
    write(&world, "pipeline_source_allowlist = [\"web\"]");
    let denied = job(&world).config();
    assert_refused(&world, &denied, "rule", "rule `pipeline_source_allowlist`");
    assert!(denied.stderr.contains("pipelines started this way do not run here"), "{}", denied.stderr);
    // Another job: one is admitted four times, and those above count unless they happened to get the same directory's number.
    let web = job(&world).id(7002).claim("pipeline_source", "web".into());
    assert_eq!(web.config().exit, Exit::Code(0));
}

#[needs(root)]
fn a_value_that_cannot_be_honoured_denies_every_job_and_the_admin_reads_the_line() {
    let world = world(Privilege::Setuid, "downscope_mode = true");
    let denied = job(&world).config();
    assert_refused(&world, &denied, "configuration-invalid", &format!("{FILE}:12:1"));
    assert!(
        !denied.stderr.contains("downscope_mode"),
        "the CI user reads the site's file: {}",
        denied.stderr
    );
}

#[needs(root)]
fn directories_stages_and_messages_are_as_jacamars_keys_say() {
    let world = world(Privilege::Setuid, "");
    let general = "custom_build_dir = true\nstatic_builds_dir = true\nstatic_min_days = 1\ngroup_permissions = true\n\
                   limit_build_dir = true\nmax_build_dir = 1\nuncap_build_dir_cleanup = true\nset_stack_size = true\n\
                   job_message = \"Maintenance on Tuesday.\"\n";
    write_with(&world, general, "run_stage_allowlist = [\"get_sources\", \"build_script\"]");
    for id in [7001, 7002] {
        let mine = job(&world).id(id).variable("CUSTOM_CI_BUILDS_DIR", "${HOME}/fast");
        let outcome =
            mine.script("echo I am in $PWD; ulimit -S -s").after_script("echo never").run().expect_success();
        let log = outcome.log();
        assert!(log.contains("I am in /home/alice/fast/alice/"), "{log}");
        assert!(log.contains("Maintenance on Tuesday."), "{log}");
        assert!(!log.contains("\nnever") && log.contains("the stage after_script does not run"), "{log}");
    }
    let entries = std::fs::read_dir(world.host_path("/home/alice/fast/alice")).expect("a directory");
    let host = entries.flatten().next().expect("this host's").path();
    let left: Vec<String> = std::fs::read_dir(host)
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert!(left.len() == 1 && left[0].ends_with("-7002"), "{left:?}");
}

#[needs(root)]
fn a_runner_that_is_not_root_names_the_file_only_where_root_has_listed_it() {
    let world = world(Privilege::Setuid, "");
    world.write_file("/etc/nunbird/configurations", "/etc/gitlab-runner/other.toml\n", "root", 0o644);
    assert_refused(&world, &job(&world).config(), "configuration-file", "is not listed");
}

#[needs(root)]
fn nunbird_keys_reads_the_same_file() {
    let world = world(Privilege::Setuid, "");
    // As in the guide: `nunbird` is in the file's group, or the file is world-readable.
    world.write_file(FILE, std::fs::read(world.host_path(FILE)).expect("a file"), "root", 0o644);
    let program = world.paths().bin.join("nunbird-keys");
    let fetched = world.run(&world.program("nunbird", program, &["refresh", "--configuration", FILE]));
    assert!(fetched.succeeded(), "{}{}", fetched.stdout, fetched.stderr);
    let name = world.issuer().url().replace("https://", "").replace(['.', ':'], "-");
    let host = name.rsplit_once('-').map_or(name.as_str(), |(host, _)| host);
    let keys = world.host_path(world.paths().keys.join(format!("{host}.json")));
    assert!(keys.exists(), "{}", keys.display());
}

#[needs(root)]
fn a_job_without_a_token_gets_the_variable_and_audience_of_jacamars_file() {
    let world = world(Privilege::Setuid, "");
    let text = std::fs::read_to_string(world.host_path(FILE)).expect("the file");
    let with_default = text.replace("jwt_env_variable = \"SITE_ID_TOKEN\"\n", "");
    for (text, variable) in [(text, "SITE_ID_TOKEN"), (with_default, "CI_JOB_JWT")] {
        world.write_file(FILE, text, "root", 0o640);
        let refused = job(&world).without_token().config();
        assert_eq!(refused.exit, Exit::Code(1), "{}", refused.log);
        let lines =
            format!("          id_tokens:\n            {variable}:\n              aud: \"{AUDIENCE}\"\n");
        assert!(refused.stderr.contains(&lines), "{}", refused.stderr);
    }
}

#[needs(root)]
fn the_list_that_names_a_files_server_must_be_roots_own() {
    let world = world(Privilege::Setuid, "");
    let named = std::fs::read_to_string(world.host_path(FILE)).expect("a file");
    let url = world.issuer().url();
    world.write_file(FILE, named.replace(&format!("gitlab_server = \"{url}\"\n"), ""), "root", 0o640);
    assert_refused(&world, &job(&world).config(), "configuration-invalid", "there is no `gitlab_server`");
    let list = format!("{FILE} {url}\n");
    world.write_file("/etc/nunbird/configurations", &list, "root", 0o644);
    assert_eq!(job(&world).config().exit, Exit::Code(0));
    for (owner, mode, words) in [("nbt_runner", 0o644, "owned by uid"), ("root", 0o664, "writable by others")]
    {
        world.write_file("/etc/nunbird/configurations", &list, owner, mode);
        assert_refused(&world, &job(&world).config(), "configuration-file", words);
    }
    // Another file's server is of no use.
    world.write_file("/etc/nunbird/configurations", format!("{FILE}\n{FILE}.old {url}\n"), "root", 0o644);
    assert_refused(&world, &job(&world).config(), "configuration-invalid", "there is no `gitlab_server`");
}
