//! What jobs by hand leave: prompts in it (`nunbird exec enter`), file variables, and runs that were killed.

use crate::by_hand::{Project, ended};
use nunbird_tests::containers::{Node, Registry, Release, samples};
use nunbird_tests::needs;
use nunbird_tests::world::{Exit, Finished};

const PIPELINE: &str = "\
variables: {OWN: the job's, FROM: '$TOKEN and own'}
here:
  script: ['echo \"script [$(cat $KEY)] [$(stat -c %a $KEY)]\"', echo made >made, exit 3]
inside:
  image: busybox
  script: ['echo \"script [$(cat $KEY)]\"', echo made >/tmp/made, exit 4]
works: {script: ['true']}
wait: {script: [setsid sleep 3219 &, echo begun >../../../../../../begun, sleep 3220]}
";

pub(crate) fn node_with_images() -> (Node, Registry) {
    let (node, mirror) = (Node::start(Release::Host), Registry::open());
    node.trust(&mirror.ca_pem());
    mirror.push("library/busybox:latest", &samples::busybox());
    node.write(
        "/etc/containers/registries.conf",
        &format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n", mirror.host()),
    );
    (node, mirror)
}

/// `nunbird exec enter` with these words, while this is typed.
pub(crate) fn typed(node: &Node, project: &Project<'_>, words: &str, keys: &str) -> Finished {
    let program = node.program("nunbird").display().to_string();
    project.person.feed(["sh", "-c", &format!("cd work && {program} exec enter {words}")], keys)
}

#[needs(root)]
fn a_prompt_in_what_a_job_has_left_has_its_variables_its_directory_and_a_container_of_its_image() {
    let (node, _mirror) = node_with_images();
    let project = Project::new(&node, "nbt_ann", &[(".gitlab-ci.yml", PIPELINE)]);
    project.shell("umask 077; printf 'TOKEN=hunter2\\nfile KEY=key\\n' >../secrets; echo precious >../key");
    let nothing = project.exec(&["enter"]);
    ended(&nothing, 125);
    assert!(nothing.stderr.contains("nothing is kept") && nothing.stderr.contains("--keep"), "{nothing:?}");
    for (job, code) in [("here", 3), ("inside", 4), ("works", 0)] {
        let done = project.exec(&[job, "--keep", "--variables", "../secrets"]);
        let out = ended(&done, code);
        assert!(job == "works" || out.contains("script [precious]"), "{out}{}", done.stderr);
        assert!(done.stderr.contains("`nunbird exec enter "), "{}", done.stderr);
    }
    assert!(project.exec(&["here", "--variables", "../secrets"]).stdout.contains("[precious] [600]"));
    // Neither a value of the file of variables nor the content of a file variable is left.
    let left = project.shell("cd ../.nunbird && grep -rl -e hunter2 -e precious . || stat -c '%a %n' exec/*/0.run; ls exec/*/0/lattice");
    assert!(left.starts_with("600 exec/") && left.ends_with("/0.run\nqcd"), "{left}");

    let list = project.exec(&["enter", "--list"]);
    let lines: Vec<&str> = ended(&list, 0).lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("NAME  JOB     STATUS  AGE"), "{}", list.stdout);
    assert!(lines[1].starts_with("0     here    3 ") && lines[1].contains(" KiB "), "{}", list.stdout);
    assert!(lines[1].ends_with("/0") && lines[2].starts_with("1     inside  4 "), "{}", list.stdout);
    let several = project.exec(&["enter"]);
    ended(&several, 125);
    assert!(several.stderr.contains("name one: 0 (`here`), 1 (`inside`), 2 (`works`)"), "{several:?}");
    let unknown = project.exec(&["enter", "hree"]);
    ended(&unknown, 125);
    assert!(unknown.stderr.contains("the nearest name is `here`"), "{unknown:?}");

    let keys = "echo \"[$OWN] [$FROM] [$(cat $KEY)] [$CI_JOB_STATUS] [$CI_JOB_NAME] [$EXTRA]\"; cat made; basename $PWD; echo more >more\n";
    let done = typed(&node, &project, "here --variable EXTRA=e", keys);
    let out = ended(&done, 0);
    assert!(
        out.contains("[the job's] [hunter2 and own] [precious] [failed] [here] [e]\nmade\n")
            && out.contains("qcd\n"),
        "{out}{}",
        done.stderr
    );
    assert!(done.stderr.contains("this prompt is on this host"), "{}", done.stderr);
    assert_eq!(
        project.shell("cat ../.nunbird/exec/*/0/lattice/qcd/more; ls ../.nunbird/exec/*/0/lattice"),
        "more\nqcd"
    );
    let works = typed(&node, &project, "works", "echo \"[$CI_JOB_STATUS]\"\n");
    assert!(ended(&works, 0).contains("[success]"), "{works:?}");

    let inside = "../.nunbird/exec/*/1/lattice/qcd";
    let done =
        typed(&node, &project, inside, "which httpd; cat /tmp/made || echo new; echo \"[$OWN] $(pwd)\"\n");
    let out = ended(&done, 0);
    assert!(
        out.contains("/bin/httpd\n") && out.contains("new\n[the job's] /home/nbt_ann/.nunbird/exec/"),
        "{out}"
    );
    assert!(
        done.stderr.contains("in a new container of the image docker.io/library/busybox:latest")
            && done.stderr.contains("the image is the job's, sha256:"),
        "{}",
        done.stderr
    );
    // As if the name had meant another image then.
    project.shell(
        "sed -i 's/\"digest\":\"sha256:[0-9a-f]*\"/\"digest\":\"sha256:00\"/' ../.nunbird/exec/*/1.run",
    );
    let done = typed(&node, &project, "inside", "true\n");
    ended(&done, 0);
    assert!(
        done.stderr.contains("means another image by now") && done.stderr.contains("sha256:00"),
        "{}",
        done.stderr
    );
    // A file of variables that has gone is no obstacle.
    project.shell("mv ../secrets ../moved");
    let done = typed(&node, &project, "here", "echo \"[$OWN] [$TOKEN]\"\n");
    assert!(ended(&done, 0).contains("[the job's] []"), "{}", done.stdout);
    assert!(done.stderr.contains("the variables of the job's file are not set"), "{}", done.stderr);

    for name in ["here", "1", "2"] {
        let removed = project.exec(&["enter", "--remove", name]);
        ended(&removed, 0);
        assert!(
            removed.stderr.contains("removed ~/.nunbird") || removed.stderr.contains("removed /home"),
            "{removed:?}"
        );
    }
    assert_eq!(
        project.shell("cd ../.nunbird; ls exec/* containers; find . -name '*.tmp'"),
        "containers:\n\nexec/".to_owned()
            + project.shell("ls ../.nunbird/exec").as_str()
            + ":\n0.lock\n1.lock\n2.lock\n3.lock"
    );
}

#[needs(root)]
fn nothing_of_another_account_or_of_a_jobs_making_is_entered() {
    let node = Node::start(Release::Host);
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", PIPELINE)]);
    project.shell("echo k >../key");
    ended(&project.exec(&["works", "--keep"]), 0);
    let refused = |words: &str, why: &str| {
        let done = typed(&node, &project, words, "echo entered\n");
        ended(&done, 125);
        assert!(done.stderr.contains(why), "{words}: {why}\n{}", done.stderr);
        assert!(!done.stdout.contains("entered") && !done.stderr.contains("entered"), "{done:?}");
    };
    // Another account's, as it would look if the caller had made it.
    node.administer(
        "cp -a /home/nbt_cyn/.nunbird /tmp/evil && chown -R 4242:4242 /tmp/evil && chmod -R go+rwX /tmp/evil",
    );
    let host = project.shell("ls ../.nunbird/exec");
    refused(&format!("--directory /tmp/evil /tmp/evil/exec/{host}/0"), "belongs to uid 4242");
    refused("--directory /tmp/evil works", "belongs to uid 4242");
    refused("/tmp/evil", "is no directory that was kept below");
    node.administer(&format!("cp -a /tmp/evil/exec/{host}/0 /home/nbt_cyn/.nunbird/exec/{host}/7; touch /home/nbt_cyn/.nunbird/exec/{host}/7.kept; \
         cp -a /home/nbt_cyn/.nunbird/exec/{host}/0.run /home/nbt_cyn/.nunbird/exec/{host}/7.run"));
    refused("7", "belongs to uid 4242");
    // Links, and what others may read or change.
    project.shell("cd ../.nunbird/exec/*/ && ln -s 0 5 && touch 5.kept && cp 0.run 5.run");
    refused("5", "is a symbolic link");
    project.shell("cd ../.nunbird/exec/*/ && rm 5 5.kept 5.run && chmod 644 0.run");
    refused("0", "it has mode 0644");
    project.shell("cd ../.nunbird/exec/*/ && chmod 600 0.run && mv 0.run ../../run && ln -s ../../run 0.run");
    refused("0", "cannot use");
    project.shell("cd ../.nunbird/exec/*/ && rm 0.run && mv ../../run 0.run && chmod 770 0");
    refused("0", "so others may change it");
    project.shell("cd ../.nunbird/exec/*/ && chmod 700 0");
    // What a job has made in its own directory.
    project.shell(&format!(
        "mkdir -p made && cp -a ../.nunbird/exec made/ && mv made ../.nunbird/exec/{host}/0/"
    ));
    let made = format!("/home/nbt_cyn/.nunbird/exec/{host}/0/made");
    refused(&format!("--directory {made} {made}/exec/{host}/0"), "where jobs work");
    // In a directory of the user's that may be bound into containers nothing starts without an answer.
    project.shell("cp -a ../.nunbird ../bound");
    refused("--directory /home/nbt_cyn/bound 0", "without asking");
    let list = project.exec(&["enter", "--list", "--directory", "/home/nbt_cyn/bound"]);
    assert!(ended(&list, 0).contains("works"), "{list:?}");
    // A directory of an earlier version says what to do.
    project.shell("cd ../.nunbird/exec/*/ && mv 0.run ../../run");
    refused("0", "an earlier version of Nunbird has kept it");
    project.shell("cd ../.nunbird/exec/*/ && mv ../../run 0.run");
    let done = typed(&node, &project, "0", "echo \"[$CI_JOB_STATUS]\"\n");
    assert!(ended(&done, 0).contains("[success]"), "{done:?}");
}

#[needs(root)]
fn what_a_killed_run_has_left_is_ended_before_its_directory_is_touched() {
    let node = Node::start(Release::Host);
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", PIPELINE)]);
    let program = node.program("nunbird").display().to_string();
    project.shell(&format!(
        ":; {program} exec wait --keep >../log 2>&1 & pid=$!; echo $pid >../run; \
         n=0; until [ -e ../begun ]; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 9; done; \
         ps -o pid= --ppid $pid | tr -d ' ' >../launcher"
    ));
    let running = |what: &str| node.processes().into_values().any(|line| line == what);
    assert!(running("sleep 3219") && running("sleep 3220"));
    // The launcher has the lock as well: it may outlive the run by a moment.
    let open = node.administer("ls -l /proc/$(cat /home/nbt_cyn/launcher)/fd");
    assert!(open.contains("/0.lock"), "{open}");
    let beside = project.exec(&["works"]);
    ended(&beside, 0);
    let refused = project.exec(&["enter", "wait"]);
    ended(&refused, 125);
    assert!(refused.stderr.contains("is in use"), "{}", refused.stderr);
    assert!(running("sleep 3219") && running("sleep 3220"), "another run has ended them");
    // Launcher and shell die with the run, and what they have started does not.
    project.shell("kill -KILL $(cat ../run); n=0; while grep -q '^State:.[RSD]' /proc/$(cat ../launcher)/status 2>/dev/null; do sleep 0.1; n=$((n+1)); [ $n -lt 100 ] || exit 9; done");
    assert!(running("sleep 3219") && running("sleep 3220"));
    let list = project.exec(&["enter", "--list"]);
    assert!(ended(&list, 0).contains("  killed  "), "{}", list.stdout);
    let prompt = typed(&node, &project, "wait", "echo \"[$CI_JOB_STATUS]\"\n");
    assert!(ended(&prompt, 0).contains("[failed]"), "{}", prompt.stdout);
    let ended_now = |stderr: &str| {
        stderr.contains("ending what is left of the job `wait`")
            && stderr.contains("processes that the job left behind")
    };
    assert!(ended_now(&prompt.stderr), "{}", prompt.stderr);
    assert!(!running("sleep 3219") && !running("sleep 3220"));
    // The same of a run that was to keep nothing: the next one takes its directory.
    project.shell(&format!(
        ":; rm ../begun; {program} exec wait >../log 2>&1 & pid=$!; echo $pid >../run; \
         n=0; until [ -e ../begun ]; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 9; done; \
         ps -o pid= --ppid $pid | tr -d ' ' >../launcher"
    ));
    project.shell("kill -KILL $(cat ../run); n=0; while grep -q '^State:.[RSD]' /proc/$(cat ../launcher)/status 2>/dev/null; do sleep 0.1; n=$((n+1)); [ $n -lt 100 ] || exit 9; done");
    assert!(running("sleep 3219") && running("sleep 3220"));
    let next = project.exec(&["works", "--keep"]);
    ended(&next, 0);
    assert!(ended_now(&next.stderr) && next.stderr.contains("/1/lattice/qcd"), "{}", next.stderr);
    assert!(!running("sleep 3219") && !running("sleep 3220"));
}

#[needs(root)]
fn a_prompt_holds_the_directory_and_what_a_killed_one_leaves_is_ended_by_the_next() {
    let node = Node::start(Release::Host);
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", PIPELINE)]);
    ended(&project.exec(&["works", "--keep"]), 0);
    let program = node.program("nunbird").display().to_string();
    let out = project.shell(&format!(
        ":; sh -c 'echo $$ >../typist; echo \"setsid sleep 3221 & echo begun >\\$HOME/begun\"; exec sleep 300' | {program} exec enter works >../log 2>&1 & \
         pid=$!; n=0; until [ -e ../begun ]; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || {{ cat ../log; exit 9; }}; done; \
         until ps -e -o args= | grep -qx 'sleep 3221'; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 8; done; \
         {program} exec enter works </dev/null 2>&1 || :; {program} exec enter --remove works 2>&1 || :; {program} exec enter --list; \
         launcher=$(ps -o pid= --ppid $pid | tr -d ' '); kill -KILL $pid $launcher $(cat ../typist); \
         n=0; while grep -q '^State:.[RSD]' /proc/$launcher/status 2>/dev/null; do sleep 0.1; n=$((n+1)); [ $n -lt 100 ] || exit 9; done"
    ));
    assert_eq!(out.matches("is in use: its job runs, or another prompt is open in it").count(), 2, "{out}");
    assert!(out.contains("in use"), "{out}");
    let running = || node.processes().into_values().any(|line| line == "sleep 3221");
    assert!(running(), "{out}");
    let done = project.exec(&["enter", "--remove", "works"]);
    ended(&done, 0);
    assert!(done.stderr.contains("ending what is left"), "{}", done.stderr);
    assert!(!running());
    assert_eq!(done.exit, Exit::Code(0));
}
