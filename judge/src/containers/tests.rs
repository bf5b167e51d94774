use super::{Given, Place, of};
use crate::refusal::Refusal;
use crate::service_variables;
use nunbird_handover::{PullPolicy, Unserved};
use nunbird_policy::{AccountFacts, Policy};
use nunbird_token::{AskedContainers, AskedImage, AskedService, AskedVariable, Containers};
use std::path::Path;

fn policy(container: &str, job: &str) -> Policy {
    let text = format!(
        "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://gitlab.example.org\"\n\
         [[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n[job]\n{job}\n{container}\n"
    );
    Policy::parse(Path::new("c.toml"), &text)
        .unwrap_or_else(|found| panic!("{}", found.iter().map(ToString::to_string).collect::<String>()))
}

fn image(name: &str) -> AskedImage {
    AskedImage { name: name.to_owned(), ..AskedImage::default() }
}

fn service(name: &str) -> AskedService {
    AskedService { image: image(name), ..AskedService::default() }
}

fn asking(image: Option<AskedImage>, services: Vec<AskedService>) -> Containers {
    let names: Vec<&str> = services.iter().map(|one| one.image.name.as_str()).collect();
    Containers {
        image: image.as_ref().map(|image| image.name.clone()),
        services: (!names.is_empty()).then(|| names.join(", ")),
        steps: false,
        asked: Ok(AskedContainers { image, services, public: vec!["DB".to_owned()] }),
    }
}

fn given(policy: &Policy, containers: Containers) -> Result<Given, Refusal> {
    let account = AccountFacts {
        name: "ada".to_owned(),
        uid: 5001,
        gid: 5001,
        groups: vec![5001],
        home: "/home/ada".into(),
        shell: "/bin/bash".into(),
        name_of_uid: Some("ada".to_owned()),
    };
    let place = Place { account: &account, data_dir: Path::new("/home/ada/.nunbird"), decision_id: "0f" };
    of(policy, &policy.rules[0], &containers, &place)
}

const USED: &str = "container = \"c\"";

#[test]
fn a_job_gets_the_image_that_it_names_or_the_sites() {
    let policy = policy(
        "[container.c]\nengine = \"podman\"\ndefault_image = \"r.example.org/base:1\"\nallowed_images = [\"r.example.org/**\"]\n\
         store = \"/var/tmp/$USER-$UID\"\nrunner_image = \"other.example.org/runner:1\"\nbinds = [\"$HOME/x:/x:rw\"]\n",
        USED,
    );
    let mut asked = image("R.Example.org/a");
    asked.entrypoint = Some(Vec::new());
    let Given { container, image_rule, unserved } =
        given(&policy, asking(Some(asked), Vec::new())).expect("given");
    let container = container.expect("a container");
    let found = container.image.expect("an image");
    assert_eq!((found.name.as_str(), found.entrypoint), ("r.example.org/a:latest", Some(Vec::new())));
    assert_eq!(found.pull, [PullPolicy::Always, PullPolicy::IfNotPresent]);
    assert_eq!((image_rule.as_deref(), unserved), (Some("allowed_images has `r.example.org/**`"), None));
    assert_eq!(container.directory, Path::new("/home/ada/.nunbird/containers/0f"));
    assert_eq!(container.cache, Path::new("/home/ada/.nunbird/images"));
    assert_eq!(container.store.as_deref(), Some(Path::new("/var/tmp/ada-5001")));
    // The site's own, which jobs may not name.
    let runner = container.runner_image.expect("an image");
    assert_eq!((runner.name.as_str(), runner.entrypoint), ("other.example.org/runner:1", Some(Vec::new())));
    assert_eq!(container.binds[0].source, Path::new("/home/ada/x"));
    let own = given(&policy, asking(None, Vec::new())).expect("given");
    assert_eq!(
        own.container.and_then(|one| one.image).map(|one| one.name).as_deref(),
        Some("r.example.org/base:1")
    );
    assert_eq!(own.image_rule.as_deref(), Some("default_image"));
}

#[test]
fn what_a_site_does_not_allow_is_denied_with_what_it_does() {
    let site = "[container.c]\nengine = \"podman\"\nallowed_images = [\"r.example.org/**\"]\nuser_entrypoint = false\n\
                pull_policies = [\"never\"]\nservices_max = 1\n";
    let policy = policy(site, USED);
    let denied = |containers: Containers| given(&policy, containers).expect_err("denied");
    let one = |name: &str| denied(asking(Some(image(name)), Vec::new()));
    let refusal = one("alpine:3");
    assert_eq!(
        (refusal.code.name(), refusal.message.as_str()),
        ("images", "this site does not allow the image `alpine:3`")
    );
    assert!(refusal.help.contains("matches `r.example.org/**`"), "{refusal:?}");
    assert!(
        refusal.detail.contains("docker.io/library/alpine:3: no pattern of allowed_images matches"),
        "{refusal:?}"
    );
    for hostile in ["-v/:/host", "a b", "r.example.org/../a", "./x", "https://evil.org/a"] {
        assert!(one(hostile).message.contains("is no name of an image"), "{hostile}");
    }
    assert!(denied(asking(None, Vec::new())).message.contains("names no image"));
    let entrypoint = AskedImage { entrypoint: Some(vec!["sh".to_owned()]), ..image("r.example.org/a") };
    assert!(denied(asking(Some(entrypoint), Vec::new())).message.contains("replace the entrypoint"));
    let pull = AskedImage { pull: vec![PullPolicy::Never, PullPolicy::Always], ..image("r.example.org/a") };
    assert!(denied(asking(Some(pull), Vec::new())).message.contains("`pull_policy: always`"));
    let two = || vec![service("r.example.org/a"), service("r.example.org/b")];
    assert!(denied(asking(Some(image("r.example.org/a")), two())).message.contains("2 services"));
    let other = vec![service("redis:7")];
    assert!(
        denied(asking(Some(image("r.example.org/a")), other)).message.contains("allow the service `redis:7`")
    );
    let malformed = Containers { asked: Err("image.entrypoint".to_owned()), ..Containers::default() };
    assert_eq!(denied(malformed).message, "`image.entrypoint` of this job cannot be used");
}

#[test]
fn what_is_malformed_counts_as_nothing_where_there_is_no_container() {
    let malformed = Containers { asked: Err("image.entrypoint".to_owned()), ..Containers::default() };
    let expected = Given { container: None, image_rule: None, unserved: None };
    assert_eq!(given(&policy("", ""), malformed).expect("given"), expected);
}

#[test]
fn services_have_names_variables_and_ports() {
    let policy = policy("[container.c]\nengine = \"podman\"\n", USED);
    let variable =
        |name: &str, value: &str, raw| AskedVariable { name: name.to_owned(), value: value.to_owned(), raw };
    let asked = AskedService {
        aliases: vec!["db".to_owned()],
        ports: vec![80],
        variables: vec![
            variable("HEALTHCHECK_TCP_PORT", "5432", false),
            variable("PASSWORD", "$SECRET", false),
            variable("RAW", "$SECRET", true),
        ],
        ..service("r.example.org:5000/a/b:1")
    };
    let containers = asking(Some(image("alpine")), vec![asked, service("redis")]);
    let mut container = given(&policy, containers).expect("given").container.expect("a container");
    assert_eq!(container.services[0].aliases, ["db", "r.example.org__a__b", "r.example.org-a-b"]);
    assert_eq!(container.services[1].aliases, ["redis"]);
    assert_eq!(container.services[0].ports, [5432]);
    assert!(!format!("{container:?}").contains("hunter2"));
    let value = |name: &str| {
        Ok((name == "SECRET").then(|| "hunter2".to_owned()).or((name == "DB").then(|| "app".to_owned())))
    };
    service_variables::fill(&mut container, value).expect("filled");
    let variables = &container.services[0].variables;
    let expected =
        [("DB", "app"), ("HEALTHCHECK_TCP_PORT", "5432"), ("PASSWORD", "hunter2"), ("RAW", "$SECRET")];
    assert_eq!(
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(container.services[1].variables["DB"], "app");
    let long = |_: &str| Ok(Some("x".repeat(64 << 10)));
    let mut again = given(&policy, asking(Some(image("a")), vec![service("redis")]))
        .expect("given")
        .container
        .expect("one");
    assert_eq!(service_variables::fill(&mut again, long).expect_err("too long").code.name(), "variable");
}

#[test]
fn what_an_engine_cannot_do_is_reported_or_refused_as_the_site_says() {
    for (engine, image_missing) in [("bwrap", true), ("apptainer", false)] {
        let containers = || asking(Some(image("alpine")), vec![service("redis")]);
        let site = format!("[container.c]\nengine = \"{engine}\"\n");
        let warned = given(&policy(&site, USED), containers()).expect("given");
        let missing = Unserved {
            image: image_missing.then(|| "alpine".to_owned()),
            services: Some("redis".to_owned()),
            steps: false,
        };
        assert_eq!(warned.unserved, Some(missing), "{engine}");
        let container = warned.container.expect("a container");
        assert!(container.services.is_empty() && container.image.is_none() == image_missing, "{engine}");
        let quiet =
            given(&policy(&site, &format!("{USED}\nimages = \"ignore\"")), containers()).expect("given");
        assert_eq!(quiet.unserved, None);
        let refusal = given(&policy(&site, &format!("{USED}\nimages = \"refuse\"")), containers())
            .expect_err("refused");
        assert!(refusal.message.contains("services (`services:`)"), "{refusal:?}");
    }
    let off = policy("[container.c]\nengine = \"podman\"\nservices = false\n", USED);
    let found = given(&off, asking(Some(image("a")), vec![service("redis")])).expect("given");
    assert_eq!(found.unserved.and_then(|one| one.services).as_deref(), Some("redis"));
}

#[test]
fn steps_are_missing_where_the_site_has_not_put_their_program_into_the_container() {
    let with_steps = || Containers { steps: true, ..asking(Some(image("alpine")), Vec::new()) };
    let site = "[container.c]\nengine = \"podman\"\n";
    let without = given(&policy(site, USED), with_steps()).expect("given");
    assert!(without.unserved.expect("a warning").steps);
    let bind = format!("{site}binds = [\"/opt/site/step-runner:/usr/local/bin/step-runner\"]\n");
    let refusing = policy(&bind, &format!("{USED}\nimages = \"refuse\""));
    assert_eq!(given(&refusing, with_steps()).expect("given").unserved, None);
}

#[test]
fn a_path_that_no_pattern_of_paths_allows_is_denied_and_the_sites_own_is_not() {
    let site = "[container.c]\nengine = \"apptainer\"\ndefault_image = \"/opt/own.sif\"\nallowed_images = [\"r.example.org/**\", \"/opt/images/**\"]\n";
    let policy = policy(site, USED);
    let refusal = given(&policy, asking(Some(image("/home/eve/x.sif")), Vec::new())).expect_err("refused");
    assert!(refusal.detail.contains("no pattern of allowed_images that begins with `/`"), "{refusal:?}");
    let named = |asked| {
        let given = given(&policy, asking(asked, Vec::new())).expect("given");
        (given.container.and_then(|one| one.image).map(|one| one.name), given.image_rule)
    };
    let texts = |name: &str, rule: &str| (Some(name.to_owned()), Some(rule.to_owned()));
    assert_eq!(
        named(Some(image("/opt/images/a.sif"))),
        texts("/opt/images/a.sif", "allowed_images has `/opt/images/**`")
    );
    assert_eq!(named(None), texts("/opt/own.sif", "default_image"));
}
