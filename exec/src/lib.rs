//! `nunbird exec`: runs one job of a `.gitlab-ci.yml` by hand, as the user who calls it.
//!
//! This program reads the file, and then does what `nunbird-auth` and gitlab-runner do for a job of GitLab's: it starts the launcher
//! for one stage after the other. So a job by hand meets the same shell, the same scheduler engine and the same containers. It is a program of its
//! own because nothing that runs stages of CI jobs shall link a reader of YAML. It has no privilege, and refuses root.
//!
//! The file is judged as GitLab would judge it, in this order: [`yaml`], [`pipeline`] (includes, `extends`, `!reference`), [`job`] and
//! [`conditions`]. What cannot be known offline is said.

#![forbid(unsafe_code)]

mod arguments;
mod artifacts;
pub mod budget;
pub mod conditions;
mod enter;
pub mod expression;
pub mod failure;
pub mod glob;
pub mod instances;
pub mod job;
mod kept;
mod launch;
mod passwords;
pub mod pipeline;
mod place;
mod plain;
mod predefined;
mod prompt;
mod record;
mod run;
pub mod script;
mod secrets;
mod site;
mod surroundings;
pub mod tree;
pub mod variables;
pub mod yaml;

use arguments::{Arguments, Command, command_line};
use clap::{FromArgMatches, error::ErrorKind};
use std::ffi::OsString;
use std::io::Write;

/// The exit status when the job's script did not run, or Nunbird failed: that of podman, timeout(1) and `git bisect run` for "not the
/// program's own".
pub const NOT_RUN: u8 = 125;
/// The exit status of a job that was cancelled.
pub const CANCELLED: u8 = 130;

/// The whole program; `arguments` excludes the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let words = std::iter::once(OsString::from("nunbird exec")).chain(arguments);
    let parsed =
        command_line().try_get_matches_from(words).and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                _ => NOT_RUN,
            };
        }
    };
    if let Some(shell) = arguments.completions {
        // What people type is `nunbird exec`.
        let exec = command_line().name("exec").bin_name("nunbird exec");
        let mut whole = clap::Command::new("nunbird").subcommand(exec);
        clap_complete::generate(shell, &mut whole, "nunbird", &mut std::io::stdout());
        return 0;
    }
    if arguments.man {
        return man();
    }
    let done = match &arguments.command {
        Some(Command::Enter(words)) => enter::run(words),
        None => run::run(&arguments),
    };
    done.unwrap_or_else(|failure| {
        drop(writeln!(std::io::stderr(), "nunbird exec: error: {failure}"));
        NOT_RUN
    })
}

fn man() -> u8 {
    // Neither a date nor a version: a page changes only when its contents change.
    let mut command = command_line().version(None).display_name("nunbird-exec");
    command.build();
    let (mut text, mut of_enter) = (Vec::new(), Vec::new());
    let enter = command.find_subcommand("enter").cloned().unwrap_or_default();
    let page = |command| clap_mangen::Man::new(command).manual("Nunbird").date("").source("Nunbird");
    let written =
        page(command).render(&mut text).and_then(|()| page(enter).render_options_section(&mut of_enter));
    let of_enter = String::from_utf8_lossy(&of_enter).replace(".SH OPTIONS\n", ".SH \"OPTIONS OF ENTER\"\n");
    // One page has it all.
    let text = String::from_utf8_lossy(&text)
        .replace("nunbird\\-exec\\-enter(1)", "\\fBnunbird exec enter\\fR")
        .replace(".SH EXTRA\n", &format!("{of_enter}.SH \"EXAMPLES AND EXIT STATUS\"\n"));
    match written.and_then(|()| std::io::stdout().write_all(text.as_bytes())) {
        Ok(()) => 0,
        Err(_) => NOT_RUN,
    }
}
