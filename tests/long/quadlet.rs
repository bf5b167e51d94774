//! The quadlet units of the runner in a container (`packaging/container`), on a booted host whose Podman reads them: written, started, ended and
//! removed by `nunbird-nest`, for a person without root.

use nunbird_tests::containers::{Booted, nest as bed};
use nunbird_tests::needs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const TOKEN: &str = "glrt-nbtQuadlet_1234567";
/// In place of gitlab-runner: it says that it runs, until it is asked to end.
const RUNNER: &str = "#!/bin/sh\n[ \"$1 $2\" = 'run --config' ] && grep -q glrt- \"$3\" || exit 1\n\
    echo the runner has started as $(id -un)\ntrap 'echo the runner ends; exit 0' TERM QUIT\nwhile :; do sleep 1 & wait $!; done\n";

fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    let began = Instant::now();
    while !come() {
        assert!(began.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[needs(root)]
fn the_quadlet_units_of_a_runner_in_a_container_start_it_again_and_end_it_on_a_booted_host() {
    let host = Booted::start();
    let home = host.see("/home/nbt_dee");
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/container");
    assert!(Command::new("cp").arg("-r").arg(packaging).arg(&home).status().expect("cp").success());
    bed::lay_out(&home, RUNNER);
    host.root("chown -R nbt_dee: /home/nbt_dee").success();
    host.person(bed::IMPORT).success();
    let build = format!(
        "podman build -q {} --tag nunbird-nest --file container/Containerfile context",
        bed::ARGUMENTS
    );
    host.person(&build).success();
    let nest = |words: &str| host.person(&format!("container/nunbird-nest {words}"));
    let checked = nest("check");
    assert!(checked.succeeded() && !checked.stdout.contains("lingering"), "{checked:?}");
    let register =
        "container/nunbird-nest register --token-stdin --url https://gitlab.example.org --gitlab-user alice";
    host.feed(register, &format!("{TOKEN}\n")).success();

    let written = nest("units").success();
    assert_eq!(written.lines().count(), 6, "{written}");
    let timers = host.person("systemctl --user list-timers --no-pager").success();
    assert!(timers.contains("nunbird-nest-prune.timer"), "{timers}");
    nest("start").success();
    let state = |unit: &str| {
        host.person(&format!("systemctl --user show -P ActiveState {unit}")).stdout.trim().to_owned()
    };
    assert_eq!(state("nunbird-nest.service"), "active");
    assert!(nest("status").success().starts_with("nunbird-nest Up "));
    let logged = |words: &str| nest("logs").stdout.contains(words);
    wait_for("the runner", || logged("the runner has started as gitlab-runner"));
    let inside = "podman exec nunbird-nest sh -c 'stat -c %U:%a /storage /cache /etc/gitlab-runner/config.toml; hostname'";
    assert_eq!(host.person(inside).success(), "jobs:700\njobs:700\ngitlab-runner:400\nnunbird-nest");
    let volumes = host.person("podman volume ls --noheading --format '{{.Name}}' | sort").success();
    assert_eq!(volumes, "nunbird-nest-cache\nnunbird-nest-log\nnunbird-nest-storage");
    let again = nest("start");
    assert!(again.stderr.contains("it runs already"), "{again:?}");
    host.person("systemctl --user start nunbird-nest-prune.service").success();

    // It comes back after a failure, and with the person's systemd after a boot.
    let id = || host.person("podman container inspect --format '{{.Id}}' nunbird-nest").stdout;
    let first = id();
    host.person("podman kill --signal=KILL nunbird-nest").success();
    wait_for("another container", || {
        !id().is_empty() && id() != first && state("nunbird-nest.service") == "active"
    });
    let wanted = host.person("systemctl --user list-dependencies --plain default.target").success();
    assert!(wanted.contains("nunbird-nest.service"), "{wanted}");

    nest("stop").success();
    assert!(logged("the runner ends"), "{}", nest("logs").stdout);
    let status = || host.person("systemctl --user status --lines=50 nunbird-nest.service").stdout;
    assert_eq!(state("nunbird-nest.service"), "inactive", "{}", status());
    assert_eq!(host.person("podman ps --all --quiet").success(), "");
    // A unit that the person has changed is not taken away with the others.
    host.person("echo '# mine' >>.config/containers/systemd/nunbird-nest.container").success();
    let removed = nest("units --remove").success();
    assert!(removed.contains("nunbird-nest.container.changed: kept"), "{removed}");
    assert_eq!(state("nunbird-nest-prune.timer"), "inactive");
    assert_eq!(host.person("ls .config/containers/systemd").success(), "nunbird-nest.container.changed");
    nest("remove").success();
    assert_eq!(host.person("podman secret ls --noheading; podman volume ls --noheading").success(), "");
}
