//! A host for tests: accounts, groups and maps as the test wants them.

use crate::account::AccountFacts;
use crate::host::{Host, HostError};
use crate::{MapFile, ServerUser, Subject};
use nunbird_handover::Code;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

/// Every account exists with a uid of its own, unless the test sets another.
#[derive(Default)]
pub(crate) struct MadeUp {
    pub(crate) accounts: BTreeMap<String, AccountFacts>,
    pub(crate) groups: BTreeMap<String, u32>,
    pub(crate) map: String,
    pub(crate) silent: bool,
    pub(crate) people: BTreeMap<(String, String), u64>,
    /// What the server says about the user, who is an active person where there is nothing.
    pub(crate) user: Option<Result<ServerUser, HostError>>,
    /// How often it was asked.
    pub(crate) asked: Cell<usize>,
    /// How often a map was read.
    pub(crate) maps_read: Cell<usize>,
}

impl MadeUp {
    pub(crate) fn with(mut self, facts: AccountFacts) -> Self {
        self.accounts.insert(facts.name.clone(), facts);
        self
    }
}

pub(crate) fn account(name: &str, uid: u32) -> AccountFacts {
    AccountFacts {
        name: name.to_owned(),
        uid,
        gid: uid,
        groups: vec![uid],
        home: format!("/home/{name}").into(),
        shell: "/bin/bash".into(),
        name_of_uid: Some(name.to_owned()),
    }
}

impl Host for MadeUp {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        if self.silent {
            return Err(HostError { code: Code::UserDatabase, detail: "no answer".to_owned() });
        }
        Ok(self.accounts.get(name).cloned())
    }

    fn group(&self, name: &str) -> Result<Option<u32>, HostError> {
        Ok(self.groups.get(name).copied())
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        Ok(self.group(group)?.map(|gid| account.is_in(gid)))
    }

    fn map(&self, _: &MapFile) -> Result<Cow<'_, str>, HostError> {
        self.maps_read.set(self.maps_read.get() + 1);
        Ok(Cow::Borrowed(&self.map))
    }

    fn pinned(&self, _: Option<&Path>, server: &str, account: &str) -> Result<Option<u64>, HostError> {
        Ok(self.people.get(&(server.to_owned(), account.to_owned())).copied())
    }

    fn server_user(&self, job: &Subject) -> Result<ServerUser, HostError> {
        self.asked.set(self.asked.get() + 1);
        self.user.clone().unwrap_or_else(|| Ok(ServerUser::person(job)))
    }
}

/// Alice's push to a protected branch of hpc/app.
pub(crate) fn subject() -> Subject {
    Subject {
        server: "main".to_owned(),
        user_login: "alice".to_owned(),
        user_id: 7,
        project_path: "hpc/app".to_owned(),
        project_id: 3,
        namespace_path: "hpc".to_owned(),
        git_ref: "main".to_owned(),
        ref_protected: Some(true),
        pipeline_source: Some("push".to_owned()),
        ..Subject::default()
    }
}
