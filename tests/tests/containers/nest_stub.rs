//! `nunbird-nest` and `nest.sh` of `packaging/container` with doubles of podman, systemctl and setpriv: what they decide, without an image.
//! The double of podman runs `nest.sh` itself, on files of the test in place of secrets.

use nunbird_tests::world::{under_test, write_executable};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const TOKEN: &str = "glrt-nbtStubFirst_1234567";
const OTHER: &str = "glrt-nbtStubOther_7654321";

const PODMAN: &str = r#"#!/bin/sh
echo "podman $*" >>$S/calls
case "$1 $2" in
  'secret inspect') test -e $S/secret/$3 ;;
  'secret rm') rm $S/secret/$3 ;;
  'secret create')
    if [ -s $S/refused ] && [ $3 = "$(head -n 1 $S/refused)" ]; then sed -i 1d $S/refused; echo no space left >&2; exit 125; fi
    cp $4 $S/secret/$3 ;;
  'image exists') ;;
  'container exists' | 'container inspect') [ -e $S/running ] && echo true ;;
  'kill --signal=QUIT') ;;
  'wait nunbird-nest' | 'stop nunbird-nest' | 'rm --force') rm -f $S/running ;;
  'logs --tail=20') echo nest: the last words ;;
  'version --format') cat $S/version ;;
  'unshare cat') cat $S/map ;;
  'run --rm')
    while [ $1 != localhost/nunbird-nest ]; do shift; done
    shift
    exec bash $S/nest.sh "$@" ;;
  'run --detach') [ -e $S/dies ] || touch $S/running ;;
esac
"#;
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "systemctl $*" >>$S/calls
case $2 in restart) touch $S/running ;; stop) [ ! -e $S/no-unit ] || { echo not loaded >&2; exit 5; }; rm -f $S/running ;; esac
"#;
const SETPRIV: &str = "#!/bin/sh\nfor word; do echo \"word: $word\"; done\nexec env\n";

struct Stub {
    directory: TempDir,
}

struct Said {
    ok: bool,
    out: String,
    err: String,
}

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("packaging/container")
}

fn program(path: &Path, text: &str) {
    write_executable(path, text.as_bytes());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

impl Stub {
    fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("nbt_nest_").tempdir_in("/var/tmp").expect("a directory");
        let stub = Stub { directory };
        for name in ["bin", "secret", "home", "run"] {
            fs::create_dir(stub.path(name)).expect("a directory");
        }
        for (name, text) in [("podman", PODMAN), ("systemctl", SYSTEMCTL), ("setpriv", SETPRIV)] {
            program(&stub.path("bin").join(name), text);
        }
        symlink(under_test("nunbirdctl"), stub.path("bin/nunbirdctl")).expect("a link");
        let nest = fs::read_to_string(packaging().join("nest.sh")).expect("a file");
        let nest = [
            ("/etc/nunbird/config.toml", "secret/nunbird-nest-config"),
            ("/etc/gitlab-runner/config.toml", "secret/nunbird-nest-runners"),
            ("/etc/nunbird/ca.pem", "secret/nunbird-nest-ca"),
            ("/etc/nunbird/nest", "nest"),
            ("/etc/nunbird/edited.toml", "edited.toml"),
        ]
        .iter()
        .fold(nest, |text, (from, to)| text.replace(from, &stub.path(to).display().to_string()));
        fs::write(stub.path("nest.sh"), nest).expect("a file");
        stub.write("nest", "gitlab_url=https://gitlab.example.org\nnested_privileged=true\nprune_interval=hourly\ndefault_image=debian:12\nrunner_image=r.example.org/runner:v1\n");
        stub.write("version", "4.7.0\n");
        stub.write("map", "0 1000 1\n1 100000 65539\n");
        stub
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// What podman and systemctl were called for since this was last asked.
    fn calls(&self) -> String {
        let calls = self.read("calls");
        self.write("calls", "");
        calls
    }

    fn secrets(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path("secret"))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn shell(&self, script: &str) -> Said {
        let done = Command::new("sh")
            .args(["-c", script])
            .env_clear()
            .env("S", self.directory.path())
            .env("NEST", packaging().join("nunbird-nest"))
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display()))
            .output()
            .expect("sh");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { ok: done.status.success(), out: text(&done.stdout), err: text(&done.stderr) }
    }

    fn nest(&self, words: &str) -> Said {
        self.shell(&format!("$NEST {words}"))
    }

    fn register(&self, token: &str, options: &str) -> Said {
        self.shell(&format!("echo '{token}' | $NEST register --token-stdin {options}"))
    }

    /// With a runner that is registered.
    fn registered() -> Self {
        let stub = Self::new();
        let said = stub.register(TOKEN, "--gitlab-user alice");
        assert!(said.ok, "{}", said.err);
        stub.calls();
        stub
    }
}

#[test]
fn a_first_registration_that_fails_leaves_nothing_and_can_be_repeated() {
    let stub = Stub::new();
    for (token, words) in [
        ("glrt 12345678", "not a runner's token"),
        ("short", "fewer than eight"),
        ("GR1348941abcdefgh", "given up"),
        ("", "the token is empty"),
    ] {
        let said = stub.register(token, "--url https://gitlab.example.org --gitlab-user alice");
        assert!(!said.ok && said.err.contains(words), "{}", said.err);
        assert!(!said.out.contains("admitted"), "{}", said.out);
        assert_eq!(stub.secrets(), Vec::<String>::new(), "{token}");
    }
    // Podman stores the second of three secrets not.
    stub.write("refused", "nunbird-nest-config\n");
    assert!(!stub.register(TOKEN, "").ok);
    assert_eq!(stub.secrets(), Vec::<String>::new());
    let said = stub.register(TOKEN, "--url https://gitlab.example.org/ --gitlab-user alice");
    assert!(said.ok && said.out.contains("Jobs of the GitLab user alice on https://gitlab.example.org are"));
    assert_eq!(stub.secrets(), ["nunbird-nest-ca", "nunbird-nest-config", "nunbird-nest-runners"]);
    assert_eq!(fs::read_dir(stub.path("run")).expect("a directory").count(), 0);
}

#[test]
fn options_of_the_server_may_be_repeated_and_a_different_one_is_refused() {
    let stub = Stub::registered();
    stub.write("ca.pem", "another authority\n");
    for (options, names) in [
        ("--gitlab-user bob", "--gitlab-user:"),
        ("--url https://other.example.org", "--url:"),
        ("--audience other --gitlab-user alice", "--audience:"),
        ("--ca-file $S/ca.pem", "--ca-file:"),
    ] {
        let said = stub.register(OTHER, &format!("--name second {options}"));
        assert!(
            !said.ok && said.err.contains(&format!("the server is set already, and differs in {names}")),
            "{}",
            said.err
        );
    }
    let same = "--gitlab-user alice --url https://gitlab.example.org/ --audience https://gitlab.example.org";
    let said = stub.register(OTHER, &format!("--name second {same}"));
    assert!(said.ok && !said.out.contains("admitted"), "{}", said.err);
    let text = stub.read("secret/nunbird-nest-runners");
    assert!(text.contains(TOKEN) && text.contains(OTHER) && text.contains("concurrent = 2\n"), "{text}");
}

#[test]
fn tokens_of_earlier_runners_survive_a_podman_that_stores_nothing() {
    let stub = Stub::registered();
    let before = stub.read("secret/nunbird-nest-runners");
    stub.write("refused", "nunbird-nest-runners\n");
    let said = stub.register(OTHER, "--name second");
    assert!(!said.ok && said.err.contains("nothing has changed"), "{}", said.err);
    assert_eq!(stub.read("secret/nunbird-nest-runners"), before);
    // Nor does it take the old text back.
    stub.write("refused", "nunbird-nest-runners\nnunbird-nest-runners\n");
    let said = stub.register(OTHER, "--name second");
    assert!(!said.ok && said.err.contains("podman secret create nunbird-nest-runners"), "{}", said.err);
    assert_eq!(stub.read("run/nunbird-nest-runners.toml"), before);
    // The server's part stays: it is no first registration.
    assert_eq!(stub.secrets(), ["nunbird-nest-ca", "nunbird-nest-config"]);
}

#[test]
fn the_runners_own_stages_have_an_image_and_a_configuration_says_so() {
    let stub = Stub::registered();
    let text = stub.read("secret/nunbird-nest-config");
    assert!(text.contains("\nrunner_image = \"r.example.org/runner:v1\"\n"), "{text}");
}

#[test]
fn programs_of_the_container_have_the_proxy_in_their_environment_alone() {
    let stub = Stub::new();
    let proxies = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
    let set: Vec<_> = proxies.iter().map(|name| format!("{name}=http://u:secret@p:{name}")).collect();
    let said = stub.shell(&format!("env {} OTHER=1 bash $S/nest.sh prune", set.join(" ")));
    assert!(said.ok, "{}", said.err);
    for line in &set {
        assert!(said.out.lines().any(|one| one == line), "{line}: {}", said.out);
    }
    assert!(said.out.contains("HOME=/var/lib/jobs\n") && said.out.contains("USER=jobs\n"), "{}", said.out);
    assert!(!said.out.contains("OTHER=") && !said.out.contains("XDG_RUNTIME_DIR="), "{}", said.out);
    let words: Vec<_> = said.out.lines().filter(|line| line.starts_with("word: ")).collect();
    assert!(words.contains(&"word: --reuid=jobs") && words.contains(&"word: prune"), "{words:?}");
    assert!(!words.iter().any(|word| word.contains("secret")), "{words:?}");
}

#[test]
fn a_start_ends_no_running_job_unless_it_is_asked_to_and_sees_a_container_that_dies() {
    let stub = Stub::registered();
    let said = stub.nest("start -- --cpus=4");
    assert!(said.ok && said.out.contains("started"), "{}", said.err);
    let calls = stub.calls();
    assert!(
        calls.contains("--volume=nunbird-nest-log:/var/log/nunbird --cpus=4 localhost/nunbird-nest"),
        "{calls}"
    );
    let again = stub.nest("start");
    assert!(!again.ok && again.err.contains("start --restart"), "{}", again.err);
    let calls = stub.calls();
    assert!(!calls.contains("podman stop") && !calls.contains("podman run"), "{calls}");
    assert!(stub.nest("start --restart").ok);
    let calls = stub.calls();
    assert!(calls.contains("podman stop nunbird-nest") && calls.contains("podman run --detach"), "{calls}");
    assert!(stub.nest("stop").ok);
    stub.write("dies", "");
    let dead = stub.nest("start");
    assert!(!dead.ok && !dead.out.contains("started"), "{}", dead.out);
    assert!(dead.err.contains("the last words") && dead.err.contains("has ended"), "{}", dead.err);
}

#[test]
fn a_stop_can_wait_for_jobs_that_run() {
    let stub = Stub::registered();
    stub.write("running", "");
    assert!(stub.nest("stop --when-idle").ok);
    let calls = stub.calls();
    let order = ["podman kill --signal=QUIT nunbird-nest", "podman wait nunbird-nest"];
    let places = order.map(|call| calls.find(call).unwrap_or_else(|| panic!("{call}: {calls}")));
    assert!(places[0] < places[1] && !calls.contains("podman stop"), "{calls}");
    stub.write("running", "");
    assert!(!stub.nest("stop --when-idel").ok);
    assert!(!stub.calls().contains("podman stop"));
}

#[test]
fn units_need_the_podman_that_can_read_them_and_a_stop_ends_what_runs_without_them() {
    let stub = Stub::registered();
    for old in ["4.3.1", "4.6.2", "3.9.0"] {
        stub.write("version", &format!("{old}\n"));
        let said = stub.nest("units");
        assert!(!said.ok && said.err.contains(&format!("Podman {old}:")), "{}", said.err);
        assert!(said.err.contains("@reboot ") && !stub.path("home/.config").exists(), "{}", said.err);
    }
    for new in ["4.7.0", "4.10.1", "5.0.0-dev"] {
        stub.write("version", &format!("{new}\n"));
        assert!(stub.nest("units").ok, "{new}");
    }
    let container = "home/.config/containers/systemd/nunbird-nest.container";
    let timer = "home/.config/systemd/user/nunbird-nest-prune.timer";
    assert!(stub.read(container).contains("Image=localhost/nunbird-nest\n"));
    assert!(stub.read(timer).contains("OnCalendar=hourly\n"));
    stub.calls();
    // One that was started before, or whose unit systemd does not know, ends as well, and the failure stays visible.
    stub.write("running", "");
    stub.write("no-unit", "");
    assert!(!stub.nest("stop").ok);
    let calls = stub.calls();
    assert!(calls.contains("systemctl --user stop") && calls.contains("podman stop nunbird-nest"), "{calls}");
    fs::remove_file(stub.path("no-unit")).expect("a file");
    assert!(stub.nest("start").ok);
    assert!(stub.calls().contains("systemctl --user restart nunbird-nest.service"));
    assert!(!stub.nest("start").ok);
    assert!(!stub.calls().contains("systemctl"));

    // A changed unit stays as it is, and under another name after --remove; the others follow the image.
    let mine = format!("{}PodmanArgs=--cpus=4\n", stub.read(container));
    stub.write(container, &mine);
    stub.write("nest", "prune_interval=weekly\n");
    let said = stub.nest("units");
    assert!(said.ok && said.out.contains("nunbird-nest.container: kept"), "{}", said.out);
    assert_eq!(stub.read(container), mine);
    assert!(stub.read(timer).contains("OnCalendar=weekly\n"));
    stub.calls();
    let said = stub.nest("units --remove");
    assert!(said.ok && said.out.contains("nunbird-nest.container.changed: kept"), "{}{}", said.out, said.err);
    assert_eq!(stub.read(&format!("{container}.changed")), mine);
    assert!(!stub.path(container).exists() && !stub.path(timer).exists());
    assert!(stub.calls().contains("systemctl --user disable --now nunbird-nest-prune.timer"));
    assert_eq!(stub.secrets().len(), 3);
}

#[test]
fn a_check_proposes_the_ids_that_are_missing_and_names_the_price_of_the_hosts_network() {
    let stub = Stub::new();
    let tool = fs::read_to_string(packaging().join("nunbird-nest")).expect("a file");
    let tool = tool
        .replace("/etc/subuid", "$S/subuid")
        .replace("/etc/subgid", "$S/subgid")
        .replace("/etc/$file", "$S/$file")
        .replace("/etc/$1", "$S/$1")
        .replace("/etc/nsswitch.conf", "$S/nsswitch.conf")
        .replace("/sys/fs/cgroup", "$S/cgroup")
        .replace("/dev/net/tun", "$S/tun");
    program(&stub.path("nunbird-nest"), &tool);
    program(&stub.path("bin/id"), "#!/bin/sh\ncase $1 in -un) echo ada ;; *) echo 41000 ;; esac\n");
    let check = || stub.shell("$S/nunbird-nest check");
    // Who has a usual range needs three more ids, behind the last range of anybody.
    for file in ["subuid", "subgid"] {
        stub.write(file, "ada:100000:65536\nbob:600000:65536\n");
    }
    let said = check();
    assert!(!said.ok && said.out.contains("usermod --add-subuids 665536-665538 ada"), "{}", said.out);
    assert!(said.out.contains("usermod --add-subgids 665536-665538 ada"), "{}", said.out);
    assert!(
        said.out.contains("--network=host, with which jobs reach everything that listens")
            && said.out.contains("network = \"own\""),
        "{}",
        said.out
    );
    // A directory service has them: getsubids(1) asks it.
    stub.write("nsswitch.conf", "passwd: files\nsubid: sss\n");
    for file in ["subuid", "subgid"] {
        stub.write(file, "");
    }
    let answer = |count: u32| {
        let script =
            format!("#!/bin/sh\n[ \"$1\" != -g ] || shift\n[ $1 = ada ] && echo '0: ada 200000 {count}'\n");
        program(&stub.path("bin/getsubids"), &script);
    };
    answer(65539);
    assert!(check().ok, "{}", check().out);
    answer(65538);
    let said = check();
    assert!(!said.ok && said.out.contains("65538 ids in the service that"), "{}", said.out);
    // What Podman has is the last word.
    answer(65539);
    stub.write("map", "0 41000 1\n");
    let said = check();
    assert!(!said.ok && said.out.contains("podman has 1 uids for your containers"), "{}", said.out);
}

#[test]
fn a_build_takes_the_package_of_one_version() {
    let stub = Stub::new();
    let recipe = fs::read_to_string(packaging().join("Containerfile")).expect("a file");
    let from = recipe.find("set -- /root/nunbird_").expect("the choice of a package");
    let lines: Vec<_> = recipe[from..].lines().take(2).map(|line| line.trim_end_matches('\\')).collect();
    let script = format!("want=amd64; {} echo took \"$1\"", lines.join(" ").replace("/root/", "$S/"));
    assert!(!stub.shell(&script).ok);
    stub.write("nunbird_0.3.0-1_amd64.deb", "");
    stub.write("nunbird_0.2.0-1_arm64.deb", "");
    let said = stub.shell(&script);
    assert!(said.ok && said.out.ends_with("nunbird_0.3.0-1_amd64.deb\n"), "{}{}", said.out, said.err);
    stub.write("nunbird_0.2.0-1_amd64.deb", "");
    let said = stub.shell(&script);
    assert!(!said.ok && said.err.contains("one nunbird_VERSION_amd64.deb, and has: "), "{}", said.err);
}
