//! Jobs without `id_tokens:`, verified by the GitLab server's answer about their own token.

use nunbird_tests::issuer::{JOB, JWKS, Reply};
use nunbird_tests::needs;
use nunbird_tests::runner::{Job, StageOutcome};
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SOURCES: &str = "[identity]\nsources = [\"id_token\", \"job_token\"]\n\n[audit]";

fn world(privilege: Privilege) -> World {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    world.reconfigure("[audit]", SOURCES);
    world
}

/// A job without an id token that the server knows.
fn job(world: &World) -> Job<'_> {
    world.job().without_token()
}

#[track_caller]
fn assert_refused(world: &World, outcome: &StageOutcome, exit: i32, code: &str) -> String {
    assert_eq!(outcome.exit, Exit::Code(exit), "{}", outcome.log);
    assert!(outcome.stderr.contains(&format!("[{code}]")), "{}", outcome.stderr);
    assert!(world.records().is_empty());
    world.audit().last().expect("a line")["detail"].as_str().unwrap_or("").to_owned()
}

/// The entity with one member changed.
fn with(world: &World, pointer: &str, value: Value) -> Reply {
    let job = world.job();
    let facts = job.known_facts();
    let mut entity = json!({
        "id": facts.job_id, "status": "running", "ref": "main", "tag": false,
        "web_url": format!("{}/{}/-/jobs/{}", world.issuer().url(), facts.project_path, facts.job_id),
        "user": { "id": facts.user_id, "username": "alice", "state": "active", "bot": false },
        "pipeline": { "id": facts.pipeline_id, "project_id": facts.project_id },
    });
    *entity.pointer_mut(pointer).expect("a member") = value;
    Reply::json(&entity)
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_without_id_tokens_runs_as_its_user_in_every_mode(privilege: Privilege) {
    let world = world(privilege);
    let outcome = job(&world).script("id -un").run().expect_success();
    assert!(outcome.log().contains("alice"), "{privilege:?}: {}", outcome.log());
    let admitted = &world.audit()[0];
    assert_eq!(admitted["identity_source"], "job_token");
    assert_eq!(world.issuer().requests(JOB), 1, "later stages go by the record");
}

#[needs(root)]
fn a_job_without_id_tokens_needs_no_signing_key() {
    let world = World::new(Privilege::Setuid);
    world.reconfigure("[audit]", SOURCES);
    let outcome = job(&world).config();
    assert!(outcome.succeeded(), "{}", outcome.log);
    assert_eq!(world.issuer().requests(JWKS), 0, "no key would have helped");
}

#[needs(root)]
fn a_server_that_does_not_answer_in_time_ends_the_job_and_not_the_runner() {
    const LATE: Duration = Duration::from_secs(30);
    let world = world(Privilege::Setuid);
    world.issuer().replace(JOB, with(&world, "/tag", json!(false)).after(LATE));
    let begun = Instant::now();
    let detail = assert_refused(&world, &job(&world).config(), 2, "job-answer");
    assert!(begun.elapsed() < LATE, "it was waited for");
    assert!(detail.contains("time"), "{detail}");
}

#[needs(root)]
fn the_site_must_allow_it_and_an_id_token_comes_first() {
    let world = world(Privilege::Setuid);
    let forged = world.job().forge(|_, _| "x.y.z".to_owned());
    assert_refused(&world, &forged.config(), 2, "token-unknown-key");
    assert_eq!(world.issuer().requests(JOB), 0, "a bad id token is a refusal, not a reason to ask");
    world.reconfigure(SOURCES, "[audit]");
    let refused = job(&world).config();
    assert_refused(&world, &refused, 1, "no-token");
    assert!(refused.stderr.contains("id_tokens"), "{}", refused.stderr);
    world.reconfigure("[audit]", SOURCES);
    let both = world.job();
    assert!(both.config().succeeded());
    assert_eq!(world.audit().last().expect("a line")["identity_source"], "id_token");
}

#[needs(root)]
fn rules_can_ask_for_an_id_token_and_see_no_unknown_fact() {
    let world = world(Privilege::Setuid);
    world.reconfigure("run_as = \"$user_login\"", "when.ref_protected = true\nrun_as = \"$user_login\"");
    assert_refused(&world, &job(&world).config(), 1, "no-rule");
    world.reconfigure("when.ref_protected = true", "when.identity_source = \"id_token\"");
    assert_refused(&world, &job(&world).config(), 1, "no-rule");
    assert!(world.job().config().succeeded());
    world.reconfigure("when.identity_source = \"id_token\"", "when.pipeline_source = \"push\"");
    assert!(
        job(&world).id(7002).unknown_to_server().config().exit != Exit::Code(0),
        "the server does not know that job"
    );
}

#[needs(root)]
fn a_job_that_the_server_does_not_know_is_refused_with_what_to_add() {
    let world = world(Privilege::Setuid);
    let outcome = job(&world).unknown_to_server().config();
    let detail = assert_refused(&world, &outcome, 2, "job-answer");
    assert!(detail.contains("401"), "{detail}");
    // The decision's number is random.
    let mut lines = outcome.stderr.lines().filter(|line| !line.contains("decision: "));
    assert!(lines.all(|line| !line.contains("401")), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("id token"), "{}", outcome.stderr);
}

#[needs(root)]
fn an_answer_about_another_job_or_of_another_shape_is_refused() {
    let world = world(Privilege::Setuid);
    let foreign =
        format!("https://evil.example.org/physics/lattice/-/jobs/{}", world.job().known_facts().job_id);
    for (pointer, value, code) in [
        ("/pipeline/project_id", json!(99), "token-of-another-job"),
        ("/user/id", json!(99), "token-of-another-job"),
        ("/status", json!("success"), "job-answer"),
        ("/web_url", json!(foreign), "job-answer"),
        ("/user/username", json!("a\u{1b}[31m"), "job-answer"),
    ] {
        world.issuer().replace(JOB, with(&world, pointer, value));
        assert_refused(&world, &job(&world).config(), 1, code);
    }
    world.issuer().replace(JOB, with(&world, "/user/username", json!("root")));
    assert_refused(&world, &job(&world).config(), 1, "account");
    for (reply, exit) in [
        (Reply::new(200, "text/html", "<html>sign in</html>"), 1),
        (Reply::new(200, "application/json", "[]"), 1),
        (Reply::new(500, "text/plain", "no"), 2),
        (Reply::new(302, "text/plain", "").header("Location", "https://127.0.0.1/api/v4/job"), 2),
        (Reply::new(200, "application/json", "x".repeat(2 << 20)), 2),
    ] {
        world.issuer().replace(JOB, reply);
        assert_refused(&world, &job(&world).config(), exit, "job-answer");
    }
}

#[needs(root)]
fn a_server_that_is_down_or_not_itself_is_not_believed() {
    let mut world = world(Privilege::Setuid);
    let other = nunbird_tests::issuer::Issuer::start();
    world.write_file("/etc/nunbird/ca.pem", other.ca_pem(), "root", 0o644);
    let detail = assert_refused(&world, &job(&world).config(), 2, "job-answer");
    assert!(detail.contains("certificate") || detail.contains("ca_file"), "{detail}");
    world.issuer_mut().go_down();
    let begun = Instant::now();
    assert_refused(&world, &job(&world).config(), 2, "job-answer");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[needs(root)]
fn the_job_token_is_in_no_argument_environment_log_or_audit_line() {
    let world = world(Privilege::Setuid);
    let job = job(&world);
    let token = job.job_token_text().to_owned();
    world.issuer().replace(JOB, with(&world, "/tag", json!(false)).after(Duration::from_secs(2)));
    // Inspected while the server delays: the process that has sent it the token exists and waits.
    let (looked_at, found) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let begun = Instant::now();
            while world.issuer().requests(JOB) == 0 && begun.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
            processes_with(&token)
        });
        let outcome = job.config();
        assert!(outcome.succeeded(), "{}", outcome.log);
        assert!(!outcome.log.contains(&token));
        looking.join().expect("the watch")
    });
    assert!(looked_at.iter().any(|name| name == "nunbird-keys"), "{looked_at:?}");
    assert_eq!(found, Vec::<String>::new());
    assert!(world.audit().iter().all(|line| !line.to_string().contains(&token)));
}

/// Programs of Nunbird's, and those of them with the text in their arguments or environment.
fn processes_with(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut looked_at, mut found) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let comm = comm.trim_end();
        if !comm.starts_with("nunbird") {
            continue;
        }
        // The runner gives nunbird-auth the job's variables, the token among them, so its first image has it.
        let parts: &[&str] = if comm == "nunbird-auth" { &["cmdline"] } else { &["cmdline", "environ"] };
        for part in parts {
            let bytes = std::fs::read(entry.path().join(part)).unwrap_or_default();
            if String::from_utf8_lossy(&bytes).contains(text) {
                found.push(format!("{comm} {part}"));
            }
        }
        looked_at.push(comm.to_owned());
    }
    (looked_at, found)
}
