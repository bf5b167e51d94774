//! `nunbirdctl`: checks a configuration, explains decisions and reads the audit file.
//!
//! Runs without privilege, reads the files it is given, and judges with the same functions as
//! `nunbird-auth`. Only `sweep`, `people`, `adopt`, `jobs end`, `images`, `credentials`, `machines` and `user` change something. Exit codes: 0 success, 1
//! failure, 2 usage, 3 the configuration is invalid, 4 the decision is no (or some decision
//! changes), 5 a test of the policy failed, 6 a job is undecided, 7 the job would fail on this
//! host.

#![forbid(unsafe_code)]

mod adopt;
mod arguments;
mod as_admin;
mod audit;
mod audit_files;
mod audit_summary;
mod changed_keys;
mod check;
mod claims;
mod codes;
mod container_facts;
mod containers;
mod credential_facts;
mod credentials;
mod diff;
mod doctor;
mod event;
mod expiry_facts;
mod explain;
mod explain_decision;
mod explain_job;
mod explain_json;
mod fetched;
mod files;
mod finding;
mod floor_facts;
mod host;
mod host_facts;
mod images;
mod jacamar_facts;
mod jobs;
mod judgement;
mod key_facts;
mod keys;
mod limit_facts;
mod limits;
mod machine;
mod machine_facts;
mod machines;
mod manual;
mod metrics;
mod migrate;
mod output;
mod owner;
mod pam_facts;
mod patient;
mod people;
mod programs;
mod replace;
mod replay;
mod report;
mod runner_config;
mod runner_processes;
mod runner_table;
mod runner_timeouts;
mod runner_unit;
mod scheduler_facts;
mod schema;
mod schema_words;
mod scope_facts;
mod show;
mod subid_facts;
mod sudo_facts;
mod sweep;
mod systemd;
mod test;
mod time;
mod token;
mod user;

use arguments::Command;
use output::CtlError;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = arguments::read();
    let format = cli.format;
    let done = match cli.command {
        Command::Check(options) => check::run(&options, format),
        Command::Explain(options) if options.job.code.is_some() || options.job.codes => {
            codes::run(options.job.code.as_deref(), format)
        }
        Command::Explain(options) => explain::run(&options, format),
        Command::Test(options) => test::run(&options, format),
        Command::Show(options) => show::run(&options, format),
        Command::Diff(options) => diff::run(&options, format),
        Command::Audit(options) => audit::run(&options, format),
        Command::Report(options) => report::run(&options, format),
        Command::Metrics(options) => metrics::run(&options, format),
        Command::People(options) => people::run(&options, format),
        Command::Images(options) => images::run(&options, format),
        Command::Credentials(options) => credentials::run(&options, format),
        Command::Machines(options) => machines::run(&options, format),
        Command::Jobs(options) => jobs::run(&options, format),
        Command::User(options) => user::run(&options, format),
        Command::Keys(options) => keys::run(&options, format),
        Command::Adopt(options) => adopt::run(&options, format),
        Command::Migrate(options) => migrate::run(&options),
        Command::RunnerConfig(options) => runner_table::run(&options, format),
        Command::Doctor(options) => doctor::run(&options, format),
        Command::Sweep(options) => sweep::run(&options, format),
        Command::Schema => schema::run(),
        Command::CodesPage => codes::page(),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory } => manual::pages(&directory),
    };
    ExitCode::from(done.unwrap_or_else(CtlError::report))
}
