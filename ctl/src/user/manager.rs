//! The person's own systemd: `systemctl --user`.

use super::person::Person;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SYSTEMCTL: &str = "/usr/bin/systemctl";
const JOURNALCTL: &str = "/usr/bin/journalctl";

/// The manager is found by the runtime directory, which a shell of sudo or of cron does not have in its environment.
fn command(person: &Person, program: &str) -> Command {
    let mut command = Command::new(program);
    let runtime = person.runtime();
    let bus = format!("unix:path={}/bus", runtime.display());
    command.env_clear().env("LC_ALL", "C.UTF-8").env("HOME", &person.home);
    command.env("XDG_RUNTIME_DIR", runtime).env("DBUS_SESSION_BUS_ADDRESS", bus);
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// Runs `systemctl --user` with these words; the error is its own last line.
pub(super) fn systemctl(person: &Person, words: &[&str]) -> Result<String, String> {
    let mut command = command(person, SYSTEMCTL);
    let ran = command.args(["--user", "--no-pager"]).args(words).output();
    text(ran.map_err(|e| format!("{SYSTEMCTL}: {e}"))?)
}

fn text(output: Output) -> Result<String, String> {
    let out = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(out);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or(&out).to_owned();
    Err(format!("systemctl --user: {last}"))
}

/// Whether the manager answers.
pub(super) fn answers(person: &Person) -> Result<(), String> {
    if !person.runtime().is_dir() {
        return Err(format!("there is no {}", person.runtime().display()));
    }
    systemctl(person, &["show", "--property", "Version"]).map(drop)
}

/// The name that `ConditionHost=` compares.
pub(super) fn host() -> Result<String, String> {
    let file = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?.trim().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(name),
        false => Err(format!("{file}: not a name of a host; an admin: hostnamectl set-hostname NAME")),
    }
}

/// Whether systemd understands when a timer is to run.
pub(super) fn calendar(person: &Person, text: &str) -> Result<(), String> {
    let mut command = command(person, "/usr/bin/systemd-analyze");
    match command.args(["calendar", "--", text]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(format!(
            "--prune {text}: systemd does not know this time; write `daily`, `weekly`, or `Mon *-*-* 03:00` (systemd.time(7))"
        )),
        Err(e) => Err(format!("/usr/bin/systemd-analyze: {e}")),
    }
}

/// `active`, `failed`, … of a unit.
pub(super) fn state(person: &Person, unit: &str) -> String {
    systemctl(person, &["show", "--property", "ActiveState", "--value", "--", unit])
        .unwrap_or_else(|_| "unknown".to_owned())
}

/// Replaces this process's output by the journal's. The terminal's own pager stays off.
pub(super) fn journal(person: &Person, units: &[&str], lines: u32, follow: bool) -> Result<bool, String> {
    if !Path::new(JOURNALCTL).exists() {
        return Err(format!("there is no {JOURNALCTL}"));
    }
    let mut command = command(person, JOURNALCTL);
    command.args(["--no-pager", "--lines", &lines.to_string()]);
    for unit in units {
        // Of this person alone, whatever groups let them read.
        command.arg(format!("--user-unit={unit}"));
    }
    if follow {
        command.arg("--follow");
    }
    Ok(command.status().map_err(|e| format!("{JOURNALCTL}: {e}"))?.success())
}
