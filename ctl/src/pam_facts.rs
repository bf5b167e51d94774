//! What a `[pam]` table needs of this host: the program, the service's file, and root.

use crate::finding::Finding;
use crate::owner::owner_and_mode;
use crate::programs;
use nunbird_policy::Policy;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where Linux-PAM looks (pam.conf(5)).
const SERVICES: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];
/// Kinds of modules that a session calls.
const KINDS: [&str; 3] = ["auth", "account", "session"];

/// Checks, if the policy has the table.
pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    let Some(pam) = &policy.pam else { return };
    if pam.environment.iter().any(|name| name == "*") {
        findings.push(Finding::remark(
            "pam-environment",
            "`*` in `environment` of `[pam]` passes every PAM variable to jobs, including those \
             of modules that are added later",
            "list the variables that jobs need, or their prefixes (`XDG_*`)",
        ));
    }
    program(&policy.job.launcher.with_file_name("nunbird-session"), findings);
    if programs::has_capabilities(&programs::auth(policy)) {
        findings.push(Finding::error(
            "pam-privilege",
            "`[pam]` needs root, but nunbird-auth has only file capabilities, so no job runs",
            "install the package `nunbird` instead of `nunbird-caps`, or remove `[pam]`",
        ));
    }
    let files = SERVICES.map(|directory| Path::new(directory).join(&pam.service));
    match files.iter().find(|file| file.symlink_metadata().is_ok()) {
        Some(file) => service(file, findings),
        None => findings.push(Finding::error(
            "pam-service",
            format!("/etc/pam.d/{}: no such file, so no job runs", pam.service),
            "copy /opt/nunbird/share/pam.d/nunbird, or nunbird.debian beside it, and adapt it to the site",
        )),
    }
}

/// Owned by root and executable by root only.
fn program(program: &Path, findings: &mut Vec<Finding>) {
    let shown = program.display();
    match program.metadata() {
        Err(e) => findings.push(Finding::unseen("program", program, &e, "install the package")),
        Ok(meta) => {
            let mut find = |what: &str, help: &str| {
                findings.push(Finding::error("program", format!("{shown}: {what}"), help));
            };
            owner_and_mode(&meta, &[0], &mut find);
            if meta.mode() & 0o7077 != 0 {
                find(
                    &format!("mode {:04o}, which lets others than root execute it", meta.mode() & 0o7777),
                    "chmod 0700",
                );
            }
        }
    }
}

fn service(file: &PathBuf, findings: &mut Vec<Finding>) {
    let shown = file.display();
    let mut find = |what: &str, help: &str| {
        findings.push(Finding::error("pam-service", format!("{shown}: {what}"), help));
    };
    let meta = file.symlink_metadata();
    if meta.as_ref().is_ok_and(|meta| !meta.is_file()) {
        find("not a regular file, which nunbird-session refuses", "create a regular file");
    }
    if let Ok(meta) = &meta {
        owner_and_mode(meta, &[0], &mut find);
    }
    let Ok(text) = std::fs::read_to_string(file) else { return };
    let missing: Vec<&str> = KINDS.into_iter().filter(|kind| !has_kind(&text, kind)).collect();
    if !missing.is_empty() {
        findings.push(Finding::remark(
            "pam-service",
            format!("{shown}: no line of `{}`, so PAM asks the service `other`", missing.join("`, `")),
            "add a line of each kind, `required pam_permit.so` if nothing has to be done",
        ));
    }
}

/// Whether a service has a line of the kind, or includes one (pam.d(5)).
fn has_kind(text: &str, kind: &str) -> bool {
    text.lines().any(|line| {
        let first = line.split_whitespace().next().unwrap_or("");
        // Debian's includes may contain any kind: `common-session`,
        // `common-session-noninteractive`.
        let included = line.trim().strip_prefix("@include").is_some_and(|name| name.contains(kind));
        included || first.trim_start_matches('-').eq_ignore_ascii_case(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::{KINDS, has_kind};

    #[test]
    fn the_services_of_the_package_have_a_line_of_each_kind() {
        let files = [
            include_str!("../../packaging/pam.d/nunbird"),
            include_str!("../../packaging/pam.d/nunbird.debian"),
        ];
        for text in files {
            assert!(KINDS.iter().all(|kind| has_kind(text, kind)), "{text}");
        }
        assert!(has_kind("-session optional pam_systemd.so", "session"));
        for text in ["", "# auth required pam_permit.so", "account required pam_permit.so\n"] {
            assert!(!has_kind(text, "auth"), "{text}");
        }
    }

    #[test]
    fn a_bare_star_in_the_environment_is_remarked_on() {
        for (names, reported) in [("\"*\"", true), ("\"XDG_*\"", false)] {
            let text = format!(
                "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://x.example.org\"\n\
                 [pam]\nenvironment = [{names}]\n[[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n"
            );
            let policy =
                nunbird_policy::Policy::parse(std::path::Path::new("c.toml"), &text).expect("a policy");
            let mut findings = Vec::new();
            super::inspect(&policy, &mut findings);
            let codes: Vec<_> = findings.iter().map(|finding| finding.machine()["code"].clone()).collect();
            assert_eq!(codes.contains(&"pam-environment".into()), reported, "{codes:?}");
        }
    }
}
