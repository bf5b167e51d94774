//! A password of the site's for a registry, from the site's program to a pull by Podman from a registry that asks for it.

use nunbird_tests::containers::{Digest, PASSWORD, Registry, USER, samples};
use nunbird_tests::runner::assert_refused;
use nunbird_tests::world::enter::{Mount, Spec};
use nunbird_tests::world::{Account, Finished};
use nunbird_tests::{Exit, Job, Privilege, Session, StageOutcome, World, needs};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The account of the timer: a system account, which is nobody's for jobs.
const KEEPER: &str = "nunbird-credentials";
const DIRECTORY: &str = "/var/lib/nunbird/credentials";
const HELPER: &str = "/opt/site/bin/docker-credential-site";
/// It notes as whom and for what it was asked.
const PROGRAM: &str =
    "#!/bin/sh\nread -r server || [ -n \"$server\" ]\necho \"$(id -u) $* $server\" >/tmp/asked\n";

struct Site {
    world: World,
    registry: Registry,
    digest: Digest,
}

impl Site {
    fn new(privilege: Privilege) -> Self {
        let registry = Registry::start();
        let digest = registry.push("licensed/tools:1", &samples::busybox());
        let mut world = World::new(privilege);
        world.write_keys();
        world.add_account(Account {
            home: "/".to_owned(),
            shell: "/usr/sbin/nologin".to_owned(),
            has_home: false,
            ..Account::new(KEEPER, 991)
        });
        let known = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").expect("authorities");
        world.write_file(
            "/etc/ssl/certs/ca-certificates.crt",
            format!("{known}\n{}", registry.ca_pem()),
            "root",
            0o644,
        );
        world.write_file(
            "/etc/containers/policy.json",
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
            "root",
            0o644,
        );
        world.reconfigure("[job]\n", "[job]\ncontainer = \"images\"\n");
        let host = registry.host();
        let tables = format!(
            "{}\n[container.images]\nengine = \"podman\"\npull_policies = [\"always\"]\nstore = \"$HOME/store\"\npull_timeout = \"1m\"\n\
             [credential.licensed]\nhelper = \"{HELPER}\"\nrepositories = [\"{host}/licensed/**\"]\nprojects = [\"hpc/app\"]\n\
             timeout = \"2s\"\nmax_age = \"1h\"\n",
            world.configuration()
        );
        world.configure(&tables);
        let site = Site { world, registry, digest };
        site.helper(&format!("printf '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}\\n'\n"));
        fs::create_dir(site.world.host_path("/opt/none")).expect("a directory");
        let directory = site.world.host_path(DIRECTORY);
        fs::create_dir(&directory).expect("a directory");
        chown(&directory, Some(991), Some(0)).expect("an owner");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o2750)).expect("a mode");
        site
    }

    fn helper(&self, text: &str) {
        self.world.write_file(HELPER, format!("{PROGRAM}{text}"), "root", 0o755);
    }

    fn file(&self) -> PathBuf {
        self.world.host_path(DIRECTORY).join("licensed.json")
    }

    fn ctl(&self, account: &str, words: &[&str]) -> Finished {
        let program = self.world.paths().bin.join("nunbirdctl");
        self.world.run(&self.world.program(account, program, words))
    }

    fn refresh(&self) -> Finished {
        self.ctl(KEEPER, &["credentials", "refresh"])
    }

    fn check(&self) -> String {
        let done = self.ctl("root", &["check", "--runner-user", self.world.privilege().runner()]);
        done.stdout + &done.stderr
    }

    /// A job of a project in the image.
    fn job(&self, project: &str, user: &str) -> Job<'_> {
        let image = json!({ "name": self.registry.name("licensed/tools:1") });
        let project = project.to_owned();
        self.world.job().user(user).facts(|facts| facts.project_path = project).response(move |response| {
            response["image"] = image.clone();
        })
    }

    /// What has the password in it, plain or as it is written for engines, of files that the job and the account can read, and of processes.
    fn leaks(&self) -> String {
        use base64::Engine;
        let coded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let coded = coded.trim_end_matches('=');
        let root = self.world.root().display();
        let script = format!(
            "for text in '{PASSWORD}' '{coded}'; do \
               grep -rlsaF --exclude=docker-credential-site --exclude=licensed.json -- \"$text\" {root}; \
               for process in $(pgrep -u 4101); do grep -lsaF -- \"$text\" /proc/$process/cmdline /proc/$process/environ; done; \
             done; :"
        );
        let found = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
        String::from_utf8_lossy(&found.stdout).into_owned()
    }
}

/// crun refuses a machine where both versions of control groups have controllers.
fn as_on_one_version(mut spec: Spec, site: &Site) -> Spec {
    let place = Path::new("/sys/fs/cgroup/unified");
    if place.exists() {
        let mount = Mount::Bind { source: site.world.host_path("/opt/none"), target: place.into() };
        spec.mounts.as_mut().expect("a namespace").push(mount);
    }
    spec
}

fn prepare(site: &Site, session: &mut Session<'_>) -> StageOutcome {
    let spec = as_on_one_version(session.spec_of_prepare(), site);
    session.call_spec("prepare", &spec)
}

fn end(site: &Site, mut session: Session<'_>) {
    let spec = as_on_one_version(session.spec_of_cleanup(), site);
    let cleanup = session.call_spec("cleanup", &spec);
    assert!(cleanup.succeeded(), "{}", cleanup.log);
}

#[needs(root, in_each = Privilege::OF_FILE)]
fn an_admitted_project_pulls_with_the_sites_password_and_no_other_gets_it(privilege: Privilege) {
    let site = Site::new(privilege);
    let stored = site.refresh();
    assert_eq!(stored.exit, Exit::Code(0), "{stored:?}");
    assert!(!format!("{stored:?}").contains(PASSWORD), "{stored:?}");
    let asked = fs::read_to_string(site.world.host_path("/tmp/asked")).expect("its note");
    assert_eq!(asked.trim(), format!("991 get {}", site.registry.host()));
    let meta = site.file().metadata().expect("a file");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (991, 0, 0o640));
    assert!(!site.check().contains("[credential]"), "{}", site.check());
    let read = site.world.shell("alice", &format!("cat {DIRECTORY}/licensed.json"));
    assert_ne!(read.exit, Exit::Code(0), "{read:?}");

    let job = site.job("hpc/app", "alice");
    let mut session = job.begin();
    let config = session.config();
    assert!(config.succeeded(), "{}", config.log);
    let record = fs::read(&site.world.records()[0]).expect("a record");
    assert!(!String::from_utf8_lossy(&record).contains(PASSWORD));
    let prepared = prepare(&site, &mut session);
    assert!(prepared.succeeded(), "{}", prepared.log);
    let name = format!("{}/licensed/tools", site.registry.host());
    let said = format!("{name} may be pulled with the site's password `licensed`");
    assert!(prepared.log.contains(&said) && prepared.log.contains(site.digest.as_str()), "{}", prepared.log);
    assert!(!prepared.log.contains(PASSWORD), "{}", prepared.log);
    assert_eq!(site.leaks(), "");
    end(&site, session);
    assert_eq!(site.leaks(), "");

    // A project that only looks like it, and one that is another's.
    for project in ["hpc/app/sub", "other/app"] {
        let job = site.job(project, "bob");
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let prepared = prepare(&site, &mut session);
        assert!(prepared.log.contains("the registry wants a user name and password"), "{}", prepared.log);
        assert!(!prepared.succeeded() && !prepared.log.contains("the site's password"), "{}", prepared.log);
        end(&site, session);
    }
    let audit = fs::read_to_string(site.world.host_path(&site.world.paths().audit)).expect("events");
    assert!(!audit.contains(PASSWORD), "{audit}");
}

#[needs(root)]
fn an_answer_is_used_while_its_program_fails_until_it_is_too_old() {
    let site = Site::new(Privilege::Setuid);
    let began = site.refresh();
    assert_eq!(began.exit, Exit::Code(0), "{began:?}");
    let first = fs::read(site.file()).expect("a file");

    site.helper("exec sleep 1041\n");
    let start = Instant::now();
    let hangs = site.refresh();
    assert_eq!(hangs.exit, Exit::Code(1), "{hangs:?}");
    assert!(
        hangs.stderr.contains("did not answer within 2 s") && start.elapsed() < Duration::from_secs(30),
        "{hangs:?}"
    );
    let left = site.world.shell("root", "pgrep -u 991 -x -f 'sleep 1041'; :").stdout;
    assert_eq!(left, "");
    site.helper("echo half-of-the-secret >&2; exit 3\n");
    let fails = site.refresh();
    let (said, shown) = (format!("{fails:?}"), fails.stderr.contains("it ended with exit status: 3"));
    assert!(shown && !said.contains("half-of-the-secret"), "{said}");
    site.helper("printf '{\"Username\":\"u\",\"Secret\":\"%05000d\"}' 0\n");
    let long = site.refresh();
    assert!(long.stderr.contains("have 5001 bytes, and the most are 4096"), "{long:?}");
    for flood in [
        "head -c 70000 /dev/zero | tr '\\0' x\n",
        "exec yes half-of-the-secret\n",
        "exec yes half-of-the-secret >&2\n",
    ] {
        site.helper(flood);
        let start = Instant::now();
        let floods = site.refresh();
        assert!(floods.stderr.contains("its answer has more than 64 KiB"), "{flood}: {floods:?}");
        assert!(!format!("{floods:?}").contains("half-of-the-secret"), "{floods:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "{flood}: {:?}", start.elapsed());
    }
    assert_eq!(site.world.shell("root", "pgrep -u 991 -x -f 'yes half-of-the-secret'; :").stdout, "");
    site.world.write_file(HELPER, "#!/bin/sh\n", "alice", 0o755);
    let of_alice = site.refresh();
    assert!(of_alice.stderr.contains("owned by uid 4101"), "{of_alice:?}");
    fs::remove_file(site.world.host_path(HELPER)).expect("removed");
    let gone = site.refresh();
    assert!(gone.exit == Exit::Code(1) && gone.stderr.contains("No such file"), "{gone:?}");
    assert_eq!(fs::read(site.file()).expect("a file"), first, "the answer before it stays");

    let job = site.job("hpc/app", "alice");
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepared = prepare(&site, &mut session);
    assert!(prepared.succeeded(), "{}", prepared.log);
    end(&site, session);

    let mut old: Value = serde_json::from_slice(&first).expect("JSON");
    let fetched = old["fetched_at"].as_u64().expect("a time");
    old["fetched_at"] = (fetched - 3600).into();
    fs::write(site.file(), old.to_string()).expect("written");
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepared = prepare(&site, &mut session);
    let repository = format!("{}/licensed/tools", site.registry.host());
    let said = format!("the site's password for {repository} cannot be used at the moment");
    assert!(prepared.log.contains(&said) && !prepared.log.contains(PASSWORD), "{}", prepared.log);
    assert_eq!(prepared.exit, Exit::Code(2), "{}", prepared.log);
    assert_refused(&site.world, &prepared, "images", "and `max_age` is 1h");
    end(&site, session);
    fs::remove_file(site.file()).expect("removed");
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepared = prepare(&site, &mut session);
    assert!(prepared.log.contains(&said), "{}", prepared.log);
    end(&site, session);
}

#[needs(root)]
fn check_finds_who_else_could_read_or_change_the_sites_password_and_explain_shows_its_name_alone() {
    let site = Site::new(Privilege::Setuid);
    assert!(site.check().contains("licensed.json: No such file"), "{}", site.check());
    assert_eq!(site.refresh().exit, Exit::Code(0));
    let (file, directory) = (site.file(), site.world.host_path(DIRECTORY));
    let mode =
        |path: &PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    let finds = |said: &str| {
        let found = site.check();
        assert!(found.contains("[credential]") && found.contains(said), "{said}: {found}");
        assert!(!found.contains(PASSWORD), "{found}");
    };
    mode(&file, 0o644);
    finds("others can read or change the site's password (mode 0644, not 0640)");
    mode(&file, 0o640);
    mode(&directory, 0o2755);
    finds("others can read or change the site's passwords (mode 2755)");
    let refused = site.refresh();
    assert!(refused.exit == Exit::Code(1) && refused.stderr.contains("others can read"), "{refused:?}");
    mode(&directory, 0o2750);
    for (owner, group, said) in [
        (4101, 0, "belongs to uid 4101, which is an account that jobs may have"),
        (990, 0, "the account that keeps the signing keys"),
        (4001, 0, "which runs gitlab-runner"),
        (991, 991, "its group is 991"),
    ] {
        chown(&directory, Some(owner), Some(group)).expect("an owner");
        finds(said);
    }
    // What an account of jobs is, the floor says.
    site.world.write_file("/etc/nunbird/floor", "min_uid 991\n", "root", 0o644);
    finds("belongs to uid 991, which is an account that jobs may have (min_uid 991)");
    site.world.write_file("/etc/nunbird/floor", "min_uid 992\n", "root", 0o644);
    assert!(!site.check().contains("belongs to uid 991"), "{}", site.check());
    fs::remove_file(site.world.host_path("/etc/nunbird/floor")).expect("removed");
    // The account is weaker than root, who reads what it has put there: nothing follows it or waits for it.
    let kept = directory.join("kept");
    fs::rename(&file, &kept).expect("renamed");
    let made = site.world.shell("root", &format!("mkfifo -m 640 {DIRECTORY}/licensed.json"));
    assert_eq!(made.exit, Exit::Code(0), "{made:?}");
    chown(&file, Some(991), Some(0)).expect("an owner");
    finds("licensed.json: not a regular file");
    fs::remove_file(&file).expect("removed");
    symlink("/dev/zero", &file).expect("a link");
    finds("licensed.json: not a regular file");
    fs::remove_file(&file).expect("removed");
    fs::rename(&kept, &file).expect("renamed");
    fs::write(directory.join("former.json"), "{}").expect("a file");
    finds("former.json: no configuration has a [credential.NAME] for this password");
    fs::remove_file(directory.join("former.json")).expect("removed");
    // What the runner's account owns is no password of the site's.
    chown(&directory, Some(4001), Some(0)).expect("an owner");
    chown(&file, Some(4001), Some(0)).expect("an owner");
    let job = site.job("hpc/app", "alice");
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepared = prepare(&site, &mut session);
    assert!(
        !prepared.succeeded() && prepared.log.contains("cannot be used at the moment"),
        "{}",
        prepared.log
    );
    let response = fs::read(site.world.host_path(session.response_file())).expect("a response");
    end(&site, session);
    chown(&directory, Some(991), Some(0)).expect("an owner");
    chown(&file, Some(991), Some(0)).expect("an owner");
    mode(&directory, 0o2750);
    assert!(!site.check().contains("[credential]"), "{}", site.check());
    assert!(site.ctl("root", &["credentials", "refresh"]).stderr.contains("not run as root"));
    assert!(site.ctl("alice", &["credentials", "refresh"]).stderr.contains("owned by uid 991"));

    site.world.write_file("/etc/nunbird/response.json", response, "root", 0o600);
    let words = ["explain", "--job", "/etc/nunbird/response.json", "--runner-user", "nbt_runner"];
    let shown = site.ctl("root", &words).stdout;
    let repository = format!("{}/licensed/tools", site.registry.host());
    assert!(shown.contains(&format!("the site's `licensed` for {repository}")), "{shown}");
    assert!(!shown.contains(PASSWORD) && !shown.contains(USER), "{shown}");
}

#[needs(root)]
fn a_refused_password_is_the_sites_fault_and_a_forks_sources_get_none() {
    let site = Site::new(Privilege::Setuid);
    assert_eq!(site.refresh().exit, Exit::Code(0));
    let refused = |job: Job<'_>, said: &str| {
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let prepared = prepare(&site, &mut session);
        assert!(!prepared.succeeded() && prepared.log.contains(said), "{said}: {}", prepared.log);
        assert!(!prepared.log.contains(PASSWORD), "{}", prepared.log);
        assert_eq!(site.leaks(), "");
        end(&site, session);
        prepared
    };
    // Of a fork: the project that runs the job is admitted, and the sources are another's.
    let of_fork = || site.job("hpc/app", "alice").claim("project_id", json!("77"));
    refused(of_fork(), "the sources of this pipeline are a fork's");
    let audit = fs::read_to_string(site.world.host_path(&site.world.paths().audit)).expect("events");
    assert!(audit.contains("the sources are a fork's, and `forks` is not set"), "{audit}");
    // Of an older server: a merge request, and nothing says whose sources it has.
    let unknown = || {
        let job = site.job("hpc/app", "alice").claim("pipeline_source", json!("merge_request_event"));
        ["job_project_id", "job_project_path", "job_namespace_id", "job_namespace_path"]
            .into_iter()
            .fold(job, Job::without_claim)
    };
    refused(unknown(), "the sources of this pipeline may be a fork's");
    site.world.reconfigure("max_age = \"1h\"\n", "max_age = \"1h\"\nforks = true\n");
    for job in [of_fork(), unknown()] {
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let prepared = prepare(&site, &mut session);
        assert!(prepared.succeeded(), "{}", prepared.log);
        end(&site, session);
    }

    // The copy that these jobs have pulled is here, and the next policy would take it.
    site.world
        .reconfigure("pull_policies = [\"always\"]", "pull_policies = [\"always\", \"if-not-present\"]");
    site.helper("printf '{\"Username\":\"nobody\",\"Secret\":\"withdrawn\"}\\n'\n");
    assert_eq!(site.refresh().exit, Exit::Code(0));
    let failed = refused(
        site.job("hpc/app", "alice"),
        "the registry refuses the site's password [credential.licensed]",
    );
    assert_eq!(failed.exit, Exit::Code(2), "{}", failed.log);
    assert!(
        !failed.log.contains("DOCKER_AUTH_CONFIG") && !failed.log.contains("withdrawn"),
        "{}",
        failed.log
    );
}

#[needs(root)]
fn programs_that_hang_hold_up_no_other_and_a_signal_ends_them_all() {
    let site = Site::new(Privilege::Setuid);
    site.world.write_file("/opt/site/bin/hangs", "#!/bin/sh\nexec sleep 1043\n", "root", 0o755);
    let text = site.world.configuration();
    let table = &text[text.find("[credential.licensed]").expect("a table")..];
    // They have no answer yet, so that they are asked first.
    let hanging: String = (0..3)
        .map(|n| {
            let table = table.replace("[credential.licensed]", &format!("[credential.hangs-{n}]"));
            table.replace(HELPER, "/opt/site/bin/hangs").replace("timeout = \"2s\"", "timeout = \"10s\"")
        })
        .collect();
    fs::write(site.file(), "{}").expect("a file");
    chown(site.file(), Some(991), Some(0)).expect("an owner");
    site.world.configure(&format!("{text}\n{hanging}"));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let refresh = scope.spawn(|| site.refresh());
        while fs::read_to_string(site.file()).expect("a file").len() < 10 {
            assert!(start.elapsed() < Duration::from_secs(9), "it waits for those that hang");
            std::thread::sleep(Duration::from_millis(50));
        }
        let done = refresh.join().expect("a thread");
        assert_eq!(done.exit, Exit::Code(1), "{done:?}");
        assert_eq!(done.stderr.matches("did not answer within 10 s").count(), 3, "{done:?}");
        assert!(done.stdout.contains("licensed: stored"), "{done:?}");
    });
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let sleeping = || site.world.shell("root", "pgrep -u 991 -x -f 'sleep 1043'; :").stdout;
    assert_eq!(sleeping(), "");

    let script = "/opt/nunbird/bin/nunbirdctl credentials refresh & pid=$!\n\
                  until [ $(pgrep -u 991 -c -x -f 'sleep 1043') = 3 ]; do :; done\nkill -TERM $pid; wait $pid; echo $?\n";
    let start = Instant::now();
    let ended = site.world.shell(KEEPER, script);
    assert!(ended.stdout.ends_with("1\n") && ended.stderr.contains("ended by a signal"), "{ended:?}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(sleeping(), "");
}

#[needs(root)]
fn refresh_asks_all_configurations_one_at_a_time_and_removes_what_has_no_table_any_more() {
    let site = Site::new(Privilege::Setuid);
    let directory = site.world.host_path(DIRECTORY);
    let kept = || {
        let mut names: Vec<String> = fs::read_dir(&directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let other = site.world.configuration().replace("[credential.licensed]", "[credential.more]");
    site.world.write_file("/etc/nunbird/other.toml", &other, "root", 0o644);
    site.world.write_file("/etc/nunbird/configurations", "/etc/nunbird/other.toml\n", "root", 0o644);
    for name in ["former.json", "licensed.json.new"] {
        fs::write(directory.join(name), "{}").expect("a file");
    }
    // A root runner may name one that is in no list, and the timer does not see it.
    let unlisted = site.world.configuration().replace("[credential.licensed]", "[credential.of-root]");
    site.world.write_file("/etc/nunbird/unlisted.toml", &unlisted, "root", 0o644);
    let words = ["credentials", "refresh", "--configuration", "/etc/nunbird/unlisted.toml"];
    let unlisted = site.ctl(KEEPER, &words);
    assert_eq!(unlisted.exit, Exit::Code(0), "{unlisted:?}");
    assert!(
        unlisted.stderr.contains("unlisted.toml: neither /etc/nunbird/config.toml nor a line of"),
        "{unlisted:?}"
    );
    assert_eq!(kept(), ["former.json", "licensed.json.new", "of-root.json"]);
    let checked = site.ctl("root", &["check", "/etc/nunbird/unlisted.toml"]);
    let checked = checked.stdout + &checked.stderr;
    assert!(checked.contains("so nunbird-credentials.timer asks for none of its passwords"), "{checked}");
    // Nothing of another configuration is lost by a refresh of one.
    let config = site.world.paths().configuration.display().to_string();
    let one = site.ctl(KEEPER, &["credentials", "refresh", "--configuration", &config]);
    assert_eq!(one.exit, Exit::Code(0), "{one:?}");
    assert!(!one.stderr.contains("neither"), "{one:?}");
    assert_eq!(kept(), ["former.json", "licensed.json", "of-root.json"]);
    // The oldest first; `more` has none yet. What the file of a root runner has a table for stays.
    let all = site.refresh();
    assert_eq!(all.exit, Exit::Code(0), "{all:?}");
    assert_eq!(kept(), ["licensed.json", "more.json", "of-root.json"]);
    let order = [all.stdout.find("more: stored"), all.stdout.find("licensed: stored")];
    assert!(
        order[0].is_some() && order[0] < order[1] && all.stdout.contains("former.json: removed"),
        "{all:?}"
    );
    assert!(
        all.stdout.contains("of-root.json: kept for /etc/nunbird/unlisted.toml")
            && !all.stdout.contains("of-root: "),
        "{all:?}"
    );
    let checked = site.check();
    assert!(
        checked.contains("of-root.json: kept for /etc/nunbird/unlisted.toml, which is in no list"),
        "{checked}"
    );
    // It may have the table while it cannot be read, and has none of this program.
    let text = fs::read_to_string(site.world.host_path("/etc/nunbird/unlisted.toml")).expect("a file");
    site.world.write_file("/etc/nunbird/unlisted.toml", "rubbish", "root", 0o644);
    let broken = site.refresh();
    assert!(broken.exit == Exit::Code(1) && broken.stderr.contains("unlisted.toml"), "{broken:?}");
    assert_eq!(kept(), ["licensed.json", "more.json", "of-root.json"]);
    let other_program = text.replace(HELPER, "/opt/site/bin/two");
    site.world.write_file("/etc/nunbird/unlisted.toml", &other_program, "root", 0o644);
    let changed = site.refresh();
    assert!(changed.exit == Exit::Code(0) && changed.stdout.contains("of-root.json: removed"), "{changed:?}");
    assert_eq!(kept(), ["licensed.json", "more.json"]);
    // So it is once the file is no more one that root alone can have written, and where it never was.
    site.world.write_file("/etc/nunbird/unlisted.toml", &text, "root", 0o644);
    let again = site.ctl(KEEPER, &words);
    assert!(again.exit == Exit::Code(0) && kept().contains(&"of-root.json".to_owned()), "{again:?}");
    let at = site.world.host_path("/etc/nunbird/unlisted.toml");
    fs::remove_file(&at).expect("removed");
    symlink("/tmp/unlisted.toml", &at).expect("a link");
    site.world.write_file("/tmp/unlisted.toml", &text, "alice", 0o644);
    let given = site.refresh();
    assert!(given.exit == Exit::Code(0) && given.stdout.contains("of-root.json: removed"), "{given:?}");
    fs::remove_file(&at).expect("removed");
    let words_of_tmp = ["credentials", "refresh", "--configuration", "/tmp/unlisted.toml"];
    let of_ada = site.ctl(KEEPER, &words_of_tmp);
    assert!(
        of_ada.exit == Exit::Code(0)
            && of_ada.stderr.contains("not a file that root alone can have written")
            && kept().contains(&"of-root.json".to_owned()),
        "{of_ada:?}"
    );
    let removed = site.refresh();
    assert!(removed.exit == Exit::Code(0) && removed.stdout.contains("of-root.json: removed"), "{removed:?}");
    // So it is once the file is gone.
    site.world.write_file("/etc/nunbird/unlisted.toml", &text, "root", 0o644);
    let again = site.ctl(KEEPER, &words);
    assert!(again.exit == Exit::Code(0) && kept().contains(&"of-root.json".to_owned()), "{again:?}");
    fs::remove_file(site.world.host_path("/etc/nunbird/unlisted.toml")).expect("removed");
    let gone = site.refresh();
    assert!(gone.exit == Exit::Code(0) && gone.stdout.contains("of-root.json: removed"), "{gone:?}");
    assert_eq!(kept(), ["licensed.json", "more.json"]);
    assert!(!site.check().contains("[credential]"), "{}", site.check());

    // So may one of a list that cannot be read.
    site.world.write_file("/etc/nunbird/configurations", "/etc/nunbird/other.toml\n", "root", 0o600);
    let unread = site.refresh();
    assert!(
        unread.exit == Exit::Code(1) && unread.stderr.contains("/etc/nunbird/configurations: "),
        "{unread:?}"
    );
    assert_eq!(kept(), ["licensed.json", "more.json"]);
    site.world.write_file("/etc/nunbird/configurations", "/etc/nunbird/other.toml\n", "root", 0o644);
    // A configuration that cannot be read may have the table.
    site.world.write_file("/etc/nunbird/other.toml", "rubbish", "root", 0o644);
    let broken = site.refresh();
    assert!(broken.exit == Exit::Code(1) && broken.stderr.contains("other.toml"), "{broken:?}");
    assert_eq!(kept(), ["licensed.json", "more.json"]);
    let other =
        other.replace("[credential.more]", "[credential.licensed]").replace(HELPER, "/opt/site/bin/two");
    site.world.write_file("/etc/nunbird/other.toml", &other, "root", 0o644);
    let clash = site.refresh();
    assert!(
        clash.exit == Exit::Code(1) && clash.stderr.contains("both would keep its password in one file"),
        "{clash:?}"
    );
    site.world.write_file("/etc/nunbird/other.toml", &other, "alice", 0o644);
    let of_alice = site.refresh();
    assert!(of_alice.exit == Exit::Code(1) && of_alice.stderr.contains("other.toml"), "{of_alice:?}");
    fs::remove_file(site.world.host_path("/etc/nunbird/configurations")).expect("removed");

    // Two at once would write one draft.
    let lock = fs::File::open(&directory).expect("a directory");
    lock.lock().expect("a lock");
    let second = site.refresh();
    assert!(
        second.exit == Exit::Code(1) && second.stderr.contains("another refresh is running"),
        "{second:?}"
    );
    lock.unlock().expect("unlocked");
    let set =
        "export SECRET_OF_THE_SESSION=1 LANG=C.UTF-8; exec /opt/nunbird/bin/nunbirdctl credentials refresh";
    site.helper("env >/tmp/environment; echo 'credentials not found in native keychain'; exit 1\n");
    let none = site.world.shell(KEEPER, set);
    assert!(none.exit == Exit::Code(1) && none.stderr.contains("it has none, and none is kept"), "{none:?}");
    assert_eq!(kept(), [""; 0], "an explicit `none` removes the answer before it, and `more` has no table");
    let environment = fs::read_to_string(site.world.host_path("/tmp/environment")).expect("its note");
    let mut names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert!(names.contains(&"LANG") && names.contains(&"PATH"), "{environment}");
    assert!(names.iter().all(|name| ["HOME", "LANG", "PATH"].contains(name)), "{environment}");

    // The last table is gone.
    fs::write(directory.join("licensed.json"), "{}").expect("a file");
    let text = site.world.configuration();
    site.world.configure(&text[..text.find("[credential.licensed]").expect("a table")]);
    assert!(site.check().contains("licensed.json: no configuration has"), "{}", site.check());
    let last = site.refresh();
    assert_eq!((last.exit, kept()), (Exit::Code(0), Vec::<String>::new()), "{last:?}");
}
