//! The GitLab server's answer about a job's user: a login can be chosen, so a service account or a
//! user who took a person's name must not run as the local account of that name (CVE-2026-107589 in
//! Jacamar CI).

use nunbird_tests::issuer::{JOB, Reply};
use nunbird_tests::needs;
use nunbird_tests::runner::{Job, StageOutcome};
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Exit codes of the runner's contract, as the test bed sets them.
const DENIED: i32 = 1;
const SYSTEM: i32 = 2;

fn world(privilege: Privilege) -> World {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    world
}

/// Checks the refusal, that nothing is left of the job, and returns the admin's detail.
#[track_caller]
fn assert_refused(world: &World, outcome: &StageOutcome, exit: i32, code: &str) -> String {
    assert_eq!(outcome.exit, Exit::Code(exit), "{}", outcome.log);
    assert!(outcome.stderr.contains(&format!("[{code}]")), "{}", outcome.stderr);
    assert!(world.records().is_empty());
    let line = world.audit().pop().expect("a line");
    assert_eq!(line["code"], code);
    line["detail"].as_str().unwrap_or("").to_owned()
}

#[track_caller]
fn assert_admitted(world: &World, job: &Job<'_>) {
    let session = job.prepared();
    drop(session);
    let admitted = world.audit().into_iter().rev().find(|line| line["outcome"] == "admitted");
    assert_eq!(admitted.expect("an admitted job")["job_id"], job.known_facts().job_id);
}

fn service_account(job: Job<'_>) -> Job<'_> {
    job.server_says("/user/bot", json!(true))
}

#[needs(root, in_each = Privilege::ALL)]
fn a_service_account_named_like_a_person_is_refused_in_every_mode(privilege: Privilege) {
    let world = world(privilege);
    let outcome = service_account(world.job()).config();
    let detail = assert_refused(&world, &outcome, DENIED, "bot");
    assert!(detail.contains("`alice` (id 210)") && detail.contains("server site"), "{detail}");
    assert!(!outcome.stderr.contains("allow_bots"), "{}", outcome.stderr);
    assert!(world.job().id(7002).config().succeeded(), "{privilege:?}: the person of that name");
}

#[needs(root, in_each = Privilege::ALL)]
fn a_service_account_is_refused_where_the_job_token_proves_the_identity(privilege: Privilege) {
    let world = world(privilege);
    world.reconfigure("[audit]", "[identity]\nsources = [\"id_token\", \"job_token\"]\n\n[audit]");
    assert_refused(&world, &service_account(world.job().without_token()).config(), DENIED, "bot");
    assert_eq!(world.issuer().requests(JOB), 1, "one answer serves for identity and user");
    assert!(world.job().without_token().id(7002).config().succeeded());
    assert_eq!(world.issuer().requests(JOB), 2);
}

#[needs(root)]
fn the_user_of_the_answer_must_be_the_tokens() {
    let world = world(Privilege::Setuid);
    let renamed = world.job().server_says("/user/id", json!(211));
    let detail = assert_refused(&world, &renamed.config(), DENIED, "user-mismatch");
    assert!(detail.contains("id 210") && detail.contains("user id 211"), "{detail}");
    let renamed = world.job().server_says("/user/username", json!("al\u{202e}ice"));
    assert_refused(&world, &renamed.config(), SYSTEM, "user-check");
    let renamed = world.job().server_says("/user/username", json!("alice2"));
    let detail = assert_refused(&world, &renamed.config(), DENIED, "user-mismatch");
    assert!(detail.contains("`alice2`"), "{detail}");
}

#[needs(root)]
fn a_user_who_is_not_active_is_refused() {
    let world = world(Privilege::Setuid);
    for state in ["blocked", "deactivated", "banned", "ldap_blocked", "Active", "unheard of"] {
        let outcome = world.job().server_says("/user/state", json!(state)).config();
        let detail = assert_refused(&world, &outcome, DENIED, "user-inactive");
        assert!(detail.contains(state) && !outcome.stderr.contains(state), "{detail}\n{}", outcome.stderr);
    }
}

#[needs(root)]
fn a_server_that_does_not_state_the_kind_of_a_user_is_reported_to_the_admin() {
    let world = world(Privilege::Setuid);
    for member in ["bot", "state"] {
        let left_out = world.job().server_omits(member);
        let null = world.job().server_says(&format!("/user/{member}"), Value::Null);
        for job in [left_out, null] {
            let outcome = job.config();
            let detail = assert_refused(&world, &outcome, DENIED, "user-kind");
            for word in [format!("user.{member}"), "server site".to_owned(), "user_check".to_owned()] {
                assert!(detail.contains(&word), "{detail}");
            }
            assert!(!outcome.stderr.contains("user_check"), "{}", outcome.stderr);
        }
    }
}

#[needs(root)]
fn without_an_answer_about_this_job_the_job_is_neither_admitted_nor_denied() {
    let world = world(Privilege::Setuid);
    for (pointer, value) in [
        ("/id", json!(7002)),
        ("/pipeline/id", json!(9)),
        ("/pipeline/project_id", json!(9)),
        ("/status", json!("success")),
        ("/user", Value::Null),
        ("/user/id", json!(0)),
        ("/user/id", json!("210")),
        ("/user/bot", json!("false")),
        ("/user/state", json!("")),
    ] {
        let outcome = world.job().server_says(pointer, value).config();
        let detail = assert_refused(&world, &outcome, SYSTEM, "user-check");
        assert!(detail.contains("server site"), "{detail}");
    }
    assert_refused(&world, &world.job().unknown_to_server().config(), SYSTEM, "user-check");
    for reply in [
        Reply::new(200, "text/html", "<html>sign in</html>"),
        Reply::new(200, "application/json", "[]"),
        Reply::new(500, "text/plain", "no"),
        Reply::new(302, "text/plain", "").header("Location", "https://127.0.0.1/api/v4/job"),
        Reply::new(200, "application/json", "x".repeat(2 << 20)),
    ] {
        world.issuer().replace(JOB, reply);
        assert_refused(&world, &world.job().config(), SYSTEM, "user-check");
    }
}

#[needs(root)]
fn a_server_that_is_down_or_slow_is_trouble_of_the_system() {
    let mut world = world(Privilege::Setuid);
    let entity = world.issuer().job_entity(world.job().known_facts());
    const LATE: Duration = Duration::from_secs(30);
    world.issuer().replace(JOB, Reply::json(&entity).after(LATE));
    let begun = Instant::now();
    let outcome = world.job().config();
    assert_refused(&world, &outcome, SYSTEM, "user-check");
    assert!(begun.elapsed() < LATE, "it was waited for");
    assert!(outcome.stderr.contains("retry the job in a minute"), "{}", outcome.stderr);
    world.issuer_mut().go_down();
    let detail = assert_refused(&world, &world.job().config(), SYSTEM, "user-check");
    assert!(detail.contains("server site") && detail.contains("job 7001"), "{detail}");
}

#[needs(root)]
fn the_server_is_asked_once_a_job_and_by_config_alone() {
    let world = world(Privilege::Setuid);
    world.job().run().expect_success();
    assert_eq!(world.issuer().requests(JOB), 1);
    // The rules are evaluated twice here, before the program and after it.
    world.write_file("/etc/nunbird/validate", "#!/bin/sh\nexit 0\n", "root", 0o755);
    world.write_file("/etc/nunbird/floor", "validation_user root\n", "root", 0o644);
    world.reconfigure(
        "[audit]",
        "[validation]\nscript = \"/etc/nunbird/validate\"\nuser = \"root\"\nrules_first = true\n\n[audit]",
    );
    assert!(world.job().id(7002).config().succeeded());
    assert_eq!(world.issuer().requests(JOB), 2);
}

#[needs(root)]
fn the_server_is_not_asked_where_the_host_decides_alone() {
    let world = world(Privilege::Setuid);
    let outside = world.job().facts(|facts| facts.project_path = "outside/x".to_owned());
    assert_refused(&world, &outside.config(), DENIED, "rule");
    assert_refused(&world, &world.job().user("nobody-here").config(), DENIED, "account");
    assert_refused(&world, &world.job().user("project_7_bot_ab12").config(), DENIED, "bot");
    assert_eq!(world.issuer().requests(JOB), 0);
}

#[needs(root)]
fn an_account_by_user_id_or_by_an_identity_provider_needs_no_word_of_the_server() {
    let world = world(Privilege::Setuid);
    world.write_file("/etc/nunbird/users.map", "210 bob\n", "root", 0o644);
    let plain = "[[rule]]\nname = \"users as themselves\"\nrun_as = \"$user_login\"";
    let by_id = "[map.users]\nfile = \"/etc/nunbird/users.map\"\nkey = \"user_id\"\n\n\
                 [[rule]]\nname = \"by id\"\nrun_as = { map = \"users\" }";
    world.reconfigure(plain, by_id);
    assert!(service_account(world.job()).config().succeeded());
    assert_eq!(world.issuer().requests(JOB), 0);
    // With a name among the conditions, it is asked again.
    world.reconfigure("run_as = { map", "when.user = \"alice\"\nrun_as = { map");
    assert_refused_again(&world, 7002);
    world.reconfigure("when.user = \"alice\"\n", "user_check = \"required\"\n");
    assert_refused_again(&world, 7003);
    world.reconfigure(
        "user_check = \"required\"\nrun_as = { map = \"users\" }",
        "run_as = { identity = \"saml\" }",
    );
    let identities = json!([{ "provider": "saml", "extern_uid": "ada" }]);
    let before = world.issuer().requests(JOB);
    let job = service_account(world.job().id(7004)).claim("user_identities", identities);
    assert!(job.config().succeeded());
    assert_eq!(world.issuer().requests(JOB), before);
}

#[track_caller]
fn assert_refused_again(world: &World, job_id: u64) {
    let outcome = service_account(world.job().id(job_id)).config();
    assert_eq!(outcome.exit, Exit::Code(DENIED), "{}", outcome.log);
    assert!(outcome.stderr.contains("[bot]"), "{}", outcome.stderr);
}

#[needs(root)]
fn a_fixed_account_and_a_projects_map_admit_no_service_account_by_themselves() {
    let world = world(Privilege::Setuid);
    world.write_file("/etc/nunbird/projects.map", "physics/lattice bob\n", "root", 0o644);
    world.reconfigure("run_as = \"$user_login\"", "run_as = \"bob\"");
    assert_refused(&world, &service_account(world.job()).config(), DENIED, "bot");
    let map = "[map.projects]\nfile = \"/etc/nunbird/projects.map\"\nkey = \"project_path\"\n\n[audit]";
    world.reconfigure("[audit]", map);
    world.reconfigure("run_as = \"bob\"", "run_as = { map = \"projects\" }");
    assert_refused(&world, &service_account(world.job()).config(), DENIED, "bot");
    assert!(world.job().config().succeeded());
}

#[needs(root)]
fn a_rule_for_the_robot_of_one_project_admits_it_there_and_nowhere_else() {
    let world = world(Privilege::Setuid);
    let robots = "[[rule]]\nname = \"robot of bench\"\nwhen.project = \"physics/bench\"\nbots = true\n\
                  run_as = \"bob\"\n\n[[rule]]\nname = \"users as themselves\"";
    world.reconfigure("[[rule]]\nname = \"users as themselves\"", robots);
    let robot = |login: &'static str, project: &'static str, id: u64| {
        let job = world.job().facts(|facts| {
            login.clone_into(&mut facts.user_login);
            project.clone_into(&mut facts.project_path);
            facts.job_id = id;
        });
        service_account(job)
    };
    for (login, id) in [("alice", 7001), ("service_account_project_31_ab", 7002), ("project_31_bot_ab", 7003)]
    {
        assert_admitted(&world, &robot(login, "physics/bench", id));
        let outcome = robot(login, "physics/lattice", id + 100).config();
        assert!(outcome.stderr.contains("[bot]"), "{login}: {}", outcome.log);
    }
    // The server is still asked about the user.
    let blocked = robot("alice", "physics/bench", 7010).server_says("/user/state", json!("blocked"));
    assert!(blocked.config().stderr.contains("[user-inactive]"));
    let other = robot("alice", "physics/bench", 7011).server_says("/user/id", json!(1));
    assert!(other.config().stderr.contains("[user-mismatch]"));
    // A server without the field: the rule admits both kinds.
    assert!(robot("alice", "physics/bench", 7012).server_omits("bot").config().succeeded());
}

#[needs(root)]
fn without_the_check_nobody_is_asked_and_anybody_is_admitted() {
    let mut world = world(Privilege::Setuid);
    world.issuer_mut().go_down();
    assert_refused(&world, &world.job().config(), SYSTEM, "user-check");
    world.reconfigure("run_as = \"$user_login\"", "user_check = \"off\"\nrun_as = \"$user_login\"");
    assert!(service_account(world.job()).config().succeeded());
    world.reconfigure("user_check = \"off\"\nrun_as", "run_as");
    world.reconfigure("audience =", "user_check = \"off\"\naudience =");
    assert!(service_account(world.job().id(7002)).config().succeeded());
}

#[needs(root)]
fn the_token_of_another_server_says_nothing_about_the_user_of_this_one() {
    let world = world(Privilege::Setuid);
    let other = nunbird_tests::issuer::Issuer::start();
    other.know_job(world.job().job_token_text(), other.job_entity(world.job().known_facts()));
    world.write_file("/etc/nunbird/other.pem", other.ca_pem(), "root", 0o644);
    let second = format!(
        "[[gitlab]]\nname = \"other\"\nurl = \"{}\"\naudience = \"x\"\nca_file = \"/etc/nunbird/other.pem\"\n\n[job]",
        other.url()
    );
    world.reconfigure("[job]", &second);
    let at = |url: String| {
        world.job().unknown_to_server().response(move |response| {
            let authority = url.trim_start_matches("https://");
            let repository = response["git_info"]["repo_url"].as_str().expect("a URL");
            let (user, rest) = repository.split_once('@').expect("a URL with a job token");
            let (_, path) = rest.split_once('/').expect("a path");
            let user = user.trim_start_matches("http://");
            response["git_info"]["repo_url"] = json!(format!("https://{user}@{authority}/{path}"));
        })
    };
    assert_refused(&world, &at(world.issuer().url()).config(), SYSTEM, "user-check");
    assert_eq!((world.issuer().requests(JOB), other.requests(JOB)), (1, 0), "the token's server is asked");
    assert_refused(&world, &at(other.url()).config(), DENIED, "token-of-another-server");
    assert_eq!((world.issuer().requests(JOB), other.requests(JOB)), (1, 0), "no server is asked");
    // The other server writes the whole response of its job, with a live id token of this one's user, and has no job token of it.
    world.write_file("/etc/nunbird/users.map", "210 bob\n", "root", 0o644);
    let plain = "[[rule]]\nname = \"users as themselves\"\nrun_as = \"$user_login\"";
    let by_id = "[map.users]\nfile = \"/etc/nunbird/users.map\"\nkey = \"user_id\"\n\n\
                 [[rule]]\nname = \"by id\"\nrun_as = { map = \"users\" }";
    world.reconfigure(plain, by_id);
    assert_refused(&world, &at(world.issuer().url()).config(), SYSTEM, "user-check");
}

#[needs(root)]
fn check_reports_a_keys_directory_of_roots_because_no_server_is_asked_as_root() {
    let world = world(Privilege::Setuid);
    let checked = |world: &World| {
        let program = world.paths().bin.join("nunbirdctl");
        let words = ["check", "--runner-user", "nbt_runner"];
        world.run(&world.program("root", program, &words)).stdout
    };
    let words = "no server is asked about jobs and their users as root";
    assert!(!checked(&world).contains(words));
    std::os::unix::fs::chown(world.host_path(&world.paths().keys), Some(0), Some(0)).expect("an owner");
    std::os::unix::fs::chown(world.host_path("/var/lib/nunbird/keys/site.json"), Some(0), Some(0))
        .expect("an owner");
    assert!(checked(&world).contains(words));
    let detail = assert_refused(&world, &world.job().config(), SYSTEM, "user-check");
    assert!(detail.contains("belongs to root"), "{detail}");
    world.reconfigure("audience =", "user_check = \"off\"\naudience =");
    assert!(!checked(&world).contains(words));
    assert!(world.job().config().succeeded());
}
