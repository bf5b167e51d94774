//! The answers of this process.

use crate::keys::{Fetch, Unfetched};
use crate::nologin;
use crate::own_file::{self, OwnFile};
use crate::people::{People, PersonFile};
use crate::rights::Rights;
use crate::system::System;
use crate::validation::{self, Report, Validate};
use crate::{files, keys};
use nunbird_accounts::shadow::{self, Expiry};
use nunbird_accounts::users::{self, GroupEntry, UserEntry};
use nunbird_sys::{clock, rlimits};
use std::fs::File;
use std::path::{Path, PathBuf};

/// This host, asked with these rights.
#[derive(Debug, Clone, Copy)]
pub struct Here(pub Rights);

impl System for Here {
    fn account(&self, name: &str) -> Result<Option<UserEntry>, String> {
        users::by_name(name)
            .and_then(|entry| rlimits::check_raised().map(|()| entry))
            .map_err(|e| format!("looking up `{name}`: {e}"))
    }

    fn group(&self, name: &str) -> Result<Option<GroupEntry>, String> {
        users::group_by_name(name)
            .and_then(|entry| rlimits::check_raised().map(|()| entry))
            .map_err(|e| format!("looking up group `{name}`: {e}"))
    }

    fn file(&self, path: &Path) -> Result<File, String> {
        files::open(path, self.0).map_err(|e| e.to_string())
    }

    fn keys_file(&self, directory: &Path, name: &str) -> Result<Vec<u8>, String> {
        keys::read(directory, name, self.0)
    }

    fn fetch(&self, fetch: &Fetch) -> Result<Vec<u8>, Unfetched> {
        keys::fetch(fetch, self.0)
    }

    fn validate(&self, validate: &Validate) -> Result<Report, String> {
        validation::run(validate, self.0)
    }

    fn expiry(&self, account: &str) -> Result<Expiry, String> {
        // With file capabilities the process may not read shadow(5).
        if !self.0.reads_shadow {
            return Ok(Expiry::Unknown);
        }
        let now = clock::now().map_err(|e| format!("the clock: {e}"))?;
        shadow::expiry(account, now).map_err(|e| format!("looking up `{account}`: {e}"))
    }

    fn person(&self, file: &str) -> Result<Option<PersonFile>, String> {
        People::known(self.0, file)
    }

    fn remember_person(&self, file: &str, line: &[u8]) -> Result<bool, String> {
        People::open(self.0)?.remember(file, line)
    }

    fn own_file(&self, account: &str, inside: &Path, limit: u64) -> Result<OwnFile, String> {
        let entry = self.account(account)?.ok_or_else(|| format!("no account `{account}`"))?;
        own_file::read(&entry, inside, limit, self.0)
    }

    fn nologin(&self) -> Result<Option<PathBuf>, String> {
        nologin::look()
    }
}
