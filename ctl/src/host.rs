//! The hosts that decisions are made for: this one, and the one that a test describes.

use crate::people::{self, PeopleStore};
use nunbird_accounts::users;
use nunbird_handover::Code;
use nunbird_policy::{
    AccountFacts, Downscope, Host, HostError, LocalFacts, MapFile, Policy, ServerUser, Subject,
};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The user database and the map files as this process sees them. Map files are read once.
#[derive(Default)]
pub(crate) struct ThisHost {
    maps: RefCell<BTreeMap<PathBuf, String>>,
    /// Where this host stores the bindings of accounts to users; nothing is stored if `None`.
    people: Option<PathBuf>,
    people_files: RefCell<BTreeMap<PathBuf, PeopleFile>>,
}

/// By server and account, or why the file cannot be used.
type PeopleFile = Result<HashMap<(String, String), u64>, String>;

impl ThisHost {
    /// This host, with the people that the policy's jobs are checked against.
    pub(crate) fn of(policy: &Policy, runner: &str) -> Self {
        ThisHost { people: people::directory(policy, runner), ..ThisHost::default() }
    }

    fn of_site(&self, file: &Path, server: &str, account: &str) -> Result<Option<u64>, String> {
        let mut files = self.people_files.borrow_mut();
        let people = files.entry(file.to_path_buf()).or_insert_with(|| people::of_site(file));
        let people = people.as_ref().map_err(Clone::clone)?;
        Ok(people.get(&(server.to_owned(), account.to_owned())).copied())
    }

    fn remembered(&self, server: &str, account: &str) -> Result<Option<u64>, String> {
        let Some(directory) = self.people.as_deref() else { return Ok(None) };
        match PeopleStore::open(directory)? {
            Some(store) => store.find(server, account),
            None => Ok(None),
        }
    }
}

impl Host for ThisHost {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        let entry = users::by_name(name).map_err(|e| silent(name, &e))?;
        Ok(entry.map(|entry| AccountFacts {
            name: entry.name,
            uid: entry.uid,
            gid: entry.gid,
            groups: entry.groups,
            home: entry.home,
            shell: entry.shell,
            name_of_uid: entry.name_of_uid,
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, HostError> {
        Ok(users::group_by_name(name).map_err(|e| silent(name, &e))?.map(|entry| entry.gid))
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        let entry = users::group_by_name(group).map_err(|e| silent(group, &e))?;
        Ok(entry.map(|entry| entry.has(&account.name, account.gid, &account.groups)))
    }

    fn group_name(&self, gid: u32) -> Option<String> {
        group_name(gid)
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, HostError> {
        if let Some(text) = self.maps.borrow().get(&map.file) {
            return Ok(Cow::Owned(text.clone()));
        }
        let text = std::fs::read_to_string(&map.file)
            .map_err(|e| HostError { code: Code::Map, detail: format!("{}: {e}", map.file.display()) })?;
        self.maps.borrow_mut().insert(map.file.clone(), text.clone());
        Ok(Cow::Owned(text))
    }

    fn pinned(
        &self,
        people_file: Option<&Path>,
        server: &str,
        account: &str,
    ) -> Result<Option<u64>, HostError> {
        let failed = |detail| HostError { code: Code::PinStore, detail };
        let said = people_file.map(|file| self.of_site(file, server, account)).transpose().map_err(failed)?;
        let known = match said.flatten() {
            Some(user_id) => Some(user_id),
            None => self.remembered(server, account).map_err(failed)?,
        };
        Ok(known)
    }

    /// No server is asked here, and a job that has ended would get no answer: the result is that of
    /// a person's job.
    fn server_user(&self, job: &Subject) -> Result<ServerUser, HostError> {
        Ok(ServerUser::person(job))
    }
}

/// The name of a group, if the host knows one.
pub(crate) fn group_name(gid: u32) -> Option<String> {
    nix::unistd::Group::from_gid(gid.into()).ok().flatten().map(|group| group.name)
}

fn silent(name: &str, error: &dyn std::fmt::Display) -> HostError {
    HostError { code: Code::UserDatabase, detail: format!("looking up `{name}`: {error}") }
}

/// This host, with the facts that a test describes.
pub(crate) struct TestHost<'a> {
    /// Replaces every account of the user database.
    pub(crate) facts: Option<&'a LocalFacts>,
    /// The GitLab user that every account is bound to; `None` for accounts that have had no job
    /// yet.
    pub(crate) pinned: Option<u64>,
    /// What the GitLab server reports about the user.
    pub(crate) user: &'a ServerUser,
    pub(crate) host: &'a ThisHost,
}

/// Invented groups get gids from here on.
const FIRST_GID: u32 = 4_000_000_000;

impl Host for TestHost<'_> {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        let Some(facts) = self.facts else { return self.host.account(name) };
        let gids = (FIRST_GID..).zip(&facts.groups).map(|(gid, _)| gid);
        Ok(Some(AccountFacts {
            name: name.to_owned(),
            uid: facts.uid,
            gid: FIRST_GID - 1,
            groups: gids.collect(),
            home: PathBuf::from("/home").join(name),
            shell: facts.shell.clone(),
            name_of_uid: Some(name.to_owned()),
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, HostError> {
        let Some(facts) = self.facts else { return self.host.group(name) };
        // Every other group exists, and the account is not in it.
        let of_account = (FIRST_GID..).zip(&facts.groups).find(|(_, group)| *group == name);
        Ok(Some(of_account.map_or(FIRST_GID - 2, |(gid, _)| gid)))
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        if self.facts.is_none() {
            return self.host.is_member(account, group);
        }
        Ok(self.group(group)?.map(|gid| account.is_in(gid)))
    }

    fn group_name(&self, gid: u32) -> Option<String> {
        let Some(facts) = self.facts else { return self.host.group_name(gid) };
        let of_test = (FIRST_GID..).zip(&facts.groups).find(|(known, _)| *known == gid);
        of_test.map(|(_, name)| name.clone())
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, HostError> {
        self.host.map(map)
    }

    fn pinned(&self, _: Option<&Path>, _: &str, _: &str) -> Result<Option<u64>, HostError> {
        Ok(self.pinned)
    }

    fn server_user(&self, _: &Subject) -> Result<ServerUser, HostError> {
        Ok(self.user.clone())
    }
}

/// The uid of the account that runs gitlab-runner. Without privilege it is the caller; an account
/// that does not exist runs nothing, and no job can run as it.
pub(crate) fn runner(policy: &Policy, name: &str) -> u32 {
    match policy.downscope {
        Downscope::None => nix::unistd::getuid().as_raw(),
        Downscope::Setuid | Downscope::Sudo => {
            users::by_name(name).ok().flatten().map_or(u32::MAX, |entry| entry.uid)
        }
    }
}
