//! The launcher: serves one stage of a CI job as the mapped user, without any privilege.
//!
//! `nunbird-auth` gives up its privilege, becomes the user irrevocably and executes this program by
//! descriptor. The only input that the launcher trusts is the handover message behind descriptor 3,
//! not its arguments and not its environment. It creates the job's directories, runs a stage's
//! script in the configured shell or in the site's batch scheduler, or removes what a job left
//! behind.
//!
//! Exit status: 0 if the stage succeeded; `build_failure` of the handover if the script failed or
//! was cancelled; `system_failure` for any other failure, with the reason on standard error; 2
//! without a valid handover. One thread, no signal handlers.

#![forbid(unsafe_code)]

mod build_directories;
mod cleanup;
mod contained;
mod credentials;
mod escaped;
mod greeting;
mod job;
mod keeping;
mod prepare;
mod relay;
mod script;
mod session;
mod start;
mod sudo;
mod supervise;

use escaped::Mark;
use nunbird_handover::{Task, Untrusted};
pub use nunbird_stage::Timeouts;
use nunbird_stage::{StageError, StageResult, print_message};
use start::Inherited;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The exit status without a valid handover, and so without a number from the runner: the value of
/// `SYSTEM_FAILURE_EXIT_CODE` in every release of gitlab-runner so far.
const NO_HANDOVER: u8 = 2;

/// The exit status of `nunbird exec` when the job's script did not run.
const NOT_RUN: u8 = 125;

const HELP: &str = "\
nunbird runs a stage of a CI job as the mapped user. It is started by nunbird-auth, which passes everything
it needs in open files.

  exec JOB   run one job of a .gitlab-ci.yml by hand: `nunbird exec --help`
  --sudo     what nunbird-auth starts through sudo, where that changes the user
  --version  print the version
  --help     print this text
";

/// The whole program; `arguments` excludes the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>, timeouts: Timeouts) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let status = match arguments.as_slice() {
        [] => serve(timeouts),
        [only] if only == "--sudo" => sudo::serve(),
        [first, rest @ ..] if first == "exec" => exec(rest),
        [only] if only == "--version" => print(&format!("nunbird {}\n", env!("CARGO_PKG_VERSION"))),
        [only] if only == "--help" => print(HELP),
        _ => {
            print_message("takes no arguments but `exec`: nunbird-auth starts it; try `nunbird --help`");
            NO_HANDOVER
        }
    };
    ExitCode::from(status)
}

fn serve(timeouts: Timeouts) -> u8 {
    let inherited = match start::set_up_process().and_then(|()| Inherited::take()) {
        Ok(inherited) => inherited,
        Err(trouble) => {
            print_message(&trouble.to_string());
            return NO_HANDOVER;
        }
    };
    let codes = inherited.handover.exit_codes;
    match stage(inherited, timeouts) {
        Ok(StageResult::Success) => 0,
        Ok(StageResult::BuildFailure | StageResult::Cancelled | StageResult::ScriptFailed) => {
            codes.build_failure
        }
        Err(trouble) => {
            print_message(&trouble.to_string());
            codes.system_failure
        }
    }
}

fn stage(inherited: Inherited, timeouts: Timeouts) -> Result<StageResult, StageError> {
    let Inherited { handover, script, exit_code, summary } = inherited;
    start::check_identity(&handover.account)?;
    start::check_paths(&handover.workspace)?;
    match &handover.task {
        Task::Prepare => prepare::prepare(&handover),
        Task::Run(stage) if !handover.site.runs(stage) => {
            print_message(&format!(
                "the stage {} does not run on this host: it is not in your site's list of stages",
                Untrusted(stage)
            ));
            Ok(StageResult::Success)
        }
        Task::Run(stage) => {
            let result = match handover.batch.as_ref().filter(|batch| batch.submits(stage)) {
                Some(batch) => {
                    nunbird_batch::run(&handover, batch, stage, script, exit_code, summary, timeouts)
                }
                None => job::run(&handover, stage, script, exit_code, timeouts),
            };
            match result {
                Ok(StageResult::ScriptFailed) => keeping::keep(&handover, stage),
                Ok(StageResult::Cancelled) => keeping::announce(&handover, stage),
                _ => {}
            }
            result
        }
        Task::Cleanup | Task::Tidy => {
            let mark = Mark::of(&handover.decision_id);
            let in_allocations = handover.batch.as_ref().and_then(nunbird_batch::job_variable);
            // First: processes that still run would write into directories that are being removed.
            // But the scheduler must end what runs in an allocation on this host: otherwise it
            // would record a failure in place of a cancellation.
            cleanup::end_processes(
                &in_allocations.map_or(mark.clone(), |name| mark.without(&name)),
                timeouts,
            );
            // With the processes in it that the mark does not show.
            let contained = cleanup::container(&handover, timeouts);
            let verdict = cleanup::cleanup(&handover);
            // Late: a scheduler that does not respond takes minutes, after which nunbird-auth ends
            // this process.
            let left = handover
                .batch
                .as_ref()
                .map_or(Ok(()), |batch| nunbird_batch::cleanup(&handover, batch, timeouts));
            // Last: what the scheduler did not end, and what only appeared to be in an allocation.
            cleanup::end_processes(&mark, timeouts);
            contained.and(left).and(verdict)
        }
    }
}

/// Becomes the program beside this one that runs a job by hand. It reads YAML, which nothing that runs stages shall link.
fn exec(arguments: &[OsString]) -> u8 {
    let program = std::env::current_exe().map(|own| own.with_file_name("nunbird-exec"));
    let failed = program.map(|program| {
        let error = Command::new(&program).args(arguments).exec();
        format!("cannot start {}: {error}; install Nunbird as a whole", nunbird_stage::error::shown(&program))
    });
    print_message(&failed.unwrap_or_else(|e| format!("cannot find this program: {e}")));
    NOT_RUN
}

fn print(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}
