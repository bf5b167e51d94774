//! The last steps with privilege and the first without, in order: docs/operation.md lists them with their tests.
//!
//! Called in a forked child of the privileged program; the parent stays and waits.

use crate::isolation;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_messages::Isolation;
use nunbird_surrender::{self as surrender, Failure, Ids, Step};
use nunbird_sys::kernel::Linux;
use nunbird_sys::process;
use nunbird_sys::rlimits::Limits;
use nunbird_sys::signals::TERM;
use nunbird_sys::{exec, priority};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::RawFd;

/// A program that becomes the user's, and everything that it gets.
#[derive(Debug)]
pub struct Launch {
    /// The program, run by descriptor.
    pub program: File,
    /// Its files and their numbers; it gets no others beside the standard ones.
    pub files: Vec<(RawFd, File)>,
    /// Its arguments, name included.
    pub argv: Vec<CString>,
    /// Its whole environment.
    pub environment: Vec<CString>,
    /// The ids to become.
    pub ids: Ids,
    /// What the site takes away.
    pub isolation: Isolation,
}

/// What becomes of the process's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The ids change.
    BecomeUser,
    /// They change, and the session keyring stays: PAM made it for this user.
    BecomeUserWithKeyring,
    /// There is no privilege, and the ids stay.
    Stay,
    /// sudo has changed them; the session keyring is still another's.
    StayWithNewKeyring,
}

/// What the process around the launch sets.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// How ids change.
    pub change: Change,
    /// Resource limits to put in force; none leaves those of the process.
    pub limits: Option<&'a Limits>,
    /// As whom the process's own /proc files are opened: not dumpable, they are root's.
    pub keeper: Caller,
    /// Process id of the parent, whose death is signalled to the launcher.
    pub parent: i32,
    /// A pipe from which one byte must come before the program starts. Its end without one means that the parent has ended.
    pub gate: Option<File>,
}

impl Launch {
    /// Becomes the user for good, proves it, and becomes the program.
    ///
    /// # Errors
    /// The first step that failed. Comes back only then.
    pub fn execute(self, around: Surroundings<'_>) -> Result<Infallible, Failure> {
        // Step 30.
        process::new_session().step("setsid")?;
        // Step 31.
        process::null_stdin().step("stdin")?;
        let files: Vec<(RawFd, &File)> = self.files.iter().map(|(fd, file)| (*fd, file)).collect();
        exec::place(&files).step("descriptors")?;
        // Step 32.
        around.limits.map_or(Ok(()), Limits::restore).step("setrlimit")?;
        let unprotected = acting_as(around.keeper, priority::no_protection_from_the_oom_killer);
        unprotected.step("setfsuid")?.step("oom_score_adj")?;
        process::set_umask(0o077);
        // Steps 33, 34.
        let surrendered = match around.change {
            Change::BecomeUser => surrender::become_user(&mut Linux, &self.ids),
            Change::BecomeUserWithKeyring => surrender::become_user_with_keyring(&mut Linux, &self.ids),
            Change::Stay => surrender::stay_user(&mut Linux, self.ids.uid, self.ids.gid),
            Change::StayWithNewKeyring => {
                surrender::stay_user_with_new_keyring(&mut Linux, self.ids.uid, self.ids.gid)
            }
        };
        surrendered.map_err(io::Error::other).step("surrender of privilege")?;
        // A change of ids undoes it where fs.suid_dumpable is 1, and the descriptors are the runner's.
        process::forbid_inspection().step("prctl(PR_SET_DUMPABLE)")?;
        // Step 35.
        process::die_with_parent(TERM, around.parent).step("prctl(PR_SET_PDEATHSIG)")?;
        if let Some(mut gate) = around.gate {
            gate.read_exact(&mut [0]).step("release by the shepherd")?;
        }
        // Step 36.
        process::default_signals().step("signals")?;
        isolation::enter(&self.isolation, self.ids.uid, self.ids.gid).step("isolation")?;
        exec::execute(&self.program, &self.argv, &self.environment).step("execveat")
    }
}
