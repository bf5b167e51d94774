//! What `downscope = "sudo"` needs of this host: sudo, the sudoers file, and a `nunbird-auth`
//! without privilege.

use crate::finding::Finding;
use crate::owner::owner_and_mode;
use crate::programs;
use nunbird_policy::{Downscope, Policy};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SUDO: &str = "/usr/bin/sudo";
/// The path of the package's file. A site may keep the lines elsewhere, which is not checked.
const SUDOERS: &str = "/etc/sudoers.d/nunbird";
/// Settings without which a stage does not reach the launcher, or the runner's environment reaches
/// sudo's modules.
const SETTINGS: [&str; 5] = ["env_reset", "!setenv", "!env_keep", "!log_input", "!use_pty"];

/// Checks, if the policy has this mode.
pub(crate) fn inspect(policy: &Policy, runner: &str, findings: &mut Vec<Finding>) {
    if policy.downscope != Downscope::Sudo {
        return;
    }
    match Path::new(SUDO).metadata() {
        Err(e) => findings.push(Finding::unseen("sudo", Path::new(SUDO), &e, "install sudo")),
        Ok(meta) if meta.mode() & 0o4000 == 0 || meta.uid() != 0 => {
            findings.push(Finding::error("sudo", format!("{SUDO}: not setuid-root"), "install sudo again"));
        }
        Ok(_) => {}
    }
    let auth = programs::auth(policy);
    if programs::has_capabilities(&auth) || auth.metadata().is_ok_and(|meta| meta.mode() & 0o6000 != 0) {
        let what = format!("{}: has privilege, so no job runs with `downscope = \"sudo\"`", auth.display());
        findings.push(Finding::error("sudo", what, "chmod 0755 and setcap -r"));
    }
    sudoers(Path::new(SUDOERS), &policy.job.launcher, runner, findings);
}

fn sudoers(file: &Path, launcher: &Path, runner: &str, findings: &mut Vec<Finding>) {
    let help = "copy /opt/nunbird/share/sudoers.d/nunbird there with mode 0440, and adapt runner \
                and group to the site";
    let mut error = |what: String, help: &str| {
        findings.push(Finding::error("sudoers", format!("{SUDOERS}: {what}"), help));
    };
    let text = match file.metadata().and_then(|meta| Ok((meta, std::fs::read_to_string(file)?))) {
        Err(e) => return findings.push(Finding::unseen("sudoers", file, &e, help)),
        Ok((meta, text)) => {
            owner_and_mode(&meta, &[0], &mut |what, help| error(what.to_owned(), help));
            text
        }
    };
    for what in faults(&text, launcher, runner) {
        error(what, help);
    }
    for group in run_as_groups(&text) {
        if nunbird_accounts::users::group_by_name(group).ok().flatten().is_none() {
            error(
                format!("no group `{group}`, so sudo runs no job"),
                "groupadd, and add the users whose jobs run here",
            );
        }
    }
}

/// Which of the package's lines are missing, or grant more than they do.
fn faults(text: &str, launcher: &Path, runner: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let mut faults = Vec::new();
    let command = format!("{} --sudo", launcher.display());
    let alias = lines.iter().find_map(|line| {
        let (name, value) = line.strip_prefix("Cmnd_Alias")?.split_once('=')?;
        (value.trim() == command).then(|| name.trim())
    });
    let Some(alias) = alias else {
        return vec![format!("no `Cmnd_Alias NUNBIRD = {command}`")];
    };
    let defaults: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("Defaults!")?.strip_prefix(alias))
        .flat_map(|settings| settings.split(','))
        .map(str::trim)
        .collect();
    for setting in SETTINGS.into_iter().filter(|setting| !defaults.contains(setting)) {
        faults.push(format!("no `Defaults!{alias} {setting}`"));
    }
    let rules: Vec<&&str> =
        lines.iter().filter(|line| line.split_whitespace().next() == Some(runner)).collect();
    if !rules.iter().any(|rule| rule.replace(' ', "").ends_with(&format!("NOPASSWD:{alias}"))) {
        faults.push(format!("no rule for `{runner}` that ends with `NOPASSWD: {alias}`"));
    }
    for rule in rules {
        if run_as(rule)
            .is_none_or(|who| who.split(',').any(|one| matches!(one.trim(), "ALL" | "root" | "" | "#0")))
        {
            faults.push(format!("`{runner}` may become root or any user: name a group, `(%nunbird-jobs)`"));
        }
    }
    faults
}

/// The text in the first parentheses of a rule.
fn run_as(rule: &str) -> Option<&str> {
    Some(rule.split_once('(')?.1.split_once(')')?.0.trim())
}

fn run_as_groups(text: &str) -> impl Iterator<Item = &str> {
    let rules = text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(run_as);
    rules.flat_map(|who| who.split(',')).filter_map(|one| one.trim().strip_prefix('%'))
}

#[cfg(test)]
mod tests {
    use super::{faults, run_as_groups};
    use std::path::Path;

    const PACKAGED: &str = include_str!("../../packaging/sudoers.d/nunbird");

    fn of(text: &str) -> Vec<String> {
        faults(text, Path::new("/opt/nunbird/bin/nunbird"), "gitlab-runner")
    }

    #[test]
    fn the_file_of_the_package_has_no_faults_and_each_change_of_it_is_one() {
        assert_eq!(of(PACKAGED), Vec::<String>::new());
        assert_eq!(run_as_groups(PACKAGED).collect::<Vec<_>>(), ["nunbird-jobs"]);
        for (from, to) in [
            ("--sudo", "--sodu"),
            ("NOPASSWD: NUNBIRD", "NUNBIRD"),
            ("gitlab-runner ALL", "other ALL"),
            ("(%nunbird-jobs)", "(ALL)"),
            ("(%nunbird-jobs)", "(%nunbird-jobs, root)"),
            ("(%nunbird-jobs) ", ""),
            ("!log_input, ", ""),
            ("env_reset, ", ""),
        ] {
            assert!(PACKAGED.contains(from), "{from}");
            assert!(!of(&PACKAGED.replace(from, to)).is_empty(), "{from} {to}");
        }
    }
}
