//! Signing keys as `nunbird-auth` would have them after asking the servers, without a change to the keys directory: `nunbird-keys` works
//! on a copy of it, under the same limit on how often a server is asked.

use nunbird_judge::keys::{self, Keys};
use nunbird_judge::{Fetched, Rights};
use nunbird_policy::Policy;
use nunbird_sys::directory::Directory;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;

/// The largest keys file, in bytes.
const MAX_KEYS_FILE: u64 = 1 << 20;

/// Fetches the keys of every server. `before` is what its keys files hold now.
///
/// # Errors
/// When no copy can be made.
pub(crate) fn keys(policy: &Policy, rights: Rights, before: Keys) -> io::Result<Fetched> {
    let directory = tempfile::Builder::new().prefix("nunbirdctl-").tempdir()?;
    let owner = std::fs::metadata(&policy.keys_dir).ok().filter(|_| rights.can_change_user);
    let give = |path: &Path| match &owner {
        Some(owner) => chown(path, Some(owner.uid()), Some(owner.gid())),
        None => Ok(()),
    };
    let mut copies = Vec::new();
    for server in &policy.gitlab {
        let (keys_file, attempt) = (format!("{}.json", server.name), format!("{}.attempt", server.name));
        for (name, to) in
            [(&keys_file, directory.path().join(&keys_file)), (&attempt, directory.path().join(&attempt))]
        {
            if copy(&policy.keys_dir, name, &to)? {
                give(&to)?;
            }
        }
        copies.push(inode(&directory.path().join(&keys_file)));
    }
    // From here on it is another account's, who may put anything there.
    give(directory.path())?;
    let (done, troubles) = keys::refresh(policy, directory.path(), rights);
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
    let troubles = before.troubles.into_iter().chain(troubles).collect();
    Ok(Fetched { keys: Keys { files, troubles }, done })
}

/// Copies a file with its time; false where there is none that counts. Only the directory's owner's own files are copied, without
/// following links: the copy goes to that owner, who may not get another file's content so.
fn copy(keys_dir: &Path, name: &str, to: &Path) -> io::Result<bool> {
    let Ok(directory) = File::open(keys_dir) else { return Ok(false) };
    let directory = Directory::new(OwnedFd::from(directory));
    let (owner, ..) = directory.owner()?;
    let Ok((bytes, uid, _)) = directory.read(name, MAX_KEYS_FILE) else { return Ok(false) };
    let Ok(meta) = std::fs::symlink_metadata(keys_dir.join(name)) else { return Ok(false) };
    if uid != owner {
        return Ok(false);
    }
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    target.write_all(&bytes)?;
    target.set_modified(meta.modified()?)?;
    Ok(true)
}

/// What a file is told from its successor by: `nunbird-keys` writes beside it and renames.
fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}
