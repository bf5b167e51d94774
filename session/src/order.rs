//! What `nunbird-auth` passes: the order, and the files of the stage, all open.

use crate::trouble::SessionTrouble;
use nunbird_messages::{
    CONTROL_FD, EXIT_CODE_FD, FormatError, HANDOVER_FD, LAUNCHER_FD, REPORT_FD, SCRIPT_FD, SUMMARY_FD,
    SessionOrder,
};
use nunbird_started::inherited;
use nunbird_wire::Message;
use std::fs::File;
use std::io::{Read, Write};

/// An order holds a few paths and a site's environment. Anything longer is none, in bytes.
const MAX_ORDER: u64 = 4 << 20;

/// Everything that came.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) order: SessionOrder,
    pub(crate) script: Option<File>,
    pub(crate) exit_code: Option<File>,
    pub(crate) summary: Option<File>,
    pub(crate) launcher: File,
    pub(crate) control: File,
    pub(crate) report: File,
}

impl Inherited {
    /// Takes the descriptors and reads the order.
    pub(crate) fn take() -> Result<Self, String> {
        let take = |fd| {
            inherited::take(fd)
                .map_err(|e| format!("descriptor {fd}: {e}; only nunbird-auth starts this program"))
        };
        let (order, launcher) = (take(HANDOVER_FD)?, take(LAUNCHER_FD)?);
        let (control, report) = (take(CONTROL_FD)?, take(REPORT_FD)?);
        let (script, exit_code) = (take(SCRIPT_FD).ok(), take(EXIT_CODE_FD).ok());
        let summary = take(SUMMARY_FD).ok();
        let order = read(order)?;
        Ok(Inherited { order, script, exit_code, summary, launcher, control, report })
    }
}

/// Reads an order.
pub(crate) fn read(file: File) -> Result<SessionOrder, String> {
    let mut bytes = Vec::new();
    file.take(MAX_ORDER).read_to_end(&mut bytes).map_err(|e| format!("the order: {e}"))?;
    FormatError::read(&bytes).map_err(|e: FormatError| format!("the order: {e}"))
}

/// Reports to the shepherd why there is no session. It listens, or there is no reader left.
pub(crate) fn send(mut pipe: &File, trouble: SessionTrouble, detail: impl std::fmt::Display) {
    let _unheard = pipe.write_all(&trouble.report(detail.to_string()).to_bytes());
}
