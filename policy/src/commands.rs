//! Commands that messages print: they work when they are pasted into a shell.

use crate::{DEFAULT_CONFIGURATION, Policy};
use std::path::Path;

/// The command that fetches the signing keys of all servers of this policy, or of one; for the owner of the keys directory.
pub fn refresh_command(policy: &Policy, server: Option<&str>) -> String {
    let mut command = program_command(policy, "nunbird-keys", "refresh");
    if let Some(name) = server {
        command.push_str(" --server ");
        command.push_str(&shell_word(name));
    }
    command
}

/// A program of the installation with a sub-command, and with this policy's file where it is not the default one.
pub fn program_command(policy: &Policy, program: &str, sub_command: &str) -> String {
    let program = policy.job.launcher.with_file_name(program);
    let mut command = format!("{} {sub_command}", shell_word(&program.to_string_lossy()));
    if policy.file != Path::new(DEFAULT_CONFIGURATION) {
        command.push_str(" --configuration ");
        command.push_str(&shell_word(&policy.file.to_string_lossy()));
    }
    command
}

/// A text as one word of a POSIX shell (XCU 2.2.2).
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{refresh_command, shell_word};
    use crate::Policy;
    use std::path::Path;

    #[test]
    fn a_command_has_its_whole_path_and_the_file_where_it_is_not_the_default() {
        let text = "[[gitlab]]\nname = \"main\"\nurl = \"https://g.example\"\naudience = \"a\"\n\
                    [[rule]]\nname = \"r\"\nrun_as = \"$user_login\"\n";
        let policy = |path: &str| Policy::parse(Path::new(path), text).expect("a policy");
        assert_eq!(
            refresh_command(&policy("/etc/nunbird/config.toml"), None),
            "/opt/nunbird/bin/nunbird-keys refresh"
        );
        assert_eq!(
            refresh_command(&policy("/srv/my site/j.toml"), Some("main")),
            "/opt/nunbird/bin/nunbird-keys refresh --configuration '/srv/my site/j.toml' --server main"
        );
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
