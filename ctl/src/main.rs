//! `nunbirdctl`: what a site's admins ask before they trust a configuration.
//!
//! Runs without privilege, reads the files it is given, and judges with the very functions of
//! `nunbird-auth`. Exit codes: 0 ok, 1 failure, 2 usage, 3 the configuration is invalid, 4 the decision is no.

#![forbid(unsafe_code)]

mod explain;
mod host;

use clap::{Parser, Subcommand};
use nunbird_policy::{DEFAULT_CONFIGURATION, Policy};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks and explains a Nunbird configuration.
#[derive(Parser)]
#[command(version, after_help = "exit status: 0 ok, 1 failure, 2 usage, 3 configuration invalid, 4 denied")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read a configuration and look at this host; print every finding.
    #[command(after_help = "example:\n  nunbirdctl check --configuration /etc/nunbird/config.toml")]
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIGURATION)]
        configuration: PathBuf,
        /// Read the file alone; do not look at programs, directories and keys.
        #[arg(long)]
        no_host: bool,
    },
    /// Show how a job with these claims would be decided, rule by rule.
    #[command(
        after_help = "example:\n  nunbirdctl explain --claims alice.json\n\nwhere alice.json holds\n  \
        {\"user_login\": \"alice\", \"user_id\": 7, \"project_path\": \"hpc/app\", \"ref\": \"main\", \"ref_protected\": true, \"pipeline_source\": \"push\"}"
    )]
    Explain {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIGURATION)]
        configuration: PathBuf,
        /// JSON object with the facts that rules ask about.
        #[arg(long, value_name = "FILE")]
        claims: PathBuf,
    },
}

const FAILURE: u8 = 1;
const INVALID: u8 = 3;
const DENIED: u8 = 4;

fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Check { configuration, no_host } => check(&configuration, no_host),
        Command::Explain { configuration, claims } => explain(&configuration, &claims),
    };
    ExitCode::from(code.unwrap_or_else(|code| code))
}

fn check(file: &Path, no_host: bool) -> Result<u8, u8> {
    let policy = read(file)?;
    println!("{}: {} servers, {} rules", file.display(), policy.gitlab.len(), policy.rules.len());
    if no_host {
        return Ok(0);
    }
    let findings = host::look(&policy);
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    println!("{errors} errors, {} remarks", findings.len() - errors);
    if errors == 0 { Ok(0) } else { Err(INVALID) }
}

fn explain(file: &Path, claims: &Path) -> Result<u8, u8> {
    let policy = read(file)?;
    let subject = explain::subject(claims, &policy).map_err(|e| fail(&e))?;
    let (text, admitted) = explain::explain(&policy, &subject);
    print!("{text}");
    if admitted { Ok(0) } else { Err(DENIED) }
}

fn read(file: &Path) -> Result<Policy, u8> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        fail(&format!("{}: {e}; name the configuration with --configuration", file.display()))
    })?;
    Policy::parse(file, &text).map_err(|findings| {
        for finding in &findings {
            eprintln!("{finding}\n");
        }
        eprintln!("{}: {} errors; every job is denied until they are mended", file.display(), findings.len());
        INVALID
    })
}

fn fail(error: &dyn Display) -> u8 {
    eprintln!("nunbirdctl: error: {error}");
    FAILURE
}
