//! `nunbird-compliance`: runs the cases that every batch scheduler must pass with a site's own
//! scheduler, as an ordinary user of it.
//!
//! For an admin who wants to check that Nunbird and the site's scheduler work together, on a login
//! node, without a toolchain. It submits short jobs of the caller's account, breaks nothing on
//! purpose, and leaves nothing behind: each case cleans up after itself, also if it fails or the
//! suite is interrupted, and at the end the queue is searched for leftovers.
//!
//! Exit codes: 0 all possible cases passed, 1 a case failed or something was left, 2 usage.

#![forbid(unsafe_code)]

use clap::Parser;
use nunbird_tests::compliance::{Place, names, run};
use nunbird_tests::scheduler::{Site, SiteOptions, interrupt, is_interrupted, set_patience};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs Nunbird's cases for batch schedulers with a site's own scheduler, with jobs of your
/// account.
#[derive(Debug, Parser)]
#[command(
    name = "nunbird-compliance",
    version,
    after_help = "examples:\n  nunbird-compliance slurm --arguments '-p ci -A project'\n  nunbird-compliance pbs --dry-run\n  \
        nunbird-compliance slurm --description /etc/nunbird/our-slurm.toml\n\n\
        exit status: 0 passed, 1 a case failed or something was left behind, 2 usage"
)]
struct Cli {
    /// The scheduler: slurm, pbs, lsf, flux, cobalt, gridengine or htcondor. With --description,
    /// the one with the same commands.
    #[arg(required_unless_present_any = ["description", "list"])]
    scheduler: Option<String>,
    /// The site's own description of its scheduler. Without a scheduler's name, cases that need its
    /// arguments are skipped.
    #[arg(long, value_name = "FILE")]
    description: Option<PathBuf>,
    /// Arguments of every job, such as a queue or a project.
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    arguments: String,
    /// A variable of your environment that the scheduler's commands need, besides SLURM_CONF,
    /// FLUX_URI and the like; may be given several times.
    #[arg(long, value_name = "NAME")]
    environment: Vec<String>,
    /// How many cases run at once; most have one job in the queue.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    at_once: usize,
    /// How long a job may wait in the queue, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    patience: u64,
    /// Only cases whose names contain this text; may be given several times.
    #[arg(long = "case", value_name = "PART")]
    cases: Vec<String>,
    /// The launcher; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    launcher: Option<PathBuf>,
    /// The directory for files, which the nodes must share; by default your home directory.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Print what would be submitted, and submit nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the names of all cases.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        names().iter().for_each(|name| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    match prepare(&cli) {
        Ok(site) => serve(&cli, site),
        Err(why) => {
            eprintln!("nunbird-compliance: error: {why}");
            ExitCode::from(2)
        }
    }
}

fn prepare(cli: &Cli) -> Result<Site, String> {
    if nix::unistd::geteuid().is_root() {
        return Err(
            "run this as an ordinary user of the scheduler: each job runs as the account that submits it"
                .to_owned(),
        );
    }
    let launcher = match &cli.launcher {
        Some(launcher) => std::path::absolute(launcher),
        None => std::env::current_exe().map(|own| own.with_file_name("nunbird")),
    };
    let launcher = launcher.map_err(|e| format!("the launcher: {e}"))?;
    if !launcher.is_file() {
        return Err(format!("{}: no such launcher; name it with --launcher", launcher.display()));
    }
    if let Some(part) = cli.cases.iter().find(|part| !names().iter().any(|name| name.contains(part.as_str())))
    {
        return Err(format!("--case '{part}': no case has this in its name; --list prints them"));
    }
    set_patience(cli.patience);
    Site::new(&SiteOptions {
        scheduler: cli.scheduler.clone(),
        description: cli.description.clone(),
        arguments: cli.arguments.clone(),
        environment: cli.environment.clone(),
        launcher,
        directory: cli.directory.clone(),
    })
}

fn serve(cli: &Cli, site: Site) -> ExitCode {
    let stop = || {
        eprintln!("nunbird-compliance: interrupted; ending the jobs, which may take some minutes");
        interrupt();
    };
    if let Err(e) = ctrlc::set_handler(stop) {
        eprintln!("nunbird-compliance: error: cannot wait for signals: {e}");
        return ExitCode::from(2);
    }
    announce(cli, &site);
    if cli.dry_run {
        return ExitCode::SUCCESS;
    }
    let site = Arc::new(site);
    let name = nunbird_tests::scheduler::Cluster::name(site.as_ref()).to_owned();
    let table = run(&[(name, Place::Site(Arc::clone(&site)))], &cli.cases, cli.at_once);
    println!("{table}");
    if !site.can_sweep() {
        println!(
            "\nThe suite has no command that lists the jobs of this scheduler: that none is left is what the launcher reports. With a\n\
             scheduler's name before --description it asks itself."
        );
    }
    let clean = match site.sweep() {
        Ok(left) if left.is_empty() => true,
        Ok(left) => {
            println!("\nleft behind:\n  {}", left.join("\n  "));
            false
        }
        Err(why) => {
            println!("\nthe queue was not looked through: {why}");
            false
        }
    };
    if table.failed() == 0 && clean && !is_interrupted() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Before anything is submitted.
fn announce(cli: &Cli, site: &Site) {
    let wanted = names();
    let chosen = wanted
        .iter()
        .filter(|name| cli.cases.is_empty() || cli.cases.iter().any(|part| name.contains(part.as_str())));
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(String::new, |user| user.name);
    println!(
        "{} cases, {} at once, as {user}. Most submit one job of one node, some up to six; each job runs for seconds, is limited to two hours and\n\
         is cancelled when it has waited for {} s. Every job has the arguments `{}`. Files go to {}\n\
         and are removed in the end.",
        chosen.count(),
        cli.at_once,
        cli.patience,
        cli.arguments,
        site.directory().display(),
    );
}
