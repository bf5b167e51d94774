use super::credentials;
use crate::refusal::Refusal;
use nunbird_handover::{CacheBounds, Container, Engine, Image, Service};
use std::collections::BTreeMap;

fn image(name: &str) -> Image {
    Image {
        name: name.to_owned(),
        entrypoint: None,
        user: None,
        platform: None,
        pull: Vec::new(),
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
    Ok((all.collect(), found.by_helper))
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

#[test]
fn helpers_are_named_and_not_run() {
    let helpers = |config: &str, name: &str| {
        found(&container(name, &[]), &[("DOCKER_AUTH_CONFIG", config)]).expect("found")
    };
    let (none, registries) = helpers(r#"{"credHelpers":{"r.example.org":"evil"}}"#, "r.example.org/a:1");
    assert_eq!((none.len(), registries), (0, vec!["r.example.org".to_owned()]));
    assert_eq!(helpers(r#"{"credHelpers":{"r.example.org":"evil"}}"#, "s.example.org/a:1").1, [""; 0]);
    assert_eq!(helpers(r#"{"credsStore":"evil"}"#, "s.example.org/a:1").1, ["s.example.org"]);
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
