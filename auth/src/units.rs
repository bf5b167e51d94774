//! The limits of a job by transient units of systemd: `way = "scope"`.
//!
//! `config` has a slice made that carries the limits, each stage's child goes into a scope of it while it still has privilege,
//! and `cleanup` has the slice stopped. systemd answers to root alone: with file capabilities `nunbird-auth` never is root,
//! and by sudo(8) or without any privilege neither.

use crate::privilege::{Privilege, Source, assume};
use nunbird_cgroup::{Amounts, Door, Entrance, JobGroup, Place, Trouble, Units, Way};
use nunbird_handover::{JobLimits, JobUnits};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Has systemd make the job's slice, with these limits in force.
///
/// # Errors
/// Every [`Trouble`].
pub(crate) fn make(
    privilege: Privilege,
    units: &Units,
    amounts: &Amounts,
) -> Result<(Way, JobGroup), Trouble> {
    check_privilege(privilege)?;
    let _identity = assume(privilege.keeper())?;
    JobGroup::make_slice(&Place::own()?, units, amounts)
}

/// Whether systemd would answer.
fn check_privilege(privilege: Privilege) -> Result<(), Trouble> {
    match privilege.source {
        Source::Root | Source::Setuid => Ok(()),
        Source::FileCapabilities => Err(Trouble::Unfit(
            "`way = \"scope\"` needs root, to which alone systemd answers, and nunbird-auth has file capabilities; make it \
             setuid-root (chmod 4750, setcap -r), or write `way = \"delegated\"`",
        )),
        Source::None => Err(Trouble::Unfit(
            "`way = \"scope\"` needs root, to which alone systemd answers, and nunbird-auth has no privilege",
        )),
    }
}

/// As the record keeps them.
pub(crate) fn kept(units: Units) -> JobUnits {
    let Units { slice, scopes, description } = units;
    JobUnits { slice, scopes, description }
}

/// The units that were made for a job, and their directories.
fn of(job: &JobLimits) -> Option<(Units, &BTreeMap<String, PathBuf>)> {
    let place = job.group.as_ref()?;
    let JobUnits { slice, scopes, description } = place.units.clone()?;
    Some((Units { slice, scopes, description }, &place.directories))
}

/// The way into the job's slice, where it has one.
pub(crate) fn entrance(job: &JobLimits) -> Option<Entrance> {
    let (units, directories) = of(job)?;
    Some(Entrance::Scope(Door::new(units, directories.clone())))
}

/// Has systemd stop the job's slice, where it has one. One that is gone is fine: the host has restarted, or this is the
/// second time.
///
/// # Errors
/// [`Trouble::Systemd`]; [`Trouble::File`] for directories that are still there after `patience`.
pub(crate) fn stop(
    privilege: Privilege,
    limits: Option<&JobLimits>,
    patience: Duration,
) -> Option<Result<(), Trouble>> {
    let (units, directories) = of(limits?)?;
    let stopped = check_privilege(privilege)
        .and_then(|()| assume(privilege.keeper()))
        .and_then(|_identity| JobGroup::stop_slice(&units.slice, directories, patience));
    Some(stopped)
}
