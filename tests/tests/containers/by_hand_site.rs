//! `nunbird exec --as-rule`: jobs by hand by the rules of a site's configuration.

use crate::by_hand::{Project, ended};
use nunbird_tests::containers::{Node, Registry, Release, samples};
use nunbird_tests::needs;

const PIPELINE: &str = "\
plain:
  script: ['echo \"[$SITE] nofile $(ulimit -Hn) core $(ulimit -Hc) nice $(nice) $(grep NoNewPrivs /proc/self/status)\"']
inside:
  image: busybox
  script: ['which httpd; ls /site; echo \"[$SITE]\"']
other: {image: other, script: [echo never]}
queued: {variables: {SCHEDULER_PARAMETERS: --ntasks=1}, script: [echo never]}
";

fn configuration(container: &str) -> String {
    format!(
        "\
[[gitlab]]
name = \"main\"
url = \"https://gitlab.example.org\"
audience = \"https://gitlab.example.org\"

[job]
environment = {{ PATH = \"/usr/bin:/bin\", SITE = \"of the site\" }}

[limits.small]
memory = \"1G\"
nofile = 512
core = \"0K\"
nice = 3
memlock = \"999999G\"

[container.box]
engine = \"podman\"
allowed_images = [\"docker.io/library/busybox:*\"]
pull_policies = [\"if-not-present\", \"always\"]
binds = [\"/srv/site:/site\"]
network = \"host\"
{container}

[profile.contained]
container = \"box\"

[profile.queue]
executor = \"slurm\"

[[rule]]
name = \"nobody\"
deny = \"closed on Mondays\"

[[rule]]
name = \"everybody\"
run_as = \"$user_login\"
limits = \"small\"
"
    )
}

#[needs(root)]
fn a_job_runs_with_the_environment_the_limits_and_the_container_of_a_rule() {
    let (node, mirror) = (Node::start(Release::Host), Registry::open());
    node.trust(&mirror.ca_pem());
    mirror.push("library/busybox:latest", &samples::busybox());
    node.write(
        "/etc/containers/registries.conf",
        &format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n", mirror.host()),
    );
    node.write("/srv/site/of-the-site", "");
    node.write("/etc/nunbird/config.toml", &configuration(""));
    let project = Project::new(&node, "nbt_ann", &[(".gitlab-ci.yml", PIPELINE)]);
    let done = project.exec(&["plain", "--as-rule", "everybody"]);
    let out = ended(&done, 0);
    assert!(out.contains("[of the site] nofile"), "{out}");
    assert!(out.contains("nofile 512 core 0 nice 3"), "{out}{}", done.stderr);
    for line in [
        "as the rule `everybody` at /etc/nunbird/config.toml:",
        "not applied: memory, processors, processes and disks of [limits.small]: a control group takes privilege",
        "not applied: `memlock` of [limits.small]: your hard limit on this host is ",
    ] {
        assert!(done.stderr.contains(line), "{line}\n{}", done.stderr);
    }
    let without = project.exec(&["plain"]);
    assert!(
        ended(&without, 0).contains("[] nofile") && !without.stdout.contains("nofile 512"),
        "{}",
        without.stdout
    );

    let done = project.exec(&["inside", "--as-rule", "contained"]);
    let out = ended(&done, 0);
    assert!(out.contains("/bin/httpd\nof-the-site\n[of the site]"), "{out}{}", done.stderr);
    let refused = project.exec(&["other", "--as-rule", "contained"]);
    ended(&refused, 125);
    for line in [
        "does not run this job: this site does not allow the image `other` [images]",
        "that matches `docker.io/library/busybox:*`",
    ] {
        assert!(refused.stderr.contains(line), "{line}\n{}", refused.stderr);
    }
    assert!(!refused.stdout.contains("never"));
    let queued = project.exec(&["queued", "--as-rule", "queue"]);
    assert!(queued.stderr.contains("sbatch") || queued.stdout.contains("sbatch"), "{queued:?}");
    assert!(!queued.stdout.contains("\nnever"), "{queued:?}");
    // What the command line says counts.
    let here = project.exec(&["queued", "--as-rule", "queue", "--executor", "shell"]);
    assert!(ended(&here, 0).contains("never"), "{here:?}");
    ended(&project.exec(&["other", "--as-rule", "contained", "--no-container"]), 0);

    // A machine takes root.
    let machine = configuration("")
        .replace("engine = \"podman\"", "engine = \"nspawn\"")
        .replace("docker.io/library/busybox:*", "busybox")
        .replace("pull_policies = [\"if-not-present\", \"always\"]\n", "");
    node.write("/etc/nunbird/config.toml", &machine);
    let machine = project.exec(&["inside", "--as-rule", "contained"]);
    ended(&machine, 125);
    assert!(machine.stderr.contains("a booted machine, which takes root"), "{}", machine.stderr);
}

#[needs(root)]
fn a_configuration_or_a_rule_that_cannot_be_used_says_what_to_do() {
    let node = Node::start(Release::Host);
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", PIPELINE)]);
    let refused = |words: &[&str], lines: &[&str]| {
        let mut all = vec!["plain", "--as-rule"];
        all.extend(words);
        let done = project.exec(&all);
        ended(&done, 125);
        for line in lines {
            assert!(done.stderr.contains(line), "{words:?}: {line}\n{}", done.stderr);
        }
    };
    refused(
        &["everybody"],
        &[
            "cannot read the site's configuration /etc/nunbird/config.toml",
            "name the file by --configuration",
        ],
    );
    node.write("/etc/nunbird/config.toml", &configuration(""));
    refused(
        &["everybudy"],
        &[
            "has no rule and no profile `everybudy`",
            "the nearest name is `everybody`",
            "rules: `nobody`, `everybody`",
            "profiles: `contained`, `queue`",
        ],
    );
    refused(
        &["nobody"],
        &["the rule `nobody` at /etc/nunbird/config.toml:", "refuses jobs: closed on Mondays"],
    );
    node.administer("chmod 600 /etc/nunbird/config.toml");
    refused(
        &["everybody"],
        &["Permission denied", "ask its admins for a copy", "--executor, --image, --variable"],
    );
    project.shell("umask 077; echo 'x = 1' >../own.toml; echo 'x = 1' >../open.toml; chmod 622 ../open.toml");
    refused(&["everybody", "--configuration", "../own.toml"], &["is not valid", "nunbirdctl check"]);
    refused(
        &["everybody", "--configuration", "../open.toml"],
        &["it has mode 0622, so others may change it"],
    );
    node.administer("cp /etc/nunbird/config.toml /home/nbt_cyn/copy.toml; chmod 644 /home/nbt_cyn/copy.toml");
    let done = project.exec(&["plain", "--as-rule", "everybody", "--configuration", "../copy.toml"]);
    assert!(ended(&done, 0).contains("[of the site]"), "{}", done.stderr);
}
