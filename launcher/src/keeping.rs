//! What a failed script leaves stays for a time, where the site lets users ask for it and the job did (`NUNBIRD_KEEP`).
//!
//! The job has a build directory of its own then, which no later job uses. When the script fails, its note says how long it stays, and the
//! job log has the command that opens a prompt there. The files of a job whose time was over stay as well, from its clean-up on. The clean-up
//! ends all processes of the job and removes its file variables, credentials and containers, as that of every job. Afterwards nothing runs;
//! later clean-ups and the sweep remove the directory when its time is over.

use crate::build_directories;
use nunbird_handover::{Handover, Moment, Untrusted};
use nunbird_stage::directory::Directory;
use nunbird_stage::print_message;
use nunbird_sys::clock;
use nunbird_unprivileged::process::short_host_name;
use std::fs;
use std::path::Path;

/// Keeps the build directory of a job whose script has failed in this stage, if it is to be kept.
pub(crate) fn keep(handover: &Handover, stage: &str) {
    let Some(seconds) = handover.site.keep.filter(|_| is_users(stage)) else { return };
    let workspace = &handover.workspace;
    let noted = clock::now().map_err(|e| e.to_string()).and_then(|now| {
        let until = now.saturating_add(seconds);
        let root = Directory::data_dir(&workspace.builds_root, handover.account.uid);
        let root = root.map_err(|e| e.to_string())?.ok_or("it is missing")?;
        build_directories::keep_until(&root, handover, until).map_err(|e| e.to_string())?;
        Ok(until)
    });
    match noted {
        Ok(until) => print_message(&format!(
            "the files of this job stay for {}, until {} UTC; {}",
            duration(seconds),
            Moment::of(until).to_the_minute(),
            entrance(handover)
        )),
        Err(why) => print_message(&format!("the files of this job cannot be kept: {why}")),
    }
}

/// Says of a script that the runner has ended how its files are entered if they are kept. Only the clean-up sees whether the job's time was over,
/// or its user has cancelled it, and nothing that the clean-up prints is in the job log.
pub(crate) fn announce(handover: &Handover, stage: &str) {
    let Some(seconds) = handover.site.keep.filter(|_| is_users(stage)) else { return };
    print_message(&format!(
        "if the job's time was over, its files stay for {}; {}",
        duration(seconds),
        entrance(handover)
    ));
}

/// The user's script by its two names.
fn is_users(stage: &str) -> bool {
    matches!(stage, "build_script" | "step_script")
}

/// Where, as whom and by which command the files are entered.
fn entrance(handover: &Handover) -> String {
    let (host, account) = (short_host_name(), Untrusted(&handover.account.name));
    format!("on {host}, as {account}: {}", command(handover))
}

fn command(handover: &Handover) -> String {
    let workspace = &handover.workspace;
    let usual = workspace.data_dir == handover.account.home.join(".nunbird");
    // Paths of data directories have no characters of shells (`nunbird_policy::data_dir`).
    let place = |path: &Path| path.to_string_lossy().into_owned();
    let more = if usual { String::new() } else { format!("--directory {} ", place(&workspace.data_dir)) };
    format!("{} exec enter {more}{}", program(), place(&workspace.builds_dir))
}

/// This program as a shell finds it: by its name where the package's link in `/usr/bin` leads to it, else by its path.
fn program() -> String {
    let name = "nunbird".to_owned();
    let Ok(own) = std::env::current_exe() else { return name };
    let is_usual = fs::canonicalize(Path::new("/usr/bin").join(&name)).is_ok_and(|usual| usual == own);
    let is_plain = |path: &str| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-".contains(&b));
    match own.to_str() {
        Some(own) if !is_usual && is_plain(own) => own.to_owned(),
        _ => name,
    }
}

fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds % 86_400 / 3600, seconds % 3600 / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) if seconds == minutes * 60 => format!("{minutes} min"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_short() {
        assert_eq!(
            [45, 60, 90, 3600, 5400, 172_800, 180_000].map(duration),
            ["45 s", "1 min", "1 min 30 s", "1 h", "1 h 30 min", "2 d", "2 d 2 h"]
        );
    }
}
