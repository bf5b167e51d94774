//! The hosts that decisions are made for: this one, and one that a test makes up.

use nunbird_handover::Code;
use nunbird_policy::{AccountFacts, Downscope, Host, LocalFacts, MapFile, Policy, Trouble};
use nunbird_sys::users;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The user database and the map files as this process sees them. Map files are read once.
#[derive(Default)]
pub(crate) struct ThisHost {
    maps: RefCell<BTreeMap<PathBuf, String>>,
}

impl Host for ThisHost {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, Trouble> {
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

    fn group(&self, name: &str) -> Result<Option<u32>, Trouble> {
        users::group_by_name(name).map_err(|e| silent(name, &e))
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, Trouble> {
        if let Some(text) = self.maps.borrow().get(&map.file) {
            return Ok(Cow::Owned(text.clone()));
        }
        let text = std::fs::read_to_string(&map.file)
            .map_err(|e| Trouble { code: Code::Map, detail: format!("{}: {e}", map.file.display()) })?;
        self.maps.borrow_mut().insert(map.file.clone(), text.clone());
        Ok(Cow::Owned(text))
    }
}

fn silent(name: &str, error: &dyn std::fmt::Display) -> Trouble {
    Trouble { code: Code::UserDatabase, detail: format!("looking up `{name}`: {error}") }
}

/// This host, with the account that a test makes up in place of every account of the user database.
pub(crate) struct MadeUp<'a> {
    pub(crate) facts: &'a LocalFacts,
    pub(crate) host: &'a ThisHost,
}

/// Made-up groups get gids from here on.
const FIRST_GID: u32 = 4_000_000_000;

impl Host for MadeUp<'_> {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, Trouble> {
        let gids = (FIRST_GID..).zip(&self.facts.groups).map(|(gid, _)| gid);
        Ok(Some(AccountFacts {
            name: name.to_owned(),
            uid: self.facts.uid,
            gid: FIRST_GID - 1,
            groups: gids.collect(),
            home: PathBuf::from("/home").join(name),
            shell: self.facts.shell.clone(),
            name_of_uid: Some(name.to_owned()),
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, Trouble> {
        // Every other group is there, and the account is not in it.
        let of_account = (FIRST_GID..).zip(&self.facts.groups).find(|(_, group)| *group == name);
        Ok(Some(of_account.map_or(FIRST_GID - 2, |(gid, _)| gid)))
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, Trouble> {
        self.host.map(map)
    }
}

/// The uid of the account that runs gitlab-runner. Without privilege it is whoever asks; an account that does not exist
/// runs nothing, and no job can become it.
pub(crate) fn runner(policy: &Policy, name: &str) -> u32 {
    match policy.downscope {
        Downscope::None => nix::unistd::getuid().as_raw(),
        Downscope::Setuid | Downscope::Sudo => {
            users::by_name(name).ok().flatten().map_or(u32::MAX, |entry| entry.uid)
        }
    }
}
