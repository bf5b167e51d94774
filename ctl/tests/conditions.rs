//! Forks, identities and exceptions in the output of `nunbirdctl`, and policies under which no job
//! runs.

use crate::scene::Scene;

const RULE: &str = "[[rule]]\nname = \"hpc-only\"\n";

/// A scene whose rule `hpc-only` also has these lines.
fn with(lines: &str) -> Scene {
    let scene = Scene::new();
    scene.configure(&scene.policy().replace(RULE, &format!("{RULE}{lines}\n")));
    scene
}

const PAYLOAD: &str = r#""iss":"https://gitlab.example.org","user_login":"eve","ref":"main","job_project_id":"3","job_project_path":"hpc/app","pipeline_source":"merge_request_event""#;

#[test]
fn explain_shows_which_exception_kept_a_rule_from_fitting_and_the_value_it_saw() {
    let scene = with("unless = { fork = true, user = \"root-*\" }");
    let explain = |claims: &str| scene.run(&["explain", "--claims", &scene.claims(claims)]);
    let forked = explain(&format!("{{{PAYLOAD},\"project_id\":\"9\",\"project_path\":\"eve/app\"}}"));
    assert_eq!(forked.code, 4, "{forked:?}");
    assert!(forked.out.contains("no   fork is `true`, unless true\n"), "{}", forked.out);
    assert!(forked.out.contains("yes  user is `eve`, unless root-*\n"), "{}", forked.out);
    let unknown = explain(r#"{"user_login":"eve","project_path":"hpc/app"}"#);
    assert!(unknown.out.contains("no   fork is unknown, unless true\n"), "{}", unknown.out);
    let own = explain(&format!("{{{PAYLOAD},\"project_id\":\"3\",\"project_path\":\"hpc/app\"}}"));
    assert!(own.out.contains("yes  fork is `false`, unless true\n"), "{}", own.out);

    let claims = scene.claims(r#"{"user_login":"eve","project_path":"hpc/app"}"#);
    let answer = scene.run(&["explain", "--format", "json", "--claims", &claims]).json();
    let conditions = answer["rules"][1]["conditions"].as_array().expect("conditions").clone();
    let fork = conditions.iter().find(|one| one["fact"] == "fork").expect("the fork");
    assert_eq!(
        (&fork["under"], fork["holds"].is_null(), &fork["fits"]),
        (&"unless".into(), true, &false.into())
    );
}

#[test]
fn a_payload_shows_a_fork_as_the_token_does_and_never_by_a_claim_of_that_name() {
    let scene = Scene::new();
    scene.configure(&scene.policy().replace("project = \"hpc/**\"", "project = \"hpc/**\", fork = false"));
    let fits = |claims: &str| {
        let output = scene.run(&["explain", "--format", "json", "--claims", &scene.claims(claims)]);
        output.json()["rules"][1]["fits"].as_bool().expect("an answer")
    };
    let old = |more: &str| {
        format!(
            "{{\"iss\":\"https://gitlab.example.org\",\"user_login\":\"eve\",\"ref\":\"main\",\
             \"project_path\":\"hpc/app\",\"project_id\":\"3\",{more}}}"
        )
    };
    assert!(fits(&old("\"pipeline_source\":\"push\"")));
    assert!(!fits(&old("\"pipeline_source\":\"merge_request_event\"")));
    assert!(!fits(&old("\"pipeline_source\":\"merge_request_event\",\"fork\":false")));
    assert!(!fits(&format!(
        "{{{PAYLOAD},\"project_id\":\"9\",\"project_path\":\"eve/app\",\"fork\":false}}"
    )));
    assert!(fits(r#"{"user_login":"eve","project_path":"hpc/app","fork":false}"#));
}

#[test]
fn a_test_of_the_policy_says_whether_a_job_is_a_forks_and_show_writes_exceptions() {
    let tests = "[[test]]\nname = \"forks\"\nexpect = \"deny: own sources\"\n\
                 claims = { user_login = \"ada\", project_path = \"hpc/app\", fork = true }\n\
                 [[test]]\nname = \"nobody knows\"\nexpect = \"deny: own sources\"\n\
                 claims = { user_login = \"ada\", project_path = \"hpc/app\" }\n\
                 [[test]]\nname = \"own\"\nexpect = \"ada\"\nlocal = { uid = 5001 }\n\
                 claims = { user_login = \"ada\", project_path = \"hpc/app\", fork = false }\n";
    let scene = Scene::new();
    let rule = "[[rule]]\nname = \"own sources\"\nunless.fork = false\ndeny = \"no forks\"\n";
    scene.configure(&format!("{}{tests}", scene.policy().replace(RULE, &format!("{rule}{RULE}"))));
    let output = scene.run(&["test"]);
    assert_eq!((output.code, output.out.contains("3 passed, 0 failed")), (0, true), "{output:?}");
    let shown = scene.run(&["show"]).out;
    assert!(shown.contains("unless.fork = false") && shown.contains("claims.fork = true"), "{shown}");
}

#[test]
fn a_change_of_a_rule_about_forks_is_found_in_past_events() {
    let scene = Scene::new();
    let event = |fork: &str| {
        format!(
            "{{\"time\":1,\"outcome\":\"admitted\",\"stage\":\"config\",\"decision_id\":\"a\",\"job_id\":1,\"project_id\":3,\
             \"project_path\":\"hpc/app\",\"user_login\":\"ada\",\"user_id\":1,\"server\":\"main\",\"ref\":\"main\",\
             \"namespace_path\":\"hpc\",\"pipeline_source\":\"merge_request_event\",{fork}\"identity_source\":\"id_token\"}}\n"
        )
    };
    let log = [event("\"fork\":true,"), event("\"fork\":false,"), event("")].concat();
    let log = scene.file("audit.jsonl", &log);
    let policy = scene.policy();
    let (old, new) = (scene.file("old.toml", &policy), |lines: &str| {
        scene.file(
            "new.toml",
            &policy.replace(RULE, &format!("[[rule]]\nname = \"n\"\n{lines}\ndeny = \"no\"\n{RULE}")),
        )
    });
    for (lines, changed) in [("when.fork = true", 1), ("unless.fork = false", 2), ("when.fork = false", 1)] {
        let output = scene.run_bare(&["diff", &old, &new(lines), "--log", &log]);
        assert!(output.out.contains(&format!("{changed} of 3 decisions change")), "{lines}: {output:?}");
    }
}

#[test]
fn a_file_of_jacamar_that_denies_everybody_fails_the_check_which_says_what_to_write() {
    let scene = Scene::new();
    let jacamar = "[general]\nexecutor = \"shell\"\ndata_dir = \"$HOME\"\ngitlab_server = \"https://gitlab.example.org\"\n\
                   [auth]\ndownscope = \"none\"\n";
    scene.configure(jacamar);
    let output = scene.run(&["check", "--no-host"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(
        output.out.contains("error[no-job]") && output.out.contains("run_as = \"ACCOUNT\""),
        "{}",
        output.out
    );
    assert!(
        !output.out.contains("everybody]") && !output.out.contains("admits every user"),
        "{}",
        output.out
    );
    scene.configure(&jacamar.replace("\"none\"", "\"setuid\""));
    assert!(scene.run(&["check", "--no-host"]).out.contains("remark[everybody]"));
}

#[test]
fn a_group_under_unless_that_this_host_does_not_know_is_an_error() {
    let scene = with("unless.local_group = \"nbt_no_such_group\"");
    let findings = scene.run(&["check", "--format", "json"]).json()["findings"].clone();
    let found = findings.as_array().expect("findings").iter().find(|one| one["code"] == "group");
    let found = found.unwrap_or_else(|| panic!("{findings}"));
    assert!(
        found["severity"] == "error" && found["message"].to_string().contains("nbt_no_such_group"),
        "{found}"
    );
}

#[test]
fn names_of_earlier_versions_are_remarked_upon_with_those_of_today_and_show_writes_these() {
    let scene = Scene::new();
    scene.configure(&format!(
        "{}limits = \"a\"\n[limits.a]\nway = \"scope\"\n[directories]\nremove_at_once = 3\n",
        scene.policy()
    ));
    let output = scene.run(&["check", "--no-host", "--format", "json"]);
    let findings = output.json()["findings"].as_array().expect("findings").clone();
    let renamed: Vec<_> = findings.iter().filter(|one| one["code"] == "renamed").collect();
    assert_eq!(renamed.len(), 1, "{findings:?}");
    assert_eq!((&renamed[0]["severity"], output.code), (&"remark".into(), 0));
    let items = renamed[0]["items"].to_string();
    for words in [
        "`way` is now `cgroup_driver`",
        "`scope` is now `systemd`",
        "`remove_at_once` is now `cleanup_batch`",
    ] {
        assert!(items.contains(words), "{words}: {items}");
    }
    let shown = scene.run(&["show"]).out;
    scene.configure(&shown);
    let again = scene.run(&["check", "--no-host"]);
    assert!(again.code == 0 && !again.out.contains("renamed"), "{}\n{shown}", again.out);
}
