//! The host's bindings of accounts to GitLab users, read and written beside running jobs: each file
//! is created, changed and removed atomically.

use nunbird_accounts::users;
use nunbird_files::directory::Directory;
use nunbird_files::trusted::{Distrust, open_trusted_directory};
use nunbird_host::{PEOPLE_DIR, UNPRIVILEGED_PEOPLE_DIR};
use nunbird_housekeeping::Housekeeping;
use nunbird_policy::{Downscope, Person, Policy, person_file, read_people, read_person_file};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest line, in bytes.
const MAX_LINE: u64 = 128;
/// A draft that is older belongs to a process that was killed.
const DRAFT_AGE: Duration = Duration::from_secs(3600);

/// The store, opened.
pub(crate) struct PeopleStore {
    directory: Directory,
    path: PathBuf,
}

/// The contents of one file of the store.
pub(super) struct PeopleEntry {
    pub(super) name: String,
    /// Why it cannot be used, if it cannot.
    pub(super) person: Result<Person, String>,
}

/// The store for this policy's jobs; `None` if the account that runs them has no home.
pub(crate) fn directory(policy: &Policy, runner: &str) -> Option<PathBuf> {
    let user = match policy.downscope {
        Downscope::Setuid => return Some(PathBuf::from(PEOPLE_DIR)),
        Downscope::Sudo => users::by_name(runner),
        Downscope::None => users::by_uid(nix::unistd::geteuid().as_raw()),
    };
    Some(user.ok().flatten()?.home.join(UNPRIVILEGED_PEOPLE_DIR))
}

/// The store that this process may change: root's, or that of an account that runs jobs without
/// privilege.
pub(super) fn own_directory() -> Result<PathBuf, String> {
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        return Ok(PathBuf::from(PEOPLE_DIR));
    }
    let user = users::by_uid(uid.as_raw()).map_err(|e| e.to_string())?;
    let user = user.ok_or_else(|| format!("uid {uid} has no account"))?;
    Ok(user.home.join(UNPRIVILEGED_PEOPLE_DIR))
}

/// Reads a file of the site.
pub(crate) fn of_site(file: &Path) -> Result<HashMap<(String, String), u64>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    match read_people(&text) {
        Ok(people) => Ok(people.into_iter().map(|(_, p)| ((p.server, p.account), p.user_id)).collect()),
        Err(findings) => {
            let first = findings.into_iter().next();
            let first = first.map(|f| format!(":{}:{}: {}", f.line, f.column, f.message));
            Err(format!("{}{}", file.display(), first.unwrap_or_default()))
        }
    }
}

impl PeopleStore {
    /// Opens the store as `nunbird-auth` does. `None` if this host has no Nunbird at all, or no job
    /// has run yet without privilege, which creates the directory.
    ///
    /// # Errors
    /// If it is missing, cannot be read, or another account could write in it.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, String> {
        let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let privileged = path == Path::new(PEOPLE_DIR);
        // The home may be reached by a link, as in nunbird-auth.
        let whole = if privileged { Ok(path.to_path_buf()) } else { path.canonicalize() };
        let owners = match nix::unistd::geteuid().as_raw() {
            _ if privileged => vec![0],
            uid => vec![0, uid],
        };
        let fd = match whole {
            Ok(whole) => open_trusted_directory(&whole, &owners),
            Err(e) => Err(Distrust::Open(path.to_path_buf(), e)),
        };
        let fd = match fd {
            Ok(fd) => fd,
            Err(Distrust::Open(_, e)) if e.kind() == io::ErrorKind::NotFound => {
                let installed = path.parent().is_some_and(Path::exists);
                let help = format!("install -d -o root -g root -m 0700 {}", path.display());
                return if privileged && installed {
                    Err(format!("{}: {e}; {help}", path.display()))
                } else {
                    Ok(None)
                };
            }
            Err(Distrust::Open(_, e)) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(explain(&format!("{e}; run this as the account that keeps it")));
            }
            Err(e) => return Err(e.to_string()),
        };
        let directory = Directory::new(fd);
        let (uid, _, mode) = directory.owner().map_err(|e| explain(&e))?;
        if mode & 0o077 != 0 {
            return Err(explain(&format!("owned by uid {uid}, mode {mode:04o}; it must be mode 0700")));
        }
        Ok(Some(PeopleStore { directory, path: path.to_path_buf() }))
    }

    /// The GitLab user that the account is bound to; `None` for one that has had no job yet.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub(crate) fn find(&self, server: &str, account: &str) -> Result<Option<u64>, String> {
        let Some(name) = person_file(server, account) else { return Ok(None) };
        match self.directory.read(&name, MAX_LINE) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.explain(&name, &e)),
            Ok((bytes, ..)) => self.person(&name, &bytes, server, account).map(|person| Some(person.user_id)),
        }
    }

    /// Every file, in the order of accounts and servers. One that is removed meanwhile is left out.
    pub(super) fn entries(&self) -> Result<Vec<PeopleEntry>, String> {
        let names = self.directory.names().map_err(|e| format!("{}: {e}", self.path.display()))?;
        let mut entries: Vec<PeopleEntry> = names.into_iter().filter_map(|name| self.entry(name)).collect();
        entries.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
        Ok(entries)
    }

    fn entry(&self, name: String) -> Option<PeopleEntry> {
        let (server, account) = name.split_once(':').unwrap_or(("", ""));
        let person = match self.directory.read(&name, MAX_LINE) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => Err(self.explain(&name, &e)),
            Ok((bytes, ..)) => self.person(&name, &bytes, server, account),
        };
        Some(PeopleEntry { name, person })
    }

    /// The time when the file was written, in seconds since the epoch.
    pub(super) fn since(&self, name: &str) -> Option<u64> {
        let written = self.path.join(name).symlink_metadata().and_then(|meta| meta.modified()).ok()?;
        written.duration_since(std::time::UNIX_EPOCH).ok().map(|age| age.as_secs())
    }

    /// Removes one account's binding, whatever its file contains.
    pub(super) fn forget(&self, name: &str) -> Result<(), String> {
        let gone = self.directory.remove(name).and_then(|()| self.directory.sync());
        gone.map_err(|e| self.explain(name, &e))
    }

    /// Writes all of these, or none. The files are on disk before the first gets its name.
    pub(super) fn write(&self, people: &[Person], replace: bool) -> Result<(), String> {
        let mut drafts = Vec::new();
        let mut done = Vec::new();
        let written = self
            .draft_all(people, &mut drafts)
            .and_then(|()| drafts.iter().try_for_each(|draft| self.publish(draft, replace, &mut done)))
            .and_then(|()| self.directory.sync_all().map_err(|e| self.explain("", &e)));
        let Err(why) = written else { return Ok(()) };
        let mut troubles = vec![why];
        for (name, before) in done.iter().rev() {
            troubles.extend(self.undo(name, before.as_ref()).err());
        }
        for (draft, _) in &drafts {
            troubles.extend(self.directory.remove(draft).err().map(|e| self.explain(draft, &e)));
        }
        Err(troubles.join("\n"))
    }

    fn draft_all<'p>(
        &self,
        people: &'p [Person],
        drafts: &mut Vec<(String, &'p Person)>,
    ) -> Result<(), String> {
        for person in people {
            let draft = self.directory.draft_for_later(person.line().as_bytes());
            drafts.push((draft.map_err(|e| self.explain("", &e))?, person));
        }
        self.directory.sync_all().map_err(|e| self.explain("", &e))
    }

    /// Gives one draft its name; `done` gets the previous content.
    fn publish(
        &self,
        (draft, person): &(String, &Person),
        replace: bool,
        done: &mut Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), String> {
        let name = person_file(&person.server, &person.account).ok_or("not a valid account name")?;
        let failed = |e: &io::Error| self.explain(&name, e);
        if self.directory.publish(draft, &name).map_err(|e| failed(&e))? {
            done.push((name, None));
            return Ok(());
        }
        let (before, ..) = self.directory.read(&name, MAX_LINE).map_err(|e| failed(&e))?;
        if before == person.line().as_bytes() {
            return Ok(());
        }
        if !replace {
            return Err(self.explain(&name, &"a job has bound the account to another user meanwhile"));
        }
        let draft = self.directory.draft(person.line().as_bytes()).map_err(|e| failed(&e))?;
        self.directory.publish_over(&draft, &name).map_err(|e| failed(&e))?;
        done.push((name, Some(before)));
        Ok(())
    }

    fn undo(&self, name: &str, before: Option<&Vec<u8>>) -> Result<(), String> {
        let undone = match before {
            None => self.directory.remove(name),
            Some(before) => self.directory.draft(before).and_then(|d| self.directory.publish_over(&d, name)),
        };
        undone.map_err(|e| format!("{} (and it could not be put back)", self.explain(name, &e)))
    }

    /// Removes drafts that killed processes left.
    pub(super) fn tidy(&self) {
        let drafts = self.directory.hidden_names().unwrap_or_default();
        for draft in drafts.iter().filter(|name| name.ends_with(".draft")) {
            let written = self.path.join(draft).symlink_metadata().and_then(|meta| meta.modified());
            if written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > DRAFT_AGE)) {
                let _next_time = self.directory.remove(draft);
            }
        }
    }

    fn person(&self, name: &str, bytes: &[u8], server: &str, account: &str) -> Result<Person, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| self.explain(name, &e))?;
        let user_id = read_person_file(text, server, account).map_err(|e| self.explain(name, &e))?;
        Ok(Person { account: account.to_owned(), server: server.to_owned(), user_id })
    }

    fn explain(&self, name: &str, error: &dyn std::fmt::Display) -> String {
        format!("{}: {error}", self.path.join(name).display())
    }
}

fn order(name: &str) -> (&str, &str) {
    let (server, account) = name.split_once(':').unwrap_or(("", name));
    (account, server)
}
