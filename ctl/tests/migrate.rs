//! Conversion of Jacamar's configuration.

use crate::scene::{Scene, claims};

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
fn what_is_refused_is_reported_twice_and_the_rest_denies_every_job() {
    let scene = Scene::new();
    let text = JACAMAR.replace("[auth]", "[auth]\nseccomp.allow_calls = [\"x\"]\nseccomp.block_all = true");
    let file = scene.file("jacamar.toml", &text);
    let migrated = scene.run_bare(&["migrate", &file]);
    assert_eq!(migrated.code, 3, "{migrated:?}");
    for line in ["7:23: `allow_calls`", "8:21: `block_all = true`"] {
        let refused = format!("# REFUSED {file}:{line} is not supported\n");
        assert!(migrated.out.contains(&refused), "{refused}\n{}", migrated.out);
    }
    assert!(migrated.err.contains("`allow_calls` is not supported"), "{}", migrated.err);
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
    assert!(migrated.code == 1 && migrated.err.contains("a Nunbird configuration already"), "{migrated:?}");
    let broken = scene.file("broken.toml", "[general\nexecutor = \"shell\"\n");
    let migrated = scene.run_bare(&["migrate", &broken]);
    assert!(
        migrated.code == 3 && migrated.out.is_empty() && migrated.err.contains("broken.toml:1:"),
        "{migrated:?}"
    );
}

#[test]
fn the_server_can_be_named_on_the_command_line() {
    let scene = Scene::new();
    let file = scene.file("j.toml", &JACAMAR.replace("gitlab_server = \"https://gitlab.example.org\"\n", ""));
    let without = scene.run_bare(&["migrate", &file]);
    assert_eq!(without.code, 3, "{without:?}");
    for part in ["there is no `gitlab_server`", "the printed text is not a valid configuration yet"] {
        assert!(without.err.contains(part), "{part}: {}", without.err);
    }
    let url = "https://gitlab.example.org";
    let named = scene.run_bare(&[
        "migrate",
        &file,
        "--gitlab-server",
        &format!("{url}/"),
        "--audience",
        "https://hpc",
    ]);
    assert_eq!((named.code, named.err.as_str()), (0, ""), "{named:?}");
    assert!(named.out.contains(&format!("url = \"{url}\"  # given by --gitlab-server\n")), "{}", named.out);
    assert!(named.out.contains("audience = [\"https://hpc\"]  # given by --audience\n"), "{}", named.out);
    let native = scene.file("native.toml", &named.out);
    assert_eq!(scene.run_bare(&["check", "--no-host", "--configuration", &native]).code, 0);
    let wrong = scene.run_bare(&["migrate", &file, "--gitlab-server", "gitlab.example.org"]);
    assert!(wrong.code == 1 && wrong.out.is_empty() && wrong.err.contains("--gitlab-server"), "{wrong:?}");
}

#[test]
fn output_is_written_whole_or_not_at_all_and_never_over_its_source() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let file = scene.file("j.toml", JACAMAR);
    let broken = scene.file("b.toml", &JACAMAR.replace("\"shell\"", "\"pjm\""));
    let target = scene.file("live.toml", "what is in force\n");
    let text = |path: &str| std::fs::read_to_string(path).unwrap();
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();

    let refused = scene.run_bare(&["migrate", &broken, "--output", &target]);
    assert!(refused.code == 3 && refused.out.is_empty(), "{refused:?}");
    assert!(refused.err.contains("not written"), "{}", refused.err);
    assert_eq!(text(&target), "what is in force\n");
    let missing = scene.run_bare(&["migrate", "/nonexistent", "--output", &target]);
    assert!(missing.code == 1 && text(&target) == "what is in force\n", "{missing:?}");

    let done = scene.run_bare(&["migrate", &file, "--output", &target]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "", ""));
    assert_eq!(text(&target), scene.run_bare(&["migrate", &file]).out);
    assert_eq!(mode(&target), 0o640);
    let fresh = scene.path("fresh.toml");
    let fresh = fresh.to_str().unwrap();
    assert_eq!(scene.run_bare(&["migrate", &file, "--output", fresh]).code, 0);
    assert_eq!((text(fresh), mode(fresh)), (text(&target), 0o644));

    let link = scene.path("link.toml");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for source in [file.as_str(), link.to_str().unwrap()] {
        let over = scene.run_bare(&["migrate", &file, "--output", source]);
        assert!(over.code == 1 && over.err.contains("this is the file to migrate"), "{over:?}");
    }
    assert_eq!(text(&file), JACAMAR);
    let left = std::fs::read_dir(scene.path("")).unwrap();
    let hidden = left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn the_runners_own_file_is_called_what_it_is() {
    let scene = Scene::new();
    let runner = "concurrent = 4\n[[runners]]\nname = \"x\"\nexecutor = \"custom\"\n[runners.custom]\nrun_exec = \"y\"\n";
    let file = scene.file("config.toml", runner);
    for command in [&["migrate", &file][..], &["check", "--no-host", "--configuration", &file]] {
        let said = scene.run_bare(command);
        assert!(said.code == 3 && said.out.is_empty(), "{said:?}");
        assert!(said.err.contains("this is gitlab-runner's own configuration"), "{}", said.err);
        assert!(said.err.contains("1 error;") && !said.err.contains("unknown key"), "{}", said.err);
    }
}

#[test]
fn a_file_that_is_not_written_is_not_said_to_be_written() {
    let scene = Scene::new();
    let with = |logging: &str| {
        let file = scene.file("j.toml", &format!("{JACAMAR}[auth.logging]\nenabled = true\n{logging}"));
        scene.run_bare(&["migrate", &file]).out
    };
    let in_syslog = with("location = \"syslog\"\nnetwork = \"udp\"\naddress = \"127.0.0.1:514\"\n");
    for text in [in_syslog, with("")] {
        for line in text.lines().filter(|line| line.contains("written in any case")) {
            assert!(line.starts_with("file = \""), "{line}");
        }
    }
}

#[test]
fn tests_of_ones_own_run_by_a_jacamar_file_as_by_what_it_migrates_to() {
    let scene = Scene::new();
    let file = scene.file("j.toml", JACAMAR);
    let tests = "[[test]]\nname = \"eve\"\nclaims = { user_login = \"eve\", project_path = \"hpc/app\" }\n\
                 expect = \"deny: user_blocklist\"\n\
                 [[test]]\nname = \"ada\"\nclaims = { user_login = \"ada\", project_path = \"hpc/app\" }\n\
                 local = { uid = 6000 }\nexpect = \"ada\"\n";
    let tests = scene.file("tests.toml", tests);
    let native = scene.file("native.toml", &scene.run_bare(&["migrate", &file]).out);
    for configuration in [&file, &native] {
        let done = scene.run_bare(&["test", "--configuration", configuration, &tests]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.out.ends_with("2 passed, 0 failed\n"), "{}", done.out);
    }
    let wrong = scene
        .file("wrong.toml", "[[test]]\nname = \"x\"\n[general]\nname = \"y\"\n[[rule]]\nrun_as = \"root\"\n");
    let said = scene.run_bare(&["test", "--configuration", &file, &wrong]);
    assert_eq!(said.code, 3, "{said:?}");
    for key in ["unknown key `general`", "unknown key `rule`"] {
        assert!(said.err.contains(key), "{key}: {}", said.err);
    }
    let failing =
        scene.file("f.toml", &std::fs::read_to_string(&tests).unwrap().replace("\"ada\"\n", "\"bob\"\n"));
    assert_eq!(scene.run_bare(&["test", "--configuration", &file, &failing]).code, 5);
}

#[test]
fn check_lists_once_what_a_jacamar_file_sets_without_effect() {
    let scene = Scene::new();
    let lost = "retain_logs = true\nkill_timeout = \"5m\"\nunrestricted_cmd_line = false\nff_x = 1\n[auth]\nmax_env_chars = 9";
    let file = scene.file("j.toml", &JACAMAR.replace("name = \"login1\"\n", "").replace("[auth]", lost));
    let said = scene.run_bare(&["check", "--no-host", "--configuration", &file]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out.matches("remark[no-effect]").count(), 1, "{}", said.out);
    for item in [
        "\n  - line 5, general.retain_logs: ",
        "\n  - line 6, general.kill_timeout: ",
        "\n  - line 7, general.unrestricted_cmd_line: ",
        "\n  - line 8, general.ff_x: ",
        "\n  - line 10, auth.max_env_chars: ",
    ] {
        assert!(said.out.contains(item), "{item}: {}", said.out);
    }
    let json = scene.run_bare(&["check", "--no-host", "--configuration", &file, "--format", "json"]).json();
    let remark = json["findings"].as_array().unwrap().iter().find(|one| one["code"] == "no-effect").unwrap();
    assert_eq!(remark["items"].as_array().unwrap().len(), 5);
    let clean = scene.file("k.toml", &JACAMAR.replace("name = \"login1\"\n", ""));
    let said = scene.run_bare(&["check", "--no-host", "--configuration", &clean]);
    assert!(!said.out.contains("no-effect"), "{}", said.out);
}
