//! The environment of the launcher, and so of the job: built from the record, never from what was inherited.
//!
//! Called by the privileged programs before it gives privilege up. The names are of two kinds that never meet: the account's
//! own, and the site's, which the policy keeps from being the account's or the loader's (`check_variable`).

use nunbird_handover::Account;
use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::os::unix::ffi::OsStrExt;

/// `HOME`, `USER`, `LOGNAME`, `SHELL` and the configuration's variables; nothing that was inherited.
///
/// # Errors
/// When a value holds a NUL byte.
pub fn of(account: &Account, environment: &BTreeMap<String, String>) -> Result<Vec<CString>, NulError> {
    let own = [
        ("HOME", account.home.as_os_str().as_bytes()),
        ("USER", account.name.as_bytes()),
        ("LOGNAME", account.name.as_bytes()),
        ("SHELL", account.shell.as_os_str().as_bytes()),
    ];
    let configured = environment.iter().map(|(key, value)| (key.as_str(), value.as_bytes()));
    own.into_iter()
        .chain(configured)
        .map(|(key, value)| CString::new([key.as_bytes(), b"=", value].concat()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::of;
    use nunbird_handover::Account;
    use std::ffi::CString;

    #[test]
    fn the_environment_is_the_accounts_four_names_and_the_sites_and_no_value_has_a_nul() {
        let account = Account {
            name: "alice".to_owned(),
            uid: 5001,
            gid: 5002,
            home: "/home/a".into(),
            shell: "/bin/sh".into(),
        };
        let site = [("PATH".to_owned(), "/usr/bin".to_owned())];
        let all = of(&account, &site.into()).unwrap();
        let all: Vec<&str> = all.iter().map(|variable| variable.to_str().unwrap()).collect();
        assert_eq!(all, ["HOME=/home/a", "USER=alice", "LOGNAME=alice", "SHELL=/bin/sh", "PATH=/usr/bin"]);
        let cut: Result<Vec<CString>, _> = of(&account, &[("A".to_owned(), "a\0b".to_owned())].into());
        assert!(cut.is_err());
    }
}
