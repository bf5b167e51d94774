//! The user's own word: whether `~/.config/nunbird/authorized_projects` lets a project run as its owner.
//!
//! Called by `config` with privilege, when the account is known and has passed the invariants. A forked child becomes the user for
//! good, reads the file and judges it; so no privilege meets the user's files, and a home directory on a network file system
//! that does not trust root is read all the same. The child can only speak for its own account: a user who took it
//! over could as well have written the file.

use crate::memory;
use crate::refusal::{Code, Refusal, print_error};
use crate::rights::Rights;
use nunbird_drop::surrender::{self, Ids};
use nunbird_files::own_file::{self, Doubt};
use nunbird_policy::{
    AuthorizedProjects, LineFault, MAX_AUTHORIZED_PROJECTS, ProjectFacts, UsersWord, users_word,
};
use nunbird_sys::fork::{Child, Ended, fork_into};
use nunbird_sys::kernel::Linux;
use nunbird_sys::{answer, process, signals};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Below the home directory.
pub const FILE: &str = ".config/nunbird/authorized_projects";
/// How long a home directory may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// When the child ends itself, where nobody may signal it.
const SECONDS: u32 = 3;
/// How long a child that was killed is waited for: one that a dead server holds may never end.
const END: Duration = Duration::from_millis(200);
/// The most faulty lines that are told.
const MAX_FAULTS: usize = 8;
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64;

const DOUBTS: [(Doubt, &str); 6] = [
    (Doubt::Home, "your home directory is not there"),
    (Doubt::Unreadable, "it cannot be read"),
    (Doubt::Kind, "it is not a regular file"),
    (Doubt::Owner, "it, or a directory on the way, belongs to somebody else"),
    (Doubt::Writable, "it, or a directory on the way, can be written by others (chmod go-w)"),
    (Doubt::Size, "it is longer than 65536 bytes"),
];

/// The account whose word is asked for.
#[derive(Debug)]
pub struct Owner<'a> {
    /// Its uid.
    pub uid: u32,
    /// Its primary gid.
    pub gid: u32,
    /// Its gids, with the primary one.
    pub groups: &'a [u32],
    /// Its home directory.
    pub home: &'a Path,
}

/// What the child found.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    NoFile,
    Doubted(Doubt),
    Read(UsersWord),
}

/// Lets the job go on, or not; gives the number of the line that admits it. Lines that cannot be read are told in the job log, which is the user's.
///
/// # Errors
/// A denial when the user did not let this project in, or the file does not count; a system refusal when nobody could ask.
pub fn check(
    mode: AuthorizedProjects,
    owner: &Owner<'_>,
    facts: &ProjectFacts<'_>,
    rights: Rights,
) -> Result<Option<u32>, Refusal> {
    if mode == AuthorizedProjects::Off {
        return Ok(None);
    }
    match ask(owner, facts, rights)? {
        Answer::NoFile if mode == AuthorizedProjects::Optional => Ok(None),
        Answer::NoFile => Err(denied("you have not said which projects may run as you on this host", "there is no file")
            .help("write a line `group/project` into ~/.config/nunbird/authorized_projects on this host; the user guide has more")),
        Answer::Doubted(doubt) => {
            let why = DOUBTS.iter().find(|(known, _)| *known == doubt).map_or("it does not count", |(_, why)| why);
            Err(denied(format!("~/{FILE} does not count: {why}"), why))
        }
        Answer::Read(word) => judge(&word),
    }
}

fn judge(word: &UsersWord) -> Result<Option<u32>, Refusal> {
    for (line, fault) in &word.faults {
        print_error(&format!("nunbird: warning: line {line} of ~/{FILE} admits nothing: {fault}\n"));
    }
    if word.admitted_by.is_some() {
        return Ok(word.admitted_by);
    }
    let lines: Vec<String> = word.faults.iter().map(|(line, _)| line.to_string()).collect();
    let faults =
        if lines.is_empty() { String::new() } else { format!("; not read: lines {}", lines.join(", ")) };
    Err(denied("you have not let this project and ref run as you on this host", format!("no line admits it{faults}"))
        .help("write a line `group/project ref` into ~/.config/nunbird/authorized_projects on this host; the user guide has more"))
}

fn denied(message: impl Into<String>, detail: impl std::fmt::Display) -> Refusal {
    Refusal::denied(Code::AuthorizedProjects, message, format!("~/{FILE} of the account: {detail}"))
}

/// Asks a child that has become the user.
fn ask(owner: &Owner<'_>, facts: &ProjectFacts<'_>, rights: Rights) -> Result<Answer, Refusal> {
    let failed = |detail: &dyn std::fmt::Display| {
        let message = "your home directory on this host does not answer";
        Refusal::system(Code::AuthorizedProjects, message, format!("uid {}: {detail}", owner.uid))
    };
    let (reader, writer) = io::pipe().map_err(|e| failed(&e))?;
    let parent = process::id();
    let child = fork_into(|| i32::from(answer(owner, facts, rights, parent, &writer).is_err()))
        .map_err(|e| failed(&format!("fork: {e}")))?;
    drop(writer);
    match answer::read_to_end(reader, MAX_ANSWER, PATIENCE) {
        Ok(bytes) => {
            let ended = child.wait().map_err(|e| failed(&e))?;
            let decoded = decode(&bytes).filter(|_| ended == Ended::Exited(0));
            decoded.ok_or_else(|| failed(&format!("the child that reads as the user ended badly: {ended:?}")))
        }
        Err(e) => {
            let _already_gone = child.kill_as(owner.uid);
            reap(&child);
            Err(failed(&format!("no answer from the home directory: {e}")))
        }
    }
}

/// Waits for a killed child, unless its file system holds it.
fn reap(child: &Child) {
    let deadline = Instant::now() + END;
    while matches!(child.poll(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The child's whole life.
fn answer(
    owner: &Owner<'_>,
    facts: &ProjectFacts<'_>,
    rights: Rights,
    parent: i32,
    pipe: &io::PipeWriter,
) -> io::Result<()> {
    process::end_after(SECONDS);
    process::close_all_but(pipe.as_raw_fd())?;
    memory::bound(rights)?;
    let surrendered = if rights.can_change_user {
        let ids = Ids { uid: owner.uid, gid: owner.gid, groups: owner.groups.to_vec() };
        surrender::become_user(&mut Linux, &ids)
    } else {
        surrender::stay_user(&mut Linux, owner.uid, owner.gid)
    };
    surrendered.map_err(|failure| failure.error)?;
    process::forbid_inspection()?;
    process::no_new_privileges()?;
    process::die_with_parent(signals::KILL, parent)?;
    let found = match own_file::read(owner.home, Path::new(FILE), owner.uid, MAX_AUTHORIZED_PROJECTS) {
        Ok(None) => Answer::NoFile,
        Ok(Some(content)) => Answer::Read(users_word(&content, facts)),
        Err(doubt) => Answer::Doubted(doubt),
    };
    let mut pipe = pipe;
    pipe.write_all(&encode(&found))
}

/// One byte for the kind; a doubt's number; or the line that admits (0 for none), and faults: line and number. Numbers of lines
/// have four bytes, little-endian.
fn encode(answer: &Answer) -> Vec<u8> {
    let number = |index: Option<usize>| index.and_then(|i| u8::try_from(i).ok()).unwrap_or(u8::MAX);
    match answer {
        Answer::NoFile => vec![b'N'],
        Answer::Doubted(doubt) => vec![b'D', number(DOUBTS.iter().position(|(known, _)| known == doubt))],
        Answer::Read(word) => {
            let mut out = vec![b'R'];
            out.extend_from_slice(&word.admitted_by.unwrap_or(0).to_le_bytes());
            for (line, fault) in word.faults.iter().take(MAX_FAULTS) {
                out.extend_from_slice(&line.to_le_bytes());
                out.push(number(LineFault::ALL.iter().position(|known| known == fault)));
            }
            out
        }
    }
}

/// Reads what [`encode`] wrote; none for anything else.
fn decode(bytes: &[u8]) -> Option<Answer> {
    match bytes {
        [b'N'] => Some(Answer::NoFile),
        [b'D', number] => Some(Answer::Doubted(DOUBTS.get(usize::from(*number))?.0)),
        [b'R', rest @ ..] => {
            let (line, mut rest) = rest.split_first_chunk::<4>()?;
            let line = u32::from_le_bytes(*line);
            let mut faults = Vec::new();
            while let Some(([a, b, c, d, number], more)) = rest.split_first_chunk::<5>() {
                let fault = LineFault::ALL.get(usize::from(*number))?;
                faults.push((u32::from_le_bytes([*a, *b, *c, *d]), *fault));
                rest = more;
            }
            let word = UsersWord { admitted_by: (line != 0).then_some(line), faults };
            (rest.is_empty() && word.faults.len() <= MAX_FAULTS).then_some(Answer::Read(word))
        }
        _ => None,
    }
}
