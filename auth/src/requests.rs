//! What the decider asks for, done with privilege. Each request is judged here: a decider that was taken over must get nothing that its own
//! account has not, but admissions of accounts above the floor.

use crate::checks;
use crate::context::Context;
use crate::decider::{Answer, Finishing, Last, Launching, Service, failed, refusal};
use crate::launch::Start;
use crate::limits;
use crate::refusal::{Class, Refusal};
use crate::slots::{self, Wanted};
use crate::store::{self, Store};
use nunbird_accounts::users::UserEntry;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_host::{Destination, Fetch, Floor, Here, Places, System, Validate};
use nunbird_messages::{Group, JobDirectory, Record};
use nunbird_requests::{Confine, RefusedBy, Reply, Request, Slot, Status, Tidying};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How long a record holds at most, in seconds: what the decider lets a token hold (32 days from its issue), and a day for clocks.
const LONGEST_LIFE: u64 = 33 * 24 * 3600;
/// The longest time for a validation program, in seconds, as in the configuration.
const LONGEST_VALIDATION: u64 = 300;
/// The longest time for modules of PAM, in seconds, as in the configuration.
const LONGEST_PAM: u64 = 300;
/// The longest line of an event or for syslog, in bytes.
const MAX_LINE: usize = 64 << 10;
/// The longest answer that a program may give, in bytes.
const MAX_OUTPUT: u64 = 2 << 20;

/// The most places of events.
const MAX_PLACES: usize = 3;

/// One conversation.
pub(crate) struct Serving<'c, 'i> {
    pub(crate) context: &'c Context<'i>,
    service: Service<'c>,
    /// The configuration that the call names.
    configuration: Option<PathBuf>,
    floor: Option<Floor>,
    places: Places,
    /// Which of them are files.
    lines: Vec<bool>,
    /// What is taken back unless the job is admitted.
    slot: Option<(Store, slots::Slot, UserEntry)>,
    group: Option<Group>,
    /// Whether limits have been asked for.
    confined: bool,
    record: Option<Record>,
    /// How often places were opened, events sent, and refusals counted.
    written: [u8; 3],
}

impl Drop for Serving<'_, '_> {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            limits::abandon(self.context.privilege, group);
        }
        if let Some((store, slot, _)) = &self.slot {
            if let Some(record) = &self.record {
                // A job whose runner has no answer is none; the refusal is reported instead.
                let _stays_for_the_sweep = store.remove(&store.name_of(&record.job_directory), record);
            }
            slots::give_back(store, slot);
        }
    }
}

impl<'c, 'i> Serving<'c, 'i> {
    pub(crate) fn new(
        context: &'c Context<'i>,
        configuration: Option<PathBuf>,
        service: Service<'c>,
    ) -> Self {
        Serving {
            context,
            service,
            configuration,
            floor: None,
            places: Places::default(),
            lines: Vec::new(),
            slot: None,
            group: None,
            confined: false,
            record: None,
            written: [0; 3],
        }
    }

    /// The directory of the job that is to be admitted.
    pub(crate) fn directory(&self) -> Option<&JobDirectory> {
        match &self.service {
            Service::Config(directory) => directory.as_ref(),
            _ => None,
        }
    }

    /// Keeps what a job that is admitted needs.
    pub(crate) fn keep(&mut self) {
        self.group = None;
        self.slot = None;
        self.record = None;
    }

    fn here(&self) -> Here {
        self.context.privilege.here()
    }

    /// Serves one request.
    ///
    /// # Errors
    /// A system refusal for a request that no sound decider makes.
    pub(crate) fn serve(&mut self, request: Request) -> Result<Answer, Refusal> {
        if !self.is_of_task(&request) {
            return Err(failed(&"it asks for what is not of its task"));
        }
        let here = self.here();
        let reply = match request {
            // Steps 18a, 19.
            Request::Account(name) => or_trouble(here.account(&name), Reply::Account),
            Request::Group(name) => or_trouble(here.group(&name), Reply::Group),
            Request::File(path) => match here.file(&path) {
                Ok(file) => return self.passed_on(&path, file),
                Err(why) => Reply::Trouble(why),
            },
            // Step 14.
            Request::KeysFile(directory, name) => {
                or_trouble(self.keys_file(&directory, &name)?, Reply::Bytes)
            }
            // Steps 17, 17a, 19d.
            Request::Fetch(fetch) => self.fetch(&fetch)?,
            // Step 17b.
            Request::Validate(call) => self.validate(&call)?,
            // Step 19c.
            Request::Expiry(account) => or_trouble(here.expiry(&account), Reply::Expiry),
            // Step 19e.
            Request::Person(file) => or_trouble(here.person(&file), Reply::Person),
            // Step 20c.
            Request::RememberPerson(file, line) => self.remember(&file, &line)?,
            // Step 19b.
            Request::OwnFile(account, inside, limit) => self.own_file(&account, &inside, limit)?,
            // Step 19a.
            Request::Nologin => {
                or_trouble(here.nologin(), |file| Reply::Text(file.map(|file| file.display().to_string())))
            }
            Request::Variable(name) => match self.context.inputs.job_variable(&name) {
                Ok(value) => Reply::Text(value),
                Err(_) => Reply::Trouble("no UTF-8 text".to_owned()),
            },
            // Step 28.
            Request::Places(places) => self.open_places(&places)?,
            Request::Event(place, durably, event) => self.send(place, durably, &event)?,
            // Step 21b.
            Request::Turn(file) => self.turn(&file)?,
            Request::Trace(line) => {
                check_line(&line)?;
                nunbird_host::to_syslog(&line, Some(self.context.privilege.caller));
                Reply::Done
            }
            // Step 20.
            Request::Slot(slot) => refused(self.take_slot(&slot)),
            // Steps 20a, 20b.
            Request::Confine(confine) => refused(self.confine(&confine)),
            Request::Tidy(tidying) => refused(self.tidy(tidying)),
            // Steps 21, 21a.
            Request::Admit(record) => match self.admit(&record) {
                Ok(()) => return Ok(Answer::Last(Last::Done)),
                Err(refusal) => Reply::Refused(message(refusal)),
            },
            Request::Launch(order) => {
                let ended = self.launching()?(self.context, order);
                refused(ended.map(|end| Reply::Ended(Box::new(end))))
            }
            Request::Finish => match self.finishing()?() {
                Ok(()) => return Ok(Answer::Last(Last::Done)),
                Err(refusal) => Reply::Refused(message(refusal)),
            },
            Request::Tidied => return Ok(Answer::Last(Last::Done)),
            Request::Refuse(denied) => {
                return Ok(Answer::Last(Last::Refused(if denied { Class::Denied } else { Class::System })));
            }
            Request::Deny(refused) => return Ok(Answer::Last(Last::Denied(refusal(refused)))),
        };
        Ok(Answer::Reply(reply))
    }

    /// A decider of a stage asks for accounts, groups and passwords of the site's, writes events and has the launcher started once.
    fn is_of_task(&self, request: &Request) -> bool {
        let ours = |config, stage, tidy| match self.service {
            Service::Config(_) => config,
            Service::Stage { .. } => stage,
            Service::Tidy => tidy,
        };
        match request {
            Request::Account(_) | Request::Group(_) => true,
            Request::Variable(_)
            | Request::Places(_)
            | Request::Event(..)
            | Request::Trace(_)
            | Request::KeysFile(..)
            | Request::Refuse(_) => ours(true, true, false),
            Request::Launch(_) | Request::Finish => ours(false, true, false),
            Request::Tidy(_) | Request::Tidied | Request::Deny(_) => ours(false, false, true),
            _ => ours(true, false, false),
        }
    }

    /// Taken out: a second launch, or an end before the first, is no sound decider's.
    fn launching(&mut self) -> Result<Launching<'c>, Refusal> {
        match &mut self.service {
            Service::Stage { launch, .. } => {
                launch.take().ok_or_else(|| failed(&"it starts a second launcher"))
            }
            _ => Err(failed(&"it asks for what is not of its task")),
        }
    }

    fn finishing(&mut self) -> Result<Finishing<'c>, Refusal> {
        match &mut self.service {
            Service::Stage { launch: None, finish } => {
                finish.take().ok_or_else(|| failed(&"it finishes a second time"))
            }
            _ => Err(failed(&"it asks for what is not of its task")),
        }
    }

    /// A file for the decider, which everybody may read: it gets no secret of root's.
    fn passed_on(&self, path: &Path, file: File) -> Result<Answer, Refusal> {
        let mode = file.metadata().map_err(|e| failed(&e))?.mode();
        if self.may_show(path, mode) {
            Ok(Answer::File(file))
        } else {
            Ok(Answer::Reply(Reply::Trouble(closed(path, mode))))
        }
    }

    /// Whether everybody may read this file of root's, or the site has it where Nunbird's files are.
    fn may_show(&self, path: &Path, mode: u32) -> bool {
        let searched = |directory: &Path| {
            std::fs::symlink_metadata(directory).is_ok_and(|found| found.mode() & 0o001 != 0)
        };
        let open = mode & 0o004 != 0 && path.ancestors().skip(1).all(searched);
        open || path.starts_with("/etc/nunbird") || !self.context.privilege.source.is_privileged()
    }

    /// What is at a path, as the keeper sees it; none where nothing is.
    fn look(&self, path: &Path) -> io::Result<Option<std::fs::Metadata>> {
        match acting_as(self.context.privilege.keeper(), || std::fs::symlink_metadata(path))? {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    fn floor(&mut self) -> Result<&Floor, Refusal> {
        if self.floor.is_none() {
            self.floor = Some(Floor::read(self.context.privilege.rights())?);
        }
        self.floor.as_ref().ok_or_else(|| failed(&"no floor"))
    }

    /// A keys file is one by its name; in a directory of root's everybody must be able to read it, and any other belongs to an account that may
    /// fetch. A stage asks for the site's passwords for registries alone, which a system account keeps where root has chosen.
    fn keys_file(&mut self, directory: &Path, name: &str) -> Result<Result<Vec<u8>, String>, Refusal> {
        let stem = name.strip_suffix(".json").unwrap_or_default();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let path = directory.join(name);
        // Records have such names, too.
        if stem.is_empty() || directory.starts_with("/var/lib/nunbird/jobs") || !stem.bytes().all(plain) {
            return Ok(Err(format!("{}: no keys file", path.display())));
        }
        let here = self.here();
        let of_site = directory == Path::new("/var/lib/nunbird/credentials");
        if of_site != matches!(self.service, Service::Stage { .. }) {
            return Ok(Err(format!("{}: not a file for this stage", path.display())));
        }
        if self.context.privilege.source.is_privileged() {
            let (above, file) = match self.look(directory).and_then(|above| Ok((above, self.look(&path)?))) {
                Ok(found) => found,
                Err(e) => return Ok(Err(format!("{}: {e}", path.display()))),
            };
            let may = match (above, file) {
                (Some(above), _) if of_site => match above.uid() {
                    uid if uid >= self.floor()?.min_uid() => {
                        Err(format!("belongs to uid {uid}, which may be a user's"))
                    }
                    _ => Ok(()),
                },
                (Some(above), Some(file)) => match above.uid() {
                    0 if self.may_show(&path, file.mode()) => Ok(()),
                    0 => Err(closed(&path, file.mode())),
                    uid => self.floor()?.may_fetch(Caller { uid, gid: above.gid() }, here.0, &here),
                },
                // What is missing has a sentence of its own.
                _ => Ok(()),
            };
            if let Err(why) = may {
                return Ok(Err(format!("{}: {why}", directory.display())));
            }
        }
        Ok(here.keys_file(directory, name))
    }

    fn fetch(&mut self, fetch: &Fetch) -> Result<Reply, Refusal> {
        if fetch.program.file_name() != Some("nunbird-keys".as_ref()) || fetch.limit > MAX_OUTPUT {
            return Err(failed(&"it asks for another program than nunbird-keys"));
        }
        let here = self.here();
        let why = match self.look(&fetch.directory) {
            Err(e) => Some(e.to_string()),
            // Root's directory and one that is missing have sentences of their own.
            Ok(Some(found)) if found.uid() != 0 && self.context.privilege.source.is_privileged() => {
                let ids = Caller { uid: found.uid(), gid: found.gid() };
                self.floor()?.may_fetch(ids, here.0, &here).err()
            }
            Ok(_) => None,
        };
        if let Some(why) = why {
            let why = format!("{}: {why}", fetch.directory.display());
            return Ok(Reply::Fetched(Err(nunbird_host::Unfetched { possible: true, why })));
        }
        Ok(Reply::Fetched(self.here().fetch(fetch)))
    }

    fn validate(&mut self, call: &Validate) -> Result<Reply, Refusal> {
        let here = self.here();
        if call.seconds > LONGEST_VALIDATION {
            return Err(failed(&"it validates for too long"));
        }
        if self.context.privilege.source.is_privileged() {
            let account = match here.account(&call.user) {
                Ok(account) => account,
                Err(why) => return Ok(Reply::Trouble(why)),
            };
            // An account that is not there, and a program that is not, have sentences of their own.
            if let Some(account) = account
                && !self.floor()?.may_validate(&account, here.0, &here)
            {
                let why = format!(
                    "validation.user `{0}` is a system account; allow it by a line `validation_user {0}` in /etc/nunbird/floor",
                    call.user
                );
                return Ok(Reply::Trouble(why));
            }
            let found = self.look(&call.script).map_err(|e| failed(&e))?;
            if let Some(found) = found.filter(|found| !self.may_show(&call.script, found.mode())) {
                return Ok(Reply::Trouble(closed(&call.script, found.mode())));
            }
        }
        Ok(or_trouble(here.validate(call), Reply::Report))
    }

    fn own_file(&mut self, account: &str, inside: &Path, limit: u64) -> Result<Reply, Refusal> {
        let entry = match self.here().account(account) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(Reply::Trouble(format!("no account `{account}`"))),
            Err(why) => return Ok(Reply::Trouble(why)),
        };
        let here = self.here();
        self.floor()?.check(account, &entry, here.0, &here)?;
        if inside != Path::new(".config/nunbird/authorized_projects") || limit > 64 << 10 {
            return Err(failed(&"it asks for another file of the user's"));
        }
        Ok(or_trouble(self.here().own_file(account, inside, limit), Reply::OwnFile))
    }

    /// Opens the places of events. A file of events is known by its name, or the floor names it: no other file of root's is appended to, and none
    /// is made that another program would read as its configuration.
    fn open_places(&mut self, places: &[Destination]) -> Result<Reply, Refusal> {
        self.count(0, 2)?;
        if places.len() > MAX_PLACES {
            return Err(failed(&"it writes to too many places"));
        }
        for place in places {
            if let Destination::File(path) = place
                && !self.is_of_events(path)?
            {
                return Ok(Reply::Trouble(no_events(path)));
            }
        }
        self.places = Places::open(places, self.context.privilege.rights());
        self.lines = places.iter().map(|place| matches!(place, Destination::File(_))).collect();
        Ok(Reply::Texts(self.places.closed()))
    }

    fn is_of_events(&mut self, path: &Path) -> Result<bool, Refusal> {
        // A floor that cannot be read must not keep that very refusal out of the default file.
        let privileged = self.context.privilege.source.is_privileged();
        Ok(!privileged || Floor::is_named_for_events(path) || self.floor()?.is_of_events(path))
    }

    /// Bounds how often something is done in one conversation.
    fn count(&mut self, what: usize, most: u8) -> Result<(), Refusal> {
        match self.written.get_mut(what) {
            Some(times) if *times < most => {
                *times += 1;
                Ok(())
            }
            _ => Err(failed(&"it writes too often")),
        }
    }

    fn turn(&mut self, file: &Path) -> Result<Reply, Refusal> {
        self.count(2, 1)?;
        if !self.is_of_events(file)? {
            return Ok(Reply::Trouble(no_events(file)));
        }
        Ok(or_trouble(nunbird_host::turn(file, self.context.privilege.rights()), Reply::Turn))
    }

    /// The site's memory of whose account this is, for the account that a slot was taken for.
    fn remember(&mut self, file: &str, line: &[u8]) -> Result<Reply, Refusal> {
        let account = self.slot.as_ref().map(|(.., account)| account.name.as_str());
        let ours = file.rsplit_once(':').map(|(_, account)| account) == account;
        let line_alone =
            line.strip_suffix(b"\n").is_some_and(|line| line.len() < 128 && check_line(line).is_ok());
        if account.is_none() || !ours || !line_alone {
            return Err(failed(&"it remembers somebody out of turn"));
        }
        Ok(or_trouble(self.here().remember_person(file, line), Reply::Truth))
    }

    fn send(&mut self, place: u8, durably: bool, event: &[u8]) -> Result<Reply, Refusal> {
        self.count(1, 12)?;
        if event.len() > MAX_LINE {
            return Err(failed(&"it writes an event that is too long"));
        }
        // journald's fields may hold any bytes behind their lengths.
        if self.lines.get(usize::from(place)) == Some(&true) {
            let line =
                event.strip_suffix(b"\n").filter(|line| line.starts_with(b"{") && line.ends_with(b"}"));
            check_line(line.ok_or_else(|| failed(&"it writes something else than a line of an event"))?)?;
        }
        Ok(or_trouble(self.places.send(usize::from(place), event, durably), |()| Reply::Done))
    }

    fn take_slot(&mut self, slot: &Slot) -> Result<Reply, Refusal> {
        if self.slot.is_some() {
            return Err(failed(&"it takes a second slot"));
        }
        let account = self.permitted(&slot.account)?;
        let store = Store::open(self.context.privilege)?;
        let wanted = Wanted {
            decision_id: &self.context.decision_id,
            runner_uid: self.context.privilege.caller.uid,
            server: &slot.server,
            job_id: slot.job_id,
            uid: account.uid,
        };
        let taken = slots::take(&store, &wanted)?;
        let number = taken.number;
        self.slot = Some((store, taken, account));
        Ok(Reply::Number(number.into()))
    }

    /// The account of this name, which the floor lets run jobs.
    fn permitted(&mut self, name: &str) -> Result<UserEntry, Refusal> {
        let here = self.here();
        let entry = here.account(name).map_err(|e| checks::silent(&e))?;
        let entry = entry.ok_or_else(|| checks::missing(name))?;
        self.floor()?.check(name, &entry, here.0, &here)?;
        Ok(entry)
    }

    fn confine(&mut self, confine: &Confine) -> Result<Reply, Refusal> {
        let ours = self.slot.as_ref().is_some_and(|(.., account)| account.name == confine.account);
        if self.confined || !ours {
            return Err(failed(&"it asks for limits out of turn"));
        }
        self.confined = true;
        let made = limits::establish(self.context, confine)?;
        self.group = made.as_ref().ok().cloned();
        Ok(Reply::Confined(made))
    }

    /// Writes the record of a job, whose every field that this program goes by is compared with what it knows itself.
    fn admit(&mut self, record: &[u8]) -> Result<(), Refusal> {
        let record = Record::parse(record).map_err(|e| failed(&format!("record: {e}")))?;
        let now = store::now()?;
        let own = record.own_directory.as_deref();
        let privileges = self.context.privilege.source;
        let plain =
            record.pam.as_ref().is_none_or(|pam| is_plain(&pam.service) && pam.timeout <= LONGEST_PAM);
        let floor = self.floor()?;
        let privileged = privileges.is_privileged();
        let may_own = !privileged || own.is_none_or(|own| floor.may_own(own, &record.account.name));
        let (slot, directory) = (self.slot.as_ref(), self.directory());
        let Some(((store, slot, account), directory)) = slot.zip(directory) else {
            return Err(failed(&"it admits a job out of turn"));
        };
        let wrong = |what: &str| Err(failed(&format!("the record has {what}")));
        let end = now.epoch.saturating_add(LONGEST_LIFE);
        let ours = &record.account;
        match () {
            () if record.decision_id != self.context.decision_id => wrong("the id of another decision"),
            () if record.job_directory != *directory => wrong("another job directory"),
            () if record.runner_uid != self.context.privilege.caller.uid => wrong("another runner uid"),
            () if record.boot_id != now.boot_id || record.closed => wrong("another boot id, or has ended"),
            () if record.slot != slot.number => wrong("another slot"),
            () if (&ours.name, ours.uid, ours.gid) != (&account.name, account.uid, account.gid) => {
                wrong("another account")
            }
            () if record.group != self.group => wrong("another control group"),
            () if Some(&record.policy_path) != self.configuration.as_ref() => wrong("another policy"),
            () if !plain => wrong("a PAM service or timeout that is out of bounds"),
            () if !may_own => wrong("a data_dir that `directories_in` of the floor does not allow"),
            () if record.expires_at > end
                || record.expires_at_boottime > now.boottime.saturating_add(LONGEST_LIFE) =>
            {
                wrong("an expiry more than 33 days ahead")
            }
            () => {
                store.write(&record)?;
                self.record = Some(record);
                Ok(())
            }
        }
    }

    /// Has the launcher tidy an account's directories.
    fn tidy(&mut self, tidying: Tidying) -> Result<Reply, Refusal> {
        let account = self.permitted(&tidying.account)?;
        let ended = Start::tidy(self.context, tidying, account)?.run_and_wait(self.context)?;
        Ok(Reply::Truth(ended.end == Status::Exited(0)))
    }
}

/// For an admin.
fn no_events(path: &Path) -> String {
    format!(
        "{0}: no file of events; let its name end with .jsonl, outside /etc and Nunbird's own directories, or write `audit_file {0}` into /etc/nunbird/floor",
        path.display()
    )
}

/// For an admin.
fn closed(path: &Path, mode: u32) -> String {
    format!(
        "{}: not everybody may read it (mode {:04o}, or a directory above it); put it below /etc/nunbird, or make it readable (chmod o+r)",
        path.display(),
        mode & 0o7777
    )
}

/// A name without a path in it.
fn is_plain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !name.is_empty() && name.bytes().all(allowed)
}

/// One line of printable text.
fn check_line(line: &[u8]) -> Result<(), Refusal> {
    let text = std::str::from_utf8(line).map_err(|e| failed(&format!("a line for syslog: {e}")))?;
    if line.len() > MAX_LINE || text.chars().any(char::is_control) {
        return Err(failed(&"it sends something else than a line to syslog"));
    }
    Ok(())
}

fn or_trouble<T>(answer: Result<T, String>, reply: impl FnOnce(T) -> Reply) -> Reply {
    answer.map_or_else(Reply::Trouble, reply)
}

fn refused(answer: Result<Reply, Refusal>) -> Reply {
    answer.unwrap_or_else(|refusal| Reply::Refused(message(refusal)))
}

pub(crate) fn message(refusal: Refusal) -> RefusedBy {
    RefusedBy {
        denied: refusal.class == Class::Denied,
        code: refusal.code.name().to_owned(),
        message: refusal.message,
        detail: refusal.detail,
        help: refusal.help.into_owned(),
    }
}
