//! Job records as tests read and change them.

use nunbird_handover::JobSpec;
use nunbird_messages::Record;
use nunbird_wire::Message;
use std::fs;
use std::path::Path;

/// The record in this file.
pub fn read(path: &Path) -> Record {
    Record::parse(&fs::read(path).expect("a record")).expect("a record")
}

/// What the decider keeps in it.
pub fn spec(path: &Path) -> JobSpec {
    JobSpec::from_bytes(&read(path).body).expect("the decider's part of a record")
}

/// Changes what `nunbird-auth` goes by.
pub fn change(path: &Path, change: impl FnOnce(&mut Record)) {
    let mut record = read(path);
    change(&mut record);
    fs::write(path, record.to_bytes()).expect("a record");
}

/// Changes what the decider goes by.
pub fn change_spec(path: &Path, edit: impl FnOnce(&mut JobSpec)) {
    let mut spec = spec(path);
    edit(&mut spec);
    change(path, |record| record.body = spec.to_bytes().expect("JSON"));
}
