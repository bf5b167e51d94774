//! Conditions on forks and identity providers, and exceptions, decided by the installed program.

use nunbird_tests::needs;
use nunbird_tests::runner::{Job, StageOutcome, assert_refused};
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::{Value, json};

const AS_THEMSELVES: &str = "run_as = \"$user_login\"";
const DENY_UNLESS_OWN: &str =
    "[[rule]]\nname = \"own sources\"\nunless = { fork = false }\ndeny = \"no forks\"\n\n";

fn world(privilege: Privilege) -> World {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    world
}

/// Puts a rule before all others.
fn first_rule(world: &World, rule: &str) {
    let first = "[[rule]]\nname = \"nobody from outside\"";
    world.reconfigure(first, &format!("{rule}{first}"));
}

#[track_caller]
fn assert_admitted(world: &World, outcome: &StageOutcome, fork: Option<bool>) {
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    let audit = world.audit();
    let event = audit.last().expect("a line");
    assert_eq!((event["account"].as_str(), event["fork"].as_bool()), (Some("alice"), fork), "{event}");
}

/// A pipeline of a merge request, by a server that names both projects.
fn merge_request(world: &World) -> Job<'_> {
    world.job().facts(|facts| facts.pipeline_source = "merge_request_event".to_owned())
}

/// The same from a fork: everything but `job_…` belongs to the fork.
fn from_fork(world: &World) -> Job<'_> {
    merge_request(world)
        .claim("project_id", json!("9"))
        .claim("project_path", json!("mallory/app"))
        .claim("namespace_path", json!("mallory"))
}

/// As a server before 18.4 signs it.
fn of_older_server(job: Job<'_>) -> Job<'_> {
    ["job_project_id", "job_project_path", "job_namespace_id", "job_namespace_path"]
        .into_iter()
        .fold(job, Job::without_claim)
}

#[needs(root, in_each = Privilege::ALL)]
fn a_merge_request_from_a_fork_is_denied_in_every_mode_where_a_rule_says_so(privilege: Privilege) {
    let world = world(privilege);
    assert_admitted(&world, &from_fork(&world).config(), Some(true));
    first_rule(&world, "[[rule]]\nname = \"no forks\"\nwhen = { fork = true }\ndeny = \"no forks\"\n\n");
    assert_refused(&world, &from_fork(&world).id(8001).config(), "rule", "no forks");
    assert_admitted(&world, &merge_request(&world).id(8002).config(), Some(false));
    assert_admitted(&world, &world.job().id(8003).config(), Some(false));
}

#[needs(root)]
fn a_rule_for_own_sources_fits_no_job_whose_sources_nobody_knows() {
    let world = world(Privilege::Setuid);
    world.reconfigure(AS_THEMSELVES, "unless = { fork = true }\nrun_as = \"$user_login\"");
    assert_admitted(&world, &world.job().config(), Some(false));
    assert_admitted(&world, &merge_request(&world).id(8001).config(), Some(false));
    assert_admitted(&world, &of_older_server(world.job()).id(8002).config(), Some(false));
    assert_refused(&world, &from_fork(&world).config(), "no-rule", "rules fits");
    assert_refused(&world, &of_older_server(merge_request(&world)).config(), "no-rule", "rules fits");
}

#[needs(root)]
fn a_denial_of_all_but_own_sources_holds_where_nobody_knows_them() {
    let world = world(Privilege::Setuid);
    first_rule(&world, DENY_UNLESS_OWN);
    assert_admitted(&world, &world.job().config(), Some(false));
    assert_refused(&world, &from_fork(&world).config(), "rule", "own sources");
    assert_refused(&world, &of_older_server(merge_request(&world)).config(), "rule", "own sources");
}

#[needs(root)]
fn the_answer_to_a_job_token_never_passes_for_own_sources_of_a_merge_request() {
    let world = world(Privilege::Setuid);
    world.reconfigure("[audit]", "[identity]\nsources = [\"job_token\"]\n\n[audit]");
    first_rule(&world, DENY_UNLESS_OWN);
    let known = |job: Job<'_>| {
        world.issuer().know_job(job.job_token_text(), world.issuer().job_entity(job.known_facts()));
        job.config()
    };
    assert_admitted(&world, &known(world.job().without_token()), Some(false));
    for git_ref in ["refs/merge-requests/4/head", "main"] {
        let job = merge_request(&world).without_token().facts(|facts| facts.git_ref = git_ref.to_owned());
        assert_refused(&world, &known(job), "rule", "own sources");
    }
    world.reconfigure(
        "unless = { fork = false }\ndeny = \"no forks\"",
        "unless = { fork = true }\nrun_as = \"bob\"",
    );
    let job = merge_request(&world).without_token();
    assert_admitted(&world, &known(job), None);
}

#[needs(root)]
fn a_rule_that_asks_for_an_identity_of_the_sites_provider_fits_nobody_without_one() {
    let world = world(Privilege::Setuid);
    world.reconfigure(AS_THEMSELVES, "when.identity = \"ldap*\"\nrun_as = \"$user_login\"");
    let with = |identities| world.job().claim("user_identities", identities).config();
    let ldap = json!({"provider": "ldapmain", "extern_uid": "uid=alice,ou=people"});
    let github = json!({"provider": "github", "extern_uid": "17"});
    assert_eq!(with(json!([github, ldap])).exit, Exit::Code(0));
    for identities in [json!([github]), json!([]), json!([{"provider": "ldapmain", "extern_uid": ""}])] {
        assert_refused(&world, &with(identities), "no-rule", "rules fits");
    }
    assert_refused(&world, &world.job().config(), "no-rule", "rules fits");
}

#[needs(root)]
fn an_exception_about_the_local_account_keeps_members_out_and_needs_its_group() {
    let world = world(Privilege::Setuid);
    world.reconfigure(AS_THEMSELVES, "unless.local_group = \"lattice\"\nrun_as = \"$user_login\"");
    assert_refused(&world, &world.job().config(), "no-rule", "rules fits");
    assert_eq!(world.job().user("bob").config().exit, Exit::Code(0));
    world.reconfigure("\"lattice\"", "\"nbt_no_such_group\"");
    assert_refused(&world, &world.job().id(8001).user("bob").config(), "group", "nbt_no_such_group");
}

/// The account that nunbirdctl prints, or `denied`.
fn explain(world: &World, token: &str) -> String {
    world.write_file("/etc/nunbird/token", token, "root", 0o600);
    let program = world.paths().bin.join("nunbirdctl");
    let words =
        ["explain", "--token", "/etc/nunbird/token", "--format", "json", "--runner-user", "nbt_runner"];
    let done = world.run(&world.program("root", program, &words));
    let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    answer["account"].as_str().unwrap_or("denied").to_owned()
}

#[needs(root)]
fn explain_says_of_forks_identities_and_exceptions_what_the_program_does() {
    let world = world(Privilege::Setuid);
    let mut rule = AS_THEMSELVES.to_owned();
    let mut seen = std::collections::BTreeSet::new();
    for (index, lines) in [
        "when.fork = true",
        "when.fork = false",
        "unless.fork = true",
        "unless.fork = false",
        "unless.identity = \"github\"",
        "unless.local_group = \"lattice\"",
        "when.identity = \"*\"\nunless.ref_type = \"tag\"",
    ]
    .into_iter()
    .enumerate()
    {
        let next = format!("{lines}\n{AS_THEMSELVES}");
        world.reconfigure(&rule, &next);
        rule = next;
        let identity = json!([{"provider": "github", "extern_uid": "17"}]);
        let jobs = [
            world.job(),
            merge_request(&world),
            from_fork(&world),
            of_older_server(merge_request(&world)),
            of_older_server(world.job()).user("bob"),
            world.job().claim("user_identities", identity),
        ];
        for (id, job) in (8000 + 10 * index as u64..).zip(jobs) {
            let job = job.id(id);
            let outcome = job.config();
            let event = world.audit().pop().expect("an event");
            let decided = event["account"].as_str().unwrap_or("denied").to_owned();
            assert_eq!(outcome.exit == Exit::Code(0), decided != "denied", "{}", outcome.log);
            assert_eq!(explain(&world, &job.token_text()), decided, "{lines}: {event}");
            seen.insert((index, decided));
        }
    }
    assert_eq!(seen.iter().filter(|(_, decided)| decided == "denied").count(), 7, "{seen:?}");
    assert!(seen.len() >= 13, "{seen:?}");
}
