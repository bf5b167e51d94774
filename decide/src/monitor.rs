//! The way to `nunbird-auth`.

use nunbird_accounts::shadow::Expiry;
use nunbird_accounts::users::{GroupEntry, UserEntry};
use nunbird_host::refusal::{Class, Code, Refusal};
use nunbird_host::{Destination, Fetch, OwnFile, PersonFile, Report, System, Turn, Unfetched, Validate};
use nunbird_requests::{Launch, MAX_REPLY, MONITOR_FD, RefusedBy, Reply, Request, Start, Task};
use nunbird_started::inherited;
use nunbird_sys::memory::OwnProgram;
use nunbird_sys::passing;
use nunbird_unprivileged::waiting;
use nunbird_wire::{Message, read_frame, write_frame};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// The socket to `nunbird-auth`.
#[derive(Debug)]
pub(crate) struct Monitor {
    socket: UnixStream,
    /// Looked at before the filter is in force.
    program: OwnProgram,
}

/// The socket does not answer as it should.
fn broken(detail: impl std::fmt::Display) -> String {
    format!("nunbird-auth: {detail}")
}

impl Monitor {
    /// Takes the socket over.
    pub(crate) fn take() -> io::Result<Self> {
        let socket = UnixStream::from(OwnedFd::from(inherited::take(MONITOR_FD)?));
        Ok(Monitor { socket, program: OwnProgram::look() })
    }

    /// Reads what there is to decide, the configuration files, and behind them a stage's script.
    pub(crate) fn start(&self) -> io::Result<(Start, Vec<File>)> {
        let bytes = read_frame(&self.socket, MAX_REPLY)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let start = Start::from_bytes(&bytes).map_err(io::Error::other)?;
        let script = matches!(&start.task, Task::Stage(stage) if stage.script);
        let count = start.files.len() + usize::from(script);
        let files = (0..count).map(|_| self.file_behind()).collect::<io::Result<_>>()?;
        Ok((start, files))
    }

    fn file_behind(&self) -> io::Result<File> {
        let (_, mut files) = passing::receive(self.socket.as_fd())?;
        files.pop().filter(|_| files.is_empty()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Asks, and waits for the reply. A reply that does not come is a trouble.
    pub(crate) fn ask(&self, request: &Request) -> Reply {
        self.say(request).and_then(|()| self.hear()).unwrap_or_else(|e| Reply::Trouble(broken(e)))
    }

    /// Has the launcher started, and waits for its end, which may take days: of the message, which may have passwords in it, and of what the
    /// decision took, nothing stays in memory.
    ///
    /// # Errors
    /// As [`Monitor::have`].
    pub(crate) fn launch(&self, launch: Launch) -> Result<Reply, Refusal> {
        let request = Request::Launch(launch);
        let said = self.say(&request);
        if let Request::Launch(mut launch) = request {
            launch.message.zeroize();
        }
        let reply = said.and_then(|()| {
            waiting::wait_to_read(&self.socket, self.program)?;
            self.hear()
        });
        accepted(reply.unwrap_or_else(|e| Reply::Trouble(broken(e))))
    }

    fn say(&self, request: &Request) -> io::Result<()> {
        // A message to a launcher may have passwords in it, and a variable is one.
        write_frame(&self.socket, &Zeroizing::new(request.to_bytes()))
    }

    fn hear(&self) -> io::Result<Reply> {
        let bytes = Zeroizing::new(read_frame(&self.socket, MAX_REPLY)?.ok_or(io::ErrorKind::UnexpectedEof)?);
        Reply::from_bytes(&bytes).map_err(io::Error::other)
    }

    /// Asks for something that is done or refused.
    ///
    /// # Errors
    /// The refusal, or trouble as a system refusal of this code.
    pub(crate) fn have(&self, request: &Request) -> Result<Reply, Refusal> {
        accepted(self.ask(request))
    }

    /// A variable of the job; an empty one counts as not set.
    ///
    /// # Errors
    /// When it is no UTF-8 text.
    pub(crate) fn variable(&self, name: &str) -> Result<Option<String>, String> {
        match self.ask(&Request::Variable(name.to_owned())) {
            Reply::Text(text) => Ok(text),
            other => Err(unexpected(other)),
        }
    }

    /// Opens the places of events; why each of them could not be opened.
    pub(crate) fn places(&self, places: Vec<Destination>) -> Vec<Option<String>> {
        let count = places.len();
        match self.ask(&Request::Places(places)) {
            Reply::Texts(texts) if texts.len() == count => texts,
            other => vec![Some(unexpected(other)); count],
        }
    }

    /// Sends an event.
    ///
    /// # Errors
    /// The place, and why it does not have the event.
    pub(crate) fn send(&self, place: usize, event: &[u8], durably: bool) -> Result<(), String> {
        let place = u8::try_from(place).unwrap_or(u8::MAX);
        match self.ask(&Request::Event(place, durably, event.to_vec())) {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Whether a refusal without a verified identity is written.
    ///
    /// # Errors
    /// When it cannot be counted.
    pub(crate) fn turn(&self, file: &Path) -> Result<Turn, String> {
        match self.ask(&Request::Turn(file.to_path_buf())) {
            Reply::Turn(turn) => Ok(turn),
            other => Err(unexpected(other)),
        }
    }
}

fn accepted(reply: Reply) -> Result<Reply, Refusal> {
    match reply {
        Reply::Refused(refused) => Err(refusal(refused)),
        Reply::Trouble(why) => Err(decider_failed(&why)),
        reply => Ok(reply),
    }
}

fn unexpected(reply: Reply) -> String {
    match reply {
        Reply::Trouble(why) => why,
        Reply::Refused(refused) => refused.detail,
        _ => broken("another reply than was asked for"),
    }
}

pub(crate) fn decider_failed(detail: &dyn std::fmt::Display) -> Refusal {
    Refusal::system(Code::Decider, "this job could not be decided about on this host", detail)
}

/// A refusal of `nunbird-auth`'s.
pub(crate) fn refusal(refused: RefusedBy) -> Refusal {
    let RefusedBy { denied, code, message, detail, help } = refused;
    let code = Code::ALL.iter().find(|known| known.name() == code).copied().unwrap_or(Code::Decider);
    let refusal = match denied {
        true => Refusal::denied(code, message, detail),
        false => Refusal::system(code, message, detail),
    };
    refusal.help(help)
}

/// A refusal for `nunbird-auth` to write down and to print.
pub(crate) fn refused_by(refusal: Refusal) -> RefusedBy {
    RefusedBy {
        denied: refusal.class == Class::Denied,
        code: refusal.code.name().to_owned(),
        message: refusal.message,
        detail: refusal.detail,
        help: refusal.help.into_owned(),
    }
}

impl System for &Monitor {
    fn account(&self, name: &str) -> Result<Option<UserEntry>, String> {
        match self.ask(&Request::Account(name.to_owned())) {
            Reply::Account(account) => Ok(account),
            other => Err(unexpected(other)),
        }
    }

    fn group(&self, name: &str) -> Result<Option<GroupEntry>, String> {
        match self.ask(&Request::Group(name.to_owned())) {
            Reply::Group(group) => Ok(group),
            other => Err(unexpected(other)),
        }
    }

    fn file(&self, path: &Path) -> Result<File, String> {
        match self.ask(&Request::File(path.to_path_buf())) {
            Reply::Done => self.file_behind().map_err(broken),
            other => Err(unexpected(other)),
        }
    }

    fn keys_file(&self, directory: &Path, name: &str) -> Result<Vec<u8>, String> {
        match self.ask(&Request::KeysFile(directory.to_path_buf(), name.to_owned())) {
            Reply::Bytes(bytes) => Ok(bytes),
            other => Err(unexpected(other)),
        }
    }

    fn fetch(&self, fetch: &Fetch) -> Result<Vec<u8>, Unfetched> {
        match self.ask(&Request::Fetch(fetch.clone())) {
            Reply::Fetched(fetched) => fetched,
            other => Err(Unfetched { possible: true, why: unexpected(other) }),
        }
    }

    fn validate(&self, validate: &Validate) -> Result<Report, String> {
        match self.ask(&Request::Validate(validate.clone())) {
            Reply::Report(report) => Ok(report),
            other => Err(unexpected(other)),
        }
    }

    fn expiry(&self, account: &str) -> Result<Expiry, String> {
        match self.ask(&Request::Expiry(account.to_owned())) {
            Reply::Expiry(expiry) => Ok(expiry),
            other => Err(unexpected(other)),
        }
    }

    fn person(&self, file: &str) -> Result<Option<PersonFile>, String> {
        match self.ask(&Request::Person(file.to_owned())) {
            Reply::Person(person) => Ok(person),
            other => Err(unexpected(other)),
        }
    }

    fn remember_person(&self, file: &str, line: &[u8]) -> Result<bool, String> {
        match self.ask(&Request::RememberPerson(file.to_owned(), line.to_vec())) {
            Reply::Truth(new) => Ok(new),
            other => Err(unexpected(other)),
        }
    }

    fn own_file(&self, account: &str, inside: &Path, limit: u64) -> Result<OwnFile, String> {
        match self.ask(&Request::OwnFile(account.to_owned(), inside.to_path_buf(), limit)) {
            Reply::OwnFile(file) => Ok(file),
            other => Err(unexpected(other)),
        }
    }

    fn nologin(&self) -> Result<Option<PathBuf>, String> {
        match self.ask(&Request::Nologin) {
            Reply::Text(file) => Ok(file.map(PathBuf::from)),
            other => Err(unexpected(other)),
        }
    }
}
