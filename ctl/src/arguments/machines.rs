//! Of the trees that machines boot from.

use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Machines {
    #[command(subcommand)]
    pub(crate) action: MachinesAction,
    /// The directory that all paths are below, for tests.
    #[arg(long, value_name = "DIRECTORY", default_value = "/", global = true, hide = true)]
    pub(crate) root: PathBuf,
}

/// What to do with machines.
#[derive(Subcommand)]
pub(crate) enum MachinesAction {
    /// Make a new version of a machine's tree, and make it the current one.
    #[command(
        after_help = "examples:\n  nunbirdctl machines build debian12\n  nunbirdctl machines build plain --source \
                      bookworm\n  nunbirdctl machines build rocky --source docker://registry.example.org/rocky-init:9\n\n\
                      The definition is /etc/nunbird/machines/NAME.toml (docs/machines.md). Running jobs keep the version that they have."
    )]
    Build {
        /// The name of the machine.
        #[arg(value_name = "NAME")]
        name: String,
        /// In place of the definition's source: a suite, `docker://`, `oci:` or `dir:` of an image, or the absolute path of a tarball.
        #[arg(long, value_name = "SOURCE")]
        source: Option<String>,
    },
    /// Build those machines again whose definition or source is newer than their tree, or whose tree is older than `max_age`.
    #[command(
        after_help = "examples:\n  nunbirdctl machines update debian12\n  nunbirdctl machines update --all\n\n\
                      nunbird-machines.timer runs it every night, once it is enabled."
    )]
    Update {
        /// The names of machines with definitions.
        #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
        names: Vec<String>,
        /// All machines with definitions.
        #[arg(long)]
        all: bool,
    },
    /// Print the machines with their versions: which is current, its size and age, and whether a job uses it.
    #[command(after_help = "example:\n  nunbirdctl machines list --format json")]
    List,
    /// Compare trees with the lists that were made when they were built: contents, owners, modes, links.
    #[command(
        after_help = "example:\n  nunbirdctl machines verify debian12\n\nexit status: 0 no difference, 1 a difference, which is printed"
    )]
    Verify {
        /// The name of one machine; by default all.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Open a shell in the current tree, in a layer that is thrown away at its end; with --write, in a copy that becomes a new version.
    #[command(
        after_help = "examples:\n  nunbirdctl machines login debian12\n  nunbirdctl machines login debian12 -- dpkg -l\n  \
                      nunbirdctl machines login debian12 --write"
    )]
    Login {
        /// The name of the machine.
        #[arg(value_name = "NAME")]
        name: String,
        /// Make a new version of what was changed, if the shell ends with exit status 0.
        #[arg(long)]
        write: bool,
        /// A command in place of a shell.
        #[arg(value_name = "COMMAND", last = true)]
        command: Vec<OsString>,
    },
    /// Remove old versions and what interrupted builds left. The current version, the newest `keep` and those that jobs use stay.
    #[command(after_help = "example:\n  nunbirdctl machines gc")]
    Gc,
    /// Remove a machine, or one version of it that is not current. What a job uses stays.
    #[command(
        after_help = "examples:\n  nunbirdctl machines remove old\n  nunbirdctl machines remove debian12 20261130-020000"
    )]
    Remove {
        /// The name of the machine.
        #[arg(value_name = "NAME")]
        name: String,
        /// One version.
        #[arg(value_name = "VERSION")]
        version: Option<String>,
    },
}
