//! What of the user's a job by hand uses, and what it leaves alone: kept passwords, the engine on the `PATH`, repositories around the copy.

use crate::by_hand::{Project, ended};
use nunbird_tests::containers::{Node, PASSWORD, Registry, Release, USER, samples};
use nunbird_tests::needs;

#[needs(root)]
fn a_kept_password_and_the_engine_of_the_users_path_are_used() {
    let (node, registry) = (Node::start(Release::Host), Registry::start());
    node.trust(&registry.ca_pem());
    registry.push("lattice/tools:1", &samples::busybox());
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", "job: {script: [cat /etc/image]}\n")]);
    let image = registry.name("lattice/tools:1");
    let run = || {
        let program = node.program("nunbird").display().to_string();
        let script = "cd work && PATH=$HOME/bin:$PATH exec \"$0\" exec job --image \"$1\"";
        project.person.run(vec!["sh", "-c", script, &program, &image])
    };
    let refused = run();
    ended(&refused, 125);
    assert!(
        refused.stderr.contains("unauthorized") || refused.stdout.contains("unauthorized"),
        "{refused:?}"
    );
    let login = format!("printf %s '{USER}:{PASSWORD}' | base64 -w0");
    project.shell(&format!(
        "mkdir -p ~/.docker ~/bin && printf '{{\"auths\": {{\"{}\": {{\"auth\": \"%s\"}}}}}}' \"$({login})\" >~/.docker/config.json && \
         printf '#!/bin/sh\\necho \"$1\" >>~cyn/used\\nexec /usr/bin/podman \"$@\"\\n' | sed \"s,~cyn,$HOME,\" >~/bin/podman && chmod 755 ~/bin/podman",
        registry.host()
    ));
    assert!(ended(&run(), 0).contains("\nbusybox\n"));
    assert!(project.shell("wc -l <~/used").trim().parse::<u32>().is_ok_and(|calls| calls > 2));
}

/// A repository around the copy, as that of a home directory with its settings.
#[needs(root)]
fn variables_of_the_file_change_neither_the_copy_nor_a_repository_around_it() {
    let node = Node::start(Release::Host);
    let text = "variables: {CI_COMMIT_SHA: '0000000000000000000000000000000000000000', CI_REPOSITORY_URL: 'https://evil.example/x'}\n\
                job: {script: [git rev-parse HEAD, git remote get-url origin]}\n";
    let project = Project::new(&node, "nbt_cyn", &[(".gitlab-ci.yml", text)]);
    project.shell(
        "cd ~ && echo before >settings && git init -q . && git remote add origin https://own.example/home && git add settings && \
         git -c user.name=a -c user.email=a@b.example commit -qm s && echo changed >settings",
    );
    let commit = project.shell("git rev-parse HEAD");
    for more in [&["job"][..], &["job", "--committed"]] {
        let done = project.exec(more);
        let out = ended(&done, 0);
        assert!(
            out.contains(commit.trim()) && out.contains("https://git.example.org/lattice/qcd.git"),
            "{out}"
        );
        assert_eq!(
            project.shell("cat ~/settings; cd ~; git remote get-url origin"),
            "changed\nhttps://own.example/home"
        );
    }
}
