//! Subordinate ids: the ranges of /etc/subuid and /etc/subgid, from which containers have more ids than
//! their account's (subuid(5)).

use crate::finding::Finding;
use nunbird_accounts::users;
use nunbird_policy::{Policy, RuleOutcome, RunAs};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// An image may have any of these ids.
const USUAL: u64 = 65_536;
/// The most ranges that are compared with each other.
const MOST: usize = 100_000;

/// A line of such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    line: usize,
    owner: String,
    first: u64,
    count: u64,
}

impl Range {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// `title` is an engine that uses them.
pub(crate) fn inspect(policy: &Policy, title: &str, findings: &mut Vec<Finding>) {
    programs(title, findings);
    let by_name_service = fs::read_to_string("/etc/nsswitch.conf")
        .is_ok_and(|text| text.lines().any(|line| line.trim_start().starts_with("subid:")));
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let (ranges, wrong) = parse(&text);
        for line in wrong {
            let help = "a line has an account or its id, a first id and how many: `ada:100000:65536`";
            findings.push(
                Finding::remark("subordinate-ids", "a line that is no range is passed over", help)
                    .at(format!("{file}:{line}")),
            );
        }
        overlaps(file, &ranges, findings);
        accounts_in_ranges(file, &ranges, findings);
        if !by_name_service {
            missing(policy, file, option, &ranges, title, findings);
        }
    }
}

/// A runner in a container of Podman, whose jobs are in containers in it, leaves the ids of its own three accounts out of what these get.
const NESTED: u64 = USUAL + 3;

/// Enough ids for containers of one kind, and too few for containers in containers.
pub(crate) fn nests(name: &str, uid: u32) -> Option<Finding> {
    let few = ["/etc/subuid", "/etc/subgid"].into_iter().find_map(|file| {
        let (ranges, _) = parse(&fs::read_to_string(file).unwrap_or_default());
        let count = owned(&ranges, name, Some(&uid.to_string()));
        (USUAL..NESTED).contains(&count).then_some((file, count))
    });
    let (file, count) = few?;
    let message = format!(
        "{name} has {count} ids in {file}: enough for jobs in containers, too few for a runner that is itself in a container, which needs {NESTED}"
    );
    let help = format!("make the range of {name} in {file} {NESTED} ids long, if you want that");
    Some(Finding::remark("subordinate-ids", message, help))
}

/// How many ids an account has, by its name and by its uid.
fn owned(ranges: &[Range], name: &str, uid: Option<&str>) -> u64 {
    let own = ranges.iter().filter(|range| range.owner == name || Some(range.owner.as_str()) == uid);
    own.fold(0, |sum, range| sum.saturating_add(range.count))
}

/// newuidmap(1) and newgidmap(1) need privilege of their own.
fn programs(title: &str, findings: &mut Vec<Finding>) {
    for name in ["newuidmap", "newgidmap"] {
        let places = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];
        let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
        let Some(path) = found else {
            let message = format!("there is no program {name}, so containers of {title} have one id");
            findings.push(Finding::remark(
                "subordinate-ids",
                message,
                "install it (the package uidmap, or shadow-utils)",
            ));
            continue;
        };
        let setuid =
            path.metadata().is_ok_and(|meta| meta.uid() == 0 && meta.permissions().mode() & 0o4000 != 0);
        let capable = xattr::get(&path, "security.capability").is_ok_and(|value| value.is_some());
        if !setuid && !capable {
            let message = format!(
                "{} has neither a setuid bit nor file capabilities, so containers of {title} do not start",
                path.display()
            );
            let help = "install its package again, or chmod 4755 as root";
            findings.push(Finding::error("subordinate-ids", message, help));
        }
    }
}

/// The ranges, and the numbers of lines that are none.
fn parse(text: &str) -> (Vec<Range>, Vec<usize>) {
    let (mut ranges, mut wrong) = (Vec::new(), Vec::new());
    for (line, text) in text.lines().enumerate().map(|(index, text)| (index + 1, text.trim())) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let parts: Vec<&str> = text.split(':').collect();
        let range = match parts.as_slice() {
            [owner, first, count] if !owner.is_empty() => match (first.parse(), count.parse()) {
                (Ok(first), Ok(count)) => Some(Range { line, owner: (*owner).to_owned(), first, count }),
                _ => None,
            },
            _ => None,
        };
        match range {
            Some(range) => ranges.push(range),
            None => wrong.push(line),
        }
    }
    (ranges, wrong)
}

/// The first pair of ranges of two owners that have an id in common; in order of the first id, a range
/// can only meet what has begun before it and goes on.
fn first_overlap(ranges: &[Range]) -> Option<(Range, Range)> {
    let mut sorted: Vec<&Range> = ranges.iter().filter(|range| range.count > 0).take(MOST).collect();
    sorted.sort_by_key(|range| range.first);
    let mut open: Vec<&Range> = Vec::new();
    for range in sorted {
        open.retain(|before| before.end() > range.first);
        if let Some(before) = open.iter().find(|before| before.owner != range.owner) {
            return Some(((*before).clone(), range.clone()));
        }
        open.push(range);
    }
    None
}

fn overlaps(file: &str, ranges: &[Range], findings: &mut Vec<Finding>) {
    let Some((one, other)) = first_overlap(ranges) else { return };
    // A name and the uid of the same account are two ways to write one owner.
    let id = |owner: &str| owner.parse().ok().or_else(|| Some(users::by_name(owner).ok()??.uid));
    if id(&one.owner).is_some() && id(&one.owner) == id(&other.owner) {
        return;
    }
    let message = format!(
        "the ranges of {} and {} have ids in common ({} to {}): containers of the one can change files of the other's",
        one.owner,
        other.owner,
        other.first,
        one.end().min(other.end()).saturating_sub(1)
    );
    let help = "give each account a range of its own, and correct the owners of files in its containers";
    findings.push(Finding::error("subordinate-ids", message, help).at(format!("{file}:{}", other.line)));
}

/// An id of a range that is also an account's or a group's.
fn accounts_in_ranges(file: &str, ranges: &[Range], findings: &mut Vec<Finding>) {
    let (names, kind) = match file {
        "/etc/subgid" => ("/etc/group", "group"),
        _ => ("/etc/passwd", "account"),
    };
    let text = fs::read_to_string(names).unwrap_or_default();
    let known = text.lines().filter_map(|line| {
        let mut parts = line.split(':');
        Some((parts.next()?, parts.nth(1)?.parse::<u64>().ok()?))
    });
    for (name, id) in known {
        let holds = |range: &&Range| (range.first..range.end()).contains(&id);
        if let Some(range) = ranges.iter().find(holds) {
            let message = format!(
                "the range of {} has the id {id} of the {kind} {name}: its containers can act as that {kind}",
                range.owner
            );
            let help = "give it a range that no account and no group is in";
            findings
                .push(Finding::error("subordinate-ids", message, help).at(format!("{file}:{}", range.line)));
            return;
        }
    }
}

/// Accounts that rules name and that have none, or few; for rules by a user's login, whether there are
/// any.
fn missing(
    policy: &Policy,
    file: &str,
    option: &str,
    ranges: &[Range],
    title: &str,
    findings: &mut Vec<Finding>,
) {
    let named: BTreeSet<&String> = policy
        .rules
        .iter()
        .filter_map(|rule| match &rule.outcome {
            RuleOutcome::RunAs(RunAs::Account(name)) => Some(name),
            _ => None,
        })
        .collect();
    let others = policy.rules.iter().any(
        |rule| matches!(&rule.outcome, RuleOutcome::RunAs(as_whom) if !matches!(as_whom, RunAs::Account(_))),
    );
    let next = ranges.iter().map(Range::end).max().unwrap_or(100_000).max(100_000);
    let help = |name: &str| format!("usermod {option} {next}-{} {name}", next.saturating_add(USUAL - 1));
    for name in named {
        let uid = users::by_name(name).ok().flatten().map(|entry| entry.uid.to_string());
        let count = owned(ranges, name, uid.as_deref());
        let what = match count {
            0 => format!("the account {name} has none in {file}, so its containers of {title} have one id"),
            1..USUAL => format!(
                "the account {name} has {count} in {file}: images with higher ids than that cannot be used with {title}"
            ),
            _ => continue,
        };
        findings.push(Finding::remark("subordinate-ids", what, help(name)));
    }
    if others && ranges.is_empty() {
        let what = format!("no account has any in {file}, so containers of {title} have one id");
        findings.push(Finding::remark("subordinate-ids", what, help("ACCOUNT")));
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, first_overlap, parse};

    fn range(line: usize, owner: &str, first: u64, count: u64) -> Range {
        Range { line, owner: owner.to_owned(), first, count }
    }

    #[test]
    fn lines_are_ranges_or_said_to_be_none() {
        let text = "# a note\n\nada:100000:65536\nbob:1:2:3\n1001:200000:10\n:1:2\ncyn:x:1\n";
        let expected = vec![range(3, "ada", 100_000, 65_536), range(5, "1001", 200_000, 10)];
        assert_eq!(parse(text), (expected, vec![4, 6, 7]));
    }

    #[test]
    fn ranges_of_two_owners_that_meet_are_found_also_behind_a_long_one() {
        let own = range(2, "a", 150, 10);
        let long = range(1, "a", 100, 1000);
        assert_eq!(first_overlap(&[long.clone(), own.clone(), range(3, "b", 1100, 5)]), None);
        let other = range(3, "b", 1099, 5);
        assert_eq!(first_overlap(&[other.clone(), own, long.clone()]), Some((long, other)));
        assert_eq!(first_overlap(&[range(1, "a", 5, 0), range(2, "b", 5, 1)]), None);
        assert_eq!(first_overlap(&[range(1, "a", u64::MAX, 9), range(2, "b", 0, 1)]), None);
    }
}
