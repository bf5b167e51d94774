//! Signing keys as `nunbird-auth` would have them after asking the servers, without a change to the
//! keys directory: `nunbird-keys` works on a copy of it, under the same limit on how often a server
//! is asked.

use nunbird_files::directory::Directory;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_host::{Here, Rights};
use nunbird_judge::Fetched;
use nunbird_judge::keys::{self, Keys};
use nunbird_policy::Policy;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The largest keys file, in bytes.
const MAX_KEYS_FILE: u64 = 1 << 20;

/// Fetches the keys of every server. `before` is what its keys files contain now.
///
/// # Errors
/// If no copy can be made.
pub(crate) fn keys(policy: &Policy, rights: Rights, before: Keys) -> io::Result<Fetched> {
    // As their owner, as nunbird-keys would: root does not copy files that this account could not
    // read.
    let owner = match std::fs::metadata(&policy.keys_dir) {
        Ok(meta) if rights.can_change_user => Caller { uid: meta.uid(), gid: meta.gid() },
        _ => rights.keeper,
    };
    acting_as(owner, || fetch(policy, rights, before)).flatten()
}

fn fetch(policy: &Policy, rights: Rights, before: Keys) -> io::Result<Fetched> {
    let directory = tempfile::Builder::new().prefix("nunbirdctl-").tempdir()?;
    let mut copies = Vec::new();
    for server in &policy.gitlab {
        let names = [format!("{}.json", server.name), format!("{}.attempt", server.name)];
        for name in &names {
            copy(&policy.keys_dir, name, &directory.path().join(name))?;
        }
        copies.push(inode(&directory.path().join(&names[0])));
    }
    let (done, troubles) = keys::refresh(policy, directory.path(), &Here(rights));
    let opened = Directory::new(OwnedFd::from(File::open(directory.path())?));
    let mut files = before.files;
    for ((server, file), copy) in policy.gitlab.iter().zip(&mut files).zip(copies) {
        let name = format!("{}.json", server.name);
        if inode(&directory.path().join(&name)) != copy
            && let Ok((bytes, ..)) = opened.read(&name, MAX_KEYS_FILE)
        {
            *file = bytes;
        }
    }
    directory.close()?;
    let troubles = before.troubles.into_iter().chain(troubles).collect();
    Ok(Fetched { keys: Keys { files, troubles }, done })
}

/// Copies a file with its mtime, if it exists. A file that its owner may not read is unreadable in
/// the copy as well.
fn copy(keys_dir: &Path, name: &str, to: &Path) -> io::Result<()> {
    let Ok(directory) = File::open(keys_dir) else { return Ok(()) };
    let (bytes, mode) = match Directory::new(OwnedFd::from(directory)).read(name, MAX_KEYS_FILE) {
        Ok((bytes, ..)) => (bytes, 0o600),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // nunbird-keys treats a file that is too large as damaged.
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => (Vec::new(), 0o600),
        Err(_) => (Vec::new(), 0),
    };
    let Ok(meta) = std::fs::symlink_metadata(keys_dir.join(name)) else { return Ok(()) };
    let mut target = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    target.write_all(&bytes)?;
    target.set_modified(meta.modified()?)
}

/// What distinguishes a file from its successor: `nunbird-keys` writes to another name and renames.
fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}
