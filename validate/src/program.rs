//! Becoming the program, in the child.

use crate::foreign;
use nunbird_started::script::execute_script;
use nunbird_surrender::{self as surrender, Failure, Ids};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::{exec, process, signals};
use nunbird_validation::{Account, Order};
use std::convert::Infallible;
use std::fs::File;
use std::io;

/// The program's ids for good, no descriptors but its own, its environment.
///
/// # Errors
/// The first step that failed; comes back only then.
pub(crate) fn become_it(
    order: &Order,
    program: &File,
    parent: i32,
    (output, errors): (&io::PipeWriter, &io::PipeWriter),
) -> Result<Infallible, Failure> {
    let step = |step: &'static str| move |error: io::Error| Failure { step, error };
    exec::outputs_to(output, errors).map_err(step("dup2"))?;
    process::null_stdin().map_err(step("stdin"))?;
    process::new_session().map_err(step("setsid"))?;
    process::set_umask(0o077);
    std::env::set_current_dir("/").map_err(step("chdir"))?;
    // For where the dying parent may not signal the program.
    process::end_after(u32::try_from(order.seconds).unwrap_or(u32::MAX).saturating_add(1));
    foreign::bound_resources(order.seconds).map_err(step("setrlimit"))?;
    become_account(&order.account)?;
    process::die_with_parent(signals::KILL, parent).map_err(step("prctl(PR_SET_PDEATHSIG)"))?;
    if order.account.uid != 0 {
        process::no_new_privileges().map_err(step("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    }
    process::default_signals().map_err(step("signals"))?;
    execute_script(program, &order.argv, &order.environment).map_err(step("execveat"))
}

fn become_account(account: &Account) -> Result<(), Failure> {
    match account.uid {
        _ if !account.change => surrender::stay_user(&mut Linux, account.uid, account.gid),
        0 => become_root().map_err(|error| Failure { step: "becoming root", error }),
        uid => {
            let ids = Ids { uid, gid: account.gid, groups: account.groups.clone() };
            surrender::become_user(&mut Linux, &ids)
        }
    }
}

/// Where the site says so. There is nothing to give up but what the runner left behind.
///
/// # Errors
/// As setresuid(2) and keyctl(2).
pub(crate) fn become_root() -> io::Result<()> {
    Linux.set_groups(&[0])?;
    Linux.set_gids(0, 0, 0)?;
    Linux.set_uids(0, 0, 0)?;
    Linux.new_session_keyring().or_else(|e| match e.kind() {
        io::ErrorKind::Unsupported => Ok(()),
        _ => Err(e),
    })
}
