//! Takes out of a transcript what differs from run to run: process ids, addresses, sizes, names made up for the moment.

use std::path::Path;

/// Calls whose text and lengths are the content of files and messages.
const DATA: [&str; 8] = ["read", "write", "pread64", "pwrite64", "writev", "getrandom", "sendto", "recvfrom"];
/// Calls that take or give process ids.
const WITH_PIDS: [&str; 12] = [
    "clone",
    "clone3",
    "fork",
    "vfork",
    "wait4",
    "waitid",
    "kill",
    "getpid",
    "getppid",
    "gettid",
    "set_tid_address",
    "setsid",
];
/// Calls that take times.
const WITH_TIMES: [&str; 6] = ["alarm", "poll", "ppoll", "rt_sigtimedwait", "clock_nanosleep", "pselect6"];
/// Members of structures.
const MEMBERS: [&str; 6] = ["st_size=", "st_rdev=", "si_pid=", "si_uid=", "si_utime=", "si_stime="];

/// Tidies the lines of one process.
pub(super) fn tidy(lines: &[String], root: &Path, roles: &[(String, &'static str)]) -> Vec<String> {
    let root = root.to_str().expect("a path");
    let tidied: Vec<String> = lines.iter().map(|line| one(line, root, roles)).collect();
    let mut shown = Vec::new();
    for group in tidied.chunk_by(|a, b| key(a) == key(b)) {
        let (name, times) = (name(&group[0]), group.len());
        shown.push(match (key(&group[0]), times) {
            (_, 1) => group[0].clone(),
            (Key::Signals | Key::Ambient, _) => format!("{}   {times} calls", key(&group[0]).shown()),
            (Key::Line(line), _) if DATA.contains(&name) => format!("{line}   again until the end"),
            (Key::Line(line), _) => format!("{line}   {times} times"),
        });
    }
    shown
}

/// What makes neighbours one line.
#[derive(PartialEq, Eq)]
enum Key<'a> {
    Signals,
    Ambient,
    Line(&'a str),
}

impl Key<'_> {
    fn shown(&self) -> &str {
        match self {
            Key::Signals => "rt_sigaction(…)",
            Key::Ambient => "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, …)",
            Key::Line(line) => line,
        }
    }
}

fn key(line: &str) -> Key<'_> {
    match name(line) {
        "rt_sigaction" => Key::Signals,
        "prctl" if line.contains("PR_CAP_AMBIENT_IS_SET") => Key::Ambient,
        _ => Key::Line(line),
    }
}

fn name(line: &str) -> &str {
    line.split('(').next().unwrap_or("")
}

fn one(line: &str, root: &str, roles: &[(String, &'static str)]) -> String {
    let call = name(line).to_owned();
    let mut line = line.replace(&format!("{root}/runner"), "/runner").replace(root, "/machine");
    line = line.replace("POLLIN|POLLHUP", "POLLIN");
    line = if DATA.contains(&call.as_str()) { contents(&line) } else { strings(&line) };
    line = numbers(&line, |before, digits| {
        let pid = roles.iter().find(|(pid, _)| WITH_PIDS.contains(&call.as_str()) && pid == digits);
        if let Some((_, role)) = pid {
            return Some(format!("<{role}>"));
        }
        let varies = before.ends_with("custom-executor")
            || before.ends_with("https://127.0.0.1:")
            || MEMBERS.iter().any(|member| before.ends_with(member))
            || (WITH_TIMES.contains(&call.as_str()) && digits.len() > 2 && line != "alarm(900) = 0")
            || (call == "keyctl" && before.ends_with("= "))
            || (DATA.contains(&call.as_str()) && (before.ends_with("\"…\", ") || before.ends_with(") = ")));
        varies.then(|| "…".to_owned())
    });
    structures(&addresses(&line), call == "statx")
}

/// What was read or written. It may hold quotation marks of its own, so all from the first to the last is hidden.
fn contents(line: &str) -> String {
    match (line.find('"'), line.rfind('"')) {
        (Some(from), Some(to)) if from < to => {
            let after = &line[to + 1..];
            format!("{}\"…\"{}", &line[..from], after.strip_prefix("...").unwrap_or(after))
        }
        _ => line.to_owned(),
    }
}

/// Names of records are made of numbers of the moment: uid, device and inode.
fn strings(line: &str) -> String {
    let tidy = |part: &str| {
        let stem = part.trim_start_matches('.').split('.').next().unwrap_or("");
        let hex = stem.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if hex && stem.matches('-').count() == 2 { part.replace(stem, "<record>") } else { part.to_owned() }
    };
    line.split('"').map(tidy).collect::<Vec<_>>().join("\"")
}

/// Has `change` look at each decimal number together with what stands before it.
fn numbers(line: &str, change: impl Fn(&str, &str) -> Option<String>) -> String {
    let mut tidy = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        tidy.push_str(before);
        let changed = change(&tidy, digits);
        tidy.push_str(changed.as_deref().unwrap_or(digits));
        rest = after;
    }
    tidy + rest
}

fn addresses(line: &str) -> String {
    let mut parts = line.split("0x");
    let mut tidy = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len());
        tidy.push_str("0x");
        tidy.push_str(if end > 5 { "…" } else { &part[..end] });
        tidy.push_str(&part[end..]);
    }
    tidy
}

/// statx(2) answers with times and inode numbers.
fn structures(line: &str, hidden: bool) -> String {
    match (line.find('{'), line.rfind('}')) {
        (Some(from), Some(to)) if hidden && from < to => format!("{}{{…{}", &line[..from], &line[to..]),
        _ => line.to_owned(),
    }
}
