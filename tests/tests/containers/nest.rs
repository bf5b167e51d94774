//! The runner in a container (`packaging/container`): built and run by rootless Podman of an account, its jobs in containers of the
//! Podman in it.

use nunbird_tests::containers::{NESTING, Node, Person, Registry, Release, nest as bed, samples};
use nunbird_tests::needs;
use nunbird_tests::runner::{Commands, Exit, Job};
use nunbird_tests::world::{AUDIENCE, Account, Finished, Privilege, World};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOME: &str = "/home/nbt_dee";
const TOKENS: [&str; 2] = ["glrt-nbtNestFirst_1234567", "glrt-nbtNestSecond_7654321"];
/// In the container, of gitlab-runner's account.
const RUNNER: u32 = 65_537;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("packaging")
}

#[track_caller]
fn must(command: &mut Command) -> String {
    let done = command.output().expect("a program");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A machine whose account nbt_dee has `packaging/container` and a Podman that works there.
fn node() -> Node {
    let node = Node::start(Release::Host);
    let home = node.see(HOME);
    must(Command::new("cp").arg("-r").arg(packaging().join("container")).arg(&home));
    // crun has no usable control groups here, and a store of Podman's own choice copies whole images.
    let settings = home.join(".config/containers");
    fs::create_dir_all(&settings).expect("a directory");
    let engine = "[containers]\ncgroups = \"disabled\"\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
    fs::write(settings.join("containers.conf"), engine).expect("a file");
    fs::write(settings.join("storage.conf"), "[storage]\ndriver = \"overlay\"\n").expect("a file");
    node.administer(&format!("chown -R nbt_dee: {HOME}"));
    node
}

fn nest(dee: &Person<'_>, words: &str) -> Finished {
    dee.shell(&format!("container/nunbird-nest {words}"))
}

#[needs(root)]
fn too_few_ids_and_a_token_that_others_can_read_are_found_before_anything_is_made() {
    let node = node();
    let dee = node.person("nbt_dee");
    let ready = nest(&dee, "check");
    assert!(ready.exit == Exit::Code(0), "{ready:?}");
    assert!(
        ready.stdout.contains("remark: lingering is off") && !ready.stdout.contains("error"),
        "{ready:?}"
    );
    node.administer("sed -i 's/^nbt_dee:.*/nbt_dee:432030000:65538/' /etc/subgid");
    let few = nest(&dee, "check");
    assert!(few.exit == Exit::Code(3), "{few:?}");
    assert!(few.stdout.contains("error: you have 65538 ids in /etc/subgid, and a runner in a container needs 65539: 65536 for jobs and 3 for its own accounts; an admin: usermod"), "{few:?}");
    // By uid count as well.
    node.administer("sed -i 's/^nbt_dee:.*/41204:432030000:65539/' /etc/subgid");
    assert!(nest(&dee, "check").succeeded());
    let refused = dee.shell(
        "echo glrt-12345678 >token; chmod 644 token; container/nunbird-nest register --token-file token",
    );
    assert!(refused.stderr.contains("token: others can read the token; chmod 600"), "{refused:?}");
    let nothing = dee.shell("chmod 600 token; container/nunbird-nest register --token-file token");
    assert!(
        nothing.stderr.contains("there is no image localhost/nunbird-nest: build it first"),
        "{nothing:?}"
    );
    assert!(nest(&dee, "start").stderr.contains("nunbird-nest register"));
    assert_eq!(
        dee.shell("podman secret ls --noheading; ls /run/user/41204 | grep nunbird-nest; true").success(),
        ""
    );
}

/// The image, built by nbt_dee of the site's Debian and the double of gitlab-runner, which is served at a socket.
fn build(node: &Node, socket: &Path, runner_image: &str) {
    let dee = node.person("nbt_dee");
    let double = format!(
        "#!/bin/sh\n[ \"$1 $2\" = 'run --config' ] && grep -q glrt- \"$3\" && echo the runner has started && exec {} {}\nexit 1\n",
        socket.with_file_name("nbt-runner").display(),
        socket.display()
    );
    bed::lay_out(&node.see(HOME), &double);
    node.administer(&format!("chown -R nbt_dee: {HOME}"));
    dee.shell(bed::IMPORT).success();
    let arguments = format!(
        "{} --build-arg PRUNE_INTERVAL=hourly --build-arg RUNNER_IMAGE={runner_image}",
        bed::ARGUMENTS
    );
    for wrong in ["TARGETARCH=s390x", "NESTED_PRIVILEGED=maybe", "GITLAB_URL=gitlab.example.org"] {
        let refused = dee.shell(&format!(
            "podman build {arguments} --build-arg {wrong} -f container/Containerfile context"
        ));
        let (name, value) = wrong.split_once('=').expect("an argument");
        assert!(
            !refused.succeeded() && refused.stderr.contains(name) && refused.stderr.contains(value),
            "{refused:?}"
        );
    }
    dee.shell(&format!("podman build -q {arguments} --tag nunbird-nest --file container/Containerfile context && rm -r context")).success();
}

/// The commands of the first `[[runners]]`.
pub(super) fn commands(text: &str) -> Commands {
    let first = text.split("[[runners]]").nth(1).expect("a runner");
    let value = |key: String| -> Value {
        let line = first.lines().find_map(|line| line.trim().strip_prefix(&key)?.trim().strip_prefix('='));
        serde_json::from_str(line.unwrap_or_else(|| panic!("no {key} in {text}"))).expect("a value")
    };
    let words = |stage: &str| {
        let words = value(format!("{stage}_args"));
        words.as_array().expect("words").iter().map(|word| word.as_str().expect("a word").into()).collect()
    };
    Commands {
        program: value("config_exec".to_owned()).as_str().expect("a path").into(),
        config: words("config"),
        prepare: words("prepare"),
        run: words("run"),
        cleanup: words("cleanup"),
    }
}

fn in_nest(dee: &Person<'_>, script: &str) -> String {
    dee.run(["podman", "exec", "nunbird-nest", "sh", "-c", script]).success()
}

#[needs(root)]
fn a_runner_in_a_container_runs_jobs_in_containers_in_it_and_keeps_its_ids_and_tokens_from_them() {
    let node = node();
    let dee = node.person("nbt_dee");
    let registry = Registry::open();
    registry.push("site/builder:1", &samples::builder());
    registry.push("site/runner:1", &samples::git());
    let image = registry.direct("site/builder:1");
    let mut world = World::new(Privilege::Setuid);
    let runner = Account {
        home: "/var/lib/gitlab-runner".to_owned(),
        has_home: false,
        ..Account::new("nbt_runner", NESTING + RUNNER - 1)
    };
    let shared = node.directory().join("calls");
    let place = world.serve_elsewhere(&shared, runner);
    bed::caller(&shared);
    build(&node, &place.join("calls.sock"), &registry.direct("site/runner:1"));

    // Two runners, whose tokens come by standard input and by a file.
    let authorities = format!("{}\n{}", registry.ca_pem(), world.issuer().ca_pem());
    node.write(&format!("{HOME}/ca.pem"), &authorities);
    node.administer(&format!("chown nbt_dee: {HOME}/ca.pem"));
    let url = world.issuer().url();
    let first = format!(
        "container/nunbird-nest register --token-stdin --url {url} --gitlab-user alice --audience {AUDIENCE} --ca-file ca.pem"
    );
    let said = dee.feed(["sh", "-c", &first], TOKENS[0]).success();
    assert!(said.contains("Jobs of the GitLab user alice on ") && !said.contains(TOKENS[0]), "{said}");
    let second =
        "umask 077; cat >token; container/nunbird-nest register --token-file token --name second && rm token";
    dee.feed(["sh", "-c", second], TOKENS[1]).success();
    for (options, words) in
        [("--name second", "there is a runner second"), ("--name third", "another runner has this token")]
    {
        let again = format!("container/nunbird-nest register --token-stdin {options}");
        let again = dee.feed(["sh", "-c", &again], TOKENS[1]);
        assert!(again.stderr.contains(words) && !again.stderr.contains(TOKENS[1]), "{again:?}");
    }
    let start = format!(
        "start -- --network=host --volume={0}:{1} --volume={HOME}/ca.pem:/etc/ssl/certs/ca-certificates.crt:ro",
        shared.display(),
        place.display()
    );
    nest(&dee, &start).success();
    wait(&dee, &shared);
    let text = in_nest(&dee, "cat /etc/gitlab-runner/config.toml");
    assert!(text.contains("concurrent = 2\n") && text.matches("[[runners]]").count() == 2, "{text}");
    assert!(TOKENS.iter().all(|token| text.contains(token)), "{text}");

    // A job, in an image of the site's; its files are the account's, and no id of the container's accounts is to be had.
    let commands = commands(&text);
    let job = |number: u64, script: &str| -> Job<'_> {
        let image = image.clone();
        let job = world.job().id(number).script(script).commands(|now| *now = commands.clone());
        job.response(move |response| response["image"] = serde_json::json!({ "name": image }))
            .limit(std::time::Duration::from_secs(180))
    };
    let ids = "id -u; awk '{ print $2, $3 }' /proc/self/uid_map; cat /var/lib/gitlab-runner/* /etc/gitlab-runner/config.toml 2>/dev/null || :; \
        touch file of-job; chown 65536 of-job; for id in 65537 65538 65539; do chown $id file && echo go''t $id; done; echo do''ne";
    let log = job(7001, ids).run().expect_success().log();
    assert!(log.contains("0\n65539 1\n1 65536\n") && log.contains("done\n"), "{log}");
    // Its sources came in a container as well: hooks run where the account's other jobs are out of reach.
    let sources = format!("sources, caches and artifacts: image {}", registry.direct("site/runner:1"));
    assert!(log.contains(&sources), "{log}");
    assert!(!log.contains("got ") && !TOKENS.iter().any(|token| log.contains(token)), "{log}");
    let owners = in_nest(
        &dee,
        "cd /cache/jobs && find . -name of-job -o -name file | xargs stat -c '%n %u' | sed 's|.*/||' | sort",
    );
    assert_eq!(owners, "file 65539\nof-job 65536");
    let refused = job(7002, "true").user("bob").config();
    assert!(!refused.succeeded() && format!("{refused:?}").contains("no-rule"), "{refused:?}");

    // An image is built in a job.
    let built = "mkdir -p c/bin && cp -L /bin/sh /bin/chown /bin/id c/bin && \
        for f in $(ldd /bin/sh /bin/chown /bin/id | grep -o '/lib[^ ]*' | sort -u); do mkdir -p c${f%/*} && cp -L $f c$f; done; \
        printf 'FROM scratch\\nCOPY c /\\nRUN id -u >/made && chown 33 /made\\n' >Containerfile && \
        buildah --storage-driver=vfs bud --isolation=chroot -q -t made . && buildah --storage-driver=vfs images | grep -c localhost/made";
    let log = job(7003, built).run().expect_success().log();
    assert!(log.contains("\n1\n"), "{log}");

    // All volumes are gone, and are made again with their owner.
    assert!(in_nest(&dee, "ls /storage/jobs").contains("images-many"));
    dee.shell("container/nunbird-nest stop && podman rm nunbird-nest && podman volume rm nunbird-nest-storage nunbird-nest-cache nunbird-nest-log").success();
    fs::remove_file(shared.join("calls.sock")).expect("what the first one has left");
    nest(&dee, &start).success();
    wait(&dee, &shared);
    assert_eq!(
        in_nest(&dee, "stat -c %U:%a /storage /cache /var/log/nunbird; ls /storage"),
        "jobs:700\njobs:700\ngitlab-runner:755"
    );
    job(7004, "echo again").run().expect_success();

    hidden(&node, &dee);
    accounts_of_the_container(&dee);
    edited(&dee);

    nest(&dee, "prune").success();
    let logs = nest(&dee, "logs");
    let logs = format!("{}{}", logs.stdout, logs.stderr);
    assert!(logs.contains("the runner has started") && logs.contains("\"job_id\":7004"), "{logs}");
    let said = nest(&dee, "remove").success();
    assert!(said.contains("removed"), "{said}");
    assert_eq!(
        dee.shell("podman secret ls --noheading; podman volume ls --noheading; podman ps -a --noheading")
            .success(),
        ""
    );
    let left = node.processes();
    assert!(!left.values().any(|one| one.contains("nbt-runner") || one.contains("nunbird")), "{left:?}");
    node.administer(&format!("setpriv --reuid 41204 --regid 41204 --clear-groups env HOME={HOME} XDG_RUNTIME_DIR=/run/user/41204 podman system reset --force >/dev/null 2>&1"));
}

/// Until the double listens.
fn wait(dee: &Person<'_>, shared: &Path) {
    let began = std::time::Instant::now();
    while !shared.join("calls.sock").exists() {
        assert!(
            began.elapsed().as_secs() < 60,
            "the runner in the container does not start: {:?}",
            nest(dee, "logs")
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Tokens are in the secret alone: not in what Podman shows, nor in an argument or environment, nor in a layer.
fn hidden(node: &Node, dee: &Person<'_>) {
    let shown = dee.shell("podman inspect nunbird-nest; podman image inspect nunbird-nest; podman history --no-trunc nunbird-nest; podman secret inspect nunbird-nest-runners; podman logs nunbird-nest 2>&1").success();
    assert!(
        shown.contains("nunbird-nest-runners") && !TOKENS.iter().any(|token| shown.contains(token)),
        "{shown}"
    );
    let words = node.administer("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'");
    assert!(words.contains("nbt-runner") && !words.contains("glrt-nbt"), "{words}");
    let files = node.administer(&format!(
        "grep -rlF glrt-nbt {HOME} /run/user/41204 2>/dev/null | grep -v /secrets/ || :"
    ));
    assert_eq!(files, "");
}

/// The ids of jobs have no file outside of volumes, and no process.
fn accounts_of_the_container(dee: &Person<'_>) {
    assert_eq!(in_nest(dee, "cat /etc/subuid /etc/subgid"), "jobs:1:65536\njobs:1:65536");
    let of_jobs = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o \\( -uid +0 -uid -65537 -o -gid +0 -gid -65537 \\) -print";
    assert_eq!(in_nest(dee, of_jobs), "");
    let ids = in_nest(
        dee,
        "id -u gitlab-runner; id -u nunbird; id -u jobs; sudo -l -U gitlab-runner | tail -1; grep ^% /etc/sudoers || :",
    );
    assert!(
        ids.starts_with("65537\n65538\n65539\n")
            && ids.ends_with("(jobs) NOPASSWD: /opt/nunbird/bin/nunbird --sudo"),
        "{ids}"
    );
    let processes = in_nest(dee, "for p in /proc/[0-9]*; do stat -c %u $p; done 2>/dev/null | sort -u");
    assert!(processes.lines().all(|id| ["0", "65537", "65538", "65539"].contains(&id)), "{processes}");
    let reads =
        dee.run(["podman", "exec", "--user=jobs", "nunbird-nest", "cat", "/etc/gitlab-runner/config.toml"]);
    assert!(reads.stderr.contains("Permission denied"), "{reads:?}");
}

/// Dump, edit and store in one command, which stores sound texts alone.
fn edited(dee: &Person<'_>) {
    let edit = |what: &str, change: &str| {
        dee.shell(&format!("printf '#!/bin/sh\\nsed -i \"{change}\" \"$1\"\\n' >editor; chmod 755 editor; EDITOR=./editor container/nunbird-nest edit-config {what}"))
    };
    let stored = edit("", "s/concurrent = 2/concurrent = 3/");
    assert!(stored.succeeded() && stored.stdout.contains("stored"), "{stored:?}");
    let wrong = edit("", "s/run_exec/run_exe/");
    assert!(
        !wrong.succeeded() && wrong.stderr.contains("nothing is stored") && wrong.stdout.contains("run_exec"),
        "{wrong:?}"
    );
    let wrong = edit("nunbird", "s/downscope/downscop/");
    assert!(!wrong.succeeded() && wrong.stderr.contains("downscop"), "{wrong:?}");
    assert!(edit("nunbird", "s/30d/20d/").succeeded());
    let dump = "podman run --rm --secret=nunbird-nest-runners,target=/etc/gitlab-runner/config.toml nunbird-nest dump";
    assert!(dee.shell(dump).success().contains("concurrent = 3\n"));
    assert!(edit("", "s/a/a/").stdout.contains("unchanged"));
    dee.shell("rm -f /run/user/41204/nunbird-nest-edited.toml").success();
    // The units have the image's interval.
    let units = nest(dee, "units made").success();
    assert_eq!(units.lines().count(), 6, "{units}");
    assert!(dee.shell("cat made/nunbird-nest-prune.timer").success().contains("OnCalendar=hourly\n"));
}
