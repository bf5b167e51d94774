//! The batch schedulers of a configuration: whether the launcher can use them, and whether their
//! commands are on this host.

use crate::finding::Finding;
use nunbird_handover::{Scheduler, Untrusted};
use nunbird_policy::{Executor, Job, Policy};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A scheduler that some jobs use: the table with its settings, the jobs' settings, and its
/// description.
struct UsedScheduler<'p> {
    table: String,
    job: &'p Job,
    scheduler: Scheduler,
}

fn used(policy: &Policy) -> Vec<UsedScheduler<'_>> {
    let profiles =
        policy.profiles.iter().map(|(name, profile)| (format!("[profile.{name}.batch]"), &profile.job));
    let all = [("[batch]".to_owned(), &policy.job)].into_iter().chain(profiles);
    all.filter_map(|(table, job)| {
        let scheduler = match &job.executor {
            Executor::Shell => return None,
            Executor::Scheduler(name) => Scheduler::Named(name.clone()),
            Executor::Described(name) => {
                Scheduler::Described(policy.schedulers.get(name)?.description.clone())
            }
        };
        Some(UsedScheduler { table, job, scheduler })
    })
    .collect()
}

/// Schedulers whose description the launcher could not use, and arguments of the site that it could
/// not parse.
pub(crate) fn check(policy: &Policy, findings: &mut Vec<Finding>) {
    for UsedScheduler { table, job, scheduler } in used(policy) {
        if let Err(why) = nunbird_batch::check(&scheduler, &job.batch.rules) {
            let help = format!(
                "every stage of `{}` fails until this is corrected; docs/schedulers.md lists the keys",
                Untrusted(job.executor.name())
            );
            let why: Vec<String> = why.lines().map(|line| Untrusted(line).to_string()).collect();
            findings.push(Finding::error(
                "scheduler",
                format!("{}: {}", Untrusted(&table), why.join("\n")),
                help,
            ));
        }
    }
}

/// Commands that are not where the launcher will look for them.
pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    for UsedScheduler { table, job, scheduler } in used(policy) {
        let places = places(job);
        let programs = nunbird_batch::programs(&scheduler).unwrap_or_default();
        for program in programs.iter().filter(|program| !is_there(program, &places)) {
            let shown: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
            findings.push(Finding::error(
                "scheduler-command",
                format!(
                    "{}: no program {} in {}",
                    Untrusted(&table),
                    Untrusted(program),
                    Untrusted(&shown.join(", "))
                ),
                "install the scheduler's commands here, or set `scheduler_bin` to their directory",
            ));
        }
    }
}

/// As in the launcher: `scheduler_bin`, or the `PATH` of the commands.
fn places(job: &Job) -> Vec<PathBuf> {
    if let Some(directory) = &job.batch.scheduler_bin {
        return vec![directory.clone()];
    }
    let path = job.batch.environment.get("PATH").or_else(|| job.environment.get("PATH"));
    path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default()
}

fn is_there(program: &str, places: &[PathBuf]) -> bool {
    let executable = |path: PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.starts_with('/') {
        return executable(Path::new(program).to_owned());
    }
    places.iter().any(|place| executable(place.join(program)))
}
