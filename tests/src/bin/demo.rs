//! `make demo`: runs one job in a private system with a commentary, and shows what Nunbird refuses.
//!
//! As root it installs the setuid program in a private system (see `world`) and lets an
//! unprivileged account run gitlab-runner. Without root it shows `downscope = "none"`: the same
//! programs, only for the current user. The exit code is 1 if anything differed from what is
//! expected.

#![forbid(unsafe_code)]

use nunbird_handover::Untrusted;
use nunbird_tests::{Outcome, Privilege, Status, World};
use std::io::IsTerminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = nunbird_tests::world::as_helper() {
        return code;
    }
    let root = nix::unistd::geteuid().is_root();
    let mut tale = Tale { colour: std::io::stdout().is_terminal(), steps: 0, wrong: 0 };
    let world = if root { World::new(Privilege::Setuid) } else { World::of_this_user() };
    let user = if root { "ada".to_owned() } else { world.runner().name.clone() };
    introduce(&tale, &world, root);
    fetch_keys(&mut tale, &world);
    let token = run_job(&mut tale, &world, &user);
    pass_exit_code(&mut tale, &world, &user);
    refuse_replay(&mut tale, &world, if root { "bob" } else { &user }, &token);
    refuse_root(&mut tale, &world);
    tale.end()
}

/// The commentary, and how many expectations failed.
struct Tale {
    colour: bool,
    steps: u32,
    wrong: u32,
}

impl Tale {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n{}", self.paint("1", &format!("{}. {title}", self.steps)));
    }

    fn fact(&self, name: &str, text: &str) {
        let text: Vec<String> = text.lines().map(|line| Untrusted(line).to_string()).collect();
        println!("   {name:<17}{}", text.join(&format!("\n{:20}", "")));
    }

    /// A fact that must hold.
    fn check(&mut self, name: &str, text: &str, holds: bool) {
        if holds {
            self.fact(name, text);
        } else {
            self.wrong += 1;
            self.fact(name, text);
            println!("   {}", self.paint("31;1", "^ this is not as it should be"));
        }
    }

    fn end(self) -> ExitCode {
        if self.wrong == 0 {
            println!("\n{}", self.paint("32;1", "All as it should be."));
            return ExitCode::SUCCESS;
        }
        println!("\n{}", self.paint("31;1", &format!("{} things were not as they should be.", self.wrong)));
        ExitCode::FAILURE
    }
}

fn introduce(tale: &Tale, world: &World, root: bool) {
    println!("{}", tale.paint("1", "Nunbird: a CI job runs as the user who started it"));
    let runner = world.runner();
    let auth = world.paths().bin.join("nunbird-auth");
    let listed = world.shell(&runner.name, &format!("stat -c '%A %U:%G' {}", auth.display())).success();
    let place = world.root().display();
    if root {
        tale.fact("machine", &format!("private mount namespaces over {place}, gone at the end"));
    } else {
        tale.fact("machine", "this host, without root: downscope = \"none\" serves the current user alone");
        tale.fact("files", &format!("below {place}, gone at the end"));
    }
    tale.fact(
        "gitlab-runner",
        &format!("a double of its custom executor, as {} (uid {})", runner.name, runner.uid),
    );
    tale.fact("GitLab", &format!("a double at {} with its own authority", world.issuer().url()));
    tale.fact("nunbird-auth", &format!("{} {listed}", auth.display()));
    tale.fact("configuration", &world.paths().configuration.display().to_string());
}

fn fetch_keys(tale: &mut Tale, world: &World) {
    tale.step("nunbird-keys fetches the server's signing keys");
    let done = world.refresh_keys();
    let file = world.paths().keys.join("site.json");
    let text = std::fs::read_to_string(world.host_path(&file)).unwrap_or_default();
    let keys: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let count = keys["keys"].as_array().map_or(0, Vec::len);
    let owner = world.shell(&world.runner().name, &format!("stat -c 'owned by %U, %A' {}", file.display()));
    tale.check(
        "keys",
        &format!("{count} in {}, {}", file.display(), owner.stdout.trim()),
        done.succeeded() && count > 0,
    );
    if !done.stderr.is_empty() {
        tale.fact("it said", &done.stderr);
    }
}

fn run_job(tale: &mut Tale, world: &World, user: &str) -> String {
    tale.step(&format!("{user} pushes, and job 7001 runs"));
    let job = world
        .job()
        .user(user)
        .script("id; cat data/lattice.txt > result.txt; stat -c 'key %a' \"$DEPLOY_KEY\"")
        .file_variable("DEPLOY_KEY", "a secret of the project\n")
        .after_script("echo \"after_script as $(id -un), job $CI_JOB_STATUS\"")
        .artifact("result.txt");
    let token = job.token_text();
    let outcome = job.run();
    let audit = world.audit();
    let line = audit.iter().rfind(|line| line["outcome"] == "admitted").cloned().unwrap_or_default();
    let text = |name: &str| line[name].as_str().unwrap_or("?").to_owned();
    tale.fact(
        "the token says",
        &format!(
            "{} (GitLab user {}), project {}, {}",
            text("user_login"),
            line["user_id"],
            text("project_path"),
            text("ref")
        ),
    );
    let rule = &line["rule"];
    let name = rule["name"].as_str().unwrap_or("?");
    let place = format!("{}:{}", rule["file"].as_str().unwrap_or("?"), rule["line"]);
    tale.check("the rule", &format!("`{name}` at {place}"), text("outcome") == "admitted");
    tale.fact(
        "audit line",
        &format!(
            "decision {}, account {}, privilege {}",
            text("decision_id"),
            text("account"),
            text("privilege")
        ),
    );
    let ended = audit.iter().rfind(|line| line["script"] == "build_script").cloned().unwrap_or_default();
    tale.fact(
        "and its end",
        &format!(
            "{}, exit code {}, {} ms, script {:.12}…",
            ended["script"].as_str().unwrap_or("?"),
            ended["exit_code"],
            ended["duration_ms"],
            ended["script_sha256"].as_str().unwrap_or("?")
        ),
    );
    let Some(script) = outcome.stages.iter().find(|stage| stage.name == "build_script") else {
        tale.check("the job", &outcome.log(), false);
        return token;
    };
    let id = script.stdout.lines().find(|l| l.starts_with("uid=")).unwrap_or(&script.log);
    tale.check("id in the job", id, id.contains(&format!("({user})")));
    tale.fact("works in", &outcome.project_dir);
    let log = outcome.log();
    let after = log.lines().find(|l| l.starts_with("after_script as")).unwrap_or("did not run");
    tale.check("after_script", after, after.contains(user));
    let artifacts = world.issuer().artifacts();
    let sizes: usize = artifacts.iter().map(|artifact| artifact.archive.len()).sum();
    tale.check(
        "artifacts",
        &format!("{} archive of {sizes} bytes at the server", artifacts.len()),
        artifacts.len() == 1,
    );
    tale.check("GitLab hears", &heard(&outcome), outcome.status == Status::Success);
    let left = format!("{}.tmp", outcome.project_dir);
    let gone = !world.host_path(&left).exists() && world.records().is_empty();
    let words = if gone { "gone: file variables, credentials, the job record" } else { "something is left" };
    tale.check("after cleanup", words, gone);
    token
}

fn pass_exit_code(tale: &mut Tale, world: &World, user: &str) {
    tale.step("a script fails with its own number");
    let outcome = world.job().user(user).id(7002).script("exit 42").run();
    tale.fact("script", "exit 42");
    tale.check("GitLab hears", &heard(&outcome), outcome.status == Status::script_failure(42));
}

fn refuse_replay(tale: &mut Tale, world: &World, thief: &str, token: &str) {
    tale.step("the token of job 7001 turns up in another job");
    let job = world.job().user(thief).id(7003).facts(|facts| facts.user_id = 666).token(token);
    tale.fact("job 7003", &format!("of {thief}, carries the genuine, unexpired token of job 7001"));
    refused(tale, world, &job.run());
}

fn refuse_root(tale: &mut Tale, world: &World) {
    tale.step("a GitLab user calls himself root");
    tale.fact("job 7004", "of the GitLab login `root`, with a genuine token");
    refused(tale, world, &world.job().user("root").id(7004).run());
}

/// Shows a refusal: what the user reads, what the admin reads, and that nothing ran.
fn refused(tale: &mut Tale, world: &World, outcome: &Outcome) {
    let log = outcome.log();
    let first = log.lines().find(|line| line.contains("error: ")).unwrap_or("no refusal");
    tale.check("the user reads", first, log.contains("error: "));
    let line = world.audit().last().cloned().unwrap_or_default();
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    tale.check(
        "the admin reads",
        format!("{} [{}] {}", text("outcome"), text("code"), text("detail")).trim_end(),
        text("outcome") == "denied",
    );
    tale.check("calls made", &outcome.names().join(", "), outcome.names() == ["config", "cleanup"]);
}

fn heard(outcome: &Outcome) -> String {
    match &outcome.status {
        Status::Success => "success".to_owned(),
        Status::Failed { reason, exit_code: Some(code) } => format!("failed: {reason:?}, exit code {code}"),
        Status::Failed { reason, exit_code: None } => format!("failed: {reason:?}"),
    }
}
