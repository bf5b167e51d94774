//! The scripts of a job's stages, shaped like those of gitlab-runner's bash (`shells/abstract.go`, `shells/bash.go`).
//!
//! Each command is shown in green before it runs, the first one that fails ends the script, and standard input is empty. The script is
//! one text that `eval` reads as a whole, so that no command of the job's can eat the rest of it. All quoting is that of a POSIX
//! shell, because an image may have no bash.

use crate::variables::Values;
use std::fmt::Write;
use std::path::Path;

/// Whether commands are shown in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// As gitlab-runner does it.
    Green,
    /// For a reader that is no terminal.
    None,
}

/// A step of the user's.
pub fn step(values: &Values, directory: &Path, lines: &[String], colour: Colour) -> String {
    let mut body = exports(values);
    writeln!(body, "cd {}", quote(&directory.to_string_lossy())).expect("text");
    for line in lines {
        let line = line.trim();
        let shown = match line.split_once('\n') {
            Some((first, _)) => format!("$ {first} # collapsed multi-line command"),
            None => format!("$ {line}"),
        };
        let shown = match colour {
            Colour::Green => format!("\u{1b}[32;1m{shown}\u{1b}[0;m"),
            Colour::None => shown,
        };
        match line {
            "" => body.push_str("echo\n"),
            _ => writeln!(body, "printf '%s\\n' {}\n{line}", quote(&shown)).expect("text"),
        }
    }
    wrap(&body)
}

/// What a prompt begins with: the job's variables and directory. Commands that fail do not end it.
pub(crate) fn surroundings(values: &Values, directory: &Path) -> String {
    format!("{}cd {}\n", exports(values), quote(&directory.to_string_lossy()))
}

/// What the user's repository says of itself.
pub(crate) struct Commit {
    /// The checked-out commit.
    pub(crate) sha: String,
    /// Of its remote, without a password.
    pub(crate) url: Option<String>,
}

/// What fetches the sources: a clone of the user's repository without its files, which are then copied as the list names them.
///
/// The clone shares no file with the user's repository: by a hard link a job could write into the user's own objects. git is bound to the clone: where
/// it found none there it would take a repository around it. Nothing of the file's is in here, since this runs outside of the job's container.
pub(crate) fn sources(commit: &Commit, source: &Path, project: &Path, list: Option<&Path>) -> String {
    let path = |path: &Path| quote(&path.to_string_lossy());
    let (source, project) = (path(source), path(project));
    let sha = quote(&commit.sha);
    let mut body = format!(
        "mkdir -p -- {project}\n\
         git clone --quiet --no-hardlinks --no-checkout -- {source} {project}\n\
         cd {project}\n\
         export GIT_DIR={project}/.git GIT_WORK_TREE={project}\n\
         git update-ref --no-deref HEAD {sha}\n"
    );
    if let Some(url) = &commit.url {
        writeln!(body, "git remote set-url origin {}", quote(url)).expect("text");
    }
    match list {
        Some(list) => {
            let list = path(list);
            write!(
                body,
                // The `.git` of a submodule names a directory of the user's repository, and git stops at one that leads nowhere.
                "git read-tree {sha}\n\
                 tar -C {source} --exclude='*/.git' --null --verbatim-files-from -T {list} -cf - | tar -xpf -\n\
                 git update-index -q --refresh || :\n"
            )
            .expect("text");
        }
        None => body.push_str("git reset --quiet --hard\n"),
    }
    wrap(&body)
}

fn exports(values: &Values) -> String {
    let mut body = String::new();
    for (name, value) in values.iter() {
        writeln!(body, "export {name}={}", quote(value)).expect("text");
    }
    body
}

fn wrap(body: &str) -> String {
    format!(
        "#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n\
         case \"$(set -o)\" in *pipefail*) set -o pipefail ;; esac; set -o errexit\n\
         set +o noclobber\n\
         (trap 'exit 1' TERM; eval {}) < /dev/null\n\
         exit 0\n",
        quote(body)
    )
}

/// One word of a POSIX shell.
pub fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::{Colour, quote, step};
    use crate::variables::Values;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn a_shell_reads_a_quoted_text_as_it_was() {
        for text in
            ["", "plain/word-1.0", "two words", "it's", "back\\slash", "a\nb\tc", "größe $HOME `id` \"x\" !"]
        {
            let output = Command::new("sh")
                .args(["-c", &format!("printf %s {}", quote(text))])
                .output()
                .expect("sh runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }

    #[test]
    fn a_step_shows_its_commands_and_ends_at_the_first_that_fails() {
        let mut values = Values::default();
        values.set("A", "it's $B");
        let lines =
            ["echo \"$A\"", "if true; then\n  echo two\nfi", "false | cat", "echo never"].map(str::to_owned);
        let script = step(&values, Path::new("/"), &lines, Colour::None);
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            text,
            "$ echo \"$A\"\nit's $B\n$ if true; then # collapsed multi-line command\ntwo\n$ false | cat\n"
        );
        assert_eq!(output.status.code(), Some(1));
        let green = step(&values, Path::new("/"), &lines, Colour::Green);
        assert!(green.contains("\u{1b}[32;1m$ false | cat\u{1b}[0;m"), "{green}");
    }
}
