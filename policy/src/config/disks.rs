//! `io_max` of `[limits.NAME]`: bandwidth and operations of disks.

use super::keys::{Key, Setting, Table, form};
use super::reader::{Section, Spot};
use crate::Limits;
use nunbird_handover::DiskLimit;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// With less, a job hangs for minutes in calls that no signal ends.
const LEAST_BYTES: u64 = 64 << 10;
/// The kernel's greatest number of operations is no limit (`blk-throttle.c`).
const MOST_OPERATIONS: u64 = (1 << 32) - 2;

/// One table of `io_max`.
#[rustfmt::skip]
pub static DISK_KEYS: Table<DiskLimit> = Table {
    path: "limits[].io_max[]",
    defaults: || DiskLimit {
        device: PathBuf::new(),
        read: None,
        write: None,
        read_ops: None,
        write_ops: None,
    },
    keys: &[
        Key::<DiskLimit>::new("device", form!(Path: device),
            "a disk, or any path on a file system, for the whole disk on which it lies").or("required"),
        Key::<DiskLimit>::new("read", form!(Bytes: read, LEAST_BYTES), "bytes read per second").or("not limited"),
        Key::<DiskLimit>::new("write", form!(Bytes: write, LEAST_BYTES), "bytes written per second").or("not limited"),
        Key::<DiskLimit>::new("read_ops", form!(Number: read_ops, 10, MOST_OPERATIONS), "read operations per second").or("not limited"),
        Key::<DiskLimit>::new("write_ops", form!(Number: write_ops, 10, MOST_OPERATIONS), "write operations per second").or("not limited"),
    ],
};

pub(super) fn read(table: &mut Section<'_>) -> Vec<DiskLimit> {
    let mut known = BTreeMap::new();
    table.tables("io_max").into_iter().map(|table| one(table, &mut known)).collect()
}

fn one<'t>(mut table: Section<'t>, known: &mut BTreeMap<PathBuf, Option<Spot<'t>>>) -> DiskLimit {
    let t = &mut table;
    if !t.has("device") {
        let help = "add `device = \"/dev/sda\"`, or a path on the file system whose disk is meant";
        t.find("missing key `device`", help);
    }
    let mut limit = DiskLimit { device: "/".into(), ..(DISK_KEYS.defaults)() };
    DISK_KEYS.read(t, &mut limit);
    if !["read", "write", "read_ops", "write_ops"].iter().any(|key| t.has(key)) {
        t.find("this table limits nothing", "add `read`, `write`, `read_ops` or `write_ops`");
    }
    let spot = t.spot_of("device").or_else(|| t.spot());
    if let Some(first) = known.insert(limit.device.clone(), spot)
        && let Some(spot) = spot
    {
        spot.clash(first, "two tables limit this device", "join the two");
    }
    table.finish();
    limit
}

pub(super) fn setting(limits: &Limits) -> Option<Setting> {
    let of_one = |limit: &DiskLimit| {
        let value = |key: &Key<DiskLimit>| Some((key.name(), key.value(limit)?));
        DISK_KEYS.keys.iter().filter_map(value).collect()
    };
    let all: Vec<_> = limits.disks.iter().map(of_one).collect();
    (!all.is_empty()).then_some(Setting::Tables(all))
}
