//! What a runner without root needs of this host. What containers need is `check`'s own inspection, of a
//! configuration in which all jobs of the person run in Podman.
//!
//! Each finding's help begins with who can act: `yourself:` or `an admin:`.

use super::manager;
use super::person::{Person, executable};
use super::texts::{Choice, Server, policy};
use crate::finding::Finding;
use crate::output::CtlError;
use crate::{container_facts, programs, subid_facts};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nunbird_container::networks::network;
use nunbird_policy::{Policy, SourceFile};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where `loginctl enable-linger` leaves a file for each account (logind has no file of its configuration for it).
const LINGER: &str = "/var/lib/systemd/linger";

pub(super) fn inspect(person: &Person, choice: &Choice) -> Result<Vec<Finding>, CtlError> {
    let mut findings = Vec::new();
    own_programs(choice, &mut findings);
    runner_program(choice, &mut findings);
    lingering(person, &mut findings);
    user_manager(person, &mut findings);
    delegation(person, &mut findings);
    home(person, &mut findings);
    containers(person, choice, &mut findings)?;
    Ok(findings)
}

/// The site's `nunbird-auth` is for the site's runner: without that account's group nobody can execute it, and with its privilege it
/// refuses a configuration of somebody's own.
fn own_programs(choice: &Choice, findings: &mut Vec<Finding>) {
    let help = "yourself: take the programs out of a package into a directory of your own (dpkg-deb -x nunbird_*.deb ~/nunbird, or \
                rpm2cpio nunbird-*.rpm | cpio -idm -D ~/nunbird), chmod 755 them, and name their directory with --programs";
    for name in ["nunbird-auth", "nunbird-decide", "nunbird-keys", "nunbird", "nunbirdctl"] {
        let file = choice.programs.join(name);
        let mut error = |what: &str| {
            findings.push(Finding::error("own-programs", format!("{}: {what}", file.display()), help));
        };
        match file.metadata() {
            Err(e) => error(&e.to_string()),
            Ok(meta) if meta.mode() & 0o6000 != 0 || programs::has_capabilities(&file) => {
                error("it has privilege of its own, with which it refuses to serve one account");
            }
            Ok(_) if !executable(&file) => error("you cannot execute it"),
            Ok(_) => {}
        }
    }
}

fn runner_program(choice: &Choice, findings: &mut Vec<Finding>) {
    let file = &choice.runner_program;
    if !executable(file) {
        let message = format!("{}: no program that you can execute", file.display());
        let help = "yourself: put GitLab's program gitlab-runner into a directory of PATH, or name it with --runner-program; an admin: install the package gitlab-runner";
        findings.push(Finding::error("runner-program", message, help));
    }
}

fn lingering(person: &Person, findings: &mut Vec<Finding>) {
    if !Path::new(LINGER).join(&person.name).exists() {
        let message =
            format!("lingering is off for {0}, so the runner and its jobs end when you log out", person.name);
        let help = format!(
            "yourself: loginctl enable-linger; if that is refused, an admin: loginctl enable-linger {}",
            person.name
        );
        findings.push(Finding::error("linger", message, help));
    }
}

fn user_manager(person: &Person, findings: &mut Vec<Finding>) {
    if let Err(why) = manager::answers(person) {
        let message = format!("your own systemd does not answer: {why}");
        let help = format!(
            "yourself: log in again by ssh, not by su or sudo; an admin: loginctl enable-linger {}, and systemctl start user@{}.service",
            person.name, person.uid
        );
        findings.push(Finding::error("user-manager", message, help));
    }
}

/// Without a controller its limits are accepted by engines, and not in force.
fn delegation(person: &Person, findings: &mut Vec<Finding>) {
    let root = Path::new("/sys/fs/cgroup");
    if !statfs(root).is_ok_and(|status| status.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        findings.push(Finding::remark(
            "delegation",
            "this host has control groups of version 1, which cannot be delegated to you: jobs have no limits of memory, processors and processes",
            "an admin: boot with systemd.unified_cgroup_hierarchy=1",
        ));
        return;
    }
    let uid = person.uid;
    let file = root.join(format!("user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers"));
    // A manager that does not run is a finding of its own.
    let Ok(text) = std::fs::read_to_string(&file) else { return };
    let has: Vec<&str> = text.split_whitespace().collect();
    let missing: Vec<&str> = ["cpu", "memory", "pids"].into_iter().filter(|one| !has.contains(one)).collect();
    if !missing.is_empty() {
        let message = format!(
            "your own systemd has not the controllers {}: limits of jobs by them are not in force",
            missing.join(", ")
        );
        let help = "an admin: write `[Service]` and `Delegate=cpu cpuset io memory pids` into /etc/systemd/system/user@.service.d/delegate.conf, \
                    then systemctl daemon-reload, and restart user@ of the account";
        findings.push(Finding::remark("delegation", message, help));
    }
}

/// Locks and renames of records and of the journal of decisions.
fn home(person: &Person, findings: &mut Vec<Finding>) {
    if let Some(kind) = network(&person.home) {
        let message = format!(
            "{} is on {kind}: a runner of the same account on another host with the same home directory takes these files for its own",
            person.home.display()
        );
        findings.push(Finding::remark(
            "home",
            message,
            "yourself: run one runner for each home directory, on one host",
        ));
    }
}

/// The configuration as it would be with Podman; without `--image` its findings stop nothing.
fn containers(person: &Person, choice: &Choice, findings: &mut Vec<Finding>) -> Result<(), CtlError> {
    let wanted = choice.image.is_some();
    let with = Choice {
        programs: choice.programs.clone(),
        runner_program: choice.runner_program.clone(),
        image: Some(choice.image.clone().unwrap_or_else(|| "debian".to_owned())),
        store: choice.store.clone(),
    };
    let server =
        Server { url: "https://gitlab.example.org", audience: None, ca_file: None, login: &person.name };
    let source = SourceFile { path: person.policy(), text: policy(person, &server, &with) };
    let read = Policy::read(&[source]).map_err(|found| {
        let why = found.first().map(|one| one.message.clone()).unwrap_or_default();
        CtlError::new(format!("{}: {why}", person.policy().display()))
    })?;
    let mut found = Vec::new();
    container_facts::inspect(&read.policy, &mut found);
    found.extend(subid_facts::nests(&person.name, person.uid));
    for one in found {
        // These are files that only root can change, but for the store and the engine's program.
        let who = if one.code() == "store" { "yourself" } else { "an admin" };
        let one = one.for_whom(who);
        // Too few ids are a reason to stop where all jobs run in containers.
        findings.push(match (wanted, one.code()) {
            (false, _) => one.into_remark(),
            (true, "subordinate-ids") if one.concerns(&person.name) => one.into_error(),
            (true, _) => one,
        });
    }
    Ok(())
}
