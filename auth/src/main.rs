//! `nunbird-auth`: the privileged program that gitlab-runner's custom executor calls for each stage.
//!
//! Runs as root for some milliseconds: as a setuid-root file, with the file capabilities `cap_setuid` and
//! `cap_setgid`, or under a runner that is root. It has decided who a job belongs to, gives up all privilege and
//! becomes the launcher. `docs/operation.md` lists the steps in order, each with its test.
//!
//! Any error is a refusal. There is one thread, no network but the site's syslog, and nothing is read that the caller could have
//! written, but as the caller. What to do `nunbird-decide` decides, without privilege (docs/adr/0019).

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod arguments;
mod checks;
mod context;
mod decider;
mod inputs;
mod kept_session;
mod launch;
mod limits;
mod machine;
mod opened;
mod privilege;
mod requests;
mod sandbox;
mod session;
mod settings;
mod shepherd;
mod slots;
mod stages;
mod store;
mod sudo;
mod tidying;
mod trace;

use arguments::{Call, Request, USAGE};
use context::Context;
use inputs::Inputs;
use nunbird_host::refusal;
use nunbird_messages::{ExitCodes, Untrusted};
use nunbird_sys::{offspring, process};
use privilege::Privilege;
use refusal::{Code, Refusal, print_error};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| print_error("nunbird: error: internal error [panic]\n")));
    // Step 1.
    let inputs = Inputs::take();
    // Step 2.
    let mut arguments = std::env::args_os();
    // Linux before 5.18 lets a caller leave out argv[0]; what follows would be misread (CVE-2021-4034).
    if arguments.next().is_none_or(|name| name.is_empty()) {
        return ExitCode::from(inputs.exit_codes.system_failure);
    }
    match arguments::parse(arguments) {
        Ok(Request::Stage(call)) => ExitCode::from(serve(&call, &inputs)),
        // What is only text needs no privilege.
        _ if Privilege::renounce().is_err() => ExitCode::from(inputs.exit_codes.system_failure),
        Ok(Request::Version) => say(concat!("Version: ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Help) => say(USAGE),
        Err(error) => {
            print_error(&format!("nunbird: error: {}\n\n{USAGE}", Untrusted(&error)));
            ExitCode::from(inputs.exit_codes.system_failure)
        }
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(ExitCodes::default().build_failure),
    }
}

fn serve(call: &Call, inputs: &Inputs) -> u8 {
    let mut decision_id = "none".to_owned();
    let served = start(call, inputs, &mut decision_id);
    served.unwrap_or_else(|refusal| {
        refusal.print(&decision_id, call.unobfuscated);
        refusal.exit_code(inputs.exit_codes)
    })
}

fn start(call: &Call, inputs: &Inputs, decision_id: &mut String) -> Result<u8, Refusal> {
    // Step 8.
    *decision_id = new_decision_id()?;
    // What is refused before the places of events are known leaves a line of syslog.
    let traced = |refusal: Refusal| {
        trace::send(call.stage.name(), None, &refusal, decision_id);
        refusal
    };
    // Steps 3, 4, 5, 5a.
    tidy_process().map_err(traced)?;
    // Steps 6, 7.
    let (privilege, limits) = Privilege::establish().map_err(traced)?;
    let mut context = Context {
        stage: call.stage.name(),
        inputs,
        privilege,
        limits: &limits,
        unobfuscated: call.unobfuscated,
        sweeps: false,
        decision_id: decision_id.clone(),
    };
    let served = stages::serve(call, &mut context);
    decision_id.clone_from(&context.decision_id);
    served
}

/// Undoes what a caller can leave in a process for a program with more privilege.
fn tidy_process() -> Result<(), Refusal> {
    let tidy = || {
        process::close_inherited()?;
        process::default_signals()?;
        process::ignore_failed_writes();
        process::forbid_inspection()?;
        process::set_umask(0o077);
        std::env::set_current_dir("/")?;
        offspring::refuse_inherited()
    };
    tidy().map_err(|e| Refusal::system(Code::Process, "nunbird-auth could not be started on this host", e))
}

fn new_decision_id() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    nunbird_sys::random::fill(&mut bytes)
        .map_err(|e| Refusal::system(Code::Random, "this host has no random numbers", e))?;
    Ok(hex(&bytes))
}

/// Bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
