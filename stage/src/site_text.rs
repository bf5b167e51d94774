//! Descriptions that a site supplies: of a batch scheduler, of a container engine.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest description, in bytes; the built-in ones have less than 10 KiB.
const MOST: u64 = 256 << 10;

/// The text of a site's description. It names programs that run as the user, so only root, or the
/// account itself, may be able to write it.
///
/// # Errors
/// As open(2) and read(2); a file that another user may write; text that is not UTF-8.
pub fn site_text(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let owners = [0, nix::unistd::geteuid().as_raw()];
    if !meta.is_file() || !owners.contains(&meta.uid()) || meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("it must be owned by root and not writable by anybody else"));
    }
    let mut text = String::new();
    file.by_ref().take(MOST).read_to_string(&mut text)?;
    Ok(text)
}
