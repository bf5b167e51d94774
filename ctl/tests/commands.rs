//! What the commands print and how they end.

use crate::scene::{Scene, claims};

#[test]
fn a_decision_is_explained_with_every_rule_condition_and_value() {
    let scene = Scene::new();
    let explained = scene.run(&["explain", "--claims", &scene.claims(&claims("nobody-here", "hpc/app"))]);
    assert_eq!(explained.code, 4, "{explained:?}");
    for part in [
        "1. no schedules (",
        "config.toml:7:1): does not fit\n       no   pipeline_source is `push`, wanted schedule",
        "2. hpc-only (",
        "yes  project is `hpc/app`, wanted hpc/**",
        "denied [account]: ",
        "rule `hpc-only` at ",
        "account `nobody-here`: not in the user database",
    ] {
        assert!(explained.out.contains(part), "{part}\n{}", explained.out);
    }
    let denied = scene.run(&["explain", "--claims", &scene.claims(&claims("ada", "other/app"))]);
    assert_eq!(denied.code, 4);
    assert!(denied.out.contains("no   project is `other/app`") && denied.out.contains("denied [no-rule]"));
}

#[test]
fn an_account_of_this_host_is_shown_with_what_its_jobs_get() {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).expect("a user database");
    let user = user.expect("an account that runs the tests");
    let scene = Scene::new();
    let text =
        scene.policy().replace("[[rule]]\nname = \"no", "[accounts]\nmin_uid = 100\n[[rule]]\nname = \"no");
    scene.configure(&text);
    let explained = scene.run(&["explain", "--claims", &scene.claims(&claims(&user.name, "hpc/app"))]);
    if user.uid.is_root() {
        assert!(explained.out.contains("`root` belongs to the system"), "{}", explained.out);
    } else {
        assert_eq!(explained.code, 0, "{explained:?}");
        assert!(explained.out.contains(&format!("uid {}", user.uid)), "{}", explained.out);
    }
}

#[test]
fn machines_get_the_same_decision_as_json() {
    let scene = Scene::new();
    let file = scene.claims(&claims("nobody-here", "hpc/app"));
    let explained = scene.run(&["explain", "--claims", &file, "--format", "json"]);
    assert_eq!(explained.code, 4);
    let answer = explained.json();
    assert_eq!(answer["verdict"], "denied");
    assert_eq!(answer["rules"][1]["fits"], true);
    assert_eq!(answer["rules"][0]["conditions"][0]["seen"], "push");
}

#[test]
fn claims_may_be_a_tokens_payload_and_a_misspelt_fact_is_an_error() {
    let scene = Scene::new();
    let payload = r#"{"iss":"https://gitlab.example.org","aud":"https://gitlab.example.org","user_login":"ada","user_id":"7","project_id":"3",
        "project_path":"fork/app","job_project_path":"hpc/app","namespace_path":"fork","ref":"main","ref_protected":"true",
        "pipeline_source":"push","groups_direct":["lab"],"user_identities":[{"provider":"saml","extern_uid":"a1"}],"jti":"x"}"#;
    let explained = scene.run(&["explain", "--claims", &scene.claims(payload)]);
    assert!(explained.out.contains("yes  project is `hpc/app`"), "{explained:?}");
    let elsewhere = payload.replace("\"aud\":\"https://gitlab.example.org\"", "\"aud\":\"x\"");
    let explained = scene.run(&["explain", "--claims", &scene.claims(&elsewhere)]);
    assert!(explained.code == 4 && explained.out.contains("denied [token-audience]"), "{explained:?}");
    let misspelt = claims("ada", "hpc/app").replace("pipeline_source", "pipeline_sauce");
    let explained = scene.run(&["explain", "--claims", &scene.claims(&misspelt)]);
    assert_eq!(explained.code, 1);
    assert!(explained.err.contains("unknown fact `pipeline_sauce`"), "{}", explained.err);
    for bad in ["{", "[]", "{}", r#"{"user_login":7,"project_path":"a/b"}"#] {
        assert_eq!(scene.run(&["explain", "--claims", &scene.claims(bad)]).code, 1, "{bad}");
    }
}

#[test]
fn the_role_in_a_fork_is_none_in_the_project_that_runs_the_job() {
    let scene = Scene::new();
    let rule = "[[rule]]\nname = \"owners\"\nwhen.access_level = \"owner\"\nrun_as = \"$user_login\"\n\n[[rule]]\nname = \"no";
    scene.configure(&scene.policy().replacen("[[rule]]\nname = \"no", rule, 1));
    let fits = |ids: &str| {
        let payload = format!(
            r#"{{"iss":"https://gitlab.example.org","user_login":"ada","user_id":"7",{ids},"project_path":"fork/app",
            "job_project_path":"hpc/app","ref":"main","pipeline_source":"push","user_access_level":"owner"}}"#
        );
        let explained = scene.run(&["explain", "--claims", &scene.claims(&payload), "--format", "json"]);
        explained.json()["rules"][0]["fits"].as_bool()
    };
    assert_eq!(fits(r#""project_id":"3","job_project_id":"3""#), Some(true));
    assert_eq!(
        fits(r#""project_id":"9","job_project_id":"3""#),
        Some(false),
        "everybody owns a fork of their own"
    );
}

#[test]
fn a_token_is_explained_but_never_printed_and_its_signature_is_reported() {
    let scene = Scene::new();
    let payload = "eyJpc3MiOiJodHRwczovL2dpdGxhYi5leGFtcGxlLm9yZyIsInVzZXJfbG9naW4iOiJhZGEiLCJwcm9qZWN0X3BhdGgiOiJocGMvYXBwIn0";
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{payload}.c2lnbmF0dXJl");
    let file = scene.file("token", &token);
    let explained = scene.run(&["explain", "--token", &file]);
    assert!(explained.out.starts_with("signature NOT verified: no keys"), "{}", explained.out);
    assert_eq!(explained.code, 7, "without keys every job fails: {explained:?}");
    assert!(explained.out.contains("failed [no-keys]"), "{}", explained.out);
    let response = format!(
        r#"{{"id":1,"job_info":{{"project_id":2}},"variables":[{{"key":"SITE_ID_TOKEN","value":"{token}"}}]}}"#
    );
    let file = scene.file("response.json", &response);
    let from_job = scene.run(&["explain", "--job", &file, "--format", "json"]);
    assert!(from_job.json()["signature"].as_str().unwrap().contains("NOT verified"));
    for output in [explained, from_job] {
        assert!(!output.out.contains(payload) && !output.err.contains(payload), "the token was printed");
    }
    let none = scene.file("response.json", r#"{"id":1,"job_info":{"project_id":2}}"#);
    let explained = scene.run(&["explain", "--job", &none]);
    assert_eq!(explained.code, 4, "{explained:?}");
    assert!(explained.out.contains("denied [no-token]"), "{}", explained.out);
    assert!(explained.out.contains("no variable named SITE_ID_TOKEN"), "{}", explained.out);
    assert_eq!(scene.run(&["explain", "--token", &scene.file("token", "garbage")]).code, 7);
}

#[test]
fn the_policys_tests_run_and_a_failure_is_traced() {
    let scene = Scene::new();
    let tests = r#"
[[test]]
name = "people of hpc"
claims = { user_login = "ada", project_path = "hpc/app", pipeline_source = "push" }
local = { uid = 5001, groups = ["physics"] }
expect = "ada"
[[test]]
name = "no schedules"
claims = { user_login = "ada", project_path = "hpc/app", pipeline_source = "schedule" }
expect = "deny: no schedules"
[[test]]
name = "nobody else"
claims = { user_login = "eve", project_path = "eve/x" }
expect = "deny"
"#;
    scene.configure(&format!("{}{tests}", scene.policy()));
    let passed = scene.run(&["test"]);
    assert_eq!((passed.code, passed.out.contains("3 passed, 0 failed")), (0, true), "{passed:?}");
    let more = scene.file(
        "more.toml",
        &tests
            .replace("[[test]]\nname = \"", "[[test]]\nname = \"not ")
            .replace("\"ada\"\n[[", "\"bob\"\n[["),
    );
    let failed = scene.run(&["test", &more]);
    assert_eq!(failed.code, 5, "{failed:?}");
    assert!(
        failed.out.contains("FAIL  not people of hpc (")
            && failed.out.contains("expected bob, got ada by rule")
    );
    assert!(failed.out.contains("yes  project is `hpc/app`"), "the trace is missing: {}", failed.out);
    assert_eq!(scene.run(&["test", &more, "--format", "json"]).json()["failed"], 1);
    let checked = scene.run(&["check", "--no-host"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn what_is_in_force_is_shown_with_where_it_stands() {
    let scene = Scene::new();
    scene.configure(
        &scene.policy().replace("[[rule]]\nname = \"no", "[accounts]\nmin_uid = 5000\n[[rule]]\nname = \"no"),
    );
    let shown = scene.run(&["show"]);
    assert_eq!(shown.code, 0);
    assert!(
        shown.out.contains("min_uid = 5000  # ") && shown.out.contains("config.toml:8:11\n"),
        "{}",
        shown.out
    );
    assert!(shown.out.contains("nologin = false  # default\n"), "{}", shown.out);
    assert!(
        shown.out.contains("[[rule]]\n# ") && shown.out.contains("run_as = \"$user_login\"\n"),
        "{}",
        shown.out
    );
    let one = scene.run(&["show", "--key", "accounts.min_uid"]);
    assert!(one.out.starts_with("min_uid = 5000") && one.out.lines().count() == 1, "{}", one.out);
    assert_eq!(scene.run(&["show", "--key", "accounts.min_uids"]).code, 1);
    let json = scene.run(&["show", "--format", "json"]).json();
    assert_eq!(json["accounts.nologin"]["origin"], "default");
    // The printed configuration decides alike.
    scene.configure(&shown.out);
    assert_eq!(scene.run(&["check", "--no-host"]).code, 0);
}

#[test]
fn an_invalid_configuration_is_shown_whole_with_places_and_ends_with_3() {
    let scene = Scene::new();
    scene.configure(
        &scene.policy().replace("pipeline_source", "pipeline_sorce").replace("\"hpc/**\"", "\"\""),
    );
    let output = scene.run(&["check", "--no-host"]);
    assert_eq!(output.code, 3);
    for part in [
        "unknown key `pipeline_sorce`",
        "config.toml:9:10",
        "write `pipeline_source`",
        "an empty pattern",
        "2 errors",
    ] {
        assert!(output.err.contains(part), "{part}\n{}", output.err);
    }
    let machine = scene.run(&["check", "--no-host", "--format", "json"]);
    assert_eq!((machine.code, machine.json()["findings"][1]["line"].as_u64()), (3, Some(13)));
}

#[test]
fn files_that_are_no_configuration_are_distinguished() {
    let scene = Scene::new();
    let check = |file: &str| scene.run_bare(&["check", "--no-host", "--configuration", file]);
    assert_eq!(check("/nonexistent/x.toml").code, 1);
    let directory = check(scene.path("").to_str().unwrap());
    assert!(directory.code == 1 && directory.err.contains("directory"), "{directory:?}");
    std::fs::write(scene.path("latin.toml"), b"# ok\n# caf\xe9\n").unwrap();
    let latin = check(scene.path("latin.toml").to_str().unwrap());
    assert!(latin.code == 1 && latin.err.contains("latin.toml:2: not UTF-8"), "{latin:?}");
    let windows = scene.file("windows.toml", &format!("\u{feff}{}", scene.policy().replace('\n', "\r\n")));
    assert_eq!(check(&windows).code, 0);
}

#[test]
fn remarks_are_errors_only_where_that_is_asked_for() {
    let scene = Scene::new();
    scene.configure(
        &(scene.policy() + "[[rule]]\nname = \"late\"\nwhen = { project = \"hpc/app\" }\nrun_as = \"svc\"\n"),
    );
    let lenient = scene.run(&["check", "--no-host"]);
    assert_eq!(lenient.code, 0, "{lenient:?}");
    assert!(lenient.out.contains("remark[shadowed]: rule `late` never decides"), "{}", lenient.out);
    let strict = scene.run(&["check", "--no-host", "--strict"]);
    assert_eq!(strict.code, 3, "{strict:?}");
}

#[test]
fn a_check_looks_at_maps_line_by_line_and_at_the_host() {
    let scene = Scene::new();
    let map = scene.file("users.map", "ada a1\nbob\nada a2\n");
    let text = scene
        .policy()
        .replace("[[rule]]\nname = \"no", &format!("[map.m]\nfile = \"{map}\"\n[[rule]]\nname = \"no"));
    scene.configure(&text.replace("\"$user_login\"", "{ map = \"m\" }"));
    let output = scene.run(&["check"]);
    assert_eq!(output.code, 3);
    for part in [
        "users.map:2",
        "users.map:3",
        "no account after the key",
        "another account",
        "error[program]",
        "error[keys]",
    ] {
        assert!(output.out.contains(part), "{part}\n{}", output.out);
    }
}

#[test]
fn a_check_reads_the_description_of_the_sites_own_scheduler_and_the_sites_arguments() {
    let scene = Scene::new();
    let good = include_str!("../../batch/src/schedulers/slurm.toml");
    let file = scene.file("ours.toml", good);
    let configure = |more: &str| {
        let tables = format!(
            "[scheduler.ours]\ndescription = \"{file}\"\n[batch]\nforced_arguments = [\"--partition=ci\"{more}]\n\
             [job]\nexecutor = \"ours\"\n"
        );
        let policy = scene.policy();
        let at = policy.find("[[rule]]").expect("a rule");
        scene.configure(&format!("{}{tables}{}", &policy[..at], &policy[at..]));
    };
    configure("");
    let output = scene.run(&["check", "--no-host"]);
    assert_eq!(output.code, 0, "{output:?}");
    configure(", \"ci\"");
    let output = scene.run(&["check", "--no-host"]);
    assert!(output.code == 3 && output.out.contains("error[scheduler]"), "{output:?}");
    assert!(output.out.contains("[batch]: forced_arguments: `ci` is not an option"), "{}", output.out);
    configure("");
    scene.file("ours.toml", &good.replace("[cancel]", "[canzel]"));
    let output = scene.run(&["check", "--no-host"]);
    assert!(output.code == 3 && output.out.contains("unknown field `canzel`"), "{}", output.out);
}

#[test]
fn a_check_of_the_host_looks_for_the_schedulers_commands() {
    let scene = Scene::new();
    let bin = scene.file("scancel", "#!/bin/sh\n");
    std::fs::set_permissions(&bin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let directory = bin.trim_end_matches("/scancel");
    let policy = scene.policy();
    let at = policy.find("[[rule]]").expect("a rule");
    let tables = format!("[batch]\nscheduler_bin = \"{directory}\"\n[job]\nexecutor = \"slurm\"\n");
    scene.configure(&format!("{}{tables}{}", &policy[..at], &policy[at..]));
    let output = scene.run(&["check"]);
    let missing =
        |program: &str| output.out.contains(&format!("[batch]: no program {program} in {directory}"));
    assert!(missing("sbatch") && missing("squeue") && !missing("scancel"), "{}", output.out);
    assert!(output.out.contains("error[scheduler-command]"), "{}", output.out);
}

#[test]
fn wrong_usage_ends_with_2_and_help_begins_with_examples_of_each_command() {
    let scene = Scene::new();
    assert_eq!(scene.run_bare(&["explain"]).code, 2);
    assert_eq!(scene.run_bare(&["explain", "--claims", "a", "--token", "b"]).code, 2);
    assert_eq!(scene.run_bare(&["chekc"]).code, 2);
    for command in ["check", "explain", "test", "show", "diff", "audit", "keys", "migrate"] {
        let help = scene.run_bare(&[command, "--help"]);
        assert!(help.code == 0 && help.out.contains("nunbirdctl "), "{help:?}");
        assert!(help.out.contains("example"), "{command}: {}", help.out);
    }
}

#[test]
fn limits_that_make_no_sense_are_remarked_upon() {
    let scene = Scene::new();
    let check = |limits: &str, more: &[&str]| {
        scene.configure(&format!("{}limits = \"a\"\n[limits.a]\n{limits}\n", scene.policy()));
        let all = [&["check", "--format", "json"], more].concat();
        let findings = scene.run(&all).json()["findings"].clone();
        let about = findings.as_array().expect("findings").iter().filter(|f| f["code"] == "limits");
        about
            .map(|f| format!("{}: {}", f["severity"].as_str().unwrap(), f["message"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    for (limits, words) in [
        ("nice = 5\ncpus = \"2\"", "only orders its processes among each other"),
        ("io_max = [{ device = \"/\", write = \"1MiB\" }]\nway = \"v1\"", "version 1 does not count writes"),
        ("memory = \"4GiB\"\nas = \"1GiB\"", "`as` is less than `memory`"),
        ("pids = 100\nnproc = 50", "`nproc` is less than `pids`"),
        ("stack = \"8MiB\"\n[job]\nraise_stack_limit = true", "`stack` overrides `raise_stack_limit`"),
        ("[limits.b]\npids = 50", "[limits.b]: no rule's jobs have these limits"),
    ] {
        let found = check(limits, &["--no-host"]);
        assert_eq!(found.len(), 1, "{limits}: {found:?}");
        assert!(found[0].starts_with("remark: ") && found[0].contains(words), "{limits}: {found:?}");
    }
    let sound = "nice = 5\npids = 100\nnproc = 100\nmemory = \"16MiB\"\nswap = \"0KiB\"\nas = \"1GiB\"\ncpus";
    assert_eq!(check(&sound.replace("\ncpus", ""), &[]), Vec::<String>::new());
    for (limits, words) in [
        ("max_memory = \"9999TiB\"", "remark: [limits.a]: `max_memory` is more memory than this host has"),
        ("cpus = \"9999\"", "remark: [limits.a]: `cpus` is more processors than this host has"),
        (
            "io_max = [{ device = \"/dev/nbt_none\", read = \"1MiB\" }]",
            "error: [limits.a]: io_max: /dev/nbt_none: there is no such device",
        ),
        (
            "require = false\nio_max = [{ device = \"/proc\", read = \"1MiB\" }]",
            "remark: [limits.a]: io_max: /proc: it lies on no block device",
        ),
        (
            "io_max = [{ device = \"/proc\", read = \"1MiB\" }, { device = \"/usr\", read = \"1MiB\" }, { device = \"/\", write_ops = 50 }]",
            "error: [limits.a]: io_max: /proc: it lies on no block device",
        ),
    ] {
        let found = check(limits, &[]);
        assert!(found.len() == 1 && found[0].starts_with(words), "{limits}: {found:?}");
    }
    let disk = |path: &str| nunbird_cgroup::disk_of(path.as_ref()).ok();
    if disk("/").is_some() && disk("/") == disk("/usr") {
        let twice = "io_max = [{ device = \"/\", read = \"1MiB\" }, { device = \"/usr\", write_ops = 50 }]";
        let found = check(twice, &[]);
        let words = "error: [limits.a]: io_max: / and /usr are on the same disk, ";
        assert!(found.len() == 1 && found[0].starts_with(words), "{found:?}");
    }
}

#[test]
fn check_takes_its_file_by_position_and_names_types_in_tomls_words() {
    let scene = Scene::new();
    let good = scene.file("good.toml", &scene.policy());
    let said = scene.run_bare(&["check", &good, "--no-host"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("good.toml: 1 server"), "{}", said.out);
    assert_eq!(scene.run_bare(&["check", &good, "--configuration", &good, "--no-host"]).code, 2);
    let wrong = [
        ("[accounts]\nmin_uid = \"five\"\n", "expected integer, found string"),
        ("[job]\nlogin_shell = \"yes\"\n", "expected boolean, found string"),
        ("[job]\nshell = 7\n", "expected string, found integer"),
        ("job = 7\n", "expected table, found integer"),
        (
            "[[rule]]\nname = \"r\"\nwhen = { project = [1.5] }\nrun_as = \"a\"\n",
            "expected string or table, found float",
        ),
    ];
    for (line, message) in wrong {
        let before = if line.starts_with("job") {
            format!("{line}{}", scene.policy())
        } else {
            format!("{}{line}", scene.policy())
        };
        let file = scene.file("wrong.toml", &before);
        let said = scene.run_bare(&["check", &file, "--no-host"]);
        assert!(
            said.code == 3 && said.err.contains(&format!("error: {message}\n")),
            "{message}: {}",
            said.err
        );
        assert!(said.err.contains("= help: write "), "{}", said.err);
    }
}
