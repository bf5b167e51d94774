//! What a site says about PAM sessions: `[pam]`.

use nunbird_wire::{choice, layout};

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pam {
    /// Name of the file in `/etc/pam.d`.
    pub service: String,
    /// Seconds that the modules may take to open the session, and again to close it.
    pub timeout: u64,
    /// Variables of PAM's environment that a job gets; a name that ends in `*` stands for all that begin so.
    pub environment: Vec<String>,
    /// How long one session lasts.
    pub session: SessionSpan,
}

layout!(Pam { service, timeout, environment, session });

/// What has a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionSpan {
    /// Each stage.
    #[default]
    Stage,
    /// The job: opened by `prepare`, closed by `cleanup`.
    Job,
}

choice!(SessionSpan { 0 => Stage, 1 => Job });

/// Variables that a job never gets from PAM: they say who the user is, come from the policy, or change how programs are
/// loaded and scripts are read.
const NEVER: [&str; 18] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "BASH_ENV",
    "ENV",
    "IFS",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "GLOBIGNORE",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "NLSPATH",
    "LOCPATH",
];
/// What such variables begin with.
const NEVER_BEGINNING: [&str; 4] = ["LD_", "BASH_FUNC_", "NUNBIRD_", "CUSTOM_ENV_"];

impl Pam {
    /// Whether a variable of PAM's environment reaches the job.
    pub fn passes(&self, name: &str) -> bool {
        let proper = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        let never = NEVER.contains(&name) || NEVER_BEGINNING.iter().any(|start| name.starts_with(start));
        let listed = self.environment.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        });
        proper && !never && listed
    }
}

#[cfg(test)]
mod tests {
    use super::{Pam, SessionSpan};

    #[test]
    fn no_list_lets_a_variable_pass_that_loads_code_or_says_who_the_user_is() {
        let all = Pam {
            service: "nunbird".to_owned(),
            timeout: 1,
            environment: vec!["*".to_owned()],
            session: SessionSpan::Stage,
        };
        for name in ["XDG_RUNTIME_DIR", "KRB5CCNAME", "_x", "a1"] {
            assert!(all.passes(name), "{name}");
        }
        for name in [
            "LD_PRELOAD",
            "BASH_ENV",
            "PATH",
            "HOME",
            "NUNBIRD_STAGE",
            "BASH_FUNC_ls%%",
            "",
            "1a",
            "a-b",
            "ü",
        ] {
            assert!(!all.passes(name), "{name}");
        }
        let some = Pam { environment: vec!["KRB5CCNAME".to_owned(), "XDG_*".to_owned()], ..all };
        for (name, expected) in
            [("KRB5CCNAME", true), ("KRB5CCNAME2", false), ("XDG_RUNTIME_DIR", true), ("XD", false)]
        {
            assert_eq!(some.passes(name), expected, "{name}");
        }
    }
}
