//! A layer of an image: a tar archive (POSIX ustar) that is written entry by entry, so that a test can have in it
//! what no directory of the host has: files of any account, absolute and escaping names, links to anywhere.

use super::image::{Digest, compressed};
use std::io::Write as _;
use std::path::PathBuf;

const BLOCK: usize = 512;

/// The entries of one layer, or a finished archive.
#[derive(Debug, Clone)]
pub struct Layer(Source);

#[derive(Debug, Clone)]
enum Source {
    Entries(Vec<u8>),
    /// A gzipped archive in the cache, and the digest of what it holds.
    Cached {
        archive: PathBuf,
        content: Digest,
    },
}

/// A layer as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    /// Digest of the uncompressed archive (`diff_id`).
    pub(super) content: Digest,
    /// The gzipped archive.
    pub(super) blob: Blob,
}

/// Where its bytes are.
#[derive(Debug)]
pub(super) enum Blob {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// An empty one.
    pub fn new() -> Self {
        Layer(Source::Entries(Vec::new()))
    }

    pub(super) fn cached(archive: PathBuf, content: Digest) -> Self {
        Layer(Source::Cached { archive, content })
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(self, name: &str, mode: u32) -> Self {
        self.entry(b'5', name, mode, 0, "", &[])
    }

    /// Adds a file of root's.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(b'0', name, mode, 0, "", content)
    }

    /// Adds a file that belongs to this user and group id.
    #[must_use]
    pub fn file_of(self, id: u32, name: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(b'0', name, mode, id, "", content)
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, 0o777, 0, target, &[])
    }

    /// Adds a hard link to an entry.
    #[must_use]
    pub fn same(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, 0o755, 0, target, &[])
    }

    /// Adds a character device.
    #[must_use]
    pub fn device(self, name: &str) -> Self {
        self.entry(b'3', name, 0o666, 0, "", &[])
    }

    /// One entry. Names are at most 100 bytes.
    fn entry(mut self, kind: u8, name: &str, mode: u32, id: u32, target: &str, content: &[u8]) -> Self {
        let Source::Entries(archive) = &mut self.0 else { panic!("a finished archive takes no entry") };
        let mut header = [0u8; BLOCK];
        let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
        assert!(name.len() <= 100 && target.len() <= 100, "{name:?} is too long for this writer");
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}\0{id:07o}\0{id:07o}\0{:011o}\0{:011o}\0", content.len(), 0).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        // Device numbers of /dev/null; other kinds do not look at them.
        put(329, b"0000001\x000000003\0");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// The uncompressed archive.
    ///
    /// # Panics
    /// For one of the cache.
    pub fn archive(&self) -> Vec<u8> {
        let Source::Entries(entries) = &self.0 else { panic!("it is in a file") };
        let mut archive = entries.clone();
        archive.write_all(&[0; 2 * BLOCK]).expect("memory");
        archive
    }

    pub(super) fn store(&self) -> Stored {
        match &self.0 {
            Source::Entries(_) => {
                let archive = self.archive();
                Stored { content: Digest::of(&archive), blob: Blob::Bytes(compressed(&archive)) }
            }
            Source::Cached { archive, content } => {
                Stored { content: content.clone(), blob: Blob::File(archive.clone()) }
            }
        }
    }
}
