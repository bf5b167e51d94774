//! A job's group as the job's record keeps it between stages: bytes that only this crate reads.

use super::job::names_of;
use super::stray::is_a_jobs;
use super::{Amounts, DiskAmounts, JobGroup, Trouble, Units, Way};
use nunbird_groups::Group;
use nunbird_wire::{Malformed, Message, Reader, Writer};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The most directories: more than there are controllers.
const MAX_DIRECTORIES: usize = 16;
/// The most disks.
const MAX_DISKS: usize = 64;

/// Everything that later stages have to know of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The uid whose directories these are.
    pub owner: u32,
    /// Of which version.
    pub way: Way,
    /// Its directories by controller.
    pub directories: BTreeMap<String, PathBuf>,
    /// The units whose group it is, where systemd made it.
    pub units: Option<Units>,
    /// What was put in force.
    pub amounts: Amounts,
}

impl Kept {
    /// What is kept of this group.
    pub fn of(group: &JobGroup, owner: u32, way: Way, units: Option<Units>, amounts: Amounts) -> Self {
        Kept { owner, way, directories: group.paths(), units, amounts }
    }

    /// Opens the group.
    ///
    /// # Errors
    /// [`Trouble::File`].
    pub fn open(&self) -> Result<JobGroup, Trouble> {
        JobGroup::open(self.way, &self.directories, self.owner)
    }

    /// Reads what was kept. The bytes come from a process that may have had fewer rights than this one, and are believed no further
    /// than the group of this job can be: every directory has its name, and the owner is the one that the maker had.
    ///
    /// # Errors
    /// [`Trouble::Unplaced`].
    pub fn read_whole(group: &Group) -> Result<Self, Trouble> {
        let no_group = || Trouble::Unplaced("the record has no group of this job's".to_owned());
        let kept = Kept::from_bytes(&group.bytes).map_err(|_| no_group())?;
        let names = names_of(group.job_id, group.decision);
        let is_its_own = kept.owner == group.owner && kept.name().is_some_and(|name| names.contains(&name));
        if is_its_own && kept.is_a_jobs() { Ok(kept) } else { Err(no_group()) }
    }

    /// The name that all its directories have.
    pub fn name(&self) -> Option<String> {
        Some(self.directories.values().next()?.file_name()?.to_str()?.to_owned())
    }

    fn is_a_jobs(&self) -> bool {
        let plain = |path: &Path| {
            let mut parts = path.components();
            parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        let Some(own) = self.name() else { return false };
        let of_version = |(controller, _): (&String, _)| controller.is_empty() == (self.way == Way::Unified);
        let sound = self
            .directories
            .values()
            .all(|path| plain(path) && path.file_name().is_some_and(|name| *name == *own));
        is_a_jobs(&own)
            && sound
            && self.directories.iter().all(of_version)
            && self.units.as_ref().map_or(!own.ends_with(".slice"), |units| units.is_of(&own))
    }
}

impl Units {
    /// Whether these are units of a job whose slice has this name.
    fn is_of(&self, slice: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let numbers = self.scopes.strip_prefix("nunbird-").and_then(|rest| rest.split_once('-'));
        self.slice == slice
            && slice.ends_with(".slice")
            && numbers.is_some_and(|(runner, job)| digits(runner) && digits(job) && self.scopes.len() < 64)
            && self.description.len() < 256
            && !self.description.chars().any(char::is_control)
    }
}

impl Message for Kept {
    fn write(&self, out: &mut Writer) {
        out.u32(self.owner);
        out.flag(self.way == Way::Unified);
        let directories: Vec<_> = self.directories.iter().collect();
        out.list(&directories, |out, (controller, path)| {
            out.text(controller);
            out.path(path);
        });
        out.optional(self.units.as_ref(), |out, units| {
            out.text(&units.slice);
            out.text(&units.scopes);
            out.text(&units.description);
        });
        let Amounts { memory, swap, cpu, pids, io_weight, disks } = &self.amounts;
        for amount in [memory, swap, cpu, pids, io_weight] {
            out.optional(*amount, Writer::u64);
        }
        out.list(disks, |out, disk| {
            let DiskAmounts { number: (major, minor), read, write, read_ops, write_ops } = *disk;
            out.u32(major);
            out.u32(minor);
            for rate in [read, write, read_ops, write_ops] {
                out.optional(rate, Writer::u64);
            }
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let number = |input: &mut Reader<'_>| input.optional(Reader::u64);
        Ok(Kept {
            owner: input.u32()?,
            way: if input.flag()? { Way::Unified } else { Way::Separate },
            directories: input
                .list(MAX_DIRECTORIES, |input| Ok((input.text()?, input.path()?)))?
                .into_iter()
                .collect(),
            units: input.optional(|input| {
                Ok(Units { slice: input.text()?, scopes: input.text()?, description: input.text()? })
            })?,
            amounts: Amounts {
                memory: number(input)?,
                swap: number(input)?,
                cpu: number(input)?,
                pids: number(input)?,
                io_weight: number(input)?,
                disks: input.list(MAX_DISKS, |input| {
                    Ok(DiskAmounts {
                        number: (input.u32()?, input.u32()?),
                        read: number(input)?,
                        write: number(input)?,
                        read_ops: number(input)?,
                        write_ops: number(input)?,
                    })
                })?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, Message};
    use crate::{Amounts, DiskAmounts, Units, Way, name_of};
    use nunbird_groups::Group;
    use std::path::PathBuf;

    /// As the monitor keeps it.
    fn group(bytes: &[u8], job_id: u64, decision: u64) -> Group {
        let limits = "l".to_owned();
        Group { limits, is_runners: false, owner: 0, job_id, decision, bytes: bytes.to_vec() }
    }

    fn separate(name: &str) -> Kept {
        let at = |controller: &str| {
            (controller.to_owned(), PathBuf::from("/sys/fs/cgroup").join(controller).join("box").join(name))
        };
        let disk = DiskAmounts { number: (8, 0), read: Some(1), ..DiskAmounts::default() };
        let amounts = Amounts { memory: Some(1 << 20), disks: vec![disk], ..Amounts::default() };
        Kept {
            owner: 0,
            way: Way::Separate,
            directories: [at("memory"), at("pids")].into(),
            units: None,
            amounts,
        }
    }

    fn slice() -> Kept {
        let units = Units::of(5, 7001, 0xab, "CI job 7001 of alice".to_owned());
        let path = PathBuf::from("/sys/fs/cgroup/nunbird.slice").join(&units.slice);
        let amounts = Amounts::default();
        Kept {
            owner: 0,
            way: Way::Unified,
            directories: [(String::new(), path)].into(),
            units: Some(units),
            amounts,
        }
    }

    #[test]
    fn a_group_is_read_as_it_was_kept() {
        for (kept, job, decision) in [(separate(&name_of(1, 2)), 1, 2), (slice(), 7001, 0xab)] {
            let bytes = kept.to_bytes();
            assert_eq!(Kept::read_whole(&group(&bytes, job, decision)).ok(), Some(kept));
            for end in 0..bytes.len() {
                assert!(Kept::read_whole(&group(&bytes[..end], job, decision)).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn another_jobs_group_and_another_owner_are_refused() {
        for (kept, job, decision) in [(separate(&name_of(1, 2)), 1, 2), (slice(), 7001, 0xab)] {
            let own = group(&kept.to_bytes(), job, decision);
            for other in [
                Group { job_id: job + 1, ..own.clone() },
                Group { decision: decision + 1, ..own.clone() },
                Group { owner: 990, ..own },
            ] {
                assert!(Kept::read_whole(&other).is_err(), "{other:?}");
            }
        }
    }

    #[test]
    fn what_is_no_group_of_a_jobs_is_refused() {
        let good = || separate(&name_of(1, 2));
        let directory = |path: &str| {
            let mut kept = good();
            kept.directories.insert("pids".to_owned(), path.into());
            kept
        };
        let units = |change: fn(&mut Units)| {
            let mut kept = slice();
            kept.units.iter_mut().for_each(change);
            kept
        };
        let own = name_of(1, 2);
        for bad in [
            Kept { directories: [].into(), ..good() },
            separate("box"),
            separate("gitlab-runner.service"),
            directory("/sys/fs/cgroup/pids/box"),
            directory(&format!("/sys/fs/cgroup/pids/{}", name_of(1, 3))),
            directory(&format!("sys/fs/cgroup/pids/{own}")),
            directory(&format!("/sys/fs/cgroup/pids/../../{own}")),
            Kept { way: Way::Unified, ..good() },
            Kept { way: Way::Separate, ..slice() },
            Kept { units: None, ..slice() },
            Kept { units: slice().units, ..good() },
            units(|units| units.slice = "ssh.slice".to_owned()),
            units(|units| units.scopes = "ssh".to_owned()),
            units(|units| units.scopes = "nunbird-1-x".to_owned()),
            units(|units| units.description = "two\nlines".to_owned()),
        ] {
            let (job, decision) = if bad.units.is_some() { (7001, 0xab) } else { (1, 2) };
            assert!(Kept::read_whole(&group(&bad.to_bytes(), job, decision)).is_err(), "{bad:?}");
        }
    }
}
