//! The cost of a stage in a real Slurm, for the scheduler and for the user: commands per job, and
//! the time from the script's end to the stage's end, compared with `sbatch --wait` and with a loop
//! that queries every second, as site scripts do.

use nunbird_tests::scheduler::Slurm;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ROUNDS: usize = 5;
/// Jobs for the spread of the time from a script's end to its stage's end.
const SPREAD: usize = 100;
const CROWD: usize = 50;
const USER: &str = "nbt_ann";

/// The result of one way of waiting.
struct Cost {
    /// From the script's end until the waiting program ended.
    late: Duration,
    commands: usize,
}

/// Starts a Slurm and prints the rows.
pub(crate) fn rows() {
    let slurm = Slurm::patient();
    println!("\nSlurm: median of {ROUNDS} jobs of two seconds each, one after the other");
    println!("{:<46} {:>16} {:>7} {:>13}", "", "end to end, ms", "ratio", "commands/job");
    let mut first = None;
    for (name, way) in [
        ("nunbird", (|slurm| launcher(slurm, SCRIPT)) as fn(&Slurm) -> Cost),
        ("sbatch --wait", sbatch_wait),
        ("sbatch, squeue every second", poll),
    ] {
        let mut costs: Vec<Cost> = (0..ROUNDS).map(|_| way(&slurm)).collect();
        costs.sort_unstable_by_key(|cost| cost.late);
        let Cost { late, commands } = &costs[ROUNDS / 2];
        let ratio = late.as_secs_f64() / first.get_or_insert(*late).as_secs_f64().max(1e-9);
        println!("{name:<46} {:>16.0} {ratio:>6.1}x {commands:>13}", late.as_secs_f64() * 1e3);
    }
    let mut costs: Vec<Cost> = (0..SPREAD).map(|_| launcher(&slurm, SHORT)).collect();
    costs.sort_unstable_by_key(|cost| cost.late);
    let [middle, most, last] =
        [50, 90, 99].map(|percent| costs[SPREAD * percent / 100].late.as_secs_f64() * 1e3);
    let commands: usize = costs.iter().map(|cost| cost.commands).sum();
    println!(
        "nunbird, {SPREAD} jobs without work: p50 {middle:.0} ms (target 60), p90 {most:.0} ms, p99 {last:.0} ms \
         (target 500), {commands} commands"
    );
    println!("nunbird, a job of a minute: {} commands (target 3)", launcher(&slurm, MINUTE).commands);
    let commands = crowd(&slurm);
    println!("{:<46} {:>16} {:>7} {commands:>13.1}", format!("nunbird, {CROWD} jobs at once"), "", "");
}

/// The script's end, by the clock of this host.
fn since_end(home: &Path) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let end: f64 = fs::read_to_string(home.join("end")).expect("a time").trim().parse().expect("a time");
    now.saturating_sub(Duration::from_secs_f64(end))
}

const SCRIPT: &str = "sleep 2; date +%s.%N >\"$HOME/end\"";
const SHORT: &str = "date +%s.%N >\"$HOME/end\"";
const MINUTE: &str = "sleep 60; date +%s.%N >\"$HOME/end\"";

/// With the runner's settings: a CI job whose remaining time becomes the time limit.
fn launcher(slurm: &Slurm, script: &str) -> Cost {
    let mut job = slurm.job(USER);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    job.batch().deadline = Some(now + 3600);
    let ended = job.run(script);
    let late = since_end(job.home());
    ended.succeeded();
    Cost { late, commands: job.calls().len() }
}

/// The wrapped script goes through a file, because it contains quotes.
fn script(slurm: &Slurm) -> String {
    let path = slurm.path("small").join("peer");
    fs::write(&path, format!("#!/bin/sh\n{SCRIPT}\n")).expect("a script");
    path.display().to_string()
}

fn sbatch_wait(slurm: &Slurm) -> Cost {
    let script = script(slurm);
    let home = slurm.path("home").join(USER);
    let text =
        format!("export HOME={}; sbatch --wait --output=/dev/null {script} && echo done", home.display());
    let said = slurm.as_user(USER, &text);
    let late = since_end(&home);
    assert!(said.contains("done"), "{said}");
    Cost { late, commands: 1 }
}

fn poll(slurm: &Slurm) -> Cost {
    let script = script(slurm);
    let home = slurm.path("home").join(USER);
    let text = format!(
        "export HOME={}; id=$(sbatch --parsable --output=/dev/null {script}) || exit; n=1; \
         while :; do n=$((n + 1)); case $(squeue -h -t all -j $id -o %T) in COMPLETED) break ;; esac; sleep 1; done; echo $n",
        home.display()
    );
    let said = slurm.as_user(USER, &text);
    let late = since_end(&home);
    Cost { late, commands: said.trim().parse().expect("a number of commands") }
}

/// Commands per job, for many concurrent jobs of one account.
fn crowd(slurm: &Slurm) -> f64 {
    let jobs: Vec<_> = (0..CROWD).map(|_| slurm.job(USER)).collect();
    let stages: Vec<_> = jobs.iter().map(|job| job.start(SCRIPT)).collect();
    for stage in stages {
        stage.finish().succeeded();
    }
    let calls: usize = jobs.iter().map(|job| job.calls().len()).sum();
    f64::from(u32::try_from(calls).expect("a small number")) / f64::from(u32::try_from(CROWD).expect("small"))
}
