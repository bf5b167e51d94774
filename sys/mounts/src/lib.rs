//! Mounts of a process that has a mount namespace of its own, and user namespaces for idmapped ones (mount_setattr(2)); the first process of a
//! machine.
//!
//! All of it takes `CAP_SYS_ADMIN`. Directories and files are named by descriptors: a path is only what the caller has made itself.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod leader;

pub use leader::Leader;

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nunbird_sys::fork::fork_into;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// linux/mount.h; musl's and older headers do not have them.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC.cast_unsigned();
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH.cast_unsigned();
const ATTR_RDONLY: u64 = 1;
const ATTR_NOSUID: u64 = 2;
const ATTR_NODEV: u64 = 4;
const ATTR_IDMAP: u64 = 0x0010_0000;

/// `struct mount_attr`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What a mount allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allows {
    /// Writing.
    pub writing: bool,
    /// Setuid programs.
    pub setuid: bool,
}

/// Gives this process a mount namespace of its own, from which nothing reaches the one before.
///
/// # Errors
/// As unshare(2) and mount(2).
pub fn own_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    Ok(mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?)
}

/// Mounts a new file system at a directory of the caller's. Device files work in none.
///
/// # Errors
/// As mount(2).
pub fn make(kind: &str, at: &Path, options: &str) -> io::Result<()> {
    // Setuid programs of a machine are to work in it: its root is nobody here. A device is the host's for every process.
    let flags = if kind == "overlay" { MsFlags::empty() } else { MsFlags::MS_NOSUID } | MsFlags::MS_NODEV;
    Ok(mount(Some(kind), at, Some(kind), flags, Some(options))?)
}

/// A copy of the mount that this file or directory is on, beginning at it, whose owners are those of a user namespace and which allows this
/// and no more. Device files do not work there. It has no place yet.
///
/// # Errors
/// As open_tree(2) and mount_setattr(2): `EINVAL` where the file system does not support such mounts, `ENOSYS` before Linux 5.12.
pub fn mapped(of: &impl AsFd, users: &impl AsFd, allows: Allows) -> io::Result<OwnedFd> {
    // SAFETY: the path is a constant with a NUL at its end; the other arguments are numbers.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            of.as_fd().as_raw_fd(),
            c"".as_ptr(),
            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | EMPTY_PATH,
        )
    };
    let fd = RawFd::try_from(opened).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open_tree(2) has just made this descriptor; no other value owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut set = ATTR_IDMAP | ATTR_NODEV;
    if !allows.writing {
        set |= ATTR_RDONLY;
    }
    if !allows.setuid {
        set |= ATTR_NOSUID;
    }
    let userns_fd = u64::try_from(users.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let attributes = Attributes { set, clear: 0, propagation: 0, userns_fd };
    // SAFETY: the path is a constant with a NUL; the attributes live until the call has ended, and their size is their own.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(tree) }
}

/// Gives such a copy its place.
///
/// # Errors
/// As move_mount(2).
pub fn place(mount: &OwnedFd, at: &Path) -> io::Result<()> {
    let at = c_path(at)?;
    // SAFETY: both paths have a NUL at their end and live until the call has ended; the other arguments are numbers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens a regular file below a directory as a process would whose root that is: no symbolic link and no `..` leads out of it. To open a
/// device or a FIFO may do something, so that the file is looked at first.
///
/// # Errors
/// As openat2(2); `InvalidInput` where it is no regular file.
pub fn open_inside(root: &impl AsFd, path: &Path) -> io::Result<File> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let found = File::from(openat2(root, path, how)?);
    if !found.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
    }
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Finds a file or directory by an absolute path, with the rights that this thread has for files. Links of proc(5) that lead to another
/// process's files are none.
///
/// # Errors
/// As openat2(2).
pub fn find(path: &Path) -> io::Result<OwnedFd> {
    let how =
        OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(AT_FDCWD, path, how)?)
}

/// A user namespace with these maps (user_namespaces(7)): lines of a number inside, a number outside and a count.
///
/// # Errors
/// As unshare(2) and write(2) to the maps.
pub fn user_namespace(uids: &str, gids: &str) -> io::Result<File> {
    let ((mut made, tell), (hold, held)) = (io::pipe()?, io::pipe()?);
    let mut ends = Some((tell, hold));
    let child = fork_into(|| {
        let Some((mut tell, mut hold)) = ends.take() else { return 1 };
        let made = unshare(CloneFlags::CLONE_NEWUSER).is_ok();
        let _gone = tell.write_all(&[u8::from(made)]);
        // Its parent has the namespace open by then, or kills it.
        let _ended = hold.read(&mut [0]);
        0
    })?;
    drop(ends);
    let opened = (|| {
        let mut answer = [0];
        made.read_exact(&mut answer)?;
        if answer != [1] {
            return Err(io::Error::other("no user namespace can be made"));
        }
        let process = format!("/proc/{}", child.pid());
        std::fs::write(format!("{process}/uid_map"), uids)?;
        std::fs::write(format!("{process}/gid_map"), gids)?;
        File::open(format!("{process}/ns/user"))
    })();
    let _already_gone = child.signal(libc::SIGKILL);
    child.wait()?;
    drop(held);
    opened
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::{find, open_inside};
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn what_is_no_regular_file_of_a_tree_is_not_opened_and_no_link_leads_out_of_it() {
        let tree = tempfile::tempdir().expect("a directory");
        fs::create_dir(tree.path().join("etc")).expect("a directory");
        fs::write(tree.path().join("etc/passwd"), "root\n").expect("a file");
        for (name, target) in
            [("absolute", "/etc/passwd"), ("out", "../../../../../etc/hostname"), ("self", "/proc/self/exe")]
        {
            symlink(target, tree.path().join(name)).expect("a link");
        }
        let fifo = tree.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let root = File::open(tree.path()).expect("the tree");
        let read = |name: &str| open_inside(&root, Path::new(name)).and_then(std::io::read_to_string);
        assert_eq!(read("absolute").expect("a file of the tree"), "root\n");
        assert!(read("out").is_err() && read("self").is_err());
        for name in ["fifo", "etc", "."] {
            assert_eq!(read(name).expect_err("no file").kind(), std::io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_link_to_another_processs_files_is_none() {
        assert!(
            find(Path::new("/proc/self/exe")).is_err() && find(Path::new("/proc/self/root/etc")).is_err()
        );
        assert!(find(Path::new("/etc/passwd")).is_ok());
    }
}
