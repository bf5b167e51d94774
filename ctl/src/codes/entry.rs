//! The parts of a code's description.

/// What a code means to a user or an admin who sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodeEntry {
    pub(crate) class: Class,
    /// Who can act on it.
    pub(crate) reader: Reader,
    /// What happened, in one or two sentences.
    pub(crate) meaning: &'static str,
    /// What the CI user does.
    pub(crate) user: &'static str,
    /// What the admin looks at.
    pub(crate) admin: &'static str,
}

/// How gitlab-runner treats the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The job may not run here: exit status `BUILD_FAILURE_EXIT_CODE`, 1 unless gitlab-runner sets
    /// another one.
    Denial,
    /// Something on the host or the server failed: exit status `SYSTEM_FAILURE_EXIT_CODE`, 2 unless
    /// gitlab-runner sets another one.
    System,
    /// Either, depending on the cause.
    Either,
}

/// Who can act on a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    User,
    Admin,
    Both,
}

impl Class {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::Denial => "denial",
            Class::System => "system failure",
            Class::Either => "denial or system failure",
        }
    }

    /// The exit status of `nunbird-auth`, unless gitlab-runner sets other numbers.
    pub(crate) fn exit(self) -> &'static [u8] {
        match self {
            Class::Denial => &[1],
            Class::System => &[2],
            Class::Either => &[1, 2],
        }
    }
}

impl Reader {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reader::User => "CI user",
            Reader::Admin => "admin",
            Reader::Both => "CI user and admin",
        }
    }
}

/// Nothing in the job's own files changes the result.
pub(crate) const GIVE_ID: &str = "Give the admins the decision id of the job log.";
/// As [`GIVE_ID`], for failures that may be gone by the next run.
pub(crate) const AGAIN: &str =
    "Run the job again; if it fails again, give the admins the decision id of the job log.";

pub(crate) const fn denial(
    reader: Reader,
    meaning: &'static str,
    user: &'static str,
    admin: &'static str,
) -> CodeEntry {
    CodeEntry { class: Class::Denial, reader, meaning, user, admin }
}

/// A system failure, which only an admin can fix.
pub(crate) const fn system(meaning: &'static str, user: &'static str, admin: &'static str) -> CodeEntry {
    CodeEntry { class: Class::System, reader: Reader::Admin, meaning, user, admin }
}
