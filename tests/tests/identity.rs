//! Tokens that prove nothing, tried with the installed setuid program: each is refused, explained,
//! and audited.

use nunbird_tests::issuer::{self, Reply, SigningKey};
use nunbird_tests::records;
use nunbird_tests::runner::{Job, RunnerVersion, StageOutcome};
use nunbird_tests::world::{Exit, Privilege, World};
use nunbird_tests::{JobToken, needs};
use serde_json::json;

/// The code in brackets behind the refusal's sentence.
fn code(outcome: &StageOutcome) -> &str {
    let end = outcome.stderr.split_once("]\n").map_or("", |(before, _)| before);
    end.rsplit_once('[').map_or("", |(_, code)| code)
}

/// Asserts that `config` ended with the build failure's code, printed nothing for the runner to
/// parse, left no record, and recorded the cause.
#[track_caller]
fn assert_denied(world: &World, job: &Job<'_>, expected: &str) {
    let before = world.audit().len();
    let outcome = job.config();
    assert_eq!(outcome.exit, Exit::Code(1), "{expected}: {}", outcome.log);
    assert_eq!(code(&outcome), expected, "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "", "{expected}");
    assert!(world.records().is_empty(), "{expected}");
    let audit = world.audit();
    assert_eq!(audit.len(), before + 1, "{expected}");
    let line = audit.last().expect("a line");
    assert_eq!((&line["outcome"], &line["code"]), (&json!("denied"), &json!(expected)));
    let decision = line["decision_id"].as_str().expect("an id");
    assert!(
        outcome.stderr.contains(decision),
        "the job log and the audit file share the id: {}",
        outcome.stderr
    );
}

fn world() -> World {
    let world = World::new(Privilege::Setuid);
    let fetched = world.refresh_keys();
    assert!(fetched.succeeded(), "{fetched:?}");
    world
}

#[needs(root)]
fn a_job_without_a_token_with_an_empty_one_or_with_rubbish_is_refused() {
    let world = world();
    assert_denied(&world, &world.job().without_token(), "no-token");
    assert_denied(&world, &world.job().token(""), "token-empty");
    for text in ["x", "a.b.c.d", "é.é.é", "a b.c.d"] {
        assert_denied(&world, &world.job().token(text), "token-malformed");
    }
    let huge = format!("{}.b.c", "a".repeat(1 << 20));
    // Such a variable would not fit into an environment; a response file can contain it.
    let edited = world.job().token("tiny").response(move |response| {
        for variable in response["variables"].as_array_mut().expect("variables") {
            if variable["key"] == "SITE_ID_TOKEN" {
                variable["value"] = json!(huge);
            }
        }
    });
    assert_denied(&world, &edited, "token-malformed");
}

#[needs(root)]
fn a_token_out_of_its_time_is_refused() {
    let world = world();
    let now = issuer::now();
    assert_denied(&world, &world.job().claim("exp", json!(now - 61)), "token-expired");
    assert_denied(&world, &world.job().claim("nbf", json!(now + 120)), "token-not-yet-valid");
    assert_denied(&world, &world.job().claim("iat", json!(now + 120)), "token-not-yet-valid");
    assert_eq!(
        world.job().claim("exp", json!(now - 30)).config().exit,
        Exit::Code(0),
        "a small skew is allowed"
    );
}

#[needs(root)]
fn a_token_for_another_audience_or_by_another_issuer_is_refused() {
    let world = world();
    assert_denied(&world, &world.job().claim("aud", json!("https://other.example.org")), "token-audience");
    assert_denied(&world, &world.job().claim("aud", json!([])), "token-audience");
    assert_denied(&world, &world.job().claim("iss", json!("https://gitlab.com")), "token-issuer");
    let login = |token: JobToken, issuer: &nunbird_tests::Issuer| {
        token.claim("aud", json!("grafana")).sign(&issuer.login_key())
    };
    assert_denied(&world, &world.job().forge(login), "token-audience");
}

#[needs(root)]
fn a_token_signed_by_an_unknown_key_is_refused_after_asking_the_server_once() {
    let world = world();
    world.allow_refresh();
    let asked = world.issuer().requests(issuer::JWKS);
    let stranger = SigningKey::rsa();
    assert_denied(&world, &world.job().forge(move |token, _| token.sign(&stranger)), "token-unknown-key");
    assert_eq!(world.issuer().requests(issuer::JWKS), asked + 1);
    assert_denied(&world, &world.job().forge(|token, _| token.unsigned()), "token-malformed");
    // The server may not be queried again, so that it may be a new key, as far as this host knows.
    let symmetric = world.job().forge(|token, issuer| token.hs256(&issuer.key(), b"secret")).config();
    assert_eq!((symmetric.exit, code(&symmetric)), (Exit::Code(2), "token-unknown-key"), "{}", symmetric.log);
    world.allow_refresh();
    assert_denied(
        &world,
        &world.job().forge(|token, issuer| token.hs256(&issuer.key(), b"secret")),
        "token-unknown-key",
    );
    let asked = asked + 1;
    assert_eq!(world.issuer().requests(issuer::JWKS), asked + 1, "not more than once in five seconds");
}

/// What gitlab-runner tries three times, three seconds apart.
#[needs(root)]
fn a_key_that_is_new_right_after_a_fetch_is_the_systems_failure_until_the_server_may_be_asked() {
    let world = world();
    world.allow_refresh();
    let stranger = SigningKey::rsa();
    // An unknown key stays unknown, and causes a fetch of the keys.
    assert_denied(&world, &world.job().forge(move |token, _| token.sign(&stranger)), "token-unknown-key");
    world.issuer().rotate();
    let asked = world.issuer().requests(issuer::JWKS);
    let barred = world.job().id(7002).config();
    assert!(barred.stderr.contains("[token-unknown-key]"), "{}", barred.log);
    assert_eq!(
        (barred.exit, world.issuer().requests(issuer::JWKS)),
        (Exit::Code(2), asked),
        "{}",
        barred.log
    );
    let job = world.job().id(7002);
    let begun = std::time::Instant::now();
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3));
        let tried = job.config();
        if tried.exit == Exit::Code(0) {
            break;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{}", tried.log);
    }
}

#[needs(root)]
fn a_new_key_of_the_server_is_fetched_when_a_token_needs_it() {
    let world = world();
    assert_eq!(world.job().config().exit, Exit::Code(0));
    world.issuer().rotate();
    world.allow_refresh();
    let outcome = world.job().id(7002).config();
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
}

#[needs(root)]
fn a_token_made_before_the_server_changed_its_key_still_counts() {
    let world = world();
    let old = world.issuer().rotate();
    world.allow_refresh();
    assert!(world.refresh_keys().succeeded());
    let outcome = world.job().forge(move |token, _| token.sign(&old)).config();
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
}

#[needs(root)]
fn a_header_that_gitlab_does_not_send_is_refused_though_the_signature_is_good() {
    let world = world();
    let key = world.issuer().key().jwk();
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("jwk", key),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("crit", json!(["exp"])),
    ] {
        assert_denied(&world, &world.job().header(name, value), "token-header");
    }
}

#[needs(root)]
fn ids_as_integers_and_as_strings_are_the_same_ids() {
    let world = world();
    for (name, value) in [("job_id", json!(7001)), ("user_id", json!(210)), ("runner_id", json!("5"))] {
        let outcome = world.job().claim(name, value).config();
        assert_eq!(outcome.exit, Exit::Code(0), "{name}: {}", outcome.log);
        assert!(!outcome.stdout.is_empty(), "{name}");
    }
}

#[needs(root)]
fn claims_in_other_types_or_twice_or_in_an_array_are_refused() {
    let world = world();
    for (name, value) in [
        ("job_id", json!(7001.5)),
        ("job_id", json!(-7001)),
        ("user_id", json!(true)),
        ("exp", json!("1999999999")),
        ("runner_id", json!("05")),
        ("runner_id", json!(0)),
        ("user_login", json!(["alice"])),
        ("user_login", json!(null)),
    ] {
        assert_denied(&world, &world.job().claim(name, value), "token-claims");
    }
    assert_denied(&world, &world.job().without_claim("job_id"), "token-claims");
    let twice = |token: JobToken, issuer: &nunbird_tests::Issuer| {
        let key = issuer.key();
        let payload =
            String::from_utf8(token.payload()).expect("JSON").replacen('{', "{\"user_login\":\"bob\",", 1);
        issuer::forge(&token.header_for(&key), payload.as_bytes(), |input| key.sign(input))
    };
    assert_denied(&world, &world.job().forge(twice), "token-claims");
    let array = |token: JobToken, issuer: &nunbird_tests::Issuer| {
        let key = issuer.key();
        let claims: serde_json::Value = serde_json::from_slice(&token.payload()).expect("JSON");
        let values: Vec<_> = claims.as_object().expect("an object").values().cloned().collect();
        issuer::forge(&token.header_for(&key), json!(values).to_string().as_bytes(), |input| key.sign(input))
    };
    assert_denied(&world, &world.job().forge(array), "token-claims");
}

#[needs(root)]
fn control_and_bidi_characters_are_refused_in_every_claim_and_never_reach_a_log() {
    let world = world();
    for claim in ["user_login", "project_path", "namespace_path", "ref", "pipeline_source", "environment"] {
        for text in ["a\0b", "a\nb", "a\u{1b}[2Jb", "a\u{202e}b"] {
            assert_denied(&world, &world.job().claim(claim, json!(text)), "token-claims");
        }
    }
    let audit = std::fs::read_to_string(world.host_path(&world.paths().audit)).expect("the audit file");
    assert!(!audit.contains('\u{1b}') && !audit.contains('\u{202e}') && !audit.contains('\0'));
}

#[needs(root)]
fn a_token_of_another_job_project_pipeline_user_or_runner_is_a_replay() {
    let world = world();
    let others = world.job().id(7002).user("bob").token_text();
    assert_denied(&world, &world.job().token(&others), "token-of-another-job");
    for (claim, value) in
        [("job_project_id", json!("32")), ("pipeline_id", json!("502")), ("user_id", json!("211"))]
    {
        assert_denied(&world, &world.job().claim(claim, value), "token-of-another-job");
    }
    world.reconfigure("audience =", "runner_ids = [6]\naudience =");
    assert_denied(&world, &world.job(), "runner-ids");
    let detail = world.audit().last().expect("a line")["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains("is of runner 5; server `") && detail.contains("runner_ids = [6]"), "{detail}");
    world.reconfigure("runner_ids = [6]", "runner_ids = [5, 6]");
    assert_eq!(world.job().config().exit, Exit::Code(0));
}

#[needs(root)]
fn a_token_counts_for_jobs_of_the_server_that_signed_it_and_at_most_for_a_months_job() {
    let world = world();
    let at = |host: &'static str| {
        world.job().response(move |response| {
            response["git_info"]["repo_url"] = json!(format!("https://gitlab-ci-token:x@{host}/hpc/app.git"));
        })
    };
    assert_eq!(at("other.example.org").config().exit, Exit::Code(0), "there is one server alone");
    let other =
        "[[gitlab]]\nname = \"other\"\nurl = \"https://other.example.org\"\naudience = \"x\"\n\n[job]\n";
    world.reconfigure("[job]\n", other);
    let session = world.job();
    let mut session = session.begin();
    assert!(session.config().succeeded() && session.cleanup().succeeded());
    for record in world.records() {
        std::fs::remove_file(record).expect("removed");
    }
    assert_denied(&world, &at("other.example.org"), "token-of-another-server");
    assert_denied(&world, &at("git.example.org"), "token-of-another-server");
    world
        .reconfigure("audience = \"x\"", "audience = \"x\"\nrepository_urls = [\"https://git.example.org\"]");
    assert_denied(&world, &at("git.example.org"), "token-of-another-server");
    let job = world.job().claim("exp", json!(u64::MAX));
    assert_eq!(job.config().exit, Exit::Code(0));
    let spec = records::spec(&world.records().pop().expect("a record"));
    let until = spec.expires_at - spec.admitted_at;
    assert!((31 * 86_400..33 * 86_400).contains(&until), "{until}");
}

#[needs(root)]
fn a_replay_is_refused_under_runners_that_send_fewer_ids() {
    let world = world();
    let others = world.job().id(7002).user("bob").token_text();
    for version in [RunnerVersion::V16_11, RunnerVersion::V17_11, RunnerVersion::V18_6, RunnerVersion::V19_3]
    {
        assert_denied(&world, &world.job().version(version).token(&others), "token-of-another-job");
        assert_eq!(world.job().version(version).config().exit, Exit::Code(0));
        let session = world.job().version(version);
        let mut session = session.begin();
        assert_eq!(session.config().exit, Exit::Code(0));
        assert_eq!(session.cleanup().exit, Exit::Code(0));
        for record in world.records() {
            std::fs::remove_file(record).expect("a record");
        }
    }
}

#[needs(root)]
fn of_three_token_entries_the_one_of_this_job_counts() {
    let world = world();
    let others = world.job().id(7002).user("bob").token_text();
    let own = world.job().token_text();
    let job =
        world.job().token("rubbish").extra_token("SITE_ID_TOKEN", &others).extra_token("SITE_ID_TOKEN", &own);
    let outcome = job.config();
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert_eq!(world.audit().last().expect("a line")["user_login"], "alice");
}

#[needs(root)]
fn variables_of_the_ci_user_change_nothing() {
    let world = world();
    let others = world.job().id(7002).user("bob").token_text();
    let job = world
        .job()
        .variable("SITE_ID_TOKEN", &others)
        .variable("CI_JOB_ID", "7002")
        .variable("GITLAB_USER_LOGIN", "bob")
        .variable("CI_SERVER_URL", "https://evil.example")
        .variable("NUNBIRD_DECISION_ID", "x")
        .variable("TMPDIR", "/tmp");
    let outcome = job.config();
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert_eq!(world.audit().last().expect("a line")["account"], "alice");
}

#[needs(root)]
fn other_names_of_the_token_are_known_and_can_be_configured() {
    let world = world();
    for name in ["NUNBIRD_ID_TOKEN", "CI_JOB_JWT"] {
        assert_eq!(world.job().token_variable(name).config().exit, Exit::Code(0), "{name}");
        for record in world.records() {
            std::fs::remove_file(record).expect("a record");
        }
    }
    assert_denied(&world, &world.job().token_variable("OLCF_ID_TOKEN"), "no-token");
    world.reconfigure("[audit]", "[identity]\ntoken_variables = [\"OLCF_ID_TOKEN\", \"OTHER\"]\n\n[audit]");
    assert_eq!(world.job().token_variable("OLCF_ID_TOKEN").config().exit, Exit::Code(0));
}

#[needs(root)]
fn a_server_that_answers_rubbish_gives_no_keys_and_that_is_this_hosts_trouble() {
    let world = World::new(Privilege::Setuid);
    world.issuer().replace(issuer::JWKS, Reply::new(200, "application/json", "{\"keys\":[]}"));
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert_eq!(code(&outcome), "no-keys");
    world.issuer().restore(issuer::JWKS);
    world.allow_refresh();
    assert_eq!(world.job().config().exit, Exit::Code(0));
}
