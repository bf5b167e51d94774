//! Concurrency slots: two jobs of one account never share a directory, whichever runner accounts they come from.
//!
//! A slot is taken by link(2), which one caller alone succeeds with, so no lock is needed between runner accounts and
//! none of them can stop another. What a killed `config` left is removed under the lock of its own runner account alone,
//! where nothing else of that account can be on its way; others take the next slot.

use crate::refusal::{Code, Refusal};
use crate::store::{self, Store};
use nunbird_files::directory::Lock;
use nunbird_messages::{Claim, Record, Version};
use nunbird_wire::Message;
use std::collections::BTreeSet;
use std::io;

/// gitlab-runner tries to prepare a job three times, each in a directory of its own, and cleans up in between.
const MAX_ADMISSIONS: usize = 4;
/// The most jobs that one account runs at once on a host.
const MAX_SLOTS: u16 = 1000;

/// Who wants a slot.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) decision_id: &'a str,
    pub(crate) runner_uid: u32,
    pub(crate) server: &'a str,
    pub(crate) job_id: u64,
    /// Of the account.
    pub(crate) uid: u32,
}

/// A slot that is taken. While the value lives, the admission is on its way; when it goes, the record must have been
/// written, or the claim is void.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) number: u16,
    name: String,
    _on_its_way: Lock,
}

/// Takes the least slot that no other job of this account holds.
///
/// # Errors
/// A denial when the job has been admitted several times already: one token must not take every slot.
pub(crate) fn take(store: &Store, wanted: &Wanted<'_>) -> Result<Slot, Refusal> {
    store.at_once(|| take_least(store, wanted))
}

fn take_least(store: &Store, wanted: &Wanted<'_>) -> Result<Slot, Refusal> {
    let boot = store::now()?.boot_id;
    let _lock = store.lock(wanted.runner_uid)?;
    let records = store.holders()?;
    remove_void(store, &boot, wanted.runner_uid, &records)?;
    // A record of a former version has no claim.
    let taken = records.iter().filter(|r| r.account.uid == wanted.uid).map(|r| r.slot);
    let taken: BTreeSet<u16> = taken.collect();
    let claim = Claim {
        version: Version,
        decision_id: wanted.decision_id.to_owned(),
        runner_uid: wanted.runner_uid,
        server: wanted.server.to_owned(),
        job_id: wanted.job_id,
    };
    let temporary = format!(".claim-{}", wanted.runner_uid);
    let failed = |e: io::Error| store.trouble("cannot be claimed", &e);
    let on_its_way = store.as_keeper(|d| d.create_locked(&temporary, &claim.to_bytes())).map_err(failed)?;
    let linked = (0..MAX_SLOTS).filter(|number| !taken.contains(number)).find_map(|number| {
        let name = Claim::name(&boot, wanted.uid, number);
        match store.as_keeper(|d| d.link(&temporary, &name)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
            other => Some(other.map(|()| (number, name))),
        }
    });
    store.remove_file(&temporary)?;
    let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
    let (number, name) = linked.unwrap_or_else(full).map_err(failed)?;
    let slot = Slot { number, name, _on_its_way: on_its_way };
    // Only now: of two runner accounts that admit the same job at once, each sees the other's claim.
    let counted = check_admissions(store, wanted, &records);
    if counted.is_err() {
        give_back(store, &slot);
    }
    counted.map(|()| slot)
}

/// Takes back what [`take`] took for a job that is not admitted after all. Its name is this process's as long as the claim
/// exists, so no lock is needed.
pub(crate) fn give_back(store: &Store, slot: &Slot) {
    // The refusal is reported instead; a claim without a record is void when this process has ended.
    let _void_soon = store.remove_file(&slot.name);
}

fn check_admissions(store: &Store, wanted: &Wanted<'_>, records: &[Record]) -> Result<(), Refusal> {
    let same_job = |server: &str, job_id: u64| server == wanted.server && job_id == wanted.job_id;
    let claims = claims(store)?;
    let claims = claims.iter().map(|(_, claim)| (&claim.server, claim.job_id, &claim.decision_id));
    let records = records.iter().map(|r| (&r.server, r.job_id, &r.decision_id));
    let admissions = claims.chain(records).filter(|(server, job_id, _)| same_job(server, *job_id));
    let admissions: BTreeSet<&String> = admissions.map(|(.., decision_id)| decision_id).collect();
    if admissions.len() <= MAX_ADMISSIONS {
        return Ok(());
    }
    let detail = format!("job {} holds {MAX_ADMISSIONS} records", wanted.job_id);
    Err(Refusal::denied(
        Code::AdmittedTooOften,
        "this job has been admitted on this host several times already",
        detail,
    ))
}

/// Removes this runner account's claims of this boot whose `config` has ended without a record. The caller holds the
/// account's lock. A home directory may be that of several hosts, so claims of other boots are the sweep's.
fn remove_void(store: &Store, boot: &str, runner: u32, records: &[Record]) -> Result<(), Refusal> {
    for (name, claim) in claims(store)? {
        if claim.runner_uid != runner
            || !name.starts_with(boot)
            || records.iter().any(|r| r.decision_id == claim.decision_id)
        {
            continue;
        }
        // Its `config` waits for this account's lock, if it lives: the record cannot have been written meanwhile.
        if store.as_keeper(|d| d.try_lock(&name)).ok().flatten().is_some() {
            store.remove_file(&name)?;
        }
    }
    Ok(())
}

/// The claims that can be read, of this boot and of former ones. What cannot be read is no other admission's to take.
fn claims(store: &Store) -> Result<Vec<(String, Claim)>, Refusal> {
    let mut names = store.names()?;
    names.retain(|name| name.ends_with(Claim::SUFFIX));
    let read = |name: String| {
        let (bytes, ..) = store.as_keeper(|d| d.read(&name, Claim::MOST)).ok()?;
        Some((name, Claim::parse(&bytes).ok()?))
    };
    Ok(names.into_iter().filter_map(read).collect())
}
