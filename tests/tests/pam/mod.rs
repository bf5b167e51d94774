//! PAM sessions around stages, with the system's own modules and services of the private system.
//!
//! `open.rs`: what a session gives a job, and that it is closed. `job.rs`: one for the whole job.
//! `closing.rs`: its end under adverse conditions. `refuse.rs`: what denies a job. `door.rs`: who
//! may start and signal what.

mod closing;
mod door;
mod job;
mod open;
mod refuse;

use nunbird_tests::runner::Session;
use nunbird_tests::{Privilege, World};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// With root, which sessions need.
pub(crate) const WITH_ROOT: [Privilege; 2] = [Privilege::RootRunner, Privilege::Setuid];

/// A program for pam_exec(8) that writes one line for each call.
pub(crate) const NOTE: &str = "session required pam_exec.so /usr/local/bin/nbt_note\n";

const NOTE_SCRIPT: &str = "#!/bin/bash\n\
    echo \"$PAM_TYPE $PAM_USER $(id -u) $(keyctl show @s 2>/dev/null | awk 'NR == 2 {print $1}')\" >> /var/log/nbt_sessions\n";

/// A machine whose jobs get sessions of a service with these lines.
pub(crate) fn machine(privilege: Privilege, service: &str) -> World {
    machine_with(privilege, service, "")
}

/// The same with more lines in `[pam]`.
pub(crate) fn machine_with(privilege: Privilege, service: &str, settings: &str) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world.write_file("/usr/local/bin/nbt_note", NOTE_SCRIPT, "root", 0o755);
    world.write_file("/etc/pam.d/nunbird", service, "root", 0o644);
    world.reconfigure("[audit]\n", &format!("[pam]\n{settings}\n[audit]\n"));
    world
}

/// What [`NOTE`] has written: words of each line.
pub(crate) fn notes(world: &World) -> Vec<Vec<String>> {
    let text = fs::read_to_string(world.host_path("/var/log/nbt_sessions")).unwrap_or_default();
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// How many sessions were opened and closed.
pub(crate) fn sessions(world: &World) -> (usize, usize) {
    let notes = notes(world);
    let count = |kind: &str| notes.iter().filter(|note| note[0] == kind).count();
    (count("open_session"), count("close_session"))
}

/// A job that has been admitted and prepared.
pub(crate) fn begin<'a>(session: &mut Session<'a>) {
    let config = session.config();
    assert!(config.succeeded(), "{}", config.log);
    let prepare = session.prepare();
    assert!(prepare.succeeded(), "{}", prepare.log);
}

/// Waits for a file, which holds a process id, and reads it.
pub(crate) fn pid_in(file: &Path) -> PathBuf {
    let text = wait(|| fs::read_to_string(file).ok().filter(|text| text.ends_with('\n')));
    Path::new("/proc").join(text.trim())
}

/// Waits for a condition.
pub(crate) fn wait<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process has ended; a zombie has.
pub(crate) fn is_gone(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    !status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Compiles a module from C source and installs it beside the programs.
pub(crate) fn build_module(world: &World, name: &str, text: &str) {
    let source = world.root().join(format!("{name}.c"));
    fs::write(&source, text).expect("a source");
    let module = world.host_path(format!("/opt/nunbird/{name}.so"));
    let mut gcc = std::process::Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-o"]).arg(&module).arg(&source).arg("-lpam");
    assert!(gcc.status().expect("gcc runs").success());
}
