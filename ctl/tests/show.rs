//! `nunbirdctl show` prints each value's file and line, in either dialect.

use crate::scene::Scene;

const EVERY_KEY: &str = include_str!("../../render/tests/jacamar/every_key.toml");

/// The origin of a key by `show --format json`, without the file's name.
fn origin(scene: &Scene, file: &str, key: &str) -> String {
    let shown = scene.run_bare(&["show", "--configuration", file, "--format", "json"]).json();
    let origin = shown[key]["origin"].as_str().unwrap_or_else(|| panic!("no {key}: {shown:#}"));
    origin.strip_prefix(&format!("{file}:")).unwrap_or(origin).to_owned()
}

#[test]
fn a_value_of_jacamars_file_has_its_place_and_only_what_is_not_there_is_a_default() {
    let scene = Scene::new();
    let refused = ["block_calls", "allow_calls", "validation_plugin"];
    let text: String = EVERY_KEY
        .lines()
        .filter(|line| !refused.iter().any(|key| line.trim_start().starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    let file = scene.file("j.toml", &text);
    let place = |key: &str| {
        let line = text.lines().position(|line| line.starts_with(&format!("{key} = "))).expect(key);
        format!("{}:{}", line + 1, key.len() + 4)
    };
    for (native, key) in [
        ("downscope", "downscope"),
        ("gitlab[0].url", "gitlab_server"),
        ("gitlab[0].audience", "jwt_required_aud"),
        ("directories.data_dir", "data_dir"),
        ("job.executor", "executor"),
        ("job.environment", "user_bash_env"),
        ("audit.file", "location"),
        ("batch.poll_interval", "command_delay"),
        ("accounts.shells", "shell_allowlist"),
    ] {
        assert_eq!(origin(&scene, &file, native), place(key), "{native}");
    }
    for key in ["keys_dir", "accounts.min_uid", "batch.grace", "gitlab[0].runner_ids"] {
        assert_eq!(origin(&scene, &file, key), "default", "{key}");
    }
}

#[test]
fn servers_profiles_and_the_scheduler_have_places_and_no_heading_is_a_default() {
    let scene = Scene::new();
    let text = format!(
        "{}\n[batch]\npoll_interval = \"20s\"\n[profile.big]\nshell = \"/bin/sh\"\n[profile.big.batch]\ngrace = \"5s\"\n\
         [profile.\"a.b\"]\nlogin_shell = false\n",
        scene.policy()
    );
    let file = scene.file("n.toml", &text);
    let line = |words: &str| {
        let at = text.lines().position(|line| line == words).unwrap_or_else(|| panic!("{words}"));
        format!("{}:{}", at + 1, words.find(" = ").expect("a key") + 4)
    };
    for (key, words) in [
        ("gitlab[0].name", "name = \"main\""),
        ("gitlab[0].url", "url = \"https://gitlab.example.org\""),
        ("batch.poll_interval", "poll_interval = \"20s\""),
        ("profile.big.shell", "shell = \"/bin/sh\""),
        ("profile.big.batch.grace", "grace = \"5s\""),
        ("profile.\"a.b\".login_shell", "login_shell = false"),
    ] {
        assert_eq!(origin(&scene, &file, key), line(words), "{key}");
    }
    assert_eq!(origin(&scene, &file, "batch.nfs_timeout"), "default");
    assert_eq!(origin(&scene, &file, "gitlab[0].issuer"), "default");
    let shown = scene.run_bare(&["show", "--configuration", &file]).out;
    assert!(!shown.lines().any(|line| line.starts_with("# default")), "{shown}");
    assert!(shown.contains("[profile.\"a.b\".batch]\nstages = "), "{shown}");
}
