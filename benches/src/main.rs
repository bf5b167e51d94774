//! The cost of a stage, as ratios to named peers in the same run.
//!
//! Absolute times differ between machines; the ratio of a stage to `bash -c :` hardly does. Each
//! program is started through the same helper that enters the private system, so the helper's own
//! time, measured with a program that does nothing, is subtracted. `nunbird-benches batch` measures
//! only the stages in Slurm, and `nunbird-benches containers` only those in containers.

#![forbid(unsafe_code)]

mod batch;
mod containers;
mod policy;

use nunbird_tests::runner::Session;
use nunbird_tests::world::enter::Spec;
use nunbird_tests::world::{Privilege, World};
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;

fn main() {
    if !nunbird_tests::require_root() {
        return;
    }
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("batch") => return batch::rows(),
        Some("containers") => return containers::rows(),
        _ => {}
    }
    sizes();
    println!("\nmedian of {ROUNDS} starts each, ratio to the first");
    println!("{:<46} {:>9} {:>7}", "", "ms", "ratio");
    for privilege in Privilege::PRIVILEGED {
        let world = World::new(privilege);
        assert!(world.refresh_keys().succeeded(), "keys");
        let job = world.job().with_repository();
        let mut session = job.begin();
        assert!(session.config().succeeded(), "config");
        assert!(session.prepare().succeeded(), "prepare");
        row_set(&world, &mut session, privilege);
    }
    batch::rows();
    containers::rows();
}

fn row_set(world: &World, session: &mut Session<'_>, privilege: Privilege) {
    let runner = privilege.runner();
    let nothing = median(world, &world.program(runner, "/bin/true", &[] as &[&str]));
    let bash = median(world, &world.program(runner, "/bin/bash", &["-c", ":"])).saturating_sub(nothing);
    let name = privilege.audit_name();
    row(&format!("{name}: bash -c :"), bash, bash);
    if privilege == Privilege::RootRunner {
        policy::rows(bash);
    }
    if privilege == Privilege::RootRunner {
        let peer = ["--reuid", "4101", "--regid", "4101", "--init-groups", "bash", "-c", ":"];
        let took = median(world, &world.program(runner, "/usr/bin/setpriv", &peer)).saturating_sub(nothing);
        row("root: setpriv to a user, bash -c :", took, bash);
        let peer = ["-u", "alice", "--", "bash", "-c", ":"];
        let took = median(world, &world.program(runner, "/sbin/runuser", &peer)).saturating_sub(nothing);
        row("root: runuser (PAM) to a user, bash -c :", took, bash);
    }
    let config = session.spec_of_config();
    let (unchecked, checked) = with_and_without_user_check(world, &config);
    row(&format!("{name}: nunbird-auth config (token verified)"), unchecked.saturating_sub(nothing), bash);
    row(&format!("{name}: the same, user checked"), checked.saturating_sub(nothing), bash);
    let script = session.directory().join("empty");
    session.write(&script, b":\n", 0o700);
    let run = session.spec_of_run(&script, "build_script");
    row(
        &format!("{name}: nunbird-auth run of an empty script"),
        median(world, &run).saturating_sub(nothing),
        bash,
    );
}

/// Medians of `config` without and with the query of the server about the job's user, alternately.
fn with_and_without_user_check(world: &World, config: &Spec) -> (Duration, Duration) {
    let asks = world.configuration();
    let asks_not = asks.replace("audience =", "user_check = \"off\"\naudience =");
    let (mut unchecked, mut checked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (text, times) in [(&asks_not, &mut unchecked), (&asks, &mut checked)] {
            // One job is admitted only a few times.
            forget_jobs(world);
            world.configure(text);
            times.push(once(world, config));
        }
    }
    (middle(unchecked), middle(checked))
}

fn forget_jobs(world: &World) {
    for entry in std::fs::read_dir(world.host_path("/var/lib/nunbird/jobs")).expect("the store").flatten() {
        std::fs::remove_file(entry.path()).expect("a record");
    }
}

fn median(world: &World, spec: &Spec) -> Duration {
    middle((0..ROUNDS).map(|_| once(world, spec)).collect())
}

fn once(world: &World, spec: &Spec) -> Duration {
    let begun = Instant::now();
    let finished = world.run(spec);
    assert!(finished.succeeded(), "{finished:?}");
    begun.elapsed()
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn row(name: &str, took: Duration, first: Duration) {
    let ratio = took.as_secs_f64() / first.as_secs_f64().max(1e-9);
    println!("{name:<46} {:>9.2} {ratio:>6.1}x", took.as_secs_f64() * 1e3);
}

fn sizes() {
    let Some(directory) = std::env::var_os("NUNBIRD_BIN_DIR") else { return };
    println!("stripped sizes");
    for program in
        ["nunbird-auth", "nunbird-decide", "nunbird", "nunbird-keys", "nunbird-limits", "nunbirdctl"]
    {
        let path = std::path::Path::new(&directory).join(program);
        if let Ok(meta) = path.metadata() {
            println!("{program:<46} {:>9} KiB", meta.len() / 1024);
        }
    }
    let auth = std::path::Path::new(&directory).join("nunbird-auth").metadata();
    if let Ok(auth) = auth {
        let documented = include_str!("../../docs/operation.md").split(" MiB stripped").next();
        let documented: f64 =
            documented.and_then(|text| text.rsplit(' ').next()).expect("a size").parse().expect("a number");
        let size = auth.len() as f64 / f64::from(1 << 20);
        assert!(
            (size / documented - 1.0).abs() < 0.05,
            "docs/operation.md says {documented} MiB, and it is {size:.2}"
        );
    }
    let crates = include_str!("../../auth/dependencies.txt").lines().count();
    println!("{:<46} {crates:>9}", "crates linked into nunbird-auth, including its own");
}
