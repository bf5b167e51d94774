//! The examples of the user's guide, read out of the document and run with Podman.
//!
//! Images have the names of the document: the machine fetches them from a registry of the test.

use nunbird_handover::{Bind, PullPolicy};
use nunbird_tests::containers::{Example, Image, Job, Node, PASSWORD, Registry, Release, USER, samples};
use nunbird_tests::needs;
use nunbird_tests::scheduler::Ended;

/// The accounts: with subordinate ids, and without any.
const EACH: [&str; 2] = ["nbt_ann", "nbt_cyn"];

struct Bed {
    node: Node,
    /// Has the images of the document's names.
    _mirror: Registry,
    /// The project's own, with a password.
    registry: Registry,
}

impl Bed {
    /// A machine where these names are images of the test.
    fn new(images: &[(&str, Image)]) -> Self {
        let (node, mirror, registry) = (Node::start(Release::Host), Registry::open(), Registry::start());
        node.trust(&mirror.ca_pem());
        node.trust(&registry.ca_pem());
        let host = mirror.host();
        let mut places = String::new();
        for (name, image) in images {
            let (prefix, path) = match name.split_once('/') {
                Some((registry, path)) if registry.contains('.') => (registry, path.to_owned()),
                _ => ("docker.io", format!("library/{name}")),
            };
            let tagged = if path.contains(':') { path } else { format!("{path}:latest") };
            mirror.push(&tagged, image);
            places += &format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{host}\"\n");
        }
        node.write("/etc/containers/registries.conf", &places);
        Bed { node, _mirror: mirror, registry }
    }

    /// The example's job, with these files in its project's directory.
    fn job(&self, account: &str, example: &Example, files: &[(&str, &str)]) -> Job<'_> {
        let person = self.node.person(account);
        let mut job = Job::new(&self.node, person, "podman", Some(&example.image));
        let like = job.image().clone();
        job.container().services = example.services(&like);
        let project = job.handover.workspace.project_dir.display().to_string();
        for (name, text) in files {
            self.node.write(&format!("{project}/{name}"), text);
        }
        self.node.administer(&format!(
            "chown -R {0}:{0} /home/{account}/ci; chmod 700 /home/{account}/ci",
            person.uid()
        ));
        job
    }
}

fn project(job: &Job<'_>) -> String {
    job.handover.workspace.project_dir.display().to_string()
}

#[track_caller]
fn succeeded(ended: &Ended) -> String {
    let out = String::from_utf8_lossy(&ended.out).into_owned();
    assert_eq!(ended.status, Some(0), "{out}\n{}", ended.err);
    out
}

#[needs(root)]
fn the_example_that_compiles_does() {
    let example = Example::of_the_guide("compile");
    let bed = Bed::new(&[(&example.image, samples::compiler())]);
    let source = "#include <stdio.h>\n#include <stdlib.h>\nint main(int n, char **a) { printf(\"%d sites\\n\", atoi(a[1]) * atoi(a[1])); return n != 2; }\n";
    let files = [("Makefile", "lattice: lattice.c\n\tcc -O -o $@ $<\n"), ("lattice.c", source)];
    for account in EACH {
        let job = bed.job(account, &example, &files);
        succeeded(&job.prepare());
        let said = succeeded(&job.run(&example.script(&project(&job), &[])));
        assert!(said.ends_with("16 sites\n"), "{account}: {said}");
        let owner = bed.node.administer(&format!("stat -c %U {}/lattice", project(&job)));
        assert_eq!(owner.trim(), account);
        succeeded(&job.cleanup());
    }
}

#[needs(root)]
fn the_example_with_a_database_reaches_it() {
    let example = Example::of_the_guide("database");
    let bed = Bed::new(&[(&example.image, samples::postgresql())]);
    for account in EACH {
        let job = bed.job(account, &example, &[("README", "")]);
        succeeded(&job.prepare());
        let said = succeeded(&job.run(&example.script(&project(&job), &[])));
        assert!(said.contains("CREATE TABLE") && said.contains("(1 row)"), "{account}: {said}");
        // The service wants the password of its variable.
        let mut wrong = example.clone();
        wrong.variables.insert("PGPASSWORD".to_owned(), "another".to_owned());
        let refused = job.run(&wrong.script(&project(&job), &[]));
        assert!(refused.err.contains("password authentication failed"), "{account}: {}", refused.err);
        succeeded(&job.cleanup());
    }
}

/// What GitLab gives the job about the project's own registry.
fn of_gitlab(bed: &Bed) -> Vec<(&'static str, String)> {
    vec![
        ("CI_REGISTRY", host(bed)),
        ("CI_REGISTRY_USER", USER.to_owned()),
        ("CI_REGISTRY_PASSWORD", PASSWORD.to_owned()),
        ("CI_REGISTRY_IMAGE", bed.registry.direct("lattice/made")),
    ]
}

fn host(bed: &Bed) -> String {
    bed.registry.direct("").trim_end_matches('/').to_owned()
}

#[needs(root)]
fn the_example_that_builds_an_image_pushes_one_that_runs() {
    let example = Example::of_the_guide("build-image");
    let bed = Bed::new(&[(&example.image, samples::builder())]);
    bed.registry.push("lattice/base:1", &samples::busybox());
    let begin = format!("FROM {}\nCOPY data /data\n", bed.registry.direct("lattice/base:1"));
    let end = "RUN sh -c 'cat /data >/made; id -u >>/made'\n";
    let variables = of_gitlab(&bed);
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let job = |account, root, dockerfile: &str| {
        let mut job = bed.job(account, &example, &[("Dockerfile", dockerfile), ("data", "4 4 4 8\n")]);
        job.container().root = root;
        // What a site adds whose registry has an authority of its own.
        let path = "/etc/ssl/certs/ca-certificates.crt";
        let bind = Bind { source: path.into(), target: path.into(), writable: false, optional: false };
        job.container().binds.push(bind);
        succeeded(&job.prepare());
        let ended = job.run(&example.script(&project(&job), &variables));
        succeeded(&job.cleanup());
        ended
    };
    let result = |account, script| {
        let name = format!("{}:latest", bed.registry.direct("lattice/made"));
        let mut job = Job::new(&bed.node, bed.node.person(account), "podman", Some(&name));
        job.knows(&host(&bed), USER, PASSWORD);
        job.image().pull = vec![PullPolicy::Always];
        succeeded(&job.prepare());
        let said = succeeded(&job.run(script));
        succeeded(&job.cleanup());
        said
    };
    // Subordinate ids, and a site that has scripts run as root inside.
    succeeded(&job("nbt_ann", true, &format!("{begin}{end}")));
    assert_eq!(result("nbt_cyn", "cat /made; exit 0"), "4 4 4 8\n0\n");
    // As the guide says of the Buildah of Debian 12: no commands where it has one id, and nothing where the account has one.
    let ended = job("nbt_ann", false, &format!("{begin}{end}"));
    assert!(ended.err.contains("setting supplemental groups list"), "{}", ended.err);
    succeeded(&job("nbt_ann", false, &format!("{begin}LABEL by=ann\n")));
    let script = "cat /data; test -e /made || echo without; exit 0";
    assert_eq!(result("nbt_ann", script), "4 4 4 8\nwithout\n");
    for root in [false, true] {
        let ended = job("nbt_cyn", root, &begin);
        assert!(ended.status != Some(0) && ended.err.contains("setgroups"), "{root}: {}", ended.err);
    }
}

#[test]
fn the_example_with_a_graphics_processor_is_one_that_can_be_read() {
    let example = Example::of_the_guide("gpu");
    assert!(example.image.starts_with("nvidia/cuda:") && example.variables.len() == 1, "{example:?}");
}
