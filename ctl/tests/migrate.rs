//! Jacamar's configuration as Nunbird's own.

mod scene;

use scene::{Scene, claims};

const JACAMAR: &str = r#"[general]
executor = "shell"
data_dir = "$HOME"
gitlab_server = "https://gitlab.example.org"
name = "login1"
[auth]
downscope = "setuid"
user_blocklist = ["eve"]
"#;

#[test]
fn a_migrated_configuration_is_read_and_decides_the_same() {
    let scene = Scene::new();
    let file = scene.file("jacamar.toml", JACAMAR);
    let migrated = scene.run_bare(&["migrate", &file]);
    assert_eq!((migrated.code, migrated.err.as_str()), (0, ""), "{migrated:?}");
    for part in [
        "# line 5, general.name: audit events",
        "url = \"https://gitlab.example.org\"  # general.gitlab_server, line 4\n",
        "  # auth.jwt_required_aud is not set: Jacamar would take any audience\n",
        "[[rule]]\n# line 8\nname = \"user_blocklist\"\n",
    ] {
        assert!(migrated.out.contains(part), "{part}\n{}", migrated.out);
    }
    let native = scene.file("native.toml", &migrated.out);
    for (login, words) in
        [("eve", "your account may not run CI jobs here"), ("nobody-here", "not in the user database")]
    {
        let claims = scene.claims(&claims(login, "hpc/app"));
        for configuration in [&file, &native] {
            let explained =
                scene.run_bare(&["explain", "--claims", &claims, "--configuration", configuration]);
            assert_eq!(explained.code, 4, "{explained:?}");
            assert!(explained.out.contains(words), "{configuration}: {}", explained.out);
        }
    }
}

#[test]
fn what_is_refused_is_told_twice_and_the_rest_denies_every_job() {
    let scene = Scene::new();
    let text = JACAMAR.replace("[auth]", "run_mechanism = \"podman\"\n[auth]\nseccomp.block_all = true");
    let file = scene.file("jacamar.toml", &text);
    let migrated = scene.run_bare(&["migrate", &file]);
    assert_eq!(migrated.code, 3, "{migrated:?}");
    for line in ["6:17: `run_mechanism`", "8:21: `block_all = true`"] {
        let refused = format!("# REFUSED {file}:{line} is not supported\n");
        assert!(migrated.out.contains(&refused), "{refused}\n{}", migrated.out);
    }
    assert!(migrated.err.contains("`run_mechanism` is not supported"), "{}", migrated.err);
    assert!(migrated.err.contains("`block_all = true` is not supported"), "{}", migrated.err);
    let native = scene.file("native.toml", &migrated.out);
    let claims = scene.claims(&claims("ada", "hpc/app"));
    let explained = scene.run_bare(&["explain", "--claims", &claims, "--configuration", &native]);
    assert!(explained.code == 4 && explained.out.contains("1. not migrated yet ("), "{explained:?}");
    assert!(explained.out.contains("this host's configuration is being changed"), "{explained:?}");
}

#[test]
fn a_dropped_list_never_lets_anybody_in() {
    let scene = Scene::new();
    let file = scene.file("jacamar.toml", &JACAMAR.replace("[\"eve\"]", "7"));
    let migrated = scene.run_bare(&["migrate", &file]);
    assert!(migrated.code == 3 && !migrated.out.contains("name = \"user_blocklist\""), "{migrated:?}");
    let first = migrated.out.split("[[rule]]").nth(1).expect("a rule");
    assert!(first.contains("\ndeny = ") && !first.contains("when."), "{first}");
}

#[test]
fn a_hostile_line_stays_in_its_comment() {
    let scene = Scene::new();
    let hostile =
        "run_mechanism = \"\u{202e}\u{7}\"\nff_x = \"\"\"\n[[rule]]\"\"\"\n\"ff_\\n[[rule]]\\u001b\" = 1\n";
    let migrated = scene.run_bare(&[
        "migrate",
        &scene.file("j.toml", &JACAMAR.replace("name = \"login1\"\n", &hostile.replace('\u{7}', ""))),
    ]);
    assert_eq!(migrated.code, 3, "{migrated:?}");
    assert!(migrated.out.contains("# line 6, general.ff_x: a feature flag"), "{}", migrated.out);
    for text in [&migrated.out, &migrated.err] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
    let heads = migrated.out.lines().filter(|line| *line == "[[rule]]").count();
    assert_eq!(heads, 3, "{}", migrated.out);
}

#[test]
fn what_is_not_jacamars_is_not_migrated() {
    let scene = Scene::new();
    let native = scene.file("native.toml", &scene.policy());
    let migrated = scene.run_bare(&["migrate", &native]);
    assert!(
        migrated.code == 1 && migrated.err.contains("Nunbird's own configuration already"),
        "{migrated:?}"
    );
    let broken = scene.file("broken.toml", "[general\nexecutor = \"shell\"\n");
    let migrated = scene.run_bare(&["migrate", &broken]);
    assert!(
        migrated.code == 3 && migrated.out.is_empty() && migrated.err.contains("broken.toml:1:"),
        "{migrated:?}"
    );
}
