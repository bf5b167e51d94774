//! The command line.

use clap::{CommandFactory, Parser, ValueHint};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  nunbird exec --list                     what is in .gitlab-ci.yml, and what would run for this commit
  nunbird exec test                       run the job `test` on this host
  nunbird exec 'build: [gcc, mpich]'      run one job of a matrix
  nunbird exec test --image debian:12     run it in another image
  nunbird exec solve --executor slurm     run its script in an allocation
  nunbird exec test --variables ~/.ci-secrets --artifacts out

Exit status:
  that of the job's script; 125 when the script did not run, or nunbird failed; 130 when it was cancelled.";

/// Runs one job of a .gitlab-ci.yml by hand, as yourself.
///
/// The job works in a copy of the checked-out tree and meets the same launcher, scheduler and container code as jobs of GitLab's. It
/// needs no privilege, no GitLab and no gitlab-runner.
#[derive(Debug, Parser)]
#[command(name = "nunbird-exec", bin_name = "nunbird exec", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The job, as `--list` prints it
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

    /// Run the script in an allocation: slurm, pbs, lsf, flux, gridengine, htcondor, cobalt, or the path of a description
    #[arg(long, value_name = "NAME", default_value = "shell")]
    pub(crate) executor: String,

    /// Variables of yours, a line NAME=value each; no other account may read the file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) variables: Option<PathBuf>,

    /// One variable, over those of the file; other users of this host see the command line
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    pub(crate) variable: Vec<String>,

    /// Copy the job's artifacts into this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) artifacts: Option<PathBuf>,

    /// Take the files of the commit, without changes that are not committed
    #[arg(long)]
    pub(crate) committed: bool,

    /// After a script that failed, open a prompt with its variables, in its directory and its container
    #[arg(long)]
    pub(crate) shell_on_failure: bool,

    /// Leave the job's directory where it is
    #[arg(long)]
    pub(crate) keep: bool,

    /// Where copies of the tree are made, in place of ~/.nunbird; nodes of a scheduler must see it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,

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

/// The same as a value, for the man page and completions.
pub(crate) fn command_line() -> clap::Command {
    Arguments::command()
}
