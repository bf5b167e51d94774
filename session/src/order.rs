//! What `nunbird-auth` passes: the order, and the files of the stage, all open.

use nunbird_messages::{
    CONTROL_FD, EXIT_CODE_FD, FormatError, HANDOVER_FD, LAUNCHER_FD, REPORT_FD, SCRIPT_FD, SUMMARY_FD,
    SessionOrder, SessionReport, SessionTrouble,
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
    let _unheard = pipe.write_all(&report(trouble, detail.to_string()).to_bytes());
}

/// A report whose detail is cut to [`SessionReport::MAX_DETAIL`].
fn report(trouble: SessionTrouble, mut detail: String) -> SessionReport {
    let mut end = detail.len().min(SessionReport::MAX_DETAIL);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail.truncate(end);
    SessionReport { trouble, detail }
}

#[cfg(test)]
mod tests {
    use super::report;
    use nunbird_messages::{SessionReport, SessionTrouble};
    use nunbird_wire::Message;

    #[test]
    fn a_report_always_fits_into_a_pipe_at_once() {
        for detail in ["x".repeat(9000), "aü".repeat(9000)] {
            let bytes = report(SessionTrouble::Failed, detail).to_bytes();
            assert!(bytes.len() <= 4096, "{}", bytes.len());
            assert_eq!(
                SessionReport::from_bytes(&bytes).map(|report| report.trouble),
                Ok(SessionTrouble::Failed)
            );
        }
    }
}
