//! The container for trials (`packaging/Containerfile`): built and run by Podman of root, with jobs of its own accounts.

use super::nest::commands;
use nunbird_tests::containers::{Node, Release, nest as bed, samples};
use nunbird_tests::needs;
use nunbird_tests::runner::Commands;
use nunbird_tests::world::{AUDIENCE, Account, Privilege, World};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const PODMAN: &str = "export CONTAINERS_CONF=/etc/nbt/containers.conf CONTAINERS_STORAGE_CONF=/etc/nbt/storage.conf HOME=/var/tmp/root; mkdir -p $HOME; cd $HOME;";

/// Runs a script in which `podman` is root's.
#[track_caller]
fn root(node: &Node, script: &str) -> String {
    node.administer(&format!("{PODMAN} {script}"))
}

fn node() -> Node {
    let node = Node::start(Release::Host);
    node.write(
        "/etc/nbt/containers.conf",
        "[containers]\ncgroups = \"disabled\"\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
    );
    node.write(
        "/etc/nbt/storage.conf",
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/tmp/root-store\"\nrunroot = \"/run/root-store\"\n",
    );
    node
}

/// The image, of a Debian that has what it needs, and the double of gitlab-runner, which listens at this socket.
fn build(node: &Node, socket: &Path) {
    let home = node.see("/var/tmp/root");
    fs::create_dir_all(home.join("runner")).expect("a directory");
    fs::create_dir(home.join("packages")).expect("a directory");
    bed::package(&home.join("packages"));
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/Containerfile");
    fs::copy(recipe, home.join("Containerfile")).expect("a file");
    let double = format!(
        "#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = 'run --config /etc/gitlab-runner/config.toml --working-directory /home/gitlab-runner' ] && \
         grep -q glrt- \"$3\" && exec {} {}\nexit 1\n",
        socket.with_file_name("nbt-runner").display(),
        socket.display()
    );
    let program = home.join("runner/gitlab-runner");
    nunbird_tests::world::write_executable(&program, double.as_bytes());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::write(home.join("runner/Containerfile"), "FROM scratch\nCOPY gitlab-runner /usr/bin/gitlab-runner\n")
        .expect("a file");
    root(node, "podman build -q -t localhost/site/runner:1 runner");
    root(
        node,
        "podman build -q --network=none --file Containerfile --build-arg BASE=localhost/site/debian:12 \
         --build-arg RUNNER=localhost/site/runner:1 --build-arg USERS='alice bob' --tag nunbird-trial packages",
    );
}

#[needs(root)]
fn the_container_for_trials_runs_jobs_as_its_own_accounts() {
    let node = node();
    let mut world = World::new(Privilege::Setuid);
    let home = node.see("/var/tmp/root");
    fs::create_dir(&home).expect("a directory");
    samples::nest().write(&home.join("layout"), "base");
    root(
        &node,
        "podman pull -q oci:layout:base | xargs -I{} podman tag {} localhost/site/debian:12; rm -r layout",
    );
    // What useradd(8) will choose in this Debian.
    let chosen =
        "podman run --rm --network=none localhost/site/debian:12 sh -c 'useradd --system nbt && id -u nbt'";
    let uid = root(&node, chosen).trim().parse().expect("a uid");
    let runner = Account {
        home: "/home/gitlab-runner".to_owned(),
        has_home: false,
        ..Account::new("nbt_runner", uid)
    };
    let shared = node.directory().join("calls");
    let place = world.serve_elsewhere(&shared, runner);
    bed::caller(&shared);
    build(&node, &place.join("calls.sock"));

    // The site's two files.
    let url = world.issuer().url();
    let table =
        include_str!("../../../packaging/gitlab-runner.toml").replace("https://gitlab.example.org", &url);
    fs::create_dir(home.join("etc")).expect("a directory");
    fs::write(home.join("etc/config.toml"), &table).expect("a file");
    let policy = format!(
        "[[gitlab]]\nname = \"trial\"\nurl = \"{url}\"\naudience = \"{AUDIENCE}\"\nca_file = \"/etc/ca.pem\"\n\
         [[rule]]\nname = \"ada's\"\nwhen = {{ user = \"alice\" }}\nrun_as = \"$user_login\"\n"
    );
    fs::write(home.join("config.toml"), policy).expect("a file");
    fs::write(home.join("ca.pem"), world.issuer().ca_pem()).expect("a file");
    let volumes = format!(
        "--network=host --volume ./config.toml:/etc/nunbird/config.toml:ro --volume ./ca.pem:/etc/ca.pem:ro \
         --volume ./etc:/etc/gitlab-runner --volume {}:{}",
        shared.display(),
        place.display()
    );
    root(&node, &format!("podman run -q -d --name trial {volumes} nunbird-trial"));
    let began = Instant::now();
    while !shared.join("calls.sock").exists() {
        let logs = || root(&node, "podman logs trial 2>&1");
        assert!(began.elapsed() < Duration::from_secs(60), "the runner does not start: {}", logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    // It has fetched the keys before the runner started.
    let checked = root(&node, "podman exec trial nunbirdctl check");
    assert!(checked.contains("1 rule; 0 errors"), "{checked}");

    let commands = commands(&table);
    let job = |number: u64, user: &str, script: &str| {
        let of = commands.clone();
        world.job().id(number).user(user).script(script).commands(|now: &mut Commands| *now = of.clone())
    };
    let log = job(7101, "alice", "id -un; stat -c %U .").run().expect_success().log();
    assert!(log.contains("alice\nalice\n"), "{log}");
    // It has an account, and no rule.
    let refused = job(7102, "bob", "true").config();
    assert!(!refused.succeeded() && refused.stderr.contains("no-rule"), "{refused:?}");
    root(
        &node,
        "podman kill trial >/dev/null; podman wait trial >/dev/null; podman rm trial >/dev/null; podman system reset --force >/dev/null 2>&1; true",
    );
}
