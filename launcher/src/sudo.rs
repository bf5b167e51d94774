//! `nunbird --sudo`: the launcher's parent if sudo has changed the user in place of `nunbird-auth`.
//!
//! sudo(8) closes every descriptor but the standard ones, so everything comes through the socket
//! that is standard input: the order, the script, the runner's exit-code file, then one byte for
//! each signal. This process belongs to the user from the start, so a user who starts it by hand
//! gains nothing. Its child becomes the launcher by the same steps, with the same checks, as under
//! `nunbird-auth`.

use crate::{NO_HANDOVER, start};
use nunbird_drop::launch::{Change, Launch, Surroundings};
use nunbird_files::identity::Caller;
use nunbird_handover::{EXIT_CODE_FD, HANDOVER_FD, Handover, Isolation, SCRIPT_FD};
use nunbird_messages::{SUDO_EXIT_CODE, SUDO_SCRIPT, SudoOrder};
use nunbird_relay as relay;
use nunbird_relay::watch::Watch;
use nunbird_stage::{StageError, print_message};
use nunbird_started::process::end_by;
use nunbird_surrender::Ids;
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::{exec, passing, process};
use nunbird_unprivileged::process::own_program;
use nunbird_wire::Message;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, RawFd};

const HELP: &str = "nunbird-auth starts it through sudo if the policy has downscope = \"sudo\"; \
                    the sudoers file must neither use a pty nor log input: see docs/sudo.md";

/// What came through the socket.
struct Received {
    handover: Handover,
    isolation: Isolation,
    script: Option<File>,
    exit_code: Option<File>,
    control: File,
}

/// The whole program.
pub(crate) fn serve() -> u8 {
    match receive() {
        Err(trouble) => {
            print_message(&trouble.to_string());
            NO_HANDOVER
        }
        Ok(received) => {
            let codes = received.handover.exit_codes;
            match run(received) {
                Ok(Ended::Exited(code)) => u8::try_from(code).unwrap_or(codes.system_failure),
                Ok(Ended::Killed(signal)) => end_by(signal),
                Err(trouble) => {
                    print_message(&trouble.to_string());
                    codes.system_failure
                }
            }
        }
    }
}

fn receive() -> Result<Received, StageError> {
    // The environment that sudo set up is ignored.
    drop(nunbird_sys::environment::take());
    start::set_up_process()?;
    let failed =
        |e: &dyn std::fmt::Display| StageError::new("standard input did not supply a stage", e, HELP);
    let stdin = io::stdin();
    let (kinds, files) = passing::receive(stdin.as_fd()).map_err(|e| failed(&e))?;
    let mut files = files.into_iter();
    let order = files.next().ok_or_else(|| failed(&"there is no order"))?;
    let bytes = start::read_whole(&order).map_err(|e| failed(&e))?;
    let SudoOrder { message, isolation, .. } = SudoOrder::from_bytes(&bytes).map_err(|e| failed(&e))?;
    let handover = Handover::from_message(&message).map_err(|e| failed(&e))?;
    let script = (kinds & SUDO_SCRIPT != 0).then(|| files.next()).flatten();
    let exit_code = (kinds & SUDO_EXIT_CODE != 0).then(|| files.next()).flatten();
    let control = stdin.as_fd().try_clone_to_owned().map_err(|e| failed(&e))?;
    start::check_identity(&handover.account)?;
    Ok(Received { handover, isolation, script, exit_code, control: File::from(control) })
}

fn run(received: Received) -> Result<Ended, StageError> {
    let failed =
        |e: io::Error| StageError::new("cannot start the launcher", e, "report it to the administrators");
    let Received { handover, isolation, script, exit_code, mut control } = received;
    // Nothing is run for a shepherd that is gone.
    control.read_exact(&mut [0]).map_err(failed)?;
    let launch = launch(&handover, isolation, script, exit_code).map_err(failed)?;
    let watch = Watch::begin(&relay::HEEDED).map_err(failed)?;
    // A failure from here on is not sudo's fault.
    report(&mut control, b"b");
    let parent = process::id();
    let account = &handover.account;
    let keeper = Caller { uid: account.uid, gid: account.gid };
    let system_failure = i32::from(handover.exit_codes.system_failure);
    let child = fork_into(move || {
        let around =
            Surroundings { change: Change::StayWithNewKeyring, limits: None, keeper, parent, gate: None };
        match launch.execute(around) {
            Ok(never) => match never {},
            Err(failure) => {
                print_message(&format!(
                    "cannot start the launcher: {failure}; report it to the administrators"
                ));
                system_failure
            }
        }
    });
    let ended = relay::follow(&child.map_err(failed)?, &watch, &control).map_err(failed)?;
    report(&mut control, &ended.words());
    Ok(ended)
}

/// This very program again, without arguments: the launcher, with what it always gets.
fn launch(
    handover: &Handover,
    isolation: Isolation,
    script: Option<File>,
    exit_code: Option<File>,
) -> io::Result<Launch> {
    let message = exec::sealed(c"nunbird-handover", &handover.to_bytes().map_err(io::Error::other)?)?;
    let named: [(RawFd, Option<File>); 3] =
        [(HANDOVER_FD, Some(message)), (SCRIPT_FD, script), (EXIT_CODE_FD, exit_code)];
    let account = &handover.account;
    Ok(Launch {
        program: own_program()?,
        files: named.into_iter().filter_map(|(fd, file)| Some((fd, file?))).collect(),
        argv: vec![c"nunbird".to_owned()],
        environment: handover.launch_environment()?,
        ids: Ids { uid: account.uid, gid: account.gid, groups: Vec::new() },
        isolation,
    })
}

/// The shepherd may have ended; then the report is not needed.
fn report(control: &mut File, bytes: &[u8]) {
    let _unheard = control.write_all(bytes);
}
