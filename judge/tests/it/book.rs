//! A host whose answers are written down, those that no real host gives when it is asked to among them: a database that is away.

use nunbird_accounts::shadow::Expiry;
use nunbird_accounts::users::{GroupEntry, UserEntry};
use nunbird_host::{Fetch, OwnFile, PersonFile, Report, System, Unfetched, Validate};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) accounts: BTreeMap<String, UserEntry>,
    pub(crate) groups: BTreeMap<String, GroupEntry>,
    pub(crate) people: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    pub(crate) expiry: Option<Expiry>,
    /// Whether nothing answers.
    pub(crate) silent: bool,
    /// How often something was looked up.
    pub(crate) asked: Rc<Cell<u32>>,
}

pub(crate) fn entry(name: &str, id: u32) -> UserEntry {
    UserEntry {
        name: name.to_owned(),
        uid: id,
        gid: id,
        groups: vec![id, 4200],
        home: format!("/home/{name}").into(),
        shell: PathBuf::from("/bin/bash"),
        name_of_uid: Some(name.to_owned()),
    }
}

/// With alice, and bob who is not in her groups.
pub(crate) fn book() -> Book {
    let mut book = Book::default();
    book.accounts.insert("alice".to_owned(), entry("alice", 4101));
    book.accounts.insert("bob".to_owned(), UserEntry { groups: vec![4102], ..entry("bob", 4102) });
    book.accounts.insert("small".to_owned(), entry("small", 900));
    book.groups.insert("lattice".to_owned(), GroupEntry { gid: 4200, members: vec!["carol".to_owned()] });
    book.groups.insert("listed".to_owned(), GroupEntry { gid: 4300, members: vec!["bob".to_owned()] });
    book
}

impl Book {
    fn answer<T>(&self, answer: T) -> Result<T, String> {
        self.asked.set(self.asked.get() + 1);
        if self.silent { Err("the database is away".to_owned()) } else { Ok(answer) }
    }
}

const NOT_WRITTEN_DOWN: &str = "nothing is written down about it";

impl System for Book {
    fn account(&self, name: &str) -> Result<Option<UserEntry>, String> {
        self.answer(self.accounts.get(name).cloned())
    }

    fn group(&self, name: &str) -> Result<Option<GroupEntry>, String> {
        self.answer(self.groups.get(name).cloned())
    }

    fn file(&self, path: &Path) -> Result<File, String> {
        self.answer(())?;
        File::open(path).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn keys_file(&self, _: &Path, _: &str) -> Result<Vec<u8>, String> {
        Err(NOT_WRITTEN_DOWN.to_owned())
    }

    fn fetch(&self, _: &Fetch) -> Result<Vec<u8>, Unfetched> {
        Err(Unfetched { possible: false, why: NOT_WRITTEN_DOWN.to_owned() })
    }

    fn validate(&self, _: &Validate) -> Result<Report, String> {
        Err(NOT_WRITTEN_DOWN.to_owned())
    }

    fn expiry(&self, _: &str) -> Result<Expiry, String> {
        self.answer(self.expiry.unwrap_or(Expiry::Valid))
    }

    fn person(&self, file: &str) -> Result<Option<PersonFile>, String> {
        let bytes = self.people.borrow().get(file).cloned();
        self.answer(bytes.map(|bytes| PersonFile { path: Path::new("/people").join(file), bytes }))
    }

    fn remember_person(&self, file: &str, line: &[u8]) -> Result<bool, String> {
        let new = !self.people.borrow().contains_key(file);
        if new {
            self.people.borrow_mut().insert(file.to_owned(), line.to_vec());
        }
        self.answer(new)
    }

    fn own_file(&self, _: &str, _: &Path, _: u64) -> Result<OwnFile, String> {
        Err(NOT_WRITTEN_DOWN.to_owned())
    }

    fn nologin(&self) -> Result<Option<PathBuf>, String> {
        Err(NOT_WRITTEN_DOWN.to_owned())
    }
}
