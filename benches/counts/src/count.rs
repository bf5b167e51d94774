//! Counting instructions below valgrind(1).

use crate::{SCENARIOS, Scenario};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

/// Every piece of work, by name and size.
pub fn all() -> impl Iterator<Item = (&'static str, usize)> {
    SCENARIOS.iter().flat_map(|scenario| scenario.sizes.iter().map(|size| (scenario.name, *size)))
}

/// The scenario of this name.
pub fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// The version of valgrind, where it is installed.
pub fn valgrind() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Counts every piece of work; name, size and instructions.
///
/// # Panics
/// When valgrind or the work fails: a count that is missing would be one that is not checked.
pub fn count() -> Vec<(&'static str, usize, u64)> {
    let directory = std::env::temp_dir().join(format!("nbt_counts-{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory for counts");
    // The dearest first, so that no processor waits for the last one.
    let mut queue: Vec<(&str, usize)> = all().collect();
    queue.sort_by_key(|(_, size)| *size);
    let (queue, counts) = (Mutex::new(queue), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some((name, size)) = queue.lock().expect("a queue").pop() else { break };
                    let of = |times| instructions(&directory, name, size, times);
                    let (with, without) = (of(1), of(0));
                    counts.lock().expect("a list").push((name, size, with.saturating_sub(without)));
                }
            });
        }
    });
    fs::remove_dir(&directory).expect("an empty directory");
    let counts = counts.into_inner().expect("a list");
    let counted = |(name, size): (&'static str, usize)| {
        let found = counts.iter().find(|(known, n, _)| *known == name && *n == size);
        found.map(|(.., count)| (name, size, *count))
    };
    all().filter_map(counted).collect()
}

/// The instructions of one process that does the work so many times.
fn instructions(directory: &Path, name: &str, size: usize, times: u32) -> u64 {
    let own: PathBuf = std::env::current_exe().expect("this program");
    let log = directory.join(format!("{}-{size}-{times}", name.replace(' ', "_")));
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(format!("--log-file={}", log.display()))
        .arg(own)
        .args(["work", name, &size.to_string(), &times.to_string()])
        // The same environment everywhere: its size moves the stack.
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .expect("valgrind");
    let text = fs::read_to_string(&log).expect("the log of valgrind");
    fs::remove_file(&log).expect("the log of valgrind");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}, {size}: {}\n{errors}\n{text}", output.status);
    refs(&text).unwrap_or_else(|| panic!("{name}, {size}: valgrind counts nothing:\n{text}"))
}

/// `==123== I   refs:      1,234,567`
fn refs(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.contains("I refs:") || line.contains("I   refs:"))?;
    line.rsplit(':').next()?.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::refs;

    #[test]
    fn the_count_is_read_as_valgrind_of_any_release_prints_it() {
        assert_eq!(refs("==7== x\n==7== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(refs("==7== I refs:        89\n"), Some(89));
        assert_eq!(refs("==7== D   refs:        89\n"), None);
    }
}
