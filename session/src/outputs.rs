//! Standard output and standard error taken away from code that is not ours, and given to the job afterwards.
//!
//! For a process that runs a site's modules: what they start must neither write into the job log unseen nor keep it open.

use nix::unistd::{dup2_stderr, dup2_stdout};
use nunbird_sys::exec::out_of_the_way as copy;
use std::fs::{File, OpenOptions};
use std::io;

/// The descriptors as they were.
#[derive(Debug)]
pub(crate) struct Outputs {
    output: File,
    errors: File,
}

impl Outputs {
    /// Puts `/dev/null` into the place of both.
    ///
    /// # Errors
    /// As open(2), fcntl(2) and dup2(2).
    pub(crate) fn take() -> io::Result<Self> {
        let outputs = Outputs { output: copy(&io::stdout())?, errors: copy(&io::stderr())? };
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        Ok(outputs)
    }

    /// Another process's, received open.
    ///
    /// # Errors
    /// As fcntl(2).
    pub(crate) fn of(output: &File, errors: &File) -> io::Result<Self> {
        Ok(Outputs { output: copy(output)?, errors: copy(errors)? })
    }

    /// Puts them back.
    ///
    /// # Errors
    /// As dup2(2).
    pub(crate) fn give_back(&self) -> io::Result<()> {
        dup2_stdout(&self.output)?;
        Ok(dup2_stderr(&self.errors)?)
    }

    /// A second handle to what was standard error.
    ///
    /// # Errors
    /// As fcntl(2).
    pub(crate) fn errors(&self) -> io::Result<File> {
        copy(&self.errors)
    }
}
