//! Input that is hostile, damaged, huge or changing, and readers that close.

use crate::scene::{Scene, claims};
use std::fmt::Write;
use std::io::Read;
use std::process::{Command, Stdio};

/// Resets the terminal, overwrites the line, turns the text around, begins a line of its own.
const EVIL: &str = "a\u{1b}c\r\u{202e}\n~";
/// The same inside a text of TOML or JSON.
const ESCAPED: &str = "a\\u001bc\\r\\u202e\\n~";

/// The command ends with this exit code, so it reached the hostile text, and prints nothing
/// deceptive.
#[track_caller]
fn assert_harmless(scene: &Scene, code: i32, arguments: &[&str]) {
    let output = scene.run_bare(arguments);
    assert!(!output.out.is_empty() || !output.err.is_empty(), "{arguments:?}");
    assert_eq!(output.code, code, "{arguments:?}: {output:?}");
    // JSON is for programs: it escapes control characters, and a parser returns the original
    // strings.
    let machine = arguments.contains(&"json");
    for text in [&output.out, &output.err] {
        let bad = |c: char| (c.is_control() && c != '\n') || (c == '\u{202e}' && !machine);
        assert!(!text.contains(bad), "{arguments:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with('~')), "{arguments:?}: {text}");
    }
}

#[test]
fn no_command_passes_on_what_deceives_a_terminal() {
    let scene = Scene::new();
    let keys = scene.path("keys");
    std::fs::create_dir(&keys).unwrap();
    let map = scene.file("users.map", &format!("{EVIL} x\n"));
    let text = format!(
        "keys_dir = \"{}\"\n{}[map.evil]\nfile = \"{map}\"\n[[rule]]\nname = \"evil\"\nwhen.ref = \"{ESCAPED}\"\n\
         deny = \"{ESCAPED}\"\n[[test]]\nname = \"evil\"\nclaims = {{ user_login = \"{ESCAPED}\", project_path = \"hpc/{ESCAPED}\" }}\n\
         expect = \"{ESCAPED}\"\n",
        keys.display(),
        scene.policy(),
    );
    let config = scene.file("config.toml", &text);
    let key = format!(
        "{{\"version\":1,\"server\":\"main\",\"issuer\":\"https://gitlab.example.org\",\"fetched_at\":1,\"keys\":[\
         {{\"kid\":\"{ESCAPED}\",\"material\":{{\"alg\":\"RS256\",\"n\":\"AQAB\",\"e\":\"AQAB\"}},\"last_seen\":1,\"pinned\":true}}]}}"
    );
    std::fs::write(keys.join("main.json"), key).unwrap();
    let runner = scene.file(
        "runner.toml",
        &format!(
            "[[runners]]\nname = \"{ESCAPED}\"\nurl = \"{ESCAPED}\"\nexecutor = \"{ESCAPED}\"\n[runners.custom]\n\
             config_exec = \"/{ESCAPED}/nunbird-auth\"\nconfig_args = [\"{ESCAPED}\"]\n"
        ),
    );
    let log = scene.file(
        "audit.jsonl",
        &format!(
            "{{\"outcome\":\"denied\",\"stage\":\"config\",\"job_id\":1,\"decision_id\":\"{ESCAPED}\",\"code\":\"{ESCAPED}\",\"detail\":\"{ESCAPED}\",\
             \"user_login\":\"{ESCAPED}\",\"project_path\":\"hpc/{ESCAPED}\",\"ref\":\"{ESCAPED}\",\"host\":\"{ESCAPED}\"}}\n\
             {{\"outcome\":\"{ESCAPED}\",\"stage\":\"{ESCAPED}\",\"script\":\"{ESCAPED}\",\"job_id\":1}}\n"
        ),
    );
    let facts = scene.claims(&format!(
        "{{\"user_login\":\"{ESCAPED}\",\"project_path\":\"hpc/{ESCAPED}\",\"ref\":\"{ESCAPED}\",\"server\":\"{ESCAPED}\"}}"
    ));
    let strange = scene.file("strange.json", &format!("{{\"{ESCAPED}\":1}}"));
    let first = format!("[[rule]]\nname = \"first\"\ndeny = \"{ESCAPED}\"\n[[rule]]");
    let more = scene.file("new.toml", &text.replacen("[[rule]]", &first, 1));
    let evil_name = scene.file(&format!("{EVIL}.toml"), "[[rule]]\nname = 7\n");
    let jacamar = scene
        .file("jacamar.toml", &format!("[general]\nexecutor = \"{ESCAPED}\"\n[auth]\nx = \"{ESCAPED}\"\n"));
    for (code, arguments) in [
        (3, vec!["check", "--configuration", &config]),
        (3, vec!["check", "--configuration", &evil_name]),
        (3, vec!["doctor", "--configuration", &config, "--runner-config", &runner, "--runner-user", EVIL]),
        (3, vec!["doctor", "--configuration", &config, "--runner-config", EVIL]),
        (4, vec!["explain", "--configuration", &config, "--claims", &facts]),
        (4, vec!["explain", "--configuration", &config, "--claims", &facts, "--validated", EVIL]),
        (1, vec!["explain", "--configuration", &config, "--claims", &strange]),
        (4, vec!["explain", "--configuration", &config, "--token", &evil_name]),
        (5, vec!["test", "--configuration", &config]),
        (0, vec!["show", "--configuration", &config]),
        (1, vec!["show", "--configuration", &config, "--key", EVIL]),
        (4, vec!["diff", &config, &more, "--log", &log]),
        (0, vec!["audit", "--file", &log]),
        (0, vec!["audit", "--file", &log, "--job", "1"]),
        (1, vec!["audit", "--file", EVIL]),
        (0, vec!["keys", "--configuration", &config]),
        (3, vec!["migrate", &jacamar]),
        (1, vec!["migrate", &config]),
    ] {
        assert_harmless(&scene, code, &arguments);
        assert_harmless(&scene, code, &[arguments, vec!["--format", "json"]].concat());
    }
}

#[test]
fn what_is_shown_for_machines_is_the_value_and_nothing_of_its_comment() {
    let scene = Scene::new();
    scene.configure(&scene.policy().replace("schedules do not run here", "no  # not \\\"now  # here"));
    let shown = scene.run(&["show", "--format", "json"]).json();
    assert_eq!(shown["rule[0].deny"]["value"], "\"no  # not \\\"now  # here\"");
    assert_eq!(shown["downscope"], serde_json::json!({ "value": "\"setuid\"", "origin": "default" }));
}

/// Rules that each admit the projects of one group, by a map of fifty thousand lines.
fn many_rules(scene: &Scene, count: usize) -> String {
    let map: String = (0..50_000).map(|n| format!("user{n} acct{n}\n")).collect();
    let map = scene.file("users.map", &map);
    let rule = |group: usize, name: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nwhen = {{ project = \"group{group}/*\" }}\nrun_as = {{ map = \"people\" }}\n"
        )
    };
    let rules: String = (0..count).map(|n| rule(n, &format!("r{n}"))).collect();
    format!("{}[map.people]\nfile = \"{map}\"\n{rules}{}", scene.policy(), rule(77, "late"))
}

#[test]
fn ten_thousand_rules_and_a_map_of_fifty_thousand_lines_decide_as_written() {
    let scene = Scene::new();
    scene.configure(&many_rules(&scene, 10_000));
    let claims = scene.claims(&claims("user49999", "group9999/x"));
    let explained = scene.run(&["explain", "--format", "json", "--claims", &claims]);
    assert_eq!(explained.code, 4, "{}", explained.err);
    let answer = explained.json();
    assert_eq!((answer["rule"].as_str(), answer["rules"].as_array().unwrap().len()), (Some("r9999"), 10_002));
    assert!(answer["detail"].as_str().unwrap().contains("`acct49999`"), "{}", answer["detail"]);
}

#[test]
fn one_rule_of_a_thousand_that_never_decides_is_found() {
    let scene = Scene::new();
    scene.configure(&many_rules(&scene, 1000));
    let checked = scene.run(&["check", "--no-host", "--format", "json"]).json();
    let findings = checked["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0]["message"].as_str().unwrap().starts_with("rule `late` never decides: `r77`"),
        "{findings:?}"
    );
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_read_as_one_of_the_two() {
    let scene = Scene::new();
    let file = scene.path("config.toml");
    let (good, bad) = (scene.policy(), scene.policy().replace("audience", "audiance"));
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let next = scene.path("next");
            for text in [&good, &bad].into_iter().cycle() {
                std::fs::write(&next, text).unwrap();
                std::fs::rename(&next, &file).unwrap();
                if done.load(order) {
                    break;
                }
            }
        });
        for _ in 0..60 {
            let output = scene.run(&["check", "--no-host"]);
            assert!([0, 3].contains(&output.code), "{output:?}");
        }
        done.store(true, order);
    });
}

#[test]
fn a_reader_who_goes_away_is_no_failure() {
    let scene = Scene::new();
    let mut text = scene.policy();
    for n in 0..20_000 {
        writeln!(text, "[[rule]]\nname = \"r{n}\"\nrun_as = \"svc\"").unwrap();
    }
    scene.configure(&text);
    for arguments in [["show", "--format", "text"], ["show", "--format", "json"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nunbirdctl"))
            .args(arguments)
            .arg("--configuration")
            .arg(scene.path("config.toml"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 16];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(
            (ended.status.code(), ended.stderr.as_slice()),
            (Some(0), b"".as_slice()),
            "{arguments:?}"
        );
    }
}

#[test]
fn words_are_coloured_on_a_terminal_alone_and_not_where_the_user_says_so() {
    let scene = Scene::new();
    scene.configure(&(scene.policy() + "[[test]]\nname = \"t\"\nclaims = { user_login = \"ada\", project_path = \"x/y\" }\nexpect = \"deny\"\n"));
    let command = format!(
        "{} test --configuration {}",
        env!("CARGO_BIN_EXE_nunbirdctl"),
        scene.path("config.toml").display()
    );
    // script(1) gives it a terminal.
    let on_terminal = |name: &str, value: &str| {
        let output = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .env(name, value)
            .stdin(Stdio::null())
            .output()
            .expect("script(1) of util-linux");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        on_terminal("NO_COLOR", "").contains("\u{1b}[32mpass\u{1b}[0m  t"),
        "{:?}",
        on_terminal("NO_COLOR", "")
    );
    assert!(
        on_terminal("NO_COLOR", "1").contains("pass  t") && !on_terminal("NO_COLOR", "1").contains('\u{1b}')
    );
    assert!(!on_terminal("TERM", "dumb").contains('\u{1b}'));
    assert!(!scene.run(&["test"]).out.contains('\u{1b}'));
}

#[test]
fn files_of_any_kind_that_cannot_be_read_are_reported_by_name_and_end_with_1() {
    let scene = Scene::new();
    std::fs::write(scene.path("latin"), b"{\n\"user_login\": \"caf\xe9\"}").unwrap();
    let latin = scene.path("latin").to_str().unwrap().to_owned();
    let directory = scene.path("").to_str().unwrap().to_owned();
    for (arguments, name, words) in [
        (["explain", "--claims"], &latin, "latin:2: not UTF-8"),
        (["explain", "--claims"], &directory, "Is a directory"),
        (["explain", "--token"], &latin, "latin:2: not UTF-8"),
        (["explain", "--job"], &directory, "Is a directory"),
        (["test", "--"], &latin, "latin:2: not UTF-8"),
    ] {
        let config = scene.path("config.toml");
        let configured = [arguments[0], "--configuration", config.to_str().unwrap(), arguments[1], name];
        let output = scene.run_bare(&configured);
        assert!(output.code == 1 && output.err.contains(words), "{arguments:?} {output:?}");
    }
    let config = scene.path("config.toml");
    let output = scene.run_bare(&["explain", "--configuration", config.to_str().unwrap(), "--job", &latin]);
    assert!(output.code == 7 && output.out.contains("failed [response-malformed]"), "{output:?}");
    let log = scene.run_bare(&["audit", "--file", &directory]);
    assert!(log.code == 1 && log.err.contains("Is a directory"), "{log:?}");
    // An audit file with a line that is not UTF-8 has one line that is not an event.
    std::fs::write(scene.path("log"), b"{\"outcome\":\"denied\",\"job_id\":1}\r\n{\"detail\":\"\xff\"}\n")
        .unwrap();
    let log = scene.run_bare(&["audit", "--file", scene.path("log").to_str().unwrap()]);
    assert!(log.code == 0 && log.out.contains("1 lines are not events: 2"), "{log:?}");
}

#[test]
fn a_map_with_windows_line_ends_a_mark_or_another_encoding_is_reported_or_read() {
    let scene = Scene::new();
    let map = scene.path("users.map");
    let text = scene.policy().replace(
        "[[rule]]\nname = \"no",
        &format!("[map.m]\nfile = \"{}\"\n[[rule]]\nname = \"no", map.display()),
    );
    scene.configure(&text.replace("\"$user_login\"", "{ map = \"m\" }"));
    std::fs::write(&map, "ada acct1\r\n").unwrap();
    let explained = scene.run(&["explain", "--claims", &scene.claims(&claims("ada", "hpc/app"))]);
    assert!(explained.out.contains("account `acct1`: "), "{explained:?}");
    assert_eq!(scene.run(&["check", "--no-host"]).code, 0);
    std::fs::write(&map, b"ada acct1\nbob caf\xe9\n").unwrap();
    let checked = scene.run(&["check", "--no-host"]);
    assert!(checked.code == 3 && checked.out.contains("users.map:2: not UTF-8"), "{checked:?}");
    std::fs::remove_file(&map).unwrap();
    std::fs::create_dir(&map).unwrap();
    let checked = scene.run(&["check", "--no-host"]);
    assert!(checked.code == 3 && checked.out.contains("error[map]: "), "{checked:?}");
}
