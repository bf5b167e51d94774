//! Man pages and completions, generated from the definition of the command line.

use crate::arguments::command_line;
use crate::output::{CtlError, OK, print};
use clap_complete::Shell;
use std::path::Path;

/// Prints completions.
pub(crate) fn completions(shell: Shell) -> Result<u8, CtlError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command_line(), "nunbirdctl", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(OK)
}

/// Writes `nunbirdctl.1`, a page for each command and for each action of a command, and `nunbird.toml.5`.
pub(crate) fn pages(directory: &Path) -> Result<u8, CtlError> {
    let mut command = command_line().disable_help_subcommand(true);
    command.build();
    page(&command, "nunbirdctl", "EXIT STATUS", directory)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("nunbirdctl-{}", sub.get_name());
        page(&sub.clone().display_name(&name), &name, "EXAMPLES", directory)?;
        for below in sub.get_subcommands().filter(|below| below.get_name() != "help") {
            let name = format!("{name}-{}", below.get_name());
            page(&below.clone().display_name(&name), &name, "EXAMPLES", directory)?;
        }
    }
    let file = directory.join("nunbird.toml.5");
    std::fs::write(&file, nunbird_render::configuration_manual())
        .map_err(|e| CtlError::new(format!("{}: {e}", file.display())))?;
    Ok(OK)
}

/// `last` is the title for what clap calls the help after the arguments.
fn page(command: &clap::Command, name: &str, last: &str, directory: &Path) -> Result<(), CtlError> {
    let file = directory.join(format!("{name}.1"));
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", file.display()));
    // Neither a date nor a version: a page changes only when its contents change.
    let command = command.clone().version(None);
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .manual("Nunbird")
        .date("")
        .source("Nunbird")
        .render(&mut text)
        .map_err(failed)?;
    let text = String::from_utf8_lossy(&text).replace(".SH EXTRA\n", &format!(".SH \"{last}\"\n"));
    std::fs::write(&file, text).map_err(failed)
}
