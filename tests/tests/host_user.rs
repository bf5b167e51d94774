//! `nunbirdctl user` on a booted host: a person without root finds every obstacle, sets a runner up under their own systemd, has jobs
//! run by it, and takes it away again.
//!
//! The person is `nbt_runner`, whose programs are the children of whatever listens at the runner's socket: here that is the double of
//! gitlab-runner in the person's own unit.

use nunbird_tests::runner::{Commands, Exit};
use nunbird_tests::world::{AUDIENCE, Finished};
use nunbird_tests::{Host, needs};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const HOME: &str = "/home/nbt_runner";
const CTL: &str = "/home/nbt_runner/nunbird/bin/nunbirdctl";
const TOKEN: &str = "glrt-nbtFirstToken_1234567";

/// A shell command as the person, with nothing of a login session's environment.
fn person(host: &Host, command: &str) -> Finished {
    host.world().write_file("/home/nbt_runner/command", command, "nbt_runner", 0o600);
    host.root(&format!(
        "cd / && setpriv --reuid nbt_runner --regid gitlab-runner --init-groups env -i HOME={HOME} PATH=/usr/bin:/bin sh {HOME}/command"
    ))
}

/// A host whose person has the programs without privilege, the double, and no runner yet.
fn host() -> Host {
    let host = Host::boot();
    host.root("systemctl disable --now nbt-runner.service").success();
    let socket = host.world().runner_directory().join("calls.sock");
    let double = format!(
        "#!/bin/sh\n[ \"$1 $2\" = 'run --config' ] && grep -q glrt- \"$3\" && exec /usr/local/bin/nbt-runner {}\nexit 1\n",
        socket.display()
    );
    host.root(&format!("install -d -o nbt_runner -g gitlab-runner {HOME}/nunbird/bin {HOME}/bin && cp --no-preserve=all /opt/nunbird/bin/* {HOME}/nunbird/bin && chmod 755 {HOME}/nunbird/bin/* && chown nbt_runner {HOME}/nunbird/bin/*")).success();
    host.world().write_file("/home/nbt_runner/bin/gitlab-runner", double, "nbt_runner", 0o755);
    host.world().write_file("/home/nbt_runner/token", format!("{TOKEN}\n"), "nbt_runner", 0o600);
    host
}

fn linger(host: &Host) {
    host.root("loginctl enable-linger nbt_runner").success();
    assert!(host.wait_until(|host| host.root("test -S /run/user/4001/bus").succeeded()), "no user manager");
}

/// The command that adds a runner.
fn setup(host: &Host, more: &str) -> Finished {
    let url = host.world().issuer().url();
    let ca = host.world().paths().ca_file.display().to_string();
    person(
        host,
        &format!(
            "{CTL} user setup --runner-program {HOME}/bin/gitlab-runner --url {url} --audience {AUDIENCE} --ca-file {ca} --gitlab-user alice {more}"
        ),
    )
}

fn findings(host: &Host, more: &str) -> Vec<(String, String, String, String)> {
    let said = person(host, &format!("PATH={HOME}/bin:$PATH; {CTL} user check --format json {more}"));
    let value: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let word = |one: &Value, key: &str| one[key].as_str().expect("text").to_owned();
    let all = value["findings"].as_array().expect("findings");
    all.iter().map(|f| (word(f, "severity"), word(f, "code"), word(f, "message"), word(f, "help"))).collect()
}

#[track_caller]
fn assert_found(
    all: &[(String, String, String, String)],
    severity: &str,
    code: &str,
    words: &str,
    help: &str,
) {
    let fits = |f: &&(String, String, String, String)| {
        f.0 == severity && f.1 == code && f.2.contains(words) && f.3.contains(help)
    };
    assert!(all.iter().any(|f| fits(&f)), "no {severity} {code}: {words} / {help} in {all:#?}");
}

#[needs(host)]
fn each_obstacle_of_a_runner_without_root_is_found_with_who_can_remove_it() {
    let host = host();
    let all = findings(&host, "");
    assert_found(
        &all,
        "error",
        "linger",
        "lingering is off for nbt_runner",
        "yourself: loginctl enable-linger; if that is refused, an admin: loginctl enable-linger nbt_runner",
    );
    assert_found(
        &all,
        "error",
        "user-manager",
        "there is no /run/user/4001",
        "systemctl start user@4001.service",
    );
    assert_found(&all, "remark", "delegation", "control groups of version 1", "an admin: ");
    // Without --image no job needs these.
    assert_found(&all, "remark", "engine", "no program podman", "an admin: ");
    assert_found(
        &all,
        "remark",
        "subordinate-ids",
        "the account nbt_runner has none in /etc/subuid",
        "an admin: usermod --add-subuids 100000-165535 nbt_runner",
    );
    let refused = setup(&host, "--token-file token");
    assert!(refused.exit == Exit::Code(3) && refused.stdout.contains("nothing was changed"), "{refused:?}");
    assert!(!host.world().host_path("/home/nbt_runner/.config").exists());
    linger(&host);
    let all = findings(&host, "");
    assert!(!all.iter().any(|f| f.1 == "linger" || f.1 == "user-manager"), "{all:#?}");
    // With containers they are reasons to stop.
    let all = findings(&host, "--image debian:12");
    assert_found(&all, "error", "engine", "no program podman", "an admin: ");
    assert_found(
        &all,
        "error",
        "subordinate-ids",
        "the account nbt_runner has none in /etc/subgid",
        "an admin: usermod --add-subgids",
    );
    for (line, severity, words) in [
        ("nbt_runner:100000:65535", "error", "the account nbt_runner has 65535 in /etc/subuid"),
        ("4001:100000:65535", "error", "the account nbt_runner has 65535 in /etc/subuid"),
        (
            "4001:100000:65536",
            "remark",
            "nbt_runner has 65536 ids in /etc/subuid: enough for jobs in containers",
        ),
        (
            "nbt_runner:100000:65536\\nalice:150000:65536",
            "error",
            "the ranges of nbt_runner and alice have ids in common (150000 to 165535)",
        ),
        ("nbt_runner:4000:100", "error", "the range of nbt_runner has the id 4001 of the account nbt_runner"),
    ] {
        host.root(&format!("printf '{line}\\n' >/etc/subuid")).success();
        assert_found(&findings(&host, "--image debian:12"), severity, "subordinate-ids", words, "an admin: ");
    }
    host.root("printf '4001:100000:65539\\n' | tee /etc/subuid >/etc/subgid").success();
    let all = findings(&host, "--image debian:12");
    assert!(!all.iter().any(|f| f.2.contains("/etc/subuid") || f.2.contains("/etc/subgid")), "{all:#?}");
    // The site's own programs, and none.
    let all = findings(&host, "--programs /opt/nunbird/bin");
    assert_found(&all, "error", "own-programs", "nunbird-auth: it has privilege of its own", "yourself: ");
    let all = findings(&host, "--programs /nowhere --runner-program /nowhere/gitlab-runner");
    assert_found(&all, "error", "own-programs", "/nowhere/nunbird-keys: No such file", "yourself: ");
    let as_root = host.root(&format!("{CTL} user check"));
    assert!(as_root.exit == Exit::Code(1) && as_root.stderr.contains("no job runs as root"), "{as_root:?}");
}

#[needs(host)]
fn a_person_without_root_sets_a_runner_up_has_jobs_run_and_takes_it_away() {
    let host = host();
    let world = host.world();
    linger(&host);
    let before = tree(&host);
    // A token is neither shown nor taken from a file that others can read.
    person(&host, "cp $HOME/token $HOME/open; chmod 644 $HOME/open").success();
    let refused = setup(&host, &format!("--token-file {HOME}/open"));
    assert!(
        refused.exit == Exit::Code(1) && refused.stderr.contains("others can read the token"),
        "{refused:?}"
    );
    person(&host, "rm $HOME/open").success();
    let dry = setup(&host, &format!("--dry-run --token-file {HOME}/token")).success();
    assert!(dry.contains("nunbird-runner.service: would write") && !dry.contains(TOKEN), "{dry}");
    assert_eq!(tree(&host), before, "a dry run changes nothing");

    // A unit of the person's own with one of these names is not overwritten, and nothing is done by halves.
    person(
        &host,
        "mkdir -p $HOME/.config/systemd/user && echo mine >$HOME/.config/systemd/user/nunbird-prune.service",
    )
    .success();
    let refused = setup(&host, &format!("--token-file {HOME}/token"));
    assert!(refused.exit == Exit::Code(1) && refused.stderr.contains("has not made it"), "{refused:?}");
    person(
        &host,
        "test $(cat $HOME/.config/systemd/user/nunbird-prune.service) = mine && rm -r $HOME/.config",
    )
    .success();
    assert_eq!(tree(&host), before);

    let made = setup(&host, &format!("--token-file {HOME}/token")).success();
    assert!(
        made.contains("Jobs of the GitLab user alice on ") && made.contains(" run as nbt_runner"),
        "{made}"
    );
    assert!(!made.contains(TOKEN), "{made}");
    let file = world.host_path("/home/nbt_runner/.config/nunbird/runner.toml");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o7777, 0o600);
    let active = host.wait_until(|host| person(host, &format!("{CTL} user status")).succeeded());
    assert!(active, "{}", person(&host, &format!("{CTL} user logs")).stdout);
    let own = host.processes_of("nbt_runner");
    assert!(own.iter().any(|one| one.command.starts_with("/usr/local/bin/nbt-runner")), "{own:?}");

    // Jobs, by the commands that gitlab-runner's configuration has.
    let text = fs::read_to_string(&file).expect("a file");
    let commands = commands(&text);
    let job = world.job().script("id -un; echo of $HOME").commands(|now| *now = commands.clone());
    let log = job.run().expect_success().log();
    assert!(log.contains("nbt_runner\n") && log.contains("of /home/nbt_runner"), "{log}");
    let refused = world.job().user("bob").id(7002).commands(|now| *now = commands.clone()).config();
    assert!(!refused.succeeded() && format!("{refused:?}").contains("no-rule"), "{refused:?}");

    // The same again changes nothing; another one is added.
    let again = setup(&host, &format!("--token-file {HOME}/token")).success();
    assert!(!again.contains(": written"), "{again}");
    let other = person(
        &host,
        &format!(
            "{CTL} user setup --runner-program {HOME}/bin/gitlab-runner --url {} --gitlab-user bob --token-file {HOME}/token",
            world.issuer().url()
        ),
    );
    assert!(
        other.exit == Exit::Code(1) && other.stderr.contains("it has other settings than this call"),
        "{other:?}"
    );
    let logs = person(&host, &format!("{CTL} user logs")).success();
    assert!(
        logs.contains("keys fetched")
            && logs.contains("Started nunbird-runner.service")
            && logs.lines().count() <= 101,
        "{logs}"
    );
    let url = world.issuer().url();
    let second = person(
        &host,
        &format!(
            "echo glrt-nbtSecond_7654321 | {CTL} user setup --runner-program {HOME}/bin/gitlab-runner --url {url} --name second --prune daily --token-stdin"
        ),
    );
    let second = second.success();
    assert!(
        second.contains("runner.toml: written") && second.contains("nunbird-prune.timer: written"),
        "{second}"
    );
    assert!(
        second.contains("nunbird/config.toml: unchanged") && !second.contains("Jobs of the GitLab user"),
        "{second}"
    );
    let text = fs::read_to_string(&file).expect("a file");
    assert!(text.contains("concurrent = 2\n") && text.matches("[[runners]]").count() == 2, "{text}");
    let taken = setup(&host, &format!("--name third --token-file {HOME}/token"));
    assert!(taken.exit == Exit::Code(1) && taken.stderr.contains("`own` has this token"), "{taken:?}");
    let checked = person(
        &host,
        &format!(
            "{CTL} runner-config --configuration {HOME}/.config/nunbird/config.toml --check {HOME}/.config/nunbird/runner.toml"
        ),
    );
    assert!(checked.stdout.contains("0 errors, 0 remarks"), "{checked:?}");

    // The editor gets a copy on memory, and only a sound text is stored.
    let edit =
        |change: &str| person(&host, &format!("export EDITOR='sed -i {change}'; {CTL} user edit-config"));
    let stored = edit("s/concurrent.=.2/concurrent\\ =\\ 3/");
    assert!(stored.succeeded() && stored.stdout.contains("stored"), "{stored:?}");
    assert!(fs::read_to_string(&file).expect("a file").contains("concurrent = 3\n"));
    let wrong = edit("s/run_exec/run_exe/");
    assert!(wrong.exit == Exit::Code(3) && wrong.stdout.contains("run_exec is not set"), "{wrong:?}");
    assert!(fs::read_to_string(&file).expect("a file").contains("run_exec"), "what is refused is not stored");
    // It is kept on memory, and goes with the next text that is stored.
    let spared = "/run/user/4001/nunbird-edited.toml";
    assert!(wrong.stdout.contains(spared), "{wrong:?}");
    host.root(&format!("test $(stat -c %a {spared}) = 600 && grep -q 'run_exe ' {spared}")).success();
    let empty = edit("d");
    assert!(empty.exit == Exit::Code(3) && empty.stdout.contains("no runner calls"), "{empty:?}");
    edit("s/concurrent.=.3/concurrent\\ =\\ 4/").success();
    host.root(&format!("test ! -e {spared}")).success();
    host.root("test -z \"$(ls -d /run/user/4001/nunbird-edit-* /tmp/*.toml 2>/dev/null)\"").success();

    // The timer's service keeps the caches below the quota.
    person(&host, &format!("mkdir -p {HOME}/.nunbird/cache/p && head -c 3M /dev/zero >{HOME}/.nunbird/cache/p/old && touch -d '3 days ago' {HOME}/.nunbird/cache/p/old && {CTL} user prune --quota 1M --dry-run")).success();
    assert!(world.host_path("/home/nbt_runner/.nunbird/cache/p/old").exists());
    setup(&host, &format!("--quota 1M --token-file {HOME}/token")).success();
    person(&host, "XDG_RUNTIME_DIR=/run/user/4001 systemctl --user start nunbird-prune.service").success();
    assert!(!world.host_path("/home/nbt_runner/.nunbird/cache/p").exists());
    let timers =
        person(&host, "XDG_RUNTIME_DIR=/run/user/4001 systemctl --user list-timers --no-pager").success();
    assert!(timers.contains("nunbird-prune.timer") && timers.contains("nunbird-keys.timer"), "{timers}");

    // Everything goes but what jobs have made and what the person has changed.
    person(&host, &format!("echo '# mine' >>{HOME}/.config/systemd/user/nunbird-prune.timer; touch {HOME}/.config/nunbird/mine")).success();
    let removed = person(&host, &format!("{CTL} user remove")).success();
    assert!(removed.contains("nunbird-prune.timer: stays, as you have changed it"), "{removed}");
    assert!(host.wait_until(|host| {
        !host.processes_of("nbt_runner").iter().any(|one| one.command.contains("nbt-runner"))
    }));
    person(&host, &format!("rm -r {HOME}/.config/systemd/user/nunbird-prune.timer {HOME}/.config/nunbird/mine {HOME}/.nunbird {HOME}/.local/state/nunbird/audit.jsonl && find {HOME}/.config {HOME}/.local -type d -empty -delete")).success();
    assert_eq!(tree(&host), before);
    assert!(!person(&host, &format!("{CTL} user status")).succeeded());
}

/// The names of the person's files.
fn tree(host: &Host) -> String {
    host.root(&format!("find {HOME} | sort | grep -v -e /command$")).success()
}

/// `[runners.custom]` of the first runner. Its texts and arrays are written as in JSON.
fn commands(text: &str) -> Commands {
    let first = text.split("[[runners]]").nth(1).expect("a runner");
    let value = |key: String| -> Value {
        let line = first.lines().find_map(|line| line.trim().strip_prefix(&key)?.trim().strip_prefix('='));
        serde_json::from_str(line.unwrap_or_else(|| panic!("no {key} in {text}"))).expect("a value")
    };
    let program = |stage: &str| value(format!("{stage}_exec")).as_str().expect("a path").to_owned();
    let words = |stage: &str| {
        assert_eq!(program(stage), program("config"));
        let words = value(format!("{stage}_args"));
        words.as_array().expect("words").iter().map(|word| word.as_str().expect("a word").into()).collect()
    };
    Commands {
        program: program("config").into(),
        config: words("config"),
        prepare: words("prepare"),
        run: words("run"),
        cleanup: words("cleanup"),
    }
}
