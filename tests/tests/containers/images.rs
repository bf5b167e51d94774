//! `nunbirdctl images`, by the person whose jobs use them.

use crate::EACH;
use crate::cases::{Bed, NAME, Setup, succeeded};
use nunbird_handover::PullPolicy;
use nunbird_tests::Exit;
use nunbird_tests::containers::samples;
use nunbird_tests::needs;
use nunbird_tests::world::Finished;
use serde_json::Value;

impl Bed {
    /// Writes a configuration whose container is the jobs' own, with these keys more.
    fn configure(&self, keys: &str) {
        let engine = self.setup.engine;
        self.node.write(
            "/etc/nunbird/config.toml",
            &format!(
                "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://gitlab.example.org\"\n\
                 [directories]\ndata_dir = \"$HOME/ci\"\n[job]\ncontainer = \"small\"\n[container.small]\nengine = \"{engine}\"\n{keys}\n\
                 [[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n"
            ),
        );
    }

    /// Runs `nunbirdctl images` as the person, who knows the password of the registry.
    fn images(&self, words: &str) -> Finished {
        let program = self.node.program("nunbirdctl");
        let line = format!("DOCKER_AUTH_CONFIG=$(cat) exec {} images {words}", program.display());
        self.node.person("nbt_cyn").feed(["sh", "-c", &line], &self.registry.auth_file())
    }

    fn listed(&self, words: &str) -> Vec<Value> {
        let text = self.images(&format!("list --format json {words}")).success();
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["images"].as_array().expect("a list").clone()
    }
}

#[needs(root, in_each = EACH)]
fn a_person_lists_pulls_and_removes_images(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        let digest = bed.registry.push(NAME, &samples::busybox());
        bed.configure("");
        assert_eq!(bed.images("list").success(), "there are no images");
        assert_eq!(bed.images("prune --all").success(), "there is nothing to remove");
        let name = bed.registry.name(NAME);
        let said = bed.images(&format!("pull {name} --container small")).success();
        assert!(said.contains("pulled it in") && said.ends_with(&format!("{name} ({digest})")), "{said}");
        let images = bed.listed("");
        assert_eq!(images.len(), 1, "{images:?}");
        assert_eq!(
            (&images[0]["reference"], &images[0]["digest"]),
            (&name.clone().into(), &digest.as_str().into())
        );
        assert!(images[0]["size"].as_u64().is_some_and(|size| size > 100_000), "{images:?}");
        assert_eq!(images[0]["jobs"], Value::Array(Vec::new()), "the pull has ended");
        // The copy that a job finds.
        bed.registry.front().forget();
        let job = bed.prepared();
        assert!(bed.registry.front().blobs().is_empty());
        let users = bed.listed("")[0]["jobs"].clone();
        assert_eq!(users[0]["job_id"], job.handover.job_id, "{users}");
        assert_eq!(users[0]["decision_id"], job.handover.decision_id, "{users}");
        let table = bed.images("list").success();
        assert!(table.contains(&name) && table.contains(&digest.as_str()[..19]), "{table}");
        assert_eq!(bed.images("prune --all").success(), "there is nothing to remove");
        bed.registry.push(NAME, &samples::other("second"));
        let mut second = bed.job();
        second.image().pull = vec![PullPolicy::Always];
        succeeded(&second.prepare());
        assert_eq!(bed.listed("").iter().filter(|image| image["current"] == false).count(), 1);
        assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
        succeeded(&second.cleanup());
        assert!(bed.images("prune --all --dry-run").success().starts_with("would remove "));
        assert_eq!(bed.listed("").len(), 2);
        assert!(bed.images("prune --all").success().starts_with("removed "));
        assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n", "what a job uses stays");
        succeeded(&job.cleanup());
        assert!(bed.listed("").is_empty());
        bed.node.administer("! ls -d /tmp/nb-* 2>/dev/null; ! ls -A /home/nbt_cyn/ci/containers | grep .");
    }
}

#[needs(root, in_each = EACH)]
fn what_cannot_be_pulled_listed_or_removed_is_said(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        let host = bed.registry.host();
        bed.configure(&format!("allowed_images = [\"{host}/lattice/*\"]\ncache_max_count = 1"));
        let name = bed.registry.name(NAME);
        for (words, code, said) in [
            (format!("pull {name}"), 1, "say by --container"),
            (format!("pull {name} --container big"), 1, "no [container.big]; there are small"),
            ("pull docker.io/library/alpine:3 --container small".to_owned(), 4, "allowed_images"),
            ("pull -x --container small".to_owned(), 2, "unexpected argument"),
            (format!("pull {host}/lattice/nothing:1 --container small"), 1, "no such image"),
            ("list --store /nowhere".to_owned(), 1, "/nowhere: No such file"),
            ("list --store /etc".to_owned(), 1, "it has no images of Nunbird's"),
            ("prune --store /etc --all".to_owned(), 1, "it has no images of Nunbird's"),
            ("list --configuration /nowhere.toml".to_owned(), 1, "/nowhere.toml: No such file"),
            ("list --container big".to_owned(), 1, "no [container.big]"),
        ] {
            let done = bed.images(&words);
            assert_eq!(done.exit, Exit::Code(code), "{words}: {done:?}");
            assert!(done.stderr.contains(said), "{words}: {}", done.stderr);
        }
        bed.images(&format!("pull {name} --container small")).success();
        bed.registry.push("lattice/other:1", &samples::other("other"));
        bed.images(&format!("pull {} --container small", bed.registry.name("lattice/other:1"))).success();
        assert_eq!(bed.listed("").len(), 1, "the bounds of the site hold");
        let own = "--store /home/nbt_cyn/ci/images";
        assert_eq!(bed.listed(own).len(), 1);
        let done = bed.images(&format!("prune {own}"));
        assert!(done.stderr.contains("whose bounds count"), "{done:?}");
        bed.images(&format!("prune {own} --all")).success();
        assert!(bed.listed("").is_empty());
    }
}

#[needs(root)]
fn images_in_an_engines_own_store_are_listed_pulled_and_removed_as_well() {
    let setup = Setup {
        release: nunbird_tests::containers::Release::Host,
        engine: "podman",
        no_new_privileges: false,
    };
    let bed = Bed::new(setup, &samples::busybox());
    let digest = bed.registry.push(NAME, &samples::busybox());
    bed.configure("");
    let name = bed.registry.name(NAME);
    bed.images(&format!("pull {name} --container small")).success();
    bed.registry.front().forget();
    let job = bed.prepared();
    assert!(bed.registry.front().blobs().is_empty(), "the job finds what was pulled");
    let images = bed.listed("");
    assert_eq!(images.len(), 1, "{images:?}");
    assert_eq!((&images[0]["engine"], &images[0]["digest"]), (&"Podman".into(), &digest.as_str().into()));
    assert_eq!(images[0]["jobs"][0]["job_id"], job.handover.job_id, "{images:?}");
    assert_eq!(bed.images("prune --all").success(), "there is nothing to remove");
    assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
    succeeded(&job.cleanup());
    let done = bed.images("prune --all --store /var/tmp/nunbird-41203");
    assert!(done.stderr.contains("only its engine can remove images"), "{done:?}");
    assert_eq!(bed.images("prune --all --dry-run").success(), format!("would remove {name}"));
    assert_eq!(
        bed.images("prune --all --store /var/tmp/nunbird-41203 --container small").success(),
        format!("removed {name}")
    );
    assert!(bed.listed("").is_empty());
    let mut never = bed.job();
    never.image().pull = vec![PullPolicy::Never];
    assert!(never.prepare().err.contains("no copy of it is on this host"));
}
