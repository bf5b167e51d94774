//! Debian releases whose schedulers the tests run, each but the host's from a tree of its own.

use crate::tree::cached;
use std::path::PathBuf;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The host's, with the packages that are installed there.
    Host,
    /// Debian 13.
    Trixie,
    /// Debian unstable.
    Sid,
}

impl Release {
    /// A tree with these packages and what the tests' own commands need; none for the host's release.
    ///
    /// # Panics
    /// Without root, mmdebstrap or a mirror that serves the release.
    pub(crate) fn tree(self, kind: &str, packages: &str) -> Option<PathBuf> {
        let packages = format!("{packages},passwd,procps,util-linux");
        // The host's file is mounted there.
        let finish = ": >>/etc/hosts";
        Some(cached(kind, self.suite()?, &packages, finish))
    }

    fn suite(self) -> Option<&'static str> {
        match self {
            Release::Host => None,
            Release::Trixie => Some("trixie"),
            Release::Sid => Some("sid"),
        }
    }
}
