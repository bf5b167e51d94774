//! The questions.

use crate::keys::{Fetch, Unfetched};
use crate::own_file::OwnFile;
use crate::people::PersonFile;
use crate::validation::{Report, Validate};
use nunbird_accounts::shadow::Expiry;
use nunbird_accounts::users::{GroupEntry, UserEntry};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What is asked of a host. The errors are sentences for the admin; none of them is ever an answer.
pub trait System {
    /// The account of this name; none where the user database has none.
    ///
    /// # Errors
    /// When the database does not answer.
    fn account(&self, name: &str) -> Result<Option<UserEntry>, String>;

    /// The group of this name; none where the group database has none.
    ///
    /// # Errors
    /// When the database does not answer.
    fn group(&self, name: &str) -> Result<Option<GroupEntry>, String>;

    /// A regular file that only root, or without privilege the user itself, can have written, open for reading.
    ///
    /// # Errors
    /// As [`nunbird_files::trusted::Distrust`].
    fn file(&self, path: &Path) -> Result<File, String>;

    /// The content of a file of the keys directory that root or the owner of the directory has written.
    ///
    /// # Errors
    /// When it is missing, belongs to another account, or is longer than 1 MiB.
    fn keys_file(&self, directory: &Path, name: &str) -> Result<Vec<u8>, String>;

    /// What `nunbird-keys` prints, run as the owner of the keys directory.
    ///
    /// # Errors
    /// When it could not be run, failed or was late.
    fn fetch(&self, fetch: &Fetch) -> Result<Vec<u8>, Unfetched>;

    /// What the site's validation program prints and how it ends.
    ///
    /// # Errors
    /// When it could not be run.
    fn validate(&self, validate: &Validate) -> Result<Report, String>;

    /// Whether the account has expired, as far as the process may know it.
    ///
    /// # Errors
    /// When the database does not answer.
    fn expiry(&self, account: &str) -> Result<Expiry, String>;

    /// A file of the store of people; none where no job has made it yet.
    ///
    /// # Errors
    /// When the store or the file cannot be read, or belongs to another account.
    fn person(&self, file: &str) -> Result<Option<PersonFile>, String>;

    /// Writes such a file, unless it is there already. Whether it is new.
    ///
    /// # Errors
    /// When the disk does not have the line for certain.
    fn remember_person(&self, file: &str, line: &[u8]) -> Result<bool, String>;

    /// A file below the home directory of the account with this name, of at most `limit` bytes, read as the account.
    ///
    /// # Errors
    /// When it could not be read in time, or there is no such account.
    fn own_file(&self, account: &str, inside: &Path, limit: u64) -> Result<OwnFile, String>;

    /// The file by which the host keeps jobs out for the moment; none where there is none.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn nologin(&self) -> Result<Option<PathBuf>, String>;
}
