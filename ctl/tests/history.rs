//! Commands that read the audit file, and Jacamar's configuration.

mod scene;

use scene::Scene;

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
    assert!(same.out.contains("1 lines are no events: 4"), "{}", same.out);
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
fn the_audit_file_is_searched_and_a_jobs_story_is_told() {
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
    assert!(again.code == 1 && again.err.contains("Nunbird's own"), "{again:?}");
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
    assert_eq!(schema["properties"]["accounts"]["properties"]["min_uid"]["type"], "integer");
}

#[test]
fn keys_are_listed_with_their_age_and_a_missing_file_is_told() {
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
