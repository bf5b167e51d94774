//! `io_max` of `[limits.NAME]`: bandwidth and operations of disks.

use super::reader::Section;
use super::values::{Values, number, size};
use nunbird_handover::DiskLimit;
use std::collections::BTreeSet;

/// With less, a job hangs for minutes in calls that no signal ends.
const LEAST_BYTES: u64 = 64 << 10;
/// The kernel's greatest number of operations is no limit (`blk-throttle.c`).
const MOST_OPERATIONS: u64 = (1 << 32) - 2;

pub(super) fn read(table: &mut Section<'_>) -> Vec<DiskLimit> {
    let mut known = BTreeSet::new();
    table.tables("io_max").into_iter().map(|table| one(table, &mut known)).collect()
}

fn one(mut table: Section<'_>, known: &mut BTreeSet<std::path::PathBuf>) -> DiskLimit {
    let t = &mut table;
    if !t.has("device") {
        let help = "add `device = \"/dev/sda\"`, or a path on the file system whose disk is meant";
        t.find("this limit is for no disk", help);
    }
    let limit = DiskLimit {
        device: t.path("device", "/"),
        number: None,
        read: size(t, "read", LEAST_BYTES),
        write: size(t, "write", LEAST_BYTES),
        read_ops: number(t, "read_ops", 10, MOST_OPERATIONS),
        write_ops: number(t, "write_ops", 10, MOST_OPERATIONS),
    };
    if !["read", "write", "read_ops", "write_ops"].iter().any(|key| t.has(key)) {
        t.find("this limit says nothing", "add `read`, `write`, `read_ops` or `write_ops`");
    }
    if !known.insert(limit.device.clone()) {
        t.find("two limits are for this device", "join the two");
    }
    table.finish();
    limit
}
