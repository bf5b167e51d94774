//! The command line.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  nunbird exec --list                     what is in .gitlab-ci.yml, and what would run for this commit
  nunbird exec test                       run the job `test` on this host
  nunbird exec 'build: [gcc, mpich]'      run one job of a matrix
  nunbird exec test --image debian:12     run it in another image
  nunbird exec solve --executor slurm     run its script in an allocation
  nunbird exec test --variables ~/.ci-secrets --artifacts out
  nunbird exec test --keep; nunbird exec enter test

Exit status:
  that of the job's script; 125 when the script did not run, or nunbird failed; 130 when it was cancelled.";

/// Runs one job of a .gitlab-ci.yml by hand, as yourself.
///
/// The job works in a copy of the checked-out tree and meets the same launcher, scheduler and container code as jobs of GitLab's. It
/// needs no privilege, no GitLab and no gitlab-runner.
#[derive(Debug, Parser)]
#[command(name = "nunbird-exec", bin_name = "nunbird exec", version, after_help = EXAMPLES)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// The job, as `--list` prints it; one that is called `enter` behind `--`
    #[arg(required_unless_present_any = ["list", "completions", "man"])]
    pub(crate) job: Option<String>,

    /// Print the jobs with their stage and image, and whether a pipeline of this commit would have them
    #[arg(long, conflicts_with = "job")]
    pub(crate) list: bool,

    /// The file, from the top of the project
    #[arg(long, value_name = "FILE", default_value = ".gitlab-ci.yml", value_hint = ValueHint::FilePath)]
    pub(crate) file: String,

    /// Run in this image in place of the job's
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// podman, apptainer, charliecloud, or the path of a description; default: the first on the PATH that can do it
    #[arg(long, value_name = "NAME")]
    pub(crate) engine: Option<String>,

    /// Pass over the job's image and services: run with this host's software
    #[arg(long, conflicts_with_all = ["image", "engine"])]
    pub(crate) no_container: bool,

    /// Run the script in an allocation: slurm, pbs, lsf, flux, gridengine, htcondor, cobalt, or the path of a description; shell for none
    #[arg(long, value_name = "NAME")]
    pub(crate) executor: Option<String>,

    /// Run the job as this rule or profile of the site's configuration runs CI jobs: its container, scheduler, environment and limits
    #[arg(long, value_name = "NAME", conflicts_with = "engine")]
    pub(crate) as_rule: Option<String>,

    /// The site's configuration
    #[arg(long, value_name = "FILE", requires = "as_rule", default_value = nunbird_policy::DEFAULT_CONFIGURATION, value_hint = ValueHint::FilePath)]
    pub(crate) configuration: PathBuf,

    #[command(flatten)]
    pub(crate) own: Own,

    /// Copy the job's artifacts into this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) artifacts: Option<PathBuf>,

    /// Take the files of the commit, without changes that are not committed
    #[arg(long)]
    pub(crate) committed: bool,

    /// After a script that failed, open a prompt with its variables, in its directory and its container
    #[arg(long)]
    pub(crate) shell_on_failure: bool,

    /// Leave the job's directory where it is, for `nunbird exec enter`
    #[arg(long)]
    pub(crate) keep: bool,

    /// Run without an `include:` of another project or host, which cannot be had offline
    #[arg(long)]
    pub(crate) ignore_remote_includes: bool,

    /// Print completions
    #[arg(long, value_name = "SHELL", hide = true)]
    pub(crate) completions: Option<clap_complete::Shell>,

    /// Print the man page
    #[arg(long, hide = true)]
    pub(crate) man: bool,
}

/// What the user gives to a job and to a prompt alike.
#[derive(Debug, Args)]
pub(crate) struct Own {
    /// Variables of yours, a line NAME=value or `file NAME=PATH` each; no other account may read the file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) variables: Option<PathBuf>,

    /// One variable, over those of the file; other users of this host see the command line
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    pub(crate) variable: Vec<String>,

    /// One variable whose value is the path of a private copy of this file, as GitLab's of type File
    #[arg(long = "file-variable", value_name = "NAME=PATH")]
    pub(crate) file_variable: Vec<String>,

    /// Where copies of the tree are made, in place of ~/.nunbird; nodes of a scheduler must see it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
}

/// What is no job.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Open a prompt in what `--keep` has left of a job, list what there is, or remove it
    ///
    /// The prompt has the job's variables and directory, on this host or in a new container of the job's image. Nothing of the job runs
    /// meanwhile. A file that `--variables` names counts in place of the one that the job had.
    Enter(Enter),
}

/// `nunbird exec enter`.
#[derive(Debug, Args)]
pub(crate) struct Enter {
    /// A number or a job, as `enter --list` prints them, or a directory that was kept; default: the only one there is
    #[arg(value_name = "JOB or DIRECTORY")]
    pub(crate) what: Option<String>,

    /// Print what is kept, with its age and size
    #[arg(long, conflicts_with_all = ["what", "remove", "variables", "variable", "file_variable"])]
    pub(crate) list: bool,

    /// Remove it, and open no prompt
    #[arg(long, requires = "what", conflicts_with_all = ["variables", "variable", "file_variable"])]
    pub(crate) remove: bool,

    #[command(flatten)]
    pub(crate) own: Own,
}

/// The same as a value, for the man page and completions.
pub(crate) fn command_line() -> clap::Command {
    Arguments::command()
}
