//! The bash scripts of the stages, shaped like gitlab-runner's (`shells/abstract.go`, `shells/bash.go`).

use super::session::Places;
use super::variables::expand;
use super::{RunnerVersion, Variable};
use crate::issuer::JobFacts;
use std::fmt::Write;

/// What the scripts are made of.
#[derive(Debug)]
pub(super) struct Scripts<'a> {
    pub(super) version: RunnerVersion,
    pub(super) facts: &'a JobFacts,
    pub(super) variables: &'a [Variable],
    pub(super) places: &'a Places,
    pub(super) repository: &'a str,
    pub(super) server: &'a str,
    pub(super) job_token: &'a str,
}

impl Scripts<'_> {
    pub(super) fn prepare_script(&self) -> String {
        let temporary = self.places.temporary();
        let body = format!(
            "echo \"Running on $(hostname)...\"\n\
             rm -f {0}/gitlab_runner_env\nrm -f {0}/masking.db\n",
            quote(&temporary)
        );
        self.wrap(&body)
    }

    pub(super) fn get_sources(&self) -> String {
        let Places { project_dir, .. } = self.places;
        let (project, template) =
            (quote(project_dir), quote(&format!("{}/git-template", self.places.temporary())));
        let (url, git_ref, sha) = (quote(self.repository), &self.facts.git_ref, quote(&self.facts.sha));
        let folder = if self.facts.ref_type == "tag" { "tags" } else { "heads" };
        let refspec = quote(&format!("+refs/{folder}/{git_ref}:refs/remotes/origin/{git_ref}"));
        let mut body = self.exports();
        write!(
            body,
            "echo {green}\n\
             mkdir -p {template}\n\
             git config -f {template}/config fetch.recurseSubmodules false\n\
             rm -r -f {project}\n\
             git init {project} --template {template} --quiet\n\
             cd {project}\n\
             git remote add origin {url}\n\
             git fetch origin --no-tags --quiet --depth 20 {refspec}\n\
             git checkout -f -q {sha}\n\
             echo {checked_out}\n",
            green = quote("\u{1b}[32;1mFetching changes with git depth set to 20...\u{1b}[0;m"),
            checked_out = quote(&format!(
                "Checking out {} as detached HEAD (ref is {git_ref})...",
                &self.facts.sha[..8]
            )),
        )
        .expect("text");
        self.wrap(&body)
    }

    /// A step of the user's: `build_script`, `after_script`, `step_…`.
    pub(super) fn step(&self, lines: &[String]) -> String {
        let mut body = self.exports();
        body.push_str(&self.enter_project());
        for line in lines {
            let shown = format!("\u{1b}[32;1m$ {}\u{1b}[0;m", line.lines().next().unwrap_or_default());
            writeln!(body, "echo {}\n{line}", quote(&shown)).expect("text");
        }
        self.wrap(&body)
    }

    pub(super) fn upload_artifacts(&self, paths: &[String]) -> String {
        let mut body = self.exports();
        body.push_str(&self.enter_project());
        let words: Vec<String> = paths.iter().map(|path| format!("\"--path\" {}", quote(path))).collect();
        write!(
            body,
            "if gitlab-runner --version >/dev/null 2>&1; then\n\
             echo {uploading}\n\
             \"gitlab-runner\" \"artifacts-uploader\" \"--url\" {url} \"--token\" {token} \"--id\" \"{id}\" {paths} \
             \"--artifact-format\" \"zip\" \"--artifact-type\" \"archive\"\n\
             else\n\
             echo {missing}\n\
             fi\n",
            uploading = quote("\u{1b}[32;1mUploading artifacts...\u{1b}[0;m"),
            missing = quote("\u{1b}[0;33mMissing gitlab-runner. Uploading artifacts is disabled.\u{1b}[0;m"),
            url = quote(self.server),
            token = quote(self.job_token),
            id = self.facts.job_id,
            paths = words.join(" "),
        )
        .expect("text");
        self.wrap(&body)
    }

    pub(super) fn cleanup_file_variables(&self) -> String {
        let mut body = self.exports();
        let temporary = self.places.temporary();
        for name in ["gitlab_runner_env", "masking.db", ".gitlab-runner.ext.conf"] {
            writeln!(body, "rm -f {}", quote(&format!("{temporary}/{name}"))).expect("text");
        }
        for variable in self.variables.iter().filter(|variable| variable.file) {
            writeln!(body, "rm -f {}", quote(&self.places.file(&variable.key))).expect("text");
        }
        self.wrap(&body)
    }

    /// `export` of every variable; file variables are written first.
    fn exports(&self) -> String {
        let mut body = String::new();
        let temporary = quote(&self.places.temporary());
        for variable in self.variables {
            let key = &variable.key;
            let value = quote(&expand(variable, self.variables, self.places));
            if variable.file {
                let path = quote(&self.places.file(key));
                writeln!(body, "mkdir -p {temporary}\nprintf '%s' {value} > {path}\nexport {key}={path}")
                    .expect("text");
            } else {
                writeln!(body, "export {key}={value}").expect("text");
            }
        }
        let list = quote(&format!("{}/gitlab_runner_env", self.places.temporary()));
        write!(
            body,
            "export GITLAB_ENV={list}\n\
             if [[ -f {list} ]]; then while read -r line; do export \"$line\"; done < {list}; fi\n"
        )
        .expect("text");
        body
    }

    fn enter_project(&self) -> String {
        format!("cd {}\n", quote(&self.places.project_dir))
    }

    fn wrap(&self, body: &str) -> String {
        let body = quote(body);
        if self.version.has_new_wrapper() {
            return format!(
                "#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n\
                 case \"$(set -o)\" in *pipefail*) set -o pipefail ;; esac; set -o errexit\n\
                 set +o noclobber\n\
                 (trap 'exit 1' TERM; eval {body}) < /dev/null\n\
                 exit 0\n"
            );
        }
        format!(
            "#!/usr/bin/env bash\n\ntrap exit 1 TERM\n\n\
             if set -o | grep pipefail > /dev/null; then set -o pipefail; fi; set -o errexit\n\
             set +o noclobber\n\
             : | eval {body}\n\
             exit 0\n"
        )
    }
}

/// ANSI-C quoting as the runner does it (`helpers.ShellEscape`): plain words stay, all else goes into `$'…'`.
pub(super) fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("$'");
    for byte in text.bytes() {
        match byte {
            b'\\' | b'\'' => quoted.extend(['\\', char::from(byte)]),
            b'\n' => quoted.push_str("\\n"),
            b'\r' => quoted.push_str("\\r"),
            b'\t' => quoted.push_str("\\t"),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => write!(quoted, "\\x{byte:02X}").expect("text"),
        }
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::quote;
    use std::process::Command;

    #[test]
    fn bash_reads_a_quoted_text_as_it_was() {
        for text in [
            "",
            "plain/word-1.0",
            "two words",
            "it's",
            "back\\slash",
            "a\nb\tc\r",
            "größe $HOME `id` \"x\"",
            "\u{1b}[0m",
        ] {
            let script = format!("printf %s {}", quote(text));
            let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{script}");
        }
    }
}
