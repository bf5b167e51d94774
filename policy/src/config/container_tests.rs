use crate::{ContainerPolicy, Diagnostic, ImageName, Lint, Policy, lint};
use nunbird_handover::{Engine, Gpu, PullPolicy};
use std::path::Path;

const BASE: &str = r#"
[[gitlab]]
name = "main"
url = "https://gitlab.example.org"
audience = "https://gitlab.example.org"
[[rule]]
name = "all"
when = { project = "hpc/**" }
run_as = "$user_login"
"#;

fn parse(text: &str) -> Result<Policy, Vec<Diagnostic>> {
    Policy::parse(Path::new("c.toml"), text)
}

fn policy(keys: &str) -> Policy {
    let text = format!("{BASE}[job]\ncontainer = \"c\"\n[container.c]\n{keys}\n");
    parse(&text).unwrap_or_else(|found| {
        panic!("{keys}: {}", found.iter().map(ToString::to_string).collect::<String>())
    })
}

fn container(keys: &str) -> ContainerPolicy {
    policy(keys).containers["c"].clone()
}

/// Message, line in `keys` from 1 and column of the only finding.
fn finding(keys: &str) -> (String, u32, u32) {
    let first = u32::try_from(BASE.lines().count()).unwrap() + 1;
    let found = parse(&format!("{BASE}[container.c]\n{keys}\n")).expect_err(keys);
    assert!(found.len() == 1 && found[0].help.is_some(), "{keys}: {found:?}");
    (found[0].message.clone(), found[0].place.line - first, found[0].place.column)
}

#[test]
fn a_container_with_an_engine_alone_has_every_default() {
    let one = container("engine = \"podman\"");
    assert_eq!(one.engine, Engine::Named("podman".to_owned()));
    assert_eq!(one.pull_policies, [PullPolicy::Always, PullPolicy::IfNotPresent]);
    assert!(one.allowed_images.is_none() && one.services && one.user_entrypoint && !one.home && !one.root);
    assert_eq!((one.pull_timeout, one.service_timeout, one.services_max), (1800, 30, 8));
    let described = container("engine = \"/etc/nunbird/enroot.toml\"");
    assert_eq!(described.engine, Engine::Described("/etc/nunbird/enroot.toml".into()));
    assert_eq!(container("engine = \"apptainer\"\ngpu = \"amd\"").gpu, Some(Gpu::Amd));
}

#[test]
fn helpers_for_passwords_are_run_where_the_site_names_directories_of_them() {
    let none = container("engine = \"podman\"");
    assert_eq!((none.credential_helpers.len(), none.credential_helper_timeout), (0, 10));
    let some = container(
        "engine = \"podman\"\ncredential_helpers = [\"/opt/site/bin\", \"/usr/bin\"]\ncredential_helper_timeout = \"1m\"",
    );
    assert_eq!(some.credential_helpers, ["/opt/site/bin", "/usr/bin"].map(std::path::PathBuf::from));
    assert_eq!(some.credential_helper_timeout, 60);
}

#[test]
fn a_profile_has_a_container_of_its_own_or_none() {
    let text = format!(
        "{BASE}profile = \"p\"\n[[rule]]\nname = \"b\"\nrun_as = \"bob\"\n[job]\ncontainer = \"c\"\n[container.c]\nengine = \"podman\"\n\
         [container.d]\nengine = \"bwrap\"\n[profile.p]\ncontainer = \"\"\n[profile.q]\ncontainer = \"d\"\n"
    );
    let policy = parse(&text).expect("a policy");
    assert!(policy.container_of(&policy.rules[0]).is_none());
    assert_eq!(policy.container_of(&policy.rules[1]).map(|one| one.name.as_str()), Some("c"));
    assert_eq!(policy.profiles["q"].job.container.as_deref(), Some("d"));
    let unknown = parse(&text.replace("container = \"d\"", "container = \"e1\"")).expect_err("unknown");
    assert_eq!(unknown[0].message, "unknown container");
}

#[test]
fn binds_are_directories_of_the_host_read_only_unless_said_otherwise() {
    let one = container(
        "engine = \"podman\"\nbinds = [\"/opt\", \"/scratch/$USER:/scratch:rw\", \"/a:rw?\", \"$HOME/x:/x?\", \"/run/$UID:/r:ro\"]",
    );
    let texts: Vec<String> = one.binds.iter().map(crate::BindPolicy::text).collect();
    assert_eq!(
        texts,
        ["/opt:/opt:ro", "/scratch/$USER:/scratch:rw", "/a:/a:rw?", "$HOME/x:/x:ro?", "/run/$UID:/r:ro"]
    );
}

#[test]
fn what_is_wrong_is_found_where_it_stands() {
    for (keys, part, line, column) in [
        ("program = \"/x\"", "no engine", 0, 12),
        ("engine = \"podmam\"", "unknown container engine", 1, 10),
        ("engine = \"./x\"", "unknown container engine", 1, 10),
        ("engine = \"/a/../x\"", "absolute path", 1, 10),
        ("engine = \"podman\"\nprogam = \"/x\"", "unknown key `progam`", 2, 1),
        ("engine = \"podman\"\ndefault_image = \"-v\"", "invalid name of an image", 2, 17),
        ("engine = \"podman\"\nallowed_images = [\"a\", \"[ab]\"]", "invalid pattern", 2, 24),
        ("engine = \"podman\"\ndenied_images = [\"a***\"]", "invalid pattern", 2, 18),
        (
            "engine = \"podman\"\nallowed_images = [\"r.example.org/**\"]\ndefault_image = \"alpine\"",
            "no pattern of allowed_images",
            3,
            17,
        ),
        (
            "engine = \"podman\"\ndenied_images = [\"docker.io/**\"]\ndefault_image = \"alpine\"",
            "denied_images has",
            3,
            17,
        ),
        ("engine = \"podman\"\ndigest_required = true\ndefault_image = \"alpine\"", "no digest", 3, 17),
        ("engine = \"bwrap\"\ndefault_image = \"alpine\"", "has no images", 2, 17),
        ("engine = \"podman\"\nrunner_image = \"-v\"", "invalid name of an image", 2, 16),
        ("engine = \"bwrap\"\nrunner_image = \"alpine\"", "has no images", 2, 16),
        ("engine = \"podman\"\npull_policies = []", "no image could be used", 2, 17),
        ("engine = \"podman\"\npull_policies = [\"sometimes\"]", "unknown pull policy", 2, 18),
        ("engine = \"podman\"\npull_policies = [\"never\", \"never\"]", "already", 2, 27),
        ("engine = \"podman\"\nstages = []", "no stage", 2, 10),
        ("engine = \"podman\"\nstore = \"/var/tmp/containers\"", "share this directory", 2, 9),
        ("engine = \"podman\"\nstore = \"/var/$NAME\"", "absolute path", 2, 9),
        ("engine = \"podman\"\ncache = \"images\"", "absolute path", 2, 9),
        ("engine = \"podman\"\nbinds = [\"/a/../b\"]", "absolute path", 2, 10),
        ("engine = \"podman\"\nbinds = [\"a\"]", "absolute path", 2, 10),
        ("engine = \"podman\"\nbinds = [\"/a:/b:rx\"]", "expected a directory", 2, 10),
        ("engine = \"podman\"\nbinds = [\"/a:/b:ro:z\"]", "expected a directory", 2, 10),
        ("engine = \"podman\"\nbinds = [\"/a:/\"]", "hide a part", 2, 10),
        ("engine = \"podman\"\nbinds = [\"/a:/proc/\"]", "hide a part", 2, 10),
        ("engine = \"podman\"\nbinds = [\"/a:/x\", \"/b:/x\"]", "one target", 2, 19),
        ("engine = \"podman\"\nnetwork = \"none\"", "unknown value", 2, 11),
        ("engine = \"podman\"\noptions = [\"\"]", "invalid option", 2, 12),
        ("engine = \"podman\"\ncredential_helpers = [\"bin\"]", "absolute path", 2, 23),
        ("engine = \"podman\"\ncredential_helpers = [\"/opt/../bin\"]", "absolute path", 2, 23),
        ("engine = \"bwrap\"\ncredential_helpers = [\"/opt/bin\"]", "has no images", 2, 22),
        ("engine = \"podman\"\nservices_max = 17", "out of range", 2, 16),
        ("engine = \"podman\"\nenvironment = { LD_PRELOAD = \"/x\" }", "how programs are loaded", 2, 17),
    ] {
        let (message, at, in_line) = finding(keys);
        assert!(message.contains(part), "{keys}: {message}");
        assert_eq!((at, in_line), (line, column), "{keys}: {message}");
    }
}

#[test]
fn a_denial_wins_and_services_have_patterns_of_their_own_where_they_are_set() {
    let one = container(
        "engine = \"podman\"\nallowed_images = [\"r.example.org/**\"]\ndenied_images = [\"r.example.org/old/**\"]\nallowed_services = [\"docker.io/library/redis:*\"]",
    );
    let judged = |name: &str, of_service| one.judge(&ImageName::parse(name).expect(name), of_service);
    assert_eq!(judged("r.example.org/a", false).as_deref(), Ok("allowed_images has `r.example.org/**`"));
    assert_eq!(
        judged("r.example.org/old/a", false),
        Err("denied_images has `r.example.org/old/**`".to_owned())
    );
    assert_eq!(judged("redis:7", true).as_deref(), Ok("allowed_services has `docker.io/library/redis:*`"));
    assert_eq!(judged("redis:7", false), Err("no pattern of allowed_images matches".to_owned()));
    assert_eq!(judged("r.example.org/a", true), Err("no pattern of allowed_services matches".to_owned()));
    let fixed = container("engine = \"podman\"\ndigest_required = true");
    assert!(fixed.judge(&ImageName::parse("redis:7").expect("a name"), false).is_err());
    assert!(fixed.judge(&ImageName::parse("/opt/a.sif").expect("a name"), false).is_err());
    let paths = container("engine = \"apptainer\"\ndigest_required = true\nallowed_images = [\"/opt/**\"]");
    assert!(paths.judge(&ImageName::parse("/opt/a.sif").expect("a name"), false).is_ok());
}

#[test]
fn a_path_is_an_image_only_where_a_pattern_of_paths_or_the_site_itself_names_it() {
    let judged = |keys: &str, name: &str| {
        container(&format!("engine = \"apptainer\"\n{keys}"))
            .judge(&ImageName::parse(name).expect(name), false)
    };
    for keys in ["", "allowed_images = [\"**\"]", "allowed_images = [\"*/**\", \"r.example.org/**\"]"] {
        assert!(judged(keys, "/opt/a.sif").is_err_and(|why| why.contains("begins with `/`")), "{keys}");
        assert!(judged(keys, "r.example.org/a").is_ok(), "{keys}");
    }
    let opt = "allowed_images = [\"/opt/images/**\"]";
    assert_eq!(judged(opt, "/opt/images/x/a.sif").as_deref(), Ok("allowed_images has `/opt/images/**`"));
    assert!(judged(opt, "/opt/a.sif").is_err() && judged(opt, "r.example.org/a").is_err());
    assert!(judged(&format!("{opt}\ndenied_images = [\"/**/old.sif\"]"), "/opt/images/old.sif").is_err());
    let own = "default_image = \"/opt/own.sif\"";
    assert_eq!(judged(own, "/opt//own.sif").as_deref(), Ok("default_image"));
    assert!(judged(own, "/opt/other.sif").is_err());
    assert!(judged(&format!("{own}\nallowed_images = [\"r.example.org/**\"]"), "/opt/own.sif").is_ok());
}

#[test]
fn a_container_with_step_runner_in_it_runs_steps() {
    assert!(!container("engine = \"podman\"\nbinds = [\"/opt/steps\"]").runs_steps());
    let bind = "engine = \"podman\"\nbinds = [\"/opt/site/step-runner-0.9:/usr/local/bin/step-runner\"]";
    assert!(container(bind).runs_steps());
}

#[test]
fn containers_in_a_machine_are_an_accounts_without_root() {
    assert!(container("engine = \"nspawn\"\nnested = true").nested);
    let (message, line, column) = finding("engine = \"nspawn\"\nroot = true\nnested = true");
    assert!(message.contains("`nested` is for the account"), "{message}");
    assert_eq!((line, column), (3, 10));
    for key in ["nested", "suppress_sync"] {
        let (message, ..) = finding(&format!("engine = \"podman\"\n{key} = true"));
        assert_eq!(message, "only `nspawn` has this");
    }
}

#[test]
fn a_tree_of_machines_has_one_name_that_patterns_are_compared_with() {
    let judged = |keys: &str, name: &str| {
        container(&format!("engine = \"nspawn\"\n{keys}")).judge(&ImageName::parse(name).expect(name), false)
    };
    for name in [
        "quay.io/x/rocky",
        "docker.io/library/rocky",
        "docker://rocky",
        "x/rocky",
        "/x/rocky",
        "oras://r.example.org/rocky",
    ] {
        assert!(judged("", name).is_err_and(|why| why.contains("`NAME` or `NAME:VERSION`")), "{name}");
        assert!(judged("allowed_images = [\"**\"]", name).is_err(), "{name}");
    }
    for name in ["rocky", "rocky:9", "rocky:latest"] {
        let denied = judged("denied_images = [\"rocky\"]", name);
        assert_eq!(denied, Err("denied_images has `rocky`".to_owned()), "{name}");
        assert!(judged("", name).is_ok() && judged("denied_images = [\"debian*\"]", name).is_ok(), "{name}");
        assert!(
            judged("allowed_images = [\"reg.example.org/**\", \"docker.io/**\"]", name).is_err(),
            "{name}"
        );
    }
    assert!(judged("denied_images = [\"rocky:9\"]", "rocky:8").is_ok());
    assert!(judged("denied_images = [\"rocky:9\"]", "rocky:9").is_err());
    assert!(judged("allowed_images = [\"rocky\"]", "rocky:latest").is_ok());
    assert!(judged("allowed_images = [\"rocky\"]", "rocky:8").is_err());
    assert!(judged("allowed_images = [\"rocky:*\"]", "rocky").is_ok());
}

#[test]
fn containers_that_do_less_than_they_seem_to_are_remarked() {
    let codes = |policy: &Policy| lint(policy).iter().map(|Lint { code, .. }| *code).collect::<Vec<_>>();
    let calm = "engine = \"podman\"\nallowed_images = [\"r.example.org/**\"]\n";
    assert_eq!(codes(&policy(calm)), [""; 0]);
    assert_eq!(codes(&policy("engine = \"podman\"")), ["any-image"]);
    assert_eq!(codes(&policy(&format!("{calm}store = \"$HOME/x\""))), ["store-at-home"]);
    let unused = parse(&format!("{BASE}[container.c]\n{calm}")).expect("a policy");
    assert_eq!(codes(&unused), ["unused-container"]);
    let bound =
        parse(&format!("{BASE}[job]\ncontainer = \"c\"\nno_new_privileges = true\n[container.c]\n{calm}"))
            .expect("a policy");
    assert_eq!(codes(&bound), ["one-id"]);
    let other = parse(&format!(
        "{BASE}[job]\ncontainer = \"c\"\nno_new_privileges = true\n[container.c]\nengine = \"bwrap\""
    ))
    .expect("a policy");
    assert_eq!(codes(&other), [""; 0]);
    // A machine's files are in memory.
    let machine = "[container.c]\nengine = \"nspawn\"\nallowed_images = [\"debian\"]\n";
    for (limits, expected) in [
        ("", &["machine-memory"][..]),
        ("limits = \"l\"\n[limits.l]\npids = 100\n", &["machine-memory"]),
        ("limits = \"l\"\n[limits.l]\nmemory = \"1GiB\"\n", &[]),
    ] {
        let one = parse(&format!("{BASE}[job]\ncontainer = \"c\"\n{limits}{machine}")).expect("a policy");
        assert_eq!(codes(&one), expected, "{limits}");
    }
}
