//! A CI job that fails in a container of Podman, and whose files are kept: entered by the command in its log. Prompts in containers that are
//! killed.

use crate::by_hand::{Project, ended};
use crate::by_hand_kept::{node_with_images, typed};
use nunbird_tests::containers::{Job, Node, Person};
use nunbird_tests::needs;

/// A job of the person's that asks for its files to be kept for twenty minutes.
fn kept_job<'n>(node: &'n Node, person: Person<'n>) -> Job<'n> {
    // Both, in one directory: the first starts the second.
    node.program("nunbird-exec");
    let mut job = Job::new(node, person, "podman", Some("docker.io/library/busybox:latest"));
    let workspace = &mut job.handover.workspace;
    let data_dir = job.handover.account.home.join(".nunbird");
    let host = nunbird_unprivileged::process::short_host_name();
    workspace.builds_dir = data_dir.join("builds").join(host).join("site-7001");
    workspace.project_dir = workspace.builds_dir.join("group/project");
    workspace.cache_dir = data_dir.join("cache");
    workspace.builds_root.clone_from(&data_dir);
    workspace.data_dir.clone_from(&data_dir);
    job.container().directory = data_dir.join("containers/7001");
    job.container().cache = data_dir.join("images");
    job.handover.site.keep = Some(1200);
    job
}

/// Containers of the person's that run.
fn containers(node: &Node) -> Vec<String> {
    node.processes().into_values().filter(|line| line.contains("conmon")).collect()
}

#[needs(root)]
fn a_ci_job_that_fails_in_podman_is_entered_by_the_printed_command_in_a_new_container_of_its_image() {
    let (node, _mirror) = node_with_images();
    let ann = node.person("nbt_ann");
    let job = kept_job(&node, ann);
    assert_eq!(job.prepare().status, Some(0));
    let project = job.handover.workspace.project_dir.display();
    let failed = job.run(&format!(
        "mkdir -p {project} && cd {project} && echo made >made && echo gone >/tmp/gone && which httpd && exit 3"
    ));
    failed.failed(3, "the files of this job stay for 20 min, until ");
    let command = failed.err.lines().find_map(|line| line.split_once(", as nbt_ann: ")).expect("a command").1;
    assert_eq!(job.cleanup().status, Some(0));
    assert_eq!(containers(&node), [""; 0], "nothing of the job runs any more");
    let keys = "cat made /tmp/gone; which httpd; echo \"[$CI_JOB_STATUS] [$CI_PROJECT_DIR] $(pwd)\"; echo more >more\n";
    let entered = ann.feed(["sh", "-c", command], keys);
    let out = ended(&entered, 0);
    assert!(out.contains("made\n") && out.contains("/bin/httpd\n"), "{out}{}", entered.stderr);
    assert!(!out.contains("\ngone\n"), "{out}");
    assert!(out.contains(&format!("[failed] [{project}] {project}\n")), "{out}");
    let place = "this prompt is in a new container of the image docker.io/library/busybox:latest";
    assert!(entered.stderr.contains(place), "{}", entered.stderr);
    assert_eq!(ann.run(["cat", &format!("{project}/more")]).success(), "more");
    assert_eq!(containers(&node), [""; 0]);
    // The same once more: what a prompt has left is the job's directory alone.
    let again = ann.feed(["sh", "-c", command], "cat more\n");
    assert!(ended(&again, 0).contains("more\n"), "{}", again.stderr);
    ann.shell(&command.replace(" enter ", " enter --remove ")).success();
    assert_eq!(
        ann.run(["ls", "-A", &job.handover.workspace.builds_root.join("containers").display().to_string()])
            .success(),
        ""
    );
}

const PIPELINE: &str = "\
works: {image: busybox, script: [echo made >made]}
fails: {image: busybox, script: [exit 4]}
";

/// Opens a prompt by these words of `nunbird exec`, has it start two processes in its container, and ends the prompt's programs by `end`, a
/// command with `$pid` for `nunbird-exec` and `$launcher` for what it has started.
fn killed(node: &Node, project: &Project<'_>, words: &str, end: &str) -> String {
    let program = node.program("nunbird").display().to_string();
    project.shell(&format!(
        ":; rm -f ../keys ../log; mkfifo ../keys; {program} exec {words} <../keys >../log 2>&1 & pid=$!; exec 7>../keys; \
         echo 'setsid sleep 3226 & echo begun; sleep 3227' >&7; \
         n=0; until grep -q begun ../log; do sleep 0.2; n=$((n+1)); [ $n -lt 300 ] || {{ cat ../log; exit 9; }}; done; \
         n=0; until [ \"$(pgrep -cfx 'sleep 322[67]')\" -ge 2 ]; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 9; done; \
         launcher=$(ps -o pid= --ppid $pid | tr -d ' '); {end}; exec 7>&-; \
         n=0; while grep -q '^State:.[RSD]' /proc/$pid/status 2>/dev/null || grep -q '^State:.[RSD]' /proc/$launcher/status 2>/dev/null; do \
         sleep 0.1; n=$((n+1)); [ $n -lt 600 ] || exit 9; done; cat ../log"
    ))
}

fn sleepers(node: &Node) -> usize {
    node.processes().into_values().filter(|line| line.starts_with("sleep 322")).count()
}

#[needs(root)]
fn the_container_of_a_prompt_that_is_killed_ends_at_the_latest_with_the_next_enter() {
    let (node, _mirror) = node_with_images();
    let project = Project::new(&node, "nbt_ann", &[(".gitlab-ci.yml", PIPELINE)]);
    ended(&project.exec(&["works", "--keep"]), 0);
    // A terminal that is closed asks its programs to end: nothing is left for later.
    killed(&node, &project, "enter works", "kill -HUP $pid");
    assert_eq!((sleepers(&node), containers(&node)), (0, Vec::new()), "closed");
    // KILL cannot be acted on.
    killed(&node, &project, "enter works", "kill -KILL $pid $launcher");
    let left = sleepers(&node);
    let next = typed(&node, &project, "works", "cat made; ps | grep -c 'sleep 322[67]'\n");
    let out = ended(&next, 0);
    assert!(
        left == 2 && next.stderr.contains("ending what is left of the job `works`"),
        "{left}: {}",
        next.stderr
    );
    assert!(out.contains("made\n"), "{out}");
    assert_eq!((sleepers(&node), containers(&node)), (0, Vec::new()), "killed");
    // The prompt of a run that fails, likewise: the next run ends it.
    killed(&node, &project, "fails --shell-on-failure", "kill -KILL $pid $launcher");
    assert_eq!(sleepers(&node), 2);
    let next = project.exec(&["works"]);
    ended(&next, 0);
    assert!(next.stderr.contains("ending what is left of the job `fails`"), "{}", next.stderr);
    assert_eq!((sleepers(&node), containers(&node)), (0, Vec::new()), "killed in a run");
    // And `enter` where that run was to keep its directory.
    killed(&node, &project, "fails --keep --shell-on-failure", "kill -KILL $pid $launcher");
    let next = typed(&node, &project, "fails", "echo \"[$CI_JOB_STATUS]\"\n");
    assert!(ended(&next, 0).contains("[failed]"), "{}", next.stdout);
    assert_eq!((sleepers(&node), containers(&node)), (0, Vec::new()), "kept");
    ended(&project.exec(&["enter", "--remove", "fails"]), 0);
    ended(&project.exec(&["enter", "--remove", "works"]), 0);
    assert_eq!(project.shell("ls ../.nunbird/containers"), "");
}
