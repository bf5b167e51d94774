//! The ids that machines have on the host, as `/etc/nunbird/machine-ids` gives them: ranges that no account has.
//!
//! A line is `ids FIRST SIZE COUNT`: COUNT machines at a time, each with SIZE ids. Root of a machine has the first of its ids, and the account
//! with the number N the one that is N above it.

use crate::places::{IDS, OWNERS, STATE};
use crate::{Trouble, state};
use nix::fcntl::{Flock, FlockArg};
use nunbird_files::trusted::{Distrust, open_trusted};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What lies below is for accounts and for systemd's dynamic users (systemd's UIDS-GIDS.md).
const LEAST: u32 = 0x8_0000;
/// The fewest ids that a system needs, and as many as a container in it expects.
const SIZE: u32 = 0x1_0000;
/// From here on Nunbird's own processes have their ids.
const END: u64 = 2_147_483_000;

/// The ids of all machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    first: u32,
    size: u32,
    /// How many machines may run at a time.
    pub(crate) count: u32,
}

/// Those of one.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) first: u32,
    pub(crate) size: u32,
    /// Below this number, counted in the machine, are accounts; from here on are the ids of containers in it.
    pub(crate) accounts: u32,
    /// Keeps others from it.
    _held: Flock<File>,
}

impl Ids {
    /// As root has written them.
    pub(crate) fn read() -> Result<Self, Trouble> {
        let mut text = String::new();
        let file = open_trusted(Path::new(IDS), &OWNERS).map_err(|e| match e {
            Distrust::Open(_, e) if e.kind() == std::io::ErrorKind::NotFound => Trouble::new(format!(
                "there is no {IDS}: no machine runs on this host before root writes `ids FIRST SIZE COUNT` there"
            )),
            e => Trouble::new(e.to_string()),
        })?;
        file.take(1 << 16).read_to_string(&mut text).map_err(Trouble::of(IDS))?;
        let ids = Self::parse(&text).map_err(|why| Trouble::new(format!("{IDS}: {why}")))?;
        for (file, column) in [("/etc/passwd", 2), ("/etc/group", 2)] {
            ids.avoid(file, column, false)?;
        }
        for file in ["/etc/subuid", "/etc/subgid"] {
            ids.avoid(file, 1, true)?;
        }
        Ok(ids)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let mut found = None;
        for line in lines.filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &["ids", first, size, count] = words.as_slice() else {
                return Err(format!("expected `ids FIRST SIZE COUNT`, found `{line}`"));
            };
            let number = |word: &str| word.parse::<u32>().map_err(|_| format!("`{word}` is not a number"));
            let ids = Ids { first: number(first)?, size: number(size)?, count: number(count)? };
            if found.replace(ids).is_some() {
                return Err("a second line `ids`".to_owned());
            }
        }
        let ids = found.ok_or("there is no line `ids FIRST SIZE COUNT`")?;
        if ids.first < LEAST || ids.size < SIZE || ids.count == 0 || ids.end() > END {
            return Err(format!(
                "FIRST must be {LEAST} at least, SIZE {SIZE}, COUNT 1, and FIRST + SIZE * COUNT {END} at most"
            ));
        }
        Ok(ids)
    }

    /// Where in a machine's ids those of containers begin.
    fn accounts(&self, nested: bool) -> u32 {
        if nested { self.size.saturating_sub(SIZE) } else { self.size }
    }

    fn end(&self) -> u64 {
        u64::from(self.first) + u64::from(self.size) * u64::from(self.count)
    }

    /// Refuses ids that a file of accounts has: the first number of a line is in this column, and the next column counts where it is a range.
    fn avoid(&self, file: &str, column: usize, is_range: bool) -> Result<(), Trouble> {
        let text = match fs::read_to_string(file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(Trouble::of(file))?,
        };
        for line in text.lines() {
            let mut columns = line.split(':').skip(column).map(|word| word.parse::<u64>().ok());
            let Some(Some(from)) = columns.next() else { continue };
            let count = if is_range { columns.next().flatten().unwrap_or(0) } else { 1 };
            if from < self.end() && from.saturating_add(count) > u64::from(self.first) {
                let name = line.split(':').next().unwrap_or_default();
                return Err(Trouble::new(format!(
                    "{IDS}: {file} gives ids of this range to `{name}`; choose a range that nobody has"
                )));
            }
        }
        Ok(())
    }

    /// A range that no other machine has now, large enough for these numbers, and for containers beside them where the machine has some.
    pub(crate) fn take(&self, numbers: impl Iterator<Item = u32>, nested: bool) -> Result<Range, Trouble> {
        let accounts = self.accounts(nested);
        if let Some(number) = numbers.chain([SIZE - 1]).find(|number| *number >= accounts) {
            let of = if nested { "SIZE less 65536, for containers in a machine," } else { "SIZE" };
            let size = self.size;
            return Err(Trouble::new(format!(
                "{IDS}: a machine has the id {number}, so {of} must be larger than that; SIZE is {size}"
            )));
        }
        for index in 0..self.count {
            let path = format!("{STATE}/.ids-{index}");
            let mut options = File::options();
            let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
            match Flock::lock(file.map_err(Trouble::of(&path))?, FlockArg::LockExclusiveNonblock) {
                Ok(held) => {
                    let first = self.first.saturating_add(index.saturating_mul(self.size));
                    // A machine may live on without its keeper, and have ids by a SIZE that has been changed since.
                    let ends_by = |first: u32, size: u32, other: u32| first.saturating_add(size) <= other;
                    let is_free = state::reserved()?
                        .iter()
                        .all(|(known, of)| ends_by(*known, *of, first) || ends_by(first, self.size, *known));
                    if is_free {
                        return Ok(Range { first, size: self.size, accounts, _held: held });
                    }
                }
                Err((_, nix::Error::EWOULDBLOCK)) => {}
                Err((_, e)) => return Err(Trouble::of(&path)(e.into())),
            }
        }
        Err(Trouble::new(format!("{IDS}: {} machines run, which is all that there are ids for", self.count)))
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn containers_in_a_machine_have_the_last_65536_of_its_ids_and_accounts_those_below() {
        let of = |size| Ids { first: super::LEAST, size, count: 1 };
        assert_eq!([of(65_536).accounts(false), of(65_536).accounts(true)], [65_536, 0]);
        assert_eq!([of(131_072).accounts(false), of(131_072).accounts(true)], [131_072, 65_536]);
        for (size, number, nested) in
            [(65_536, 4101, true), (131_071, 4101, true), (131_072, 65_536, true), (131_072, 131_072, false)]
        {
            let refused = of(size).take([number].into_iter(), nested).expect_err("too few ids");
            assert!(refused.why.contains("must be larger than that"), "{}", refused.why);
        }
    }

    #[test]
    fn ids_of_accounts_and_of_nunbird_are_no_range_and_neither_is_any_other_text() {
        assert_eq!(
            Ids::parse("# a\nids 1879048192 65536 16 # b\n"),
            Ok(Ids { first: 1_879_048_192, size: 65_536, count: 16 })
        );
        for text in [
            "",
            "ids 0 65536 1",
            "ids 1000 65536 1",
            "ids 524288 65535 1",
            "ids 524288 65536 0",
            "ids 2147418112 65536 1",
            "ids 524288 65536",
            "ids 524288 65536 1 2",
            "ids -1 65536 1",
            "ids 524288 65536 1\nids 524288 65536 1",
            "range 524288 65536 1",
            "ids 524288 4294967295 4294967295",
        ] {
            assert!(Ids::parse(text).is_err(), "{text}");
        }
    }
}
