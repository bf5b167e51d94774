//! `nunbirdctl explain` and the installed `nunbird-auth` say the same of what is asked behind the rules.
//!
//! tests/tests/judgement.rs holds the two against each other for a table of rules, claims and validation programs.

#![forbid(unsafe_code)]

use nunbird_tests::require_root;
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::Value;

/// What explain says of a push by `user`, asked by `account`.
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
    let code = if answer["verdict"] == "admitted" { 0 } else { 4 };
    assert_eq!(done.exit, Exit::Code(code), "{done:?}");
    answer
}

/// The code of the refusal by `nunbird-auth`; none where it admits.
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

#[test]
fn a_home_that_a_shell_would_interpret_is_a_denial_for_both() {
    if !require_root() {
        return;
    }
    let world = world();
    assert_eq!(decided(&world, "alice"), None);
    let answer = explain(&world, "root", "alice");
    assert_eq!(
        (&answer["verdict"], &answer["data_dir"]),
        (&"admitted".into(), &"/home/alice/.nunbird".into())
    );
    assert_eq!(decided(&world, "dollar").as_deref(), Some("home"));
    let answer = explain(&world, "root", "dollar");
    assert_eq!(answer["verdict"], "denied");
    assert!(answer["reason"].as_str().unwrap().contains("/home/$(id) has characters"), "{answer}");
    assert_eq!(answer["account"], Value::Null);
}

#[test]
fn the_users_own_word_is_asked_by_both_and_read_by_nobody_else() {
    if !require_root() {
        return;
    }
    let world = world();
    world.reconfigure("[audit]", "[accounts]\nauthorized_projects = \"required\"\n\n[audit]");
    let file = "/home/alice/.config/nunbird/authorized_projects";
    for (text, admitted, words) in [
        (None, false, "there is no ~/.config/nunbird/authorized_projects"),
        (Some("hpc/other\n"), false, "no line of ~/.config/nunbird/authorized_projects admits it"),
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
        assert!(by_root["notes"][0].as_str().unwrap().contains("of `alice` is asked, too"), "{by_root}");
    }
}

#[test]
fn the_limits_of_a_job_are_told_with_their_amounts_and_whose_word_they_are() {
    if !require_root() {
        return;
    }
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
    assert_eq!((&limits["rlimits"]["nofile"], &limits["way"]), (&512.into(), &"v1".into()), "{limits}");
    assert_eq!((&limits["require"], &limits["above"]), (&false.into(), &"refuse".into()), "{limits}");
    let program = world.paths().bin.join("nunbirdctl");
    let words = ["explain", "--claims", "/etc/nunbird/claims.json", "--runner-user", "nbt_runner"];
    let told = world.run(&world.program("root", program, &words)).stdout;
    for part in [
        "  limits     small, by [job] at /etc/nunbird/config.toml:",
        "\n             memory = \"1GiB\"\n             max_memory = \"4GiB\"\n",
        "\n             nofile = 512\n",
        "\n             require = false\n             way = \"v1\"\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
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
