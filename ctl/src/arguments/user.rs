//! Of a person's own runner.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct User {
    #[command(subcommand)]
    pub(crate) action: UserAction,
}

/// What to do with your own runner.
#[derive(Subcommand)]
pub(crate) enum UserAction {
    /// Inspect this host for a runner of your own: every obstacle, what to do about it, and who can do it.
    #[command(
        after_help = "examples:\n  nunbirdctl user check\n  nunbirdctl user check --image debian:12\n\nExit status: 0 no errors, 3 errors."
    )]
    Check {
        #[command(flatten)]
        host: UserHost,
    },
    /// Check this host, add a runner, and start it as a unit of your own user manager. Run it again to add
    /// another one.
    #[command(
        after_help = "examples:\n  nunbirdctl user setup --url https://gitlab.example.org --token-file token\n  nunbirdctl user setup \
                      --url https://gitlab.example.org --name second --token-stdin < token\n  nunbirdctl user setup --dry-run --url \
                      https://gitlab.example.org --token-file token\n\nThe token is the runner's own (`glrt-…`), which GitLab shows when a \
                      runner is created. It is read from a file or from standard input, never from an argument or a variable.\nExit status: \
                      0 done, 3 errors among the findings, with which nothing changes."
    )]
    Setup(Setup),
    /// Open the configuration of your runners in an editor, check it, and store it.
    #[command(
        after_help = "example:\n  EDITOR=vi nunbirdctl user edit-config\n\nExit status: 3 if the edited text has errors, which is not stored."
    )]
    EditConfig,
    /// Print your runners, and whether their units are active.
    #[command(
        after_help = "example:\n  nunbirdctl user status --format json\n\nExit status: 0 the runner's unit is active, 1 it is not."
    )]
    Status,
    /// Print what your units have logged.
    #[command(after_help = "example:\n  nunbirdctl user logs --follow")]
    Logs {
        /// Only the last N lines.
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 100)]
        lines: u32,
        /// Continue with lines as they are written.
        #[arg(long, short = 'f')]
        follow: bool,
    },
    /// Remove images that no job uses, and the caches that were not used for the longest time, until they are
    /// below the quota.
    #[command(
        after_help = "examples:\n  nunbirdctl user prune --dry-run\n  nunbirdctl user prune --quota 5G\n\nnunbird-prune.timer runs it."
    )]
    Prune {
        /// The most that caches of jobs may take: `5G`, `500M`.
        #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = size)]
        quota: u64,
        /// Print what would be removed, without removing it.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop your runners, and remove what `setup` made. Files of jobs and files that you have changed stay.
    #[command(after_help = "example:\n  nunbirdctl user remove --dry-run")]
    Remove {
        /// Print what would be removed, without removing it.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What the runner is to use on this host.
#[derive(Args, Clone)]
pub(crate) struct UserHost {
    /// The directory of Nunbird's programs; by default that of this program.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) programs: Option<PathBuf>,
    /// gitlab-runner; by default the one in PATH.
    #[arg(long, value_name = "FILE")]
    pub(crate) runner_program: Option<PathBuf>,
    /// Run jobs in containers of Podman; jobs without `image:` in this one.
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) image: Option<String>,
    /// A directory on a local disk, below which Podman keeps the images of jobs; by default /var/tmp.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) store: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Setup {
    #[command(flatten)]
    pub(crate) host: UserHost,
    /// The URL of the GitLab server.
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// A file with the runner's authentication token.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "token_stdin",
        conflicts_with = "token_stdin"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Read the token from standard input.
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// The name of the runner, in its configuration and in findings.
    #[arg(long, value_name = "NAME", default_value = "own", value_parser = name)]
    pub(crate) name: String,
    /// Your login on the GitLab server, whose jobs alone are admitted; by default the name of your account here.
    #[arg(long, value_name = "LOGIN", value_parser = login)]
    pub(crate) gitlab_user: Option<String>,
    /// The audience of the jobs' id tokens; by default the URL of the server.
    #[arg(long, value_name = "URL")]
    pub(crate) audience: Option<String>,
    /// Certificates of the authority that the server's is from, if this host does not know it.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// When nunbird-prune.timer runs, as systemd.time(7) writes it: `daily`; at first `weekly`.
    #[arg(long, value_name = "CALENDAR", value_parser = calendar)]
    pub(crate) prune: Option<String>,
    /// The most that caches of jobs may take after a prune; at first `20G`.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) quota: Option<u64>,
    /// Print what would be written, without writing it.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let shift = match unit {
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("write a size such as `500M` or `20G`".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "write a size such as `500M` or `20G`".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large".to_owned())
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match (1..=64).contains(&text.len()) && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("write at most 64 letters, digits, `.`, `_` and `-`".to_owned()),
    }
}

/// What GitLab allows as a login.
fn login(text: &str) -> Result<String, String> {
    name(text).map_err(|_| "a login has letters, digits, `.`, `_` and `-` only".to_owned())
}

/// No line break can add a setting to the unit. systemd judges the rest.
fn calendar(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " *:-,/.".contains(c);
    match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("write `daily`, `weekly`, or `Mon *-*-* 03:00`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{calendar, name, size};

    #[test]
    fn sizes_names_and_calendars_are_judged_whole() {
        assert_eq!((size("5G"), size("500M")), (Ok(5 << 30), Ok(500 << 20)));
        for text in ["", "5", "5K", "G", "-1G", "99999999999T", "5 G"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(
            name("gpu-1.x_y").is_ok() && name("a b").is_err() && name("").is_err() && name("x\n").is_err()
        );
        assert!(calendar("Mon *-*-* 03:00").is_ok() && calendar("daily\nPersistent=no").is_err());
    }
}
