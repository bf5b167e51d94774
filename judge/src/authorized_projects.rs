//! The user's own consent: whether `~/.config/nunbird/authorized_projects` lets a project run as its owner.
//!
//! Asked when the account is known and has passed the invariants. The file is read as the user, and its lines are strangers' text to this
//! process.

use crate::refusal::{Code, Refusal, print_error};
use nunbird_host::{Doubt, OwnFile, System};
use nunbird_policy::{AuthorizedProjects, MAX_AUTHORIZED_PROJECTS, ProjectsAnswer};
use std::path::Path;

/// Below the home directory.
pub const FILE: &str = ".config/nunbird/authorized_projects";

/// How many lines that cannot be read are named.
const SHOWN: usize = 8;

const DOUBTS: [(Doubt, &str); 6] = [
    (Doubt::Home, "your home directory is not there"),
    (Doubt::Unreadable, "it cannot be read"),
    (Doubt::Kind, "it is not a regular file"),
    (Doubt::Owner, "it, or a directory on the way, belongs to somebody else"),
    (Doubt::Writable, "it, or a directory on the way, can be written by others (chmod go-w)"),
    (Doubt::Size, "it is longer than 65536 bytes"),
];

/// Lets the job go on, or not; gives the number of the line that admits it. `read` judges the content. Lines that cannot be read are named
/// in the job log, which is the user's.
///
/// # Errors
/// A denial when the user did not let this project in, or the file does not count; a system refusal when the file could not be read.
pub fn check<E: From<Refusal>>(
    mode: AuthorizedProjects,
    account: &str,
    system: &impl System,
    read: impl FnOnce(Vec<u8>) -> Result<ProjectsAnswer, E>,
) -> Result<Option<u32>, E> {
    if mode == AuthorizedProjects::Off {
        return Ok(None);
    }
    let found = system.own_file(account, Path::new(FILE), MAX_AUTHORIZED_PROJECTS).map_err(|detail| {
        Refusal::system(Code::AuthorizedProjects, "your home directory on this host does not answer", detail)
    })?;
    match found {
        OwnFile::Missing if mode == AuthorizedProjects::Optional => Ok(None),
        OwnFile::Missing => Err(denied("you have not said which projects may run as you on this host", "there is no file")
            .help("write a line `group/project` into ~/.config/nunbird/authorized_projects on this host; the user guide has more")
            .into()),
        OwnFile::Doubted(doubt) => {
            let why = DOUBTS.iter().find(|(known, _)| *known == doubt).map_or("it does not count", |(_, why)| why);
            Err(denied(format!("~/{FILE} does not count: {why}"), why).into())
        }
        OwnFile::Content(content) => Ok(judge(&read(content)?)?),
    }
}

fn judge(word: &ProjectsAnswer) -> Result<Option<u32>, Refusal> {
    print_error(&warnings(&word.faults));
    if word.admitted_by.is_some() {
        return Ok(word.admitted_by);
    }
    let lines: Vec<String> = word.faults.iter().take(SHOWN).map(|(line, _)| line.to_string()).collect();
    let faults = match word.faults.len().saturating_sub(SHOWN) {
        _ if lines.is_empty() => String::new(),
        0 => format!("; not read: lines {}", lines.join(", ")),
        more => format!("; not read: lines {} and {more} more", lines.join(", ")),
    };
    Err(denied("you have not let this project and ref run as you on this host", format!("no line admits it{faults}"))
        .help("write a line `group/project ref` into ~/.config/nunbird/authorized_projects on this host; the user guide has more"))
}

/// For the job log, in which a file of nothing else would fill pages.
fn warnings<F: std::fmt::Display>(faults: &[(u32, F)]) -> String {
    let mut text = String::new();
    for (line, fault) in faults.iter().take(SHOWN) {
        text.push_str(&format!("nunbird: warning: line {line} of ~/{FILE} admits nothing: {fault}\n"));
    }
    match faults.len().saturating_sub(SHOWN) {
        0 => {}
        1 => text.push_str(&format!("nunbird: warning: one more line of ~/{FILE} admits nothing\n")),
        more => text.push_str(&format!("nunbird: warning: {more} more lines of ~/{FILE} admit nothing\n")),
    }
    text
}

fn denied(message: impl Into<String>, detail: impl std::fmt::Display) -> Refusal {
    Refusal::denied(Code::AuthorizedProjects, message, format!("~/{FILE} of the account: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::warnings;

    #[test]
    fn a_few_lines_that_cannot_be_read_are_named_and_the_others_counted() {
        for (faults, lines, last) in [
            (8, 8, "line 8 of ~/.config/nunbird/authorized_projects admits nothing: why"),
            (9, 9, "one more line of ~/.config/nunbird/authorized_projects admits nothing"),
            (10_000, 9, "9992 more lines of ~/.config/nunbird/authorized_projects admit nothing"),
        ] {
            let text = warnings(&(1..=faults).map(|line| (line, "why")).collect::<Vec<_>>());
            assert_eq!(text.lines().count(), lines);
            assert_eq!(text.lines().last(), Some(format!("nunbird: warning: {last}").as_str()));
        }
        assert_eq!(warnings::<&str>(&[]), "");
    }
}
