//! The launcher: serves one stage of a CI job as the mapped user, without any privilege.
//!
//! `nunbird-auth` gives up its privilege, becomes the user for good and executes this program by descriptor.
//! All it believes is the handover message behind descriptor 3: not its arguments, not its environment. It
//! makes the job's directories, runs a stage's script by the configured shell or in the site's batch scheduler, or
//! removes what a job left.
//!
//! Exit status: 0 when the stage succeeded; `build_failure` of the handover when the script failed or was
//! cancelled; `system_failure` for everything of ours, with the reason on standard error; 2 when there is no
//! handover to go by. One thread, no signal handlers.

#![forbid(unsafe_code)]

mod cleanup;
mod credentials;
mod fled;
mod greeting;
mod job;
mod prepare;
mod relay;
mod script;
mod session;
mod start;
mod sudo;
mod supervise;
mod upkeep;

use fled::Mark;
use nunbird_handover::{Task, Untrusted};
pub use nunbird_stage::Patience;
use nunbird_stage::{Trouble, Verdict, say};
use start::Inherited;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// The exit status when there is no handover, and so no number from the runner: its `SYSTEM_FAILURE_EXIT_CODE`
/// in every release so far.
const NO_HANDOVER: u8 = 2;

const HELP: &str = "\
nunbird runs a stage of a CI job as the mapped user. It is started by nunbird-auth, which passes everything
it needs in open files; it takes no arguments.

  --sudo     what nunbird-auth starts through sudo, where that changes the user
  --version  print the version
  --help     print this text
";

/// The whole program; `arguments` without the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>, patience: Patience) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let status = match arguments.as_slice() {
        [] => serve(patience),
        [only] if only == "--sudo" => sudo::serve(),
        [only] if only == "--version" => print(&format!("nunbird {}\n", env!("CARGO_PKG_VERSION"))),
        [only] if only == "--help" => print(HELP),
        _ => {
            say("takes no arguments: it is started by nunbird-auth; try `nunbird --help`");
            NO_HANDOVER
        }
    };
    ExitCode::from(status)
}

fn serve(patience: Patience) -> u8 {
    let inherited = match start::process_in_order().and_then(|()| Inherited::take()) {
        Ok(inherited) => inherited,
        Err(trouble) => {
            say(&trouble.to_string());
            return NO_HANDOVER;
        }
    };
    let codes = inherited.handover.exit_codes;
    match stage(inherited, patience) {
        Ok(Verdict::Success) => 0,
        Ok(Verdict::BuildFailure) => codes.build_failure,
        Err(trouble) => {
            say(&trouble.to_string());
            codes.system_failure
        }
    }
}

fn stage(inherited: Inherited, patience: Patience) -> Result<Verdict, Trouble> {
    let Inherited { handover, script, exit_code, summary } = inherited;
    start::identity_is(&handover.account)?;
    start::paths_are_sound(&handover.workspace)?;
    match &handover.task {
        Task::Prepare => prepare::prepare(&handover),
        Task::Run(stage) if !handover.site.runs(stage) => {
            say(&format!(
                "the stage {} does not run on this host: your site has not listed it",
                Untrusted(stage)
            ));
            Ok(Verdict::Success)
        }
        Task::Run(stage) => match handover.batch.as_ref().filter(|batch| batch.submits(stage)) {
            Some(batch) => nunbird_batch::run(&handover, batch, stage, script, exit_code, summary, patience),
            None => job::run(&handover, stage, script, exit_code, patience),
        },
        Task::Cleanup | Task::Tidy => {
            let mark = Mark::of(&handover.decision_id);
            let in_allocations = handover.batch.as_ref().and_then(nunbird_batch::job_variable);
            // First: what still runs would write into directories that go. But the end of what runs in an allocation on
            // this host is the scheduler's to bring about: it would book a failure where it is to book a cancellation.
            cleanup::end_processes(
                &in_allocations.map_or(mark.clone(), |name| mark.without(&name)),
                patience,
            );
            let verdict = cleanup::cleanup(&handover);
            // Late: a scheduler that does not answer takes minutes, after which whoever waits for us ends us.
            let left = handover
                .batch
                .as_ref()
                .map_or(Ok(()), |batch| nunbird_batch::cleanup(&handover, batch, patience));
            // Last: what the scheduler did not end, and what only looked as if it was in an allocation.
            cleanup::end_processes(&mark, patience);
            left.and(verdict)
        }
    }
}

fn print(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}
