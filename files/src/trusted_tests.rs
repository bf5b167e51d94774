use super::{Distrust, open_trusted, open_trusted_directory};
use nix::unistd::geteuid;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A directory below the build's own temporary one whose whole path is the tester's or root's.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new("/var/tmp").join(format!("nbt_trusted_{}_{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, "content").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Result<fs::File, Distrust> {
    open_trusted(path, &[geteuid().as_raw()])
}

#[test]
fn a_file_that_only_its_trusted_owner_can_write_is_opened() {
    let scratch = Scratch::new("good");
    assert!(open(&scratch.file("f", 0o644)).is_ok());
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let scratch = Scratch::new("writable");
    for mode in [0o664, 0o646, 0o666] {
        let path = scratch.file("f", mode);
        assert!(matches!(open(&path), Err(Distrust::Writable(..))), "{mode:o}");
    }
}

#[test]
fn a_directory_on_the_way_that_others_can_write_is_refused_unless_it_is_sticky_and_leads_to_a_trusted_one() {
    let scratch = Scratch::new("way");
    let inner = scratch.0.join("inner");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
    let path = scratch.file("inner/f", 0o644);
    fs::set_permissions(&scratch.0, Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(open(&path), Err(Distrust::Writable(..))));
    fs::set_permissions(&scratch.0, Permissions::from_mode(0o1777)).unwrap();
    assert!(open(&path).is_ok());
    assert!(open_trusted_directory(&inner, &[geteuid().as_raw()]).is_ok());
}

#[test]
fn nothing_that_lies_in_a_directory_of_everybodys_is_trusted_and_the_message_names_the_directory() {
    let scratch = Scratch::new("shared");
    let path = scratch.file("f", 0o644);
    for mode in [0o1777, 0o1775] {
        fs::set_permissions(&scratch.0, Permissions::from_mode(mode)).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(&error, Distrust::Shared(named, _) if *named == scratch.0), "{error}");
        assert!(error.to_string().contains("move that to"), "{error}");
        let error = open_trusted_directory(&scratch.0, &[geteuid().as_raw()]).unwrap_err();
        assert!(matches!(error, Distrust::Shared(..)), "{error}");
    }
}

#[test]
fn a_symbolic_link_is_refused_as_file_and_on_the_way() {
    let scratch = Scratch::new("links");
    let file = scratch.file("f", 0o644);
    symlink(&file, scratch.0.join("link")).unwrap();
    let error = open(&scratch.0.join("link")).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    fs::create_dir(scratch.0.join("d")).unwrap();
    symlink(scratch.0.join("d"), scratch.0.join("dlink")).unwrap();
    fs::write(scratch.0.join("d/f"), "").unwrap();
    let error = open(&scratch.0.join("dlink/f")).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn what_is_not_a_regular_file_is_refused_without_waiting() {
    let scratch = Scratch::new("kinds");
    let fifo = scratch.0.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(open(&fifo), Err(Distrust::Kind(_))));
    fs::create_dir(scratch.0.join("d")).unwrap();
    assert!(matches!(open(&scratch.0.join("d")), Err(Distrust::Kind(_))));
}

#[test]
fn relative_paths_and_dots_are_refused() {
    for path in ["f", "../f", "/var/tmp/../tmp/f", ""] {
        let error = open(Path::new(path)).unwrap_err();
        assert!(matches!(error, Distrust::Path(_)), "{path}: {error}");
    }
}

#[test]
fn a_file_of_somebody_else_is_refused() {
    if !geteuid().is_root() {
        assert!(matches!(
            open_trusted(Path::new("/etc/passwd"), &[geteuid().as_raw()]),
            Err(Distrust::Owner(..))
        ));
        nunbird_skip::skip!("the other half needs root");
    }
    let scratch = Scratch::new("owner");
    let path = scratch.file("f", 0o644);
    std::os::unix::fs::chown(&path, Some(65533), None).unwrap();
    assert!(matches!(open(&path), Err(Distrust::Owner(_, 65533))));
}
