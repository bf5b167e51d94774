//! The user database, through the name service switch (nsswitch.conf(5)).

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use nunbird_wire::layout;
use std::ffi::CString;
use std::io;
use std::path::PathBuf;

/// One entry of the user database, with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// The name that the database returned, which may differ from the one asked for.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, the primary one among them.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
    /// The name that the database has for the uid.
    pub name_of_uid: Option<String>,
}

layout!(UserEntry { name, uid, gid, groups, home, shell, name_of_uid });

/// Looks a name up.
///
/// # Errors
/// When the database cannot be asked; an unknown name is `None`.
pub fn by_name(name: &str) -> io::Result<Option<UserEntry>> {
    User::from_name(name)?.map(complete).transpose()
}

/// Looks a uid up.
///
/// # Errors
/// As [`by_name`].
pub fn by_uid(uid: u32) -> io::Result<Option<UserEntry>> {
    User::from_uid(Uid::from_raw(uid))?.map(complete).transpose()
}

/// One entry of the group database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// Group id.
    pub gid: u32,
    /// The names that the database lists as members. Accounts whose primary group it is need not be among them, and some
    /// name services list nobody (sssd.conf(5), `ignore_group_members`).
    pub members: Vec<String>,
}

layout!(GroupEntry { gid, members });

impl GroupEntry {
    /// Whether an account is a member: by its own groups, by its primary group, or by the group's list.
    ///
    /// Both directions are asked because getgrouplist(3) cannot fail: a database that does not answer it looks like one
    /// that has no further groups of the account.
    pub fn has(&self, name: &str, primary: u32, groups: &[u32]) -> bool {
        primary == self.gid || groups.contains(&self.gid) || self.members.iter().any(|member| member == name)
    }
}

/// Looks a group up.
///
/// # Errors
/// When the database cannot be asked; an unknown name is `None`. `ERANGE` for an entry of more than 1 MiB.
pub fn group_by_name(name: &str) -> io::Result<Option<GroupEntry>> {
    Ok(Group::from_name(name)?.map(|group| GroupEntry { gid: group.gid.as_raw(), members: group.mem }))
}

fn complete(user: User) -> io::Result<UserEntry> {
    let name = CString::new(user.name.as_str())?;
    let groups = getgrouplist(&name, user.gid)?;
    // getgrouplist(3) reports no error. A database that is away answers this with one, whether it has an entry or not.
    Group::from_gid(user.gid)?;
    let name_of_uid = User::from_uid(user.uid)?.map(|other| other.name);
    Ok(UserEntry {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
        home: user.dir,
        // passwd(5): an empty field is the Bourne shell.
        shell: if user.shell.as_os_str().is_empty() { PathBuf::from("/bin/sh") } else { user.shell },
        name: user.name,
        name_of_uid,
    })
}
