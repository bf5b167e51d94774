//! `nunbirdctl runner-config`: what it prints is what it accepts, and each fault has its place.

use crate::scene::{Output, Scene};
use crate::schema::read;
use std::io::Write;
use std::process::{Command, Stdio};

fn printed(scene: &Scene) -> String {
    let shown = scene.run(&["runner-config"]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""), "{shown:?}");
    shown.out
}

fn check(scene: &Scene, text: &str, more: &[&str]) -> Output {
    let file = scene.file("runner.toml", text);
    scene.run(&[&["runner-config", "--check", &file], more].concat())
}

#[test]
fn a_file_as_register_leaves_it_does_not_pass() {
    let scene = Scene::new();
    let text =
        "[[runners]]\n  name = \"hpc\"\n  executor = \"custom\"\n  [runners.custom]\n    run_exec = \"\"\n";
    let shown = check(&scene, text, &[]);
    assert!(shown.code == 3 && shown.out.contains("error[no-runner]"), "{shown:?}");
}

#[test]
fn what_it_prints_passes_its_own_check_and_every_key_has_a_reason() {
    let scene = Scene::new();
    for more in [
        "",
        "[job]\nexecutor = \"slurm\"\n",
        "[profile.batch]\nexecutor = \"slurm\"\n",
        "[validation]\nscript = \"/etc/nunbird/validate\"\nuser = \"nunbird\"\ntimeout = \"5m\"\n",
        "[pam]\ntimeout = \"5m\"\n",
        "[job]\ncontainer = \"a\"\n[container.a]\nengine = \"podman\"\nallowed_images = [\"**\"]\npull_timeout = \"2h\"\n",
    ] {
        scene.configure(&(scene.policy() + more));
        let text = printed(&scene);
        let shown = check(&scene, &text, &["--strict"]);
        // The file of the test is readable by others, as no runner's is.
        let codes: Vec<&str> = shown.out.lines().filter(|line| line.contains("[runner-")).collect();
        assert!(codes.iter().all(|line| line.contains("runner-token")), "{more}\n{text}\n{shown:?}");
        let mut above = "";
        for line in text.lines() {
            let key = line.contains(" = ") && !line.trim_start().starts_with('#');
            assert!(!key || above.trim_start().starts_with("# "), "no reason above `{line}`");
            above = line;
        }
        assert_eq!(read(&text)["runners"][0]["url"], "https://gitlab.example.org");
    }
}

#[test]
fn timeouts_follow_the_configuration() {
    let scene = Scene::new();
    for (more, line) in [
        ("", "    graceful_kill_timeout = 60\n"),
        ("", "\nshutdown_timeout = 120\n"),
        ("[job]\nexecutor = \"slurm\"\n", "    graceful_kill_timeout = 200\n"),
        ("[job]\nexecutor = \"slurm\"\n", "\nshutdown_timeout = 260\n"),
        (
            "[validation]\nscript = \"/etc/nunbird/validate\"\nuser = \"nunbird\"\ntimeout = \"100s\"\n",
            "    # seconds: [validation] may take 100 s, the GitLab server may take 10 s\n    config_exec_timeout = 160\n",
        ),
        (
            "[job]\ncontainer = \"a\"\n[container.a]\nengine = \"podman\"\nallowed_images = [\"**\"]\npull_timeout = \"2h\"\n",
            "    prepare_exec_timeout = 7260\n",
        ),
        ("[pam]\ntimeout = \"200s\"\n", "    cleanup_exec_timeout = 460\n"),
    ] {
        scene.configure(&(scene.policy() + more));
        let text = printed(&scene);
        assert!(text.contains(line), "`{line}` is not in\n{text}");
    }
}

#[test]
fn the_packages_example_is_what_it_prints() {
    let scene = Scene::new();
    let file = scene.path("config.toml");
    let here = printed(&scene).replace(file.to_str().unwrap(), "/etc/nunbird/config.toml");
    assert_eq!(read(&here), read(include_str!("../../packaging/gitlab-runner.toml")));
}

#[test]
fn each_fault_has_file_line_and_column_and_what_to_write() {
    let scene = Scene::new();
    let good = printed(&scene);
    for (old, new, code, at, help) in [
        (
            "run_args = [\"run\"]",
            "run_args = [\"prepare\"]",
            "error[runner-stage]",
            "run_args = |[\"prepare\"]\n",
            "run_args = [\"run\"]",
        ),
        ("\"custom\"", "\"shell\"", "error[runner-executor]", "\"shell\"", "executor = \"custom\""),
        (
            "cleanup_exec = ",
            "#cleanup_exec = ",
            "error[runner-stage]",
            "[[runners]]",
            "cleanup_exec = \"/opt/nunbird/bin/nunbird-auth\"",
        ),
        (
            "graceful_kill_timeout = 60",
            "graceful_kill_timeout = 20",
            "remark[runner-patience]",
            "graceful_kill_timeout = |20\n",
            "graceful_kill_timeout = 60",
        ),
        (
            "config_exec_timeout = 60",
            "config_exec_timeout = 9",
            "remark[runner-patience]",
            "config_exec_timeout = |9\n",
            "config_exec_timeout = 60",
        ),
        (
            "shutdown_timeout = 120",
            "shutdown_timeout = 30",
            "remark[runner-patience]",
            "shutdown_timeout = |30\n",
            "shutdown_timeout = 120",
        ),
        (
            "https://gitlab",
            "https://other",
            "remark[runner-server]",
            "\"https://other.example.org\"",
            "add the server",
        ),
        ("[runners.custom]", "[runners.custom", "error[runner-config]", "\n    # decides", "correct it"),
    ] {
        assert!(good.contains(old), "{old}\n{good}");
        let text = good.replace(old, new);
        let shown = check(&scene, &text, &[]);
        assert_eq!(shown.code, if code.starts_with("error") { 3 } else { 0 }, "{new}: {shown:?}");
        // The place is behind the bar, where there is one.
        let offset = at.find('|').unwrap_or(0)
            + text.find(&at.replace('|', "")).unwrap_or_else(|| panic!("{at} is not in\n{text}"));
        let line = text[..offset].matches('\n').count() + 1;
        let column = offset - text[..offset].rfind('\n').map_or(0, |at| at + 1) + 1;
        let place = format!(" --> {}:{line}:{column}\n", scene.path("runner.toml").display());
        let of_code: String = shown.out.split("\n\n").filter(|one| one.starts_with(code)).collect();
        assert!(of_code.contains(&place), "{new}: no `{place}` in {}", shown.out);
        assert!(of_code.contains(help), "{new}: {}", shown.out);
        assert!(!shown.out.contains("glrt-"), "{}", shown.out);
    }
}

#[test]
fn exit_status_and_formats_are_those_of_check() {
    let scene = Scene::new();
    let good = printed(&scene);
    let remark = good.replace("shutdown_timeout = 120", "");
    assert_eq!(check(&scene, &remark, &[]).code, 0);
    assert_eq!(check(&scene, &remark, &["--strict"]).code, 3);
    let json = check(&scene, &remark, &["--format", "json"]).json();
    assert_eq!(json["valid"], true);
    assert!(json["findings"].as_array().unwrap().iter().any(|one| one["code"] == "runner-patience"));
    let missing = scene.run(&["runner-config", "--check", "/nonexistent/config.toml"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("/nonexistent/config.toml: No such file"), "{missing:?}");
    assert_eq!(scene.run(&["runner-config", "--strict"]).code, 2);
    scene.configure("x");
    assert_eq!(scene.run(&["runner-config"]).code, 3);
}

#[test]
fn standard_input_is_a_file_called_dash() {
    let scene = Scene::new();
    let run = |arguments: &[&str], input: &str| -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nunbirdctl"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Output { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    };
    let good = run(&["check", "-", "--no-host"], &scene.policy());
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.out.contains("<stdin>: 1 server, 2 rules"), "{good:?}");
    let wrong =
        run(&["check", "-", "--no-host"], &scene.policy().replace("name = \"main\"", "nam = \"main\""));
    assert_eq!(wrong.code, 3);
    assert!(wrong.err.contains(" --> <stdin>:3:1\n"), "{wrong:?}");
    let host = run(&["check", "-", "--format", "json"], &scene.policy()).json();
    let codes: Vec<&str> =
        host["findings"].as_array().unwrap().iter().filter_map(|f| f["code"].as_str()).collect();
    assert!(!codes.contains(&"configuration") && !codes.contains(&"not-listed"), "{codes:?}");
    let configuration = scene.path("config.toml");
    let runner = run(
        &["runner-config", "--check", "-", "--configuration", configuration.to_str().unwrap()],
        &printed(&scene).replace("\"custom\"", "\"shell\""),
    );
    assert!(runner.code == 3 && runner.out.contains(" --> <stdin>:"), "{runner:?}");
    assert_eq!(run(&["check", "-"], "\u{fffd}").code, 3);
    assert_eq!(run(&["check", "-"], &"#".repeat((4 << 20) + 1)).code, 1);
}

#[test]
fn what_is_no_file_neither_holds_the_check_up_nor_fills_its_memory() {
    let scene = Scene::new();
    let pipe = scene.file("pipe", "");
    std::fs::remove_file(&pipe).expect("removed");
    nix::unistd::mkfifo(pipe.as_str(), nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a pipe");
    for file in [pipe.as_str(), "/dev/zero"] {
        let shown = scene.run(&["runner-config", "--check", file]);
        assert_ne!(shown.code, 0, "{shown:?}");
        assert!(shown.err.contains("not a regular file; `-` reads standard input"), "{shown:?}");
    }
    let long = scene.file("long", &"#".repeat((4 << 20) + 1));
    let shown = scene.run(&["runner-config", "--check", &long]);
    assert!(shown.code != 0 && shown.err.to_lowercase().contains("file too large"), "{shown:?}");
}
