//! What the configuration allows and `/etc/nunbird/floor` does not.

use crate::finding::Finding;
use nunbird_accounts::users;
use nunbird_files::identity::Caller;
use nunbird_host::refusal::Refusal;
use nunbird_host::{Floor, Here, Rights};
use nunbird_policy::{Downscope, Policy, own_directory};
use std::path::Path;

pub(crate) const FILE: &str = "/etc/nunbird/floor";

/// As `nunbird-auth` with privilege reads it.
///
/// # Errors
/// The refusal of every job.
pub(crate) fn floor() -> Result<Floor, Refusal> {
    Floor::read(rights())
}

fn rights() -> Rights {
    let own = Caller { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
    Rights { privileged: true, can_change_user: false, keeper: own, caller: own, reads_shadow: false }
}

/// Compares the two.
pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    if policy.downscope != Downscope::Setuid {
        return;
    }
    let floor = match floor() {
        Ok(floor) => floor,
        Err(refusal) => {
            let message = format!("{}: every job is denied", refusal.detail);
            findings.push(Finding::error(
                "floor",
                message,
                "correct the line, or the owner and mode of the file",
            ));
            return;
        }
    };
    if policy.accounts.min_uid < floor.min_uid() {
        let (wanted, floor) = (policy.accounts.min_uid, floor.min_uid());
        let message = format!(
            "accounts.min_uid is {wanted}, and accounts below uid {floor} are denied by the floor of this host"
        );
        findings.push(Finding::error("floor", message, format!("write `min_uid {wanted}` into {FILE}")));
    }
    let profiles = policy.profiles.values().map(|profile| &profile.directories);
    for directories in std::iter::once(&policy.directories).chain(profiles).filter(|d| d.upkeep.create) {
        let own = own_directory(&directories.data_dir, "user", Path::new("/home/user"));
        if let Some(own) = own.filter(|own| !floor.may_own(own, "user")) {
            let above = own.parent().unwrap_or(Path::new("/")).display();
            let message = format!(
                "data_dir `{}` makes directories whose name is not the account's name alone, so every job is refused",
                directories.data_dir
            );
            findings.push(Finding::error(
                "floor",
                message,
                format!("write `directories_in {above}` into {FILE}"),
            ));
        }
    }
    if let Some(validation) = &policy.validation
        && let Ok(Some(account)) = users::by_name(&validation.user)
        && !floor.may_validate(&account, rights(), &Here(rights()))
    {
        let user = &validation.user;
        let message = format!("validation.user `{user}` is a system account, so every job is denied");
        let help = format!("write `validation_user {user}` into {FILE}, or name another account");
        findings.push(Finding::error("floor", message, help));
    }
}
