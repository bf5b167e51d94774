//! Which variables of PAM's environment a job gets.

use nunbird_messages::Pam;

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

/// Whether a variable of PAM's environment reaches the job.
pub(crate) fn passes(pam: &Pam, name: &str) -> bool {
    let proper = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    let never = NEVER.contains(&name) || NEVER_BEGINNING.iter().any(|start| name.starts_with(start));
    let listed = pam.environment.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    });
    proper && !never && listed
}

#[cfg(test)]
mod tests {
    use super::passes;
    use nunbird_messages::{Pam, SessionSpan};

    #[test]
    fn no_list_lets_a_variable_pass_that_loads_code_or_says_who_the_user_is() {
        let all = Pam {
            service: "nunbird".to_owned(),
            timeout: 1,
            environment: vec!["*".to_owned()],
            session: SessionSpan::Stage,
        };
        for name in ["XDG_RUNTIME_DIR", "KRB5CCNAME", "_x", "a1"] {
            assert!(passes(&all, name), "{name}");
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
            assert!(!passes(&all, name), "{name}");
        }
        let some = Pam { environment: vec!["KRB5CCNAME".to_owned(), "XDG_*".to_owned()], ..all };
        for (name, expected) in
            [("KRB5CCNAME", true), ("KRB5CCNAME2", false), ("XDG_RUNTIME_DIR", true), ("XD", false)]
        {
            assert_eq!(passes(&some, name), expected, "{name}");
        }
    }
}
