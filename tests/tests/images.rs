//! Jobs that ask for an image, services or steps: what the site's configuration makes of it.

use nunbird_handover::{Container, Credential, Handover};
use nunbird_tests::{Job, Privilege, World, needs};
use serde_json::{Value, json};
use std::fs;

/// `image:`, `services:` and `run:` as the server passes them on.
fn asking<'w>(world: &'w World, image: Value, services: Value, run: Value) -> Job<'w> {
    world.job().response(move |response| {
        response["image"] = image.clone();
        response["services"] = services.clone();
        response["run"] = run.clone();
    })
}

#[needs(root)]
fn a_job_with_an_image_reads_that_it_is_not_used_or_is_refused() {
    for privilege in Privilege::ALL {
        let world = World::new(privilege);
        world.write_keys();
        let image = json!({ "name": "rocky\u{1b}[31mlinux:9", "entrypoint": null });
        let named = json!({ "name": "rockylinux:9" });
        let services = json!([{ "name": "postgres:16" }, { "name": "redis", "alias": "cache" }]);
        let prepared = |job: Job<'_>| {
            let mut session = job.begin();
            let config = session.config();
            if !config.succeeded() {
                return Err(config.log);
            }
            let prepare = session.prepare();
            assert!(prepare.succeeded(), "{}", prepare.log);
            assert!(session.cleanup().succeeded());
            Ok(prepare.log)
        };
        let none = prepared(asking(&world, json!({ "name": "" }), json!([]), Value::Null)).expect("admitted");
        assert!(!none.contains("warning:"), "{none}");
        let all = prepared(asking(&world, named.clone(), services.clone(), json!("[{}]"))).expect("admitted");
        for line in [
            "warning: `image: rockylinux:9` is not used",
            "warning: `services:` (postgres:16, redis) are not started",
            "warning: `run:` needs the program step-runner",
        ] {
            assert!(all.contains(line), "{privilege:?}: {all}");
        }
        let strange = prepared(asking(&world, image, json!(7), json!(false))).expect("admitted");
        assert!(strange.contains("`image: ?` is not used") && !strange.contains("services"), "{strange}");

        world.reconfigure("[job]\n", "[job]\nimages = \"ignore\"\n");
        let ignored =
            prepared(asking(&world, named.clone(), services.clone(), Value::Null)).expect("admitted");
        assert!(!ignored.contains("warning:"), "{ignored}");

        world.reconfigure("images = \"ignore\"", "images = \"refuse\"");
        let refused = prepared(asking(&world, named, services, Value::Null)).expect_err("refused");
        assert!(refused.contains("[images]"), "{privilege:?}: {refused}");
        assert!(refused.contains("does not run an image (`image:`), services (`services:`)"), "{refused}");
        let steps = prepared(asking(&world, Value::Null, Value::Null, json!("[{}]"))).expect_err("refused");
        assert!(steps.contains("steps (`run:`)"), "{steps}");
        assert!(prepared(world.job()).is_ok());
        assert!(world.records().is_empty());
    }
}

/// A site whose jobs run in images of one registry.
fn site(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("[job]\n", "[job]\ncontainer = \"images\"\n");
    let text = world.configuration();
    let table = "[container.images]\nengine = \"podman\"\nallowed_images = [\"registry.example.org/**\"]\n\
                 denied_images = [\"registry.example.org/old/**\"]\nallowed_services = [\"docker.io/library/postgres:*\"]\n\
                 store = \"/var/tmp/containers-$UID\"\n";
    world.configure(&format!("{text}\n{table}"));
    world
}

/// The refusal of a job's `config`, as its log has it; the event says why as well.
fn refused(world: &World, job: &Job<'_>) -> String {
    let mut session = job.begin();
    let config = session.config();
    assert!(!config.succeeded(), "{}", config.log);
    assert!(session.cleanup().succeeded());
    let event = world.audit().into_iter().rfind(|event| event["stage"] == "config").expect("an event");
    assert_eq!((&event["outcome"], &event["code"]), (&json!("denied"), &json!("images")), "{event}");
    assert!(
        event["detail"].as_str().is_some_and(|detail| detail.contains("[container.images] at ")),
        "{event}"
    );
    assert!(!config.log.chars().any(|c| c.is_control() && c != '\n'), "{}", config.log);
    config.log
}

#[needs(root)]
fn an_image_is_judged_by_the_sites_patterns_in_every_mode_of_privilege() {
    for privilege in Privilege::ALL {
        let world = site(privilege);
        let asking_for = |image: Value| asking(&world, image, json!([]), Value::Null);
        let job = asking_for(json!({ "name": "registry.example.org/hpc/gcc" }));
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let event = world.audit().pop().expect("an event");
        assert_eq!(
            (&event["container"], &event["container_engine"]),
            (&json!("images"), &json!("podman")),
            "{event}"
        );
        assert_eq!(event["image"], "registry.example.org/hpc/gcc:latest", "{event}");
        assert_eq!(event["image_rule"], "allowed_images has `registry.example.org/**`", "{event}");
        let record = fs::read(&world.records()[0]).expect("a record");
        assert!(String::from_utf8_lossy(&record).contains("registry.example.org/hpc/gcc:latest"));
        assert!(session.cleanup().succeeded());

        let log = refused(&world, &asking_for(json!({ "name": "alpine" })));
        assert!(
            log.contains("does not allow the image `alpine`") && log.contains("`registry.example.org/**`"),
            "{log}"
        );
        let log = refused(
            &world,
            &asking_for(
                json!({ "name": "REGISTRY.example.org:443/old/x@sha256:0000000000000000000000000000000000000000000000000000000000000000" }),
            ),
        );
        assert!(log.contains("does not allow the image"), "{log}");
        let log = refused(&world, &asking_for(json!({ "name": "/home/eve/x.sif" })));
        assert!(log.contains("does not allow the image `/home/eve/x.sif`"), "{log}");
        let log = refused(&world, &asking_for(json!({ "name": "" })));
        assert!(log.contains("names no image"), "{log}");
        let services = json!([{ "name": "docker.io/library/postgres:16" }, { "name": "redis" }]);
        let with = asking(&world, json!({ "name": "registry.example.org/a" }), services, Value::Null);
        assert!(refused(&world, &with).contains("does not allow the service `redis`"));
        assert!(world.records().is_empty());
    }
}

#[needs(root)]
fn hostile_names_and_malformed_fields_are_refused_and_named() {
    let world = site(Privilege::Setuid);
    for name in [
        "--privileged",
        "-v/:/host",
        "registry.example.org/../etc",
        "registry.example.org/a b",
        "registry.example.org/$(id)",
        "./image.sif",
        "/home/bob/../alice/x.sif",
        "dir:/etc",
        "docker-archive:/etc/shadow",
        "https://evil.example.org/x.sif",
        "registry.example.org./a",
    ] {
        let log = refused(&world, &asking(&world, json!({ "name": name }), json!([]), Value::Null));
        assert!(log.contains("is no name of an image"), "{name}: {log}");
    }
    for (image, services, field) in [
        (json!({ "name": "registry.example.org/\u{1b}[31mx" }), json!([]), "image.name"),
        (json!({ "name": "registry.example.org/\u{202e}x" }), json!([]), "image.name"),
        (json!({ "name": "registry.example.org/x", "entrypoint": "sh" }), json!([]), "image.entrypoint"),
        (
            json!({ "name": "registry.example.org/x", "pull_policy": ["sometimes"] }),
            json!([]),
            "image.pull_policy",
        ),
        (json!(7), json!([]), "image"),
        (
            json!({ "name": "registry.example.org/x" }),
            json!([{ "name": "a", "alias": "a/../b" }]),
            "services[0].alias",
        ),
        (json!({ "name": "registry.example.org/x" }), json!({ "name": "a" }), "services"),
    ] {
        let log = refused(&world, &asking(&world, image, services, Value::Null));
        assert!(log.contains(&format!("`{field}` of this job cannot be used")), "{field}: {log}");
    }
    assert!(world.records().is_empty());
}

/// What a launcher in the place of Nunbird's was started with, stage by stage.
fn messages(world: &World) -> Vec<Handover> {
    let all = fs::read(world.host_path("/tmp/messages")).expect("messages");
    let parts = all.split(|byte| *byte == 0xff).filter(|part| !part.is_empty());
    parts.map(|part| Handover::from_bytes(part).expect("a message")).collect()
}

/// Puts a launcher in the place of Nunbird's that notes what it is given.
fn note_messages(world: &World) {
    // Executed by its descriptor, a launcher can be no script. This one says what it was given; no message has the byte that ends one.
    let probe = "package Probe; use strict; local $/; open(my $in, '<&=', 3) or die; my $all = <$in>; \
                 open(my $out, '>>', '/tmp/messages') or die; print {$out} $all, chr(255); close $out; exit 0;";
    world.write_file("/opt/nunbird/lib/Probe.pm", probe, "root", 0o644);
    world.write_file("/opt/nunbird/bin/probe", fs::read("/usr/bin/perl").expect("perl"), "root", 0o755);
    world.reconfigure("/opt/nunbird/bin/nunbird\"", "/opt/nunbird/bin/probe\"");
    let environment = "\n[job.environment]\nPERL5OPT = \"-MProbe\"\nPERL5LIB = \"/opt/nunbird/lib\"\n";
    world.configure(&(world.configuration() + environment));
}

#[needs(root)]
fn passwords_are_in_the_message_of_prepare_and_nowhere_else() {
    const SECRET: &str = "hunter2-of-the-registry";
    const DATABASE: &str = "hunter2-of-the-database";
    let world = site(Privilege::Setuid);
    note_messages(&world);
    let services = json!([{
        "name": "postgres:16", "alias": "db",
        "variables": [{ "key": "POSTGRES_PASSWORD", "value": "$DATABASE_PASSWORD" }, { "key": "RAW", "value": "$HOME", "raw": true }],
    }]);
    let image = json!({ "name": "registry.example.org/a/b:1" });
    let job = asking(&world, image, services, Value::Null)
        .variable("CI_REGISTRY", "registry.example.org")
        .variable("CI_REGISTRY_USER", "gitlab-ci-token")
        .variable("CI_REGISTRY_PASSWORD", SECRET)
        .variable("CI_DEPENDENCY_PROXY_SERVER", "other.example.org")
        .variable("CI_DEPENDENCY_PROXY_USER", "proxy")
        .variable("CI_DEPENDENCY_PROXY_PASSWORD", "hunter2-of-another")
        .variable("CI_DEBUG_SERVICES", "true")
        .variable("POSTGRES_DB", "app")
        .variable("DATABASE_PASSWORD", DATABASE);
    let mut session = job.begin();
    let mut logs = String::new();
    let config = session.config();
    assert!(config.succeeded(), "{}", config.log);
    logs.push_str(&config.log);
    let record = fs::read(&world.records()[0]).expect("a record");
    let record = String::from_utf8_lossy(&record).into_owned();
    assert!(record.contains("$DATABASE_PASSWORD") && !record.contains("hunter2"), "{record}");
    for outcome in
        [session.prepare(), session.stage("get_sources"), session.stage("build_script"), session.cleanup()]
    {
        assert!(outcome.succeeded(), "{}", outcome.log);
        logs.push_str(&outcome.log);
    }
    let all = messages(&world);
    let expected = Credential {
        registry: "registry.example.org".to_owned(),
        user: "gitlab-ci-token".to_owned(),
        password: SECRET.to_owned(),
        site: None,
    };
    assert_eq!(all[0].credentials.0, [expected]);
    assert!(all.len() == 4 && all[1..].iter().all(|message| message.credentials.0.is_empty()));
    let value = |message: &Handover, name: &str| {
        let container: &Container = message.container.as_ref().expect("a container");
        assert!(container.service_logs && container.services[0].aliases == ["db", "postgres"]);
        container.services[0].variables.get(name).cloned()
    };
    // The first prepares, the third is the user's script; the others start no service.
    for (index, known) in [(0, true), (1, false), (2, true), (3, false)] {
        assert_eq!(value(&all[index], "POSTGRES_PASSWORD").as_deref(), known.then_some(DATABASE), "{index}");
        assert_eq!(value(&all[index], "POSTGRES_DB").as_deref(), known.then_some("app"), "{index}");
        assert_eq!(value(&all[index], "RAW").as_deref(), known.then_some("$HOME"), "{index}");
    }
    let audit = fs::read_to_string(world.host_path(&world.paths().audit)).expect("events");
    assert!(!logs.contains("hunter2") && !audit.contains("hunter2"), "{logs}\n{audit}");
}

#[needs(root)]
fn helpers_for_passwords_are_named_to_prepare_where_the_site_has_a_directory_for_them() {
    let world = site(Privilege::Setuid);
    note_messages(&world);
    let prepared = |config: &str| {
        let image = json!({ "name": "registry.example.org/a/b:1" });
        let job = asking(&world, image, json!([]), Value::Null).variable("DOCKER_AUTH_CONFIG", config);
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let prepare = session.prepare();
        session.stage("build_script");
        assert!(session.cleanup().succeeded());
        prepare
    };
    let config = r#"{"credHelpers":{"registry.example.org":"site"}}"#;
    let log = prepared(config).log;
    let warning = "names a helper program for registry.example.org, which is not run here: write a password under `auths`, \
         or ask the administrators for `credential_helpers` of [container.images]";
    assert!(log.contains(warning), "{log}");
    assert!(messages(&world).iter().all(|message| message.credential_helpers.is_empty()));
    world.reconfigure(
        "engine = \"podman\"\n",
        "engine = \"podman\"\ncredential_helpers = [\"/opt/site/bin\"]\n",
    );
    std::fs::remove_file(world.host_path("/tmp/messages")).expect("removed");
    let log = prepared(config).log;
    assert!(!log.contains("helper"), "{log}");
    let all = messages(&world);
    let helper = &all[0].credential_helpers[0];
    assert_eq!(
        [&helper.registry, &helper.server, &helper.name],
        ["registry.example.org", "registry.example.org", "site"]
    );
    let container = all[0].container.as_ref().expect("a container");
    assert_eq!(container.credential_helpers.directories, [std::path::PathBuf::from("/opt/site/bin")]);
    assert!(all.len() == 3 && all[1..].iter().all(|message| message.credential_helpers.is_empty()));
    let refused = prepared(r#"{"credsStore":"../../tmp/evil"}"#);
    assert!(!refused.succeeded() && refused.log.contains("[variable]"), "{}", refused.log);
}

#[needs(root)]
fn a_password_that_cannot_be_read_is_refused_without_a_word_of_it() {
    let world = site(Privilege::Setuid);
    let image = json!({ "name": "registry.example.org/a/b:1" });
    let job = asking(&world, image, json!([]), Value::Null).variable("DOCKER_AUTH_CONFIG", "hunter2{");
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepare = session.prepare();
    assert!(!prepare.succeeded() && prepare.log.contains("[variable]"), "{}", prepare.log);
    assert!(prepare.log.contains("DOCKER_AUTH_CONFIG of this job cannot be used"), "{}", prepare.log);
    assert!(session.cleanup().succeeded());
    let audit = fs::read_to_string(world.host_path(&world.paths().audit)).expect("events");
    assert!(!prepare.log.contains("hunter2") && !audit.contains("hunter2"), "{audit}");
}

#[needs(root)]
fn explain_shows_the_container_the_image_and_what_let_it_pass() {
    let world = site(Privilege::Setuid);
    let explain = |name: &str| {
        let job = asking(&world, json!({ "name": name }), json!([]), Value::Null);
        let mut session = job.begin();
        assert_eq!(session.config().succeeded(), name.starts_with("registry"), "{name}");
        let response = fs::read(world.host_path(session.response_file())).expect("a response");
        assert!(session.cleanup().succeeded());
        world.write_file("/etc/nunbird/response.json", response, "root", 0o600);
        let program = world.paths().bin.join("nunbirdctl");
        let words = [
            "explain",
            "--job",
            "/etc/nunbird/response.json",
            "--format",
            "json",
            "--runner-user",
            "nbt_runner",
        ];
        let done = world.run(&world.program("root", program, &words));
        serde_json::from_str::<Value>(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"))
    };
    let admitted = explain("registry.example.org/a:1");
    let container = &admitted["container"];
    assert_eq!(
        (&container["name"], &container["engine"]),
        (&json!("images"), &json!("podman")),
        "{admitted}"
    );
    assert_eq!(container["image"], "registry.example.org/a:1", "{admitted}");
    assert_eq!(container["image_rule"], "allowed_images has `registry.example.org/**`", "{admitted}");
    let denied = explain("alpine");
    assert_eq!((&denied["verdict"], &denied["code"]), (&json!("denied"), &json!("images")), "{denied}");
}
