use super::Found;
use crate::refusal::{Class, Code, Refusal};
use nunbird_handover::{CacheBounds, Container, Credential, Engine, Image, PullPolicy, Service};
use std::collections::BTreeMap;

/// On a site without passwords of its own.
fn credentials(
    container: &Container,
    variable: impl FnMut(&str) -> Result<Option<String>, String>,
) -> Result<Found, Refusal> {
    super::credentials(container, |_| Ok(None), variable)
}

fn image(name: &str) -> Image {
    Image {
        name: name.to_owned(),
        entrypoint: None,
        user: None,
        platform: None,
        pull: vec![PullPolicy::Always],
        digest_required: false,
    }
}

fn container(name: &str, services: &[&str]) -> Container {
    let service = |name: &&str| Service {
        image: image(name),
        aliases: Vec::new(),
        command: None,
        variables: BTreeMap::new(),
        ports: Vec::new(),
    };
    Container {
        name: "c".to_owned(),
        engine: Engine::Named("podman".to_owned()),
        program: None,
        image: Some(image(name)),
        runner_image: None,
        services: services.iter().map(service).collect(),
        stages: Vec::new(),
        directory: "/d".into(),
        store: None,
        cache: "/c".into(),
        shared_cache: None,
        cache_bounds: CacheBounds::default(),
        binds: Vec::new(),
        home: false,
        gpu: None,
        root: false,
        host_network: true,
        options: Vec::new(),
        engine_environment: BTreeMap::new(),
        no_new_privileges: false,
        pull_timeout: 1,
        service_timeout: 1,
        service_required: false,
        service_logs: false,
        credential_helpers: nunbird_handover::CredentialHelpers::default(),
    }
}

/// Registries, users and passwords, and the registries of helpers.
type Shown = (Vec<(String, String, String)>, Vec<String>);

fn found(container: &Container, variables: &[(&str, &str)]) -> Result<Shown, Refusal> {
    let value = |name: &str| {
        Ok(variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    };
    let found = credentials(container, value)?;
    let all =
        found.credentials.0.iter().map(|one| (one.registry.clone(), one.user.clone(), one.password.clone()));
    Ok((all.collect(), found.not_run))
}

fn one(registry: &str, user: &str, password: &str) -> (String, String, String) {
    (registry.to_owned(), user.to_owned(), password.to_owned())
}

const OF_GITLAB: [(&str, &str); 6] = [
    ("CI_REGISTRY", "registry.example.org"),
    ("CI_REGISTRY_USER", "gitlab-ci-token"),
    ("CI_REGISTRY_PASSWORD", "token"),
    ("CI_DEPENDENCY_PROXY_SERVER", "gitlab.example.org:443"),
    ("CI_DEPENDENCY_PROXY_USER", "proxy"),
    ("CI_DEPENDENCY_PROXY_PASSWORD", "other"),
];

#[test]
fn a_password_goes_to_the_registries_of_the_jobs_images_and_to_no_other() {
    let own = container(
        "registry.example.org/a/b:1",
        &["gitlab.example.org/group/dependency_proxy/containers/redis:7"],
    );
    let expected = [
        one("gitlab.example.org", "proxy", "other"),
        one("registry.example.org", "gitlab-ci-token", "token"),
    ];
    assert_eq!(found(&own, &OF_GITLAB).expect("found").0, expected);
    for other in [
        "docker.io/library/a:1",
        "registry.example.org.evil.org/a:1",
        "evil.org/registry.example.org:1",
        "/opt/a.sif",
    ] {
        assert_eq!(
            found(&container(other, &[]), &OF_GITLAB).expect("found"),
            (Vec::new(), Vec::new()),
            "{other}"
        );
    }
}

#[test]
fn docker_auth_config_comes_first_and_its_longest_path_wins() {
    // u:p, group:q
    let config = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"registry.example.org":{"auth":"dTpw"},
        "registry.example.org/a":{"auth":"Z3JvdXA6cQ=="},"named.example.org":{"username":"n","password":"m:x"}}}"#;
    let with = |name: &str| {
        let mut variables = OF_GITLAB.to_vec();
        variables.push(("DOCKER_AUTH_CONFIG", config));
        found(&container(name, &[]), &variables).expect("found").0
    };
    assert_eq!(with("registry.example.org/a/b:1"), [one("registry.example.org/a", "group", "q")]);
    assert_eq!(with("registry.example.org/ab:1"), [one("registry.example.org", "u", "p")]);
    assert_eq!(with("docker.io/library/a:1"), [one("docker.io", "u", "p")]);
    assert_eq!(with("named.example.org/a:1"), [one("named.example.org", "n", "m:x")]);
    assert_eq!(with("gitlab.example.org/a:1"), [one("gitlab.example.org", "proxy", "other")]);
}

/// Registry, what the program is asked for, and its name.
fn helpers(config: &str, name: &str) -> Vec<(String, String, String)> {
    let mut container = container(name, &[]);
    container.credential_helpers.directories.push("/opt/site/bin".into());
    let value = |name: &str| Ok((name == "DOCKER_AUTH_CONFIG").then(|| config.to_owned()));
    let found = credentials(&container, value).expect("found");
    assert!(found.not_run.is_empty());
    found.helpers.into_iter().map(|one| (one.registry, one.server, one.name)).collect()
}

#[test]
fn helpers_are_named_and_not_run_where_the_site_has_no_directory_for_them() {
    let helpers = |config: &str, name: &str| {
        found(&container(name, &[]), &[("DOCKER_AUTH_CONFIG", config)]).expect("found")
    };
    let (none, registries) = helpers(r#"{"credHelpers":{"r.example.org":"evil"}}"#, "r.example.org/a:1");
    assert_eq!((none.len(), registries), (0, vec!["r.example.org".to_owned()]));
    assert_eq!(helpers(r#"{"credHelpers":{"r.example.org":"evil"}}"#, "s.example.org/a:1").1, [""; 0]);
    assert_eq!(helpers(r#"{"credsStore":"evil"}"#, "s.example.org/a:1").1, ["s.example.org"]);
    let with_password = r#"{"credsStore":"evil","auths":{"s.example.org":{"auth":"dTpw"}}}"#;
    assert_eq!(
        helpers(with_password, "s.example.org/a:1"),
        (vec![one("s.example.org", "u", "p")], Vec::new())
    );
}

#[test]
fn the_helper_of_a_registry_comes_before_that_of_all_and_both_before_a_password() {
    let config = r#"{"credsStore":"all","credHelpers":{"r.example.org":"own","https://h.example.org":"other","n.example.org":""},
        "auths":{"r.example.org":{"auth":"dTpw"}}}"#;
    for (name, expected) in [
        ("r.example.org/a:1", Some(("r.example.org", "r.example.org", "own"))),
        ("h.example.org/a:1", Some(("h.example.org", "https://h.example.org", "other"))),
        ("s.example.org:5000/a:1", Some(("s.example.org:5000", "s.example.org:5000", "all"))),
        ("alpine", Some(("docker.io", "https://index.docker.io/v1/", "all"))),
        ("n.example.org/a:1", None),
        ("/opt/a.sif", None),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|(r, server, name)| one(r, server, name)).collect();
        assert_eq!(helpers(config, name), expected, "{name}");
    }
    // What a helper does not have may be under `auths`.
    let mut container = container("r.example.org/a:1", &["r.example.org/b:1"]);
    container.credential_helpers.directories.push("/opt/site/bin".into());
    let found = credentials(&container, |name| Ok((name == "DOCKER_AUTH_CONFIG").then(|| config.to_owned())))
        .expect("found");
    assert_eq!((found.helpers.len(), found.credentials.0.len()), (1, 1));
}

#[test]
fn a_helper_has_a_name_and_no_path() {
    for name in ["../evil", "a/b", "a b", "-o;id", "a.b", "a\n", &"x".repeat(65)] {
        let mut container = container("r.example.org/a:1", &[]);
        container.credential_helpers.directories.push("/opt/site/bin".into());
        let config = serde_json::json!({ "credHelpers": { "r.example.org": name } }).to_string();
        let refusal =
            credentials(&container, |name| Ok((name == "DOCKER_AUTH_CONFIG").then(|| config.clone())))
                .expect_err(name);
        assert_eq!(refusal.code.name(), "variable", "{name}");
        let other = credentials(&self::container("s.example.org/a:1", &[]), |_| Ok(Some(config.clone())));
        assert!(other.is_ok_and(|found| found.helpers.is_empty()), "{name}");
    }
}

#[test]
fn an_identity_token_is_one() {
    let config = r#"{"auths":{"r.example.org":{"auth":"MDAwOg==","identitytoken":"long"}}}"#;
    let found = found(&container("r.example.org/a:1", &[]), &[("DOCKER_AUTH_CONFIG", config)]);
    assert_eq!(found.expect("found").0, [one("r.example.org", "<token>", "long")]);
}

#[test]
fn what_cannot_be_used_is_refused_without_a_word_of_it() {
    let one = container("r.example.org/a:1", &[]);
    for config in [
        "hunter2",
        r#"{"auths":"hunter2"}"#,
        r#"{"auths":{"r.example.org":{"auth":"hunter2!"}}}"#,
        // hunter2 without a colon
        r#"{"auths":{"r.example.org":{"auth":"aHVudGVyMg=="}}}"#,
        &format!("\"hunter2{}\"", "x".repeat(64 << 10)),
    ] {
        let refusal = found(&one, &[("DOCKER_AUTH_CONFIG", config)]).expect_err(config);
        let text = format!("{refusal:?}");
        assert!(text.contains("DOCKER_AUTH_CONFIG") && !text.contains("hunter2"), "{text}");
    }
    let refusal = credentials(&one, |_| Err("no UTF-8 text".to_owned())).expect_err("refused");
    assert_eq!(refusal.code.name(), "variable");
}

#[test]
fn the_sites_password_comes_behind_what_the_job_brings_and_before_gitlabs() {
    let site = |repository: &str| match repository {
        "r.example.org/licensed/a" => Ok(Some(Credential {
            registry: repository.to_owned(),
            user: "site".to_owned(),
            password: "secret".to_owned(),
            site: Some("licensed".to_owned()),
        })),
        "r.example.org/old/a" => Err(Refusal::system(Code::Images, "too old", "too old")),
        _ => Ok(None),
    };
    let found = |images: &[&str], config: &str, helpers: bool| {
        let (first, others) = images.split_first().expect("an image");
        let mut container = container(first, others);
        if helpers {
            container.credential_helpers.directories.push("/opt/site/bin".into());
        }
        super::credentials(&container, site, |name| {
            let of_gitlab = [
                ("CI_REGISTRY", "r.example.org"),
                ("CI_REGISTRY_USER", "gitlab-ci-token"),
                ("CI_REGISTRY_PASSWORD", "token"),
            ];
            let all =
                of_gitlab.into_iter().chain((!config.is_empty()).then_some(("DOCKER_AUTH_CONFIG", config)));
            Ok(all.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned()))
        })
        .map(|found| found.credentials.0.into_iter().map(|one| (one.registry, one.user)).collect::<Vec<_>>())
    };
    let pair = |registry: &str, user: &str| (registry.to_owned(), user.to_owned());
    let licensed = "r.example.org/licensed/a:1";
    assert_eq!(found(&[licensed], "", false).expect("found"), [pair("r.example.org/licensed/a", "site")]);
    let both = [pair("r.example.org", "gitlab-ci-token"), pair("r.example.org/licensed/a", "site")];
    assert_eq!(found(&[licensed, "r.example.org/a/b"], "", false).expect("found"), both);
    let own = r#"{"auths":{"r.example.org":{"auth":"dTpw"}}}"#;
    assert_eq!(found(&[licensed], own, false).expect("found"), [pair("r.example.org", "u")]);
    // One too old is a fault only where it is asked for.
    assert!(found(&["r.example.org/old/a"], own, false).is_ok());
    let helper = r#"{"credHelpers":{"r.example.org":"own"}}"#;
    assert!(found(&["r.example.org/old/a"], helper, true).is_ok());
    assert!(found(&["r.example.org/old/a"], helper, false).is_err());
    assert!(found(&["r.example.org/old/a"], "", false).is_err());
}

#[test]
fn the_site_is_asked_only_for_what_may_be_pulled() {
    let asked = |container: &Container| {
        let mut asked = Vec::new();
        let note = |repository: &str| {
            asked.push(repository.to_owned());
            Ok(None)
        };
        super::credentials(container, note, |_| Ok(None)).expect("found");
        asked
    };
    let mut one = container("r.example.org/a:1", &["r.example.org/s:1"]);
    assert_eq!(asked(&one), ["r.example.org/a", "r.example.org/s"]);
    one.image.as_mut().expect("an image").pull = vec![PullPolicy::Never];
    assert_eq!(asked(&one), ["r.example.org/s"]);
    one.services[0].image.pull = vec![PullPolicy::Never, PullPolicy::IfNotPresent];
    assert_eq!(asked(&one), ["r.example.org/s"]);
    // A tree of a machine has such a name, and no registry.
    one.engine = Engine::Named("nspawn".to_owned());
    assert_eq!(asked(&one), [""; 0]);
}

#[test]
fn passwords_of_the_sites_that_do_not_fit_are_a_fault_of_the_site_and_not_of_the_job() {
    let site = |repository: &str| {
        Ok(Some(Credential {
            registry: repository.to_owned(),
            user: "site".to_owned(),
            password: "hunter2".repeat(580),
            site: Some("licensed".to_owned()),
        }))
    };
    let names: Vec<String> = (0..8).map(|n| format!("r.example.org/licensed/{n}:1")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let refusal =
        super::credentials(&container(names[0], &names[1..]), site, |_| Ok(None)).expect_err("too many");
    assert_eq!((refusal.class, refusal.code.name()), (Class::System, "images"), "{refusal:?}");
    assert!(
        refusal.message.contains("[credential.licensed]") && refusal.message.contains("24 KiB"),
        "{refusal:?}"
    );
    assert!(refusal.detail.contains("[credential.licensed] for 8 repositories: 32"), "{refusal:?}");
    let text = format!("{refusal:?}");
    assert!(text.contains("[credential.licensed]") && !text.contains("DOCKER_AUTH_CONFIG"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(super::credentials(&container(names[0], &names[1..4]), site, |_| Ok(None)).is_ok());
    // What `check` says without a job.
    assert_eq!(super::repositories_of_a_job("r.example.org", "site", &"hunter2".repeat(580)), 5);
    assert_eq!(super::repositories_of_a_job("r.example.org", "site", &"\"".repeat(4000)), 3);
}
