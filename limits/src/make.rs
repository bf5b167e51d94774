//! A new group, by the way that the site names and with the ids that it takes.

use nunbird_cgroup::{
    Amounts, DiskAmounts, JobGroup, Kept, Place, Trouble, Units, Way, disks_of, name_of, parent_of,
};
use nunbird_gauges::Order;
use nunbird_groups::{Answer, Make, Systemd};
use nunbird_wire::Message;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `uid` is this process's.
pub(crate) fn make(make: &Make, uid: u32) -> Result<Answer, Trouble> {
    let order = Order::from_bytes(&make.order).map_err(|_| Trouble::Unfit("the order is malformed"))?;
    if order.way == "scope" {
        return slice(make, &order, uid);
    }
    let amounts = amounts(&order)?;
    let place = Place::own()?;
    let name = name_of(make.job_id, make.decision);
    let by = |way| {
        let group = JobGroup::make(&place, way, &name, uid, &amounts)?;
        Ok(Answer::Made(Kept::of(&group, uid, way, None, amounts.clone()).to_bytes()))
    };
    let parent = place.unified.as_ref().map(parent_of);
    let is_runners = parent.as_deref().and_then(owner_of) == Some(make.runner);
    let holder = if is_runners { make.runner } else { make.keeper };
    let separate = || if uid == make.keeper { by(Way::Separate) } else { Ok(Answer::Keeper) };
    match order.way.as_str() {
        "v1" => separate(),
        _ if uid != holder && uid != make.keeper => Ok(Answer::Keeper),
        "delegated" => by(Way::Unified),
        // As the runner it has been tried in vain.
        _ if uid != holder => separate(),
        _ => match by(Way::Unified) {
            Err(Trouble::Missing(_)) => separate(),
            other => other,
        },
    }
}

/// Of a directory. systemd gives the group that it delegates to the service's `User=` (systemd.resource-control(5)), which is the runner,
/// and without `CAP_DAC_OVERRIDE` not even root makes a directory there. So the groups are the runner's: it has jobs' tokens anyway, their
/// users have no right in it. What is opened is judged again by its owner.
fn owner_of(path: &Path) -> Option<u32> {
    std::fs::symlink_metadata(path).ok().map(|found| found.uid())
}

/// Has systemd make the job's slice. systemd answers to root alone.
fn slice(make: &Make, order: &Order, uid: u32) -> Result<Answer, Trouble> {
    match make.systemd {
        Systemd::Answers => {}
        Systemd::Capabilities => {
            return Err(Trouble::Unfit(
                "`way = \"scope\"` needs root, because systemd accepts no other caller, but nunbird-auth has file capabilities; make it \
                 setuid-root (chmod 4750, setcap -r), or write `way = \"delegated\"`",
            ));
        }
        Systemd::NoPrivilege => {
            return Err(Trouble::Unfit(
                "`way = \"scope\"` needs root, because systemd accepts no other caller, but nunbird-auth has no privilege",
            ));
        }
    }
    if uid != make.keeper {
        return Ok(Answer::Keeper);
    }
    let amounts = amounts(order)?;
    let description = format!("CI job {} of {}", make.job_id, make.account);
    let units = Units::of(make.runner_id, make.job_id, make.decision, description);
    let (way, group) = JobGroup::make_slice(&Place::own()?, &units, &amounts)?;
    Ok(Answer::Made(Kept::of(&group, uid, way, Some(units), amounts).to_bytes()))
}

fn amounts(order: &Order) -> Result<Amounts, Trouble> {
    let Order { memory, swap, cpu, pids, io_weight, .. } = *order;
    let numbers = disks_of(order.disks.iter().map(|disk| disk.device.as_path()))?;
    let disks = order.disks.iter().zip(numbers).map(|(disk, number)| {
        let [read, write, read_ops, write_ops] = disk.rates;
        DiskAmounts { number, read, write, read_ops, write_ops }
    });
    Ok(Amounts { memory, swap, cpu, pids, io_weight, disks: disks.collect() })
}
