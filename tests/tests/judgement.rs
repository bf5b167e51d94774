//! The site's validation program and `authorized_projects`, in a real job.

use nunbird_tests::needs;
use nunbird_tests::runner::StageOutcome;
use nunbird_tests::world::{Exit, Privilege, World};

const SCRIPT: &str = "/etc/nunbird/validate";

fn world(privilege: Privilege) -> World {
    let world = World::new(privilege);
    assert!(world.refresh_keys().succeeded());
    world
}

/// A world whose program is this shell script, with a rule that uses its answer.
fn validating(privilege: Privilege, script: &str, more: &str) -> World {
    let world = world(privilege);
    world.write_file(SCRIPT, format!("#!/bin/sh\n{script}\n"), "root", 0o755);
    let table = format!(
        "[validation]\nscript = \"{SCRIPT}\"\nuser = \"nunbird\"\nuser_variable = \"SERVICE_USER\"\ntimeout = \"3s\"\n{more}\n\n[audit]"
    );
    world.reconfigure("[audit]", &table);
    world.reconfigure("run_as = \"$user_login\"", "run_as = \"$validated\"");
    world
}

#[track_caller]
fn assert_runs_as(world: &World, outcome: &StageOutcome, account: &str) {
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert_eq!(world.audit().last().expect("a line")["account"], account);
}

#[track_caller]
fn assert_refused(world: &World, outcome: &StageOutcome, code: &str) -> String {
    assert_ne!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert!(outcome.stderr.contains(&format!("[{code}]")), "{}", outcome.stderr);
    world.audit().last().expect("a line")["detail"].as_str().unwrap_or("").to_owned()
}

#[needs(root)]
fn a_program_of_the_site_gets_the_server_and_the_namespace_of_the_token() {
    let script = r#"shown="$JWT_ISS $JWT_NAMESPACE_ID $JWT_PROJECT_ID $JWT_USER_EMAIL"
    [ "$shown" = "127.0.0.1 12 31 alice@example.org" ] || { echo "$shown" >&2; exit 3; }"#;
    let world = validating(Privilege::Setuid, script, "");
    assert_runs_as(&world, &world.job().config(), "alice");
    assert_refused(
        &world,
        &world.job().claim("job_namespace_id", serde_json::json!("13")).config(),
        "validation",
    );
}

#[needs(root)]
fn a_program_of_the_site_maps_users_and_lets_them_ask_for_service_accounts() {
    let script = r#"case "$#:$1:$2" in
      1:alice:) echo '{"username": "ada"}';;
      1:bob:) ;;
      2:ada:alice) ;;
      *) echo "no $*" >&2; exit 3;;
    esac"#;
    for privilege in Privilege::PRIVILEGED {
        let world = validating(privilege, script, "");
        assert_runs_as(&world, &world.job().config(), "ada");
        assert_eq!(world.audit().last().expect("a line")["validated"], "ada");
        assert_runs_as(&world, &world.job().user("bob").config(), "bob");
        assert_runs_as(&world, &world.job().variable("SERVICE_USER", "ada").config(), "ada");
        assert_runs_as(&world, &world.job().user("bob").variable("SERVICE_USER", "").config(), "bob");
        let refused = world.job().user("bob").variable("SERVICE_USER", "ada").config();
        assert!(assert_refused(&world, &refused, "validation").contains("no ada bob"));
        assert!(!refused.stderr.contains("no ada bob"), "{}", refused.stderr);
        assert_refused(&world, &world.job().variable("SERVICE_USER", "-x").config(), "validation");
        assert_refused(&world, &world.job().variable("SERVICE_USER", "a\u{1b}[31m").config(), "validation");
    }
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn while_the_program_runs_the_privileged_one_holds_two_capabilities(privilege: Privilege) {
    let script = "auth=$(sed -n 's/^PPid:.//p' /proc/$PPID/status); grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/$auth/status >&2; exit 1";
    let world = validating(privilege, script, "");
    let detail = assert_refused(&world, &world.job().config(), "validation");
    let [none, both] = ["0000000000000000", "00000000000000c0"];
    // The detail has tabs escaped.
    let held: Vec<&str> = detail.lines().filter_map(|line| Some(line.rsplit_once('}')?.1)).collect();
    assert_eq!(held, [none, both, both, none], "{detail}");
}

#[needs(root)]
fn no_answer_of_the_program_goes_past_the_invariants() {
    let system = ["root", "nunbird", "-x"].map(|name| (name, "validation-program"));
    let unfit = ["daisy", "wheely", "nbt_runner", "stranger", "queue"].map(|name| (name, "account"));
    for (name, code) in system.into_iter().chain(unfit) {
        let world = validating(Privilege::Setuid, &format!("echo '{{\"username\": \"{name}\"}}'"), "");
        assert_refused(&world, &world.job().config(), code);
    }
}

#[needs(root)]
fn a_program_that_hangs_babbles_or_is_not_roots_own_denies() {
    for script in
        ["sleep 60", "echo rubbish", "echo '{\"user\": \"ada\"}'", "kill -9 $$", "yes | head -c 100000"]
    {
        let world = validating(Privilege::Setuid, script, "");
        assert_refused(&world, &world.job().config(), "validation-program");
    }
    let world = validating(Privilege::Setuid, ":", "");
    world.write_file(SCRIPT, "#!/bin/sh\n", "root", 0o777);
    assert_refused(&world, &world.job().config(), "validation-program");
    world.write_file(SCRIPT, "#!/bin/sh\n", "bob", 0o755);
    assert_refused(&world, &world.job().config(), "validation-program");
    let sum = "sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"";
    let world = validating(Privilege::Setuid, ":", sum);
    assert!(assert_refused(&world, &world.job().config(), "validation-program").contains("SHA-256"));
}

#[needs(root)]
fn the_program_knows_the_claims_and_nothing_else() {
    let world = validating(Privilege::Setuid, "env >&2; id -u >&2; exit 1", "environment = { SITE = \"x\" }");
    let detail = assert_refused(&world, &world.job().config(), "validation");
    for part in
        ["JWT_USER_LOGIN=alice", "JWT_PROJECT_PATH=physics/lattice", "JWT_JOB_ID=7001", "SITE=x", "\n990"]
    {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    let token = world.job().token_text();
    assert!(
        !detail.contains("CUSTOM_ENV") && !detail.contains(token.get(..40).expect("a token")),
        "{detail}"
    );
}

#[needs(root)]
fn rules_come_first_where_the_site_says_so() {
    let world = validating(
        Privilege::Setuid,
        "touch /tmp/asked; echo '{\"username\": \"ada\"}'",
        "rules_first = true",
    );
    world.reconfigure(
        "run_as = \"$validated\"",
        "when.account = [\"alice\", \"ada\"]\nrun_as = \"$validated\"",
    );
    assert_refused(&world, &world.job().user("bob").config(), "no-rule");
    assert!(
        !world.host_path("/tmp/asked").exists(),
        "the program was asked about a user whom no rule admits"
    );
    assert_runs_as(&world, &world.job().config(), "ada");
    assert!(world.host_path("/tmp/asked").exists());
}

#[needs(root)]
fn a_data_directory_of_the_programs_is_used() {
    let world = validating(Privilege::Setuid, "echo '{\"data_dir\": \"/home/alice/service\"}'", "");
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    assert!(session.prepare().succeeded());
    assert!(world.host_path("/home/alice/service/builds").is_dir());
}

#[needs(root)]
fn a_user_lists_the_projects_that_may_run_as_them() {
    let file = "/home/alice/.config/nunbird/authorized_projects";
    for privilege in Privilege::ALL {
        let world = world(privilege);
        world.reconfigure("[audit]", "[accounts]\nauthorized_projects = \"required\"\n\n[audit]");
        let refused = world.job().config();
        assert_refused(&world, &refused, "authorized-projects");
        assert!(refused.stderr.contains("~/.config/nunbird/authorized_projects"), "{}", refused.stderr);
        world.reconfigure("\"required\"", "\"optional\"");
        assert_eq!(world.job().config().exit, Exit::Code(0), "{privilege:?}");
        write_as_alice(&world, file, "physics/other\n");
        assert_refused(&world, &world.job().config(), "authorized-projects");
        write_as_alice(&world, file, "physics/* main protected\n");
        assert_eq!(world.job().config().exit, Exit::Code(0), "{privilege:?}");
        let elsewhere = world.job().facts(|facts| facts.git_ref = "topic".to_owned()).config();
        assert_refused(&world, &elsewhere, "authorized-projects");
    }
}

/// Writes a file of alice's as alice, so that she owns the directories above it.
fn write_as_alice(world: &World, file: &str, text: &str) {
    let command = format!("umask 077; mkdir -p \"$(dirname {file})\" && printf '%s' '{text}' > {file}");
    let done = world.shell("alice", &command);
    assert_eq!(done.exit, Exit::Code(0), "{done:?}");
}

#[needs(root)]
fn an_admission_goes_to_every_place_that_the_configuration_names_or_the_job_does_not_run() {
    let world = world(Privilege::Setuid);
    let daemon = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    daemon.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("a timeout");
    let address = daemon.local_addr().expect("an address");
    world.reconfigure("[audit]\n", &format!("[audit]\nsyslog = \"udp://{address}\"\n"));
    assert_runs_as(&world, &world.job().config(), "alice");
    let mut bytes = vec![0; 65536];
    let length = daemon.recv(&mut bytes).expect("a datagram");
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    assert!(text.contains(" admitted - @cee: ") && text.contains("\"namespace_path\":\"physics\""), "{text}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    world.reconfigure(&format!("udp://{address}"), &format!("tcp://{closed}"));
    let outcome = world.job().id(7002).config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[audit]"), "{}", outcome.stderr);
    assert_eq!(world.records().len(), 1, "the second job has no record");
    world.reconfigure("[audit]\n", "[audit]\nrequired = false\n");
    let outcome = world.job().id(7002).config();
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
}

#[needs(root)]
fn explain_and_the_privileged_program_always_agree() {
    let world = world(Privilege::Setuid);
    world.reconfigure(
        "run_as = \"$user_login\"",
        "when = { pipeline_source = [\"push\", \"web\"], local_group = \"lattice\" }\nrun_as = \"$user_login\"\n\
         [[rule]]\nname = \"tags\"\nwhen = { ref_type = \"tag\", ref_protected = true }\nrun_as = \"bob\"\n\
         [[rule]]\nname = \"system\"\nwhen.user = \"queue\"\nrun_as = \"$user_login\"\n",
    );
    let mut seen = std::collections::BTreeSet::new();
    let mut id = 8000;
    for user in ["alice", "bob", "ada", "queue", "stranger", "root", "project_31_bot_0a"] {
        for project in ["physics/lattice", "outside/x"] {
            for (source, kind, protected) in
                [("push", "branch", true), ("schedule", "tag", true), ("schedule", "tag", false)]
            {
                id += 1;
                let job = world.job().id(id).user(user).facts(|facts| {
                    facts.project_path = project.to_owned();
                    facts.pipeline_source = source.to_owned();
                    facts.ref_type = kind.to_owned();
                    facts.ref_protected = protected;
                });
                let mut session = job.begin();
                let outcome = session.config();
                let event = world.audit().pop().expect("an event");
                let decided = event["account"].as_str().map_or("denied".to_owned(), str::to_owned);
                assert_eq!(outcome.exit == Exit::Code(0), decided != "denied", "{}", outcome.log);
                world.write_file("/etc/nunbird/token", job.token_text(), "root", 0o600);
                let explained = explain(&world);
                assert_eq!(explained, decided, "{user} {project} {source} {kind} {protected}");
                seen.insert(decided);
                if outcome.exit == Exit::Code(0) {
                    assert!(session.cleanup().succeeded());
                }
            }
        }
    }
    assert!(seen.len() >= 4, "the table has few outcomes: {seen:?}");
}

/// The account that nunbirdctl prints, or `denied`.
fn explain(world: &World) -> String {
    let program = world.paths().bin.join("nunbirdctl");
    let arguments =
        ["explain", "--token", "/etc/nunbird/token", "--format", "json", "--runner-user", "nbt_runner"];
    let done = world.run(&world.program("root", program, &arguments));
    let answer: serde_json::Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let signature = answer["signature"].as_str().unwrap_or("");
    assert!(signature.contains("verified with a key of server `site`"), "{signature}");
    answer["account"].as_str().map_or("denied".to_owned(), str::to_owned)
}

/// `if lookup; then exit 1; fi` is how many such programs are written, and without memory the lookup does not start.
#[needs(root)]
fn a_runner_cannot_starve_the_programs_lookups() {
    let script = "if perl -MPOSIX -e 'exit($ARGV[0] eq \"alice\" ? 0 : 1)' \"$1\"; then exit 1; fi; exit 0";
    for privilege in Privilege::OF_FILE {
        let world = validating(privilege, script, "");
        assert_refused(&world, &world.job().config(), "validation");
        for limit in ["-v 9000", "-v 11000", "-d 500", "-s 64", "-n 200"] {
            let job = world.job();
            let mut session = job.begin();
            let mut spec = session.spec_of_config();
            let program = std::mem::replace(&mut spec.program, "/bin/bash".into());
            let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
            spec.arguments.splice(0..0, ["-c".into(), script.into(), program]);
            let outcome = session.call_spec("config", &spec);
            // A program that may raise limits is not starved; one that may not reports which limit.
            // Nor does one run whose loader has too little memory.
            let not_loaded = matches!(outcome.exit, Exit::Signal(_) | Exit::Code(127));
            let shown = ["[validation]", "[process]"].iter().any(|code| outcome.stderr.contains(code));
            let kept_out = shown || not_loaded;
            assert!(kept_out && world.records().is_empty(), "{privilege:?} {limit}: {}", outcome.log);
        }
    }
}
