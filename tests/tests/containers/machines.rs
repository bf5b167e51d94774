//! `nunbirdctl machines`: real trees by mmdebstrap, images and tarballs, hostile ones among them, in a private directory.
//! More than 600 lines, because every case builds from the same small system and looks at the same directories.

use nunbird_tests::containers::{Image, Layer, Registry};
use nunbird_tests::needs;
use nunbird_tests::world::under_test;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The directories of a host, of root alone.
struct Site {
    directory: TempDir,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Site {
    fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("nbt_machines_").tempdir_in("/var/tmp").expect("a directory");
        for below in ["var/lib/nunbird", "etc/nunbird/machines", "outside"] {
            fs::create_dir_all(directory.path().join(below)).expect("a directory");
        }
        Site { directory }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new(under_test("nunbirdctl"));
        command.args(["machines", "--root"]).arg(self.directory.path()).args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("nunbirdctl")
    }

    #[track_caller]
    fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// What it says when it fails.
    #[track_caller]
    fn bad(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        said
    }

    /// The name of the version that is current now.
    fn current(&self, name: &str) -> String {
        let link = fs::read_link(self.machine(name).join("current")).expect("a link");
        link.to_str().expect("text").to_owned()
    }

    fn machine(&self, name: &str) -> PathBuf {
        self.path("var/lib/nunbird/machines").join(name)
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.machine(name).join(self.current(name)).join("tree")
    }

    fn manifest(&self, name: &str) -> Value {
        let file = self.machine(name).join("current/manifest.json");
        serde_json::from_slice(&fs::read(file).expect("a manifest")).expect("JSON")
    }

    fn define(&self, name: &str, definition: &str) {
        fs::write(self.path("etc/nunbird/machines").join(format!("{name}.toml")), definition)
            .expect("a file");
    }

    /// A machine of a tarball with these entries.
    fn tarball(&self, name: &str, layer: &Layer, more: &str) {
        let archive = self.path(&format!("{name}.tar"));
        fs::write(&archive, layer.archive()).expect("a tarball");
        self.define(name, &format!("{more}\n[source]\ntarball = \"{}\"\n", archive.display()));
    }

    fn script(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        nunbird_tests::world::write_executable(&path, script.as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }

    /// All names of a machine's directory, without those that a machine always has.
    fn left(&self, name: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.machine(name)) else { return Vec::new() };
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        let mut names: Vec<String> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }
}

/// A system that is nothing but its name and its init.
fn system() -> Layer {
    Layer::new()
        .directory("./", 0o777)
        .directory("usr/", 0o755)
        .directory("usr/lib/", 0o755)
        .directory("sbin/", 0o755)
        .directory("tmp/", 0o1777)
        .file("usr/lib/os-release", 0o644, b"PRETTY_NAME=\"A test\"\nVERSION_CODENAME=tester\n")
        .file("sbin/init", 0o755, b"#!/bin/sh\n")
}

/// The processes whose arguments have this word.
fn processes(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| text(&line)).filter(|line| line.split('\0').any(|one| one == word)).collect()
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[needs(root)]
fn a_running_job_keeps_its_version_while_another_becomes_current() {
    let site = Site::new();
    site.tarball("small", &system().file("usr/one", 0o644, b"1"), "keep = 1");
    let said = site.good(&["build", "small"]);
    assert!(said.ends_with(" is current: A test, 1 KiB\n"), "{said}");
    let first = site.current("small");
    let manifest = site.manifest("small");
    assert_eq!((&manifest["name"], &manifest["version"]), (&"small".into(), &first.as_str().into()));
    assert_eq!((&manifest["suite"], &manifest["os"]), (&"tester".into(), &"A test".into()));
    assert!(manifest["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
    assert!(manifest["made"].as_str().is_some_and(|made| made.ends_with('Z')));
    let version = site.machine("small").join(&first);
    // Jobs' users read what there is. Setuid programs of a tree are out of their reach.
    for (path, mode) in [
        (site.path("var/lib/nunbird/machines"), 0o755),
        (site.machine("small"), 0o755),
        (version.clone(), 0o755),
        (version.join("manifest.json"), 0o644),
        (version.join("lock"), 0o600),
        (site.machine("small").join(".lock"), 0o600),
        (version.join("tree"), 0o700),
    ] {
        let meta = fs::symlink_metadata(&path).expect("a file");
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (mode, 0, 0), "{}", path.display());
    }

    // As a job holds it.
    let job = File::open(site.machine("small").join(&first).join("lock")).expect("a lock");
    job.lock_shared().expect("a lock");
    site.tarball("small", &system().file("usr/two", 0o644, b"2"), "keep = 1");
    site.good(&["build", "small"]);
    let second = site.current("small");
    assert_ne!(first, second);
    assert!(site.tree("small").join("usr/two").exists() && !site.tree("small").join("usr/one").exists());
    let list = site.good(&["list"]);
    let row = |version: &str| list.lines().find(|line| line.contains(version)).expect("a row").to_owned();
    assert!(row(&first).contains("in use") && !row(&first).contains("current"), "{list}");
    assert!(row(&second).contains("current") && !row(&second).contains("in use"), "{list}");

    assert!(site.good(&["gc"]).contains("kept "));
    assert!(site.machine("small").join(&first).join("tree/usr/one").exists());
    assert!(site.bad(&["remove", "small", &first], 1).contains("a job or a shell uses it"));
    assert!(site.bad(&["remove", "small", &second], 1).contains("is the current version"));
    job.unlock().expect("unlocked");
    assert!(site.good(&["gc"]).starts_with("removed "));
    assert_eq!(site.left("small"), [second.as_str(), "current"]);
    site.good(&["remove", "small"]);
    assert!(!site.machine("small").exists());
    assert_eq!(site.good(&["list"]), "there are no machines\n");
}

#[needs(root)]
fn a_hostile_tarball_changes_nothing_outside_of_its_tree() {
    let site = Site::new();
    let outside = site.path("outside");
    fs::write(outside.join("secret"), "kept").expect("a file");
    let at = |name: &str| outside.join(name).display().to_string();
    let target = outside.display().to_string();
    let far = format!("usr/lib/{}{}", "../".repeat(12), at("dots").trim_start_matches('/'));
    let hostile = [
        ("link", system().link("out", &target).file("out/planted", 0o644, b"x")),
        ("replaced", system().directory("out/", 0o755).link("out", &target).file("out/secret", 0o644, b"x")),
        ("dots", system().file(&far, 0o644, b"x")),
        ("hard", system().same("hard", &at("secret")).file("hard", 0o644, b"x")),
        ("twice", system().link("a", &target).same("b", "a/secret").file("b", 0o644, b"x")),
    ];
    for (name, layer) in hostile {
        site.tarball(name, &layer, "");
        let said = site.bad(&["build", name], 1);
        assert!(said.contains("tar failed"), "{said}");
        assert!(!site.machine(name).exists(), "{name} leaves something");
        assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 1, "{name}");
        assert_eq!(fs::read_to_string(outside.join("secret")).expect("a file"), "kept", "{name}");
        assert_eq!(fs::metadata(outside.join("secret")).expect("a file").nlink(), 1, "{name}");
    }
    // What leads out only for the machine is no fault; a name that begins with a slash is one in the tree.
    let layer = system()
        .link("out", &target)
        .file(&at("absolute"), 0o644, b"x")
        .device("disk")
        .file("usr/su", 0o4755, b"x");
    site.tarball("odd", &layer.file_of(1234, "usr/\u{1b}[31m", 0o644, b"x"), "");
    let said = site.good(&["build", "odd"]);
    assert!(said.contains("remark: device nodes outside of /dev were removed: disk\n"), "{said}");
    assert!(!site.tree("odd").join("disk").exists());
    assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 1);
    assert!(fs::symlink_metadata(site.tree("odd").join("out")).expect("a link").is_symlink());
    site.good(&["verify", "odd"]);
    // Its os-release is not read where a link leads.
    let release =
        Layer::new().directory("etc/", 0o755).link("etc/os-release", &at("secret")).directory("sbin/", 0o755);
    site.tarball("reader", &release.file("sbin/init", 0o755, b""), "");
    assert!(site.bad(&["build", "reader"], 1).contains("has no usr/lib/os-release"));
    // Somebody else's tarball has a checksum, or is none.
    chown(site.path("odd.tar"), Some(65534), None).expect("another owner");
    assert!(site.bad(&["build", "odd"], 1).contains("sha256"));
    site.define(
        "odd",
        &format!(
            "[source]\ntarball = \"{}\"\nsha256 = \"{}\"\n",
            site.path("odd.tar").display(),
            "0".repeat(64)
        ),
    );
    assert!(site.bad(&["build", "odd"], 1).contains("its SHA-256 is "));
}

/// A machine whose build goes on for long, with a mount and processes of its own.
fn slow(site: &Site, name: &str, word: &str) -> Child {
    let ready = site.path("ready");
    let _none = fs::remove_file(&ready);
    let script = format!(
        "#!/bin/sh\nmount -t tmpfs nbt \"$1/tmp\"\nsetsid sleep {word} &\ntouch {}\nsleep {word}\n",
        ready.display()
    );
    let hook = site.script("slow-hook", &script);
    site.tarball(name, &system(), &format!("hook = \"{}\"", hook.display()));
    let child = site
        .command(&["build", name])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nunbirdctl");
    wait_until("the hook runs", || ready.exists());
    child
}

#[needs(root)]
fn an_interrupted_build_leaves_nothing_and_a_killed_one_is_cleaned_up() {
    let site = Site::new();
    site.tarball("small", &system(), "");
    site.good(&["build", "small"]);
    let current = site.current("small");

    let word = format!("8{}", std::process::id());
    let build = slow(&site, "small", &word);
    wait_until("both processes run", || processes(&word).len() == 2);
    // Quick, if it were not refused.
    site.tarball("small", &system(), "");
    let said = site.bad(&["build", "small"], 1);
    assert!(said.contains("another build, update, gc or removal of `small` runs"), "{said}");
    assert!(site.good(&["gc"]).contains("(it is being built)"));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(build.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    let output = build.wait_with_output().expect("an end");
    assert!(
        output.status.code() == Some(1) && text(&output.stderr).contains("interrupted; nothing was changed")
    );
    assert!(processes(&word).is_empty());
    assert_eq!(site.left("small"), [current.as_str(), "current"]);

    let mut build = slow(&site, "small", &word);
    build.kill().expect("a signal");
    build.wait().expect("an end");
    wait_until("its processes are gone", || processes(&word).is_empty());
    assert!(site.left("small").iter().any(|name| name.starts_with(".partial-")));
    assert_eq!(site.current("small"), current);
    wait_until("its lock is free", || !site.good(&["gc"]).contains("kept"));
    assert_eq!(site.left("small"), [current.as_str(), "current"]);

    let mut build = slow(&site, "small", &word);
    build.kill().expect("a signal");
    build.wait().expect("an end");
    site.tarball("small", &system(), "");
    wait_until("the next build succeeds", || site.run(&["build", "small"]).status.success());
    assert!(!site.left("small").iter().any(|name| name.starts_with(".partial-")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(site.directory.path().to_str().expect("text")), "{mounts}");
}

/// Who can open a file, for reading alone, can hold its lock.
#[needs(root)]
fn nobody_but_root_locks_a_machine() {
    let site = Site::new();
    site.tarball("small", &system(), "");
    site.good(&["build", "small"]);
    let locks = [site.machine("small").join(".lock"), site.tree("small").with_file_name("lock")];
    // As a release before had them.
    for lock in &locks {
        fs::set_permissions(lock, fs::Permissions::from_mode(0o644)).expect("a mode");
    }
    fs::set_permissions(site.directory.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let locked = |lock: &PathBuf| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "flock", "--nonblock"]);
        command.arg(lock).arg("true").stderr(Stdio::null()).status().expect("setpriv").success()
    };
    assert!(locks.iter().all(locked));
    site.good(&["list"]);
    site.good(&["gc"]);
    assert!(!locks.iter().any(locked));
}

#[needs(root)]
fn a_machine_that_has_a_note_keeps_its_version() {
    let site = Site::new();
    site.tarball("small", &system(), "keep = 1");
    site.good(&["build", "small"]);
    let old = site.current("small");
    site.good(&["build", "small"]);
    let notes = site.path("run/nunbird/machines");
    fs::create_dir_all(&notes).expect("a directory");
    let note = notes.join("0123456789abcdef0123456789abcdef");
    // What says nothing of a tree may be of any; so may what is half-written or no file.
    for odd in
        [format!("42\ntree small/{old}\n"), "42\n".to_owned(), String::new(), "42\ntree small".to_owned()]
    {
        fs::write(&note, odd).expect("a note");
        assert!(site.good(&["gc"]).contains("kept "));
        assert!(site.bad(&["remove", "small", &old], 1).contains("a job or a shell uses it"));
        let list = site.good(&["list"]);
        assert!(list.lines().any(|row| row.contains(&old) && row.contains("in use")), "{list}");
    }
    fs::remove_file(&note).expect("removed");
    fs::create_dir(&note).expect("a directory");
    assert!(site.good(&["gc"]).contains("kept "));
    fs::remove_dir(&note).expect("removed");
    fs::write(&note, format!("42\ntree other/{old}\n")).expect("a note");
    assert!(site.good(&["gc"]).starts_with("removed "));
    assert_eq!(site.left("small").len(), 2);
}

/// rpm(8) opens the database of another root where the links of that root lead, and makes it there if it is missing.
#[needs(root)]
fn no_program_reads_a_database_of_the_tree() {
    let site = Site::new();
    let outside = site.path("outside");
    let layer = system()
        .directory("var/", 0o755)
        .directory("var/lib/", 0o755)
        .link("var/lib/rpm", &outside.display().to_string());
    site.tarball("small", &layer.link("usr/lib/sysimage", "/proc"), "");
    site.good(&["build", "small"]);
    assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 0);
    assert!(site.manifest("small")["packages"].is_null());
    site.good(&["verify", "small"]);
}

/// A tarball of the small system and one file without blocks, of this size.
fn sparse(site: &Site, name: &str, size: &str) {
    site.tarball(name, &system(), "");
    let script = "set -e; mkdir \"$1.d\"; tar -C \"$1.d\" -xf \"$1\"; truncate -s \"$2\" \"$1.d/usr/big\"
        tar -C \"$1.d\" --sparse -cf \"$1\" .; rm -rf --one-file-system \"$1.d\"";
    let archive = site.path(&format!("{name}.tar"));
    let made = Command::new("sh").args(["-c", script, "sh"]).arg(archive).arg(size).status();
    assert!(made.expect("sh").success());
}

#[track_caller]
fn terminate(build: Child) -> Output {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(build.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    let start = Instant::now();
    let output = build.wait_with_output().expect("an end");
    assert!(start.elapsed() < Duration::from_secs(8), "it took {:?}", start.elapsed());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("interrupted; nothing was changed"), "{output:?}");
    output
}

#[needs(root)]
fn a_file_without_blocks_holds_up_no_build() {
    let site = Site::new();
    sparse(&site, "long", "65G");
    let said = site.bad(&["build", "long"], 1);
    assert!(
        said.contains("/usr/big of the tree: it is longer than 64 GiB; use a source without it"),
        "{said}"
    );
    sparse(&site, "big", "60G");
    let mut build = site
        .command(&["build", "big"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nunbirdctl");
    let mut lines = BufReader::new(build.stdout.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "checking the tree")));
    std::thread::sleep(Duration::from_millis(1500));
    terminate(build);
    assert!(!site.machine("big").exists());
}

/// Empty files need no space.
#[needs(root)]
fn a_build_ends_before_it_has_taken_all_inodes() {
    let site = Site::new();
    let hook = site.script("hook", "#!/bin/sh\ncd \"$1/usr\" && seq 1 800 | xargs touch\n");
    site.tarball("small", &system(), &format!("hook = \"{}\"", hook.display()));
    let script = "mount -t tmpfs -o mode=755,size=2g,nr_inodes=10500 nbt \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(site.path("var/lib/nunbird"));
    let call = site.command(&["build", "small"]);
    let output = command.arg(call.get_program()).args(call.get_args()).output().expect("unshare");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("less than 10000 inodes are free, so the build was ended"),
        "{output:?}"
    );
}

#[needs(root)]
fn no_hook_finds_a_device_of_the_source_and_no_source_is_a_fifo() {
    let site = Site::new();
    let hook = site.script("hook", "#!/bin/sh\nset -e\ntest -e \"$1/sbin/init\"\ntest ! -e \"$1/disk\"\ntest -c \"$1/dev/null\"\n: >\"$1/dev/null\"\n");
    site.tarball(
        "small",
        &system().directory("dev/", 0o755).device("disk"),
        &format!("hook = \"{}\"", hook.display()),
    );
    assert!(site.good(&["build", "small"]).contains("were removed: disk\n"));
    let archive = site.path("small.tar");
    fs::remove_file(&archive).expect("removed");
    nix::unistd::mkfifo(&archive, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("a FIFO");
    let said = site.bad(&["update", "small"], 1);
    assert!(said.contains("its source is newer") && said.contains("not a regular file"), "{said}");
    // A hook where anybody could have put it.
    fs::remove_file(&hook).expect("removed");
    nix::unistd::mkfifo(&hook, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("a FIFO");
    site.bad(&["update", "small"], 1);
}

#[needs(root)]
fn a_registry_gets_the_password_of_authfile_and_is_not_waited_for() {
    let (site, registry) = (Site::new(), Registry::start());
    registry.push("hpc/machine:1", &Image::new([system()]));
    let reference = format!("docker://{}", registry.direct("hpc/machine:1"));
    let host = registry.direct("").trim_end_matches('/').to_owned();
    let authfile = site.path("auth.json");
    // The certificate of the registry is for this namespace of mounts alone.
    let script = "cp /etc/containers/policy.json \"$1\" && mount --bind \"$1\" /etc/containers && shift && exec \"$@\"";
    let containers = site.path("containers");
    let trusted = containers.join("certs.d").join(&host);
    fs::create_dir_all(&trusted).expect("a directory");
    fs::write(trusted.join("ca.crt"), registry.ca_pem()).expect("a file");
    let run = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&containers);
        let call = site.command(words);
        command.arg(call.get_program()).args(call.get_args()).stdin(Stdio::null()).output().expect("unshare")
    };
    site.define("image", &format!("[source]\noci = \"{reference}\"\n"));
    let output = run(&["build", "image"]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("skopeo failed"), "{output:?}");
    site.define(
        "image",
        &format!("[source]\noci = \"{reference}\"\nauthfile = \"{}\"\n", authfile.display()),
    );
    fs::write(&authfile, registry.auth_file()).expect("a file");
    fs::set_permissions(&authfile, fs::Permissions::from_mode(0o666)).expect("a mode");
    let output = run(&["build", "image"]);
    assert!(text(&output.stderr).contains("auth.json: writable by others"), "{output:?}");
    fs::set_permissions(&authfile, fs::Permissions::from_mode(0o600)).expect("a mode");
    let output = run(&["build", "image"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        !text(&fs::read(site.machine("image").join("current/manifest.json")).expect("a file"))
            .contains("auth.json")
    );
    let output = run(&["update", "image"]);
    assert_eq!(text(&output.stdout), "image is up to date\n", "{output:?}");
    registry.push("hpc/machine:1", &Image::new([system().file("usr/more", 0o644, b"2")]));
    let output = run(&["update", "image"]);
    assert!(text(&output.stdout).starts_with("image: its source is newer\n"), "{output:?}");

    // One that takes connections and says nothing.
    let address = host.clone();
    drop(registry);
    let mut silent = None;
    wait_until("the port is free", || {
        silent = TcpListener::bind(&address).ok();
        silent.is_some()
    });
    let update = site
        .command(&["update", "image"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nunbirdctl");
    wait_until("it asks", || processes("inspect").iter().any(|line| line.contains(&reference)));
    terminate(update);
    assert!(!processes("inspect").iter().any(|line| line.contains(&reference)));
    let start = Instant::now();
    assert_eq!(site.good(&["update", "image"]), "image is up to date\n");
    assert!(start.elapsed() < Duration::from_secs(50), "it took {:?}", start.elapsed());
}

#[needs(root)]
fn verify_names_the_first_difference() {
    let site = Site::new();
    let files = ["content", "mode", "owner", "removed"];
    let layer =
        files.iter().rev().fold(system(), |layer, name| layer.file(&format!("usr/{name}"), 0o644, b"old"));
    site.tarball("small", &layer.link("usr/link", "mode"), "");
    site.good(&["build", "small"]);
    assert!(site.good(&["verify"]).ends_with(": as it was built\n"));
    let tree = site.tree("small");
    let at = |name: &str| tree.join(name);
    let mode =
        |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("a mode");
    // Each is before all earlier ones in the order of paths.
    type Change<'c> = &'c dyn Fn();
    let changes: [(Change<'_>, &str); 8] = [
        (&|| fs::remove_file(at("usr/removed")).expect("removed"), "/usr/removed is missing"),
        (
            &|| chown(at("usr/owner"), Some(1000), None).expect("an owner"),
            "/usr/owner: its owner was 0, and is 1000 now",
        ),
        (&|| mode("usr/mode", 0o4755), "/usr/mode: its mode was 0644, and is 4755 now"),
        (
            &|| {
                fs::remove_file(at("usr/link")).expect("removed");
                symlink("owner", at("usr/link")).expect("a link");
            },
            "/usr/link: it was a link to mode, and leads to owner now",
        ),
        (&|| fs::write(at("usr/content"), "new").expect("a file"), "/usr/content: its content was changed"),
        (&|| fs::write(at("usr/added"), "").expect("a file"), "/usr/added was added"),
        (&|| chown(at("usr"), None, Some(7)).expect("a group"), "/usr: its group was 0, and is 7 now"),
        (&|| mode("", 0o775), "the tree's top: its mode was 0700, and is 0775 now"),
    ];
    for (change, expected) in changes {
        change();
        let said = site.bad(&["verify", "small"], 1);
        assert!(said.contains(&format!("differs: {expected}\n")), "{expected}\n{said}");
    }
    let list = tree.with_file_name("list");
    let text = fs::read_to_string(&list).expect("a list");
    fs::write(&list, text.replace("usr/mode ", "usr/more ")).expect("a list");
    assert!(site.bad(&["verify"], 1).contains("its list is not that of its manifest"));
}

#[needs(root)]
fn an_image_is_a_source_and_update_follows_it() {
    let site = Site::new();
    let layout = site.path("layout");
    Image::new([system(), Layer::new().directory("usr/", 0o755).file_of(33, "usr/www", 0o640, b"1")])
        .write(&layout, "one");
    site.define("image", &format!("[source]\noci = \"oci:{}:one\"\n", layout.display()));
    assert!(site.good(&["update", "--all"]).starts_with("image: there is none yet\n"));
    let meta = fs::metadata(site.tree("image").join("usr/www")).expect("a file");
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (33, 0o640));
    let first = site.current("image");
    assert_eq!(site.good(&["update", "image"]), "image is up to date\n");
    assert_eq!(site.left("image"), [first.as_str(), "current"]);
    site.good(&["verify"]);

    Image::new([system().file("usr/more", 0o644, b"2")]).write(&layout, "one");
    assert!(site.good(&["update", "image"]).starts_with("image: its source is newer\n"));
    assert!(site.tree("image").join("usr/more").exists());
    site.define("image", &format!("max_age = \"2h\"\n[source]\noci = \"oci:{}:one\"\n", layout.display()));
    assert!(site.good(&["update", "image"]).contains("is up to date"));
    let manifest = site.machine("image").join("current/manifest.json");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    let made = site.manifest("image")["made"].as_str().expect("a time").to_owned();
    fs::write(&manifest, text.replace(&made, "2020-01-01T00:00:00Z")).expect("a manifest");
    assert!(site.good(&["update", "image"]).starts_with("image: it is older than `max_age`\n"));

    let hostile = system().link("out", &site.path("outside").display().to_string());
    Image::new([hostile, Layer::new().file("out/planted", 0o644, b"x")]).write(&layout, "bad");
    let source = format!("oci:{}:bad", layout.display());
    let _either = site.run(&["build", "image", "--source", &source]);
    assert_eq!(fs::read_dir(site.path("outside")).expect("a directory").count(), 0);
    let missing = format!("oci:{}:none", layout.display());
    assert!(
        site.bad(&["build", "image", "--source", &missing], 1).contains("skopeo failed (exit status 1):")
    );
}

#[needs(root)]
fn what_cannot_be_built_is_refused_with_the_way_out() {
    let site = Site::new();
    assert!(site.bad(&["build", "Small"], 1).contains("`Small` is no name of a machine"));
    assert!(site.bad(&["build", "../small"], 1).contains("is no name of a machine"));
    site.tarball("small", &system(), "");
    assert!(site.bad(&["build", "smal"], 1).contains("there are definitions of small; write one"));
    site.good(&["build", "small"]);
    assert!(site.bad(&["login", "smal"], 1).contains("there are small;"));
    let empty = Layer::new().directory("usr/", 0o755).directory("usr/lib/", 0o755).file(
        "usr/lib/os-release",
        0o644,
        b"",
    );
    site.tarball("no-init", &empty, "");
    assert!(
        site.bad(&["build", "no-init"], 1).contains("neither systemd nor /sbin/init; add `systemd-sysv`")
    );
    assert!(!site.machine("no-init").exists());
    site.tarball("unknown", &system(), "hok = \"/x\"");
    let said = site.bad(&["build", "unknown"], 3);
    assert!(said.contains("unknown.toml:1:1") && said.contains("help: write `hook`"), "{said}");
    let definition = site.path("etc/nunbird/machines/small.toml");
    fs::set_permissions(&definition, fs::Permissions::from_mode(0o666)).expect("a mode");
    assert!(site.bad(&["build", "small"], 1).contains("writable by others"));
    fs::set_permissions(&definition, fs::Permissions::from_mode(0o644)).expect("a mode");
    let hook = site.script("hook", "#!/bin/sh\necho the reason; exit 9\n");
    site.tarball("small", &system(), &format!("hook = \"{}\"", hook.display()));
    assert!(site.bad(&["build", "small"], 1).contains("failed (exit status 9):\n  the reason\n"));
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o777)).expect("a mode");
    assert!(site.bad(&["build", "small"], 1).contains("hook: writable by others"));
    // One that fails does not hold up the others.
    site.tarball("good", &system(), "");
    let said = site.bad(&["update", "--all"], 3);
    assert!(said.contains("good: there is none yet") && said.contains("unknown key `hok`"), "{said}");
    assert!(site.tree("good").exists());
}

/// A mount below a version would be emptied with it.
#[needs(root)]
fn nothing_is_removed_below_which_something_is_mounted() {
    let site = Site::new();
    site.tarball("small", &system(), "keep = 1");
    site.good(&["build", "small"]);
    let old = site.current("small");
    site.good(&["build", "small"]);
    let mounted = site.machine("small").join(&old).join("tree/tmp");
    let kept = site.path("outside");
    fs::write(kept.join("file"), "kept").expect("a file");
    // In a namespace of its own, which ends with the script.
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&kept).arg(&mounted);
    let call = site.command(&["gc"]);
    let output = command.arg(call.get_program()).args(call.get_args()).output().expect("unshare");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("is mounted there, so nothing is removed; umount "), "{output:?}");
    assert_eq!(fs::read_to_string(kept.join("file")).expect("a file"), "kept");
    assert!(mounted.exists());
    site.good(&["gc"]);
    assert!(!mounted.exists());
}

#[needs(root)]
fn a_debian_tree_is_built_entered_changed_and_finished_by_a_hook() {
    let site = Site::new();
    let hook = site.script("hook", "#!/bin/sh\nset -e\nid -u >/inside\ncat /proc/self/uid_map >/map\ntest ! -e /outside\nmknod /node c 1 3 && exit 1\nmount -o remount,rw /proc/sys && exit 1\nexit 0\n");
    let mirror = nunbird_tests::tree::mirror();
    let suite = nunbird_tests::tree::own_suite();
    site.define("debian", &format!(
        "hook = \"{}\"\nhook_inside = true\n[source]\nsuite = \"{suite}\"\nmirror = \"{mirror}\"\npackages = [\"sl\"]\n",
        hook.display()
    ));
    site.good(&["build", "debian"]);
    let manifest = site.manifest("debian");
    assert!(manifest["packages"].as_u64().is_some_and(|count| count > 80), "{manifest}");
    assert_eq!(
        (&manifest["suite"], &manifest["source"]["suite"]),
        (&suite.as_str().into(), &suite.as_str().into())
    );
    let tree = site.tree("debian");
    assert_eq!(fs::read_to_string(tree.join("inside")).expect("a file"), "0\n");
    // Root there is nobody on the host, and its files are root's all the same.
    let in_own_ids = |map: &std::path::Path| {
        let text = fs::read_to_string(map).expect("a map");
        let first =
            text.split_whitespace().nth(1).expect("an id on the host").parse::<u32>().expect("a number");
        assert!(first >= 65_536, "{text}");
        assert_eq!(fs::metadata(map).expect("a file").uid(), 0);
    };
    in_own_ids(&tree.join("map"));
    assert!(tree.join("usr/games/sl").exists());
    let is_device = |entry: &fs::DirEntry| {
        let kind = entry.file_type().expect("a type");
        kind.is_char_device() || kind.is_block_device()
    };
    let devices = fs::read_dir(tree.join("dev")).expect("a directory").flatten().filter(is_device).count();
    assert_eq!(devices, 0);
    site.good(&["verify", "debian"]);

    let first = site.current("debian");
    assert_eq!(
        site.good(&["login", "debian", "--", "sh", "-c", "touch /new && ls /new && stat -c %a /"]),
        "/new\n755\n"
    );
    assert_eq!(
        site.bad(&["login", "debian", "--", "sh", "-c", "exit 7"], 7)
            .lines()
            .filter(|line| line.contains("error:"))
            .count(),
        0
    );
    assert!(!tree.join("new").exists());
    let said = site.bad(&["login", "debian", "--", "mknod", "/node", "b", "8", "0"], 1);
    assert!(said.contains("Operation not permitted"), "{said}");
    site.good(&["verify", "debian"]);
    assert_eq!(site.current("debian"), first);
    site.bad(&["login", "debian", "--write", "--", "sh", "-c", "touch /new; exit 3"], 1);
    assert_eq!(site.left("debian"), [first.as_str(), "current"]);
    site.good(&["login", "debian", "--write", "--", "sh", "-c", "touch /new; cat /proc/self/uid_map >/map"]);
    in_own_ids(&site.tree("debian").join("map"));
    assert!(site.tree("debian").join("new").exists() && !tree.join("new").exists());
    assert_eq!(site.manifest("debian")["source"]["login"], first);
    assert!(site.good(&["update", "debian"]).contains("is up to date"));
    site.good(&["verify"]);
}
