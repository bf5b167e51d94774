//! The codes of refusals: one stable word each, for logs, audit events and tests.
//!
//! This is the only list. A program can name no other code, and `nunbirdctl` does not compile without a text for each.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why a job was refused, in one word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)+
        }

        impl Code {
            /// Every code, in the order of the names.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)+];

            /// The word that logs and audit events have, such as `no-token`: lower-case letters and `-`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)+
                }
            }
        }
    };
}

codes! {
    /// The account may not run jobs, or does not exist.
    Account = "account",
    /// The account is another one than when the job began.
    AccountChanged = "account-changed",
    /// The account's last day in shadow(5) has passed.
    AccountExpired = "account-expired",
    /// The job has a record already.
    AdmittedTooOften = "admitted-too-often",
    /// An audit event could not be written.
    Audit = "audit",
    /// The user's own list of projects does not have this one.
    AuthorizedProjects = "authorized-projects",
    /// The job was started by a bot.
    Bot = "bot",
    /// The builds directory that the job asks for cannot be used.
    BuildsDir = "builds-dir",
    /// The clock could not be read.
    Clock = "clock",
    /// The job was admitted under another configuration file.
    ConfigurationDiffers = "configuration-differs",
    /// The configuration could not be read, or others can write it.
    ConfigurationFile = "configuration-file",
    /// The configuration has errors.
    ConfigurationInvalid = "configuration-invalid",
    /// The data directory could not be made.
    DataDir = "data-dir",
    /// The program that decides could not be run, or its answer could not be used.
    Decider = "decider",
    /// The executor is not configured.
    Executor = "executor",
    /// The runner's exit-code file could not be written.
    ExitCodeFile = "exit-code-file",
    /// A group of the policy does not exist.
    Group = "group",
    /// The home directory cannot hold jobs.
    Home = "home",
    /// The host has restarted since the job began.
    HostRestarted = "host-restarted",
    /// The job asks for an image, services or steps.
    Images = "images",
    /// The server's answer about the job cannot be used.
    JobAnswer = "job-answer",
    /// The runner's directory of the job cannot be used.
    JobDirectory = "job-directory",
    /// The launcher did not start.
    Launcher = "launcher",
    /// The launcher was killed.
    LauncherKilled = "launcher-killed",
    /// The job's limits could not be set, or it asks for more than it may.
    Limits = "limits",
    /// The job's control group could not be removed.
    LimitsCleanup = "limits-cleanup",
    /// The job's machine could not be started or ended.
    Machine = "machine",
    /// A map file could not be read.
    Map = "map",
    /// A map has two accounts for the user.
    MapAmbiguous = "map-ambiguous",
    /// No signing key is known.
    NoKeys = "no-keys",
    /// The job has no record of an admission.
    NoRecord = "no-record",
    /// No rule fits the job.
    NoRule = "no-rule",
    /// The job has no id token.
    NoToken = "no-token",
    /// The host takes no logins at the moment.
    Nologin = "nologin",
    /// A call that only root's sweep may make.
    NotTheKeeper = "not-the-keeper",
    /// A PAM session could not be opened.
    Pam = "pam",
    /// PAM refuses the account.
    PamAccount = "pam-account",
    /// The job's PAM session has ended.
    PamSession = "pam-session",
    /// The process that held the job's PAM session is gone, and nobody has closed it.
    PamSessionLost = "pam-session-lost",
    /// The job's PAM session could not be closed.
    PamSessionOpen = "pam-session-open",
    /// The PAM modules took too long.
    PamTimeout = "pam-timeout",
    /// A PAM module changed the user.
    PamUser = "pam-user",
    /// Another GitLab user than the one who is bound to the account.
    PinMismatch = "pin-mismatch",
    /// The store of bound users cannot be used.
    PinStore = "pin-store",
    /// The account is bound to no GitLab user, and the policy admits known people only.
    PinUnknown = "pin-unknown",
    /// The program has not the privilege that the configuration needs.
    Privilege = "privilege",
    /// The process could not be set up.
    Process = "process",
    /// The host gave no random numbers.
    Random = "random",
    /// The job's time is over.
    RecordExpired = "record-expired",
    /// The job's record is of another version of Nunbird, or damaged.
    RecordFormat = "record-format",
    /// The store of job records cannot be used.
    RecordStore = "record-store",
    /// The runner's job response could not be read.
    ResponseFile = "response-file",
    /// The runner's job response is not what gitlab-runner writes.
    ResponseMalformed = "response-malformed",
    /// A rule denies the job.
    Rule = "rule",
    /// The gitlab-runner that started the job has ended.
    RunnerGone = "runner-gone",
    /// The token names a runner that is not in `runner_ids`.
    RunnerIds = "runner-ids",
    /// The stage's script could not be read.
    Script = "script",
    /// The job cannot be watched.
    Shepherd = "shepherd",
    /// Standard output is closed.
    Stdout = "stdout",
    /// Processes of the job may still run.
    StillLive = "still-live",
    /// sudo did not start the launcher.
    Sudo = "sudo",
    /// None of the configured audiences.
    TokenAudience = "token-audience",
    /// The token's claims are not GitLab's.
    TokenClaims = "token-claims",
    /// The token is an empty text.
    TokenEmpty = "token-empty",
    /// The token has expired.
    TokenExpired = "token-expired",
    /// The token's header is not GitLab's.
    TokenHeader = "token-header",
    /// The token was issued by another server than the one whose key signed it.
    TokenIssuer = "token-issuer",
    /// The variable holds no signed token.
    TokenMalformed = "token-malformed",
    /// The token's time has not begun.
    TokenNotYetValid = "token-not-yet-valid",
    /// The token belongs to another job.
    TokenOfAnotherJob = "token-of-another-job",
    /// The token is of another configured server than the job.
    TokenOfAnotherServer = "token-of-another-server",
    /// No known key made the signature.
    TokenUnknownKey = "token-unknown-key",
    /// The server could not be asked about the job's user.
    UserCheck = "user-check",
    /// The user database does not answer.
    UserDatabase = "user-database",
    /// The GitLab user is blocked or deactivated.
    UserInactive = "user-inactive",
    /// The server does not say what kind of user started the job.
    UserKind = "user-kind",
    /// The server names another user than the token.
    UserMismatch = "user-mismatch",
    /// The site's validation program refuses the job.
    Validation = "validation",
    /// The site's validation program failed.
    ValidationProgram = "validation-program",
    /// A variable of the job cannot be passed on.
    Variable = "variable",
    /// The worker that checks tokens failed.
    Worker = "worker",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn names_are_sorted_words_of_small_letters_and_each_is_its_variant_in_another_spelling() {
        let names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for code in Code::ALL {
            let spelt: String = code
                .name()
                .split('-')
                .map(|word| {
                    let (first, rest) = word.split_at(1);
                    assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{code}");
                    first.to_uppercase() + rest
                })
                .collect();
            assert_eq!(spelt, format!("{code:?}"));
            assert_eq!(code.to_string(), code.name());
        }
    }
}
