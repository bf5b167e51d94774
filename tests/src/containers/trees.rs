//! Debian trees as layers, archived once into the cache of trees.

use super::image::Digest;
use super::layer::Layer;
use crate::tree::{cached, must, own_suite};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// A layer with Debian's essential packages and these.
///
/// # Panics
/// Without root, mmdebstrap or a mirror.
pub(super) fn layer(packages: &str) -> Layer {
    let tree = cached("image", &own_suite(), packages, "rm -rf /var/lib/apt/lists/* /var/cache/apt/*");
    let (archive, note) = (tree.with_extension("tar.gz"), tree.with_extension("digest"));
    let lock = File::create(tree.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !note.exists() {
        archive_tree(&tree, &archive, &note);
    }
    Layer::cached(archive, Digest::known(fs::read_to_string(note).expect("a digest").trim()))
}

/// Device nodes are left out: no plain user can make them, and engines bring their own /dev.
fn archive_tree(tree: &Path, archive: &Path, note: &Path) {
    let script = "set -e; sum=$(tar --sort=name --numeric-owner --mtime=@0 --exclude='./dev/*' -C \"$1\" -c . \
        | tee \"$2.new.tar\" | sha256sum); gzip -1nc \"$2.new.tar\" >\"$2.new\"; rm \"$2.new.tar\"; mv \"$2.new\" \"$2\"; \
        echo \"sha256:${sum%% *}\"";
    let digest = must(Command::new("sh").args(["-c", script, "sh"]).arg(tree).arg(archive));
    let unfinished = note.with_extension("digest.new");
    fs::write(&unfinished, digest).expect("a digest");
    fs::rename(unfinished, note).expect("a digest");
}
