//! Why there is no session, or no launcher in it, and what `nunbird-auth` then tells the CI user and the admin.

use nunbird_messages::{Code, RefusedBy};

/// In one word, and the cause.
pub(crate) type Trouble = (SessionTrouble, String);

/// The longest cause, in bytes: with it the whole report is written to a pipe at once (pipe(7), `PIPE_BUF`).
pub(crate) const MAX_DETAIL: usize = 2048;

/// What can keep a session from a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionTrouble {
    /// PAM does not let the account run jobs.
    Account,
    /// The modules name another user than the job's.
    User,
    /// The modules did not end in time.
    Timeout,
    /// A module, or PAM itself, failed.
    Failed,
    /// The launcher did not start.
    Launcher,
    /// The job's session has ended before the job.
    Lost,
}

impl SessionTrouble {
    /// The report, with a cause that is cut to [`MAX_DETAIL`].
    pub(crate) fn report(self, mut detail: String) -> RefusedBy {
        let (denied, code, message) = match self {
            Self::Account => (true, Code::PamAccount, "your account on this host may not run jobs now"),
            Self::User => {
                (true, Code::PamUser, "your site's sessions are for another account than your job's")
            }
            Self::Timeout => {
                (false, Code::PamTimeout, "a session for the job was not opened in time on this host")
            }
            Self::Failed => (false, Code::Pam, "a session for the job could not be opened on this host"),
            Self::Launcher => (false, Code::Launcher, "the job's launcher could not be started on this host"),
            Self::Lost => {
                (true, Code::PamSession, "your site's session for this job has ended before the job")
            }
        };
        let help = match self {
            Self::Account => "the lines above are your site's reason, if there are any; ask its admins",
            Self::Lost => {
                "run the job again; if this comes back, give your site's admins the id of this decision"
            }
            _ => RefusedBy::HELP,
        };
        if let Self::Launcher = self {
            detail.insert_str(0, "in the session: ");
        }
        let mut end = detail.len().min(MAX_DETAIL);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        detail.truncate(end);
        let (code, message, help) = (code.name().to_owned(), message.to_owned(), help.to_owned());
        RefusedBy { denied, code, message, detail, help }
    }
}

#[cfg(test)]
mod tests {
    use super::SessionTrouble;
    use nunbird_messages::RefusedBy;
    use nunbird_wire::Message;

    #[test]
    fn a_report_always_fits_into_a_pipe_at_once() {
        let all = [
            SessionTrouble::Account,
            SessionTrouble::User,
            SessionTrouble::Timeout,
            SessionTrouble::Failed,
            SessionTrouble::Launcher,
            SessionTrouble::Lost,
        ];
        for detail in ["x".repeat(9000), "aü".repeat(9000)] {
            for trouble in all {
                let report = trouble.report(detail.clone());
                let bytes = report.to_bytes();
                assert!(bytes.len() <= 4096, "{}", bytes.len());
                assert!(report.detail.len() > 2000);
                assert_eq!(RefusedBy::from_bytes(&bytes), Ok(report));
            }
        }
    }
}
