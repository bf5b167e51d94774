//! Attacks on the identity of jobs: one table, run against the installed program in every privilege
//! mode, with the first policy of the reference. None is admitted, and each is refused with its own
//! code.
//!
//! The victim is `alice`, who has an account on the machine. `mallory` has a GitLab user and none here.

use nunbird_tests::issuer::{self, Issuer, SigningKey};
use nunbird_tests::runner::Job;
use nunbird_tests::world::{Exit, Privilege, World};
use nunbird_tests::{JobToken, needs};
use serde_json::{Value, json};

/// One attack: the job as the attacker creates it, and the code of its refusal.
struct Attack {
    name: &'static str,
    code: &'static str,
    job: fn(Job<'_>) -> Job<'_>,
}

const fn attack(name: &'static str, code: &'static str, job: fn(Job<'_>) -> Job<'_>) -> Attack {
    Attack { name, code, job }
}

/// A job of a user whom GitLab has as a bot.
fn robot<'w>(job: Job<'w>, login: &str) -> Job<'w> {
    job.user(login).facts(|facts| facts.user_id = 4711).server_says("/user/bot", json!(true))
}

/// A job of mallory's.
fn mallory(job: Job<'_>) -> Job<'_> {
    job.user("mallory").facts(|facts| facts.user_id = 666)
}

fn state<'w>(job: Job<'w>, state: &str) -> Job<'w> {
    job.server_says("/user/state", json!(state))
}

fn claim<'w>(job: Job<'w>, name: &str, value: &str) -> Job<'w> {
    job.claim(name, json!(value))
}

/// The payload with one more claim before all others.
fn twice(token: JobToken, issuer: &Issuer) -> String {
    let key = issuer.key();
    let payload = String::from_utf8(token.payload()).expect("JSON");
    let payload = payload.replacen('{', "{\"user_login\":\"alice\",", 1);
    issuer::forge(&token.header_for(&key), payload.as_bytes(), |input| key.sign(input))
}

/// The job token that the runner sends in place of the job's own.
fn with_job_token<'w>(job: Job<'w>, token: &'static str) -> Job<'w> {
    job.response(move |response| response["token"] = json!(token))
}

const ATTACKS: &[Attack] = &[
    // Bots and service accounts (CVE-2026-107589).
    attack("a service account named alice", "bot", |job| robot(job, "alice")),
    attack("a service account named alice with alice's e-mail address and the owner's role", "bot", |job| {
        claim(claim(robot(job, "alice"), "user_email", "alice@example.org"), "user_access_level", "owner")
    }),
    attack("a service account that brings alice's name at an identity provider", "bot", |job| {
        robot(job, "alice").claim("user_identities", json!([{ "provider": "saml", "extern_uid": "alice" }]))
    }),
    attack("a service account of a subgroup named ada", "bot", |job| {
        robot(job, "ada").facts(|facts| facts.project_path = "physics/lattice/tools/deploy".to_owned())
    }),
    attack("a service account that acts for alice in a flow (composite identity)", "bot", |job| {
        robot(job, "alice").response(|response| response["job_info"]["scoped_user_id"] = json!(210))
    }),
    attack("a service account started by a schedule", "bot", |job| {
        robot(job, "alice").facts(|facts| facts.pipeline_source = "schedule".to_owned())
    }),
    attack("a service account by the generated name", "bot", |job| {
        robot(job, "service_account_project_31_0a1b2c")
    }),
    attack("a group's service account by the generated name", "bot", |job| {
        robot(job, "service_account_group_12_0a1b2c")
    }),
    attack("a service account by the generated name, called a person by the server", "bot", |job| {
        job.user("service_account_0a1b2c")
    }),
    attack("the bot of a project access token", "bot", |job| robot(job, "project_31_bot_0a1b2c")),
    attack("the bot of an older project access token", "bot", |job| robot(job, "project_31_bot1")),
    attack("the bot of a group access token", "bot", |job| robot(job, "group_12_bot_0a1b2c")),
    attack("the bot of a project access token, renamed alice", "bot", |job| robot(job, "alice").id(7055)),
    attack("the security policy bot", "bot", |job| robot(job, "gitlab-security-policy-bot-31")),
    attack("the support bot", "bot", |job| robot(job, "support-bot")),
    attack("the ghost of deleted users", "bot", |job| job.user("ghost")),
    attack("a server that keeps the kind of the user to itself", "user-kind", |job| job.server_omits("bot")),
    attack("a server that says null of the kind of the user", "user-kind", |job| {
        job.server_says("/user/bot", Value::Null)
    }),
    attack("a server that says the kind of the user in another type", "user-check", |job| {
        job.server_says("/user/bot", json!("false"))
    }),
    // Users whose identity has changed.
    attack("a blocked user", "user-inactive", |job| state(job, "blocked")),
    attack("a banned user", "user-inactive", |job| state(job, "banned")),
    attack("a deactivated user", "user-inactive", |job| state(job, "deactivated")),
    attack("a user whom the directory has blocked", "user-inactive", |job| state(job, "ldap_blocked")),
    attack("a user who waits for approval", "user-inactive", |job| state(job, "blocked_pending_approval")),
    attack("a server that keeps the user's state to itself", "user-kind", |job| job.server_omits("state")),
    attack("a user who was alice when the token was made", "user-mismatch", |job| {
        job.server_says("/user/username", json!("mallory"))
    }),
    attack(
        "a user who has taken the deleted name alice, with the old alice's token",
        "user-mismatch",
        |job| job.server_says("/user/id", json!(666)),
    ),
    attack("a new alice's job with the old alice's token", "token-of-another-job", |job| {
        job.response(|response| response["job_info"]["user_id"] = json!(666))
    }),
    // Another user's proof.
    attack("alice's token of another job", "token-of-another-job", |job| claim(job, "job_id", "7002")),
    attack("alice's token of another project", "token-of-another-job", |job| {
        claim(job, "job_project_id", "32")
    }),
    attack("alice's token of another pipeline", "token-of-another-job", |job| {
        claim(job, "pipeline_id", "502")
    }),
    attack("alice's token in mallory's job", "token-of-another-job", |job| {
        let alices = job.token_text();
        mallory(job).id(7666).token(&alices)
    }),
    attack("alice's token as a variable of mallory's", "account", |job| {
        let alices = job.token_text();
        mallory(job).id(7666).variable("SITE_ID_TOKEN", &alices)
    }),
    attack("mallory's login as alice's in variables", "account", |job| {
        mallory(job).variable("GITLAB_USER_LOGIN", "alice").variable("GITLAB_USER_ID", "210")
    }),
    attack("no token at all, with alice's job token", "no-token", |job| job.without_token()),
    attack("the job token of another job", "user-check", |job| {
        with_job_token(job, "glcbt-64_nbtJobToken7999")
            .edit_server_answer(|answer| answer["id"] = json!(7999))
    }),
    attack("a job token that the server does not know", "user-check", |job| job.unknown_to_server()),
    attack("an answer about another job of alice's", "user-check", |job| job.server_says("/id", json!(7002))),
    attack("an answer about another project's job", "user-check", |job| {
        job.server_says("/pipeline/project_id", json!(32))
    }),
    attack("an answer about a job that is over", "user-check", |job| {
        job.server_says("/status", json!("canceled"))
    }),
    // Another server, another purpose, another time.
    attack("a token that another server has signed", "token-unknown-key", |job| {
        job.forge(|token, _| token.sign(&SigningKey::rsa()))
    }),
    attack("a token of another server under this server's key", "token-issuer", |job| {
        claim(job, "iss", "https://gitlab.com")
    }),
    attack("a token for another service", "token-audience", |job| {
        claim(job, "aud", "https://vault.example.org")
    }),
    attack("alice's token of a login to a web page", "token-audience", |job| {
        job.forge(|token, issuer| token.claim("aud", json!("grafana")).sign(&issuer.login_key()))
    }),
    attack("a token without a signature", "token-malformed", |job| job.forge(|token, _| token.unsigned())),
    attack("a token signed with the public key as a secret", "token-unknown-key", |job| {
        job.forge(|token, issuer| token.hs256(&issuer.key(), issuer.key().public_pem().as_bytes()))
    }),
    attack("a token that brings its own key", "token-header", |job| {
        let key = SigningKey::rsa().jwk();
        job.header("jwk", key)
    }),
    attack("a token of yesterday", "token-expired", |job| job.claim("exp", json!(issuer::now() - 86_400))),
    attack("a token of tomorrow", "token-not-yet-valid", |job| {
        job.claim("nbf", json!(issuer::now() + 86_400))
    }),
    attack("two logins in one token", "token-claims", |job| mallory(job).forge(twice)),
    attack("a login in a list", "token-claims", |job| job.claim("user_login", json!(["alice"]))),
    // Logins that look like another name.
    attack("Alice", "account", |job| job.user("Alice")),
    attack("alice with a space behind", "account", |job| job.user("alice ")),
    attack("alice in letters that look alike", "account", |job| job.user("аlice")),
    attack("alice with a character that turns the line", "token-claims", |job| job.user("a\u{202e}lice")),
    attack("alice's uid", "account", |job| job.user("4101")),
    attack("a path", "account", |job| job.user("../alice")),
    attack("an option", "account", |job| job.user("-alice")),
    attack("root", "account", |job| job.user("root")),
    attack("another name of root", "account", |job| job.user("rootalias")),
    attack("a second name of alice's uid", "account", |job| job.user("twin")),
    attack("an account of the system", "account", |job| job.user("queue")),
    attack("the account that owns the keys", "account", |job| job.user("nunbird")),
    // Ways to start a pipeline that do not change the user.
    attack("mallory's merge request from a fork", "account", |job| {
        mallory(job)
            .facts(|facts| facts.pipeline_source = "merge_request_event".to_owned())
            .claim("project_id", json!("99"))
            .claim("project_path", json!("mallory/lattice"))
    }),
    attack("a schedule of alice's that mallory has taken over", "account", |job| {
        mallory(job).facts(|facts| facts.pipeline_source = "schedule".to_owned())
    }),
    attack("a trigger token of mallory's", "account", |job| {
        mallory(job).facts(|facts| facts.pipeline_source = "trigger".to_owned())
    }),
    attack("a pipeline of alice's that mallory retries", "account", mallory),
];

/// An active person of GitLab who has this login by now.
fn person<'w>(job: Job<'w>, login: &str, id: u64) -> Job<'w> {
    job.user(login).facts(move |facts| facts.user_id = id)
}

/// Attacks on the account of alice, GitLab user 210, after one of her jobs has run.
const ON_A_KNOWN_ACCOUNT: &[Attack] = &[
    attack("a person who has renamed themselves alice", "pin-mismatch", |job| person(job, "alice", 666)),
    attack("a person whom GitLab gave the deleted name alice", "pin-mismatch", |job| {
        person(job, "alice", 999)
    }),
    attack("an owner of the project who has renamed themselves alice", "pin-mismatch", |job| {
        claim(person(job, "alice", 666), "user_access_level", "owner")
    }),
    attack("a renamed person with alice's address", "pin-mismatch", |job| {
        claim(person(job, "alice", 666), "user_email", "alice@example.org")
    }),
    attack("a renamed person's merge request", "pin-mismatch", |job| {
        person(job, "alice", 666).facts(|facts| facts.pipeline_source = "merge_request_event".to_owned())
    }),
    attack("a service account that took the name of a known person", "pin-mismatch", |job| {
        robot(job, "alice")
    }),
    attack("alice's token with a server that names another user", "user-mismatch", |job| {
        job.server_says("/user/id", json!(666))
    }),
];

/// The configuration whose rules are those of the reference's first example.
fn use_documented_policy(world: &World) {
    let reference = include_str!("../../docs/policy-reference.md");
    let examples = reference.split("## Examples").nth(1).expect("examples");
    let example = examples.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let (_, rules) = example.expect("an example").split_once("[[rule]]").expect("a rule");
    assert!(rules.contains("run_as = \"$user_login\"") && !rules.contains("when"), "{rules}");
    let text = world.configuration();
    let (head, _) = text.split_once("[[rule]]").expect("a rule");
    world.configure(&format!("{head}[[rule]]{rules}"));
}

/// The code in brackets behind the refusal's sentence.
fn code(stderr: &str) -> &str {
    let end = stderr.split_once("]\n").map_or("", |(before, _)| before);
    end.rsplit_once('[').map_or("", |(_, code)| code)
}

fn attacks_fail(privilege: Privilege) {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    use_documented_policy(&world);
    all_fail(&world, ATTACKS);
    // The same machine does admit alice.
    let admitted = world.job();
    let mut session = admitted.begin();
    let outcome = session.config();
    assert!(outcome.succeeded(), "{privilege:?}: {}", outcome.log);
    assert_eq!(world.audit().pop().expect("a line")["account"], "alice");
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    all_fail(&world, ON_A_KNOWN_ACCOUNT);
    assert!(world.job().config().succeeded(), "{privilege:?}: alice herself");
}

#[track_caller]
fn all_fail(world: &World, attacks: &[Attack]) {
    let mut wrong = Vec::new();
    for (number, Attack { name, code: expected, job }) in (8000..).zip(attacks) {
        let job = job(world.job().id(number));
        let outcome = job.config();
        let line = world.audit().pop().unwrap_or_default();
        let refused = matches!(outcome.exit, Exit::Code(1 | 2))
            && code(&outcome.stderr) == *expected
            && outcome.stdout.is_empty()
            && world.records().is_empty()
            && (&line["outcome"], &line["code"]) == (&json!("denied"), &json!(expected));
        if !refused {
            wrong.push(format!("{name}: wanted {expected}: {:?} {}", outcome.exit, outcome.log));
        }
    }
    assert!(wrong.is_empty(), "{:?}\n{}", world.privilege(), wrong.join("\n"));
}

#[needs(root)]
fn no_attack_on_an_identity_is_admitted_by_a_setuid_program() {
    attacks_fail(Privilege::Setuid);
}

#[needs(root)]
fn no_attack_on_an_identity_is_admitted_by_a_program_with_file_capabilities() {
    attacks_fail(Privilege::FileCaps);
}

#[needs(root)]
fn no_attack_on_an_identity_is_admitted_under_a_root_runner() {
    attacks_fail(Privilege::RootRunner);
}

#[test]
fn the_table_has_at_least_forty_attacks_and_each_has_its_own_name() {
    let attacks = || ATTACKS.iter().chain(ON_A_KNOWN_ACCOUNT);
    let names: std::collections::BTreeSet<&str> = attacks().map(|attack| attack.name).collect();
    assert_eq!(names.len(), attacks().count());
    assert!(names.len() >= 40, "{}", names.len());
}
