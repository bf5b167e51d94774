//! Small files of the site's: configurations and maps.

use crate::rights::Rights;
use aws_lc_rs::digest::{Context, SHA256};
use nunbird_files::identity::FileIdentity;
use nunbird_files::trusted::{Distrust, open_trusted};
use nunbird_policy::SourceFile;
use std::io::Read;
use std::path::Path;

/// The largest one, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Reads a file that nobody but a trusted owner can have written.
///
/// # Errors
/// As [`Distrust`] has them.
pub fn read_bytes(path: &Path, rights: Rights) -> Result<Vec<u8>, Distrust> {
    let open_error = |e| Distrust::Open(path.into(), e);
    let identity = FileIdentity::assume(rights.keeper.uid, rights.keeper.gid).map_err(open_error)?;
    let file = open_trusted(path, &rights.trusted_owners())?;
    drop(identity);
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(open_error)?;
    let too_long = u64::try_from(bytes.len()).is_ok_and(|n| n > MAX_FILE);
    if too_long { Err(Distrust::Size(path.into(), MAX_FILE)) } else { Ok(bytes) }
}

/// What a configuration is known by: SHA-256 of one file's bytes, as sha256sum(1) prints it; of several, of the path, the length and
/// the bytes of each.
pub fn digest_of(files: &[SourceFile]) -> String {
    let mut context = Context::new(&SHA256);
    for file in files {
        if files.len() > 1 {
            context.update(format!("{}\0{}\0", file.path.display(), file.text.len()).as_bytes());
        }
        context.update(file.text.as_bytes());
    }
    hex(context.finish().as_ref())
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
