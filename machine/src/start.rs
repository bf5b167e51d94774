//! The start of a machine, up to the process that keeps it: everything that can be refused before anything is mounted.

use crate::account::others;
use crate::counts::Shares;
use crate::ids::Ids;
use crate::keeper::{self, Kept};
use crate::places::{NSPAWN, OWNERS};
use crate::state::{self, Note};
use crate::tree::Tree;
use crate::{Trouble, places};
use nunbird_files::trusted::open_trusted;
use nunbird_order::Machine;
use nunbird_parts::{MAX_MACHINE_ANSWER, MachineAccount, MachineAnswer, MachineOrder};
use nunbird_sys::fork::fork_into;
use nunbird_sys::{answer, exec, process};
use nunbird_wire::Message;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// The longest time until a machine has to be ready, in seconds, as in the configuration.
const LONGEST_READY: u64 = 600;
/// What making its file systems may take beside that, in seconds.
const SLACK: u64 = 15;

/// Starts the machine of a decision, unless it has been started before.
pub(crate) fn start(
    decision: &str,
    MachineOrder { ready, bytes }: MachineOrder,
    account: MachineAccount,
) -> Result<MachineAnswer, Trouble> {
    state::check(decision)?;
    let machine = Machine::from_bytes(&bytes).map_err(|_| Trouble::new("the order is malformed"))?;
    check(&machine, ready, &account)?;
    let notes = places::state()?;
    // Step N2.
    let Some(note) = Note::make(decision)? else { return Ok(MachineAnswer::Done) };
    let started = prepare(decision, machine, ready, account, note);
    if matches!(started, Err(_) | Ok(MachineAnswer::Trouble(..))) {
        state::end(decision)?;
    }
    drop(notes);
    started
}

fn prepare(
    decision: &str,
    machine: Machine,
    ready: u64,
    account: MachineAccount,
    mut note: Note,
) -> Result<MachineAnswer, Trouble> {
    let program = open_trusted(Path::new(NSPAWN), &OWNERS);
    let program = program.map_err(|e| Trouble::new(format!("{e}; install systemd-container")))?;
    let program = exec::out_of_the_way(&program).map_err(Trouble::of(NSPAWN))?;
    // Step N3.
    let numbers = [account.ids.uid, account.ids.gid].into_iter().chain(others(&account));
    let ids = Ids::read()?;
    let shares = Shares::of_host(ids.count)?;
    let range = ids.take(numbers, machine.nested)?;
    // Step N4.
    let tree = Tree::open(&machine.tree, machine.version.as_deref())?;
    note.reserve(&range, &tree).map_err(Trouble::of("the machine's note"))?;
    let patience = Duration::from_secs(ready.saturating_add(SLACK));
    let kept = Kept { decision, machine, ready, account, note, range, shares, tree, program };
    let (said, tell) = io::pipe().map_err(Trouble::of("pipe"))?;
    let (mut tell, mut kept) = (Some(tell), Some(kept));
    let parent = process::id();
    let keeper = fork_into(|| {
        let Some((mut tell, kept)) = tell.take().zip(kept.take()) else { return 1 };
        let answer = |answer: MachineAnswer| {
            let written = tell.write_all(&answer.to_bytes());
            drop(tell);
            written
        };
        i32::from(keeper::keep(kept, parent, answer).is_err())
    });
    let keeper = keeper.map_err(Trouble::of("fork"))?;
    drop(tell);
    let bytes = answer::read_to_end(said, MAX_MACHINE_ANSWER, patience);
    let answer = bytes.and_then(|bytes| {
        MachineAnswer::from_bytes(&bytes).map_err(|_| io::Error::other("it ended without an answer"))
    });
    if matches!(answer, Ok(MachineAnswer::Started(_))) {
        // The keeper has these locks; to drop them here would unlock them (flock(2)).
        std::mem::forget(kept);
    } else {
        let _already_gone = keeper.signal(nunbird_sys::signals::KILL);
        keeper.wait().map_err(Trouble::of("wait"))?;
    }
    answer.map_err(Trouble::of("the machine's keeper"))
}

/// What no sound decider orders.
fn check(machine: &Machine, ready: u64, account: &MachineAccount) -> Result<(), Trouble> {
    let ids = &account.ids;
    let sound = |path: &Path| path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&b'\n');
    let text = |text: &str| !text.is_empty() && !text.contains([':', '\n', '\0']);
    let binds = || machine.binds.iter().all(|bind| sound(&bind.source) && sound(&bind.target));
    match () {
        () if ids.uid == 0 || ids.gid == 0 || !text(&ids.name) => {
            Err(Trouble::new("the account is not a user's"))
        }
        () if !sound(&account.home) || account.home.to_string_lossy().contains(':') => {
            Err(Trouble::new("the home directory of the account cannot be in a user database"))
        }
        () if !sound(&machine.directory) || !binds() => Err(Trouble::new("a path of the order is malformed")),
        () if ready > LONGEST_READY => Err(Trouble::new("the time to be ready is out of bounds")),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::start;
    use nunbird_order::Machine;
    use nunbird_parts::{AccountIds, MachineAccount, MachineOrder};
    use nunbird_wire::Message;

    #[test]
    fn an_order_that_is_malformed_or_waits_too_long_starts_no_machine() {
        let machine = Machine {
            tree: "debian".to_owned(),
            version: None,
            directory: "/d".into(),
            binds: Vec::new(),
            host_network: false,
            root: false,
            layer: 1 << 30,
            nested: false,
            suppress_sync: false,
        };
        let sound = machine.to_bytes();
        let ids = AccountIds { name: "alice".to_owned(), uid: 4101, gid: 4101 };
        let account = || MachineAccount { ids: ids.clone(), groups: Vec::new(), home: "/home/alice".into() };
        let refused = |ready: u64, bytes: &[u8]| {
            let order = MachineOrder { ready, bytes: bytes.to_vec() };
            start("0123456789abcdef0123456789abcdef", order, account()).expect_err("no machine").why
        };
        for end in 0..sound.len() {
            assert_eq!(refused(30, &sound[..end]), "the order is malformed", "cut at {end}");
        }
        assert_eq!(refused(30, &[sound.as_slice(), b"!"].concat()), "the order is malformed");
        assert_eq!(refused(601, &sound), "the time to be ready is out of bounds");
    }
}
