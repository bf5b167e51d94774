//! The job's control group, which the launcher is brought into last of all, once no module can move it any more: by `nunbird-limits`.

use nunbird_ask::{As, PROGRAM};
use nunbird_files::trusted::open_trusted;
use nunbird_groups::{Answer, Request};
use nunbird_messages::Group as JobsGroup;
use nunbird_sys::exec;
use std::fs::File;
use std::io;
use std::time::Duration;

/// How long it may take: longer than systemd is given to move a process.
const PATIENCE: Duration = Duration::from_secs(15);
/// `CAP_DAC_OVERRIDE` (linux/capability.h).
const CAP_DAC_OVERRIDE: u32 = 1;

/// A job's group, and the program that knows how to enter it.
#[derive(Debug)]
pub(crate) struct Group {
    program: File,
    group: JobsGroup,
}

impl Group {
    /// Opens the program, which lies beside this one. To be called before modules run: some change what is mounted.
    pub(crate) fn prepare(group: &JobsGroup) -> io::Result<Self> {
        let path = std::env::current_exe()?.with_file_name(PROGRAM);
        let program = open_trusted(&path, &[0]).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Group { program: exec::out_of_the_way(&program)?, group: group.clone() })
    }

    /// Brings a process into the group, which waits for that. As root: with the runner's rights the kernel lets no process move another out
    /// of a group that is not the runner's (cgroup-v2.rst, "Delegation Containment").
    pub(crate) fn take(&self, process: i32) -> Result<(), String> {
        let capabilities = if self.group.is_runners { 1 << CAP_DAC_OVERRIDE } else { 0 };
        let by = As { ids: Some((0, 0)), capabilities };
        let request = Request::Enter(self.group.clone(), Some(process));
        match nunbird_ask::ask(&self.program, by, &request, PATIENCE)? {
            (Answer::Entered(..), _) => Ok(()),
            (Answer::Trouble(why), _) => Err(why),
            _ => Err(format!("{PROGRAM} answered something else than was asked")),
        }
    }
}
