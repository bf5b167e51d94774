//! `nunbird exec`: jobs by hand, as an account without privilege, on this host and in containers of Podman.

use nunbird_tests::containers::{Node, Person, Registry, Release, samples};
use nunbird_tests::needs;
use nunbird_tests::world::{Exit, Finished};

/// A project of an account's, with one commit.
pub(crate) struct Project<'n> {
    node: &'n Node,
    pub(crate) person: Person<'n>,
}

impl<'n> Project<'n> {
    pub(crate) fn new(node: &'n Node, account: &str, files: &[(&str, &str)]) -> Self {
        let project = Project { node, person: node.person(account) };
        // Both, in one directory: the first starts the second, and that the launcher.
        node.program("nunbird");
        node.program("nunbird-exec");
        for (name, text) in files {
            project.write(name, text);
        }
        project.shell(
            "git init -q -b main . && git config user.name Ann && git config user.email ann@example.org && \
             git remote add origin https://ann:hidden@git.example.org/lattice/qcd.git && git add -A && git commit -qm 'Add lattice'",
        );
        project
    }

    fn write(&self, name: &str, text: &str) {
        let script = format!("mkdir -p \"$(dirname work/{name})\" && cat >work/{name}");
        let done = self.person.feed(["sh", "-c", &script], text);
        done.success();
    }

    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        let done = self.person.shell(&format!("mkdir -p work && cd work && {script}"));
        done.success()
    }

    /// `nunbird exec` with these words, in the project.
    pub(crate) fn exec(&self, words: &[&str]) -> Finished {
        let program = self.node.program("nunbird").display().to_string();
        let script = "cd work && exec \"$0\" exec \"$@\"";
        let mut all = vec!["sh", "-c", script, &program];
        all.extend(words);
        self.person.run(all)
    }
}

#[track_caller]
pub(crate) fn ended(done: &Finished, code: i32) -> &str {
    assert_eq!(done.exit, Exit::Code(code), "{}\n{}", done.stdout, done.stderr);
    &done.stdout
}

const PLAIN: &str = "\
variables: {GLOBAL: of the file}
default:
  before_script: [echo before]
build:
  stage: build
  variables: {OWN: \"$GLOBAL and own\"}
  script:
    - echo \"$OWN in $(basename \"$PWD\") as $(id -un)\"
    - |
      if true; then
        echo \"$CI_PROJECT_PATH $CI_COMMIT_BRANCH $CI_JOB_NAME $CI_JOB_STAGE $GITLAB_CI\"
      fi
    - cat new changed; ls gone 2>/dev/null || echo gone is gone; git status --short; git remote get-url origin
    - mkdir out; echo made >out/result; touch out/skipped
  after_script:
    - echo \"after $CI_JOB_STATUS\"
  artifacts: {paths: [out/], exclude: [out/skipped]}
fails:
  allow_failure: {exit_codes: [42]}
  script: [echo begins, exit 42, echo never]
  after_script: ['echo \"after $CI_JOB_STATUS\"', exit 3]
";

#[needs(root)]
fn a_job_runs_in_a_copy_of_the_tree_with_what_is_not_committed() {
    let node = Node::start(Release::Host);
    let files = [(".gitlab-ci.yml", PLAIN), ("changed", "old\n"), ("gone", ""), (".gitignore", "*.o\n")];
    let project = Project::new(&node, "nbt_cyn", &files);
    project.shell("rm gone; echo changed >changed; echo new >new; echo x >ignored.o");
    let done = project.exec(&["build", "--artifacts", "kept"]);
    let out = ended(&done, 0);
    for line in [
        concat!("Nunbird ", env!("CARGO_PKG_VERSION"), ": a job by hand of project lattice/qcd"),
        "before",
        "of the file and own in qcd as nbt_cyn",
        "lattice/qcd main build build true",
        "new\nchanged\ngone is gone\n",
        " M changed\n D gone\n?? new\n",
        // Without the password of the remote.
        "https://git.example.org/lattice/qcd.git",
        "after success",
    ] {
        assert!(out.contains(line), "{line}\n{out}\n{}", done.stderr);
    }
    assert!(!format!("{out}{}", done.stderr).contains("hidden"), "{out}");
    assert_eq!(
        project.shell("cat kept/out/result; ls kept/out; ls out 2>&1 || :").lines().next(),
        Some("made")
    );
    assert!(!project.shell("ls kept/out").contains("skipped"));
    // The tree is as it was, and nothing is left of the copy.
    assert!(!project.shell("ls").contains("out"));
    assert_eq!(
        node.administer(
            "find /home/nbt_cyn/.nunbird -path '*exec*' -mindepth 3 ! -name '*.lock' ! -name '.*.job'"
        )
        .trim(),
        ""
    );
    let committed = project.exec(&["build", "--committed"]);
    assert_eq!(committed.exit, Exit::Code(1), "{}", committed.stdout);
    assert!(committed.stderr.contains("new: No such file"), "{}{}", committed.stdout, committed.stderr);
}

#[needs(root)]
fn a_failed_job_ends_with_its_own_exit_code_and_its_after_script_runs() {
    let node = Node::start(Release::Host);
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", PLAIN)]);
    let done = project.exec(&["fails"]);
    let out = ended(&done, 42);
    assert!(out.contains("begins") && out.contains("after failed") && !out.contains("\nnever"), "{out}");
    assert!(done.stderr.contains("failed with exit code 42; a pipeline would go on"), "{}", done.stderr);
    assert!(done.stderr.contains("after_script has failed with exit code 3"), "{}", done.stderr);
    let unknown = project.exec(&["fials"]);
    ended(&unknown, 125);
    assert!(unknown.stderr.contains("the nearest name is `fails`"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("the jobs are `build`, `fails`"), "{}", unknown.stderr);
}

#[needs(root)]
fn names_of_every_kind_and_submodules_are_copied_from_each_kind_of_tree() {
    let node = Node::start(Release::Host);
    let text = "job: {script: [git status --short, 'cat */odd* ./-n sub/s', 'git log --oneline | wc -l', 'ls | LC_ALL=C grep -c latin']}\n";
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", text)]);
    project.shell(
        "git init -q ../sub && cd ../sub && echo of the submodule >s && git add -A && git -c user.name=a -c user.email=a@b.example commit -qm s && \
         cd ../work && mkdir 'a b' && echo odd >'a b/odd \"
n\u{fc}me' && echo dash >-n && ln -s nowhere link && touch \"$(printf 'latin\\351')\" && \
         git -c protocol.file.allow=always submodule -q add $HOME/sub sub && git add -A && git commit -qm more && git worktree add -q tree && \
         git clone -q --depth 1 file://$HOME/work shallow && mkdir shallow/sub tree/sub -p && echo of the submodule | tee shallow/sub/s >tree/sub/s",
    );
    let program = node.program("nunbird").display().to_string();
    for place in [".", "a\\ b", "tree", "shallow"] {
        let out = project.shell(&format!("cd {place} && {program} exec job 2>&1 || echo \"ended with $?\""));
        assert!(out.contains("odd\ndash\nof the submodule\n") && out.contains("succeeded"), "{place}: {out}");
    }
}

#[needs(root)]
fn a_job_has_no_file_of_the_users_repository() {
    let node = Node::start(Release::Host);
    // Of the clone, of what is copied, and of a submodule: a hard link is one file with two names.
    let text = "job: {script: ['find . -type f -links +1', 'ls .git/objects/?? | head -1', ls sub]}\n";
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", text)]);
    project.shell(
        "git init -q ../sub && cd ../sub && echo of the submodule >s && git add -A && git -c user.name=a -c user.email=a@b.example commit -qm s && \
         cd ../work && git -c protocol.file.allow=always submodule -q add $HOME/sub sub && git commit -qm sub",
    );
    for words in [&["job"][..], &["job", "--committed", "--keep"]] {
        let done = project.exec(words);
        let out = ended(&done, 0);
        assert!(!out.contains("\n./") && out.contains("\n.git/objects/"), "{out}");
    }
}

#[needs(root)]
fn untracked_artifacts_are_found_without_a_command_of_the_jobs() {
    let node = Node::start(Release::Host);
    let text = "\
job:
  script:
    - 'git config core.fsmonitor \"touch $HOME/ran; :\"'
    - touch made.o made.txt sub/made tracked.txt
  artifacts: {untracked: true, exclude: [made.txt]}
";
    let files = [(".gitlab-ci.yml", text), ("tracked.txt", ""), (".gitignore", "*.o\n")];
    let project = Project::new(&node, "nbt_cyn", &files);
    project.shell(
        "git init -q ../sub && cd ../sub && echo of the submodule >s && git add -A && git -c user.name=a -c user.email=a@b.example commit -qm s && \
         cd ../work && git -c protocol.file.allow=always submodule -q add $HOME/sub sub && git commit -qm sub && touch new ignored.o",
    );
    for words in [&["job", "--artifacts", "../kept"][..], &["job", "--committed", "--artifacts", "../kept"]] {
        let done = project.exec(words);
        ended(&done, 0);
        assert_eq!(
            project.shell("cd ../kept && find . -type f; rm -r ../kept; ls ../ran 2>/dev/null || :"),
            "./made.o"
        );
    }
}

#[needs(root)]
fn nothing_that_an_earlier_run_has_left_leads_out_and_what_is_kept_stays() {
    let node = Node::start(Release::Host);
    let text = "job: {script: [touch made]}\n";
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", text)]);
    let kept = project.exec(&["job", "--keep"]);
    ended(&kept, 0);
    let place = "../.nunbird/exec/*";
    assert_eq!(project.shell(&format!("ls {place}/0/lattice/qcd")), "made");
    // As a run leaves it that is killed, of a job that has put a link in the place of a directory.
    project.shell(&format!(
        "mkdir -p ../own/qcd && touch ../own/qcd/file && cd {place} && mkdir 1 && ln -s $HOME/own 1/lattice && ln -s $HOME/own/qcd/file 1/.sources"
    ));
    ended(&project.exec(&["job"]), 0);
    let left = project.shell(&format!("find ../own -type f -empty; ls {place}/0/lattice/qcd; ls {place}"));
    assert_eq!(left, "../own/qcd/file\nmade\n0\n0.kept\n0.lock\n0.run\n1.lock");
    let foreign = project.exec(&["job", "--directory", "/tmp"]);
    ended(&foreign, 125);
    assert!(foreign.stderr.contains("refusing to use /tmp: it belongs to uid 0"), "{}", foreign.stderr);
    project.shell("mkdir -m 770 ../open");
    let open = project.exec(&["job", "--directory", "/home/nbt_cyn/open"]);
    ended(&open, 125);
    assert!(open.stderr.contains("chmod go-w"), "{}", open.stderr);
    assert_eq!(project.shell("ls ../open"), "");
}

#[needs(root)]
fn the_tree_is_not_copied_for_a_job_that_cannot_be_prepared() {
    let node = Node::start(Release::Host);
    let text = "job: {image: 'localhost:1/none', script: [echo never]}\n";
    let project = Project::new(&node, "nbt_ann", &[(".gitlab-ci.yml", text)]);
    let done = project.exec(&["job", "--keep"]);
    ended(&done, 125);
    assert!(done.stderr.contains("the job cannot be prepared: its error is above"), "{}", done.stderr);
    assert_eq!(project.shell("ls -A ../.nunbird/exec/*/0"), "");
}

#[needs(root)]
fn artifacts_are_not_taken_through_a_link_that_the_job_has_made() {
    let node = Node::start(Release::Host);
    let text = "\
job:
  script: [mkdir ../../../own, echo mine >../../../own/file, cd .., rm -r qcd, ln -s ../../../own qcd]
  artifacts: {paths: [file]}
";
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", text)]);
    let done = project.exec(&["job", "--artifacts", "../kept"]);
    ended(&done, 125);
    assert!(done.stderr.contains("refusing to copy artifacts: the job has replaced"), "{}", done.stderr);
    assert_eq!(project.shell("ls -d ../kept 2>/dev/null || :"), "");
}

#[needs(root)]
fn what_a_job_leaves_running_ends_with_it() {
    let node = Node::start(Release::Host);
    let text = "job: {script: ['setsid sleep 3218 >/dev/null 2>&1 </dev/null &', 'echo begun']}\n";
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", text)]);
    let done = project.exec(&["job"]);
    ended(&done, 0);
    assert!(done.stderr.contains("ended 1 processes that the job left behind"), "{}", done.stderr);
    let left: Vec<String> = node.processes().into_values().filter(|line| line.contains("3218")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[needs(root)]
fn root_runs_no_job() {
    let node = Node::start(Release::Host);
    node.program("nunbird-exec");
    let program = node.program("nunbird");
    let script = format!(
        "mkdir /tmp/own; cd /tmp/own; git init -q .; echo 'job: {{script: [echo never]}}' >.gitlab-ci.yml; git add -A; \
         git -c user.name=a -c user.email=a@b.example commit -qm a; HOME=/tmp/own {} exec job 2>&1 && echo done || echo \"ended with $?\"",
        program.display()
    );
    let out = node.administer(&script);
    assert!(
        out.starts_with("nunbird exec: error: root runs no jobs")
            && out.contains("ended with 125")
            && !out.contains("never\n"),
        "{out}"
    );
}

#[needs(root)]
fn the_list_has_each_job_with_its_stage_its_image_and_whether_it_would_run() {
    let node = Node::start(Release::Host);
    let text = "\
stages: [make, test]
default: {image: debian:12}
compile: {stage: make, script: [x]}
check:
  parallel: {matrix: [{CC: [gcc, icc]}]}
  rules: [{if: $CI_COMMIT_TAG}]
  script: [x]
publish: {image: 'alpine:$V', variables: {V: 3}, when: manual, script: [x]}
.hidden: {script: [x]}
";
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", text)]);
    let done = project.exec(&["--list"]);
    let expected = "\
JOB           STAGE  IMAGE      RUNS
compile       make   debian:12  yes
check: [gcc]  test   debian:12  no: no rule at .gitlab-ci.yml:6:10 matches
check: [icc]  test   debian:12  no: no rule at .gitlab-ci.yml:6:10 matches
publish       test   alpine:3   manual
";
    assert_eq!(ended(&done, 0), expected);
}

/// The console blocks of docs/exec.md: commands, each with the lines that its output has in this order.
fn examples(text: &str) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for block in text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => all.push((command.to_owned(), Vec::new())),
                None => all.last_mut().expect("a command first").1.push(line.to_owned()),
            }
        }
    }
    all
}

#[needs(root)]
fn the_examples_of_the_document_print_what_it_shows() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/exec.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let file = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the file");
    let (node, mirror) = (Node::start(Release::Host), Registry::open());
    node.trust(&mirror.ca_pem());
    mirror.push("library/busybox:latest", &samples::busybox());
    mirror.push("library/other:latest", &samples::other("other"));
    node.write(
        "/etc/containers/registries.conf",
        &format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n", mirror.host()),
    );
    let files = [
        (".gitlab-ci.yml", file),
        ("Makefile", "lattice:\n\techo made >lattice\n"),
        ("deploy", "#!/bin/sh\ntest \"$2\" = glpat-x\n"),
    ];
    let project = Project::new(&node, "nbt_ann", &files);
    project.shell("chmod 755 deploy");
    let examples = examples(&text);
    assert!(examples.len() >= 9, "{examples:?}");
    for (command, lines) in examples {
        let directory = node.directory().display();
        let out = project.shell(&format!("export PATH={directory}:$PATH; ({command}) 2>&1 || :"));
        let mut rest = out.as_str();
        for line in lines {
            let at = rest.find(&line).unwrap_or_else(|| panic!("{command}\n{line}\n{out}"));
            rest = &rest[at + line.len()..];
        }
    }
    // Those that need more than this machine has, or a person; each has a test of its own.
    let more: Vec<&str> = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(
        more.len() == 6
            && more[0].contains("--file-variable")
            && more[1].contains("--executor slurm")
            && more[2].contains("git bisect run")
            && more[3].contains("--shell-on-failure")
            && more[4].contains("enter --remove")
            && more[5].contains("--as-rule"),
        "{more:?}"
    );
}

#[needs(root)]
fn git_finds_the_commit_at_which_a_job_broke() {
    let node = Node::start(Release::Host);
    let project =
        Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", "build: {script: [test ! -e broken]}\n")]);
    let program = node.program("nunbird");
    let out = project.shell(&format!(
        "git tag v1.0; for n in 1 2 3 4 5; do echo $n >n; [ $n -lt 4 ] || touch broken; git add -A; git commit -qm \"number $n\"; done; \
         git bisect start HEAD v1.0 && git bisect run {} exec build --committed",
        program.display()
    ));
    assert!(out.contains("is the first bad commit") && out.contains("number 4"), "{out}");
}

const SECRETS: &str = "\
show:
  script: ['echo \"[$TOKEN] [$OVER] [$(cat /proc/$$/cmdline | tr \\\\0 \" \" | grep -c hunter2)]\"']
  variables: {OVER: of the job}
";

#[needs(root)]
fn secrets_come_from_a_file_that_nobody_else_may_read() {
    let node = Node::start(Release::Host);
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", SECRETS)]);
    project.shell("umask 077; printf 'TOKEN=hunter2$HOME\\nOVER=mine\\n' >../secrets");
    let words = ["show", "--variables", "../secrets"];
    assert!(
        ended(&project.exec(&words), 0).contains("[hunter2$HOME] [mine] [0]"),
        "{:?}",
        project.exec(&words)
    );
    project.shell("chmod 640 ../secrets");
    let refused = project.exec(&words);
    ended(&refused, 125);
    assert!(
        refused.stderr.contains("chmod 600 ../secrets") && !refused.stderr.contains("hunter2"),
        "{}",
        refused.stderr
    );
    let given = project.exec(&["show", "--variable", "TOKEN=a=b", "--variable", "OVER="]);
    assert!(ended(&given, 0).contains("[a=b] [] [0]"), "{}", given.stdout);
}

#[needs(root)]
fn an_interrupt_ends_the_job_and_cleans_up() {
    let node = Node::start(Release::Host);
    let text = "wait: {script: [echo begun >../../../../../../begun, setsid sleep 3217 &, sleep 3217]}\n";
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", text)]);
    let program = node.program("nunbird").display().to_string();
    let script = format!(
        "\"{program}\" exec wait >../log 2>&1 & pid=$!; n=0; until [ -e ../begun ]; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 9; done; \
         sleep 0.5; kill -INT $pid; wait $pid; echo \"ended with $?\"; cat ../log"
    );
    // Without job control a shell's background processes ignore INT.
    let out = project.shell(&format!("set -m; {script}"));
    assert!(out.contains("ended with 130") && out.contains("cancelled by SIGTERM"), "{out}");
    let left: Vec<String> = node.processes().into_values().filter(|line| line.contains("3217")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(node.administer("ls /home/nbt_cyn/.nunbird/exec/*").trim(), "0.lock");
}

const PROMPT: &str = "\
here:
  variables: {OWN: the job's}
  script: [echo made >made, exit 3]
  after_script: [cat typed]
inside:
  image: busybox
  variables: {OWN: the job's}
  script: [echo made >/tmp/made, exit 4]
works: {script: ['true']}
";

#[needs(root)]
fn a_prompt_after_a_failure_has_the_jobs_variables_directory_and_container() {
    let (node, mirror) = (Node::start(Release::Host), Registry::open());
    node.trust(&mirror.ca_pem());
    mirror.push("library/busybox:latest", &samples::busybox());
    node.write(
        "/etc/containers/registries.conf",
        &format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n", mirror.host()),
    );
    let project = Project::new(&node, "nbt_ann", &[(".gitlab-ci.yml", PROMPT)]);
    let program = node.program("nunbird").display().to_string();
    let typed =
        |script: &str, keys: &str| project.person.feed(["sh", "-c", &format!("cd work && {script}")], keys);
    let here = format!("{program} exec here --shell-on-failure");
    let keys =
        "echo \"[$OWN] [$CI_JOB_STATUS]\"; cat made; echo typed >typed; false\nbasename $PWD\nexit 5\n";
    // Lines of a pipe, and the end of them.
    for keys in [keys, keys.trim_end_matches("exit 5\n")] {
        let done = typed(&here, keys);
        let out = ended(&done, 3);
        assert!(
            out.contains("[the job's] [failed]\nmade\n") && out.contains("qcd\n"),
            "{out}\n{}",
            done.stderr
        );
        assert!(out.contains("\ntyped\n"), "the after_script comes later: {out}");
        assert!(
            done.stderr.contains("exit code 3; this prompt is on this host, `exit` goes on"),
            "{}",
            done.stderr
        );
    }
    // A terminal, of script(1): the shell has one as well, and Ctrl-C is for what runs in it.
    let keys = "tty >typed; echo \"size $(stty size)\"\nsleep 1000\n\u{3}echo \"after $?\"\nexit\n";
    let slowly =
        "for n in 1 2 3; do IFS= read -r line && printf '%s\\n' \"$line\"; sleep 1; done; cat; sleep 2";
    let done = typed(&format!("({slowly}) | script -qec '{here}' /dev/null"), keys);
    assert!(done.stdout.contains("size 24 80") && done.stdout.contains("after 130"), "{}", done.stdout);
    assert!(done.stdout.contains("/dev/pts/"), "{}", done.stdout);
    // In the container, with what the script has left in it.
    let done = typed(
        &format!("{program} exec inside --shell-on-failure"),
        "cat /tmp/made; echo \"$OWN $(pwd)\"; which httpd\n",
    );
    let out = ended(&done, 4);
    assert!(
        out.contains("made\n")
            && out.contains("the job's /home/nbt_ann/.nunbird/exec/")
            && out.contains("/bin/httpd"),
        "{out}\n{}",
        done.stderr
    );
    assert!(done.stderr.contains("in the job's container"), "{}", done.stderr);
    assert!(
        !ended(&typed(&format!("{program} exec works --shell-on-failure"), "echo never\n"), 0)
            .contains("never")
    );
}

/// Shells without POSIX's assignments: Debian's tcsh, and one that knows nothing but a word and its arguments, and refuses what fish refuses.
const OTHER_SHELLS: [(&str, &str); 2] = [
    ("tcsh", "#!/bin/sh\nexec /usr/bin/tcsh \"$@\"\n"),
    (
        "strict",
        "#!/bin/sh\n[ \"$1\" = -c ] || exec /bin/sh \"$@\"\n\
         if printf '%s' \"$2\" | grep -Eq '(^|;) *[A-Za-z_][A-Za-z_0-9]*='; then echo 'strict: Unsupported use of =' >&2; exit 127; fi\n\
         exec /bin/sh \"$@\"\n",
    ),
];

#[needs(root)]
fn a_prompt_in_a_terminal_opens_for_an_account_whose_shell_is_no_posix_shell() {
    let node = Node::start(Release::Host);
    let project = Project::new(&node, "nbt_ann", &[(".gitlab-ci.yml", PROMPT)]);
    let program = node.program("nunbird").display().to_string();
    for (name, text) in OTHER_SHELLS {
        let shell = format!("/home/nbt_ann/{name}");
        project.shell(&format!("cat >../{name} <<'END'\n{text}END\nchmod 755 ../{name}"));
        node.administer(&format!("sed -i 's,^\\(nbt_ann:.*:\\)[^:]*$,\\1{shell},' /etc/passwd"));
        let here = format!("{program} exec here --shell-on-failure");
        let slowly = "sleep 1; while IFS= read -r line; do printf '%s\\n' \"$line\"; sleep 1; done";
        let script = format!("cd work && ({slowly}) | script -qec '{here}' /dev/null");
        let keys = "echo \"[$SHELL] [$OWN] on $(tty)\"\nexit\n";
        let done = project.person.feed(["env", "SHELL=/bin/sh", "sh", "-c", &script], keys);
        assert!(
            done.stdout.contains(&format!("[{shell}] [the job's] on /dev/pts/")),
            "{name}: {}{}",
            done.stdout,
            done.stderr
        );
        assert!(done.stdout.contains("[job] $ "), "{name}: {}", done.stdout);
        for refused in ["Unsupported use", "Command not found"] {
            assert!(!done.stdout.contains(refused), "{name}: {}", done.stdout);
        }
    }
}

const CONTAINED: &str = "\
variables: {GREETING: hello from the job}
inside:
  image: busybox
  services:
    - name: web
      alias: www
      command: [sh, -c, 'echo \"$GREETING\" >/www/index.html; exec /bin/httpd -f -p 8080 -h /www']
      variables: {GREETING: $GREETING again}
  script:
    - echo \"$CI_JOB_IMAGE $(cat /etc/image-name 2>/dev/null)\"; echo made >made
    - wget -qO- http://www:8080/
  after_script: [echo \"after in the image\"; ls made]
  artifacts: {paths: [made]}
outside:
  image: other
  script: [echo plain, exit 7]
";

#[needs(root)]
fn image_and_services_are_those_of_the_job_by_podman_or_of_the_command_line() {
    let (node, mirror) = (Node::start(Release::Host), Registry::open());
    node.trust(&mirror.ca_pem());
    mirror.push("library/busybox:latest", &samples::busybox());
    mirror.push("library/web:latest", &samples::web_service(8080));
    mirror.push("library/other:latest", &samples::other("the other image"));
    node.write(
        "/etc/containers/registries.conf",
        &format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n", mirror.host()),
    );
    for account in ["nbt_ann", "nbt_cyn"] {
        let project = Project::new(&node, account, &[(".gitlab-ci.yml", CONTAINED)]);
        let done = project.exec(&["inside", "--artifacts", "kept"]);
        let out = ended(&done, 0);
        for line in
            ["docker.io/library/busybox:latest", "hello from the job again", "after in the image\nmade\n"]
        {
            assert!(out.contains(line), "{account}: {line}\n{out}\n{}", done.stderr);
        }
        assert_eq!(project.shell("cat kept/made; stat -c %U kept/made"), format!("made\n{account}"));
        ended(&project.exec(&["outside"]), 7);
        let other = project.exec(&["outside", "--image", "nothing/of:this"]);
        ended(&other, 125);
        assert!(other.stderr.contains("docker.io/nothing/of:this"), "{}", other.stderr);
        let none = project.exec(&["inside", "--no-container"]);
        assert!(none.stderr.contains("are not used: --no-container"), "{}", none.stderr);
        let engine = project.exec(&["inside", "--engine", "charliecloud"]);
        ended(&engine, 125);
        assert!(
            engine.stderr.contains("charliecloud starts no services\n  --> .gitlab-ci.yml:3:10"),
            "{}",
            engine.stderr
        );
    }
    let left: Vec<String> = node.processes().into_values().filter(|line| !line.starts_with("bash")).collect();
    assert!(
        left.is_empty()
            || left.iter().all(|line| line.contains("catatonit") || line.contains("podman pause")),
        "{left:?}"
    );
}
