//! What a configuration is known by.

use aws_lc_rs::digest::{Context, SHA256};
use nunbird_policy::SourceFile;

/// SHA-256 of one file's bytes, as sha256sum(1) prints it; of several, of the path, the length and
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
