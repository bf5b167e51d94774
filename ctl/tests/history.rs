//! Commands that read the audit file, and Jacamar's configuration.

use crate::scene::Scene;

fn event(outcome: &str, id: u64, login: &str, project: &str, more: &str) -> String {
    format!(
        "{{\"schema\":1,\"time\":{},\"outcome\":\"{outcome}\",\"decision_id\":\"d{id}\",\"stage\":\"config\",\"job_id\":{id},\
         \"project_path\":\"{project}\",\"user_login\":\"{login}\",\"user_id\":7,\"ref\":\"main\",\"pipeline_source\":\"push\"{more}}}\n",
        1_795_000_000 + id
    )
}

#[test]
fn past_decisions_are_made_again_and_changes_are_counted() {
    let scene = Scene::new();
    let log = scene.file(
        "audit.jsonl",
        &[
            event("admitted", 1, "ada", "hpc/app", ""),
            event("admitted", 2, "eve", "hpc/app", ""),
            event("denied", 3, "eve", "eve/x", ",\"code\":\"no-rule\""),
            "half a li\n".to_owned(),
            "{\"outcome\":\"stage-ended\",\"stage\":\"run\",\"job_id\":1}\n".to_owned(),
            "{\"outcome\":\"denied\",\"stage\":\"config\",\"code\":\"no-token\"}\n".to_owned(),
            event("denied", 4, "eve", "eve/x", ",\"ref_protected\":7"),
        ]
        .concat(),
    );
    let old = scene.file("old.toml", &scene.policy());
    let same = scene.run_bare(&["diff", &old, &old, "--log", &log]);
    assert_eq!(same.code, 0, "{same:?}");
    assert!(same.out.contains("0 of 3 decisions change"), "{}", same.out);
    assert!(same.out.contains("line 7 cannot be decided again"), "{}", same.out);
    assert!(same.out.contains("1 lines are not events: 4"), "{}", same.out);
    let new = scene.file(
        "new.toml",
        &scene.policy().replace(
            "[[rule]]\nname = \"no",
            "[[rule]]\nname = \"eve\"\nwhen.user = \"eve\"\ndeny = \"not her\"\n[[rule]]\nname = \"no",
        ),
    );
    let changed = scene.run_bare(&["diff", &old, &new, "--log", &log]);
    assert_eq!(changed.code, 4, "{changed:?}");
    for part in [
        "2 of 3 decisions change",
        "now: denied: not her",
        "such as job 2 of hpc/app by eve: before by rule `hpc-only` (",
        "now by rule `eve` (",
    ] {
        assert!(changed.out.contains(part), "{part}\n{}", changed.out);
    }
    let machine = scene.run_bare(&["diff", &old, &new, "--log", &log, "--format", "json"]).json();
    assert_eq!(machine["changes"][0]["count"], 1);
    assert!(
        machine["changes"][0]["example"]["new_rule"].as_str().unwrap().starts_with("rule `eve`"),
        "{machine}"
    );
}

#[test]
fn the_audit_file_is_searched_and_a_jobs_events_are_shown_in_order() {
    let scene = Scene::new();
    let rule = ",\"account\":\"ada\",\"uid\":5001,\"rule\":{\"name\":\"hpc\",\"file\":\"/etc/nunbird/config.toml\",\"line\":7}";
    let log = scene.file(
        "audit.jsonl",
        &[
            event("admitted", 1, "ada", "hpc/app", rule),
            "{\"time\":1795000010,\"outcome\":\"stage-started\",\"stage\":\"run\",\"script\":\"build_script\",\"decision_id\":\"d1\",\"job_id\":1,\"account\":\"ada\",\"project_path\":\"hpc/app\",\"user_login\":\"ada\"}\n".to_owned(),
            "{\"time\":1795000020,\"outcome\":\"stage-ended\",\"stage\":\"run\",\"script\":\"build_script\",\"decision_id\":\"d1\",\"job_id\":1,\"exit_code\":1,\"duration_ms\":950,\"project_path\":\"hpc/app\",\"user_login\":\"ada\"}\n".to_owned(),
            event("denied", 2, "eve", "eve/x", ",\"code\":\"no-rule\",\"detail\":\"none of 2 rules fits\""),
        ]
        .concat(),
    );
    let audit = |more: &[&str]| scene.run_bare(&[&["audit", "--file", &log], more].concat());
    let story = audit(&["--job", "1"]);
    assert_eq!(story.code, 0, "{story:?}");
    for part in [
        "decision d1: job 1 of hpc/app by ada",
        "admitted as ada (uid 5001) by rule `hpc` at /etc/nunbird/config.toml:7",
        "build_script started as ada",
        "build_script ended with exit code 1 after 950 ms",
    ] {
        assert!(story.out.contains(part), "{part}\n{}", story.out);
    }
    assert!(audit(&["--decision", "d2"]).out.contains("none of 2 rules fits"));
    let denied = audit(&["--denied"]);
    assert_eq!(denied.out.lines().count(), 1, "{}", denied.out);
    assert!(denied.out.contains("job 2 of eve/x by eve config denied [no-rule]"), "{}", denied.out);
    assert_eq!(audit(&["--user", "ada"]).out.lines().count(), 3);
    assert_eq!(audit(&["--project", "eve/x"]).out.lines().count(), 1);
    assert_eq!(audit(&["--since", "1795000015"]).out.lines().count(), 1);
    assert_eq!(audit(&["--until", "2000-01-01"]).code, 1);
    assert_eq!(audit(&["--since", "tomorrow"]).code, 2);
    assert_eq!(audit(&["--job", "1", "--format", "json"]).json()["events"].as_array().unwrap().len(), 3);
}

#[test]
fn nothing_that_a_stranger_chose_deceives_the_terminal() {
    let scene = Scene::new();
    let evil = "a\\u001b[31m\\u202e\\nb";
    let log = scene.file(
        "audit.jsonl",
        &[
            event("denied", 1, evil, evil, &format!(",\"code\":\"{evil}\",\"detail\":\"{evil}\"")),
            event("admitted", 2, evil, evil, ""),
        ]
        .concat(),
    );
    let claims = scene
        .claims(&format!("{{\"user_login\":\"{evil}\",\"project_path\":\"hpc/{evil}\",\"ref\":\"{evil}\"}}"));
    let old = scene.file("old.toml", &scene.policy());
    let new = scene.file("new.toml", &scene.policy().replace("\"hpc/**\"", "\"**\""));
    let hostile = scene.file("hostile.toml", &scene.policy().replace("hpc-only", evil));
    let test = format!(
        "[[test]]\nname = \"t\"\nclaims = {{ user_login = \"{evil}\", project_path = \"{evil}\" }}\nexpect = \"{evil}\"\n"
    );
    let tested = scene.file("tested.toml", &format!("{}{test}", scene.policy()));
    let keyed = scene.file("keyed.toml", &format!("keys_dir = \"/nonexistent/{evil}\"\n{}", scene.policy()));
    for arguments in [
        vec!["audit", "--file", &log],
        vec!["audit", "--file", &log, "--job", "1"],
        vec!["audit", "--file", &log, "--format", "json"],
        vec!["explain", "--configuration", &old, "--claims", &claims],
        vec!["explain", "--configuration", &old, "--claims", &claims, "--format", "json"],
        vec!["diff", &old, &new, "--log", &log],
        vec!["diff", &old, &new, "--log", &log, "--format", "json"],
        vec!["check", "--no-host", "--configuration", &hostile],
        vec!["show", "--configuration", &hostile],
        vec!["test", "--configuration", &tested],
        vec!["test", "--configuration", &tested, "--format", "json"],
        vec!["keys", "--configuration", &keyed],
        vec!["migrate", &hostile],
    ] {
        let output = scene.run_bare(&arguments);
        assert!(!output.out.is_empty() || !output.err.is_empty(), "{arguments:?}");
        for text in [&output.out, &output.err] {
            let machine = arguments.contains(&"json");
            let bad = |c: char| c == '\u{1b}' || (c == '\u{202e}' && !machine) || c == '\r';
            assert!(!text.chars().any(bad), "{arguments:?}: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("b ") || line == "b"), "{arguments:?}: {text}");
        }
    }
}

const JACAMAR: &str = r#"
[general]
executor = "shell"
data_dir = "$HOME"
gitlab_server = "https://gitlab.example.org"
jwt_env_variable = "SITE_ID_TOKEN"
[auth]
downscope = "setuid"
user_blocklist = ["eve"]
[auth.runas]
validation_script = "/etc/runas"
"#;

#[test]
fn a_jacamar_configuration_is_printed_as_one_that_decides_the_same() {
    let scene = Scene::new();
    let jacamar = scene.file("jacamar.toml", JACAMAR);
    let migrated = scene.run_bare(&["migrate", &jacamar]);
    assert_eq!(migrated.code, 0, "{migrated:?}");
    for part in ["# general.jwt_env_variable", "name = \"user_blocklist\"", "runs as root, as under Jacamar"]
    {
        assert!(migrated.out.contains(part), "{part}\n{}", migrated.out);
    }
    let native = scene.file("native.toml", &migrated.out);
    let log = scene.file(
        "audit.jsonl",
        &[
            event("admitted", 1, "ada", "hpc/app", ",\"validated\":\"ada\""),
            event("denied", 2, "eve", "x/y", ",\"validated\":\"eve\""),
        ]
        .concat(),
    );
    let diff = scene.run_bare(&["diff", &jacamar, &native, "--log", &log]);
    assert_eq!((diff.code, diff.out.contains("0 of 2")), (0, true), "{diff:?}");
    let again = scene.run_bare(&["migrate", &native]);
    assert!(again.code == 1 && again.err.contains("a Nunbird configuration already"), "{again:?}");
    let refused = scene.file("refused.toml", &JACAMAR.replace("\"shell\"", "\"pjm\""));
    let refused = scene.run_bare(&["migrate", &refused]);
    assert!(refused.code == 3 && refused.err.contains("refused.toml:3:12"), "{refused:?}");
}

#[test]
fn the_schema_knows_every_table_and_forbids_what_the_reader_forbids() {
    let scene = Scene::new();
    let schema = scene.run_bare(&["schema"]).json();
    let rule = &schema["properties"]["rule"]["items"]["properties"];
    assert_eq!(rule["when"]["additionalProperties"], false);
    assert!(rule["when"]["properties"]["user_email"].is_object(), "{rule}");
    assert_eq!(schema["properties"]["downscope"]["enum"], serde_json::json!(["setuid", "sudo", "none"]));
    assert!(rule["run_as"]["anyOf"][1]["properties"]["map"].is_object(), "{rule}");
    assert!(schema["properties"]["profile"]["additionalProperties"]["properties"]["shell"].is_object());
    assert_eq!(schema["properties"]["accounts"]["properties"]["min_uid"]["type"][0], "integer");
}

#[test]
fn keys_are_listed_with_their_age_and_a_missing_file_is_reported() {
    let scene = Scene::new();
    let keys = scene.path("keys");
    std::fs::create_dir(&keys).unwrap();
    scene.configure(&format!("keys_dir = \"{}\"\n{}", keys.display(), scene.policy()));
    let none = scene.run(&["keys"]);
    let file = scene.path("config.toml");
    let command = format!(
        "run `/opt/nunbird/bin/nunbird-keys refresh --configuration {} --server main`",
        file.display()
    );
    assert!(none.code == 1 && none.out.contains(&command), "{command}: {none:?}");
    let file = "{\"version\":1,\"server\":\"main\",\"issuer\":\"https://gitlab.example.org\",\"fetched_at\":1,\"keys\":[\
                {\"kid\":\"k1\",\"material\":{\"alg\":\"RS256\",\"n\":\"AQAB\",\"e\":\"AQAB\"},\"last_seen\":1,\"pinned\":true},\
                {\"kid\":\"k2\",\"material\":{\"alg\":\"ES256\",\"x\":\"AQAB\",\"y\":\"AQAB\"},\"last_seen\":1,\"pinned\":false}]}";
    std::fs::write(keys.join("main.json"), file).unwrap();
    let listed = scene.run(&["keys"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(listed.out.contains("RS256    pinned           in use  k1"), "{}", listed.out);
    assert!(listed.out.contains("NOT used"), "{}", listed.out);
}

/// Three jobs: one that fails, one that is denied, one that has not ended.
fn three_jobs() -> String {
    let rule = ",\"account\":\"ada\",\"uid\":5001,\"rule\":{\"name\":\"hpc\",\"file\":\"/etc/nunbird/config.toml\",\"line\":7}";
    let end = |time: u64, stage: &str, more: &str| {
        format!(
            "{{\"time\":{time},\"outcome\":\"stage-ended\",\"stage\":\"{stage}\",\"decision_id\":\"d1\",\"job_id\":1,\
             \"account\":\"ada\",\"user_login\":\"ada\",\"project_path\":\"hpc/app\"{more}}}\n"
        )
    };
    [
        event("admitted", 1, "ada", "hpc/app", rule),
        end(1_795_000_010, "run", ",\"script\":\"step_script\",\"exit_code\":1"),
        end(1_795_000_011, "run", ",\"script\":\"after_script\",\"exit_code\":0"),
        end(
            1_795_000_031,
            "cleanup",
            ",\"exit_code\":0,\"used_cpu_us\":2500000,\"used_memory_peak\":3145728",
        ),
        event("denied", 40, "eve", "eve/x", ",\"code\":\"no-rule\""),
        event("admitted", 41, "bob", "hpc/app", &rule.replace("ada", "bob")),
    ]
    .concat()
}

#[test]
fn each_job_is_one_line_with_its_end_time_and_usage_and_kinds_are_counted() {
    let scene = Scene::new();
    let log = scene.file("audit.jsonl", &three_jobs());
    let audit = |more: &[&str]| scene.run_bare(&[&["audit", "--file", &log], more].concat());
    let jobs = audit(&["--jobs"]);
    let lines: Vec<&str> = jobs.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", jobs.out);
    for part in
        ["job 1 of hpc/app by ada as ada (hpc)", "exit code 1 in step_script, 30 s, 2 s CPU time, 3 MiB"]
    {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    assert!(lines[1].contains("job 40 of eve/x by eve as - (-): denied [no-rule] in config"), "{}", lines[1]);
    assert!(lines[2].ends_with("job 41 of hpc/app by bob as bob (hpc): not over"), "{}", lines[2]);
    let machine = audit(&["--jobs", "-n", "1", "--format", "json"]).json();
    assert_eq!((machine["jobs"].as_array().unwrap().len(), &machine["jobs"][0]["job_id"]), (1, &41.into()));
    let counts = audit(&["--counts"]).out;
    for part in [
        "outcome          2  admitted",
        "code             1  no-rule",
        "rule             2  hpc",
        "account          1  bob",
    ] {
        assert!(counts.contains(part), "{part}\n{counts}");
    }
    assert_eq!(audit(&["--counts", "--format", "json"]).json()["counts"]["outcome"]["stage-ended"], 3);
    assert_eq!(audit(&["--account", "bob"]).out.lines().count(), 1);
    assert_eq!(audit(&["--code", "no-rule"]).out.lines().count(), 1);
    assert_eq!(audit(&["--stage", "step_script"]).out.lines().count(), 1);
    assert_eq!(audit(&["--stage", "config"]).out.lines().count(), 3);
    let last = audit(&["-n", "2"]).out;
    assert!(last.lines().count() == 2 && last.contains("job 40") && last.contains("job 41"), "{last}");
    assert_eq!(audit(&["--since", "1h"]).code, 1, "all of it is older or newer");
    assert_eq!(audit(&["--jobs", "--counts"]).code, 2);
}

#[test]
fn rotated_files_are_read_compressed_or_not_and_none_that_is_too_old_or_another() {
    let scene = Scene::new();
    let log = scene.file("audit.jsonl", &event("admitted", 3, "ada", "hpc/app", ""));
    let plain = scene.file("audit.jsonl-20261101", &event("admitted", 1, "ada", "hpc/app", ""));
    scene.file("audit.jsonl-20261115", &event("admitted", 2, "ada", "hpc/app", ""));
    scene.file("audit.jsonl.bak", &event("admitted", 9, "ada", "hpc/app", ""));
    scene.file("other.jsonl.1", &event("admitted", 9, "ada", "hpc/app", ""));
    let touch = |file: &str, date: &str| {
        assert!(std::process::Command::new("touch").args(["-d", date, file]).status().unwrap().success());
    };
    let gzip = std::process::Command::new("gzip").arg(&plain).status().unwrap();
    assert!(gzip.success());
    touch(&format!("{plain}.gz"), "2026-11-01");
    touch(&plain.replace("1101", "1115"), "2026-11-15");
    let ids = |more: &[&str]| {
        let found = scene.run_bare(&[&["audit", "--file", &log, "--format", "json"], more].concat()).json();
        let ids = found["events"].as_array().unwrap().iter().map(|event| event["job_id"].as_u64().unwrap());
        ids.collect::<Vec<u64>>()
    };
    assert_eq!(ids(&[]), [1, 2, 3]);
    assert_eq!(ids(&["--job", "1"]), [1]);
    // A file last written before that time has no matching event, and is not opened.
    std::fs::write(format!("{plain}.gz"), "no gzip").unwrap();
    touch(&format!("{plain}.gz"), "2026-11-01");
    assert_eq!(ids(&["--since", "2026-11-10"]), [2, 3]);
    assert_eq!(scene.run_bare(&["audit", "--file", &log]).code, 1, "a damaged file is no empty one");
}

#[test]
fn events_are_followed_across_a_rotation() {
    use std::io::{BufRead, BufReader, Write};
    let scene = Scene::new();
    let log = scene.file("audit.jsonl", &event("admitted", 1, "ada", "hpc/app", ""));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_nunbirdctl"))
        .args(["audit", "--file", &log, "--follow", "--user", "ada"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains("job 1 "));
    let append = |file: &str, text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    // It has to have opened the file first.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (two, rest) = (event("admitted", 2, "ada", "hpc/app", ""), event("denied", 3, "eve", "hpc/app", ""));
    append(&log, &(rest + &two[..20]));
    std::thread::sleep(std::time::Duration::from_millis(300));
    append(&log, &two[20..]);
    assert!(next().contains("job 2 "));
    std::fs::rename(&log, format!("{log}-20261101")).unwrap();
    append(&format!("{log}-20261101"), &event("admitted", 4, "ada", "hpc/app", ""));
    append(&log, &event("admitted", 5, "ada", "hpc/app", ""));
    assert!(next().contains("job 4 "));
    assert!(next().contains("job 5 "));
    child.kill().unwrap();
    child.wait().unwrap();
}
