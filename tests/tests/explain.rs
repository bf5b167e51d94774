//! `nunbirdctl explain` and the installed `nunbird-auth` agree on the checks after the rules.
//!
//! tests/tests/judgement.rs compares the two for a table of rules, claims and validation programs.

use nunbird_tests::issuer::{JOB, now};
use nunbird_tests::needs;
use nunbird_tests::runner::Job;
use nunbird_tests::world::{Exit, Finished, Privilege, World};
use serde_json::{Value, json};

/// The result of explain for a push by `user`, called by `account`.
fn explain(world: &World, account: &str, user: &str) -> Value {
    let claims = format!("{{\"user_login\":\"{user}\",\"project_path\":\"hpc/app\",\"ref\":\"main\"}}");
    world.write_file("/etc/nunbird/claims.json", claims, "root", 0o644);
    let program = world.paths().bin.join("nunbirdctl");
    let words = [
        "explain",
        "--claims",
        "/etc/nunbird/claims.json",
        "--format",
        "json",
        "--runner-user",
        "nbt_runner",
    ];
    let done = world.run(&world.program(account, program, &words));
    let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let code = match answer["verdict"].as_str() {
        Some("admitted") => 0,
        Some("denied") => 4,
        Some("undecided") => 6,
        _ => 7,
    };
    assert_eq!(done.exit, Exit::Code(code), "{done:?}");
    answer
}

/// The code of the refusal by `nunbird-auth`; `None` if it admits.
fn decided(world: &World, user: &str) -> Option<String> {
    let job = world.job().user(user).facts(|facts| facts.project_path = "hpc/app".to_owned());
    let mut session = job.begin();
    let outcome = session.config();
    if outcome.exit == Exit::Code(0) {
        assert!(session.cleanup().succeeded());
        return None;
    }
    world.audit().last().expect("an event")["code"].as_str().map(str::to_owned)
}

fn world() -> World {
    let world = World::new(Privilege::Setuid);
    assert!(world.refresh_keys().succeeded());
    world
}

#[needs(root)]
fn a_home_that_a_shell_would_interpret_is_a_denial_for_both() {
    let world = world();
    assert_eq!(decided(&world, "alice"), None);
    let answer = explain(&world, "root", "alice");
    assert_eq!(
        (&answer["verdict"], &answer["data_dir"]),
        (&"admitted".into(), &"/home/alice/.nunbird".into())
    );
    assert_eq!(decided(&world, "dollar").as_deref(), Some("home"));
    let answer = explain(&world, "root", "dollar");
    assert_eq!((&answer["verdict"], &answer["code"]), (&"denied".into(), &"home".into()), "{answer}");
    assert!(
        answer["detail"].as_str().unwrap().contains("/home/$(id) of `dollar` has characters"),
        "{answer}"
    );
    assert_eq!(answer["account"], Value::Null);
}

#[needs(root)]
fn the_users_own_word_is_asked_by_both_and_read_as_its_owner() {
    let world = world();
    world.reconfigure("[audit]", "[accounts]\nauthorized_projects = \"required\"\n\n[audit]");
    let file = "/home/alice/.config/nunbird/authorized_projects";
    for (text, admitted, words) in [
        (None, false, "~/.config/nunbird/authorized_projects of the account: there is no file"),
        (
            Some("hpc/other\n"),
            false,
            "~/.config/nunbird/authorized_projects of the account: no line admits it",
        ),
        (Some("# mine\nhpc/*\n"), true, "line 2 of ~/.config/nunbird/authorized_projects admits it"),
    ] {
        if let Some(text) = text {
            let made = world
                .shell("alice", &format!("umask 022; mkdir -p ~/.config/nunbird; printf '{text}' > {file}"));
            assert!(made.succeeded(), "{made:?}");
        }
        let refused = decided(&world, "alice");
        assert_eq!(refused.is_none(), admitted, "{refused:?}");
        let answer = explain(&world, "alice", "alice");
        assert_eq!(answer["verdict"] == "admitted", admitted, "{answer}");
        assert!(answer.to_string().contains(words), "{words}: {answer}");
        let by_root = explain(&world, "root", "alice");
        assert_eq!(by_root["verdict"], answer["verdict"], "root reads it as its owner: {by_root}");
        assert!(by_root.to_string().contains(words), "{words}: {by_root}");
        let by_bob = explain(&world, "bob", "alice");
        assert!(by_bob["notes"].to_string().contains("of uid 4101 was not read"), "{by_bob}");
    }
}

#[needs(root)]
fn the_limits_of_a_job_are_shown_with_their_amounts_and_their_origin() {
    let tables = "[limits.small]\nmemory = \"1GiB\"\nmax_memory = \"4GiB\"\ncpus = \"1.5\"\nnofile = 512\nrequire = false\nway = \"v1\"\n\
                  [limits.big]\nmemory = \"8GiB\"\n[profile.big]\nlimits = \"big\"\n[profile.same]\n[job]\nlimits = \"small\"\n";
    let given = |more: &str| {
        let world = world();
        world.reconfigure("[job]\n", tables);
        world.reconfigure("run_as = \"$user_login\"\n", &format!("run_as = \"$user_login\"\n{more}"));
        let answer = explain(&world, "root", "alice");
        (world, answer)
    };
    let (world, answer) = given("");
    let limits = &answer["limits"];
    assert_eq!((&limits["name"], &limits["from"]), (&"small".into(), &"job".into()), "{answer}");
    assert_eq!(limits["amounts"]["memory"], 1_u64 << 30, "{limits}");
    assert_eq!(
        (&limits["amounts"]["cpu"], &limits["maximum"]["memory"]),
        (&1500.into(), &(4_u64 << 30).into())
    );
    assert_eq!(
        (&limits["rlimits"]["nofile"], &limits["cgroup_driver"]),
        (&512.into(), &"cgroupfs-v1".into()),
        "{limits}"
    );
    assert_eq!((&limits["require"], &limits["on_excess"]), (&false.into(), &"refuse".into()), "{limits}");
    let program = world.paths().bin.join("nunbirdctl");
    let words = ["explain", "--claims", "/etc/nunbird/claims.json", "--runner-user", "nbt_runner"];
    let shown = world.run(&world.program("root", program, &words)).stdout;
    for part in [
        "  limits     small, by [job] at /etc/nunbird/config.toml:",
        "\n             memory = \"1GiB\"\n             cpus = 1.5\n             max_memory = \"4GiB\"\n",
        "\n             nofile = 512\n",
        "\n             require = false\n             cgroup_driver = \"cgroupfs-v1\"\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for (more, from, name) in [
        ("profile = \"same\"\n", "job", Some("small")),
        ("profile = \"big\"\n", "profile", Some("big")),
        ("profile = \"big\"\nlimits = \"small\"\n", "rule", Some("small")),
        ("profile = \"big\"\nlimits = \"\"\n", "rule", None),
    ] {
        let limits = &given(more).1["limits"];
        assert_eq!((limits["from"].as_str(), limits["name"].as_str()), (Some(from), name), "{more}");
        assert!(limits["place"].as_str().is_some_and(|place| place.contains("config.toml:")), "{limits}");
    }
}

/// Runs explain with these words.
fn ask(world: &World, account: &str, words: &[&str]) -> Finished {
    let words = [&["explain", "--runner-user", world.privilege().runner()], words].concat();
    world.run(&world.program(account, world.paths().bin.join("nunbirdctl"), &words))
}

/// Verdict and code of a job by its response, and the exit status.
fn of_job(world: &World, account: &str, job: &Job<'_>) -> (String, String, Exit) {
    job.tell_server();
    let session = job.begin();
    let bytes = std::fs::read(session.response_file()).expect("a response");
    world.write_file("/etc/nunbird/response.json", bytes, "root", 0o644);
    let done = ask(world, account, &["--job", "/etc/nunbird/response.json", "--format", "json"]);
    let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let text = |name: &str| answer[name].as_str().unwrap_or("").to_owned();
    (text("verdict"), text("code"), done.exit)
}

#[needs(root)]
fn a_wrong_audience_another_runner_a_forged_signature_and_an_expired_token_are_denied_with_the_programs_code()
{
    let world = world();
    let sound = || world.job();
    let denied = |code: &str| ("denied".to_owned(), code.to_owned(), Exit::Code(4));
    assert_eq!(of_job(&world, "root", &sound()), ("admitted".to_owned(), String::new(), Exit::Code(0)));
    world.allow_refresh();
    for (job, code) in [
        (sound().claim("aud", json!("https://other.example.org")), "token-audience"),
        (sound().claim("exp", json!(now() - 3600)), "token-expired"),
        (sound().claim("job_id", json!("1")), "token-of-another-job"),
        (sound().forge(|token, issuer| token.sign(&issuer.login_key()) + "x"), "token-unknown-key"),
        (sound().without_token(), "no-token"),
    ] {
        assert_eq!(of_job(&world, "root", &job), denied(code));
        // The same by the token alone, except for the job that it belongs to, which no token shows.
        if !["no-token", "token-of-another-job"].contains(&code) {
            world.write_file("/etc/nunbird/token", job.token_text(), "root", 0o600);
            let shown = ask(&world, "root", &["--token", "/etc/nunbird/token"]);
            assert_eq!(shown.exit, Exit::Code(4), "{shown:?}");
            assert!(shown.stdout.contains(&format!("denied [{code}]")), "{shown:?}");
            assert!(shown.stdout.contains("binding to a job was not judged"), "{shown:?}");
        }
    }
    world.reconfigure("[[gitlab]]", "[[gitlab]]\nrunner_ids = [99]");
    let (verdict, code, exit) = of_job(&world, "root", &sound());
    assert_eq!((verdict.as_str(), exit), ("denied", Exit::Code(4)), "{code}");
    let claims = "{\"user_login\":\"alice\",\"user_id\":210,\"project_path\":\"hpc/app\",\"ref\":\"main\",\"runner_id\":12}";
    world.write_file("/etc/nunbird/claims.json", claims, "root", 0o644);
    let shown = ask(&world, "root", &["--claims", "/etc/nunbird/claims.json"]);
    assert_eq!(shown.exit, Exit::Code(4), "{shown:?}");
    assert!(shown.stdout.contains(&format!("denied [{code}]")), "{code}: {shown:?}");
}

#[needs(root, in_each = Privilege::ALL)]
fn root_asks_keys_and_server_about_a_job_of_any_mode_as_the_program_would(privilege: Privilege) {
    // The keys are not here yet.
    let world = World::new(privilege);
    let answer = of_job(&world, "root", &world.job());
    assert_eq!(answer, ("admitted".to_owned(), String::new(), Exit::Code(0)), "{privilege:?}");
    assert_eq!(world.issuer().requests(JOB), 1, "{privilege:?}");
    let blocked = world.job().server_says("/user/state", json!("blocked"));
    let answer = of_job(&world, "root", &blocked);
    assert_eq!(answer, ("denied".to_owned(), "user-inactive".to_owned(), Exit::Code(4)), "{privilege:?}");
}

#[needs(root)]
fn what_the_caller_may_not_read_or_run_makes_a_job_undecided_and_never_admitted() {
    let world = world();
    // Only root can see whether the account has expired, and which user it is bound to.
    assert_eq!(of_job(&world, "bob", &world.job()), ("undecided".to_owned(), String::new(), Exit::Code(6)));
    assert_eq!(of_job(&world, "root", &world.job()).0, "admitted");
    let script = "/etc/nunbird/validate";
    world.write_file(script, "#!/bin/sh\ntouch /tmp/asked\nexit 3\n", "root", 0o755);
    world.reconfigure(
        "[audit]",
        &format!("[validation]\nscript = \"{script}\"\nuser = \"nunbird\"\n\n[audit]"),
    );
    assert_eq!(of_job(&world, "root", &world.job()), ("undecided".to_owned(), String::new(), Exit::Code(6)));
    assert!(!world.host_path("/tmp/asked").exists(), "the program was run unasked");
    let shown = ask(&world, "root", &["--job", "/etc/nunbird/response.json", "--run-validation"]);
    assert!(shown.exit == Exit::Code(4) && shown.stdout.contains("denied [validation]"), "{shown:?}");
    assert!(world.host_path("/tmp/asked").exists());
    let shown = ask(&world, "bob", &["--job", "/etc/nunbird/response.json", "--run-validation"]);
    assert_eq!(shown.exit, Exit::Code(1), "{shown:?}");
    let shown = ask(&world, "root", &["--job", "/etc/nunbird/response.json", "--validated", "alice"]);
    assert_eq!(shown.exit, Exit::Code(0), "{shown:?}");
}

#[needs(root)]
fn explain_leaves_keys_people_and_temporary_files_as_they_were() {
    let world = World::new(Privilege::Setuid);
    let listing = || {
        let done = world.shell("root", "ls -lAR --time-style=full-iso /var/lib/nunbird /tmp");
        assert!(done.succeeded(), "{done:?}");
        done.stdout
    };
    let before = listing();
    // There are no keys yet: they are fetched for the answer, and not stored.
    assert_eq!(of_job(&world, "root", &world.job()).0, "admitted");
    assert_eq!(listing(), before);
}

#[needs(root)]
fn a_users_ticket_leads_to_the_deciding_line_also_when_the_file_was_rotated_and_the_policy_changed() {
    let world = world();
    let refused = world.job().user("bob").facts(|facts| facts.project_path = "outside/x".to_owned()).config();
    let line = refused.stderr.lines().find(|line| line.contains("decision: ")).expect("an id");
    let id = line.rsplit_once(' ').expect("an id").1.to_owned();
    let shown = ask(&world, "root", &["--decision", &id]);
    assert_eq!(shown.exit, Exit::Code(4), "{shown:?}");
    for part in [
        &format!("decision {id} at "),
        "of outside/x by bob (GitLab user 210)",
        "then: denied [rule] in stage config",
        "the policy is the same today",
        "1. nobody from outside (/etc/nunbird/config.toml:",
        "denied [rule]: ",
        "by `nobody from outside` at /etc/nunbird/config.toml:",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    world.reconfigure("\"outside\", \"outside/**\"", "\"elsewhere\"");
    let rotate =
        "cd /var/log/nunbird && mv audit.jsonl audit.jsonl.1 && gzip audit.jsonl.1 && : > audit.jsonl";
    assert!(world.shell("root", rotate).succeeded());
    let shown = ask(&world, "root", &["--decision", &id[..8], "--format", "json"]);
    assert_eq!(shown.exit, Exit::Code(0), "{shown:?}");
    let answer: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(
        (&answer["decision"]["policy_changed"], &answer["account"]),
        (&true.into(), &"bob".into()),
        "{answer}"
    );
    assert_eq!(answer["decision"]["event"]["code"], "rule", "{answer}");
    assert_eq!(answer["rules"][0]["fits"], false, "{answer}");
    let shown = ask(&world, "root", &["--decision", "0123456789"]);
    assert_eq!(shown.exit, Exit::Code(1), "{shown:?}");
    for part in ["no decision 0123456789", "other hosts", "[privilege]", "nunbirdctl doctor"] {
        assert!(shown.stderr.contains(part), "{part}: {shown:?}");
    }
}

#[needs(root)]
fn groups_have_their_names_beside_their_gids() {
    let world = world();
    world.reconfigure("run_as = \"$user_login\"", "when.local_group = \"lattice\"\nrun_as = \"$user_login\"");
    let answer = explain(&world, "root", "alice");
    assert_eq!(answer["groups"], json!([4101, 4200]), "{answer}");
    assert_eq!(answer["group_names"], json!(["alice", "lattice"]), "{answer}");
    assert_eq!(answer["rules"][1]["conditions"][0]["seen"], "alice (4101), lattice (4200)", "{answer}");
}

#[needs(root)]
fn the_floor_of_the_host_is_a_denial_for_both() {
    let world = world();
    for (line, account) in [("deny_group lattice", "alice"), ("min_uid 4102", "alice")] {
        world.write_file("/etc/nunbird/floor", line, "root", 0o644);
        assert_eq!(decided(&world, account).as_deref(), Some("account"), "{line}");
        let answer = explain(&world, "root", account);
        assert_eq!((&answer["verdict"], &answer["code"]), (&"denied".into(), &"account".into()), "{answer}");
    }
    world.write_file("/etc/nunbird/floor", "deny_group nowhere", "root", 0o644);
    assert_eq!(decided(&world, "alice").as_deref(), Some("group"));
    assert_eq!(explain(&world, "root", "alice")["verdict"], "failed");
}
