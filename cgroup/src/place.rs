//! Where a process lives: its group in each hierarchy, and where that hierarchy is mounted.
//!
//! From `/proc/<pid>/cgroup` (cgroups(7)) and `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)). Both are pure functions of their
//! text; that what they name really is a control group is proven when it is opened.

use super::Trouble;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One hierarchy and the process's group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The group's directory, below the mount.
    pub group: PathBuf,
}

/// A process's groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// In the unified hierarchy.
    pub unified: Option<Hierarchy>,
    /// By controller of version 1. Controllers that are mounted together share a directory.
    pub separate: BTreeMap<String, Hierarchy>,
}

impl Place {
    /// This process's groups.
    ///
    /// # Errors
    /// [`Trouble::Unplaced`] when `/proc` cannot be read.
    pub fn own() -> Result<Self, Trouble> {
        Self::in_file("/proc/self/cgroup")
    }

    /// Another process's groups, where this one sees them.
    ///
    /// # Errors
    /// As [`Place::own`], also when there is no such process.
    pub fn of_process(pid: u32) -> Result<Self, Trouble> {
        Self::in_file(&format!("/proc/{pid}/cgroup"))
    }

    fn in_file(cgroup: &str) -> Result<Self, Trouble> {
        let read =
            |file: &str| std::fs::read_to_string(file).map_err(|e| Trouble::Unplaced(format!("{file}: {e}")));
        Ok(Self::of(&read(cgroup)?, &read("/proc/self/mountinfo")?))
    }

    /// What the two files say. Lines that make no sense are passed over: what they might have named is then missing.
    pub fn of(cgroup: &str, mountinfo: &str) -> Self {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::of).collect();
        let mut place = Place::default();
        for line in cgroup.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(number), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            if number == "0" && names.is_empty() {
                let mount = mounts.iter().filter(|mount| mount.kind == "cgroup2");
                place.unified = mount.rev().find_map(|mount| mount.hierarchy(path));
                continue;
            }
            for name in names.split(',').filter(|name| !name.contains('=')) {
                let mount =
                    mounts.iter().filter(|m| m.kind == "cgroup" && m.options.split(',').any(|o| o == name));
                if let Some(found) = mount.rev().find_map(|mount| mount.hierarchy(path)) {
                    place.separate.insert(name.to_owned(), found);
                }
            }
        }
        place
    }
}

/// One line of mountinfo.
struct Mount {
    /// The part of the file system that is mounted.
    root: String,
    point: PathBuf,
    kind: String,
    options: String,
}

impl Mount {
    fn of(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Mount {
            root: unescape(before.next()?),
            point: PathBuf::from(unescape(before.next()?)),
            kind: after.next()?.to_owned(),
            options: after.nth(1)?.to_owned(),
        })
    }

    /// A group's directory under this mount. A mount in a container shows a part of the hierarchy, and a group outside of
    /// it is not there.
    fn hierarchy(&self, path: &str) -> Option<Hierarchy> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        let plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        plain.then(|| Hierarchy { mount: self.point.clone(), group: self.point.join(below) })
    }
}

/// Space, tab, newline and backslash stand as `\040` and so on.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::Place;
    use std::path::Path;

    const UNIFIED: &str = "29 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /box /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_service_on_the_unified_hierarchy_is_found() {
        let place = Place::of("0::/system.slice/gitlab-runner.service\n", UNIFIED);
        let unified = place.unified.expect("found");
        assert_eq!(unified.group, Path::new("/sys/fs/cgroup/system.slice/gitlab-runner.service"));
        assert_eq!(unified.mount, Path::new("/sys/fs/cgroup"));
        assert!(place.separate.is_empty());
    }

    #[test]
    fn controllers_that_are_mounted_together_and_parts_that_are_mounted_alone_are_found() {
        let text = "9:name=systemd:/x\n4:memory:/box/a\n1:cpu,cpuacct:/b\n7:pids:/c\n0::/u\n";
        let place = Place::of(text, HYBRID);
        let group = |name: &str| place.separate.get(name).map(|h| h.group.display().to_string());
        assert_eq!(group("memory").as_deref(), Some("/sys/fs/cgroup/memory/a"));
        assert_eq!(group("cpu").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/b"));
        assert_eq!(group("cpuacct").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/b"));
        assert_eq!(group("pids"), None, "not mounted");
        assert_eq!(group("name=systemd"), None, "no controller");
        assert_eq!(place.unified.expect("found").group, Path::new("/sys/fs/cgroup/unified/u"));
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_not_found() {
        for path in ["/other", "/boxes", "/box/../../etc", "/.."] {
            assert!(Place::of(&format!("4:memory:{path}\n"), HYBRID).separate.is_empty(), "{path}");
        }
        assert_eq!(Place::of("nonsense\n4:memory\n", "nonsense\n"), Place::default());
    }
}
